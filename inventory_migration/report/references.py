"""Foreign keys in and out of the touched tables, as a report tells them: before and now.

Which these are, and how they are counted, is said in `engine/references.py`.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from inventory_migration.database import escaped


def told_references(connection: sa.Connection, compared: str) -> list[dict[str, Any]]:
    """Each foreign key with its references and orphans, before and now, in the order of names.

    Args:
        connection: A connection; only read from.
        compared: The relation `references`; a key that was not there at one of the two moments
            has no numbers for it.
    """
    query = f"SELECT * FROM ({escaped(compared)}) AS r ORDER BY name"  # noqa: S608 - ours
    rows = connection.execute(sa.text(query))
    return [
        {
            **row._mapping,
            "unchanged": row.rows_before == row.rows_after
            and row.orphans_before == row.orphans_after,
        }
        for row in rows
    ]
