"""Whether another mapping has a claim on a target: one target belongs to one mapping.

Two mappings for one target would each plan, prove and undo what the other has written. Who may
start a migration of the same mapping is decided in `plan.py`.
"""

from __future__ import annotations

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import ledger
from inventory_migration.errors import TargetTaken


def refuse_rival(connection: sa.Connection, resolved: ResolvedMapping) -> None:
    """Refuse a target that a migration of another mapping writes, or has written.

    Raises:
        TargetTaken: There is one that was neither rolled back nor aborted.
    """
    if not ledger.installed(connection):
        return
    migration = ledger.migration
    rival = connection.execute(
        sa.select(migration.c.mapping, migration.c.migration_id, migration.c.state)
        .where(
            migration.c.target == resolved.target,
            migration.c.mapping != resolved.mapping.name,
            sa.or_(
                migration.c.state.in_(ledger.ACTIVE),
                # A table that was dropped and made anew holds nothing that was migrated.
                sa.and_(
                    migration.c.state == "verified",
                    migration.c.source_oid == resolved.source.oid,
                ),
            ),
        )
        .order_by(migration.c.migration_id.desc())
        .limit(1)
    ).one_or_none()
    if rival is not None:
        raise TargetTaken(
            mapping=resolved.mapping.name,
            target=resolved.target,
            owner=rival.mapping,
            migration_id=rival.migration_id,
            state=rival.state,
        )
