"""A COMMIT whose answer never arrives: it is asked for, and what it said is in the log."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from inventory_migration.engine import unheard
from inventory_migration_tests import stage
from inventory_migration_tests.chaos.failpoints import hang_up
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.sessions import own_server, until, waiters

pytestmark = pytest.mark.one_server

PENDING = "SELECT count(*) FROM inventory_migration.chunk WHERE state = 'pending'"
AWAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
NO_RETRIES = "SELECT sum(attempts) FROM inventory_migration.chunk"


def lose_first_commit(
    database: Database,
    *,
    sent: bool,
    before: Callable[[], None] = lambda: None,
    behind: Callable[[], None] = lambda: None,
) -> None:
    """Let the first COMMIT of a worker lose its connection, before it is sent or behind that.

    Args:
        database: Whose engine.
        sent: Whether it arrives at the server.
        before: Called first.
        behind: Called when the connection is lost.
    """
    usual, lost = database.engine.dialect.do_commit, threading.Event()

    def do_commit(connection: Any) -> None:
        worker = threading.current_thread().name.startswith("worker")
        if not worker or lost.is_set():
            usual(connection)
            return
        lost.set()
        before()
        driver: psycopg.Connection[Any] = connection.driver_connection
        if sent:
            driver.pgconn.send_query(b"COMMIT")
            driver.pgconn.flush()
        try:
            hang_up(driver)
        finally:
            behind()

    database.engine.dialect.do_commit = do_commit  # type: ignore[method-assign]


def answers(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in caplog.records if "whose answer was lost" in r.message]


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "never_sent"])
def test_the_log_says_whether_it_had_happened_and_no_chunk_comes_twice(
    database: Database, caplog: pytest.LogCaptureFixture, sent: bool
) -> None:
    stage.shop(database, items=20)
    stage.locations(database)
    lose_first_commit(database, sent=sent)
    stage.transform(database, workers=1)
    happened = "had happened" if sent else "had not happened"
    assert answers(caplog) == [f"chunk 1: the COMMIT whose answer was lost {happened}"]
    assert stage.close(database).proof.passed
    assert stage.outcomes(database) == {"migrated": 20}
    # Nobody's chunk has failed.
    assert database.psql(NO_RETRIES) == "0"


def test_b3_a_commit_that_the_server_is_still_at_is_waited_for(
    database: Database, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with own_server(database, folder, "awaiting", synchronous_commit="on") as other:
        stage.shop(other, items=20)
        stage.locations(other)
        standbys = "ALTER SYSTEM SET synchronous_standby_names"
        seen: list[str] = []

        def wait_for_a_standby() -> None:
            other.psql(f"{standbys} = 'nobody'")
            other.psql("SELECT pg_reload_conf()")
            threading.Thread(target=commit_until_it_waits, daemon=True).start()
            until(lambda: other.psql(AWAITING) == "1", "a COMMIT that waits for a standby")

        def commit_until_it_waits() -> None:
            # It goes on once there is no standby to wait for any more.
            with psycopg.connect(other.url, autocommit=True) as probe:
                while other.psql(AWAITING) == "0":
                    probe.execute("CREATE TABLE IF NOT EXISTS probe (); DROP TABLE probe")
                    if seen:
                        return

        def standby_arrives() -> None:
            try:
                until(lambda: waiters(other) == 1, "somebody who waits for the chunk's row")
                # To a plain look it has not happened.
                seen.append(other.psql(PENDING))
            finally:
                other.psql(f"{standbys} = ''")
                other.psql("SELECT pg_reload_conf()")

        thread = threading.Thread(target=standby_arrives)
        lose_first_commit(other, sent=True, before=wait_for_a_standby, behind=thread.start)
        stage.transform(other, workers=1)
        thread.join()
        assert seen == ["4"]
        assert answers(caplog) == ["chunk 1: the COMMIT whose answer was lost had happened"]
        assert stage.close(other).proof.passed
        assert stage.outcomes(other) == {"migrated": 20}


def test_one_that_does_not_end_keeps_nobody_from_the_other_chunks(
    database: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unheard, "_PATIENTLY", sa.text("SET LOCAL lock_timeout = '200ms'"))
    stage.shop(database, items=20)
    stage.locations(database)
    chunk = "SELECT FROM inventory_migration.chunk WHERE number = 1 FOR UPDATE"
    with psycopg.connect(database.url) as at_it:

        def hold() -> None:
            at_it.execute(chunk)

        lose_first_commit(database, sent=False, behind=hold)
        thread = threading.Thread(target=stage.transform, args=[database], kwargs={"workers": 1})
        thread.start()
        until(lambda: database.psql(PENDING) == "1", "all other chunks")
    thread.join()
    assert answers(caplog) == [
        "chunk 1: the COMMIT whose answer was lost is still under way at the server"
    ]
    assert stage.close(database).proof.passed
    assert stage.outcomes(database) == {"migrated": 20}
