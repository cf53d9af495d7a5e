"""What is foretold of a migration: who worked when, how fast, how much is done, when it ends.

Pure functions of what `progress.py` has read; nothing here asks a database or a clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

Span = tuple[datetime, datetime]
Mark = tuple[datetime, str]
"""When something was noted, and what: the kind of an event, or which gate was opened or judged."""

MOST_PERCENT = 99.0
"""As far as a migration is before its proof has passed."""

NEEDED_CHUNK_SECONDS = 1.0
"""How long chunks must have been written for their rate to say anything."""

LEAST_TRANSACTIONS = 10
"""How many transactions count for a rate nearly alike, however short that time is."""

FLOOR = 0.05
CONFIDENCE = 1.28
"""The band holds about eight of ten."""

COMES = "opened_audit_profile"
"""The mark of a process that begins: whatever it takes up, it looks at the inventory first."""

STANDS = ("state_paused", "state_held", "state_failed", "state_aborted", "state_verified")
"""Marks of somebody who ends a piece of work."""

ROLLBACK_SECONDS = 1.0
"""What comes after the chunks of a rollback: locations that go, and the state."""

LINGERING = 0.1
"""What takes longer than foretold goes on for so much of what it has taken."""


@dataclass(frozen=True)
class Bucket:
    """A stretch of time in which chunks ended.

    Attributes:
        seconds: How much of it somebody worked.
        records: How many records these chunks had.
        transaction: How long one transaction of theirs took.
        workers: How many were under way at a time.
    """

    seconds: float
    records: int
    transaction: float = 0.0
    workers: float = 1.0


@dataclass(frozen=True)
class Eta:
    """In how many seconds a migration ends, and between what that lies eight times of ten."""

    seconds: float
    low: float
    high: float

    def later(self, seconds: float) -> Eta:
        """The same forecast when so many seconds have passed."""
        return Eta(*(max(0.0, left - seconds) for left in (self.seconds, self.low, self.high)))


def idle_spans(
    marks: Sequence[Mark], gaps: Sequence[Span], *, first: datetime | None, last: datetime | None
) -> list[Span]:
    """When nobody worked: paused, held, or dead until somebody took it up again.

    A process that dies says nothing. Whoever comes after it says so, and by then the last chunk, or
    the last thing that was noted, is the last sign of it. A long wait within a run is none of this.

    Args:
        marks: What was noted when, in order.
        gaps: Stretches in which no chunk was under way.
        first: When the first chunk began.
        last: When the last one ended.
    """
    found: list[Span] = []
    holding: datetime | None = None
    before: Mark | None = None
    for at, kind in marks:
        if kind == "health_hold":
            holding = holding or at
        elif holding is not None and (kind.startswith("health_") or kind in STANDS):
            found.append((holding, at))
            holding = None
        if before is not None and (kind == COMES or before[1] in STANDS):
            chunk = _last_chunk(at, gaps, first, last)
            found.append((max(before[0], chunk) if chunk else before[0], at))
        before = (at, kind)
    if holding is not None:
        found.append((holding, _EVER))
    if before is not None and before[1] in STANDS:
        found.append((before[0], _EVER))
    return found


def preparing_spans(marks: Sequence[Mark], gaps: Sequence[Span]) -> list[Span]:
    """When a process that came amid the chunks had not written any yet: it looks around first."""
    return [
        (at, until)
        for at, kind in marks
        if kind == COMES
        for since, until in gaps
        if since <= at <= until
    ]


def _last_chunk(
    at: datetime, gaps: Sequence[Span], first: datetime | None, last: datetime | None
) -> datetime | None:
    """When a chunk ended for the last time before a moment; the moment itself amid chunks."""
    if first is None or last is None or at <= first:
        return None
    if at >= last:
        return last
    return next((since for since, until in gaps if since <= at <= until), at)


_EVER = datetime.max.replace(tzinfo=UTC)


def active_seconds(since: datetime, until: datetime, idle: Sequence[Span]) -> float:
    """How much of a stretch of time somebody worked."""
    covered = since
    seconds = max(0.0, (until - since).total_seconds())
    for begin, end in sorted(idle):
        begin, end = max(begin, covered), min(end, until)
        if end > begin:
            seconds -= (end - begin).total_seconds()
            covered = end
    return max(0.0, seconds)


def percent_done(done: int, total: int, *, proved: bool) -> float:
    """How much is done: never all of it before the proof, and never more than all."""
    if proved:
        return 100.0
    if total <= 0:
        return 0.0
    return max(0.0, min(MOST_PERCENT, math.floor(1000 * done / total) / 10))


def proof_seconds(chunk_seconds: float, snapshot_seconds: float | None) -> float:
    """How long everything takes that comes after the last chunk: sweep, gate and proof.

    They read the same records several times, which takes about twice as long as the snapshot took.

    Args:
        chunk_seconds: How long all chunks take.
        snapshot_seconds: How long the snapshot took; None where that is not known.
    """
    if snapshot_seconds is None:
        return chunk_seconds
    return snapshot_seconds + min(snapshot_seconds, chunk_seconds)


def snapshot_seconds(marks: Sequence[Mark]) -> float | None:
    """How long the snapshot took to write: from the gate before it until the chunks could begin."""
    judged: datetime | None = None
    for at, kind in marks:
        if kind == "judged_default_locations":
            judged = at
        elif kind == "state_running":
            return (at - judged).total_seconds() if judged is not None else None
    return None


def estimate_rate(buckets: Sequence[Bucket]) -> tuple[float, float] | None:
    """Records per second to reckon with, and how far off that may be, as a share of it.

    What is more recent counts more: half as much after half of the time so far. At the moment that
    a transaction ends, the others are in the midst of theirs, which is work as well.
    """
    seconds = sum(bucket.seconds for bucket in buckets)
    if seconds < NEEDED_CHUNK_SECONDS or not any(bucket.records for bucket in buckets):
        return None
    transaction = sum(b.transaction * b.seconds for b in buckets) / seconds
    half = max(seconds / 2, LEAST_TRANSACTIONS * transaction)
    age, weights = 0.0, []
    for bucket in reversed(buckets):
        weights.append(0.5 ** ((age + bucket.seconds / 2) / half) * bucket.seconds)
        age += bucket.seconds
    weights.reverse()
    total = sum(weights)
    rates = [bucket.records / bucket.seconds for bucket in buckets]
    mean = sum(w * rate for w, rate in zip(weights, rates, strict=True)) / total
    if mean <= 0:
        return None
    spread = sum(w * (rate - mean) ** 2 for w, rate in zip(weights, rates, strict=True)) / total
    count = total**2 / sum(w**2 for w in weights)
    return mean * _under_way(buckets, seconds, transaction), (
        math.sqrt(spread / max(count, 1.0)) / mean
    )


def _under_way(buckets: Sequence[Bucket], seconds: float, transaction: float) -> float:
    """How many times as much has been worked as has ended: of the other workers half a turn."""
    workers = max(1.0, sum(b.workers * b.seconds for b in buckets) / seconds)
    unseen = transaction * (workers - 1) / (2 * workers)
    return seconds / max(seconds - unseen, seconds / 2)


def estimate_end(
    buckets: Sequence[Bucket], *, remaining: int, after: float, passed: float = 0.0
) -> Eta | None:
    """When a migration that is worked on ends; None where too little is known.

    Args:
        buckets: How the chunks went, without the time in which nobody worked.
        remaining: Records that have no outcome yet.
        after: How long takes what comes after the chunks.
        passed: How much of that has passed, where none remain.
    """
    if not remaining:
        left = max(after - passed, LINGERING * passed)
        return Eta(left, left / 2, 2 * left)
    found = estimate_rate(buckets)
    if found is None:
        return None
    rate, error = found
    chunks = remaining / rate
    wide = FLOOR + CONFIDENCE * error
    return Eta(chunks + after, chunks / (1 + wide) + after / 2, chunks * (1 + 2 * wide) + after * 2)
