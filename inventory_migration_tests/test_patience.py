"""What befalls a statement between the chunks passes, as it does within them."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from inventory_migration.engine import control, patience, phases
from inventory_migration.engine.patience import backoff, patiently
from inventory_migration.errors import MigrationHeld, MigrationPaused, RollbackHeld
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.sessions import failing, until
from inventory_migration_tests.test_rollback import undo

STATE = "SELECT state FROM inventory_migration.migration"
TRIES = stage.MAPPING.thresholds.failed_attempts
PASSING = ["40001", "40P01", "55P03", "57014"]

STEPS = {
    "the snapshot": 'CREATE TABLE "inventory_migration"."snapshot_1" AS',
    "the state": "server_started_at=pg_postmaster_start_time",
    "the phases": "WHERE inventory_migration.phase.migration_id",
    "the progress": "sum(inventory_migration.chunk.records",
    "the thresholds": "GROUPING SETS ((), (p.name))",
    "a phase that is reconciled": "SET reconciled_at=",
    "the sweep": "max(inventory_migration.chunk.number)",
    "the verdict": "units_changed=",
}
"""What the main thread does beside its workers, by a piece of its statement."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for next to nothing."""
    monkeypatch.setattr(patience, "backoff", lambda _attempts: 0.0)


def test_the_first_wait_is_short_and_none_is_longer_than_two_seconds() -> None:
    assert all(0.02 <= backoff(1) <= 0.04 for _ in range(50))
    assert all(1 <= backoff(50) <= 2 for _ in range(50))


@pytest.mark.parametrize("state", PASSING)
def test_a_step_is_taken_again_until_it_goes_well(database: Database, state: str) -> None:
    def step() -> int:
        with database.engine.begin() as connection:
            return connection.execute(sa.text("SELECT 42")).scalar_one()

    with failing(database.engine, "SELECT 42", state, times=TRIES) as hits:
        assert patiently(step, tries=TRIES) == 42
    assert hits == [state] * TRIES
    with (
        failing(database.engine, "SELECT 42", state, times=TRIES + 1) as hits,
        pytest.raises(sa.exc.DBAPIError),
    ):
        patiently(step, tries=TRIES)
    assert len(hits) == TRIES + 1


@pytest.mark.parametrize("state", ["23505", "53100", "08006", "57P01", "42501", "XX000"])
def test_a_step_is_not_taken_again_where_that_mends_nothing(database: Database, state: str) -> None:
    def step() -> None:
        with database.engine.begin() as connection:
            connection.execute(sa.text("SELECT 42"))

    with (
        failing(database.engine, "SELECT 42", state, times=2) as hits,
        pytest.raises(sa.exc.DBAPIError),
    ):
        patiently(step, tries=TRIES)
    assert hits == [state]


@pytest.mark.slow
@pytest.mark.parametrize("state", ["57014", "55P03"])
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_cancel_or_a_lock_between_the_chunks_stops_nothing(
    database: Database, step: str, state: str
) -> None:
    # Without an answer from the rows themselves, the sweep has to look.
    skip = {"deleted": {"sql": "COALESCE(s.deleted_at) IS NOT NULL"}}
    mapping = stage.mapping(source={**stage.DEFINITION["source"], "skip": skip})
    stage.shop(database)
    stage.locations(database, mapping)
    with failing(database.engine, step, state, times=2) as hits:
        stage.transform(database, mapping)
        assert stage.close(database, mapping).proof.passed
    assert hits == [state] * 2
    assert database.psql(STATE) == "verified"
    assert stage.outcomes(database) == {"migrated": 30}


def test_what_does_not_pass_holds_the_migration_and_it_can_be_resumed(database: Database) -> None:
    stage.shop(database)
    stage.locations(database)
    with (
        failing(database.engine, "SET reconciled_at=", "57014", times=TRIES + 1),
        pytest.raises(MigrationHeld, match=r"57014.*'inventory-migration resume shop' goes on"),
    ):
        stage.transform(database)
    assert database.psql(STATE) == "held"
    stage.transform(database, start=stage.Start(resume=True))
    assert stage.close(database).proof.passed


def test_a_cancel_while_a_failure_is_written_down_stops_nothing(database: Database) -> None:
    stage.shop(database)
    stage.locations(database)
    with (
        failing(database.engine, "classified", "55P03", times=1) as failed,
        failing(database.engine, "SET attempts=", "57014", times=1) as cancelled,
    ):
        stage.transform(database)
    assert (failed, cancelled) == (["55P03"], ["57014"])
    assert stage.close(database).proof.passed


def test_progress_that_cannot_be_read_stops_nobody(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger=phases.__name__)
    monkeypatch.setattr(phases, "PROGRESS_SECONDS", 0.0)
    stage.shop(database, items=200)
    stage.locations(database)
    with failing(
        database.engine, "sum(inventory_migration.chunk.records", "53200", times=1, after=1
    ):
        stage.transform(database)
    said = [line for line in caplog.messages if "records, " in line or "progress is not" in line]
    assert said[0].startswith("progress is not known: ")
    assert said[-1].startswith("phase rest: ")
    assert stage.close(database).proof.passed


def test_a_forced_pause_between_two_chunks_leaves_it_paused(database: Database) -> None:
    stage.shop(database)
    stage.locations(database)
    ended: list[BaseException] = []

    def work() -> None:
        try:
            stage.transform(database)
        except BaseException as error:
            ended.append(error)

    # The step that reconciles the first phase takes long, and the pause does not wait for it.
    with failing(database.engine, "SET reconciled_at=", "slow", times=1) as hits:
        thread = threading.Thread(target=work)
        thread.start()
        until(lambda: hits, "the step that is to be cancelled")
        control.pause(database.engine, 1, reason="lunch", force=True)
        thread.join(20)
    assert [type(error) for error in ended] == [MigrationPaused]
    assert database.psql(STATE) == "paused"


@pytest.mark.parametrize(
    "step",
    ["SELECT migration_id FROM", "INSERT INTO inventory_migration.event", "migration SET state ="],
)
def test_a_cancel_beside_the_chunks_stops_no_rollback(database: Database, step: str) -> None:
    stage.shop(database)
    stage.migrate(database)
    with failing(database.engine, step, "57014", times=3) as hits:
        undo(database)
    assert len(hits) == 3
    assert database.psql(STATE) == "rolled_back"
    assert database.psql("SELECT count(location_id) FROM stock_items") == "0"


def test_a_rollback_that_is_cancelled_again_and_again_is_held_and_goes_on(
    database: Database,
) -> None:
    stage.shop(database)
    stage.migrate(database)
    with (
        failing(database.engine, "INSERT INTO inventory_migration.event", "57014", times=60),
        pytest.raises(RollbackHeld, match=r"57014.*'inventory-migration rollback shop'"),
    ):
        undo(database)
    undo(database)
    assert database.psql(STATE) == "rolled_back"
