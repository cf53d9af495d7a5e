"""How the server bears a migration: looks, what they are judged to be, what is kept for `status`.

What is asked of the server is in `measures.py`; what workers do about it belongs in `pacing.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from inventory_migration.engine import control, ledger
from inventory_migration.engine.failures import message
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.measures import MEASURES, SECONDS, Measure, Meter, Reading
from inventory_migration.mapping import Health
from inventory_migration.mapping.health import Floor, Limits

logger = logging.getLogger(__name__)

Level = Literal["well", "slow", "hold"]
_LEVELS: tuple[Level, ...] = ("well", "slow", "hold")

CALM_LOOKS = 3
"""How many looks must find a measure better before it is: what comes and goes is one event."""

KEEP_SECONDS = 10.0
"""How often figures are kept while nothing else changes."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class Reason:
    """Why workers are restrained.

    Attributes:
        measure: What was measured, or `window`.
        level: What it asks for.
        text: What was found, and what is allowed.
    """

    measure: str
    level: Level
    text: str


@dataclass(frozen=True)
class Verdict:
    """What all reasons together ask for: the most that one of them does."""

    reasons: tuple[Reason, ...] = ()

    @property
    def level(self) -> Level:
        """Go, go slowly, or wait."""
        levels = {reason.level for reason in self.reasons}
        return "hold" if "hold" in levels else "slow" if levels else "well"

    @property
    def kinds(self) -> frozenset[tuple[str, Level]]:
        """What makes it another verdict, whatever the figures are."""
        return frozenset((reason.measure, reason.level) for reason in self.reasons)

    def __str__(self) -> str:
        """All reasons, a clause each."""
        return "; ".join(reason.text for reason in self.reasons)


@dataclass
class _Standing:
    """What a measure is judged to be.

    Attributes:
        reading: The last one.
        level: What it asks for.
        since: Since when it does.
        calm: How many looks in a row have found it better than that.
        text: What was found when it was last as bad.
    """

    reading: Reading
    level: Level
    since: str
    calm: int = 0
    text: str = ""


class Judge:
    """Holds readings against limits, and remembers: better must be so for some looks to count."""

    def __init__(self, limits: Health) -> None:
        """Know nothing yet."""
        self._limits = limits
        self._standing: dict[str, _Standing] = {}

    def verdict(self, readings: Mapping[str, Reading], moment: datetime) -> Verdict:
        """What the readings of a moment, and those before, ask for."""
        for measure in MEASURES:
            if measure.name in readings:
                self._judge(measure, readings[measure.name], moment.isoformat())
        return Verdict(
            tuple(
                Reason(name, standing.level, standing.text)
                for name, standing in self._standing.items()
                if standing.level != "well"
            )
        )

    @property
    def unknown(self) -> dict[str, str]:
        """Which measures are not known, or only in part, and why."""
        told = {name: standing.reading.unknown for name, standing in self._standing.items()}
        return {name: why for name, why in told.items() if why is not None}

    def observed(self) -> list[dict[str, Any]]:
        """Each measure with its limits, as `status` shows it."""
        units = {measure.name: measure.unit for measure in MEASURES}
        return [
            {
                "measure": name,
                "value": None if s.reading.value is None else round(s.reading.value, 3),
                "unit": units[name],
                "slow": getattr(self._limits, name).slow,
                "hold": getattr(self._limits, name).hold,
                "level": s.level,
                "since": s.since,
                "of": s.reading.what or None,
                "unknown": s.reading.unknown,
            }
            for name, s in self._standing.items()
        ]

    def _judge(self, measure: Measure, reading: Reading, moment: str) -> None:
        limits: Limits = getattr(self._limits, measure.name)
        level, text = _level(measure, limits, reading)
        before = self._standing.get(measure.name)
        if before is None or _LEVELS.index(level) > _LEVELS.index(before.level):
            self._standing[measure.name] = _Standing(reading, level, moment, text=text)
            return
        before.reading = reading
        if level == before.level:
            before.calm, before.text = 0, text
            return
        before.calm += 1
        if before.calm >= CALM_LOOKS:
            self._standing[measure.name] = _Standing(reading, level, moment, text=text)


def _level(measure: Measure, limits: Limits, reading: Reading) -> tuple[Level, str]:
    if reading.value is None:
        return "well", ""
    # What the server may still take by itself is not free to be written to.
    slow = None if limits.slow is None else limits.slow + reading.allowance
    bounds: tuple[tuple[Level, float | None], ...] = (("hold", limits.hold), ("slow", slow))
    for level, limit in bounds:
        if limit is None:
            continue
        low = isinstance(limits, Floor)
        if reading.value < limit if low else reading.value >= limit:
            value = f"{_figure(reading.value)} {measure.unit}"
            found = measure.text.format(value=value, what=reading.what)
            which = "below" if low else "from"
            return level, f"{found} ({level} {which} {_figure(limit)} {measure.unit})"
    return "well", ""


