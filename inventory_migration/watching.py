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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import make_conninfo

from inventory_migration.database import create_engine, explain
from inventory_migration.engine import forecast, ledger, progress, summary
from inventory_migration.engine.failures import sqlstate
from inventory_migration.engine.picture import PROVED_STATES, Reading
from inventory_migration.errors import MigrationError, MigrationUnknown

if TYPE_CHECKING:
    from inventory_migration.verbs import Target

DUTY = 0.02
"""The share of one core of the database that watching may take."""

PULSE_SECONDS = 1.0
REST_SECONDS = 30.0
"""How often is asked again what cannot have changed: nobody works, and nothing has happened."""

STATEMENT_SECONDS = 5.0
CONNECT_SECONDS = 3
STALL_SECONDS = 3.0
"""For how long the database may be silent until viewers are told."""

ABANDON_SECONDS = 10.0
"""For how long one answer is waited for; then another connection is tried."""

SEEN_SECONDS = 3.0
"""How long a worker counts that was seen in a transaction; it has more than one."""

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


def glance(target: Target) -> list[dict[str, Any]]:
    """Every migration, newest first, as `status` lists it, with percent, rate and ETA."""
    with _moment(target.reader) as connection:
        return _glance(connection)


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
    with _moment(target.reader) as connection:
        _reading(connection, migration_id)
        return progress.read_companies(connection, migration_id, search=search, limit=limit)


def _moment(engine: sa.Engine) -> sa.Connection:
    """A connection whose transactions each see one moment."""
    return engine.connect().execution_options(isolation_level="REPEATABLE READ")


def _reading(connection: sa.Connection, migration_id: int) -> Reading:
    reading = Reading(migration_id)
    if not (ledger.installed(connection) and reading.read_pulse(connection)):
        raise MigrationUnknown(migration_id=migration_id)
    return reading


def _glance(connection: sa.Connection) -> list[dict[str, Any]]:
    found = summary.list_migrations(connection)
    for listed in found:
        shown: dict[str, Any] = {
            "percent": forecast.percent_done(
                listed["records_done"],
                listed["records"],
                proved=listed["state"] in PROVED_STATES,
            ),
            "rate": {"now": 0.0, "average": 0.0},
            "eta": None,
        }
        reading = Reading(listed["migration_id"])
        if listed["working"] and reading.read_pulse(connection):
            reading.read_numbers(connection)
            reading.read_course(connection)
            whole = reading.picture()
            shown = {name: whole[name] for name in shown}
        listed.update(shown)
    return found


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
        self._watched: dict[int | None, _Watched] = {}
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
                self._watched[migration_id] = _Watched(migration_id)
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

    def _look(self, watched: _Watched, duty: float) -> None:
        self._asking_since = time.monotonic()
        try:
            if self._connection is None:
                self._connection = self._connect()
            shown = watched.ask(self._connection, duty)
        except (sa.exc.DBAPIError, psycopg.Error, MigrationError) as error:
            self._drop()
            with self._lock:
                watched.first.due = time.monotonic() + PULSE_SECONDS
                if isinstance(error, MigrationError):
                    self._error, watched.error = None, str(error)
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
        connection.execute(
            sa.text(
                f"SELECT set_config('statement_timeout', '{STATEMENT_SECONDS:.0f}s', false), "
                "set_config('lock_timeout', '200ms', false), set_config('jit', 'off', false), "
                "set_config('max_parallel_workers_per_gather', '0', false)"
            )
        )
        connection.commit()
        return connection

    def _abandon(self) -> None:
        """End a wait for an answer that does not come: the thread then connects anew."""
        connection = self._connection
        with suppress(sa.exc.SQLAlchemyError, psycopg.Error, OSError, AttributeError):
            assert connection is not None  # noqa: S101 - nothing to abandon otherwise
            driver = connection.connection.driver_connection
            with socket.socket(fileno=os.dup(driver.fileno())) as wire:  # type: ignore[union-attr]
                wire.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sa.exc.SQLAlchemyError, psycopg.Error):
                connection.invalidate()
                connection.close()


