"""What a rollback does about each failure of the server: the same table as on the way there."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from inventory_migration import verbs
from inventory_migration.engine import ledger, plan, undo_walk
from inventory_migration.engine.plan import Start
from inventory_migration.engine.staffing import usual_workers
from inventory_migration.errors import MigrationRolledBack, RollbackHeld, RollbackStopped
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.sessions import until
from inventory_migration_tests.test_rollback import target, undo, undone

SLEEPERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event = 'PgSleep'
"""
LOCKS = """
    SELECT count(*) FROM pg_locks AS k JOIN pg_stat_activity AS a USING (pid)
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
"""
AWAKE = """
    CREATE OR REPLACE FUNCTION speak() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'
"""

pytestmark = pytest.mark.one_server

STATE = "SELECT state, reason FROM inventory_migration.migration"
LEFT = "SELECT string_agg(id::text, ',' ORDER BY id) FROM stock_items WHERE location_id IS NOT NULL"


def refusing(database: Database, body: str, *, items: str = "true") -> None:
    """Have a trigger of the application speak where a record goes back."""
    database.psql(f"""
        CREATE SEQUENCE asked;
        CREATE OR REPLACE FUNCTION speak() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            {body}
            RETURN NEW;
        END $$;
        CREATE TRIGGER speak BEFORE UPDATE ON stock_items FOR EACH ROW
        WHEN (NEW.location_id IS NULL AND ({items})) EXECUTE FUNCTION speak();
    """)


@pytest.fixture
def shop(database: Database) -> Database:
    """A migrated shop of 12 chunks."""
    stage.shop(database, items=60)
    stage.migrate(database)
    return database


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "57014"])
def test_what_passes_is_tried_again_with_fewer_chunks(
    shop: Database, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(shop, f"IF nextval('asked') < 3 THEN RAISE 'busy' USING ERRCODE = '{state}'; END IF;")
    some, limits = undo_walk.undo_some, []

    def watched(connection, statements, limit, *, apart):  # type: ignore[no-untyped-def]
        limits.append(limit)
        return some(connection, statements, limit, apart=apart)

    monkeypatch.setattr(undo_walk, "undo_some", watched)
    undo(shop, workers=1)
    assert limits[:3] == [5, 2, 1]
    assert shop.psql(LEFT) == ""


def test_what_never_passes_holds_it_and_leaves_it_to_go_on(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo_walk, "TRIES", 0)
    refusing(shop, "RAISE 'busy' USING ERRCODE = '40001';")
    with pytest.raises(RollbackHeld, match=r"busy \(SQLSTATE 40001\).*'inventory-migration rol"):
        undo(shop)
    assert shop.psql(STATE) == "rolling_back|busy (SQLSTATE 40001)"
    shop.psql("DROP TRIGGER speak ON stock_items")
    undo(shop)
    assert shop.psql(LEFT) == ""


@pytest.mark.parametrize("state", ["53100", "53200", "58030"])
def test_a_full_disk_holds_it_and_blames_no_record(shop: Database, state: str) -> None:
    refusing(
        shop, f"RAISE 'no space left' USING ERRCODE = '{state}';", items="OLD.id = 7 OR OLD.id = 8"
    )
    with pytest.raises(RollbackHeld) as caught:
        undo(shop)
    assert (caught.value.exit_code, caught.value.retryable) == (4, True)
    assert shop.psql(STATE) == f"rolling_back|no space left (SQLSTATE {state})"
    assert shop.psql("SELECT count(*) FROM inventory_migration.conflict") == "0"
    shop.psql("DROP TRIGGER speak ON stock_items")
    undo(shop)
    assert shop.psql(LEFT) == ""


def test_what_nobody_foresaw_stops_it(shop: Database) -> None:
    refusing(shop, "RAISE 'no' USING ERRCODE = '42501';")
    with pytest.raises(RollbackStopped, match=r"no \(SQLSTATE 42501\)"):
        undo(shop)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("RAISE 'counted already';", "counted already"),
        ("RAISE 'bad' USING ERRCODE = '22003';", "bad"),
        ("RETURN NULL;", "a trigger or rule of the application swallowed or changed"),
        ("NEW.location_id := 2;", "a trigger or rule of the application swallowed or changed"),
    ],
)
def test_a_record_that_the_application_does_not_take_back_stays_and_is_listed(
    shop: Database, body: str, reason: str
) -> None:
    refusing(shop, body, items="OLD.id IN (7, 33, 34)")
    done = verbs.roll_back(target(shop), stage.MAPPING)
    assert shop.psql(LEFT) == "7,33,34"
    assert sorted(conflict["key"] for conflict in done["conflicts"]) == ["33", "34", "7"]
    for conflict in done["conflicts"]:
        assert (conflict["kind"], conflict["column"]) == ("refused_by_server", "location_id")
        assert (
            conflict["written"]
            == conflict["found"]
            == shop.psql(f"SELECT location_id FROM stock_items WHERE id = {conflict['key']}")
        )
        assert conflict["reason"].startswith(reason)
    assert undone(shop) == {"records": 57, "kept": 3, "locations": 1}
    assert {kept["location_key"]: kept["referred_by"] for kept in done["locations_kept"]} == {
        "1": ["stock_items.location_id"],
        "3": ["stock_items.location_id"],
    }


