"""How fast workers may go, and whether they may go at all: chunks to a turn, limit, rest, hold.

The workers of one process share a `Pacing`. Each asks it for a turn before its transaction, and
waits there while nothing is open at the server; the thread that waits for the workers tends it. The
clock is given, so that it can be tried out. How many chunks a transaction takes is worked out in
`controller.py`; what is looked at, and kept for `status`, is in `health.py`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from inventory_migration.engine import health
from inventory_migration.engine.controller import Change, Controller, Goal, Took
from inventory_migration.engine.health import Reason, Verdict
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.plan import Start
from inventory_migration.errors import ServerNotWell
from inventory_migration.mapping import Health, StockMapping
from inventory_migration.mapping.health import opens_at

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 5.0
"""How long a transaction lasts in a maintenance window, where the mapping does not want longer."""

WAL_BYTES = 16 * 1024**2
"""How much WAL a transaction of half a second may write, and a longer one in proportion."""

LEFT_SHARE = 2
"""Each worker takes at most one in so many of its part of the chunks that are left of a phase."""

PASS_SHARE = 2
"""Of one pass over the pages, all that is under way at a time is at most one in so many."""

MOST_REST = 8.0
"""How many times as long as its last transaction a worker rests at most."""

REST_SECONDS = 5.0
POLL_SECONDS = 0.1
ASK_SECONDS = 0.5
"""How often a process whose workers wait asks whether they should wait any longer."""


class RateLimit:
    """So many records per second, whoever moves them.

    Records are reserved before they are moved, each reservation in the place of the one before it:
    within any stretch of time no more begin to move than fit into it, and one reservation.
    """

    def __init__(self, rows_per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing reserved."""
        self.rows_per_second = rows_per_second
        self._clock = clock
        self._free = clock()
        self._lock = threading.Lock()

    def reserve(self, rows: int) -> tuple[float, float]:
        """Reserve records; returns when they may move, and when the next ones may."""
        with self._lock:
            begin = max(self._clock(), self._free)
            self._free = begin + rows / self.rows_per_second
            return begin, self._free

    def settle(self, reserved: tuple[float, float], rows: int) -> None:
        """Give back what was reserved and did not move, unless somebody has reserved since."""
        begin, end = reserved
        with self._lock:
            if self._free == end:
                self._free = begin + rows / self.rows_per_second


@dataclass
class Turn:
    """A worker's leave for one transaction, and what came of it.

    Attributes:
        chunks: How many it may take at most.
        cuts: How often transactions had been cut as it began.
        reserved: Its place under the limit of records per second, where there is one.
        done: How many chunks it moved.
        alone: Whether that was one that had failed before, which tells nothing of others.
        rows: How many records it moved.
        seconds: How long it took.
        locking: How much of that its records' locks took.
        wal_bytes: How much WAL the server wrote meanwhile, whoever caused it.
        failed: What befell it, where that is worth another try.
    """

    chunks: int
    cuts: int = 0
    reserved: tuple[float, float] | None = None
    done: int = 0
    alone: bool = False
    rows: int = 0
    seconds: float = 0.0
    locking: float = 0.0
    wal_bytes: int = 0
    failed: str | None = None


