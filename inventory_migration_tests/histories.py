"""Migrations that never were: chunks on a time line, drawn from a seed, as the ledger would say it.

A history knows when it ends, so that what is foretold amid it can be held against that.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from inventory_migration.engine import progress
from inventory_migration.engine.course import Course, bucket_seconds
from inventory_migration.engine.picture import Reading
from inventory_migration.engine.progress import Numbers, Pulse

BEGAN = datetime(2026, 1, 1, 20, 0, tzinfo=UTC)
PREPARING = 20.0
"""Seconds from the start to the first chunk."""


@dataclass(frozen=True)
class Pause:
    """A time in which nobody works: asked for, or somebody died and nobody said so."""

    after: float
    seconds: float
    said: bool = True


@dataclass(frozen=True)
class Transaction:
    """Chunks that were written together; seconds since the first began."""

    started: float
    finished: float
    chunks: int
    records: int


@dataclass(frozen=True)
class History:
    """How a migration goes.

    Attributes:
        records: How many there are.
        rate: How many a worker moves per second.
        workers: How many workers there are.
        rows: Records of a chunk.
        most: Chunks of a transaction, at most; it grows towards that.
        noise: By how much transactions differ, as a share.
        slower: How many times as slow as at first it is at the end.
        pauses: When nobody works, by seconds of work before.
        tail: Seconds from the last chunk to the verdict.
        seed: What noise is drawn from.
    """

    records: int = 1_000_000
    rate: float = 5_000.0
    workers: int = 2
    rows: int = 1_000
    most: int = 5
    noise: float = 0.2
    slower: float = 1.0
    pauses: tuple[Pause, ...] = ()
    tail: float = 0.0
    seed: int = 1
    done: list[Transaction] = field(default_factory=list)

    def play(self) -> History:
        """The same history with what happens in it."""
        chosen = random.Random(self.seed)  # noqa: S311 - a story, no secret
        free = [0.0] * self.workers
        pending, taken = self.records, 1.0
        found: list[Transaction] = []
        pauses = sorted(self.pauses, key=lambda pause: pause.after)
        shift = 0.0
        while pending > 0:
            worker = min(range(self.workers), key=free.__getitem__)
            now = free[worker]
            while pauses and now - shift >= pauses[0].after:
                pause = pauses.pop(0)
                shift += pause.seconds
                free = [max(at, now) + pause.seconds for at in free]
                now = free[worker]
            chunks = min(int(taken), -(-pending // self.rows))
            records = min(pending, chunks * self.rows)
            slow = 1 + (self.slower - 1) * (1 - pending / self.records)
            seconds = records / self.rate * slow * chosen.lognormvariate(0, self.noise)
            found.append(Transaction(now, now + seconds, chunks, records))
            free[worker] = now + seconds
            pending -= records
            taken = min(taken * 1.5, self.most)
        return replace(self, done=sorted(found, key=lambda t: t.finished))

    @property
    def last(self) -> float:
        """When the last chunk ends, in seconds since the first began."""
        return self.done[-1].finished

    @property
    def ends(self) -> float:
        """When it is verified."""
        return self.last + self.tail

    def pauses_at(self) -> list[tuple[float, Pause]]:
        """Each pause with when it begins, in seconds since the first chunk began."""
        found, shift = [], 0.0
        for pause in sorted(self.pauses, key=lambda pause: pause.after):
            if pause.after + shift < self.last:
                found.append((pause.after + shift, pause))
            shift += pause.seconds
        return found

    @property
    def worked(self) -> float:
        """How many seconds of the chunks' time somebody worked."""
        return self.last - sum(pause.seconds for _, pause in self.pauses_at())

    def at_share(self, share: float) -> float:
        """When so much of the records had an outcome."""
        total = 0
        for transaction in self.done:
            total += transaction.records
            if total >= share * self.records:
                return transaction.finished
        return self.last

    def picture(self, now: float, *, working: bool = True) -> dict[str, Any]:
        """What is shown at a moment."""
        seen = [transaction for transaction in self.done if transaction.finished <= now]
        reading = Reading(1)
        reading.pulse = self._pulse(now, working)
        reading.numbers = _numbers(reading.pulse, seen, self.records, now)
        reading.course = Course(_timeline(seen), _gaps(seen), self._marks(now))
        return reading.picture()

    def _pulse(self, now: float, working: bool) -> Pulse:
        ended = now >= self.ends
        state = "verified" if ended else "running"
        row = SimpleNamespace(
            migration_id=1, mapping="shop", state=state, reason=None, desired="run",
            desired_reason=None, set_by="ann", set_at=BEGAN, started_by="ann", run_ids=[],
            started_at=BEGAN - timedelta(seconds=PREPARING), verdict=None,
            finished_at=moment(self.ends) if ended else None,
        )  # fmt: skip
        return Pulse(
            row=row,  # type: ignore[arg-type]
            at=moment(now),
            driver=working and not ended,
            workers=(1, 2) if working and not ended else (),
            last_event=1,
            last_sign_at=None,
        )

    def _marks(self, now: float) -> list[tuple[datetime, str]]:
        """A snapshot that took as long as gives away what comes after the chunks."""
        found = [
            (-PREPARING, "planned"),
            (-PREPARING / 2, "judged_default_locations"),
            (0.0, "state_running"),
        ]
        for begin, pause in self.pauses_at():
            if pause.said:
                found.append((begin, "state_paused"))
            found.append((begin + pause.seconds - 0.01, "opened_audit_profile"))
            if pause.said:
                found.append((begin + pause.seconds, "state_running"))
        return [(moment(at), kind) for at, kind in found if at <= now]


