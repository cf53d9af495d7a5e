"""Watching a migration: its picture, once or for as long as somebody looks, and what that costs.

One poller serves all viewers of a process. How often it asks follows from what asking costs, so
that neither a large migration nor many viewers burden the database. What is shown is read in
`engine/progress.py` and foretold in `engine/forecast.py`; what changes anything is elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import sqlalchemy as sa
from psycopg.conninfo import make_conninfo

from inventory_migration.database import create_engine, explain
from inventory_migration.engine import forecast, ledger, progress, summary
from inventory_migration.engine.forecast import Bucket, Eta
from inventory_migration.engine.progress import Course, Numbers, Pulse, iso
from inventory_migration.errors import MigrationError, MigrationUnknown

if TYPE_CHECKING:
    from inventory_migration.verbs import Target

DUTY = 0.02
"""The share of the database's time that watching may take."""

PULSE_SECONDS = 1.0
REST_SECONDS = 30.0
"""How often is asked again what cannot have changed, since nobody works and nothing happened."""

STATEMENT_SECONDS = 5
CONNECT_SECONDS = 3
STALL_SECONDS = 3.0
"""For how long the database may be silent until that is told."""

IDLE_STATES = ("paused", "held", "failed")
ENDED_STATES = ("verified", "aborted", "rolled_back")

T = TypeVar("T")


def picture(target: Target, migration_id: int) -> dict[str, Any]:
    """Everything that is shown of a migration, as it is now.

    Raises:
        MigrationUnknown: The ledger has none of this number.
    """
    with _moment(target.reader) as connection:
        if not ledger.installed(connection):
            raise MigrationUnknown(migration_id=migration_id)
        read = _Read(migration_id)
        if not read.pulse_from(connection):
            raise MigrationUnknown(migration_id=migration_id)
        read.numbers_from(connection)
        read.course_from(connection)
        read.details_from(connection)
    return read.picture()


def glance(target: Target) -> list[dict[str, Any]]:
    """Every migration, newest first, as `status` lists it, with percent, rate and ETA."""
    with _moment(target.reader) as connection:
        return _glance(connection)


def companies(
    target: Target, migration_id: int, search: str = "", limit: int = 50
) -> dict[str, Any]:
    """The companies of a migration that a text fits, largest first, and how many there are."""
    with _moment(target.reader) as connection:
        if not ledger.installed(connection):
            raise MigrationUnknown(migration_id=migration_id)
        return progress.read_companies(connection, migration_id, search=search, limit=limit)


def _moment(engine: sa.Engine) -> sa.Connection:
    """A transaction whose numbers all belong to one moment."""
    return engine.connect().execution_options(isolation_level="REPEATABLE READ")


def _glance(connection: sa.Connection) -> list[dict[str, Any]]:
    found = summary.list_migrations(connection)
    for listed in found:
        read = _Read(listed["migration_id"])
        proved = listed["state"] in {"verified", "rolled_back"}
        listed["percent"] = forecast.percent_done(
            listed["records_done"], listed["records"], proved=proved
        )
        listed["rate"], listed["eta"] = {"now": 0.0, "average": 0.0}, None
        if listed["working"] and read.pulse_from(connection):
            read.numbers_from(connection)
            read.course_from(connection)
            whole = read.picture()
            listed.update({name: whole[name] for name in ("percent", "rate", "eta")})
    return found


