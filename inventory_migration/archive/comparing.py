"""Whether an archive still says what the database holds of its migration."""

from __future__ import annotations

import sqlalchemy as sa

from inventory_migration.archive.manifest import Manifest
from inventory_migration.engine import holdings
from inventory_migration.engine.holdings import RECORDS
from inventory_migration.engine.ledger import Migration

_DECIDES = RECORDS | {"migration"}


def changed_since(
    connection: sa.Connection, migration: Migration, manifest: Manifest, *, trail: bool
) -> list[str]:
    """The tables that hold something else of a migration by now.

    Args:
        connection: A transaction; it is let spell values plainly.
        migration: The migration as it is now.
        manifest: An archive of it.
        trail: Whether entries of its trail count that are younger than the archive.
    """
    holdings.spell_plainly(connection)
    # Of what was purged nothing else is here to be compared.
    decides = {"migration"} if migration.purged else _DECIDES
    archived = {table.file.removesuffix(".parquet"): table for table in manifest.tables}
    changed = []
    for holding in holdings.holdings(connection, migration):
        if holding.name not in decides:
            continue
        found = holdings.measure(connection, holding)
        stored = archived.get(holding.name)
        if stored is None or (stored.rows, stored.digest) != (found.rows, found.digest):
            changed.append(holding.name)
    if trail and holdings.last_event(connection, migration) != manifest.last_event:
        changed.append("event")
    return changed