def _figure(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")


class Watch:
    """A session that looks at the server for one process, and keeps what it found.

    Nothing that goes wrong here stops a migration: it is not known then, which is told once.
    """

    def __init__(self, engine: sa.Engine, migration: Migration, limits: Health) -> None:
        """Connect to nothing yet."""
        self._engine = engine
        self._migration_id = migration.migration_id
        self._connection: sa.Connection | None = None
        self._meter = Meter(limits, migration.migration_id)
        self._judge = Judge(limits)
        self._kept: Verdict | None = None
        self._kept_at = float("-inf")
        self._told_unknown: dict[str, str] = {}
        self._blind: str | None = None

    def look(self) -> Verdict | None:
        """Look once; None where nothing could be seen, and what was found before still stands."""
        try:
            readings = self._ask(self._meter.read)
        except sa.exc.DBAPIError as error:
            if self._blind is None:
                logger.warning("the server's health is not known: %s", message(error))
            self._blind = message(error)
            return None
        self._blind = None
        return self._judge.verdict(readings, datetime.now(UTC))

    def desired(self) -> str | None:
        """What workers should do; None where the server does not say."""
        try:
            return self._ask(lambda c: control.desired_state(c, self._migration_id))
        except sa.exc.DBAPIError:
            return None

    def close(self) -> None:
        """Give the session up, whatever became of it."""
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None

    def keep(self, verdict: Verdict, figures: Mapping[str, Any]) -> None:
        """Keep what was found: another verdict at once and as an event, figures now and then."""
        first, now = self._kept is None, time.monotonic()
        changed = first or verdict.kinds != (self._kept or verdict).kinds
        unknown = self._judge.unknown
        if not changed and unknown == self._told_unknown and now - self._kept_at < KEEP_SECONDS:
            return
        self._kept_at = now
        observed = {**figures, "measures": self._judge.observed()}
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.text("SET LOCAL lock_timeout = '1s'"))
                # Whoever waits for the migration's row is told that nothing is written any more.
                if control.enter(connection, self._migration_id) != "run":
                    return
                _keep(connection, self._migration_id, verdict, observed, changed=changed)
                if changed and (verdict.reasons or not first):
                    self._note(
                        connection,
                        f"health_{verdict.level}",
                        reasons=[reason.text for reason in verdict.reasons] or None,
                    )
                if unknown and unknown != self._told_unknown:
                    self._note(connection, "health_unknown", measures=unknown)
        except sa.exc.DBAPIError as error:
            logger.debug("health could not be kept: %s", message(error))
            return
        self._kept, self._told_unknown = verdict, unknown

    def _note(self, connection: sa.Connection, kind: str, **detail: Any) -> None:
        ledger.note(connection, kind, migration_id=self._migration_id, **detail)

    def _ask(self, question: Callable[[sa.Connection], Found]) -> Found:
        """Ask something in a session that is kept, and can not write."""
        try:
            if self._connection is None:
                self._connection = _session(self._engine)
            found = question(self._connection)
            self._connection.rollback()
        except BaseException:
            self.close()
            raise
        return found


def _session(engine: sa.Engine) -> sa.Connection:
    connection = engine.connect()
    driver = connection.connection.driver_connection
    if isinstance(driver, psycopg.Connection):
        driver.read_only = True
    connection.execute(
        sa.text(
            f"SELECT set_config('statement_timeout', '{SECONDS:.0f}s', false), "
            "set_config('lock_timeout', '1s', false)"
        )
    )
    connection.commit()
    return connection


def _keep(
    connection: sa.Connection,
    migration_id: int,
    verdict: Verdict,
    observed: Mapping[str, Any],
    *,
    changed: bool,
) -> None:
    said: dict[str, Any] = {
        "verdict": verdict.level,
        "reasons": [
            {"measure": reason.measure, "level": reason.level, "text": reason.text}
            for reason in verdict.reasons
        ],
        "observed": dict(observed),
        "at": sa.func.clock_timestamp(),
    }
    if changed:
        said["since"] = sa.func.clock_timestamp()
    connection.execute(
        postgresql.insert(ledger.health)
        .values(migration_id=migration_id, **said)
        .on_conflict_do_update(index_elements=[ledger.health.c.migration_id], set_=said)
    )
