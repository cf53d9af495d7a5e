"""What a message says: facts of an event and of its migration, as `schema.json` publishes them.

Numbers are those of the ledger at the moment of sending. How they look in a chat belongs in
`slack.py`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from inventory_migration import logs, project
from inventory_migration.engine import ledger, summary
from inventory_migration.engine.notifications import Due

SCHEMA_VERSION = 1
"""Raised when a key changes its meaning or goes; keys may be added at any time."""

_STATES = {
    "started": "running",
    "resumed": "running",
    "phase_done": "running",
    "paused": "paused",
    "held": "held",
    "failed": "failed",
    "aborted": "aborted",
    "finished": "verified",
}
"""Where an event leaves its migration; other events leave it where it is."""

_REPORTED = {"finished", "rolled_back"}
"""The events behind which a report is written."""


def message(connection: sa.Connection, due: Due, *, database: str) -> dict[str, Any]:
    """Say what an event was, and how its migration stands.

    Args:
        connection: A connection to the ledger; only read from.
        due: The message to send.
        database: The host and the name of the database.
    """
    found = (
        ledger.find(connection, migration_id=due.migration_id)
        if due.migration_id is not None
        else None
    )
    detail = due.detail
    return {
        "schema_version": SCHEMA_VERSION,
        "notification_id": str(due.notification_id),
        "test": False,
        "event": due.event,
        "at": due.at.isoformat(),
        "sent_at": datetime.now(UTC).isoformat(),
        "database": database,
        "mapping": due.mapping,
        "migration_id": due.migration_id,
        "state": _state(due, found),
        "reason": _shown(detail.get("reason")),
        "who": _shown(due.who),
        "phase": detail.get("phase"),
        "gate": detail.get("suite"),
        "threshold": (
            {name: detail.get(name) for name in ("trigger", "where", "action")}
            if due.event == "threshold"
            else None
        ),
        **(_figures(connection, found) if found else dict(_NO_FIGURES)),
        "links": {
            "dashboard": project.dashboard_url(due.migration_id),
            "report": (
                project.report_url(f"{due.mapping}-{due.migration_id}.html")
                if due.event in _REPORTED
                else None
            ),
            "dagster": _dagster(connection, found),
        },
    }


def trial(mapping: str | None, *, database: str) -> dict[str, Any]:
    """A message about nothing, to try a channel with."""
    now = datetime.now(UTC).isoformat()
    return {
        "schema_version": SCHEMA_VERSION,
        "notification_id": str(uuid4()),
        "test": True,
        "event": "test",
        "at": now,
        "sent_at": now,
        "database": database,
        "mapping": mapping or "",
        "migration_id": None,
        "state": None,
        "reason": "Somebody tries whether messages arrive.",
        "who": "inventory-migration",
        "phase": None,
        "gate": None,
        "threshold": None,
        **_NO_FIGURES,
        "links": {"dashboard": project.dashboard_url(), "report": None, "dagster": None},
    }


_NO_FIGURES: dict[str, Any] = {
    "records": None,
    "units": None,
    "percent": None,
    "elapsed_seconds": None,
}


def _state(due: Due, found: ledger.Migration | None) -> str | None:
    # A part that was rolled back leaves a migration in the state that the trail names.
    if due.event == "rolled_back":
        return due.kind.removeprefix("state_")
    return _STATES.get(due.event) or (found.state if found else None)


def _figures(connection: sa.Connection, found: ledger.Migration) -> dict[str, Any]:
    told = summary.summarize(connection, found, mapping=found.mapping, changed=False)
    records = told["records"]
    return {
        "records": {**records, "undone": told["undone"]["records"]},
        "units": _units(connection, told),
        "percent": _percent(told["state"], records, told["undone"]["records"]),
        "elapsed_seconds": told["elapsed_seconds"],
    }


def _units(connection: sa.Connection, told: dict[str, Any]) -> dict[str, str | None]:
    """Units before and after, and what neither we nor the application account for."""
    before = told["units"]["before"]
    # Counted by the proof; until then what is after is only believed to be what was before.
    counted = connection.execute(
        sa.select(ledger.migration.c.units_after.is_not(None)).where(
            ledger.migration.c.migration_id == told["migration_id"]
        )
    ).scalar()
    if not counted:
        return {"before": before, "after": None, "difference": None}
    after, changed = told["units"]["after"], told["changed_by_application"]["units"]
    difference = Decimal(after) - Decimal(before) - Decimal(changed)
    return {"before": before, "after": after, "difference": summary.exact(difference)}


def _percent(state: str, records: dict[str, int], undone: int) -> float:
    """How much is accounted for: all of it only where that is proved; of a rollback, undone."""
    if state in {"verified", "rolled_back"}:
        return 100.0
    size = records["snapshot"]
    if not size:
        return 0.0
    done = undone if state == "rolling_back" else size - records["pending"]
    return min(round(100 * done / size, 1), 99.9)


def _dagster(connection: sa.Connection, found: ledger.Migration | None) -> str | None:
    if found is None:
        return None
    runs = connection.execute(
        sa.select(ledger.migration.c.run_ids).where(
            ledger.migration.c.migration_id == found.migration_id
        )
    ).scalar_one()
    return project.dagster_run_url(runs[-1]) if runs else None


def _shown(text: Any) -> str | None:
    return None if text is None else logs.hide_passwords(str(text))
