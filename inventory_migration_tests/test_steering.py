"""Pausing and ending a migration: what stands still afterwards, and what may follow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from inventory_migration import steering, verbs
from inventory_migration.engine import checkpoints, control, guard, ledger, phases, plan, reconcile
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.plan import Start
from inventory_migration.engine.snapshot import write_snapshot
from inventory_migration.engine.sweep import sweep
from inventory_migration.errors import MigrationAborted, MigrationPaused, StartRefused
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.test_rollback import undo

pytestmark = pytest.mark.one_server

PHASES = stage.mapping(phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}])
STATE = "SELECT state FROM inventory_migration.migration ORDER BY migration_id DESC LIMIT 1"
DONE = "SELECT count(*) FROM inventory_migration.chunk WHERE state = 'done'"
LOCATED = "SELECT count(*) FROM stock_items WHERE location_id IS NOT NULL"
EVENTS = "SELECT string_agg(kind, ' ' ORDER BY event_id) FROM inventory_migration.event"


def half_done(database: Database) -> None:
    """A migration that has paused after its pilot."""
    stage.shop(database)
    stage.locations(database, PHASES)
    with pytest.raises(MigrationPaused):
        stage.transform(database, PHASES, stop_after="pilot")


def expand(database: Database, migration: Migration) -> None:
    plan.schema_change.execute_briefly(
        database.engine,
        ["ALTER TABLE stock_items ADD COLUMN late int"],
        what="expand",
        migration_id=migration.migration_id,
    )


def give_locations(database: Database, _: Migration) -> None:
    stage.locations(database)


def write(database: Database, migration: Migration) -> None:
    resolved = plan.read_mapping(database.engine, stage.MAPPING)
    write_snapshot(database.engine, resolved, migration)


def put_guard_on(database: Database, migration: Migration) -> None:
    resolved = plan.read_mapping(database.engine, stage.mapping(guard=True))
    guard.install(database.engine, resolved, migration)


def set_running(database: Database, migration: Migration) -> None:
    phases.set_running(database.engine, migration)


def late_arrivals(database: Database, migration: Migration) -> None:
    resolved = plan.read_mapping(database.engine, stage.MAPPING)
    sweep(database.engine, resolved, migration)


def checkpoint(database: Database, migration: Migration) -> None:
    resolved = plan.read_mapping(database.engine, stage.MAPPING)
    checkpoints.reconcile_phase(database.engine, resolved, migration, 1)


def close(database: Database, migration: Migration) -> None:
    resolved = plan.read_mapping(database.engine, stage.MAPPING)
    reconcile._close(database.engine, resolved, migration, Start())


@pytest.mark.parametrize(
    "step",
    [expand, put_guard_on, give_locations, write, set_running, late_arrivals, checkpoint, close],
    ids=lambda step: step.__name__,
)
def test_no_step_commits_once_a_pause_has_returned(
    database: Database, step: Callable[[Database, Migration], None]
) -> None:
    stage.shop(database)
    migration = stage.locations(database)
    assert migration is not None
    if step in (late_arrivals, checkpoint, close):
        stage.transform(database)
        database.psql("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'LATE', 1)")
    # Where the process stands that has read `run` a moment ago.
    control.pause(database.engine, migration.migration_id, reason="lunch")
    before = database.psql(f"{EVENTS}; {STATE}; {LOCATED}")
    with pytest.raises(MigrationPaused, match="lunch"):
        step(database, migration)
    assert database.psql(f"{EVENTS}; {STATE}; {LOCATED}") == before


@pytest.mark.parametrize("undo_it", [False, True], ids=["verified", "rolled_back"])
def test_a_pause_that_comes_when_all_is_over_leaves_nothing_that_must_be_lifted(
    database: Database, undo_it: bool
) -> None:
    stage.shop(database)
    stage.migrate(database)
    if undo_it:
        undo(database)
    desired = "SELECT desired FROM inventory_migration.control"
    before = database.psql(f"{STATE}; {desired}")
    # Where the process stands that has read `running` a moment ago.
    control.pause(database.engine, 1, reason="lunch")
    assert database.psql(f"{STATE}; {desired}") == before


def test_resume_goes_on_with_the_same_migration(database: Database, target: verbs.Target) -> None:
    half_done(database)
    assert steering.pause(target, "shop")["changed"] is False
    stage.transform(database, PHASES, start=Start(resume=True))
    assert stage.close(database, PHASES).proof.passed
    assert database.psql("SELECT count(*) FROM inventory_migration.migration") == "1"


@pytest.mark.parametrize("run_id", [None, "a-dagster-run"])
def test_a_resume_lifts_no_pause_that_comes_after_it(
    database: Database, run_id: str | None
) -> None:
    """Its steps are processes of their own in Dagster: the run alone is what they share."""
    stage.shop(database)
    stage.locations(database)
    control.pause(database.engine, 1, reason="lunch")
    one = Start(resume=True, run_id=run_id)
    stage.locations(database, start=one)
    control.pause(database.engine, 1, reason="fire drill")
    before = database.psql(f"{STATE}; {LOCATED}")
    for start in (one, Start(resume=True, run_id=run_id, command=one.command)):
        with pytest.raises(MigrationPaused, match="fire drill"):
            stage.transform(database, start=start)
    assert database.psql(f"{STATE}; {LOCATED}") == before
    assert database.psql("SELECT desired FROM inventory_migration.control") == "pause"
    another = Start(resume=True, run_id=run_id and "another")
    stage.locations(database, start=another)
    # Its state is what it was until somebody works: the later steps of one start go on.
    assert database.psql(STATE) == "paused"
    stage.transform(database, start=another)
    assert stage.close(database, start=another).proof.passed


def test_an_abort_leaves_what_was_moved_and_only_an_explicit_run_follows(
    database: Database, target: verbs.Target
) -> None:
    half_done(database)
    found = steering.abort(target, "shop", reason="wrong mapping")
    assert (found["changed"], found["state"], found["reason"]) == (True, "aborted", "wrong mapping")
    assert database.psql(LOCATED) == "10"
    assert database.psql(EVENTS).endswith("desired_abort state_aborted")
    for start in (Start(), Start(resume=True), Start(run_id="schedule")):
        with pytest.raises(StartRefused, match="only an explicit run follows"):
            stage.locations(database, PHASES, start)
    assert stage.migrate(database, PHASES).proof.passed
    assert database.psql(LOCATED) == "30"
    assert stage.outcomes(database, 2) == {"already": 10, "migrated": 20}


def test_what_an_aborted_migration_moved_can_be_taken_back(
    database: Database, target: verbs.Target
) -> None:
    half_done(database)
    steering.abort(target, "shop")
    assert database.psql(LOCATED) == "10"
    assert verbs.roll_back(target, PHASES)["state"] == "rolled_back"
    assert (database.psql(LOCATED), database.psql("SELECT count(*) FROM locations")) == ("0", "0")


def test_an_abort_stops_who_works_and_nothing_commits_afterwards(
    database: Database, target: verbs.Target
) -> None:
    slow = stage.mapping(chunk={"rows": 1, "target_ms": 10})
    stage.shop(database, items=800)
    stage.locations(database, slow)
    met: list[BaseException] = []

    def transform() -> None:
        try:
            stage.transform(database, slow, workers=4)
        except BaseException as error:
            met.append(error)

    thread = threading.Thread(target=transform)
    thread.start()
    deadline = time.monotonic() + 90
    while database.psql(DONE) == "0":
        assert time.monotonic() < deadline
    steering.abort(target, "shop", reason="enough")
    at_once = database.psql(DONE)
    thread.join(30)
    assert database.psql(DONE) == at_once
    assert int(at_once) < 800
    assert [type(error) for error in met] == [MigrationAborted]
    assert "rollback shop" in str(met[0])
    assert database.psql(STATE) == "aborted"


def test_an_abort_takes_the_triggers_off(database: Database, target: verbs.Target) -> None:
    synced = stage.mapping(
        target={
            "shape": "stock_level",
            "table": "levels",
            "record": {"item_id": "id"},
            "location": "location_id",
            "on_hand": "on_hand",
            "reserved": "reserved",
            "sync": True,
            "add": True,
        }
    )
    stage.shop(database)
    stage.locations(database, synced)
    ours = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'zz_sync_shop%'"
    assert database.psql(ours) == "2"
    steering.abort(target, "shop")
    assert database.psql(ours) == "0"


def test_where_nothing_is_active_there_is_nothing_to_abort(
    database: Database, target: verbs.Target
) -> None:
    assert steering.abort(target, "shop")["changed"] is False
    stage.shop(database)
    stage.migrate(database)
    found = steering.abort(target, "shop")
    assert (found["changed"], found["state"]) == (False, "verified")


@pytest.mark.parametrize("ask", [steering.pause, steering.abort])
def test_a_rollback_under_way_is_neither_paused_nor_aborted(
    database: Database, target: verbs.Target, ask: Callable[[verbs.Target, str], object]
) -> None:
    half_done(database)
    with database.engine.begin() as connection:
        ledger.set_state(connection, 1, "rolling_back")
    with pytest.raises(StartRefused, match=r"is being rolled back and cannot be .*rollback shop"):
        ask(target, "shop")
    assert database.psql(STATE) == "rolling_back"