def moment(seconds: float) -> datetime:
    """A moment, in seconds since the first chunk began."""
    return BEGAN + timedelta(seconds=seconds)


def _numbers(pulse: Pulse, seen: list[Transaction], records: int, now: float) -> Numbers:
    done = sum(transaction.records for transaction in seen)
    recent = now - progress.RECENT_SECONDS
    measure = {"snapshot": "0", "accounted": "0", "difference": "0"}
    return Numbers(
        at=pulse.at,
        records={
            "snapshot": records, "migrated": done, "already": 0, "skipped": 0, "quarantined": 0,
            "gone": 0, "pending": records - done, "undone": 0,
        },
        measures={"units": measure, "reserved": measure},
        phases=[{"number": 1}],
        attempts={"failed": 0, "chunks": 0, "by_error": []},
        to_undo=0,
        taken_back=0,
        recent=sum(t.records for t in seen if t.finished > recent),
        first_at=moment(min(t.started for t in seen)) if seen else None,
        last_at=moment(max(t.finished for t in seen)) if seen else None,
    )  # fmt: skip


def _timeline(seen: list[Transaction]) -> list[dict[str, Any]]:
    if not seen:
        return []
    first, last = min(t.started for t in seen), max(t.finished for t in seen)
    width = bucket_seconds(last - first)
    buckets: dict[int, list[Transaction]] = {}
    for transaction in seen:
        buckets.setdefault(int((transaction.finished - first) // width), []).append(transaction)
    return [_bucket(found, first + number * width, width, last) for number, found in
            sorted(buckets.items())]  # fmt: skip


def _bucket(found: list[Transaction], at: float, width: float, last: float) -> dict[str, Any]:
    lasted = min(width, max(last - at, 0.05))
    took = sorted(transaction.finished - transaction.started for transaction in found)
    return {
        "at": moment(at).isoformat(),
        "seconds": lasted,
        "records": sum(transaction.records for transaction in found),
        "seconds_median": took[len(took) // 2],
        "workers": sum(took) / lasted,
    }


def _gaps(seen: list[Transaction]) -> list[tuple[datetime, datetime]]:
    found, until = [], None
    for transaction in sorted(seen, key=lambda t: t.started):
        if until is not None and transaction.started - until > 1.0:
            found.append((moment(until), moment(transaction.started)))
        until = max(until or 0.0, transaction.finished)
    return found
