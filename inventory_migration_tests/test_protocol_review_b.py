"""The protocol under attack, B: gate, pause, claim, locks, isolation, rollback.

The same interleaving for the naive form and for ours; see `test_protocol_review_a.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from inventory_migration.engine import busy, control, plan, prediction
from inventory_migration.engine.chunk import LOCK_TIMEOUT_MS, SETTINGS, ChunkStatements, Claimed
from inventory_migration.engine.plan import Start
from inventory_migration.engine.worker import _note_attempt, _pending
from inventory_migration.errors import MappingInvalid, MigrationPaused, StillBusy
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.sessions import (
    blocked,
    one,
    own_server,
    past_its_deadlock_check,
    repeatable,
    until,
)
from inventory_migration_tests.test_chunk import planned, turn
from inventory_migration_tests.test_isolation import LENIENT, refusing
from inventory_migration_tests.test_rollback import undo

SCHEMA = "inventory_migration"
GATE = f"SELECT migration_id FROM {SCHEMA}.migration WHERE migration_id = 1 FOR KEY SHARE"
INTENT = f"SELECT desired FROM {SCHEMA}.control WHERE migration_id = 1"


def test_b1_a_worker_at_repeatable_read_reads_the_intent_of_before_the_pause(
    database: Database,
) -> None:
    stage.shop(database)
    stage.locations(database)
    database.psql(
        f"ALTER DATABASE {database.name} SET default_transaction_isolation = 'repeatable read'"
    )
    with psycopg.connect(database.url) as naive, database.engine.connect() as ours:
        # Any earlier query will do, a ping for instance.
        naive.execute("SELECT now()")
        ours.execute(sa.text("SELECT now()"))
        control.stop(database.engine, 1, "pause", reason="lunch")
        naive.execute(GATE)
        assert one(naive, INTENT) == "run"
        assert control.enter(ours, 1) == "pause"


def test_b1_gate_and_intent_in_one_statement_read_what_was_wanted_before_the_wait(
    database: Database,
) -> None:
    stage.shop(database)
    stage.locations(database)
    read: dict[str, str] = {}
    both = (
        f"SELECT c.desired FROM {SCHEMA}.migration m JOIN {SCHEMA}.control c USING (migration_id) "
        "WHERE m.migration_id = 1 FOR KEY SHARE OF m"
    )

    def naive() -> None:
        with psycopg.connect(database.url) as worker:
            read["naive"] = one(worker, both)

    def ours() -> None:
        with database.engine.connect() as worker:
            read["ours"] = control.enter(worker, 1)

    with (
        control.exclusive(database.engine, 1) as barrier,
        blocked(database, naive, ours),
    ):
        control.desire(barrier, 1, "pause")
        barrier.commit()
    assert read == {"naive": "run", "ours": "pause"}


def test_b2_a_pause_names_every_worker_that_it_waits_for_and_force_ends_them(
    database: Database,
) -> None:
    stage.shop(database)
    stage.locations(database)
    with database.engine.connect() as first, database.engine.connect() as second:
        pids = set()
        for worker in (first, second):
            assert control.enter(worker, 1) == "run"
            pids.add(worker.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())
        with psycopg.connect(database.url) as naive, psycopg.connect(database.url) as watcher:
            pid = naive.info.backend_pid

            def take() -> None:
                with pytest.raises(psycopg.errors.QueryCanceled):
                    naive.execute(GATE.replace("KEY SHARE", "UPDATE"))

            # For ever, and the server names one of those who are in the way.
            with blocked(database, take):
                assert len(one(watcher, f"SELECT pg_blocking_pids({pid})")) == 1
                watcher.execute(f"SELECT pg_cancel_backend({pid})")
        with pytest.raises(StillBusy, match="is pausing") as caught:
            control.pause(database.engine, 1, reason="lunch", seconds=0.5)
        assert all(f"process {pid} of" in " ".join(caught.value.busy) for pid in pids)
        # New ones read the intent past who waits: they add nothing to it.
        with database.engine.connect() as newcomer:
            assert control.enter(newcomer, 1) == "pause"
        control.pause(database.engine, 1, reason="lunch", force=True, seconds=30)
        for worker in (first, second):
            with pytest.raises(sa.exc.DBAPIError):
                worker.execute(sa.text("SELECT 1"))
            worker.invalidate()
    with database.engine.connect() as connection:
        assert busy.working(connection, 1) == []
    assert database.psql(f"SELECT state FROM {SCHEMA}.migration") == "paused"


KILLED = """
    import sqlalchemy as sa
    from inventory_migration.database import create_engine
    from inventory_migration.engine.chunk import SETTINGS
    with create_engine({url!r}).connect() as worker:
        # As most servers have it.
        worker.execute(sa.text("SET client_connection_check_interval = 0"))
        if {ours}:
            worker.execute(SETTINGS)
        worker.execute(sa.text("SELECT FROM inventory_migration.chunk WHERE number = {number} "
                               "FOR UPDATE"))
        worker.execute(sa.text("SELECT pg_sleep(40), 'number {number}'"))
