"""Records that the server refuses are put aside one by one; all others go."""

from __future__ import annotations

import pytest

from inventory_migration.errors import MigrationHeld
from inventory_migration_tests import stage
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
