"""Who is at work on a migration, and how a pause makes them stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from inventory_migration.database import create_engine
from inventory_migration.engine import busy, control
from inventory_migration.engine.failures import sqlstate
from inventory_migration.errors import PrivilegeMissing, StillBusy
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.one_server

STATE = "SELECT state FROM inventory_migration.migration"
DESIRED = "SELECT desired FROM inventory_migration.control"


@pytest.fixture
def number(database: Database) -> int:
    """The id of a planned migration."""
    stage.shop(database)
    migration = stage.locations(database)
    assert migration is not None
    return migration.migration_id


@contextmanager
def sleeping(database: Database, number: int) -> Iterator[list[BaseException]]:
    """A worker in the middle of a long statement; yields what it met."""
    met: list[BaseException] = []
    begun = threading.Event()

    def work() -> None:
        try:
            with database.engine.connect() as worker:
                control.enter(worker, number)
                begun.set()
                worker.execute(sa.text("SELECT pg_sleep(60)"))
        except BaseException as error:
            met.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(10)
    yield met
    thread.join(20)
    assert not thread.is_alive()


def test_a_transaction_that_works_is_seen_until_it_ends(database: Database, number: int) -> None:
    with database.engine.connect() as other:
        assert busy.working(other, number) == []
        with database.engine.connect() as worker:
            control.enter(worker, number)
            [found] = busy.working(other, number)
            assert found.pid == worker.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
            assert found.state == "idle in transaction"
            assert busy.working(other, number + 1) == []
            assert busy.working(worker, number) == []
            worker.rollback()
        assert busy.working(other, number) == []


def test_what_sweeps_plans_and_finalizes_is_seen_too(database: Database, number: int) -> None:
    with (
        control.exclusive(database.engine, number),
        database.engine.connect() as other,
    ):
        assert len(busy.working(other, number)) == 1


def test_a_pause_that_is_not_obtained_names_who_is_busy_and_stands(
    database: Database, number: int
) -> None:
    with database.engine.connect() as worker:
        control.enter(worker, number)
        pid = worker.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        told: list[str] = []
        with pytest.raises(StillBusy, match=r"is pausing: nothing new begins") as caught:
            control.pause(database.engine, number, reason="lunch", seconds=1.5, tell=told.append)
        assert f"process {pid} of " in str(caught.value)
        assert "idle in transaction for " in str(caught.value)
        assert "'inventory-migration pause shop --force'" in str(caught.value)
        assert [line.startswith(f"waiting for process {pid} of ") for line in told] == [True]
        # Who comes now reads it, and who is busy may still commit.
        assert (database.psql(STATE), database.psql(DESIRED)) == ("planned", "pause")
        worker.commit()
    control.pause(database.engine, number, reason="lunch", seconds=5)
    assert database.psql(STATE) == "paused"


def test_force_cancels_the_statement_under_way(database: Database, number: int) -> None:
    with sleeping(database, number) as met:
        control.pause(database.engine, number, reason="lunch", force=True, seconds=20)
        assert database.psql(STATE) == "paused"
    assert [sqlstate(error) for error in met] == ["57014"]


def test_force_ends_a_session_whose_client_does_not_answer(database: Database, number: int) -> None:
    with database.engine.connect() as worker:
        control.enter(worker, number)
        control.pause(database.engine, number, reason="lunch", force=True, seconds=20)
        assert database.psql(STATE) == "paused"
        with pytest.raises(sa.exc.DBAPIError) as caught:
            worker.execute(sa.text("SELECT 1"))
        assert sqlstate(caught.value) in {"57P01", "08006"}


def test_who_may_not_end_a_session_is_told_so(database: Database, number: int) -> None:
    role = f"{database.name}_watcher"
    database.psql(f"""
        CREATE ROLE {role} LOGIN;
        GRANT USAGE ON SCHEMA inventory_migration TO {role};
        GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA inventory_migration TO {role};
    """)
    watcher = create_engine(database.url.replace("postgres@", f"{role}@"))
    assert str(watcher.get_execution_options()["role"]) == role
    try:
        with database.engine.connect() as worker:
            control.enter(worker, number)
            with watcher.connect() as other:
                # Any role sees that somebody works; what they do only who may.
                [found] = busy.working(other, number)
                assert found.state == "busy"
            with pytest.raises(PrivilegeMissing, match="it may not end process"):
                control.pause(watcher, number, reason="lunch", force=True, seconds=5)
    finally:
        watcher.dispose()
        database.psql(f"DROP OWNED BY {role}; DROP ROLE {role}")