def test_a_constraint_that_is_checked_at_the_end_names_its_record(shop: Database) -> None:
    shop.psql("""
        CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'shipped' USING ERRCODE = '23514', CONSTRAINT = 'shipped_stays'; END $$;
        CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON stock_items DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.location_id IS NULL AND OLD.id = 12) EXECUTE FUNCTION late();
    """)
    done = verbs.roll_back(target(shop), stage.MAPPING)
    assert [(c["key"], c["reason"]) for c in done["conflicts"]] == [
        ("12", "shipped (constraint shipped_stays)")
    ]
    assert shop.psql(LEFT) == "12"


def test_a_lost_connection_is_replaced(shop: Database) -> None:
    refusing(shop, "PERFORM pg_sleep(0.02);")
    ended: list[BaseException] = []

    def work() -> None:
        try:
            undo(shop)
        except BaseException as error:
            ended.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    kill = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE state = 'active' "
        "AND datname = current_database() AND query LIKE '%WITH mine AS%' "
        "AND pid <> pg_backend_pid()"
    )
    until(lambda: shop.psql(kill) != "0", "a session that undoes")
    worker.join(60)
    assert ended == []
    assert shop.psql(LEFT) == ""


def test_a_chunk_whose_commit_is_under_way_is_waited_for(shop: Database) -> None:
    """A session that we have lost may still be at it: no free chunk is not the end of the walk."""
    with shop.engine.connect() as connection:
        resolved = plan.resolve(connection, stage.MAPPING)
        migration = ledger.find(connection, migration_id=1)
    assert migration is not None
    shop.psql("""
        UPDATE inventory_migration.control SET desired = 'rollback';
        UPDATE inventory_migration.chunk SET undoing = true WHERE number = 1;
    """)
    with psycopg.connect(shop.url) as lost:
        lost.execute("SELECT FROM inventory_migration.chunk WHERE number = 1 FOR NO KEY UPDATE")
        timer = threading.Timer(0.7, lost.rollback)
        timer.start()
        undo_walk.walk_back(shop.engine, resolved, migration)
        timer.join()
    assert shop.psql("SELECT state FROM inventory_migration.chunk WHERE number = 1") == "undone"


@pytest.mark.parametrize("asked", [None, 3])
def test_as_many_walk_back_as_move_unless_somebody_says_a_number(
    shop: Database, asked: int | None
) -> None:
    refusing(shop, "PERFORM pg_sleep(0.05);")
    options = {} if asked is None else {"workers": asked}
    with ThreadPoolExecutor(1) as pool:
        walk = pool.submit(verbs.roll_back, target(shop), stage.MAPPING, **options)
        many = str(asked or usual_workers(shop.engine))
        until(lambda: shop.psql(SLEEPERS) == many, "all of them at work")
        shop.psql(AWAKE)
        assert walk.result(60)["undone"] == {"records": 60, "kept": 0, "locations": 3}
    counted = "SELECT count(*), sum(undone_records) FROM inventory_migration.chunk WHERE state = "
    assert shop.psql(f"{counted} 'undone'") == "12|60"


def test_so_does_a_threshold_that_is_exceeded(database: Database) -> None:
    stage.shop(database, items=60)
    strict = stage.mapping(thresholds={"quarantined_percent": 1, "after_records": 60})
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id = 60")
    stage.locations(database, strict)
    refusing(database, "PERFORM pg_sleep(0.05);")
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(stage.transform, database, strict, workers=3)
        until(lambda: database.psql(SLEEPERS) == "3", "all of them at work")
        database.psql(AWAKE)
        with pytest.raises(MigrationRolledBack):
            moving.result(60)
    assert database.psql(LEFT) == ""


