"""What became of records, read of live rows alone, where snapshot and table were just compared.

A proof has put each record beside its row, and nobody has written since: there are no rows but
those, with the numbers that they had. Outcome and location are read of the row itself, by who wrote
it and by what it says. It only ever serves to say that all is as it should be; what is not is
looked at with `proof.moved`.
"""

from __future__ import annotations

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import canonical, ledger, places, tallied
from inventory_migration.engine.as_planned import is_plain, writers
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.shapes import shape_of


def moved(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> str | None:
    """The relation `moved` of live rows alone; None where these do not tell all of it.

    Args:
        connection: A connection that sees one moment; only read from.
        resolved: The mapping and its types.
        migration: The migration; its snapshot exists.
    """
    shape = shape_of(resolved)
    if not is_plain(resolved) or not shape.in_place or _has_others(connection, migration):
        return None
    if not tallied.is_as_counted(connection, resolved, migration):
        return None
    live = canonical.source_rows(resolved, extra="s.xmin AS row_xmin", hashed=False)
    numbers = ("l.quantity", "l.reserved")
    held = numbers if shape.held() is None else ("l.held_quantity", "l.held_reserved")
    belongs = places.belongs(resolved, "w", "l.company_key")
    return f"""
        SELECT NULL::bigint AS position, l.key_text, l.company_key,
               CASE WHEN k.xid IS NOT NULL THEN 'migrated' END AS outcome, NULL::text AS rule,
               l.location_key, w.location_key IS NOT NULL AS location_found,
               CASE WHEN l.location_key IS NOT NULL THEN COALESCE({belongs}, false) END
                   AS location_own,
               {numbers[0]} AS quantity_before, {held[0]} AS quantity,
               {numbers[1]} AS reserved_before, {held[1]} AS reserved
        FROM ({live}) AS l
        LEFT JOIN ({writers(migration)}) AS k ON k.xid = l.row_xmin
        LEFT JOIN ({places.places(resolved)}) AS w
          ON {shape.same_location("w.location_key", "l.location_key")}"""


def _has_others(connection: sa.Connection, migration: Migration) -> bool:
    """Whether a record was not simply moved as it was planned."""
    others = [
        sa.exists().where(table.c.migration_id == migration.migration_id)
        for table in (ledger.outcome, ledger.after_image)
    ]
    return bool(connection.execute(sa.select(sa.or_(*others))).scalar_one())
