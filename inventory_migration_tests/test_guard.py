"""The guard trigger: new records have their location at once, and never an error on its account."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from inventory_migration import verbs
from inventory_migration.catalog import resolve
from inventory_migration.engine import control, default_locations, schema_change, undo_walk
from inventory_migration.engine.statements import statements
from inventory_migration.engine.triggers import fired_triggers
from inventory_migration.mapping import StockMapping
from inventory_migration.report.documents import write_report
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.test_rollback import undo
from inventory_migration_tests.test_shapes import KEYS, PLACED, TARGETS

TRIGGERS = "SELECT tgname FROM pg_trigger WHERE tgname ~ '^zz_guard_'"
NEW = "INSERT INTO stock_items (company_id, sku, quantity, reserved) VALUES"


def guarded(**changes: Any) -> StockMapping:
    return stage.mapping(guard=True, **changes)


def placed(database: Database, shape: str = "location_column") -> str:
    """The records at a location of their company, with what the target says of their numbers."""
    return database.psql(f"{PLACED[shape]} ORDER BY s.sku")


def located(database: Database) -> str:
    return database.psql("SELECT sku, location_id FROM stock_items WHERE sku ~ '^N' ORDER BY sku")


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("shape", ["location_column", "allocation_json"])
def test_a_new_record_is_placed_exactly_as_a_chunk_would_place_it(
    database: Database, shape: str, keys: str
) -> None:
    named, change = KEYS[keys]
    stage.shop(database, companies=2, items=0)
    database.psql(change)
    database.psql("INSERT INTO stock_items (id, company_id, sku, quantity, reserved) VALUES "
                  + ("(gen_random_uuid()" if keys == "uuid" else "(1")
                  + ", 1, 'OLD', 7, 2)")  # fmt: skip
    chosen = guarded(
        target=TARGETS[shape],
        source={**stage.DEFINITION["source"], "key": named},
        quantity_basis="net",
    )
    assert stage.migrate(database, chosen).proof.passed
    database.psql("INSERT INTO stock_items (id, company_id, sku, quantity, reserved) VALUES "
                  + ("(gen_random_uuid()" if keys == "uuid" else "(2")
                  + ", 1, 'NEW', 7, 2)")  # fmt: skip
    assert len(placed(database, shape).splitlines()) == 2
    if shape == "allocation_json":
        moment = "- 'lastUpdated'"
        assert database.psql(
            f"SELECT count(DISTINCT ((allocations->'1') {moment}, transfers)), "
            "count(allocations->'1'->'lastUpdated') FROM stock_items"
        ) == ("1|2")
    assert verbs.validate(verbs.open_target(database.url), chosen)["passed"]


def test_a_company_behind_a_join_is_found_for_a_row_that_is_not_there_yet(
    database: Database,
) -> None:
    stage.shop(database, companies=2, items=0)
    database.psql(
        "CREATE TABLE products (id bigint PRIMARY KEY, company_id bigint);"
        "INSERT INTO products VALUES (10, 1), (20, 2);"
        "ALTER TABLE stock_items RENAME company_id TO product_id"
    )
    source = {
        **stage.DEFINITION["source"],
        "company": {"sql": "p.company_id"},
        "joins": "LEFT JOIN products p ON p.id = s.product_id",
    }
    stage.locations(database, guarded(source=source))
    database.psql(
        "INSERT INTO stock_items (product_id, sku, quantity) "
        "VALUES (20, 'N1', 1), (10, 'N2', 1), (99, 'N3', 1)"
    )
    assert located(database) == "N1|2\nN2|1\nN3|"


def test_a_join_that_finds_several_rows_gives_no_location_rather_than_any(
    database: Database,
) -> None:
    stage.shop(database, companies=2, items=0)
    database.psql("CREATE TABLE owners (item text, company_id bigint)")
    source = {
        **stage.DEFINITION["source"],
        "company": {"sql": "o.company_id"},
        "joins": "LEFT JOIN owners o ON o.item = s.sku",
    }
    stage.locations(database, guarded(source=source))
    database.psql(
        "INSERT INTO owners VALUES ('N1', 1), ('N2', 1), ('N2', 2);"
        "INSERT INTO stock_items (sku, quantity) VALUES ('N1', 1), ('N2', 1)"
    )
    assert located(database) == "N1|1\nN2|"


@pytest.mark.parametrize(
    ("values", "location"),
    [
        ("1, 'N', 5, 0, NULL, NULL", "1"),
        ("1, 'N', 5, 9, NULL, NULL", "1"),
        ("1, 'N', -5, 0, NULL, NULL", "1"),
        ("1, 'N', 5, 0, NULL, 77", "77"),
        ("1, 'N', 5, 0, now(), NULL", ""),
        ("1, 'N', NULL, 0, NULL, NULL", ""),
        ("99, 'N', 5, 0, NULL, NULL", ""),
        ("NULL, 'N', 5, 0, NULL, NULL", ""),
        ("2, 'N', 5, 0, NULL, NULL", ""),
        ("3, 'N', 5, 0, NULL, NULL", ""),
        ("1, 'SKU-1', 5, 0, NULL, NULL", ""),
    ],
    ids=[
        "good", "warned about", "warned about too", "placed by the application", "skipped",
        "without a quantity", "of no company", "without a company", "of two default locations",
        "of a company without one", "there already",
    ],
)  # fmt: skip
def test_the_rules_decide_who_is_given_a_location(
    database: Database, values: str, location: str
) -> None:
    stage.shop(database, items=3)
    stage.locations(database, guarded(rules={"item_duplicate": "quarantine"}))
    database.psql(
        "DROP INDEX locations_company_id_idx;"
        "INSERT INTO locations (company_id, is_default) VALUES (2, true), (3, false);"
        "DELETE FROM locations WHERE company_id = 3 AND is_default"
    )
    made = database.psql(
        "INSERT INTO stock_items (company_id, sku, quantity, reserved, deleted_at, location_id) "
        f"VALUES ({values}) RETURNING location_id"
    )
    assert made == location
    assert database.psql("SELECT count(*) FROM locations") == "4"


def test_duplicates_are_not_looked_for_where_they_are_only_warned_about(
    database: Database,
) -> None:
    stage.shop(database, items=3)
    stage.locations(database, guarded())
    assert database.psql(f"{NEW} (1, 'SKU-1', 1, 0) RETURNING location_id") == "1"


def test_the_trigger_is_there_before_the_snapshot_and_waits_for_open_writers(
    database: Database,
) -> None:
    stage.shop(database)
    with psycopg.connect(database.url) as writer:
        writer.execute(f"{NEW} (1, 'N1', 1, 0)")
        step = threading.Thread(target=stage.locations, args=(database, guarded(target={
            "shape": "location_column", "column": "location_id"})))  # fmt: skip
        database.psql("ALTER TABLE companies ADD COLUMN x int")
        writer.commit()
        database.psql("ALTER TABLE stock_items ADD COLUMN location_id bigint")
        writer.execute(f"{NEW} (1, 'N2', 1, 0)")
        step.start()
        step.join(0.8)
        assert step.is_alive()
        assert database.psql(TRIGGERS) == ""
        writer.commit()
        step.join(20)
        assert not step.is_alive()
    assert database.psql(TRIGGERS) == "zz_guard_shop"
    assert database.psql(f"{NEW} (1, 'N3', 1, 0) RETURNING location_id") == "1"
    assert located(database) == "N1|\nN2|\nN3|1"


def test_it_is_installed_again_without_harm_and_once(database: Database) -> None:
    stage.shop(database)
    stage.locations(database, guarded())
    stage.locations(database, guarded())
    assert database.psql(TRIGGERS) == "zz_guard_shop"
    assert stage.migrate(database, guarded()).proof.passed
    assert database.psql(TRIGGERS) == "zz_guard_shop"


def test_what_arrives_beside_the_chunks_needs_no_sweep_and_has_one_outcome(
    database: Database,
) -> None:
    stage.shop(database)
    stage.locations(database, guarded())
    database.psql(f"{NEW} (1, 'N1', 1, 0)")
    stage.transform(database, guarded())
    database.psql(f"{NEW} (2, 'N2', 1, 0)")
    found = stage.close(database, guarded())
    assert found.proof.passed
    assert stage.outcomes(database) == {"already": 2, "migrated": 30}
    assert located(database) == "N1|1\nN2|2"


def test_the_verdict_says_that_it_rests_on_the_guard_and_the_report_says_what_that_means(
    database: Database, tmp_path: Path
) -> None:
    stage.shop(database)
    target = verbs.open_target(database.url)
    verbs.run(target, guarded())
    rests_on = "SELECT detail->>'rests_on' FROM inventory_migration.event WHERE kind = 'verdict'"
    assert database.psql(rests_on) == "guard"
    write_report(target, guarded(), tmp_path)
    text = (tmp_path / "shop-1.md").read_text()
    assert "A guard trigger gives new records the default location of their company" in text


def test_a_guard_that_is_switched_off_carries_no_verdict(database: Database) -> None:
    stage.shop(database)
    stage.locations(database, guarded())
    stage.transform(database, guarded())
    database.psql("ALTER TABLE stock_items DISABLE TRIGGER zz_guard_shop")
    stage.close(database, guarded())
    rests_on = "SELECT detail->>'rests_on' FROM inventory_migration.event WHERE kind = 'verdict'"
    assert database.psql(rests_on) == "moment"


@pytest.mark.slow
def test_a_guard_that_is_asked_for_later_is_put_on_by_the_next_run(database: Database) -> None:
    stage.shop(database)
    stage.migrate(database)
    assert database.psql(TRIGGERS) == ""
    target = verbs.open_target(database.url)
    assert verbs.run(target, guarded())["changed"] is True
    assert database.psql(TRIGGERS) == "zz_guard_shop"
    assert verbs.run(target, guarded())["changed"] is False
    undo(database, guarded())
    assert database.psql(TRIGGERS) == ""
    assert database.psql("SELECT count(location_id) FROM stock_items") == "0"


def test_after_a_rollback_what_it_gave_stays_and_is_listed(database: Database) -> None:
    stage.shop(database, companies=2, items=4)
    database.psql(
        "CREATE TABLE locations (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, "
        "company_id bigint, name text, code text, is_default boolean);"
        "INSERT INTO locations (company_id, name, is_default) VALUES (1, 'Old', true);"
        "ALTER TABLE stock_items ADD COLUMN location_id bigint;"
        "UPDATE stock_items SET location_id = 1 WHERE id = 1"
    )
    stage.locations(database, guarded())
    stage.transform(database, guarded())
    database.psql(f"{NEW} (1, 'N1', 1, 0), (99, 'N2', 1, 0)")
    stage.close(database, guarded())
    database.psql(f"{NEW} (2, 'N3', 1, 0), (2, 'N4', 1, 0)")
    database.psql("UPDATE stock_items SET location_id = NULL WHERE sku = 'N4'")
    undo(database, guarded())
    assert database.psql("SELECT sku, location_id FROM stock_items ORDER BY id") == (
        "SKU-1|1\nSKU-2|\nSKU-3|\nSKU-4|\nN1|1\nN2|\nN3|2\nN4|"
    )
    assert database.psql(
        "SELECT key_text, kind, ours, found FROM inventory_migration.conflict ORDER BY position"
    ) == ("5|arrived_with_location||1\n7|arrived_with_location||2")
    # The location that a new record is at was created by us, and is in use.
    assert database.psql("SELECT id FROM locations ORDER BY id") == "1\n2"
    assert database.psql(f"{NEW} (1, 'N5', 1, 0) RETURNING location_id") == ""
    assert database.psql(TRIGGERS) == ""


def test_after_a_rollback_of_json_only_what_bears_our_mark_is_listed(database: Database) -> None:
    stage.shop(database, companies=1, items=2)
    chosen = guarded(target=TARGETS["allocation_json"])
    stage.migrate(database, chosen)
    database.psql(
        f"{NEW} (1, 'N1', 1, 0);"
        "INSERT INTO stock_items (company_id, sku, quantity, allocations) "
        """VALUES (1, 'N2', 1, '{"1": {"allocated": 1, "reserved": 0, "updatedBy": "ann"}}')"""
    )
    undo(database, chosen)
    assert database.psql("SELECT sku FROM stock_items WHERE allocations IS NOT NULL") == "N1\nN2"
    assert database.psql("SELECT key_text, kind FROM inventory_migration.conflict") == (
        "3|arrived_with_location"
    )


def test_b5_the_trigger_goes_before_the_walk_and_with_the_last_migration(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)
    stage.migrate(database, guarded())
    database.psql(f"{NEW} (1, 'N1', 1, 0)")
    stage.migrate(database, guarded())
    seen: list[str] = []
    walk = undo_walk.walk_back

    def walked(*arguments: Any, **options: Any) -> None:
        seen.append(database.psql(TRIGGERS))
        walk(*arguments, **options)

    monkeypatch.setattr(undo_walk, "walk_back", walked)
    assert [m.migration_id for m in undo(database, guarded())] == [2, 1]
    assert seen == ["zz_guard_shop", ""]
    assert database.psql("SELECT key_text, migration_id FROM inventory_migration.conflict") == (
        "31|1"
    )


def test_a_rollback_that_cannot_take_the_trigger_off_can_be_repeated(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)
    stage.migrate(database, guarded())
    briefly = functools.partial(schema_change.execute_briefly, seconds=0.5)
    monkeypatch.setattr(schema_change, "execute_briefly", briefly)
    with psycopg.connect(database.url) as reader:
        reader.execute("SELECT count(*) FROM stock_items")
        with pytest.raises(Exception, match="take the guard trigger off stock_items"):
            undo(database, guarded())
    assert database.psql("SELECT state FROM inventory_migration.migration") == "rolling_back"
    undo(database, guarded())
    assert database.psql("SELECT count(location_id) FROM stock_items") == "0"


def test_c_a_record_goes_in_as_it_came_whatever_the_trigger_meets(database: Database) -> None:
    stage.shop(database)
    stage.locations(database, guarded())
    insert = f"{NEW} (1, 'N', 1, 0) RETURNING location_id"
    with psycopg.connect(database.url, autocommit=True) as session:

        def given() -> Any:
            return session.execute(insert).fetchone()[0]

        assert given() == 1
        database.psql("ALTER TABLE stock_items ADD COLUMN weight int")
        assert given() == 1
        database.psql("ALTER TABLE stock_items DROP COLUMN updated_at, DROP COLUMN weight")
        assert given() == 1
        database.psql("ALTER TABLE stock_items ALTER location_id TYPE integer")
        # This session has planned with the old type; others begin anew.
        assert given() is None
        assert database.psql(insert) == "1"
        database.psql("UPDATE locations SET id = 5000000000 WHERE id = 1")
        assert database.psql(insert) == ""
        database.psql("UPDATE locations SET id = 1 WHERE company_id = 1")
        assert database.psql(insert) == "1"
        with psycopg.connect(database.url) as other:
            other.execute("LOCK TABLE locations")
            database.psql(f"SET statement_timeout = '10s'; {insert}")
        assert located(database).count("N|1") == 5
        database.psql("ALTER TABLE locations RENAME TO places")
        assert given() is None
        database.psql("ALTER TABLE stock_items RENAME location_id TO place_id")
        assert session.execute(f"{NEW} (1, 'N', 1, 0) RETURNING place_id").fetchone()[0] is None
        database.psql("DROP SCHEMA inventory_migration CASCADE")
        assert session.execute(f"{NEW} (1, 'N', 1, 0)").rowcount == 1


def test_c_timeouts_and_the_setting_for_them_stay_the_applications_own(
    database: Database,
) -> None:
    stage.shop(database)
    stage.locations(database, guarded())
    with psycopg.connect(database.url) as session, psycopg.connect(database.url) as other:
        session.execute("SET lock_timeout = '7s'")
        session.execute(f"{NEW} (1, 'N', 1, 0)")
        assert session.execute("SHOW lock_timeout").fetchone() == ("7s",)
        session.commit()
        other.execute("LOCK TABLE locations")
        session.execute("SET statement_timeout = '20ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute(f"{NEW} (1, 'N', 1, 0)")


def test_d_the_application_needs_no_right_and_steers_nothing(database: Database) -> None:
    stage.shop(database)
    role = f"app_{database.name}"
    database.psql(
        f"CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT ON stock_items TO {role};"
        f"GRANT TEMP ON DATABASE {database.name} TO {role}"
    )
    # The mapping's own SQL names a table without its schema.
    database.psql("CREATE TABLE closed (sku text); INSERT INTO closed VALUES ('N2')")
    closed = {"closed": {"sql": "EXISTS (SELECT FROM closed k WHERE k.sku = s.sku)"}}
    stage.migrate(database, guarded(source={**stage.DEFINITION["source"], "skip": closed}))
    with psycopg.connect(database.url.replace("postgres@", f"{role}@")) as application:
        application.execute(
            "CREATE TEMP TABLE locations AS SELECT 666 AS id, 1 AS company_id, true AS is_default"
        )
        application.execute("CREATE TEMP TABLE companies AS SELECT 1 AS id, 'x' AS name")
        application.execute("CREATE TEMP TABLE closed (sku text)")
        made = application.execute(f"{NEW} (1, 'N', 1, 0) RETURNING location_id").fetchone()
        assert made == (1,)
        application.execute(f"{NEW} (1, 'N2', 1, 0)")
    assert located(database) == "N|1\nN2|"
    assert database.psql(
        f"SELECT has_function_privilege('{role}', 'inventory_migration.guard_shop()', 'EXECUTE')"
    ) == ("f")
    database.psql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_hidden_locations_are_not_taken_for_none(database: Database) -> None:
    """A policy that hides one of two default locations must not make the other the only one."""
    stage.shop(database)
    role = f"worker_{database.name}"
    stage.locations(database, guarded())
    database.psql(
        f"CREATE ROLE {role}; GRANT SELECT ON locations, companies TO {role};"
        f"GRANT USAGE, CREATE ON SCHEMA inventory_migration TO {role};"
        f"ALTER FUNCTION inventory_migration.guard_shop OWNER TO {role};"
        "DROP INDEX locations_company_id_idx;"
        "INSERT INTO locations (company_id, is_default) VALUES (1, true);"
        "ALTER TABLE locations ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY one ON locations USING (id = 1)"
    )
    assert database.psql(f"{NEW} (1, 'N', 1, 0) RETURNING location_id") == ""
    database.psql(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def test_statements_and_grant_are_printed_and_the_trigger_is_not_taken_for_the_applications(
    database: Database,
) -> None:
    stage.shop(database)
    stage.locations(database, guarded())
    with database.engine.connect() as connection:
        resolved = resolve(connection, guarded())
        printed = statements(connection, resolved, role="worker")
        without = statements(connection, resolve(connection, stage.MAPPING), role="worker")
        assert fired_triggers(connection, resolved) == []
        assert resolved.source.triggers == ()
    grant = 'GRANT SELECT, UPDATE ("location_id"){} ON "public"."stock_items" TO "worker"'
    assert grant.format(", TRIGGER") in printed.grants
    assert grant.format("") in without.grants
    assert 'CREATE OR REPLACE TRIGGER "zz_guard_shop"' in printed.script()
    assert "zz_guard_shop" not in without.script()


def test_a_partitioned_table_is_guarded_in_all_its_parts(database: Database) -> None:
    stage.shop(database, items=0)
    database.psql(
        "DROP TABLE stock_items;"
        "CREATE TABLE stock_items (id bigint, company_id bigint, sku text, quantity integer, "
        "reserved integer, deleted_at timestamptz, PRIMARY KEY (id)) PARTITION BY RANGE (id);"
        "CREATE TABLE odd (sku text, reserved integer, id bigint NOT NULL, company_id bigint, "
        "quantity integer, deleted_at timestamptz);"
        "ALTER TABLE stock_items ATTACH PARTITION odd FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE rest PARTITION OF stock_items DEFAULT"
    )
    stage.locations(database, guarded())
    database.psql(
        "INSERT INTO stock_items (id, company_id, sku, quantity) VALUES (1, 1, 'N1', 1);"
        "INSERT INTO stock_items (id, company_id, sku, quantity) VALUES (20, 2, 'N2', 1);"
        "INSERT INTO odd (id, company_id, sku, quantity) VALUES (2, 3, 'N3', 1)"
    )
    assert located(database) == "N1|1\nN2|2\nN3|3"


def test_a_trigger_of_the_application_has_its_say_before(database: Database) -> None:
    stage.shop(database, items=0)
    database.psql(
        """
        CREATE FUNCTION owned() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.company_id := 2; RETURN NEW; END $$;
        CREATE TRIGGER zz BEFORE INSERT ON stock_items FOR EACH ROW EXECUTE FUNCTION owned();
        """
    )
    stage.locations(database, guarded())
    assert database.psql(f"{NEW} (1, 'N', 1, 0) RETURNING company_id, location_id") == "2|2"


def test_a_killed_plan_installs_it_when_it_is_taken_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)
    with monkeypatch.context() as patch:
        patch.setattr(default_locations, "give", lambda *_: (_ for _ in ()).throw(ValueError("x")))
        with pytest.raises(ValueError, match="x"):
            stage.locations(database, guarded())
    with control.Claim(database.engine):
        assert database.psql(TRIGGERS) == "zz_guard_shop"
    assert stage.migrate(database, guarded()).proof.passed
