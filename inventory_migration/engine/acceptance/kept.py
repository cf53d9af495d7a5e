"""What the ledger keeps of a trial: that it was, and what came of it.

The trail tells of it in a line; the whole result is beside, for the report.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from inventory_migration.engine import ledger

EVENT = "acceptance"
"""The event of the audit trail that holds it."""


def keep(connection: sa.Connection, migration_id: int, found: dict[str, Any]) -> None:
    """Note the result of a trial with its migration."""
    names = ("mapping_hash", "as_of", "record", "operations", "queries", "findings")
    kept = {name: found[name] for name in names}
    ledger.note(
        connection,
        EVENT,
        migration_id=migration_id,
        passed=found["passed"],
        operations=_passed(found["operations"]),
        queries=_passed(found["queries"]),
        result=kept,
    )


def _passed(tried: list[dict[str, Any]]) -> str:
    return f"{sum(one['passed'] for one in tried)} of {len(tried)} passed"


def last_acceptance(connection: sa.Connection, migration_id: int) -> dict[str, Any] | None:
    """The newest trial of a migration, with when and by whom; None where there was none."""
    row = connection.execute(
        sa.select(ledger.event.c.at, ledger.event.c.who, ledger.event.c.detail)
        .where(ledger.event.c.migration_id == migration_id, ledger.event.c.kind == EVENT)
        .order_by(ledger.event.c.event_id.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    kept = {"passed": row.detail["passed"], **row.detail["result"]}
    return {"at": row.at.isoformat(), "who": row.who, **kept}
