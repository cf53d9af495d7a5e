"""One thing that is watched: what is read of it again when, so that it costs its share and no more.

The state and who works are read each second; the costlier a part, the less often. Who asks, for
whom, and what happens where nobody answers is in `watching.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inventory_migration.engine import ledger
from inventory_migration.engine.failures import sqlstate
from inventory_migration.engine.picture import Reading, list_at_a_glance
from inventory_migration.errors import MigrationUnknown

if TYPE_CHECKING:
    import sqlalchemy as sa

PULSE_SECONDS = 1.0
REST_SECONDS = 30.0
"""How often is asked again what cannot have changed: nobody works, and nothing has happened."""

MOST_AT_FIRST = 0.5
"""What the first answer costs at most: of a longer one it is not known yet that it is no wait."""

SEEN_SECONDS = 3.0
"""How long a worker counts that was seen in a transaction; it has more than one."""


@dataclass
class Tier:
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
    _took: float = MOST_AT_FIRST

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


class Watched:
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
            self.first = Tier(list_at_a_glance, PULSE_SECONDS, 1.0)
            self._others: dict[str, Tier] = {}
        else:
            self.first = Tier(reading.read_pulse, PULSE_SECONDS, None)
            self._others = {
                "add the chunks up": Tier(reading.read_numbers, PULSE_SECONDS, 0.4),
                "put the chunks on a time line": Tier(reading.read_course, 2.0, 0.25),
                "list what was put aside": Tier(reading.read_details, 3.0, 0.15),
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
            except Exception as error:
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
