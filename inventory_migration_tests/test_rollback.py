"""The way back: everything as it was, except what the application has moved on with."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import pytest
import sqlalchemy as sa

from inventory_migration import inquiries, verbs
from inventory_migration.engine import control, ledger, rollback, summary
from inventory_migration.engine.plan import Start
from inventory_migration.engine.undo_scope import WHOLE, Scope
from inventory_migration.errors import MappingInvalid, StartRefused
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.sessions import until

PLACED = ("location_id",)


def undo(
    database: Database,
    mapping: stage.StockMapping = stage.MAPPING,
    migration_id: int | None = None,
    scope: Scope = WHOLE,
    workers: int = 2,
) -> list[ledger.Migration]:
    with control.Claim(database.engine) as claim:
        return rollback.roll_back(
            database.engine,
            mapping,
            claim,
            migration_id=migration_id,
            scope=scope,
            workers=workers,
        )


def target(database: Database) -> verbs.Target:
    """What a command works on, with the rights of whoever migrates."""
    return verbs.open_target(getattr(database, "worker_url", database.url))


def foretell(
    database: Database,
    mapping: stage.StockMapping = stage.MAPPING,
    migration_id: int | None = None,
    scope: Scope = WHOLE,
) -> dict[str, Any]:
    """What a dry run says."""
    return inquiries.foretell_rollback(
        target(database), mapping, migration_id=migration_id, scope=scope
    )


def undone(database: Database, migration_id: int = 1) -> dict[str, int]:
    """What the ledger says has been undone."""
    with database.engine.connect() as connection:
        found = ledger.find(connection, migration_id=migration_id)
        told = summary.summarize(connection, found, mapping="shop", changed=True)
    return dict(told["undone"])


def test_every_column_is_as_it_was_and_the_locations_are_gone(database: Database) -> None:
    stage.shop(database)
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id = 4")
    before = stage.table(database, "stock_items")
    stage.migrate(database, stage.mapping(thresholds={"quarantined_percent": 100}))
    assert stage.table(database, "stock_items", PLACED) == before
    undo(database)
    assert stage.table(database, "stock_items", PLACED) == before
    assert database.psql("SELECT count(location_id) FROM stock_items") == "0"
    assert database.psql("SELECT count(*) FROM locations") == "0"
    assert database.psql("SELECT state FROM inventory_migration.migration") == "rolled_back"
    assert database.psql("SELECT count(*) FROM inventory_migration.conflict") == "0"


def test_touched_columns_go_back_too_unless_the_application_set_them_since(
    database: Database,
) -> None:
    stage.shop(database, items=4)
    database.psql("UPDATE stock_items SET updated_at = '2020-01-01'")
    mapping = stage.mapping(touch={"updated_at": {"sql": "now()"}})
    before = stage.table(database, "stock_items")
    stage.migrate(database, mapping)
    assert stage.table(database, "stock_items", PLACED) != before
    database.psql("UPDATE stock_items SET quantity = 0, updated_at = '2030-01-01' WHERE id = 4")
    undo(database, mapping)
    assert database.psql("SELECT id, updated_at::date, quantity FROM stock_items ORDER BY id") == (
        "1|2020-01-01|1\n2|2020-01-01|2\n3|2020-01-01|3\n4|2030-01-01|0"
    )


def test_a_record_that_the_application_moved_is_kept_and_listed_with_both_values(
    database: Database,
) -> None:
    stage.shop(database, companies=1, items=4)
    stage.migrate(database)
    database.psql(
        "INSERT INTO locations (company_id, name) VALUES (1, 'Shelf');"
        "UPDATE stock_items SET location_id = 2 WHERE id = 3"
    )
    undo(database)
    assert database.psql("SELECT id FROM stock_items WHERE location_id IS NOT NULL") == "3"
    assert (
        database.psql("SELECT key_text, kind, ours, found FROM inventory_migration.conflict")
        == "3|moved_since|1|2"
    )
    assert database.psql("SELECT id, name FROM locations") == "2|Shelf"


def test_a_record_that_was_only_touched_is_undone_and_listed(database: Database) -> None:
    stage.shop(database, items=4)
    stage.migrate(database)
    database.psql("UPDATE stock_items SET quantity = 99 WHERE id = 3")
    undo(database)
    assert database.psql("SELECT count(location_id), max(quantity) FROM stock_items") == "0|99"
    assert database.psql("SELECT key_text, kind FROM inventory_migration.conflict") == (
        "3|touched_since"
    )


def test_a4_what_was_already_there_is_not_taken_for_ours(database: Database) -> None:
    stage.shop(database, companies=1, items=4)
    stage.locations(database)
    database.psql("UPDATE stock_items SET location_id = 1 WHERE id = 2")
    stage.transform(database)
    stage.close(database)
    assert stage.outcomes(database) == {"already": 1, "migrated": 3}
    undo(database)
    assert database.psql(
        "SELECT id, location_id FROM stock_items WHERE location_id IS NOT NULL"
    ) == ("2|1")
    assert database.psql("SELECT count(*) FROM locations") == "1"


def test_an_adopted_location_and_one_in_use_by_others_stay(database: Database) -> None:
    stage.shop(database, companies=3, items=6)
    database.psql(
        "CREATE TABLE locations (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, "
        "company_id bigint, name text, code text, is_default boolean);"
        "INSERT INTO locations (company_id, name, is_default) VALUES (1, 'Old', true);"
        "CREATE TABLE bins (location_id bigint REFERENCES locations)"
    )
    stage.migrate(database)
    database.psql("INSERT INTO bins SELECT id FROM locations WHERE company_id = 2")
    undo(database)
    assert database.psql("SELECT company_id FROM locations ORDER BY 1") == "1\n2"


def test_a_record_deleted_since_is_not_missed(database: Database) -> None:
    stage.shop(database, items=6)
    stage.migrate(database)
    database.psql("DELETE FROM stock_items WHERE id = 2")
    undo(database)
    assert database.psql("SELECT count(location_id), count(*) FROM stock_items") == "0|5"


def test_newest_first_and_one_by_id(database: Database) -> None:
    stage.shop(database, items=6)
    stage.migrate(database)
    database.psql("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'new', 1)")
    stage.migrate(database)
    assert [m.migration_id for m in undo(database, migration_id=2)] == [2]
    assert database.psql("SELECT count(location_id) FROM stock_items") == "6"
    assert [m.migration_id for m in undo(database)] == [1]
    assert database.psql("SELECT count(location_id) FROM stock_items") == "0"
    with pytest.raises(StartRefused, match="cannot be undone"):
        undo(database, migration_id=1)
    with pytest.raises(MappingInvalid, match="no migration 9"):
        undo(database, migration_id=9)


def test_with_nothing_to_undo_nothing_happens(database: Database) -> None:
    stage.shop(database, items=1)
    assert undo(database) == []


def test_only_an_explicit_run_follows_a_rollback(database: Database) -> None:
    stage.shop(database)
    stage.migrate(database)
    undo(database)
    with pytest.raises(StartRefused, match="only an explicit run"):
        stage.locations(database, start=Start())
    assert stage.migrate(database).proof.passed
    assert database.psql("SELECT count(location_id) FROM stock_items") == "30"


def test_a_migration_that_stopped_between_its_phases_is_undone_whole(database: Database) -> None:
    """A migration killed between its chunks is undone whole, pending chunks and all."""
    stage.shop(database, items=30)
    mapping = stage.mapping(phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}])
    stage.locations(database, mapping)
    with pytest.raises(Exception, match="stopped after phase pilot"):
        stage.transform(database, mapping, stop_after="pilot")
    assert database.psql("SELECT count(location_id) FROM stock_items") == "10"
    undo(database, mapping)
    assert database.psql("SELECT count(location_id) FROM stock_items") == "0"
    assert database.psql("SELECT DISTINCT state FROM inventory_migration.chunk") == "undone"


def test_a_killed_rollback_goes_on_where_it_was_and_undoes_nothing_twice(
    database: Database,
) -> None:
    """A process is killed in the middle of a transaction; the same command goes on."""
    stage.shop(database, items=60)
    before = stage.table(database, "stock_items")
    stage.migrate(database)
    database.psql("""
        CREATE TABLE log (item bigint);
        CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_sleep(0.02);
            INSERT INTO log VALUES (OLD.id);
            RETURN NEW;
        END $$;
        CREATE TRIGGER slowly BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION slowly();
    """)
    program = textwrap.dedent(
        f"""
        from inventory_migration.database import create_engine
        from inventory_migration.engine import control, rollback
        from inventory_migration_tests import stage
        engine = create_engine({database.url!r})
        rollback.roll_back(engine, stage.MAPPING, control.Claim(engine))
        """
    )
    command = [sys.executable, "-c", program]
    undone = "SELECT count(*) FROM inventory_migration.chunk WHERE state = 'undone'"
    with subprocess.Popen(command) as process:
        until(lambda: database.psql(undone) != "0", "a chunk that is undone", seconds=60)
        process.kill()
    assert process.returncode == -9
    assert database.psql("SELECT state FROM inventory_migration.migration") == "rolling_back"
    assert 0 < int(database.psql(undone)) < 12
    assert 0 < int(database.psql("SELECT count(location_id) FROM stock_items")) < 60
    with pytest.raises(StartRefused, match="being rolled back"):
        stage.locations(database)
    assert subprocess.run(command, check=False).returncode == 0
    assert stage.table(database, "stock_items", PLACED) == before
    assert database.psql("SELECT count(location_id) FROM stock_items") == "0"
    assert database.psql("SELECT count(*), count(DISTINCT item) FROM log") == "60|60"


def test_a_dry_run_says_what_would_happen_and_writes_nothing(database: Database) -> None:
    stage.shop(database, companies=2, items=8)
    stage.migrate(database)
    database.psql(
        "INSERT INTO locations (company_id, name) VALUES (1, 'Shelf');"
        "UPDATE stock_items SET location_id = 3 WHERE id = 3;"
        "UPDATE stock_items SET quantity = 99 WHERE id = 5;"
        "UPDATE stock_items SET location_id = NULL WHERE id = 7;"
        "DELETE FROM stock_items WHERE id = 2;"
        "CREATE TABLE bins (location_id bigint REFERENCES locations);"
        "INSERT INTO bins VALUES (2)"
    )
    written = "SELECT pg_current_snapshot(), sum(xmin::text::bigint) FROM inventory_migration.chunk"
    before = database.psql(written)
    told = inquiries.foretell_rollback(target(database), stage.MAPPING)
    assert database.psql(written) == before
    assert (told["changed"], told["migrations"], told["state"]) == (False, [1], "verified")
    assert told["undone"] == {"records": 5, "kept": 1, "locations": 1}
    assert told["conflicts"] == [
        {
            "migration_id": 1,
            "key": "3",
            "kind": "moved_since",
            "column": "location_id",
            "written": "1",
            "found": "3",
            "reason": None,
        }
    ]
    assert told["touched_since"] == ["5"]
    assert told["locations_kept"] == [
        {"company_key": "2", "location_key": "2", "referred_by": ["bins.location_id"]}
    ]
    done = verbs.roll_back(target(database), stage.MAPPING)
    for name in ("migration_id", "undone", "conflicts", "touched_since", "locations_kept"):
        assert done[name] == told[name], name


def test_a_dry_run_begins_no_transaction_that_could_write(database: Database) -> None:
    stage.shop(database, items=3)
    stage.migrate(database)
    looking, began = target(database), []

    def writing(connection: sa.Connection) -> None:
        began.append(connection.exec_driver_sql("SHOW transaction_read_only").scalar_one())

    for engine in (looking.engine, looking.reader):
        sa.event.listen(engine, "begin", writing)
    assert inquiries.foretell_rollback(looking, stage.MAPPING)["undone"]["records"] == 3
    assert set(began) == {"on"}


def test_a_dry_run_of_several_migrations_counts_a_record_once(database: Database) -> None:
    stage.shop(database, companies=1, items=4)
    stage.migrate(database)
    database.psql("UPDATE stock_items SET location_id = NULL WHERE id IN (1, 2)")
    stage.migrate(database)
    told = foretell(database)
    assert (told["migrations"], told["undone"]["records"]) == ([2, 1], 4)
    assert foretell(database, migration_id=2)["undone"]["records"] == 2
    assert foretell(database, migration_id=2)["undone"]["locations"] == 0
    assert [m.migration_id for m in undo(database)] == [2, 1]
    assert undone(database)["records"] + undone(database, 2)["records"] == 4


def test_a_location_that_any_foreign_key_names_stays_and_is_listed(database: Database) -> None:
    """By two columns, to a key that is not the primary one, from a partition or from itself."""
    stage.shop(database, companies=5, items=5)
    stage.migrate(database)
    database.psql(
        "ALTER TABLE locations ADD UNIQUE (company_id, id), ADD number int UNIQUE,"
        " ADD inside_of bigint REFERENCES locations;"
        "UPDATE locations SET number = id * 10;"
        "CREATE TABLE bins (company_id bigint, location_id bigint,"
        " FOREIGN KEY (company_id, location_id) REFERENCES locations (company_id, id)"
        " ON DELETE CASCADE);"
        "INSERT INTO bins VALUES (2, 2);"
        "CREATE TABLE labels (number int REFERENCES locations (number) ON DELETE SET NULL);"
        "INSERT INTO labels VALUES (30);"
        "CREATE TABLE moves (day date, location_id bigint REFERENCES locations)"
        " PARTITION BY RANGE (day);"
        "CREATE TABLE moves_now PARTITION OF moves DEFAULT;"
        "INSERT INTO moves VALUES ('2026-11-26', 4);"
        "INSERT INTO locations (company_id, name, inside_of) VALUES (5, 'Room', 5)"
    )
    told = foretell(database)
    done = verbs.roll_back(target(database), stage.MAPPING)
    assert [(kept["location_key"], kept["referred_by"]) for kept in done["locations_kept"]] == [
        ("2", ["bins.company_id, location_id"]),
        ("3", ["labels.number"]),
        ("4", ["moves.location_id"]),
        ("5", ["locations.inside_of"]),
    ]
    assert told["locations_kept"] == done["locations_kept"]
    assert (told["undone"], done["undone"]["locations"]) == (done["undone"], 1)
    assert database.psql("SELECT count(*) FROM bins JOIN locations ON id = location_id") == "1"
    assert database.psql("SELECT number FROM labels") == "30"


@pytest.mark.parametrize(
    "target",
    [
        {"shape": "location_column", "column": "location_id", "add": True},
        {"shape": "allocation_json", "column": "allocations", "add": True},
    ],
    ids=["location_column", "allocation_json"],
)
def test_stock_is_read_once_however_many_locations_go(
    database: Database, target: dict[str, Any]
) -> None:
    """On the worst of the planner's days, since it takes them for a few."""
    mapping = stage.mapping(target=target)
    stage.shop(database, companies=20)
    stage.migrate(database, mapping)
    loops: list[int] = []

    def look(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if 'DELETE FROM "public"."locations"' not in statement:
            return
        cursor.execute("SAVEPOINT looked")
        for way in ("hashjoin", "mergejoin", "material"):
            cursor.execute(f"SET LOCAL enable_{way} = off")
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
        loops.extend(scans(cursor.fetchone()[0][0]["Plan"]))
        cursor.execute("ROLLBACK TO looked")

    def scans(node: dict[str, Any]) -> list[int]:
        found = [node["Actual Loops"]] if node.get("Relation Name") == "stock_items" else []
        return found + [n for below in node.get("Plans", ()) for n in scans(below)]

    sa.event.listen(database.engine, "before_cursor_execute", look)
    try:
        undo(database, mapping)
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", look)
    assert loops == [1]
    assert database.psql("SELECT count(*) FROM locations") == "0"