@dataclass
class _Read:
    """What has been read of one migration, tier by tier, and when."""

    migration_id: int
    pulse: Pulse | None = None
    numbers: Numbers | None = None
    course: Course | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def pulse_from(self, connection: sa.Connection) -> bool:
        self.pulse = progress.read_pulse(connection, self.migration_id)
        return self.pulse is not None

    def numbers_from(self, connection: sa.Connection) -> None:
        assert self.pulse is not None  # noqa: S101 - the first thing that is read
        self.numbers = progress.read_numbers(connection, self.pulse)

    def course_from(self, connection: sa.Connection) -> None:
        assert self.pulse is not None and self.numbers is not None  # noqa: S101, PT018 - the same
        self.course = progress.read_course(connection, self.pulse, self.numbers)

    def details_from(self, connection: sa.Connection) -> None:
        assert self.pulse is not None  # noqa: S101 - the first thing that is read
        self.details = progress.read_details(connection, self.pulse)

    def picture(self) -> dict[str, Any]:
        """All that was read, and what follows from it."""
        pulse, numbers, course = self.pulse, self.numbers, self.course
        assert pulse is not None and numbers is not None and course is not None  # noqa: S101, PT018
        row = pulse.row
        until = row.finished_at or pulse.at
        idle = forecast.idle_spans(
            course.marks, course.gaps, first=numbers.first_at, last=numbers.last_at
        )
        signs = [pulse.last_sign_at, numbers.last_at]
        last_sign = max((sign for sign in signs if sign is not None), default=None)
        if not pulse.working and last_sign is not None and row.finished_at is None:
            idle = [*idle, (last_sign, pulse.at)]
        stage = _stage(pulse, numbers)
        active = forecast.active_seconds(row.started_at, until, idle)
        failed = numbers.attempts["failed"]
        return {
            "migration_id": row.migration_id,
            "mapping": row.mapping,
            "state": row.state,
            "reason": row.reason,
            "desired": row.desired,
            "desired_reason": row.desired_reason,
            "desired_by": row.set_by,
            "desired_at": iso(row.set_at),
            "at": pulse.at.isoformat(),
            "started_at": row.started_at.isoformat(),
            "finished_at": iso(row.finished_at),
            "elapsed_seconds": round((until - row.started_at).total_seconds(), 3),
            "active_seconds": round(active, 3),
            "started_by": row.started_by,
            "run_ids": list(row.run_ids),
            "stage": stage,
            "working": {
                "driver": pulse.driver,
                "workers": len(pulse.workers),
                "last_sign_at": iso(last_sign),
            },
            "records": dict(numbers.records),
            **{name: dict(numbers.measures[name]) for name in progress.MEASURES},
            "percent": _percent(pulse, numbers),
            "rate": _rate(pulse, numbers, idle),
            "eta": _eta(pulse, numbers, course, idle, stage),
            "phases": [dict(phase) for phase in numbers.phases],
            "attempts": {
                **numbers.attempts,
                "per_minute": round(60 * failed / active, 2) if failed and active else 0.0,
            },
            "quarantine": self.details.get("quarantine", []),
            "timeline": [dict(bucket) for bucket in course.timeline],
            "health": progress.health_of(pulse),
            "gates": self.details.get("gates", []),
            "events": self.details.get("events", []),
        }


def _stage(pulse: Pulse, numbers: Numbers) -> str:
    state = pulse.row.state
    if state == "rolling_back":
        return "rolling_back"
    if state in ENDED_STATES:
        return "finished"
    if state in IDLE_STATES:
        return "standing"
    if state == "verifying":
        return "proving"
    if not numbers.phases:
        return "preparing"
    return "moving" if numbers.records["pending"] or state == "planned" else "proving"


def _percent(pulse: Pulse, numbers: Numbers) -> float:
    state = pulse.row.state
    if state == "rolling_back":
        total = numbers.to_undo + numbers.taken_back
        return forecast.percent_done(numbers.taken_back, total, proved=False)
    done = numbers.done
    return forecast.percent_done(
        done, done + numbers.records["pending"], proved=state in {"verified", "rolled_back"}
    )


def _rate(pulse: Pulse, numbers: Numbers, idle: list[forecast.Span]) -> dict[str, float]:
    """Records per second, of the time in which chunks were written and somebody worked."""
    if numbers.first_at is None or numbers.last_at is None:
        return {"now": 0.0, "average": 0.0}
    whole = forecast.active_seconds(numbers.first_at, numbers.last_at, idle)
    recent = timedelta(seconds=progress.RECENT_SECONDS)
    since = max(numbers.first_at, numbers.at - recent)
    lately = forecast.active_seconds(since, numbers.at, idle)
    return {
        "now": round(numbers.recent / lately, 1) if pulse.working and lately > 0 else 0.0,
        "average": round(numbers.done / whole, 1) if whole > 0 else 0.0,
    }


