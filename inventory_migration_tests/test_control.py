"""One process drives a target, and once a pause has returned nothing more commits."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from inventory_migration.database import create_engine
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import control, ledger, plan, summary, worker
from inventory_migration.engine.failures import sqlstate
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.plan import Start
from inventory_migration.errors import LockNotObtained, MigrationBusy, MigrationPaused
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database

TARGET = "public.stock_items.location_id"


@contextmanager
def during(work: Callable[[], Any]) -> Iterator[threading.Thread]:
    """Do something in a thread while the body runs; its failure is the test's."""
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(30)
    assert not thread.is_alive()
    if failed:
        raise failed[0]


def planned(database: Database, items: int = 30, **changes: Any) -> Migration:
    """A migration whose locations are there and whose chunks are still to come."""
    stage.shop(database, items=items)
    migration = stage.locations(database, stage.mapping(**changes))
    assert migration is not None
    return migration


def desired(database: Database, migration: Migration) -> str:
    with database.engine.connect() as connection:
        return control.desired_state(connection, migration.migration_id)


def state(database: Database) -> str:
    return database.psql("SELECT state FROM inventory_migration.migration")


def test_a_claim_is_exclusive_and_names_its_holder(database: Database) -> None:
    with control.Claim(database.engine) as ours, control.Claim(database.engine) as theirs:
        ours.take(TARGET)
        with pytest.raises(MigrationBusy) as caught:
            theirs.take(TARGET)
        assert caught.value.target == TARGET
        assert caught.value.retryable
        holder = database.psql(
            "SELECT format('process %s of %s, %s, since', pid, usename, application_name) "
            "FROM pg_stat_activity JOIN pg_locks USING (pid) "
            "WHERE locktype = 'advisory' AND datname = current_database()"
        )
        assert caught.value.holder.startswith(holder)
        assert not theirs.holds(TARGET)
        theirs.take("public.other.location_id")


def test_a_claim_may_be_taken_again_by_who_has_it(database: Database) -> None:
    with control.Claim(database.engine) as claim:
        claim.take(TARGET)
        claim.take(TARGET)
        claim.take("public.other.location_id")
        assert claim.holds(TARGET)
    assert not claim.holds(TARGET)


