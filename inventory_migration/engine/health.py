"""How the server bears a migration: what is looked at between chunks, and kept for `status`.

What workers do about it belongs in `pacing.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from inventory_migration.engine import control, ledger
from inventory_migration.engine.failures import message
from inventory_migration.engine.ledger import Migration

logger = logging.getLogger(__name__)

Level = Literal["well", "slow", "hold"]
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


class Watch:
    """A session that looks at the server for one process, and keeps what it found.

    Nothing that goes wrong here stops a migration: it is not known then, which is told once.
    """

    def __init__(self, engine: sa.Engine, migration: Migration) -> None:
        """Connect to nothing yet."""
        self._engine = engine
        self._migration_id = migration.migration_id
        self._connection: sa.Connection | None = None
        self._kept: Verdict | None = None

    def ask(self, question: Callable[[sa.Connection, int], Found]) -> Found:
        """Ask something about the migration, on a session that is kept."""
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            found = question(self._connection, self._migration_id)
            self._connection.rollback()
        except BaseException:
            self.close()
            raise
        return found

    def close(self) -> None:
        """Give the session up, whatever became of it."""
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None

    def keep(self, verdict: Verdict, observed: Mapping[str, Any]) -> None:
        """Keep a verdict that is another one, with an event."""
        changed = self._kept is None or verdict.kinds != self._kept.kinds
        if not changed:
            return
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.text("SET LOCAL lock_timeout = '1s'"))
                # Whoever waits for the migration's row is told that nothing is written any more.
                if control.enter(connection, self._migration_id) != "run":
                    return
                _keep(connection, self._migration_id, verdict, observed)
                if verdict.reasons or self._kept is not None:
                    ledger.note(
                        connection,
                        f"health_{verdict.level}",
                        migration_id=self._migration_id,
                        reasons=[reason.text for reason in verdict.reasons] or None,
                    )
        except sa.exc.DBAPIError as error:
            logger.debug("health could not be kept: %s", message(error))
            return
        self._kept = verdict


def _keep(
    connection: sa.Connection, migration_id: int, verdict: Verdict, observed: Mapping[str, Any]
) -> None:
    said: dict[str, Any] = {
        "verdict": verdict.level,
        "reasons": [
            {"measure": reason.measure, "level": reason.level, "text": reason.text}
            for reason in verdict.reasons
        ],
        "observed": dict(observed),
        "since": sa.func.clock_timestamp(),
        "at": sa.func.clock_timestamp(),
    }
    connection.execute(
        postgresql.insert(ledger.health)
        .values(migration_id=migration_id, **said)
        .on_conflict_do_update(index_elements=[ledger.health.c.migration_id], set_=said)
    )


def last_looks(connection: sa.Connection) -> dict[int, dict[str, Any]]:
    """What was found last about each migration that is under way, by its id."""
    if not ledger.table_exists(connection, ledger.health.name):
        return {}  # a ledger that an older version has made
    rows = connection.execute(
        sa.select(ledger.health)
        .join(ledger.migration)
        .where(ledger.migration.c.state.in_(ledger.ACTIVE))
    )
    return {
        row.migration_id: {
            "verdict": row.verdict,
            "since": row.since.isoformat(),
            "at": row.at.isoformat(),
            "reasons": row.reasons,
            **row.observed,
        }
        for row in rows
    }
