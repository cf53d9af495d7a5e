"""Whether a snapshot has been written to since it was sealed, told by its rows' own transactions.

Rows are sealed in the transaction that writes them, and so is the seal itself. Where each row of a
snapshot still carries the transaction of its seal, and none is missing, none has been written to
since: a look that hashes nothing. It says nothing of a disk that has lost a byte; how rows are
hashed, which does, is in `evidence.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from inventory_migration.engine.blocks import ROW_BYTES
from inventory_migration.engine.ledger import SCHEMA, Migration


def is_unwritten(connection: sa.Connection, migration: Migration) -> bool:
    """Whether a snapshot's rows are the very ones that were sealed.

    Args:
        connection: A connection that sees one moment; only read from.
        migration: The migration, whose snapshot exists and is sealed.
    """
    sealed = _sealed(connection, migration)
    # Between a row and its seal no other transaction can come to have the same number.
    if any(row.age > NEARLY_ROUND for row in sealed):
        return False
    ours = " OR ".join(
        f"p.xmin = '{int(row.xid)}'::xid AND p.position BETWEEN {row.first} AND {row.last}"
        for row in sealed
    )
    query = sa.text(
        f"SELECT count(*) AS rows, count(*) FILTER (WHERE {ours or 'false'}) AS sealed "
        f"FROM {migration.snapshot} AS p"
    )
    found = connection.execute(query).one()
    return bool(found.rows == found.sealed == sum(row.records for row in sealed))


def count_sealed(connection: sa.Connection, migration: Migration) -> int:
    """How many rows of a snapshot are sealed, each by itself."""
    return sum(int(row.records) for row in _sealed(connection, migration))


def _sealed(connection: sa.Connection, migration: Migration) -> Sequence[sa.Row[Any]]:
    return connection.execute(_SEALED, {"migration_id": migration.migration_id}).all()


NEARLY_ROUND = 2_000_000_000
"""After so many transactions an old row could be taken for a young one, and the other way round."""

_SEALED = sa.text(f"""
    SELECT xmin::text AS xid, max(age(xmin)) AS age, min(first_position) AS first,
           max(last_position) AS last, COALESCE(sum(octet_length(rows)), 0) / {ROW_BYTES} AS records
    FROM {SCHEMA}.sealed_rows WHERE migration_id = :migration_id AND kind = 'snapshot'
    GROUP BY xmin::text
""")