@dataclass
class _Tier:
    """A part of what is read: how often at most, with which share of what watching may cost.

    Attributes:
        ask: Reads it.
        least: Seconds from one time to the next, at least.
        share: The share; None for what costs next to nothing, and must not wait: who looks has to
            know within seconds that nobody works, on a machine that is busy too.
        due: When it is to be read again.
        free: When that is allowed at the earliest.
        late: Whether the last time took too long, so that what is known is old.
    """

    ask: Callable[[sa.Connection], Any]
    least: float
    share: float | None
    due: float = 0.0
    free: float = 0.0
    late: bool = False
    _took: float = 0.0

    def read(self, connection: sa.Connection, duty: float) -> Any:
        """Read it, and let as much time pass before the next time as the cost of it asks for.

        One slow answer has been waited for, by a stalled server or behind a lock: only what is slow
        twice running costs that much.
        """
        began = time.monotonic()
        self.late = True
        try:
            found = self.ask(connection)
            self.late = False
            return found
        finally:
            ended = time.monotonic()
            cost, self._took = min(self._took, ended - began), ended - began
            self.free = ended + (cost / (duty * self.share) if self.share else 0.0)
            self.due = max(began + self.least, self.free)


class _Watched:
    """One thing that is looked at, a migration or the list of all: what was read of it, and when.

    Attributes:
        first: What is read each time; the rest is where the state says so, or its time has come.
        read_at: When that was last read.
        shown: What viewers see.
        error: What could not be read, where the database does answer.
    """

    def __init__(self, migration_id: int | None) -> None:
        """Know nothing yet."""
        self.read_at: float | None = None
        self.shown: Any = None
        self.error: str | None = None
        self._reading = Reading(migration_id or 0)
        self._state: tuple[Any, ...] | None = None
        self._last_event = 0
        self._workers: dict[int, float] = {}
        reading = self._reading
        if migration_id is None:
            self.first = _Tier(_glance, PULSE_SECONDS, 1.0)
            self._others: dict[str, _Tier] = {}
        else:
            self.first = _Tier(reading.read_pulse, PULSE_SECONDS, None)
            self._others = {
                "add the chunks up": _Tier(reading.read_numbers, PULSE_SECONDS, 0.4),
                "put the chunks on a time line": _Tier(reading.read_course, 2.0, 0.25),
                "list what was put aside": _Tier(reading.read_details, 3.0, 0.15),
            }

    def ask(self, connection: sa.Connection, duty: float) -> Any:
        """Read what is due, and make what viewers see of it."""
        known = ledger.installed(connection)
        if not self._others:
            shown = self.first.read(connection, duty) if known else []
            connection.rollback()
            return shown
        if not (known and self.first.read(connection, duty)):
            raise MigrationUnknown(migration_id=self._reading.migration_id)
        self._plan()
        for tier in self._others.values():
            if tier.due > time.monotonic():
                continue
            try:
                tier.read(connection, duty)
            except sa.exc.DBAPIError as error:
                state = sqlstate(error)
                if state not in {_CANCELLED, _LOCKED}:
                    raise
                if state == _LOCKED:
                    # To wait costs nothing.
                    tier.due = tier.free = time.monotonic() + tier.least
                break
        connection.rollback()
        late = [what for what, tier in self._others.items() if tier.late]
        self.error = f"the database took too long to {' and to '.join(late)}" if late else None
        return self._reading.picture() if self._reading.numbers is not None else None

    def _plan(self) -> None:
        """Read the rest at once in a new state, and seldom where nobody works."""
        pulse = self._reading.pulse
        assert pulse is not None  # noqa: S101 - it has just been read
        now, row = time.monotonic(), pulse.row
        state = (row.state, row.reason, row.desired, row.set_at, pulse.working)
        for tier in self._others.values():
            if state != self._state:
                tier.due = now
            elif pulse.last_event != self._last_event:
                tier.due = min(tier.due, tier.free)
            elif not pulse.working and not tier.late:
                tier.due = max(tier.due, tier.free + REST_SECONDS)
        self._state, self._last_event = state, pulse.last_event
        self._workers.update(dict.fromkeys(pulse.workers, now))
        self._workers = {pid: at for pid, at in self._workers.items() if now - at < SEEN_SECONDS}
        self._reading.workers = len(self._workers)


_CANCELLED, _LOCKED = "57014", "55P03"
"""What a statement ends with that took too long, or waited too long for somebody's lock."""
