"""What is foretold of a migration: who worked when, how fast, how much is done, when it ends.

Pure functions of what `progress.py` has read; nothing here asks a database or a clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

Span = tuple[datetime, datetime]

MOST_PERCENT = 99.0
"""As far as a migration is before its proof has passed."""

NEEDED_CHUNK_SECONDS = 1.0
"""How long chunks must have been written for their rate to say anything."""

FLOOR = 0.05
CONFIDENCE = 1.28
"""The band holds about eight of ten."""

RESTARTS = ("opened_audit_profile", "state_running", "state_rolling_back")
"""Marks of somebody who begins to work."""

STANDSTILLS = ("state_paused", "state_held", "state_failed", "state_aborted", "state_verified")
"""Marks of somebody who ends it."""

ROLLBACK_SECONDS = 1.0
"""What comes after the chunks of a rollback: locations that go, and the state."""

PROOF_SECONDS = 4.0
PROOF_SHARE = 0.25
"""What comes after the chunks, where nothing is known of it: a start, and a share of their time."""

PROOF_OF_PROFILE = 1.5
"""How many times as long as the first gate everything after the chunks takes."""


@dataclass(frozen=True)
class Bucket:
    """A stretch of time in which chunks ended: how long, and how many records they had."""

    seconds: float
    records: int


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
    marks: Sequence[tuple[datetime, str]],
    gaps: Sequence[Span],
    *,
    first: datetime | None,
    last: datetime | None,
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
    before: datetime | None = None
    for at, kind in marks:
        if kind == "health_hold":
            holding = holding or at
        elif holding is not None and (kind.startswith("health_") or kind in STANDSTILLS):
            found.append((holding, at))
            holding = None
        if kind in RESTARTS and before is not None:
            sign = max(before, _last_chunk(at, gaps, first, last) or before)
            found.append((sign, at))
        before = at
    if holding is not None:
        found.append((holding, datetime.max.replace(tzinfo=holding.tzinfo)))
    elif marks and marks[-1][1] in STANDSTILLS:
        found.append((marks[-1][0], datetime.max.replace(tzinfo=marks[-1][0].tzinfo)))
    return found


def _last_chunk(
    at: datetime, gaps: Sequence[Span], first: datetime | None, last: datetime | None
) -> datetime | None:
    """When a chunk ended for the last time before a moment; the moment itself amid chunks."""
    if first is None or last is None or at <= first:
        return None
    if at >= last:
        return last
    return next((since for since, until in gaps if since <= at <= until), at)


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


def proof_seconds(chunk_seconds: float, profile_seconds: float | None) -> float:
    """How long everything takes that comes after the last chunk.

    Args:
        chunk_seconds: How long all chunks take.
        profile_seconds: How long the first gate took, which looks at the same records.
    """
    if profile_seconds is None:
        return PROOF_SECONDS + PROOF_SHARE * chunk_seconds
    return PROOF_SECONDS + PROOF_OF_PROFILE * profile_seconds


def estimate_rate(buckets: Sequence[Bucket]) -> tuple[float, float] | None:
    """Records per second to reckon with, and how far off that may be, as a share of it.

    What is more recent counts more: half as much after a third of the time so far.
    """
    seconds = sum(bucket.seconds for bucket in buckets)
    if seconds < NEEDED_CHUNK_SECONDS or not any(bucket.records for bucket in buckets):
        return None
    half = max(seconds / 3, 10.0)
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
    return mean, math.sqrt(spread / max(count, 1.0)) / mean


def profile_seconds(marks: Sequence[tuple[datetime, str]]) -> float | None:
    """How long the first gate of the last start took, from its opening to its verdict."""
    opened: datetime | None = None
    found: float | None = None
    for at, kind in marks:
        if kind == "opened_audit_profile":
            opened = at
        elif kind == "judged_audit_profile" and opened is not None:
            found = (at - opened).total_seconds()
    return found


def estimate_end(buckets: Sequence[Bucket], *, remaining: int, after: float) -> Eta | None:
    """When a migration that is worked on ends; None where too little is known.

    Args:
        buckets: How the chunks went, without the time in which nobody worked.
        remaining: Records that have no outcome yet.
        after: How long takes what comes after the chunks.
    """
    if not remaining:
        return Eta(after, after / 2, 2 * after)
    found = estimate_rate(buckets)
    if found is None:
        return None
    rate, error = found
    chunks = remaining / rate
    wide = FLOOR + CONFIDENCE * error
    return Eta(chunks + after, chunks / (1 + wide) + after / 2, chunks * (1 + 2 * wide) + after * 2)