def _eta(
    pulse: Pulse, numbers: Numbers, course: Course, idle: list[forecast.Span], stage: str
) -> dict[str, Any] | None:
    """When it ends; None where nobody works, or too little is known."""
    if not pulse.working or pulse.row.verdict == "hold":
        return None
    found: Eta | None = None
    if stage == "rolling_back":
        began = [at for at, kind in course.marks if kind == "state_rolling_back"]
        if began and numbers.taken_back:
            seconds = (pulse.at - began[-1]).total_seconds()
            found = forecast.estimate_end(
                [Bucket(max(seconds, 0.1), numbers.taken_back)],
                remaining=numbers.to_undo,
                after=0.0,
            )
    elif stage in {"moving", "proving"} and numbers.first_at and numbers.last_at:
        buckets = _active_buckets(course, idle)
        spent = sum(bucket.seconds for bucket in buckets)
        left = numbers.records["pending"]
        whole = spent * (1 + left / max(numbers.done, 1))
        passed = (pulse.at - numbers.last_at).total_seconds() if stage == "proving" else 0.0
        found = forecast.estimate_end(
            buckets,
            remaining=left,
            after=forecast.proof_seconds(whole, _profile_seconds(course)),
            after_passed=max(passed, 0.0),
        )
    if found is None:
        return None
    return {
        "seconds": round(found.seconds, 1),
        "low": round(found.low, 1),
        "high": round(found.high, 1),
        "at": forecast.after(pulse.at, found.seconds).isoformat(),
    }


def _active_buckets(course: Course, idle: list[forecast.Span]) -> list[Bucket]:
    """The course without the time in which nobody worked, the stretches without chunks included."""
    buckets: list[Bucket] = []
    previous: datetime | None = None
    for found in course.timeline:
        begin = datetime.fromisoformat(found["at"])
        end = begin + timedelta(seconds=found["seconds"])
        seconds = forecast.active_seconds(previous or begin, end, idle)
        buckets.append(Bucket(max(seconds, 1e-3), found["records"]))
        previous = end
    return buckets


def _profile_seconds(course: Course) -> float | None:
    """How long the first gate of the run took, from its opening to its verdict."""
    opened: datetime | None = None
    for at, kind in course.marks:
        if kind == "opened_audit_profile":
            opened = at
        elif kind == "judged_audit_profile" and opened is not None:
            return (at - opened).total_seconds()
    return None


@dataclass(frozen=True)
class Seen(Generic[T]):
    """What a poller knows.

    Attributes:
        picture: What was read last; None before anything was.
        age_seconds: How old that is; None where there is nothing yet.
        error: Why it is not newer, in a sentence; None where it is as new as it can be.
    """

    picture: T | None
    age_seconds: float | None
    error: str | None = None


FRONT: None = None
"""What a front page subscribes to: the list of all migrations."""