class Pacing:
    """What restrains the workers of one process, now."""

    def __init__(
        self,
        engine: sa.Engine,
        mapping: StockMapping,
        migration: Migration,
        start: Start,
        *,
        calendar: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take the limits from the mapping, and from whoever starts.

        Args:
            engine: The migrated database.
            mapping: The mapping, whose limits count.
            migration: The migration.
            start: Who starts: may limit the rate, lift the hours, and want longer transactions.
            calendar: What time it is.
        """
        self._limits: Health = mapping.health
        self._windows = [] if start.no_window else self._limits.window
        self._chunk_rows = mapping.chunk.rows
        self._controller = Controller(goal_of(mapping, start))
        self._under_way = 0
        self._left: int | None = None
        self._share = 1
        self._most: int | None = None
        self._lock = threading.Lock()
        rate = start.max_rows_per_second or self._limits.max_rows_per_second
        self._rate = RateLimit(rate) if rate else None
        self._calendar = calendar
        self._migration = migration
        self._watch = health.Watch(engine, migration, mapping.health)
        self._seen = self._verdict = Verdict()
        self._rest = 0.0
        self._look_at = self._asked = time.monotonic()
        self._held_since: float | None = None
        self._opens: datetime | None = None

    def begin_phase(self, chunks: int, workers: int, *, of_pass: int | None = None) -> None:
        """Know how much there is to divide, so that nobody takes all that is left of it.

        A page is met again in the next pass. What was written in it by the last one is out of the
        way only once that has committed, and everything that was under way beside it.

        Args:
            chunks: How many are pending.
            workers: How many share them.
            of_pass: How many chunks a pass over the pages takes, where there are more than one.
        """
        self._most = None if of_pass is None else max(1, of_pass // (PASS_SHARE * workers))
        self._left, self._share = chunks, LEFT_SHARE * workers

    @property
    def holding(self) -> Verdict | None:
        """Why nobody may begin anything; None where they may."""
        return self._verdict if self._verdict.level == "hold" else None

    def admit(self, stop: threading.Event) -> Turn | None:
        """Wait until a worker may begin a transaction; None where it should stop.

        Args:
            stop: Ends the wait.
        """
        turn = Turn(self._controller.limit, self._controller.cuts)
        if self._left is not None:
            turn.chunks = min(turn.chunks, max(1, self._left // self._share))
        if self._most is not None:
            turn.chunks = min(turn.chunks, self._most)
        if self._verdict.level == "slow":
            turn.chunks = 1
        if self._rate is not None:
            fitting = self._rate.rows_per_second // self._chunk_rows
            turn.chunks = max(1, min(turn.chunks, fitting))
            turn.reserved = self._rate.reserve(turn.chunks * self._chunk_rows)
        while self.holding or (turn.reserved and turn.reserved[0] > time.monotonic()):
            if stop.wait(POLL_SECONDS if self.holding else self._due(turn)):
                return None
        if stop.is_set():
            return None
        with self._lock:
            self._under_way += 1
            self._left = self._left and max(0, self._left - turn.chunks)
        return turn

    def finish(self, turn: Turn, stop: threading.Event) -> None:
        """Take note of what came of a turn, and rest where the server needs it."""
        self._learn(turn)
        if self._rate is not None and turn.reserved is not None:
            self._rate.settle(turn.reserved, turn.rows)
        if self._rest and turn.seconds:
            stop.wait(min(REST_SECONDS, max(POLL_SECONDS, self._rest * turn.seconds)))

    def tend(self) -> bool:
        """Look where it is time to; False where the workers should stop, as somebody asked for.

        Raises:
            ServerNotWell: Workers have waited for as long as the mapping lets them.
        """
        verdict = self._judged()
        if verdict.kinds != self._verdict.kinds:
            _tell(self._migration, verdict)
        self._verdict = verdict
        self._watch.keep(verdict, self._figures())
        self._give_up()
        now = time.monotonic()
        if (verdict.level == "well" and self._rate is None) or now - self._asked < ASK_SECONDS:
            return True
        # Workers that wait do not see what is desired.
        self._asked = now
        return self._watch.desired() in {"run", None}

    def close(self) -> None:
        """Look no more."""
        self._watch.close()

    def _learn(self, turn: Turn) -> None:
        """Let what came of a turn decide about the next ones."""
        change = None
        with self._lock:
            # The server knows only the WAL of all; what others cause counts too, which is careful.
            wal_bytes, self._under_way = turn.wal_bytes // self._under_way, self._under_way - 1
            if self._left is not None:
                self._left += turn.chunks - turn.done
            if turn.failed is not None:
                change = self._controller.failed(turn.cuts, turn.failed)
            elif turn.done and not turn.alone:
                change = self._controller.took(
                    Took(turn.done, turn.seconds, turn.locking, wal_bytes, turn.cuts)
                )
        if change is not None:
            _tell_change(self._migration, change)

    def _due(self, turn: Turn) -> float:
        assert turn.reserved is not None  # noqa: S101 - asked for only where it is
        return min(POLL_SECONDS, max(0.0, turn.reserved[0] - time.monotonic()))

    def _give_up(self) -> None:
        """Wait no longer than the mapping says; a window opens by itself, and has no end."""
        if self.holding is None or self._opens is not None:
            self._held_since = None
            return
        now = time.monotonic()
        self._held_since = self._held_since or now
        minutes = (now - self._held_since) / 60
        if minutes >= self._limits.hold_minutes:
            holds = [reason for reason in self._verdict.reasons if reason.level == "hold"]
            raise ServerNotWell(
                migration_id=self._migration.migration_id,
                minutes=minutes,
                reason="; ".join(reason.text for reason in holds),
                disk_full=any(reason.measure == "free_disk_megabytes" for reason in holds),
            )

    def _look(self) -> Verdict:
        """Look if it is time to, and let workers rest the longer the more looks ask for it."""
        if time.monotonic() >= self._look_at:
            self._seen = self._watch.look() or self._seen
            self._look_at = time.monotonic() + self._limits.look_seconds
            if self._seen.level == "slow":
                self._rest = min(MOST_REST, max(1.0, self._rest * 2))
            else:
                self._rest = self._rest / 2 if self._rest > 1 else 0.0
        return self._seen

    def _judged(self) -> Verdict:
        now = self._calendar()
        if self._windows and not any(window.is_open(now) for window in self._windows):
            if self._opens is None or self._opens <= now:
                self._opens = opens_at(self._windows, now)
            windows = " or ".join(map(str, self._windows))
            text = f"outside of the window ({windows}), which opens {self._when()}"
            return Verdict((Reason("window", "hold", text),))
        self._opens = None
        return self._look()

    def _when(self) -> str:
        if self._opens is None:
            return "no more"
        zone = ZoneInfo(self._windows[0].time_zone)
        return self._opens.astimezone(zone).isoformat(" ", "minutes")

    def _figures(self) -> dict[str, object]:
        """What workers are bound to whatever is looked at."""
        return {
            "max_rows_per_second": self._rate.rows_per_second if self._rate else None,
            "window": [str(window) for window in self._windows],
        }


def goal_of(mapping: StockMapping, start: Start) -> Goal:
    """What a transaction should take: what the mapping says, and more in a maintenance window."""
    seconds = mapping.chunk.target_ms / 1000
    if start.maintenance_window:
        seconds = max(seconds, WINDOW_SECONDS)
    return Goal(seconds, int(WAL_BYTES * max(1.0, seconds / 0.5)))


def _tell_change(migration: Migration, change: Change) -> None:
    """Log that transactions take more or less; an alarm louder than what goes by itself."""
    extra = {
        "migration_id": migration.migration_id,
        "chunks_before": change.before,
        "chunks_after": change.after,
    }
    if change.kind == "pinned":
        logger.warning(
            "no transaction is small enough: %s; lower chunk.rows", change.reason, extra=extra
        )
        return
    logger.log(
        logging.INFO if change.kind == "cut" else logging.DEBUG,
        "a transaction takes %d chunks, and no longer %d: %s",
        change.after,
        change.before,
        change.reason,
        extra=extra,
    )


def _tell(migration: Migration, verdict: Verdict) -> None:
    """Say once that workers are restrained, or no longer."""
    extra = {"migration_id": migration.migration_id}
    if verdict.level == "well":
        logger.info("nothing holds the migration back any more", extra=extra)
    else:
        logger.warning("%s: %s", verdict.level, verdict, extra=extra)
