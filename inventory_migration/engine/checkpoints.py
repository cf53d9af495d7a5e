"""Between phases: whether what was written reconciles, before the next begins.

What happens where it does not is decided in `phases.py`.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import (
    control,
    ledger,
    proof,
    scans,
    tallied,
    untouched,
    verification,
)
from inventory_migration.engine.failures import message
from inventory_migration.engine.ledger import SCHEMA, Migration

logger = logging.getLogger(__name__)


def reconcile_phase(
    engine: sa.Engine, resolved: ResolvedMapping, migration: Migration, number: int
) -> str | None:
    """Prove a phase before the next begins; returns what does not reconcile, None where all does.

    What an application did beside us does not count: the sweep mends it.
    """
    with control.exclusive(engine, migration.migration_id, wanted="run") as connection:
        control.durably(connection)
        scans.with_room(connection)
        before = untouched.note_before(connection, resolved)
        counted = None
        if untouched.has_one_phase(connection, migration):
            counted = tallied.at_checkpoint(connection, resolved, migration, before)
        if counted is not None:
            found = tallied.as_proof(connection, counted)
        else:
            found = proof.prove(connection, resolved, migration, phase=number)
        wrong = verification.wrong(found)
        if wrong:
            reason = f"phase {number} does not reconcile: {proof.unexplained_text(wrong)}"
            if resolved.mapping.thresholds.action_on("reconciliation") != "continue":
                verification.fail(connection, migration, reason)
            return reason
        name = connection.execute(
            sa.update(ledger.phase)
            .where(
                ledger.phase.c.migration_id == migration.migration_id,
                ledger.phase.c.number == number,
            )
            .values(reconciled_at=sa.func.clock_timestamp())
            .returning(ledger.phase.c.name)
        ).scalar_one()
        proved = untouched.note_checkpoint(connection, resolved, migration, before, found)
        if counted is not None and before is not None and proved is not None:
            before = {**before, "records": proved["records"]}
            tallied.keep(connection, resolved, migration, counted, before)
        ledger.note(
            connection,
            "phase_done",
            migration_id=migration.migration_id,
            number=number,
            phase=name,
            proved=proved,
        )
    return None


def refresh_statistics(engine: sa.Engine, resolved: ResolvedMapping) -> None:
    """Let the planner know what has just been written, before all of it is compared.

    A table that is not ours to analyze is left out by the server, with a warning that nobody sees.
    One that has as many rows as before is known.
    """
    written = [f"{SCHEMA}.{name}" for name in ("chunk", "outcome", "after_image")]
    if resolved.levels is not None:
        written.append(escaped(resolved.levels_sql))
    try:
        with engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL lock_timeout = '1s'"))
            connection.execute(sa.text(f"ANALYZE {', '.join(written)}"))
    except sa.exc.DBAPIError as error:
        logger.debug("statistics stay as they are: %s", message(error))
