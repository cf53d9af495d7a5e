"""What a rollback does about each failure of the server: the same table as on the way there."""

from __future__ import annotations

import threading

import psycopg
import pytest

from inventory_migration import verbs
from inventory_migration.engine import ledger, plan, undo_walk
from inventory_migration.errors import RollbackHeld, RollbackStopped
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.sessions import until
from inventory_migration_tests.test_rollback import target, undo, undone

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
    undo(shop)
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
