"""Watching migrations: a picture, once or for as long as somebody looks, and what that costs.

One poller serves all viewers of a process. How often it asks follows from what asking costs, so
that neither a large migration nor many viewers burden the database. What a picture holds is in
`engine/picture.py`; what changes anything is in `steering.py` and `verbs.py`.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from inventory_migration.database import create_engine, explain, original
from inventory_migration.engine import ledger
from inventory_migration.engine.picture import Reading, list_at_a_glance
from inventory_migration.engine.watched import PULSE_SECONDS, Watched
from inventory_migration.errors import MigrationError, MigrationUnknown
from inventory_migration.plain import PlainTarget, ask

if TYPE_CHECKING:
    import sqlalchemy as sa

    from inventory_migration.verbs import Target

DUTY = 0.02
"""The share of one core of the database that watching may take."""

STATEMENT_SECONDS = 5.0
CONNECT_SECONDS = 3
STALL_SECONDS = 3.0
"""For how long the database may be silent until viewers are told."""

ABANDON_SECONDS = 10.0
"""For how long one answer is waited for; then another connection is tried."""

FRONT: None = None
"""What a front page subscribes to: the list of all migrations."""

T = TypeVar("T")


def picture(target: Target, migration_id: int) -> dict[str, Any]:
    """Everything that is shown of a migration, as it is at this moment.

    Raises:
        MigrationUnknown: The ledger has none of this number.
    """
    with _moment(target.reader) as connection:
        reading = _reading(connection, migration_id)
        reading.read_numbers(connection)
        reading.read_course(connection)
        reading.read_details(connection)
    return reading.picture()


def glance(target: Target | PlainTarget) -> list[dict[str, Any]]:
    """Every migration, newest first, as `status` lists it, with percent, rate and ETA."""
    if isinstance(target, PlainTarget):
        with target.reader.connect(psycopg.IsolationLevel.REPEATABLE_READ) as connection:
            return list_at_a_glance(connection)
    with _moment(target.reader) as moment:
        return list_at_a_glance(moment)


def is_known(target: Target | PlainTarget, mapping: str) -> bool:
    """Whether the ledger has a migration of a mapping of this name."""
    with target.reader.connect() as connection:
        return ledger.installed(connection) and bool(ledger.find(connection, mapping=mapping))


def companies(
    target: Target, migration_id: int, search: str = "", limit: int = 50
) -> dict[str, Any]:
    """The companies of a migration that a text fits, largest first, and how many there are.

    Args:
        target: The database.
        migration_id: Which migration.
        search: A part of the company's name, whatever its case, or its whole key.
        limit: How many to list at most.

    Raises:
        MigrationUnknown: The ledger has none of this number.
    """
    from inventory_migration.engine import particulars

    with _moment(target.reader) as connection:
        _reading(connection, migration_id)
        return particulars.read_companies(connection, migration_id, search=search, limit=limit)


def _moment(engine: sa.Engine) -> sa.Connection:
    """A connection whose transactions each see one moment."""
    return engine.connect().execution_options(isolation_level="REPEATABLE READ")


def _reading(connection: sa.Connection, migration_id: int) -> Reading:
    reading = Reading(migration_id)
    if not (ledger.installed(connection) and reading.read_pulse(connection)):
        raise MigrationUnknown(migration_id=migration_id)
    return reading


@dataclass(frozen=True)
class Seen(Generic[T]):
    """What a poller knows. All viewers see the same object, and none may change it.

    Attributes:
        picture: What was read last; None before anything was.
        age_seconds: How long ago the database said so; None where it has not yet.
        error: Why it is not newer, in a sentence; None where it is as new as it should be.
    """

    picture: T | None = None
    age_seconds: float | None = None
    error: str | None = None


class Poller:
    """Asks for all viewers of a process, in one thread and one session that can not write.

    It asks only for what somebody looks at; how often follows from what asking costs. Viewers never
    wait for the database: they are told how old is what they see, and why.
    """

    def __init__(self, target: Target) -> None:
        """Connect to nothing yet; the thread begins with the first subscription."""
        parameters = {
            **target.parameters,
            "connect_timeout": str(CONNECT_SECONDS),
            "keepalives_idle": "5",
            "keepalives_interval": "2",
            "keepalives_count": "3",
            "application_name": "inventory-migration watching",
        }
        self._engine = create_engine(make_conninfo(**parameters), read_only=True)
        self._lock = threading.Condition()
        self._viewers: dict[int | None, int] = {}
        self._watched: dict[int | None, Watched] = {}
        self._asking_since: float | None = None
        self._error: str | None = None
        self._connection: sa.Connection | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def subscribe(self, migration_id: int | None = FRONT) -> None:
        """Begin to look at a migration, or at the list of all; once for each viewer."""
        with self._lock:
            self._viewers[migration_id] = self._viewers.get(migration_id, 0) + 1
            if migration_id not in self._watched:
                self._watched[migration_id] = Watched(migration_id)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="watching", daemon=True)
                self._thread.start()
            self._lock.notify_all()

    def unsubscribe(self, migration_id: int | None = FRONT) -> None:
        """Look no more; with the last viewer goes what was seen."""
        with self._lock:
            left = self._viewers.get(migration_id, 0) - 1
            if left > 0:
                self._viewers[migration_id] = left
            else:
                self._viewers.pop(migration_id, None)
                self._watched.pop(migration_id, None)

    def latest(self, migration_id: int) -> Seen[dict[str, Any]]:
        """The newest picture of a migration that somebody has subscribed to."""
        return self._seen(migration_id)

    def listed(self) -> Seen[list[dict[str, Any]]]:
        """The newest list of all migrations, where somebody has subscribed to it."""
        return self._seen(FRONT)

    def refresh(self, migration_id: int | None = FRONT) -> None:
        """Ask for the state now, as behind a button that may have changed it."""
        with self._lock:
            watched = self._watched.get(migration_id)
            if watched is not None:
                watched.first.due = 0.0
            self._lock.notify_all()

    def close(self) -> None:
        """Stop asking, and end the session."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(1.0)
            if thread.is_alive():
                self._abandon()
                thread.join(2 * CONNECT_SECONDS)
        self._engine.dispose()

    def _seen(self, migration_id: int | None) -> Seen[Any]:
        with self._lock:
            watched = self._watched.get(migration_id)
            if watched is None:
                return Seen()
            now = time.monotonic()
            age = now - watched.read_at if watched.read_at is not None else None
            error = self._error or watched.error
            since = self._asking_since
        silent = now - since if since is not None else 0.0
        if silent > STALL_SECONDS and self._error is None:
            error = f"the database has not answered for {silent:.0f} s"
        if silent > ABANDON_SECONDS:
            self._abandon()
        return Seen(watched.shown, age, error)

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    break
                watched = [*self._watched.values()]
                now = time.monotonic()
                wait = min((one.first.due - now for one in watched), default=60.0)
                if wait > 0:
                    self._lock.wait(wait)
                    continue
            for one in watched:
                if one.first.due <= time.monotonic() and not self._closed:
                    self._look(one, DUTY / len(watched))
        self._drop()

    def _look(self, watched: Watched, duty: float) -> None:
        self._asking_since = time.monotonic()
        try:
            if self._connection is None:
                self._connection = self._connect()
            shown = watched.ask(self._connection, duty)
        except Exception as error:
            if not isinstance(original(error), psycopg.Error | MigrationError):
                raise
            self._drop()
            with self._lock:
                watched.first.due = time.monotonic() + PULSE_SECONDS
                if isinstance(error, MigrationError):
                    # It has answered, that there is nothing to be seen.
                    self._error, watched.error = None, str(error)
                    watched.read_at, watched.shown = time.monotonic(), None
                else:
                    self._error = str(explain(error, self._engine))
            return
        finally:
            self._asking_since = None
        with self._lock:
            self._error = None
            watched.read_at = time.monotonic()
            watched.shown = shown

    def _connect(self) -> sa.Connection:
        connection = _moment(self._engine)
        ask(
            connection,
            f"SELECT set_config('statement_timeout', '{STATEMENT_SECONDS:.0f}s', false), "
            "set_config('lock_timeout', '200ms', false), set_config('jit', 'off', false), "
            "set_config('max_parallel_workers_per_gather', '0', false)",
        )
        connection.commit()
        return connection

    def _abandon(self) -> None:
        """End a wait for an answer that does not come: the thread then connects anew."""
        import sqlalchemy as sa

        connection = self._connection
        with suppress(sa.exc.SQLAlchemyError, psycopg.Error, OSError, AttributeError):
            assert connection is not None  # noqa: S101 - nothing to abandon otherwise
            driver = connection.connection.driver_connection
            with socket.socket(fileno=os.dup(driver.fileno())) as wire:  # type: ignore[union-attr]
                wire.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        import sqlalchemy as sa

        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sa.exc.SQLAlchemyError, psycopg.Error):
                connection.invalidate()
                connection.close()
