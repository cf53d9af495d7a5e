"""What a rollback would do: how many records and locations go back, and each conflict.

Only reads, and finds what the walk would find by the very statement that it looks with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import columns, created_locations, ledger, sync
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.parameters import parametrised
from inventory_migration.engine.undo_scope import Scope
from inventory_migration.engine.undo_statements import mine, standing


def preview(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migrations: Sequence[Migration],
    scope: Scope,
) -> dict[str, Any]:
    """What undoing these migrations, newest first, would take back, and what it would leave.

    A record of two migrations is told by the newer, as far as that has written it.
    """
    written = [found for found in migrations if ledger.snapshot_exists(connection, found)]
    own = sync.wanted(resolved) and sync.own_levels(connection, resolved)
    going: list[str] = []
    found: dict[str, Any] = {
        "records": 0,
        "conflicts": [],
        "touched_since": [],
        "locations": 0,
        "locations_kept": [],
    }
    for migration in written:
        looked = _look(connection, resolved, migration, scope, going, own=own)
        for name in ("records", "conflicts", "touched_since"):
            found[name] += looked[name]
        going.append(_going(resolved, migration, scope, own=own))
    for migration in migrations:
        there = created_locations.kept(connection, resolved, migration, scope, going=going)
        used = [location for location in there if location["referred_by"]]
        found["locations"] += len(there) - len(used)
        found["locations_kept"] += used
    return found


def _look(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    scope: Scope,
    newer: Sequence[str],
    *,
    own: bool,
) -> dict[str, Any]:
    gone_back = "".join(
        f" AND NOT EXISTS (SELECT FROM ({relation}) AS g "
        f"WHERE {columns.same_key(resolved, 'g', 'l')})"
        for relation in newer
    )
    found = (
        f"FROM ({_standing(resolved, migration, scope, own=own)}) AS l WHERE NOT back{gone_back}"
    )
    parameters = {"im_migration_id": migration.migration_id, **scope.parameters}
    records = connection.execute(
        sa.text(parametrised(f"SELECT count(*) FILTER (WHERE ours) {found}")), parameters
    ).scalar_one()
    rows = connection.execute(
        sa.text(
            parametrised(f"""
            SELECT key_text, differing, written, found, ours {found}
               AND (NOT ours OR touched)
            ORDER BY position""")
        ),
        parameters,
    ).all()
    return {
        "records": int(records),
        "conflicts": [
            {
                "migration_id": migration.migration_id,
                "key": row.key_text,
                "kind": "moved_since",
                "column": row.differing,
                "written": row.written,
                "found": row.found,
                "reason": None,
            }
            for row in rows
            if not row.ours
        ],
        "touched_since": [row.key_text for row in rows if row.ours],
    }


def _going(resolved: ResolvedMapping, migration: Migration, scope: Scope, *, own: bool) -> str:
    """The records whose target would go, by canonical keys; each for a migration of its own."""
    number = str(migration.migration_id)
    there = _standing(resolved, migration, scope, number, own=own)
    return f"SELECT * FROM ({there}) AS l WHERE ours"


def _standing(
    resolved: ResolvedMapping,
    migration: Migration,
    scope: Scope,
    number: str = ":im_migration_id",
    *,
    own: bool,
) -> str:
    # In our own text alone: a name of the application may look like the parameter.
    only = f"k.state = 'done' AND {scope.records()}".replace(":im_migration_id", number)
    taken = mine(resolved, migration, only=only, number=number, own=own)
    return f"""
        WITH mine AS MATERIALIZED ({taken})
        {standing(resolved)}"""