"""


def test_b3_a_killed_workers_lock_is_released_within_its_statement(database: Database) -> None:
    stage.shop(database)
    planned(database)
    programs = {}
    for number, ours in ((1, False), (2, True)):
        code = textwrap.dedent(KILLED.format(url=database.url, ours=ours, number=number))
        programs[number] = subprocess.Popen([sys.executable, "-c", code])
    asleep = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' "
        "AND datname = current_database()"
    )
    until(lambda: database.psql(asleep) == "2", "two workers in a statement")
    for program in programs.values():
        os.kill(program.pid, signal.SIGKILL)
        program.wait()
    free = f"SELECT number FROM {SCHEMA}.chunk WHERE number <= 2 FOR UPDATE SKIP LOCKED"
    until(lambda: database.psql(free) == "2", "the lock of a killed worker")
    # The other's statement goes on for nobody, and keeps its lock.
    assert database.psql(asleep) == "1"


def test_b3_a_commit_under_way_is_not_taken_for_undone(database: Database) -> None:
    stage.shop(database, items=5)
    statements = planned(database)
    with database.engine.connect() as worker, database.engine.connect() as other:
        turn(worker, statements)
        # A client is lost in its COMMIT: a plain look says pending, and a moment later it is done.
        assert database.psql(f"SELECT state FROM {SCHEMA}.chunk") == "pending"
        statements.begin(other)
        assert statements.claim(other, 1, 5) is None
        assert _pending(other, 1, 1)
        other.rollback()
        worker.commit()
        assert statements.claim(other, 1, 5) is None
        assert not _pending(other, 1, 1)
    assert stage.outcomes(database) == {"migrated": 5}


def test_b4_a_pause_that_was_acknowledged_outlives_a_crash(
    database: Database, folder: Path
) -> None:
    lazy = {"synchronous_commit": "off", "wal_writer_delay": "10s", "bgwriter_lru_maxpages": "0"}
    with own_server(database, folder, "crashed_b4", **lazy) as other:
        stage.shop(other)
        stage.locations(other)
        other.psql("CHECKPOINT")

        def crash() -> None:
            other.engine.dispose()
            subprocess.run(
                ["kill", "-QUIT", str(other.server._postmaster())], check=True
            )  # What `pg_ctl stop -m immediate` sends.
            until(lambda: other.server.status() is None, "the end of the server")
            other.server.start()

        desired = f"SELECT desired FROM {SCHEMA}.control"
        other.psql(f"UPDATE {SCHEMA}.control SET desired = 'pause'")
        assert other.psql(desired) == "pause"
        crash()
        assert other.psql(desired) == "run"
        control.pause(other.engine, 1, reason="lunch")
        crash()
        assert other.psql(desired) == "pause"
        assert other.psql(f"SELECT state FROM {SCHEMA}.migration") == "paused"
        with pytest.raises(MigrationPaused):
            stage.locations(other, start=Start())


def test_b5_a_rollback_that_does_not_wait_leaves_the_chunk_under_way(database: Database) -> None:
    stage.shop(database, items=10)
    statements = planned(database)
    with database.engine.connect() as worker:
        turn(worker, statements)
        naive = f"SELECT count(*) FROM {SCHEMA}.chunk WHERE state = 'done'"
        assert database.psql(naive) == "0"

        def ours() -> None:
            undo(database)

        # It asks in short waits, so its lock is seen now and then only: what it wants is there.
        with blocked(database, ours):
            assert database.psql(INTENT) == "rollback"
            worker.commit()
    assert database.psql(f"SELECT state FROM {SCHEMA}.migration") == "rolled_back"
    assert database.psql("SELECT count(location_id) FROM stock_items") == "0"


def test_b5_the_guard_gives_nothing_while_a_rollback_takes(database: Database) -> None:
    stage.shop(database, items=10)
    stage.migrate(database, stage.mapping(guard=True))
    insert = "INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'new', 1)"
    with psycopg.connect(database.url) as application:
        application.execute(insert)

        def ours() -> None:
            undo(database, stage.mapping(guard=True))

        # It cannot take the trigger off while somebody is inserting under it, and walks only then.
        with blocked(database, ours):
            assert database.psql("SELECT count(location_id) FROM stock_items") == "10"
            application.commit()
    assert database.psql(f"{insert} RETURNING location_id") == ""
    assert database.psql("SELECT id, location_id FROM stock_items WHERE location_id > 0") == "11|1"
    assert database.psql(f"SELECT key_text, kind FROM {SCHEMA}.conflict") == (
        "11|arrived_with_location"
    )


def test_b6_a_chunk_whose_records_are_all_gone_is_done(database: Database) -> None:
    stage.shop(database, items=5)
    statements = planned(database)
    database.psql("DELETE FROM stock_items")
    naive = (
        f"UPDATE {SCHEMA}.chunk k SET attempts = attempts FROM (SELECT p.chunk FROM "
        f"{SCHEMA}.snapshot_1 p JOIN stock_items s ON s.id = p.key_1 GROUP BY 1) AS live "
        "WHERE live.chunk = k.number"
    )
    with psycopg.connect(database.url) as session:
        assert session.execute(naive).rowcount == 0
    with database.engine.begin() as connection:
        turn(connection, statements)
    assert database.psql(f"SELECT state, gone FROM {SCHEMA}.chunk") == "done|5"


def test_b6_who_failed_before_is_claimed_alone(database: Database) -> None:
    stage.shop(database, companies=1, items=30)
    statements = planned(database)
    naive = (
        f"SELECT number FROM {SCHEMA}.chunk WHERE state = 'pending' ORDER BY number "
        "FOR UPDATE SKIP LOCKED LIMIT 3"
    )
    assert database.psql(naive) == "1\n2\n3"
    with database.engine.connect() as failed, database.engine.connect() as other:
        statements.begin(failed)
        claimed = statements.claim(failed, 1, 3)
        assert claimed == Claimed([1, 2, 3])
        failed.rollback()
        assert _note_attempt(failed, statements, claimed, "23505") == 1
        # The next takes the poison again, but takes no other chunk down with it.
        assert database.psql(naive) == "1\n2\n3"
        assert statements.claim(failed, 1, 3) == Claimed([1], 1, "23505")
        statements.begin(other)
        assert statements.claim(other, 1, 3) == Claimed([4, 5, 6])


def test_b6_an_empty_claim_is_not_the_end(database: Database) -> None:
    stage.shop(database, companies=1, items=5)
    statements = planned(database)
    with database.engine.connect() as first, database.engine.connect() as second:
        statements.begin(first)
        assert statements.claim(first, 1, 1) == Claimed([1])
        statements.begin(second)
        assert statements.claim(second, 1, 1) is None
        assert _pending(second, 1, 1)
        first.rollback()
        assert statements.claim(second, 1, 1) == Claimed([1])


def locked(database: Database, statements: ChunkStatements, lock_timeout: str) -> None:
    with database.engine.begin() as worker:
        statements.begin(worker)
        worker.execute(sa.text(f"SET LOCAL lock_timeout = '{lock_timeout}'"))
        statements.lock_records(worker, [1])


def test_b7_a_long_wait_makes_the_application_the_deadlocks_victim(database: Database) -> None:
    stage.shop(database, companies=1, items=5)
    statements = planned(database)
    with psycopg.connect(database.url) as application:
        application.execute("UPDATE stock_items SET quantity = 9 WHERE id = 5")
        with past_its_deadlock_check(database, lambda: locked(database, statements, "20s")):
            with pytest.raises(psycopg.errors.DeadlockDetected):
                application.execute("UPDATE stock_items SET quantity = 9 WHERE id = 1")
            application.rollback()
        application.execute("UPDATE stock_items SET quantity = 9 WHERE id = 5")
        with database.engine.connect() as worker:
            statements.begin(worker)
            with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
                statements.lock_records(worker, [1])
            # It has let go of what it held, and the application goes on.
            worker.rollback()
        application.execute("UPDATE stock_items SET quantity = 9 WHERE id = 1")
    assert LOCK_TIMEOUT_MS < 50
    assert f"'{LOCK_TIMEOUT_MS}ms'" in str(SETTINGS)


def test_b7_a_target_in_a_unique_key_blocks_who_refers_to_the_record_and_a_look_says_so(
    database: Database,
) -> None:
    stage.shop(database, companies=1, items=5)
    mapping = stage.mapping(target={"shape": "location_column", "column": "location_id"})
    database.psql(
        "ALTER TABLE stock_items ADD COLUMN location_id bigint;"
        "CREATE TABLE lines (item_id bigint REFERENCES stock_items)"
    )

    def blocks() -> bool:
        with psycopg.connect(database.url) as chunk, psycopg.connect(database.url) as child:
            chunk.execute("UPDATE stock_items SET location_id = 1 WHERE id = 1")
            child.execute("SET lock_timeout = '50ms'")
            try:
                child.execute("INSERT INTO lines VALUES (1)")
            except psycopg.errors.LockNotAvailable:
                return True
            finally:
                chunk.rollback()
                child.rollback()
            return False

    def told() -> list[list[str]]:
        with database.engine.connect() as connection:
            found = prediction.predict(connection, plan.resolve(connection, mapping))
        keys: list[list[str]] = found["fires"]["unique_keys_written"]
        return keys

    assert (blocks(), told()) == (False, [])
    database.psql("CREATE UNIQUE INDEX partly ON stock_items (sku, location_id) WHERE id > 0")
    assert (blocks(), told()) == (False, [])
    database.psql("CREATE UNIQUE INDEX whole ON stock_items (sku, location_id)")
    assert (blocks(), told()) == (True, [["sku", "location_id"]])


def test_b8_what_a_trigger_raises_is_one_records_fault(database: Database) -> None:
    stage.shop(database, items=20)
    refusing(database, "NEW.id = 7", "RAISE EXCEPTION 'frozen'")
    stage.locations(database, LENIENT)
    with psycopg.connect(database.url) as naive:
        with pytest.raises(psycopg.errors.RaiseException) as caught:
            naive.execute("UPDATE stock_items SET location_id = 1")
        # A list of 22 and 23 would stop the migration.
        assert caught.value.sqlstate == "P0001"
    stage.transform(database, LENIENT)
    assert stage.outcomes(database) == {"migrated": 19, "quarantined": 1}


def test_b8_a_deferred_constraint_blames_nobody_at_commit(database: Database) -> None:
    stage.shop(database, companies=1, items=5)
    stage.locations(database, LENIENT)
    database.psql(
        "UPDATE stock_items SET sku = 'same' WHERE id IN (2, 4);"
        "ALTER TABLE stock_items ADD UNIQUE (sku, location_id) DEFERRABLE INITIALLY DEFERRED"
    )
    naive = psycopg.connect(database.url)
    for number in range(1, 6):
        naive.execute("SAVEPOINT one")
        naive.execute(f"UPDATE stock_items SET location_id = 1 WHERE id = {number}")
        naive.execute("RELEASE one")
    with pytest.raises(psycopg.errors.UniqueViolation):
        naive.commit()
    naive.close()
    stage.transform(database, LENIENT)
    assert stage.outcomes(database) == {"migrated": 4, "quarantined": 1}
    assert database.psql(f"SELECT key_text, sqlstate FROM {SCHEMA}.outcome") == "4|23505"


def test_b8_a_rule_on_the_table_is_refused_before_anything_is_written(database: Database) -> None:
    stage.shop(database)
    database.psql("CREATE RULE quiet AS ON UPDATE TO stock_items DO INSTEAD NOTHING")
    with psycopg.connect(database.url) as naive, pytest.raises(psycopg.Error) as caught:
        naive.execute(
            "WITH c AS (SELECT 1 AS id), m AS (UPDATE stock_items s SET quantity = quantity FROM c "
            "WHERE s.id = c.id RETURNING s.id) SELECT count(*) FROM m"
        )
    assert caught.value.sqlstate == "0A000"
    with pytest.raises(MappingInvalid, match=r"has rewrite rules \(quiet\)"):
        plan.read_mapping(database.engine, stage.MAPPING)
    assert database.psql("SELECT to_regnamespace('inventory_migration')") == ""


def test_b1_the_settings_of_a_session_at_repeatable_read_do_not_reach_our_transactions(
    database: Database,
) -> None:
    stage.shop(database, items=20)
    database.psql(
        f"ALTER DATABASE {database.name} SET default_transaction_isolation = 'serializable'"
    )
    with repeatable(database) as naive:
        naive.execute("SELECT FROM stock_items")
        database.psql("UPDATE stock_items SET quantity = 7 WHERE id = 1")
        with pytest.raises(psycopg.errors.SerializationFailure):
            naive.execute("SELECT FROM stock_items FOR NO KEY UPDATE")
    assert stage.migrate(database, workers=1).proof.passed
    assert database.psql(f"SELECT sum(attempts) FROM {SCHEMA}.chunk") == "0"
