"""The loop under pressure: pace, several workers, pauses, kills and lost connections."""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import control, ledger, plan
from inventory_migration.engine.chunk import ChunkStatements, Claimed
from inventory_migration.engine.crew import Crew
from inventory_migration.engine.pacing import Pacing, Turn
from inventory_migration.engine.plan import Start
from inventory_migration.engine.snapshot import write_snapshot
from inventory_migration.engine.staffing import fitting_workers, usual_workers
from inventory_migration.engine.worker import work_phase
from inventory_migration.errors import MigrationHeld, MigrationPaused
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.sessions import until
from inventory_migration_tests.stage import MAPPING

pytestmark = pytest.mark.one_server

SLOW = """
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_sleep(0.02); RETURN NEW;
    END $$;
    CREATE TRIGGER slow BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION slow();
"""


def test_without_a_number_as_many_work_as_the_server_has_cores(database: Database) -> None:
    stage.shop(database, companies=1, items=200)
    database.psql(SLOW)
    stage.locations(database)
    phase = threading.Thread(target=stage.transform, args=(database,), kwargs={"workers": None})
    phase.start()
    asleep = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event = 'PgSleep'
    """
    until(lambda: database.psql(asleep) == str(usual_workers(database.engine)), "all at work")
    database.psql("CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
                  "'BEGIN RETURN NEW; END'")  # fmt: skip
    phase.join(60)
    assert stage.outcomes(database) == {"migrated": 200}


@pytest.mark.parametrize(
    ("cores", "connections", "workers"),
    [
        (1, 100, 2), (2, 100, 2), (6, 100, 6), (64, 100, 8), (None, 100, 4),
        (8, 30, 3), (None, 20, 2), (2, 5, 1),
    ],
)  # fmt: skip
def test_workers_fit_the_servers_cores_and_its_connections(
    cores: int | None, connections: int, workers: int
) -> None:
    assert fitting_workers(cores, connections) == workers


@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_takes_each_record_once(database: Database, workers: int) -> None:
    stage.shop(database, companies=7, items=500)
    stage.locations(database)
    stage.transform(database, workers=workers)
    assert stage.outcomes(database) == {"migrated": 500}
    assert database.psql("SELECT sum(migrated) FROM inventory_migration.chunk") == "500"
    assert stage.close(database).proof.differences == []


def test_a_phase_is_not_at_its_end_while_somebody_holds_its_last_chunk(database: Database) -> None:
    stage.shop(database, companies=1, items=5)
    migration = stage.locations(database)
    assert migration is not None
    resolved = plan.read_mapping(database.engine, MAPPING)
    write_snapshot(database.engine, resolved, migration)
    pacing = Pacing(database.engine, MAPPING, migration, Start())
    with database.engine.connect() as other:
        assert ChunkStatements(resolved, migration).claim(other, 1, 1) == Claimed([1])
        phase = threading.Thread(
            target=work_phase,
            args=(database.engine, resolved, migration, 1, pacing),
            kwargs={"workers": 2},
            daemon=True,
        )
        phase.start()
        phase.join(1)
        assert phase.is_alive()
    phase.join(20)
    assert not phase.is_alive()
    assert stage.outcomes(database) == {"migrated": 5}


class Noting(Pacing):
    """A pacing that keeps what became of each turn."""

    turns: list[Turn]

    def finish(self, turn: Turn, stop: threading.Event) -> None:
        """Keep it, and go on."""
        self.turns = [*getattr(self, "turns", []), turn]
        super().finish(turn, stop)


def test_what_transactions_take_is_measured_and_a_lock_that_was_not_had_takes_half(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "inventory_migration")
    stage.shop(database, companies=1, items=150)
    migration = stage.locations(database)
    assert migration is not None
    resolved = plan.read_mapping(database.engine, MAPPING)
    write_snapshot(database.engine, resolved, migration)
    pacing = Noting(database.engine, MAPPING, migration, Start())
    with database.engine.connect() as seller:
        seller.execute(sa.text("SELECT FROM stock_items WHERE id = 100 FOR UPDATE"))
        phase = threading.Thread(
            target=work_phase,
            args=(database.engine, resolved, migration, 1, pacing),
            kwargs={"workers": 1},
        )
        phase.start()
        refused = "SELECT count(*) > 0 FROM inventory_migration.chunk WHERE attempts > 1"
        until(lambda: database.psql(refused) == "t", "a chunk that was refused twice")
    phase.join(20)
    assert stage.outcomes(database) == {"migrated": 150}
    done = [turn for turn in pacing.turns if turn.done]
    assert sum(turn.done for turn in done) == 30
    assert sum(turn.rows for turn in done) == 150
    tried = int(database.psql("SELECT count(*) FROM inventory_migration.chunk WHERE attempts > 0"))
    assert [turn.done for turn in done if turn.alone] == [1] * tried
    assert all(0 <= turn.locking < turn.seconds for turn in done)
    assert all(turn.wal_bytes > 100 * turn.rows for turn in done)
    failed = [turn for turn in pacing.turns if turn.failed]
    assert "lock timeout" in (failed[0].failed or "")
    told = [r.message for r in caplog.records if r.message.startswith("a transaction takes")]
    assert told[0].startswith("a transaction takes 2 chunks, and no longer 1: a chunk takes 0.")
    assert any("no longer" in line and "lock timeout" in line for line in told)


COUNTED = ("records", "migrated", "already", "skipped", "quarantined", "gone")


def chunks_told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The lines about chunks that were done, by the number of the chunk."""
    told = [record for record in caplog.records if " done in " in record.message]
    return sorted(told, key=lambda record: vars(record)["chunk"])


