"""Numbered places at which something can go wrong: each statement, and the sides of each COMMIT.

A wire hooks an engine from outside; the code that uses the engine knows nothing of it. Server-side
failures are the server's own: it executes a statement that fails in the place of ours. What is
migrated, and what must hold afterwards, belongs elsewhere.
"""

from __future__ import annotations

import enum
import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import psycopg
import sqlalchemy as sa


class Harm(enum.Enum):
    """What happens at a failpoint."""

    EXCEPTION = "exception"
    KILL = "kill"
    TERMINATED = "terminated"
    LOCK_TIMEOUT = "lock_timeout"
    DEADLOCK = "deadlock"
    STATEMENT_TIMEOUT = "statement_timeout"
    DISK_FULL = "disk_full"
    PAUSE = "pause"


SQLSTATES = {
    Harm.LOCK_TIMEOUT: "55P03",
    Harm.DEADLOCK: "40P01",
    Harm.STATEMENT_TIMEOUT: "57014",
    Harm.DISK_FULL: "53100",
}


class Side(enum.Enum):
    """Where a failpoint lies: before a statement, or at a side of a COMMIT.

    `UNHEARD`: it has been sent, and its answer never arrives. `AFTER`: it was acknowledged, and the
    program does not get to know.
    """

    STATEMENT = "statement"
    BEFORE = "before COMMIT"
    UNHEARD = "COMMIT unheard"
    AFTER = "after COMMIT"


POSSIBLE = {
    # A COMMIT that was acknowledged has no error of the server's behind it.
    **{harm: {Side.STATEMENT, Side.BEFORE} for harm in SQLSTATES},
    Harm.EXCEPTION: {Side.STATEMENT, Side.BEFORE, Side.AFTER},
    Harm.KILL: set(Side),
    Harm.TERMINATED: set(Side),
    Harm.PAUSE: {Side.STATEMENT, Side.BEFORE, Side.AFTER},
}
"""At which sides a harm can happen."""


@dataclass(frozen=True)
class Failpoint:
    """A place, as an undisturbed run passed it.

    Attributes:
        number: Its place in the run, from 1.
        side: Where it lies.
        statement: The beginning of the statement's text.
        stretch: The same for all statements of a transaction before its first write, since a
            failure at any of them leaves the same behind: nothing. None for all others.
    """

    number: int
    side: Side
    statement: str
    stretch: int | None


class InjectedError(Exception):
    """A mistake in the program that nobody foresaw."""


@dataclass
class Wire:
    """The failpoints of an engine: counted as they are passed, and one of them does harm.

    Attributes:
        engine: Whose statements and COMMITs.
        committed: Told after each COMMIT that was acknowledged.
        pause: Asks for a pause, from another session and without waiting for it.
        passed: The failpoints so far.
        at: The number of the one that does harm; 0 for none.
        harm: Which.
        touched: Whether it has been reached.
    """

    engine: sa.Engine
    committed: Callable[[], None] = lambda: None
    pause: Callable[[], None] = lambda: None
    passed: list[Failpoint] = field(default_factory=list)
    at: int = 0
    harm: Harm = Harm.EXCEPTION
    touched: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _written: dict[int, bool] = field(default_factory=dict)
    _stretches: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Hook the engine."""
        self._commit = self.engine.dialect.do_commit
        self.engine.dialect.do_commit = self._do_commit  # type: ignore[method-assign]
        sa.event.listen(self.engine, "before_cursor_execute", self._before_execute, retval=True)
        sa.event.listen(self.engine, "begin", self._forget)
        sa.event.listen(self.engine, "rollback", self._forget)

    def arm(self, at: int, harm: Harm) -> None:
        """Count from 1 anew, and do harm at a number."""
        self.passed.clear()
        self.at, self.harm, self.touched = at, harm, False

    def disarm(self) -> None:
        """Count from 1 anew, and do no harm."""
        self.arm(0, Harm.EXCEPTION)

    def _forget(self, connection: sa.Connection) -> None:
        if connection.invalidated:
            return
        self._written.pop(id(connection.connection.driver_connection), None)
        self._stretches.pop(id(connection.connection.driver_connection), None)

    def _reached(self, side: Side, statement: str, stretch: int | None) -> bool:
        with self._lock:
            number = len(self.passed) + 1
            self.passed.append(Failpoint(number, side, " ".join(statement.split())[:100], stretch))
        if number != self.at or side not in POSSIBLE[self.harm]:
            return False
        self.touched = True
        return True

    def _before_execute(
        self,
        connection: sa.Connection,
        _cursor: Any,
        statement: str,
        parameters: Any,
        _context: Any,
        executemany: bool,
    ) -> tuple[str, Any]:
        who = id(connection.connection.driver_connection)
        self._written[who] = self._written.get(who, False) or leaves_something(statement)
        stretch = None
        if not self._written[who]:
            stretch = self._stretches.setdefault(who, len(self.passed) + 1)
        if not self._reached(Side.STATEMENT, statement, stretch):
            return statement, parameters
        if self.harm is Harm.KILL:
            _die()
        if self.harm is Harm.EXCEPTION:
            raise InjectedError
        if self.harm is Harm.PAUSE:
            self.pause()
            return statement, parameters
        return _failing(self.harm), ([()] if executemany else ())

    def _do_commit(self, connection: Any) -> None:
        driver: psycopg.Connection = connection.driver_connection
        if driver.autocommit:
            return
        if self._reached(Side.BEFORE, "COMMIT", None):
            self._at_commit(driver)
        if self._reached(Side.UNHEARD, "COMMIT", None):
            driver.pgconn.send_query(b"COMMIT")
            driver.pgconn.flush()
            if self.harm is Harm.KILL:
                _die()
            hang_up(driver)
        self._commit(connection)
        self._written.pop(id(driver), None)
        self._stretches.pop(id(driver), None)
        self.committed()
        if self._reached(Side.AFTER, "COMMIT", None):
            self._at_commit(driver)

    def _at_commit(self, driver: psycopg.Connection) -> None:
        if self.harm is Harm.KILL:
            _die()
        if self.harm is Harm.EXCEPTION:
            raise InjectedError
        if self.harm is Harm.PAUSE:
            self.pause()
        else:
            driver.execute(_failing(self.harm))


_WRITES = re.compile(
    r"\b(INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|ANALYZE|TRUNCATE|COMMENT|setval|nextval)\b"
    # Of locks only those that outlive their transaction.
    r"|\bpg_(try_)?advisory_(un)?lock",
    re.IGNORECASE,
)


def leaves_something(statement: str) -> bool:
    """Whether a statement may write, or lock beyond its transaction; in doubt it does."""
    text = re.sub(r"\bFOR\s+(NO\s+KEY\s+)?UPDATE\b", "", statement.lstrip())
    return not re.match(r"EXPLAIN\s+INSERT", text) and _WRITES.search(text) is not None


def _failing(harm: Harm) -> str:
    if harm is Harm.TERMINATED:
        return "SELECT pg_terminate_backend(pg_backend_pid())"
    return f"DO $$ BEGIN RAISE EXCEPTION 'failpoint' USING ERRCODE = '{SQLSTATES[harm]}'; END $$"


def hang_up(driver: psycopg.Connection) -> NoReturn:
    """Lose the connection; what was sent before has arrived."""
    with socket.socket(fileno=os.dup(driver.pgconn.socket)) as line:
        line.shutdown(socket.SHUT_RDWR)
    while True:
        driver.pgconn.consume_input()


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