def test_a_claim_that_loses_its_session_tells_how_and_nothing_else(database: Database) -> None:
    def lose(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if "pg_try_advisory_lock" in statement:
            pid = connection.connection.driver_connection.info.backend_pid
            database.psql(f"SELECT pg_terminate_backend({pid}, 5000)")

    sa.event.listen(database.engine, "before_cursor_execute", lose)
    with pytest.raises(sa.exc.DBAPIError) as caught, control.Claim(database.engine) as claim:
        claim.take(TARGET)
    assert sqlstate(caught.value) in {"57P01", "08006"}


def test_a_claim_in_another_database_is_another_claim(
    database: Database, server: EmbeddedServer
) -> None:
    elsewhere = Database("postgres", server.url.replace("/inventory?", "/postgres?"), server)
    with control.Claim(database.engine) as ours, control.Claim(elsewhere.engine) as theirs:
        ours.take(TARGET)
        theirs.take(TARGET)
        assert theirs.holds(TARGET)
    elsewhere.engine.dispose()


def test_a_migration_is_being_worked_on_while_its_target_is_claimed_in_its_own_database(
    database: Database, server: EmbeddedServer
) -> None:
    planned(database)

    def working() -> bool:
        with database.engine.connect() as connection:
            (told,) = summary.list_migrations(connection)
            return bool(told["working"])

    elsewhere = Database("postgres", server.url.replace("/inventory?", "/postgres?"), server)
    with control.Claim(elsewhere.engine) as theirs:
        theirs.take(TARGET)
        assert not working()
    elsewhere.engine.dispose()
    with control.Claim(database.engine) as ours:
        ours.take(TARGET)
        assert working()
    assert not working()


def test_a_claim_that_was_given_up_can_be_taken_at_once(database: Database) -> None:
    for _ in range(60):
        with control.Claim(database.engine) as claim:
            claim.take(TARGET)
        assert not claim.holds(TARGET)


def test_a_claim_is_given_up_whatever_comes_between_unlocking_and_closing(
    database: Database,
) -> None:
    disturbed = create_engine(database.url)

    @sa.event.listens_for(disturbed, "before_cursor_execute")
    def interrupt(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "unlock" in statement:
            raise RuntimeError

    with pytest.raises(RuntimeError) as kept, control.Claim(disturbed) as claim:
        claim.take("public.stock_items.location_id")
    with control.Claim(database.engine) as other:
        other.take("public.stock_items.location_id", wait_seconds=5)
    assert kept


def test_a_claim_waits_for_as_long_as_it_is_told(database: Database) -> None:
    with control.Claim(database.engine) as ours, control.Claim(database.engine) as theirs:
        ours.take(TARGET)

        def give_up() -> None:
            time.sleep(0.3)
            ours.release()

        with during(give_up):
            theirs.take(TARGET, wait_seconds=10)
        assert theirs.holds(TARGET)


TERMINATE = (
    "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_locks "
    "WHERE locktype = 'advisory' "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def test_a_claim_ends_with_its_session(database: Database) -> None:
    with control.Claim(database.engine) as ours, control.Claim(database.engine) as theirs:
        ours.take(TARGET)
        assert database.psql(TERMINATE) == "1"
        theirs.take(TARGET)
        with pytest.raises(MigrationBusy):
            ours.take(TARGET)


def test_a_claim_whose_session_was_ended_is_taken_again_if_it_is_still_free(
    database: Database,
) -> None:
    with control.Claim(database.engine) as ours, control.Claim(database.engine) as theirs:
        ours.take(TARGET)
        ours.take("public.other.location_id")
        assert database.psql(TERMINATE) == "2"
        ours.take(TARGET)
        for target in (TARGET, "public.other.location_id"):
            with pytest.raises(MigrationBusy):
                theirs.take(target)


def test_a_claim_outlives_a_timeout_of_idle_sessions(database: Database) -> None:
    database.psql(f"ALTER DATABASE {database.name} SET idle_session_timeout = '200ms'")
    with control.Claim(database.engine) as ours, control.Claim(database.engine) as theirs:
        ours.take(TARGET)
        time.sleep(0.6)
        with pytest.raises(MigrationBusy):
            theirs.take(TARGET)


def test_what_is_desired_is_kept_with_who_and_why_and_survives_a_crash(database: Database) -> None:
    migration = planned(database)
    assert desired(database, migration) == "run"
    with database.engine.begin() as connection:
        assert connection.execute(sa.text("SHOW synchronous_commit")).scalar_one() == "off"
        control.desire(connection, migration.migration_id, "pause", reason="lunch")
        assert connection.execute(sa.text("SHOW synchronous_commit")).scalar_one() == "on"
    assert desired(database, migration) == "pause"
    assert (
        database.psql(
            "SELECT desired, reason, set_by LIKE '% by inventory-migration' "
            "FROM inventory_migration.control"
        )
        == "pause|lunch|t"
    )
    assert (
        database.psql(
            "SELECT kind, detail FROM inventory_migration.event ORDER BY event_id DESC LIMIT 1"
        )
        == 'desired_pause|{"reason": "lunch"}'
    )


def test_who_says_again_what_is_wanted_is_not_who_asked(database: Database) -> None:
    migration = planned(database)
    for person in ("ann", "bob"):
        engine = create_engine(database.url, on_behalf_of=person)
        with engine.begin() as connection:
            control.desire(connection, migration.migration_id, "pause", reason="lunch")
        engine.dispose()
    told = "SELECT set_by LIKE '%ann%' FROM inventory_migration.control"
    assert database.psql(told) == "t"
    noted = "SELECT count(*) FROM inventory_migration.event WHERE kind = 'desired_pause'"
    assert database.psql(noted) == "1"


def test_a_pause_waits_for_the_worker_in_its_transaction_and_new_ones_read_it(
    database: Database,
) -> None:
    migration = planned(database)
    number = migration.migration_id
    paused = threading.Event()

    def pause() -> None:
        control.pause(database.engine, number, reason="lunch")
        paused.set()

    with database.engine.connect() as worker:
        assert control.enter(worker, number) == "run"
        with during(pause):
            assert not paused.wait(0.5)
            began = time.monotonic()
            with database.engine.connect() as newcomer:
                assert control.enter(newcomer, number) == "pause"
                newcomer.rollback()
            assert time.monotonic() - began < 0.4
            assert not paused.is_set()
            worker.commit()
            assert paused.wait(5)
    assert state(database) == "paused"


def test_a_worker_that_waited_for_the_barrier_reads_what_was_decided_behind_it(
    database: Database,
) -> None:
    migration = planned(database)
    number = migration.migration_id
    found: list[str] = []

    def enter() -> None:
        with database.engine.connect() as worker:
            found.append(control.enter(worker, number))

    with control.exclusive(database.engine, number) as connection:
        thread = threading.Thread(target=enter)
        thread.start()
        time.sleep(0.3)
        assert found == []
        control.desire(connection, number, "pause")
    thread.join(10)
    assert found == ["pause"]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_b1_no_default_of_a_role_lets_a_worker_read_what_was_desired_before(
    database: Database, level: str
) -> None:
    migration = planned(database)
    number = migration.migration_id
    database.psql(
        f"""
        ALTER DATABASE {database.name} SET default_transaction_isolation = '{level}';
        ALTER DATABASE {database.name} SET default_transaction_read_only = on;
        ALTER DATABASE {database.name} SET default_transaction_deferrable = on;
        """
    )
    with database.engine.connect() as worker:
        # The earlier query that made a worker under REPEATABLE READ see an old moment.
        worker.execute(sa.text("SELECT count(*) FROM inventory_migration.control"))
        control.pause(database.engine, number, reason="lunch")
        assert control.enter(worker, number) == "pause"


def test_the_barrier_is_not_starved_by_workers_that_come_and_go(database: Database) -> None:
    migration = planned(database)
    number = migration.migration_id
    turns: list[float] = []

    def work(_: int) -> None:
        while True:
            with database.engine.connect() as worker:
                if control.enter(worker, number) != "run":
                    return
                time.sleep(0.02)
                turns.append(time.monotonic())
                worker.commit()

    with ThreadPoolExecutor(6) as pool:
        results = pool.map(work, range(6))
        time.sleep(0.5)
        began = time.monotonic()
        control.pause(database.engine, number, reason="lunch")
        returned = time.monotonic()
        list(results)
    assert len(turns) > 12
    assert returned - began < 5
    assert max(turns) < returned + 0.01


def test_once_a_pause_has_returned_no_chunk_commits(database: Database) -> None:
    changes = {"chunk": {"rows": 1, "target_ms": 10}}
    migration = planned(database, items=1500, **changes)
    done = "SELECT count(*) FROM inventory_migration.chunk WHERE state = 'done'"

    def transform() -> None:
        with pytest.raises(MigrationPaused, match="lunch"):
            stage.transform(database, stage.mapping(**changes), workers=4)

    with during(transform):
        deadline = time.monotonic() + 90
        while database.psql(done) == "0":
            assert time.monotonic() < deadline
        control.pause(database.engine, migration.migration_id, reason="lunch")
        at_once = int(database.psql(done))
        time.sleep(0.5)
        assert int(database.psql(done)) == at_once
    assert 0 < at_once < 1500
    assert state(database) == "paused"
    stage.transform(database, stage.mapping(**changes), start=Start(resume=True))
    assert stage.close(database, stage.mapping(**changes)).proof.passed


def test_once_a_pause_has_returned_no_failure_is_noted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    migration = planned(database)
    database.psql(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'unlucky' USING ERRCODE = '40001'; END $$; "
        "CREATE TRIGGER fail BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION fail()"
    )
    failed, returned = threading.Event(), threading.Event()
    note = worker._note_attempt

    def late(*arguments: Any) -> int:
        failed.set()
        assert returned.wait(60)
        return note(*arguments)

    monkeypatch.setattr(worker, "_note_attempt", late)

    def transform() -> None:
        with pytest.raises(MigrationPaused, match="lunch"):
            stage.transform(database)

    with during(transform):
        assert failed.wait(60)
        control.pause(database.engine, migration.migration_id, reason="lunch")
        returned.set()
    assert database.psql("SELECT sum(attempts) FROM inventory_migration.chunk") == "0"
    database.psql("DROP TRIGGER fail ON stock_items")
    stage.transform(database, start=Start(resume=True))
    assert stage.close(database).proof.passed


def test_a_pause_that_comes_before_the_work_begins_is_heeded(database: Database) -> None:
    migration = planned(database)
    control.pause(database.engine, migration.migration_id, reason="lunch")
    assert state(database) == "paused"
    with pytest.raises(MigrationPaused, match="lunch"):
        stage.transform(database)
    assert "snapshot" not in database.psql(
        "SELECT string_agg(relname, ',') FROM pg_class "
        "WHERE relnamespace = 'inventory_migration'::regnamespace AND relkind = 'r'"
    )


def test_a_stop_says_what_is_desired_and_returns_behind_the_barrier(database: Database) -> None:
    migration = planned(database)
    control.stop(database.engine, migration.migration_id, "rollback", reason="threshold")
    assert desired(database, migration) == "rollback"
    assert state(database) == "planned"


def test_the_barrier_gives_up_on_a_worker_that_does_not_end(database: Database) -> None:
    migration = planned(database)
    with database.engine.connect() as worker:
        control.enter(worker, migration.migration_id)
        began = time.monotonic()
        with (
            pytest.raises(LockNotObtained, match="wait for the workers of migration 1") as caught,
            control.exclusive(database.engine, migration.migration_id, seconds=0.6),
        ):
            pytest.fail("entered beside a worker")
        assert 0.6 <= time.monotonic() - began < 5
        assert caught.value.retryable
    with control.exclusive(database.engine, migration.migration_id, seconds=0.6):
        pass


def test_what_is_written_behind_the_barrier_is_written_whole_or_not_at_all(
    database: Database,
) -> None:
    migration = planned(database)

    def fail() -> None:
        with control.exclusive(database.engine, migration.migration_id) as connection:
            ledger.set_state(connection, migration.migration_id, "running")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert state(database) == "planned"
    with control.exclusive(database.engine, migration.migration_id) as connection:
        ledger.set_state(connection, migration.migration_id, "running")
    assert state(database) == "running"


def test_no_timeout_of_a_role_ends_what_goes_on_behind_the_barrier(database: Database) -> None:
    migration = planned(database)
    database.psql(
        f"""
        ALTER DATABASE {database.name} SET statement_timeout = '200ms';
        ALTER DATABASE {database.name} SET lock_timeout = '100ms';
        """
    )
    with control.exclusive(database.engine, migration.migration_id) as connection:
        connection.execute(sa.text("SELECT pg_sleep(0.5)"))


class Interrupted(BaseException):
    """What an orchestrator raises in the main thread."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Interrupted])
def test_an_interrupt_cancels_at_the_server_what_is_under_way(
    database: Database, kind: type[BaseException]
) -> None:
    migration = planned(database)

    def interrupt(_signal: int, _frame: object) -> None:
        raise kind

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.4)
        began = time.monotonic()
        with (
            pytest.raises(kind),
            control.exclusive(database.engine, migration.migration_id) as connection,
        ):
            connection.execute(sa.text("SELECT pg_sleep(60)"))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 5
    with control.exclusive(database.engine, migration.migration_id, seconds=5):
        pass
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%' "
    assert database.psql(f"{asleep} AND state = 'active'") == "0"


def test_a_migration_that_another_process_drives_is_not_driven_twice(database: Database) -> None:
    planned(database)
    with control.Claim(database.engine) as claim:
        claim.take(plan.read_mapping(database.engine, stage.MAPPING).target)
        with pytest.raises(MigrationBusy):
            stage.locations(database)
        with pytest.raises(MigrationBusy):
            stage.transform(database)
    assert stage.transform(database) is not None


@pytest.mark.parametrize(
    ("inherited", "durable"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")]
)
def test_b4_a_pause_is_durable_and_never_less_than_the_role_asks_for(
    database: Database, inherited: str, durable: str
) -> None:
    with database.engine.begin() as connection:
        connection.execute(sa.text(f"SET synchronous_commit = {inherited}"))
        control.durably(connection)
        assert connection.execute(sa.text("SHOW synchronous_commit")).scalar_one() == durable
