"""Between phases: whether a threshold is exceeded, and whether what was written reconciles.

Everything is asked of the ledger and the tables. What happens then is decided in `phases.py`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import control, ledger, proof
from inventory_migration.engine.failures import message
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.errors import MigrationFailed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stop:
    """A reason to stop that a threshold gives."""

    reason: str
    action: str


def exceeded(engine: sa.Engine, resolved: ResolvedMapping, migration: Migration) -> Stop | None:
    """Which threshold is exceeded, in the migration or in one phase; None where none is."""
    limits = resolved.mapping.thresholds
    if limits.action == "continue":
        return None
    with engine.connect() as connection:
        rows = connection.execute(_QUARANTINED, {"migration_id": migration.migration_id}).all()
    for row in rows:
        if not row.processed or row.processed < limits.after_records:
            continue
        percent = 100 * row.quarantined / row.processed
        if percent > limits.quarantined_percent:
            where = f"phase {row.phase}" if row.phase else "the migration"
            return Stop(
                f"{row.quarantined} of {row.processed} records of {where} were quarantined "
                f"({percent:.1f} %, allowed are {limits.quarantined_percent:g} %)",
                limits.action,
            )
    return None


def reconcile_phase(
    engine: sa.Engine, resolved: ResolvedMapping, migration: Migration, number: int
) -> None:
    """Prove a phase before the next begins.

    Raises:
        MigrationFailed: Something differs that the sweep does not mend; the migration is failed.
    """
    with control.exclusive(engine, migration.migration_id, wanted="run") as connection:
        control.durably(connection)
        found = proof.prove(connection, resolved, migration, phase=number)
        wrong = [d for d in found.unexplained if d.kind not in _FOR_THE_SWEEP]
        if not wrong:
            connection.execute(
                sa.update(ledger.phase)
                .where(
                    ledger.phase.c.migration_id == migration.migration_id,
                    ledger.phase.c.number == number,
                )
                .values(reconciled_at=sa.func.clock_timestamp())
            )
            return
        reason = f"phase {number} does not reconcile: {proof.unexplained_text(wrong)}"
        ledger.set_state(connection, migration.migration_id, "failed", reason=reason)
    raise MigrationFailed(
        mapping=migration.mapping, migration_id=migration.migration_id, reason=reason
    )


def refresh_statistics(engine: sa.Engine, resolved: ResolvedMapping) -> None:
    """Let the planner know what has just been written, before all of it is compared.

    A table that is not ours to analyze is left out by the server, with a warning that nobody sees.
    """
    tables = ", ".join(f"{SCHEMA}.{name}" for name in ("chunk", "outcome", "after_image"))
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL lock_timeout = '1s'"))
            connection.execute(sa.text(f"ANALYZE {tables}, {escaped(resolved.source.sql)}"))
    except sa.exc.DBAPIError as error:
        logger.debug("statistics stay as they are: %s", message(error))


# What an application does beside us is the sweep's to mend or the last step's to judge, and no sign
# of a faulty write.
_FOR_THE_SWEEP = {
    "came_back",
    "location_lost",
    "location_foreign",
    "target_outdated",
    "target_orphaned",
    "target_differs",
}

_QUARANTINED = sa.text(f"""
    SELECT p.name AS phase, sum(k.records - k.reopened) AS processed,
           sum(k.quarantined) AS quarantined
    FROM {SCHEMA}.chunk AS k
    JOIN {SCHEMA}.phase AS p ON p.migration_id = k.migration_id AND p.number = k.phase
    WHERE k.migration_id = :migration_id AND k.state = 'done'
    GROUP BY GROUPING SETS ((), (p.name))
""")