def test_each_chunk_says_what_became_of_its_records(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "inventory_migration")
    stage.shop(database, companies=1, items=20)
    database.psql(
        "UPDATE stock_items SET quantity = NULL WHERE id = 2;"
        "UPDATE stock_items SET deleted_at = now() WHERE id IN (3, 4);"
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.id IN (7, 8) THEN RAISE EXCEPTION 'frozen'; END IF; RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION refuse();
        """
    )
    lenient = stage.mapping(thresholds={"action": "continue"})
    migration = stage.locations(database, lenient)
    assert migration is not None
    resolved = plan.read_mapping(database.engine, lenient)
    write_snapshot(database.engine, resolved, migration)
    database.psql(
        "DELETE FROM stock_items WHERE id BETWEEN 11 AND 15;"
        "ALTER TABLE stock_items DISABLE TRIGGER refuse;"
        "UPDATE stock_items SET location_id = (SELECT id FROM locations) WHERE id = 16;"
        "ALTER TABLE stock_items ENABLE TRIGGER refuse"
    )
    stage.transform(database, lenient)
    told = chunks_told(caplog)
    assert [re.sub(r"in \d+\.\d{3} s( for \d chunks)?:", "in N s:", r.message) for r in told] == [
        "chunk 1 done in N s: 2 migrated, 2 skipped, 1 quarantined",
        "chunk 2 done in N s: 3 migrated, 2 quarantined",
        "chunk 3 done in N s: 5 gone",
        "chunk 4 done in N s: 4 migrated, 1 already",
    ]
    names = ("chunk", "rows_total", *(f"rows_{name}" for name in COUNTED[1:]))
    assert ["|".join(str(vars(r)[name]) for name in names) for r in told] == database.psql(
        f"SELECT number, {', '.join(COUNTED)} FROM inventory_migration.chunk ORDER BY 1"
    ).splitlines()
    assert {vars(record)["migration_id"] for record in told} == {1}


def test_chunks_that_share_a_transaction_have_a_line_each(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "inventory_migration")
    stage.shop(database, companies=2, items=100)
    patient = stage.mapping(chunk={"rows": 2, "target_ms": 60_000})
    stage.locations(database, patient)
    stage.transform(database, patient, workers=1)
    told = chunks_told(caplog)
    assert [vars(record)["chunk"] for record in told] == list(range(1, 51))
    assert {vars(record)["rows_migrated"] for record in told} == {2}
    shared = [
        int(match[1]) if (match := re.search(r" s for (\d+) chunks: ", record.message)) else 1
        for record in told
    ]
    assert max(shared) > 1
    assert [str(number) for number in shared] == database.psql(
        "SELECT count(*) OVER (PARTITION BY xid) FROM inventory_migration.chunk ORDER BY number"
    ).splitlines()


def test_when_pause_returns_nothing_more_commits(database: Database) -> None:
    stage.shop(database, items=200)
    stage.locations(database)
    database.psql(SLOW)
    paused: list[str] = []

    def pause() -> None:
        located = "SELECT count(location_id) FROM stock_items"
        until(lambda: database.psql(located) > "0", "the first chunk")
        control.pause(database.engine, 1, reason="lunch")
        paused.append(database.psql("SELECT count(location_id) FROM stock_items"))

    thread = threading.Thread(target=pause)
    thread.start()
    with pytest.raises(MigrationPaused, match="lunch"):
        stage.transform(database)
    thread.join()
    assert paused == [database.psql("SELECT count(location_id) FROM stock_items")]
    assert 0 < int(paused[0]) < 200
    assert database.psql("SELECT state FROM inventory_migration.migration") == "paused"
    with pytest.raises(MigrationPaused):
        stage.locations(database, start=Start())
    database.psql("DROP TRIGGER slow ON stock_items")
    stage.locations(database, start=Start(resume=True))
    stage.transform(database, start=Start(resume=True))
    assert stage.close(database).proof.passed
    assert stage.outcomes(database) == {"migrated": 200}


KILLED = """
    import signal
    from inventory_migration.database import create_engine
    from inventory_migration.engine import chunk, control, phases
    from inventory_migration.engine.plan import Start
    from inventory_migration_tests import stage
    # Whoever started the tests in the background has told them to ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    engine = create_engine({url!r})
    phases.transform_stock(engine, stage.MAPPING, control.Claim(engine), Start(explicit=True))
"""


def started(database: Database) -> subprocess.Popen[bytes]:
    """Another process that is in the middle of its chunks."""
    program = textwrap.dedent(KILLED.format(url=database.url))
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if int(database.psql("SELECT count(location_id) FROM stock_items")) > 10:
            return process
        time.sleep(0.05)
    process.kill()
    raise AssertionError("the other process never began")


def test_a_killed_migration_is_taken_up_under_the_same_id_and_ends_alike(
    database: Database,
) -> None:
    stage.shop(database, items=300)
    stage.locations(database)
    database.psql(SLOW)
    process = started(database)
    process.send_signal(signal.SIGKILL)
    process.wait()
    database.psql("DROP TRIGGER slow ON stock_items")
    assert database.psql("SELECT state FROM inventory_migration.migration") == "running"
    assert 0 < int(database.psql("SELECT count(location_id) FROM stock_items")) < 300
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            found = stage.migrate(database, start=Start())
            break
        except control.MigrationBusy:
            time.sleep(0.2)  # until the server has noticed that the client is gone
    assert found.migration is not None
    assert found.migration.migration_id == 1
    assert found.proof.differences == []
    assert stage.outcomes(database) == {"migrated": 300}


def test_an_interrupt_leaves_it_paused_without_a_lock_or_a_statement(database: Database) -> None:
    stage.shop(database, items=300)
    stage.locations(database)
    database.psql(SLOW)
    process = started(database)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.wait(timeout=20)
    assert time.monotonic() - began < 10
    assert database.psql("SELECT state, reason FROM inventory_migration.migration") == (
        "paused|interrupted"
    )
    assert (
        database.psql(
            "SELECT count(*) FROM pg_locks k JOIN pg_stat_activity a USING (pid) "
            "WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()"
        )
        == "0"
    )


def test_a_connection_that_is_lost_keeps_no_interrupt_from_the_others(database: Database) -> None:
    lost, busy = database.engine.connect(), database.engine.connect()
    lost.close()
    crew, ended = Crew(), []

    def sleep() -> None:
        with pytest.raises(sa.exc.OperationalError, match="canceling statement"):
            busy.execute(sa.text("SELECT pg_sleep(20)"))
        ended.append(time.monotonic())

    crew.connections = {1: lost, 2: busy}
    thread = threading.Thread(target=sleep)
    thread.start()
    while (
        database.psql("SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sl'") < "1"
    ):
        time.sleep(0.05)
    crew.cancel_all()
    thread.join(10)
    busy.close()
    assert ended


def test_a_terminated_backend_is_replaced_and_the_chunk_comes_again(database: Database) -> None:
    stage.shop(database, items=100)
    stage.locations(database)
    database.psql(SLOW)

    def terminate() -> None:
        time.sleep(0.6)
        database.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query LIKE '%unchanged AS MATERIALIZED%' "
            "AND pid <> pg_backend_pid()"
        )

    thread = threading.Thread(target=terminate)
    thread.start()
    stage.transform(database)
    thread.join()
    assert stage.close(database).proof.passed
    assert stage.outcomes(database) == {"migrated": 100}


def test_b4_a_restarted_server_holds_the_migration_until_it_is_resumed(
    database: Database, folder: Path
) -> None:
    own = EmbeddedServer(folder / "restarted", binaries=database.server.binaries)
    own.start()
    other = Database("inventory", own.url, own)
    try:
        stage.shop(other, items=300)
        stage.locations(other)
        other.psql(SLOW)

        def restart() -> None:
            moving = "SELECT count(*) > 0 FROM inventory_migration.chunk WHERE state = 'done'"
            until(lambda: other.psql(moving) == "t", "a chunk that is done")
            own.stop()
            own.start()

        thread = threading.Thread(target=restart)
        thread.start()
        with pytest.raises(MigrationHeld):
            stage.transform(other)
        thread.join()
        other.psql("DROP TRIGGER slow ON stock_items")
        assert other.psql("SELECT state FROM inventory_migration.migration") == "held"
        with pytest.raises(MigrationPaused):
            stage.locations(other, start=Start())
        stage.transform(other, start=Start(resume=True))
        assert stage.close(other).proof.passed
        assert stage.outcomes(other) == {"migrated": 300}
    finally:
        other.engine.dispose()
        own.reset()


def test_b1_a_role_whose_default_is_repeatable_read_changes_nothing(database: Database) -> None:
    stage.shop(database, items=50)
    database.psql(
        "ALTER DATABASE "
        + database.name
        + " SET default_transaction_isolation = 'repeatable read';"
        "ALTER DATABASE " + database.name + " SET default_transaction_read_only = on"
    )
    with database.engine.connect() as connection:
        assert (
            connection.execute(sa.text("SHOW transaction_isolation")).scalar() == "read committed"
        )
        assert connection.execute(sa.text("SHOW transaction_read_only")).scalar() == "off"
    assert stage.migrate(database).proof.passed


def test_two_processes_share_nothing_but_one_of_them_says_so(database: Database) -> None:
    stage.shop(database, items=10)
    stage.locations(database)
    with control.Claim(database.engine) as claim:
        claim.take("public.stock_items.location_id")
        with pytest.raises(control.MigrationBusy, match=r"process .* of postgres"):
            stage.transform(database)
    assert stage.transform(database) is not None
    with database.engine.connect() as connection:
        assert ledger.find(connection, mapping="shop") is not None
