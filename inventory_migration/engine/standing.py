"""How a migration's stock stands now, in numbers: what `validate` shows beside its verdict.

What a migration counted while it ran is in `summary.py`, what differs and why in `proof.py`.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import ledger, proof, summary
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.summary import exact


def standing(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration | None
) -> dict[str, Any]:
    """Records by outcome, and units as the snapshot has them and as they are now.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        migration: The migration; None where nothing was ever migrated.
    """
    told = summary.summarize(connection, migration, mapping=resolved.mapping.name, changed=False)
    found = {
        name: told[name]
        for name in (
            *("companies", "records", "units", "reserved", "available"),
            "changed_by_application",
        )
    }
    if migration is None or not ledger.snapshot_exists(connection, migration):
        return found
    now = connection.execute(
        sa.text(f"SELECT t.* FROM ({escaped(proof.totals(resolved, migration))}) AS t")
    ).one()
    net = resolved.mapping.quantity_basis == "net"
    after = {
        "units": now.units,
        "reserved": now.reserved,
        "available": now.units if net else now.units - now.reserved,
    }
    return {
        **found,
        **{name: {"before": found[name]["before"], "after": exact(after[name])} for name in after},
        "changed_by_application": {
            "units": exact(now.units_changed),
            "reserved": exact(now.reserved_changed),
        },
    }
