"""How a server goes down without a word, and comes back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from inventory_migration import accounts
from inventory_migration.embedded import EmbeddedServer
from inventory_migration_tests.conftest import Database

# As in production: what was acknowledged is on disk. The data are small, so that a recovery is
# short.
DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "deadlock_timeout": "200ms",
}

KINDS = ("stop_immediate", "postmaster_killed", "machine_off", "backend_killed")
"""What a crash can be: `pg_ctl stop -m immediate`; kill -9 of the postmaster; of every process of
the server at once, together with those of the migration; and of one backend, upon which the
postmaster throws the shared memory away and recovers, without starting anew itself."""


@contextmanager
def durable_database(
    folder: Path, binaries: Path | None, name: str, **settings: str
) -> Iterator[Database]:
    """A database on a server of its own, which a test may crash."""
    server = EmbeddedServer(folder / name, binaries=binaries, settings={**DURABLE, **settings})
    server.start()
    try:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE crashed TEMPLATE template0")
        yield Database("crashed", server.url.replace("/inventory?", "/crashed?"), server)
    finally:
        # It may be in the middle of a recovery, which a polite request would wait for.
        accounts.end_all("postgres", server.data, seconds=30)
        server.reset()


def crash(server: EmbeddedServer, kind: str) -> bool:
    """Let the server go down in one of `KINDS`; whether it has."""
    if kind == "backend_killed":
        return _kill_a_backend(server)
    running = server.status()
    assert running is not None, "the server is down already"
    if kind == "stop_immediate":
        server._run(
            "pg_ctl", "stop", "--silent", "--wait", "--mode=immediate", f"--pgdata={server.data}"
        )
    elif kind == "postmaster_killed":
        os.kill(running.pid, signal.SIGKILL)
    else:
        accounts.end_all("postgres", server.data, seconds=30)
    _until(lambda: server.status() is None, "the server is gone")
    return True


def come_back(server: EmbeddedServer, url: str) -> None:
    """Start the server, unless it does so itself, and wait until it accepts connections."""
    if server.status() is None:
        server.start()

    def answers() -> bool:
        try:
            psycopg.connect(url, connect_timeout=10).close()
        except psycopg.OperationalError:
            return False
        return True

    _until(answers, "the server accepts connections")


def _kill_a_backend(server: EmbeddedServer) -> bool:
    with psycopg.connect(server.url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'inventory-migration' "
            "AND state <> 'idle' ORDER BY random() LIMIT 1"
        ).fetchone()
        if row is None:
            return False
        # A backend that has just ended by itself can be sent a signal until the postmaster has
        # taken leave of it, and nothing comes of it. One that stands still is alive.
        try:
            os.kill(row[0], signal.SIGSTOP)
            stopped = _comes_true(lambda: _process_state(row[0]) in "TZX", seconds=5)
            if not stopped or _process_state(row[0]) != "T":
                return False
            os.kill(row[0], signal.SIGKILL)
        except (ProcessLookupError, FileNotFoundError):
            return False
        # The postmaster notices it, and ends every session before it recovers: ours as well.
        _until(lambda: _is_ended(connection), "the server ends every session")
    return True


def _is_ended(connection: psycopg.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return True
    return False


def _process_state(pid: int) -> str:
    """One letter: `T` stands still, `Z` and `X` have ended."""
    # The name of the command, in parentheses, may hold anything.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    assert _comes_true(condition, seconds), f"waited in vain until {what}"


def _comes_true(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