def test_what_one_of_them_cannot_get_over_stops_all(shop: Database) -> None:
    """The other one ends what it has begun at most: nobody comes to the first two chunks."""
    refusing(
        shop,
        "IF OLD.id > 35 AND nextval('asked') = 1 THEN PERFORM pg_sleep(0.1); "
        "RAISE 'no' USING ERRCODE = '42501'; END IF; PERFORM pg_sleep(0.06);",
    )
    with pytest.raises(RollbackStopped, match=r"no \(SQLSTATE 42501\)"):
        undo(shop, workers=2)
    assert shop.psql("SELECT count(location_id) FROM stock_items WHERE id <= 10") == "10"
    assert shop.psql(STATE) == "rolling_back|no (SQLSTATE 42501)"
    assert shop.psql(LOCKS) == "0"
    said = "SELECT count(*) FROM inventory_migration.event WHERE kind = 'rollback_stopped'"
    assert shop.psql(said) == "1"
    shop.psql(AWAKE)
    undo(shop)
    assert shop.psql(LEFT) == ""


def test_an_interrupt_ends_all_of_them_and_the_same_command_goes_on(shop: Database) -> None:
    refusing(shop, "IF OLD.id <= 35 THEN PERFORM pg_sleep(30); END IF;")
    program = f"""
        import signal
        from inventory_migration.database import create_engine
        from inventory_migration.engine import control, rollback
        from inventory_migration_tests import stage
        # Whoever started the tests in the background has told them to ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        engine = create_engine({shop.url!r})
        rollback.roll_back(engine, stage.MAPPING, control.Claim(engine), workers=2)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        until(lambda: shop.psql(SLEEPERS) == "2", "both of them at work", seconds=90)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) != 0
    assert shop.psql(LOCKS) == "0"
    states = "SELECT string_agg(DISTINCT state, ',') FROM inventory_migration.chunk"
    assert shop.psql(f"{STATE}; {states}") == "rolling_back|asked to\ndone,undone"
    shop.psql(AWAKE)
    undo(shop)
    assert shop.psql(LEFT) == ""


def test_walkers_that_meet_at_rows_of_the_application_pass_each_other(
    shop: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Each chunk has its records of the three companies in another order."""
    caplog.set_level(logging.INFO, "inventory_migration")
    shop.psql("CREATE TABLE tally AS SELECT id, 0 AS back FROM companies")
    meet = "UPDATE tally SET back = back + 1 WHERE id = OLD.company_id; PERFORM pg_sleep(0.02);"
    refusing(shop, meet)
    undo(shop, workers=3)
    assert shop.psql("SELECT sum(back) FROM tally") == "60"
    assert any("lock timeout, the rollback tries again" in r.message for r in caplog.records)


TARGETS: dict[str, dict[str, Any]] = {
    "location_column": {"shape": "location_column", "column": "location_id", "add": True},
    "allocation_json": {
        "shape": "allocation_json", "column": "at", "transfers": "moving", "add": True,
    },
    "stock_level": stage.LEVELS,
    "stock_level with a trigger": {**stage.LEVELS, "sync": True},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("shape", TARGETS)
def test_however_many_walk_the_same_comes_of_it(database: Database, shape: str) -> None:
    mapping = stage.mapping(target=TARGETS[shape])
    table = "levels" if shape.startswith("stock_level") else "stock_items"
    held = {"location_column": "location_id", "allocation_json": "at"}.get(shape, "on_hand")
    moved = {"allocation_json": """'{"1": 7}'"""}.get(shape, "3")
    key = "item_id" if table == "levels" else "id"
    found = []
    stage.shop(database, items=60)
    for workers in (1, 3):
        stage.migrate(database, mapping, start=Start(explicit=True))
        database.psql(
            "INSERT INTO locations (company_id, name) SELECT 1, 'Shelf' "
            "WHERE NOT EXISTS (SELECT FROM locations WHERE name = 'Shelf');"
            "UPDATE locations SET id = 3 WHERE name = 'Shelf' "
            "AND NOT EXISTS (SELECT FROM locations WHERE id = 3);"
            f"UPDATE {table} SET {held} = {moved} WHERE {key} = 31;"
            f"UPDATE {table} SET {key} = {key} WHERE {key} = 32;"
        )
        number = int(database.psql("SELECT max(migration_id) FROM inventory_migration.migration"))
        undo(database, mapping, workers=workers)
        listed = "SELECT key_text, kind, columns FROM inventory_migration.conflict"
        found.append(
            (
                undone(database, number)["records"],
                database.psql(f"{listed} WHERE migration_id = {number} ORDER BY position"),
                database.psql(f"SELECT count(*), min({key}) FROM {table} WHERE {held} IS NOT NULL"),
            )
        )
        database.psql(
            "DELETE FROM levels" if table == "levels" else f"UPDATE {table} SET {held} = NULL"
        )
    assert found[0] == found[1]
    assert found[0][0] == 59
    assert found[0][2] == "1|31"