class Poller:
    """Asks for all viewers of a process, in a thread and a session of its own.

    It asks only for what somebody looks at; how often, follows from what asking costs.
    """

    def __init__(self, target: Target) -> None:
        """Connect to nothing yet; the thread begins with the first subscription."""
        parameters = {
            **target.parameters,
            "connect_timeout": str(CONNECT_SECONDS),
            "keepalives_idle": "5",
            "keepalives_interval": "2",
            "keepalives_count": "3",
        }
        self._engine = create_engine(
            make_conninfo(**parameters),
            read_only=True,
            application_name="inventory-migration watching",
        )
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
            self._watched.setdefault(migration_id, _Watched(migration_id))
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="watching", daemon=True)
                self._thread.start()
            self._lock.notify_all()

    def unsubscribe(self, migration_id: int | None = FRONT) -> None:
        """Look no more; the last viewer takes the picture along."""
        with self._lock:
            left = self._viewers.get(migration_id, 0) - 1
            if left > 0:
                self._viewers[migration_id] = left
            else:
                self._viewers.pop(migration_id, None)
                self._watched.pop(migration_id, None)

    def latest(self, migration_id: int) -> Seen[dict[str, Any]]:
        """The newest picture of a migration that somebody has subscribed to; never waits."""
        return self._seen(migration_id)

    def listed(self) -> Seen[list[dict[str, Any]]]:
        """The newest list of all migrations, where somebody has subscribed to it; never waits."""
        return self._seen(FRONT)

    def refresh(self, migration_id: int | None = FRONT) -> None:
        """Ask for everything at once, as behind a button that has changed something."""
        with self._lock:
            watched = self._watched.get(migration_id)
            if watched is not None:
                watched.due.clear()
            self._lock.notify_all()

    def close(self) -> None:
        """Stop asking, and end the session."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(2 * STATEMENT_SECONDS)
        self._engine.dispose()

    def _seen(self, migration_id: int | None) -> Seen[Any]:
        with self._lock:
            watched = self._watched.get(migration_id)
            if watched is None:
                return Seen(None, None)
            now = time.monotonic()
            age = now - watched.read_at if watched.read_at is not None else None
            error = self._error or watched.error
            if self._asking_since is not None and now - self._asking_since > STALL_SECONDS:
                silent = now - self._asking_since
                error = f"the database has not answered for {silent:.0f} s"
            return Seen(watched.shown, age, error)

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    break
                watched = list(self._watched.values())
                wait = self._wait(watched)
                if wait > 0:
                    self._lock.wait(wait)
                    continue
            for one in watched:
                self._look(one, len(watched))
        self._drop()

    def _wait(self, watched: list[_Watched]) -> float:
        if not watched:
            return 60.0
        return min(one.due.get("pulse", 0.0) for one in watched) - time.monotonic()

    def _look(self, watched: _Watched, others: int) -> None:
        if watched.due.get("pulse", 0.0) > time.monotonic():
            return
        self._asking_since = time.monotonic()
        try:
            if self._connection is None:
                self._connection = self._connect()
            shown = watched.ask(self._connection, DUTY / others)
            self._connection.rollback()
        except (sa.exc.DBAPIError, MigrationError) as error:
            self._drop()
            told = explain(error, self._engine) if isinstance(error, sa.exc.DBAPIError) else error
            with self._lock:
                self._error = str(told)
                watched.due["pulse"] = time.monotonic() + PULSE_SECONDS
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
                f"SELECT set_config('statement_timeout', '{STATEMENT_SECONDS}s', false), "
                "set_config('lock_timeout', '1s', false)"
            )
        )
        connection.commit()
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()


@dataclass
class _Watched:
    """One thing that is looked at: what was read of it, and when what is due.

    Attributes:
        due: When to ask for what again, by the name of the tier.
        read_at: When the pulse was last read.
        shown: What viewers see.
        error: Why there is nothing, where the database does answer.
    """

    migration_id: int | None
    due: dict[str, float] = field(default_factory=dict)
    read_at: float | None = None
    shown: Any = None
    error: str | None = None
    read: _Read | None = None
    unchanged: tuple[Any, ...] | None = None

    def ask(self, connection: sa.Connection, duty: float) -> Any:
        """Read what is due, and make the picture of it."""
        if self.migration_id is None:
            return self._timed("pulse", partial(_glance, connection), duty, PULSE_SECONDS)
        read = self.read or _Read(self.migration_id)
        known = ledger.installed(connection)
        found = known and self._timed("pulse", partial(read.pulse_from, connection), duty, 1.0)
        if not found:
            self.error = f"the ledger has no migration {self.migration_id}"
            self.due["pulse"] = time.monotonic() + PULSE_SECONDS
            return None
        self.error, self.read = None, read
        assert read.pulse is not None  # noqa: S101 - it was found
        row = read.pulse.row
        same = (row.state, row.reason, row.desired, read.pulse.last_event, read.pulse.working)
        if same != self.unchanged:
            # Numbers of a new state come with it.
            self.due = {"pulse": self.due["pulse"]}
        self.unchanged = same
        rest = 0.0 if read.pulse.working else REST_SECONDS
        tiers: tuple[tuple[str, Callable[[sa.Connection], None], float, float], ...] = (
            ("numbers", read.numbers_from, 0.4, 1.0),
            ("course", read.course_from, 0.3, 2.0),
            ("details", read.details_from, 0.2, 3.0),
        )
        for name, ask, share, least in tiers:
            if self.due.get(name, 0.0) <= time.monotonic():
                self._timed(name, partial(ask, connection), duty * share, max(least, rest))
        return read.picture()

    def _timed(self, name: str, ask: Callable[[], T], duty: float, least: float) -> T:
        """Ask, and let as much time pass before the next time as what this has cost allows."""
        began = time.monotonic()
        found = ask()
        now = time.monotonic()
        self.due[name] = now + max(least - (now - began), (now - began) / duty)
        return found
