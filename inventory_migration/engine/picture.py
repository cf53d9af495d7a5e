"""The picture of a migration: what was read of it, tier by tier, and what follows from that.

Whoever shows a migration, on a page, in a terminal or as metrics, shows parts of this. It holds
what JSON can: moments as text, units as exact decimal strings. What is read is in `progress.py`,
what is foretold in `forecast.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from inventory_migration import logs
from inventory_migration.engine import forecast, progress, summary
from inventory_migration.engine.course import Course, read_course
from inventory_migration.engine.forecast import Bucket, Eta, Span
from inventory_migration.engine.progress import Numbers, Pulse, iso
from inventory_migration.plain import Connection

if TYPE_CHECKING:
    import sqlalchemy as sa

STANDING_STATES = ("paused", "held", "failed")
ENDED_STATES = ("verified", "aborted", "rolled_back")
PROVED_STATES = ("verified", "rolled_back")


@dataclass
class Reading:
    """What has been read of one migration; a tier may be older than the pulse.

    Attributes:
        migration_id: Which migration.
        pulse: Its state, and who works.
        numbers: Its chunks added up.
        course: Its chunks over time.
        details: What was put aside, judged and noted.
        workers: How many worked within the last moments; a worker between two transactions is none
            at the moment of the pulse.
    """

    migration_id: int
    pulse: Pulse | None = None
    numbers: Numbers | None = None
    course: Course | None = None
    details: dict[str, Any] = field(default_factory=dict)
    workers: int = 0

    def read_pulse(self, connection: Connection) -> bool:
        """Read who works; False where there is no such migration."""
        self.pulse = progress.read_pulse(connection, self.migration_id)
        self.workers = len(self.pulse.workers) if self.pulse else 0
        return self.pulse is not None

    def read_numbers(self, connection: Connection) -> None:
        """Add its chunks up."""
        if self.pulse is not None:
            self.numbers = progress.read_numbers(connection, self.pulse)

    def read_course(self, connection: Connection) -> None:
        """Put its chunks on a time line."""
        if self.pulse is not None and self.numbers is not None:
            self.course = read_course(connection, self.pulse, self.numbers)

    def read_details(self, connection: sa.Connection) -> None:
        """List what was put aside, judged and noted."""
        # Only for who looks closely: the list of all migrations does without what it imports.
        from inventory_migration.engine import particulars

        if self.pulse is not None:
            self.details = particulars.read_details(connection, self.pulse)

    def picture(self) -> dict[str, Any]:
        """All of it; what has not been read is empty."""
        if self.pulse is None or self.numbers is None:
            raise ValueError("a picture needs a pulse and numbers")
        course = self.course or Course([], [], [])
        return _picture(self.pulse, self.numbers, course, self.details, self.workers)


def list_at_a_glance(connection: Connection) -> list[dict[str, Any]]:
    """Every migration, newest first, as `status` lists it, with percent, rate and ETA."""
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
        listed.update(shown, reason=logs.hide_within(listed["reason"]))
    return found


def _picture(
    pulse: Pulse, numbers: Numbers, course: Course, details: dict[str, Any], workers: int
) -> dict[str, Any]:
    row = pulse.row
    until = row.finished_at or pulse.at
    last_sign = max((s for s in (pulse.last_sign_at, numbers.last_at) if s), default=None)
    idle = _idle(pulse, numbers, course, last_sign)
    stage = stage_of(pulse, numbers)
    active = forecast.active_seconds(row.started_at, until, idle)
    failed = numbers.attempts["failed"]
    return {
        "migration_id": row.migration_id,
        "mapping": row.mapping,
        "state": row.state,
        "reason": logs.hide_within(row.reason),
        "desired": row.desired,
        "desired_reason": logs.hide_within(row.desired_reason),
        "desired_by": row.set_by,
        "desired_at": iso(row.set_at),
        "at": pulse.at.isoformat(),
        "numbers_at": numbers.at.isoformat(),
        "started_at": row.started_at.isoformat(),
        "finished_at": iso(row.finished_at),
        "elapsed_seconds": round((until - row.started_at).total_seconds(), 3),
        "active_seconds": round(active, 3),
        "started_by": row.started_by,
        "run_ids": list(row.run_ids),
        "stage": stage,
        "working": {
            "driver": pulse.driver,
            "workers": workers if pulse.working else 0,
            "last_sign_at": iso(last_sign),
        },
        "records": dict(numbers.records),
        **{name: dict(numbers.measures[name]) for name in progress.MEASURES},
        "percent": _percent(pulse, numbers),
        "rate": _rate(pulse, numbers, course, idle),
        "eta": _eta(pulse, numbers, course, idle, stage),
        "phases": [dict(phase) for phase in numbers.phases],
        "attempts": {
            **numbers.attempts,
            "per_minute": round(60 * failed / active, 2) if failed and active else 0.0,
        },
        "quarantine": details.get("quarantine", []),
        "timeline": [dict(bucket) for bucket in course.timeline],
        "health": progress.health_of(pulse),
        "gates": details.get("gates", []),
        "events": details.get("events", []),
    }


def stage_of(pulse: Pulse, numbers: Numbers) -> str:
    """What a migration is at, as people see it.

    The proof commits together with what it found, so that nobody ever sees it under way: it is
    where no chunk is left, and the migration still runs.
    """
    state = pulse.row.state
    if state == "rolling_back":
        return "rolling_back"
    if state in ENDED_STATES:
        return "finished"
    if state in STANDING_STATES:
        return "standing"
    if state == "planned" or not numbers.phases:
        return "preparing"
    return "moving" if numbers.records["pending"] else "proving"


def _idle(pulse: Pulse, numbers: Numbers, course: Course, last_sign: datetime | None) -> list[Span]:
    idle = forecast.idle_spans(
        course.marks, course.gaps, first=numbers.first_at, last=numbers.last_at
    )
    if not pulse.working and last_sign is not None and pulse.row.finished_at is None:
        idle.append((last_sign, pulse.at))
    return idle


def _percent(pulse: Pulse, numbers: Numbers) -> float:
    state = pulse.row.state
    if state == "rolling_back":
        total = numbers.to_undo + numbers.taken_back
        return forecast.percent_done(numbers.taken_back, total, proved=False)
    total = numbers.done + numbers.records["pending"]
    return forecast.percent_done(numbers.done, total, proved=state in PROVED_STATES)


def _rate(pulse: Pulse, numbers: Numbers, course: Course, idle: list[Span]) -> dict[str, float]:
    """Records per second, of the time in which chunks were written and somebody worked."""
    if numbers.first_at is None or numbers.last_at is None:
        return {"now": 0.0, "average": 0.0}
    idle = [*idle, *forecast.preparing_spans(course.marks, course.gaps)]
    whole = forecast.active_seconds(numbers.first_at, numbers.last_at, idle)
    recent = timedelta(seconds=progress.RECENT_SECONDS)
    since = max(numbers.first_at, numbers.at - recent)
    lately = forecast.active_seconds(since, numbers.at, idle)
    return {
        "now": round(numbers.recent / lately, 1) if pulse.working and lately > 0 else 0.0,
        "average": round(numbers.done / whole, 1) if whole > 0 else 0.0,
    }


def _eta(
    pulse: Pulse, numbers: Numbers, course: Course, idle: list[Span], stage: str
) -> dict[str, Any] | None:
    """When it ends; None where nobody works, or too little is known."""
    if not pulse.working or pulse.row.verdict == "hold":
        return None
    found: Eta | None = None
    if stage == "rolling_back":
        found = _end_of_rollback(pulse, numbers, course)
    elif stage in {"moving", "proving"}:
        found = _end_of_run(pulse, numbers, course, idle)
    if found is None:
        return None
    return {
        "seconds": round(found.seconds, 1),
        "low": round(found.low, 1),
        "high": round(found.high, 1),
        "at": (pulse.at + timedelta(seconds=found.seconds)).isoformat(),
    }


def _end_of_rollback(pulse: Pulse, numbers: Numbers, course: Course) -> Eta | None:
    """By how much it has taken back since it began; when each chunk went, nobody has noted."""
    began = [at for at, kind in course.marks if kind == "state_rolling_back"]
    if not began or not numbers.taken_back:
        return None
    seconds = (numbers.at - began[-1]).total_seconds()
    gone_by = (pulse.at - numbers.at).total_seconds()
    found = forecast.estimate_end(
        [Bucket(max(seconds, 0.1), numbers.taken_back)],
        remaining=numbers.to_undo,
        after=forecast.ROLLBACK_SECONDS,
    )
    return found.later(gone_by) if found else None


def _end_of_run(pulse: Pulse, numbers: Numbers, course: Course, idle: list[Span]) -> Eta | None:
    if numbers.last_at is None:
        return None
    pending = numbers.records["pending"]
    buckets = _buckets(numbers, course, idle)
    spent = sum(bucket.seconds for bucket in buckets)
    chunks = spent * (1 + pending / max(numbers.done, 1))
    after = forecast.proof_seconds(chunks, forecast.snapshot_seconds(course.marks))
    if pending:
        found = forecast.estimate_end(buckets, remaining=pending, after=after)
        return found.later((pulse.at - numbers.at).total_seconds()) if found else None
    passed = forecast.active_seconds(numbers.last_at, pulse.at, idle)
    return forecast.estimate_end(buckets, remaining=0, after=after, passed=passed)


def _buckets(numbers: Numbers, course: Course, idle: list[Span]) -> list[Bucket]:
    """The course without the time in which nobody wrote; the stretches without chunks included."""
    idle = [*idle, *forecast.preparing_spans(course.marks, course.gaps)]
    buckets: list[Bucket] = []
    until = numbers.first_at
    for found in course.timeline:
        begin = datetime.fromisoformat(found["at"])
        end = begin + timedelta(seconds=found["seconds"])
        seconds = forecast.active_seconds(until or begin, end, idle)
        buckets.append(
            Bucket(max(seconds, 1e-3), found["records"], found["seconds_median"], found["workers"])
        )
        until = end
    # The numbers are newer than the course.
    more = numbers.done - sum(bucket.records for bucket in buckets)
    if until is not None and numbers.last_at is not None and more > 0:
        seconds = forecast.active_seconds(until, numbers.last_at, idle)
        buckets.append(Bucket(max(seconds, 1e-3), more))
    return buckets
