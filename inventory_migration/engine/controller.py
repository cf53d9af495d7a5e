"""How many chunks the next transaction takes, from what the last ones took.

No clock, no database and no lock in here: it is told what each transaction took, and asked what the
next may. Who asks, and what else restrains a worker, is in `pacing.py`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

MOST_CHUNKS = 5000
GROWTH = 1.5
"""How many times as much is tried at most, each time that all of it has been tried."""

PANIC = 5.0
"""A transaction that takes this many times as long as it should is no sample, but an alarm."""

CUT = 10
DEAD_BAND = 0.1
MEMORY = 0.75
"""What a transaction counts beside the next one: together the last four make the estimate."""

SAMPLES = 5
"""How many transactions must have gone well before more is tried, at first and after a cut."""

USUAL = 2.0
"""Locking that takes up to this many times as long as usual was no wait for somebody else."""

USUAL_OF = 8
"""Of how many transactions the least is the usual: what stays slower becomes usual with them."""

Kind = Literal["grown", "shrunk", "cut", "pinned"]


@dataclass(frozen=True)
class Goal:
    """What one transaction should take, at most.

    Attributes:
        seconds: How long, without waiting for the locks of others.
        wal_bytes: How much WAL.
    """

    seconds: float
    wal_bytes: int


@dataclass(frozen=True)
class Took:
    """What one transaction that committed has taken.

    Attributes:
        chunks: How many chunks it moved.
        seconds: How long it lasted.
        locking: How much of that its records' locks took, waits for others among it; 0 where they
            were locked as they were written, which cannot be told apart.
        wal_bytes: How much WAL it wrote, as far as that can be told.
        cuts: The controller's cuts as it began.
    """

    chunks: int
    seconds: float
    locking: float = 0.0
    wal_bytes: int = 0
    cuts: int = 0


@dataclass(frozen=True)
class Change:
    """That transactions take another number of chunks from now on, and why.

    Attributes:
        kind: Grown or shrunk by what transactions take, cut by an alarm; or pinned: one chunk is
            too much, and there is nothing smaller.
        before: How many chunks they took.
        after: How many they take.
        reason: For a person to read.
    """

    kind: Kind
    before: int
    after: int
    reason: str


@dataclass
class Controller:
    """The size of transactions, for all workers of a process together.

    It follows the cost of a chunk, which a moving average tells, and not the time of a transaction:
    so it knows at once what another size would take. The way down is free and the way up is not;
    what is too much at once is cut.

    Attributes:
        goal: What a transaction should take.
        cuts: How often it has been cut; what began before the last of them tells of a size that
            is given up already.
    """

    goal: Goal
    cuts: int = 0
    _size: float = 1.0
    _samples: int = 0
    _chunks: float = 0.0
    _seconds: float = 0.0
    _wal_bytes: float = 0.0
    _locking: deque[float] = field(default_factory=lambda: deque(maxlen=USUAL_OF))
    _pinned: bool = False

    @property
    def limit(self) -> int:
        """How many chunks to claim next."""
        return int(self._size)

    def took(self, took: Took) -> Change | None:
        """Learn from a transaction that committed; returns what follows, if anything does."""
        seconds = max(took.seconds - self._waited(took), 1e-4)
        if seconds > PANIC * self.goal.seconds and self.limit > 1:
            why = f"one took {seconds:.2f} s, and not {self.goal.seconds:g}"
            return self._cut(CUT, why, took.cuts)
        self._samples += 1
        self._chunks = self._chunks * MEMORY + took.chunks
        self._seconds = self._seconds * MEMORY + seconds
        self._wal_bytes = self._wal_bytes * MEMORY + took.wal_bytes
        by_time = self.goal.seconds * self._chunks / self._seconds
        by_wal = self.goal.wal_bytes * self._chunks / max(self._wal_bytes, 1.0)
        fitting = min(by_time, by_wal)
        why = self._cost(by_wal=by_wal < by_time)
        if fitting < self._size * (1 - DEAD_BAND):
            if self.limit == 1 and fitting < 0.5:
                return self._pin(why)
            return self._become(fitting, "shrunk", why)
        # What nobody has tried yet is no ground to try more.
        tried = took.chunks >= self.limit and self._samples >= SAMPLES
        if fitting > self._size * (1 + DEAD_BAND) and tried:
            return self._become(min(fitting, self._size * GROWTH), "grown", why)
        return None

    def failed(self, cuts: int, why: str) -> Change | None:
        """Take half as much after a failure that is worth another try.

        Args:
            cuts: The cuts as the transaction that failed began.
            why: What befell it.
        """
        return self._cut(2, why, cuts)

    def _waited(self, took: Took) -> float:
        """How long it waited for the locks of others: what locking took beyond the usual."""
        if not took.locking:
            return 0.0
        self._locking.append(took.locking / took.chunks)
        return max(0.0, took.locking - USUAL * min(self._locking) * took.chunks)

    def _cut(self, by: int, why: str, cuts: int) -> Change | None:
        if cuts < self.cuts:
            return None
        self.cuts += 1
        self._samples = 0
        self._chunks = self._seconds = self._wal_bytes = 0.0
        return self._become(self._size / by, "cut", why)

    def _become(self, size: float, kind: Kind, why: str) -> Change | None:
        before, self._size = self.limit, min(max(size, 1.0), float(MOST_CHUNKS))
        return Change(kind, before, self.limit, why) if self.limit != before else None

    def _pin(self, why: str) -> Change | None:
        self._size = 1.0
        if self._pinned:
            return None
        self._pinned = True
        return Change("pinned", 1, 1, why)

    def _cost(self, *, by_wal: bool) -> str:
        if by_wal:
            each, most = (
                n / 1024**2 for n in (self._wal_bytes / self._chunks, self.goal.wal_bytes)
            )
            return f"a chunk writes {each:.2f} MB of WAL, and a transaction may write {most:g}"
        each = self._seconds / self._chunks
        return f"a chunk takes {each:.3f} s, and a transaction may take {self.goal.seconds:g}"
