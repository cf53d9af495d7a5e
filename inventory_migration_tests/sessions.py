"""Sessions that meet at a lock: one holds it, others wait, and the test knows when they do.

For tests that show the naive form of a statement and ours on the same interleaving.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa

from inventory_migration.embedded import EmbeddedServer
from inventory_migration_tests.conftest import FAST, Database


def until(condition: Callable[[], Any], what: str, seconds: float = 20) -> None:
    """Wait for what another session brings about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def waiters(database: Database) -> int:
    """How many sessions of the database wait for a lock."""
    return int(
        database.psql(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
    )


@contextmanager
def blocked(database: Database, *work: Callable[[], Any]) -> Iterator[None]:
    """Start work that is to wait for a lock; the body, which runs once it does, gives the lock."""
    failed: list[BaseException] = []

    def guarded(one: Callable[[], Any]) -> None:
        try:
            one()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    try:
        until(lambda: failed or waiters(database) >= len(threads), "sessions at a lock")
        yield
    finally:
        for thread in threads:
            thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    if failed:
        raise failed[0]


@contextmanager
def past_its_deadlock_check(database: Database, work: Callable[[], Any]) -> Iterator[None]:
    """Start work that waits for a lock; the body runs once the waiter has looked for a deadlock.

    Who comes later and closes the circle is then the one who finds it, and its victim.
    """
    database.psql(f"ALTER DATABASE {database.name} SET deadlock_timeout = '50ms'")
    with blocked(database, work):
        checked = (
            "SELECT bool_and(clock_timestamp() - waitstart > '500ms') FROM pg_locks "
            "WHERE NOT granted"
        )
        until(lambda: database.psql(checked) == "t", "a waiter past its deadlock check")
        yield


def one(connection: psycopg.Connection, sql: str) -> Any:
    """The first value that a statement returns; None where there is none."""
    row = connection.execute(sql).fetchone()
    return None if row is None else row[0]


def repeatable(database: Database) -> psycopg.Connection:
    """A session at REPEATABLE READ whose snapshot is taken already."""
    made = psycopg.connect(database.url)
    made.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    made.execute("SELECT 1")
    return made


@contextmanager
def own_server(database: Database, folder: Any, name: str, **settings: str) -> Iterator[Database]:
    """A server of a test's own, to be configured, stopped and crashed."""
    server = EmbeddedServer(
        folder / name, binaries=database.server.binaries, settings={**FAST, **settings}
    )
    server.start()
    made = Database("inventory", server.url, server)
    try:
        yield made
    finally:
        made.engine.dispose()
        server.reset()


@contextmanager
def failing(
    engine: sa.Engine, piece: str, state: str, *, times: int, after: int = 0
) -> Iterator[list[str]]:
    """Let the server fail in the place of statements, or be slow before it executes them.

    Args:
        engine: Whose statements.
        piece: What their text contains, white space aside.
        state: The SQLSTATE; `slow` stands for half a minute.
        times: How many of them.
        after: How many go well before.

    Yields:
        What has been done so far.
    """
    seen, hits = 0, []

    def instead(
        _connection: Any, cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
    ) -> tuple[str, Any]:
        nonlocal seen
        if piece not in " ".join(statement.split()):
            return statement, parameters
        seen += 1
        if not after < seen <= after + times:
            return statement, parameters
        hits.append(state)
        if state == "slow":
            cursor.execute("SELECT pg_sleep(30)")
            return statement, parameters
        raised = f"DO $$ BEGIN RAISE EXCEPTION 'failed' USING ERRCODE = '{state}'; END $$"
        return raised, [()] if many else ()

    sa.event.listen(engine, "before_cursor_execute", instead, retval=True)
    try:
        yield hits
    finally:
        sa.event.remove(engine, "before_cursor_execute", instead)
