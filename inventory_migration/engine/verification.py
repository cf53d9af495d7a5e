"""A verification that failed stands until a new one passes, whatever is started meanwhile.

It is kept with the migration, so that neither a resumed nor a scheduled run writes anything on top
of what was found wrong. What is a difference is said in `proof.py`.
"""

from __future__ import annotations

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import ledger, proof
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.proof import Difference, Proof
from inventory_migration.errors import VerificationFailed

FOR_THE_SWEEP = {
    "came_back",
    "location_lost",
    "location_foreign",
    "target_key_changed",
    "target_outdated",
    "target_orphaned",
    "target_differs",
}
"""What an application does beside us: the sweep's to mend or the last step's to judge, and no sign
of a faulty write."""

_NOT_YET = {"not_processed", "not_migrated"}
"""What a migration that is not at its end has not come to."""


def wrong(found: Proof) -> list[Difference]:
    """The differences that no later step is there to mend."""
    return [d for d in found.unexplained if d.kind not in FOR_THE_SWEEP]


def fail(connection: sa.Connection, migration: Migration, reason: str) -> None:
    """Keep that a verification failed."""
    _keep(connection, migration, reason)
    ledger.note(
        connection, "verification_failed", migration_id=migration.migration_id, reason=reason
    )


def passed(connection: sa.Connection, migration: Migration) -> None:
    """Keep that a verification passed."""
    _keep(connection, migration, None)


def require(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> None:
    """Go on only if the last verification has not failed, or a new one passes now.

    Raises:
        VerificationFailed: What was found wrong is still so; nothing was written.
    """
    before = connection.execute(
        sa.select(ledger.migration.c.failed_verification).where(
            ledger.migration.c.migration_id == migration.migration_id
        )
    ).scalar_one()
    if before is None:
        return
    connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
    connection.execute(sa.text("SET LOCAL extra_float_digits = 3"))
    found = proof.prove(connection, resolved, migration)
    still = [d for d in wrong(found) if d.kind not in _NOT_YET]
    if still:
        raise VerificationFailed(
            mapping=migration.mapping,
            migration_id=migration.migration_id,
            reason=proof.unexplained_text(still),
        )
    passed(connection, migration)
    ledger.note(
        connection, "verification_passed", migration_id=migration.migration_id, before=before
    )


def _keep(connection: sa.Connection, migration: Migration, reason: str | None) -> None:
    connection.execute(
        sa.update(ledger.migration)
        .where(ledger.migration.c.migration_id == migration.migration_id)
        .values(failed_verification=reason)
    )
