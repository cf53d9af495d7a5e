"""Records that the server refuses are put aside one by one; all others go."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from inventory_migration.errors import MigrationHeld
from inventory_migration_tests import stage, test_shapes
from inventory_migration_tests.conftest import Database

LENIENT = stage.mapping(thresholds={"quarantined_percent": 100})


def refusing(database: Database, condition: str, statement: str) -> None:
    """Let a trigger of the application meddle with some writes."""
    database.psql(
        f"""
        CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF {condition} THEN {statement}; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER meddle BEFORE UPDATE ON stock_items
            FOR EACH ROW EXECUTE FUNCTION meddle();
        """
    )


def test_b8_a_trigger_that_raises_costs_one_record_only(database: Database) -> None:
    stage.shop(database, items=20)
    refusing(database, "NEW.id IN (7, 13)", "RAISE EXCEPTION 'item % is frozen', NEW.id")
    found = stage.migrate(database, LENIENT)
    assert found.proof.passed
    assert stage.outcomes(database) == {"migrated": 18, "quarantined": 2}
    assert database.psql(
        "SELECT key_text, rule, reason, sqlstate FROM inventory_migration.outcome ORDER BY 1 DESC"
    ) == (
        "7|refused_by_server|item 7 is frozen|P0001\n13|refused_by_server|item 13 is frozen|P0001"
    )


def test_a4_isolated_chunks_carry_their_own_transaction_id(database: Database) -> None:
    stage.shop(database, items=5)
    refusing(database, "NEW.id = 3", "RAISE EXCEPTION 'no'")
    stage.migrate(database, LENIENT)
    assert (
        database.psql(
            "SELECT count(*) FROM stock_items s, inventory_migration.chunk k "
            "WHERE s.xmin::text = k.xid"
        )
        == "4"
    )


def test_a_check_constraint_names_itself_in_the_quarantine(database: Database) -> None:
    stage.shop(database, items=5)
    stage.locations(database, LENIENT)
    database.psql(
        "ALTER TABLE stock_items ADD CONSTRAINT odd CHECK (id <> 4 OR location_id IS NULL)"
    )
    stage.transform(database, LENIENT)
    assert stage.close(database, LENIENT).proof.passed
    reason = database.psql("SELECT reason FROM inventory_migration.outcome")
    assert "(constraint odd)" in reason


def test_records_good_alone_but_not_together_lose_only_the_later_ones(database: Database) -> None:
    stage.shop(database, companies=1, items=5)
    stage.locations(database, LENIENT)
    database.psql(
        "UPDATE stock_items SET sku = 'same' WHERE id IN (2, 4);"
        "CREATE UNIQUE INDEX one_place ON stock_items (sku, location_id)"
    )
    stage.transform(database, LENIENT)
    assert stage.close(database, LENIENT).proof.passed
    assert stage.outcomes(database) == {"migrated": 4, "quarantined": 1}
    assert database.psql("SELECT key_text, sqlstate FROM inventory_migration.outcome") == "4|23505"


def test_b8_a_deferred_constraint_is_blamed_on_its_record(database: Database) -> None:
    stage.shop(database, companies=1, items=5)
    stage.locations(database, LENIENT)
    database.psql(
        "UPDATE stock_items SET sku = 'same' WHERE id IN (2, 4);"
        "ALTER TABLE stock_items ADD UNIQUE (sku, location_id) DEFERRABLE INITIALLY DEFERRED"
    )
    stage.transform(database, LENIENT)
    assert stage.outcomes(database) == {"migrated": 4, "quarantined": 1}


def test_a_write_that_a_trigger_swallows_is_quarantined_not_lost(database: Database) -> None:
    stage.shop(database, items=20)
    refusing(database, "NEW.id = 11", "RETURN NULL")
    found = stage.migrate(database, LENIENT)
    assert found.proof.passed
    assert stage.outcomes(database) == {"migrated": 19, "quarantined": 1}
    assert database.psql("SELECT key_text, rule FROM inventory_migration.outcome") == (
        "11|write_suppressed"
    )


def test_a_full_disk_is_nobodys_bad_record(database: Database) -> None:
    stage.shop(database, items=20)
    refusing(database, "NEW.id = 11", "RAISE EXCEPTION 'no space' USING ERRCODE = '53100'")
    stage.locations(database)
    with pytest.raises(MigrationHeld, match="no space"):
        stage.transform(database)
    assert database.psql("SELECT state FROM inventory_migration.migration") == "held"
    assert database.psql("SELECT count(*) FROM inventory_migration.outcome") == "0"


def test_the_log_says_whose_record_was_put_aside(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    stage.shop(database, items=20)
    refusing(database, "NEW.id = 7", "RAISE EXCEPTION 'frozen'")
    stage.migrate(database, LENIENT)
    said = [record for record in caplog.records if "put aside" in record.message]
    assert [(vars(record)["migration_id"], vars(record)["company"]) for record in said] == [
        (1, "1")
    ]
    assert [record.message for record in said] == ["record 7 put aside: frozen"]


def test_a_connection_that_is_lost_while_a_bad_record_is_looked_for_is_replaced(
    database: Database,
) -> None:
    stage.shop(database, items=20)
    # The first write fails; the next one, under a savepoint, loses its connection.
    database.psql("CREATE SEQUENCE written")
    end_it = "PERFORM pg_terminate_backend(pg_backend_pid()) WHERE nextval('written') = 2"
    refusing(database, "NEW.id = 7", f"{end_it}; RAISE EXCEPTION 'no'")
    assert stage.migrate(database, LENIENT).proof.passed
    assert stage.outcomes(database) == {"migrated": 19, "quarantined": 1}


# The table whose rows a shape writes, what names the record there, and when it is written.
WRITTEN = {
    "location_column": ("stock_items", "id", "location_id IS NOT NULL"),
    "allocation_json": ("stock_items", "id", "allocations IS NOT NULL"),
    "stock_level": ("stock_levels", "item_id", "true"),
}
RAISING = """
    CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.{id} IN (4, 9) THEN {does}; END IF;
        RETURN NEW;
    END $$;"""
ONLY_ONE = "(CASE WHEN {id} IN (2, 4, 9) THEN 0 ELSE {id} END)"
"""Of the records 2, 4 and 9 there may be one; which, is told by nobody but their order."""

# What the application refuses, its SQL, and by which SQLSTATE and constraint it says so.
REFUSALS = {
    "a trigger that raises": (
        RAISING.replace("{does}", "RAISE EXCEPTION 'frozen'")
        + "CREATE TRIGGER meddle BEFORE INSERT OR UPDATE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION meddle()",
        "P0001|",
    ),
    "a trigger that raises in the end": (
        RAISING.replace("{does}", "RAISE EXCEPTION 'frozen'")
        + "CREATE CONSTRAINT TRIGGER meddle AFTER INSERT OR UPDATE ON {table} "
        "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION meddle()",
        "P0001|",
    ),
    "a trigger that swallows": (
        RAISING.replace("{does}", "RETURN NULL")
        + "CREATE TRIGGER meddle BEFORE INSERT OR UPDATE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION meddle()",
        "IM003|",
    ),
    "a check": (
        "ALTER TABLE {table} ADD CONSTRAINT odd CHECK ({id} NOT IN (4, 9) OR NOT ({written}))",
        "23514|odd",
    ),
    "a unique index": (
        f"CREATE UNIQUE INDEX one ON {{table}} ({ONLY_ONE}) WHERE {{written}}",
        "23505|one",
    ),
    "an exclusion constraint": (
        f"ALTER TABLE {{table}} ADD CONSTRAINT one EXCLUDE ({ONLY_ONE} WITH =) WHERE ({{written}})",
        "23P01|one",
    ),
    "an exclusion constraint that is deferred": (
        f"ALTER TABLE {{table}} ADD CONSTRAINT one EXCLUDE ({ONLY_ONE} WITH =) WHERE ({{written}}) "
        "DEFERRABLE INITIALLY DEFERRED",
        "23P01|one",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", WRITTEN)
@pytest.mark.parametrize("refusal", REFUSALS)
def test_under_every_shape_only_the_records_that_are_refused_stay_behind(
    database: Database, shape: str, refusal: str
) -> None:
    mapping = stage.mapping(
        target=test_shapes.target(shape, "int"),
        thresholds={"quarantined_percent": 100},
        chunk={"rows": 20},
    )
    stage.shop(database, items=20)
    stage.locations(database, mapping)
    table, key, written = WRITTEN[shape]
    sql, said = REFUSALS[refusal]
    database.psql(sql.replace("{table}", table).replace("{id}", key).replace("{written}", written))
    stage.transform(database, mapping)
    assert stage.close(database, mapping).proof.passed
    assert stage.outcomes(database) == {"migrated": 18, "quarantined": 2}
    assert len(test_shapes.placed(database, shape, "int")) == 18
    kept = database.psql(
        "SELECT key_text, record->>'sku', sqlstate, constraint_name "
        "FROM inventory_migration.outcome ORDER BY position"
    )
    assert kept.splitlines() == [f"4|SKU-4|{said}", f"9|SKU-9|{said}"]


@pytest.mark.parametrize("bad", [1, 4])
def test_each_bad_record_costs_as_many_statements_as_the_chunk_can_be_halved(
    database: Database, bad: int
) -> None:
    rows = 256
    mapping = stage.mapping(thresholds={"quarantined_percent": 100}, chunk={"rows": rows})
    stage.shop(database, companies=1, items=rows)
    stage.locations(database, mapping)
    # Good alone, not together: with one by one, the chunk would cost a statement for each record.
    database.psql(
        f"CREATE UNIQUE INDEX one ON stock_items ((CASE WHEN id % 50 = 7 AND id / 50 <= {bad} "
        "THEN 0 ELSE id END)) WHERE location_id IS NOT NULL"
    )
    written = []
    sa.event.listen(
        database.engine,
        "before_cursor_execute",
        lambda *given: written.append(given[2]) if "classified AS MAT" in given[2] else None,
    )
    stage.transform(database, mapping, workers=1)
    assert stage.outcomes(database) == {"migrated": rows - bad, "quarantined": bad}
    assert 2 + 8 < len(written) <= 3 + 2 * bad * 8
