"""Migrations that need somebody: paused, held, failed, left alone, kept waiting, over a threshold.

Each has a key by which it is told once. Who looks when, and shows it how, is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from inventory_migration.engine import ledger, progress
from inventory_migration.engine.ledger import SCHEMA
from inventory_migration.engine.progress import Pulse

ALONE = timedelta(seconds=60)
"""For how long nobody works on a migration until that is told: between two steps of a shell's own
nobody does either."""

WAITING = timedelta(minutes=5)
"""For how long workers are held back until that is told."""


@dataclass(frozen=True)
class Matter:
    """Something about a migration that somebody should know.

    Attributes:
        key: Names it for good, so that it is told once.
        kind: What it is: paused, held, failed, left_alone, waiting or threshold.
        reason: Why, in the ledger's words.
        who: Who did it; None where nobody did.
        at: Since when it is so.
        command: What to do next.
    """

    key: str
    migration_id: int
    mapping: str
    kind: str
    reason: str
    who: str | None
    at: str
    command: str

    @property
    def sentence(self) -> str:
        """All of it, for people."""
        done = {
            "left_alone": "is left alone",
            "waiting": "waits",
            "threshold": "is over a threshold",
        }.get(self.kind, f"is {self.kind}")
        by = f" ({self.who})" if self.who else ""
        return (
            f"Migration {self.migration_id} of {self.mapping} {done}: {self.reason}{by}; next: "
            f"'inventory-migration {self.command}'"
        )


def newest_event(connection: sa.Connection) -> int:
    """The id of the trail's newest event."""
    return int(connection.execute(sa.select(sa.func.max(ledger.event.c.event_id))).scalar() or 0)


def matters(connection: sa.Connection, *, after: int) -> list[Matter]:
    """All that stands now, and each threshold of the trail behind an event.

    Args:
        connection: A connection to a ledger; only read from.
        after: The newest event that thresholds were looked for in.
    """
    found = [_stands(row) for row in connection.execute(_STANDING)]
    active = sa.select(ledger.migration.c.migration_id).where(
        ledger.migration.c.state.in_(progress.DRIVEN)
    )
    for migration_id in connection.execute(active).scalars().all():
        pulse = progress.read_pulse(connection, migration_id)
        if pulse is not None:
            found += _of_driven(pulse)
    return [*found, *map(_threshold, connection.execute(_THRESHOLDS, {"after": after}))]


def under_way(connection: sa.Connection) -> list[str]:
    """A clause for each migration that is active, for who asks why nothing is told."""
    rows = connection.execute(
        sa.select(
            ledger.migration.c.migration_id, ledger.migration.c.mapping, ledger.migration.c.state
        )
        .where(ledger.migration.c.state.in_(ledger.ACTIVE))
        .order_by(ledger.migration.c.migration_id)
    )
    return [
        f"migration {row.migration_id} of {row.mapping} is {row.state.replace('_', ' ')}"
        for row in rows
    ]


def _stands(row: sa.Row[Any]) -> Matter:
    return Matter(
        key=f"{row.state}:{row.migration_id}:{row.event_id}",
        migration_id=row.migration_id,
        mapping=row.mapping,
        kind=row.state,
        reason=row.reason or "no reason was given",
        who=row.who,
        at=row.at.isoformat(),
        command=f"resume {row.mapping}",
    )


def _of_driven(pulse: Pulse) -> Iterator[Matter]:
    """Whether one that should be worked on is not, or waits."""
    row, last = pulse.row, pulse.last_sign_at
    if not pulse.working and last is not None and pulse.at - last > ALONE:
        verb = "rollback" if row.state == "rolling_back" else "run"
        yield Matter(
            # Whoever takes it up again, and leaves it too, is another occasion.
            key=f"left_alone:{row.migration_id}:{len(row.run_ids)}:{row.set_at}",
            migration_id=row.migration_id,
            mapping=row.mapping,
            kind="left_alone",
            reason=f"it is {row.state.replace('_', ' ')}, and nobody works on it",
            who=None,
            at=last.isoformat(),
            command=f"{verb} {row.mapping}",
        )
    if pulse.working and row.verdict == "hold" and pulse.at - row.health_since > WAITING:
        yield Matter(
            key=f"waiting:{row.migration_id}:{row.health_since.isoformat()}",
            migration_id=row.migration_id,
            mapping=row.mapping,
            kind="waiting",
            reason="; ".join(reason["text"] for reason in row.reasons),
            who=None,
            at=row.health_since.isoformat(),
            command=f"status {row.mapping}",
        )


def _threshold(row: sa.Row[Any]) -> Matter:
    action = {"rollback": "it is rolled back", "pause": "it is paused"}
    return Matter(
        key=f"threshold:{row.migration_id}:{row.event_id}",
        migration_id=row.migration_id,
        mapping=row.mapping,
        kind="threshold",
        reason=f"{row.reason}; {action.get(row.action, 'it goes on')}",
        who=None,
        at=row.at.isoformat(),
        command=f"quarantine list {row.mapping}"
        if row.trigger == "quarantined"
        else f"status {row.mapping}",
    )


_STANDING = sa.text(f"""
    SELECT m.migration_id, m.mapping, m.state, m.reason, e.event_id, e.who,
           COALESCE(e.at, m.started_at) AS at
    FROM {SCHEMA}.migration AS m
    LEFT JOIN LATERAL (
        SELECT event_id, who, at FROM {SCHEMA}.event AS e
        WHERE e.migration_id = m.migration_id AND e.kind = 'state_' || m.state
        ORDER BY event_id DESC LIMIT 1) AS e ON true
    WHERE m.state IN ('paused', 'held', 'failed')
    ORDER BY m.migration_id
""")

_THRESHOLDS = sa.text(f"""
    SELECT e.event_id, e.migration_id, e.at, m.mapping, e.detail ->> 'reason' AS reason,
           e.detail ->> 'action' AS action, e.detail ->> 'trigger' AS trigger
    FROM {SCHEMA}.event AS e
    JOIN {SCHEMA}.migration AS m USING (migration_id)
    WHERE e.kind = 'threshold' AND e.event_id > :after
    ORDER BY e.event_id
""")
