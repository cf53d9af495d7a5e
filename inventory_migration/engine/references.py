"""Foreign keys in and out of the touched tables, counted: a migration must leave them alone.

Counting happens once at the plan and again at the proof. What a difference means is decided by the
suites.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import ledger
from inventory_migration.engine.ledger import SCHEMA


def count_references(
    connection: sa.Connection, resolved: ResolvedMapping, migration_id: int
) -> None:
    """Note for every foreign key how many rows refer, and how many of them to nothing."""
    # Read by itself: the server reads with more than one process only where nothing is written.
    counted = connection.execute(sa.text(escaped(foreign_keys(connection, resolved)))).all()
    if counted:
        connection.execute(
            sa.insert(ledger.reference),
            [{"migration_id": migration_id, **row._asdict()} for row in counted],
        )


def foreign_keys(connection: sa.Connection, resolved: ResolvedMapping) -> str:
    """A SELECT that counts references now: name, records, orphans."""
    oids = [resolved.source.oid]
    if resolved.locations is not None:
        oids.append(resolved.locations.oid)
    # Foreign keys of the target itself, and of declared links, are what the migration fills.
    target = resolved.mapping.target.columns
    filled = {table.oid for table in resolved.link_tables.values()}
    if resolved.levels is not None:
        oids.append(resolved.levels.oid)
        filled.add(resolved.levels.oid)
    counted = [
        _count(row)
        for row in connection.execute(_FOREIGN_KEYS, {"oids": oids})
        if row.child_oid not in filled
        and not (row.child_oid == resolved.source.oid and set(row.child_columns) <= set(target))
    ]
    empty = "SELECT NULL::text AS name, 0::bigint AS records, 0::bigint AS orphans WHERE false"
    return "\nUNION ALL\n".join([empty, *counted])


def compared(connection: sa.Connection, resolved: ResolvedMapping, migration_id: int) -> str:
    """The relation `references`: name, rows_before, rows_after, orphans_before, orphans_after."""
    return f"""
        SELECT COALESCE(b.name, a.name) AS name,
               b.records AS rows_before, a.records AS rows_after,
               b.orphans AS orphans_before, a.orphans AS orphans_after
        FROM (SELECT * FROM {SCHEMA}.reference WHERE migration_id = {migration_id}) AS b
        FULL JOIN ({foreign_keys(connection, resolved)}) AS a USING (name)"""


def nothing() -> str:
    """The relation `references` where nothing was ever migrated: no rows."""
    return (
        "SELECT NULL::text AS name, 0::bigint AS rows_before, 0::bigint AS rows_after, "
        "0::bigint AS orphans_before, 0::bigint AS orphans_after WHERE false"
    )


def _count(row: sa.Row[Any]) -> str:
    child, parent = quoted(row.child_schema, row.child), quoted(row.parent_schema, row.parent)
    present = " AND ".join(f"c.{quoted(name)} IS NOT NULL" for name in row.child_columns)
    same = " AND ".join(
        f"p.{quoted(theirs)} = c.{quoted(ours)}"
        for ours, theirs in zip(row.child_columns, row.parent_columns, strict=True)
    )
    name = row.name.replace("'", "''")
    # Apart, so that the server can read each with more than one process.
    lost = f"NOT EXISTS (SELECT FROM {parent} AS p WHERE {same})"
    return (
        f"SELECT '{name}' AS name, (SELECT count(*) FROM {child} AS c WHERE {present}) AS records, "
        f"(SELECT count(*) FROM {child} AS c WHERE {present} AND {lost}) AS orphans"
    )


_FOREIGN_KEYS = sa.text("""
    SELECT format('%s.%s', child.relname, k.conname) AS name, child.oid::bigint AS child_oid,
           cn.nspname AS child_schema, child.relname AS child,
           pn.nspname AS parent_schema, parent.relname AS parent,
           (SELECT array_agg(a.attname::text ORDER BY u.place)
            FROM unnest(k.conkey) WITH ORDINALITY AS u(attnum, place)
            JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum)
               AS child_columns,
           (SELECT array_agg(a.attname::text ORDER BY u.place)
            FROM unnest(k.confkey) WITH ORDINALITY AS u(attnum, place)
            JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum)
               AS parent_columns
    FROM pg_constraint k
    JOIN pg_class child ON child.oid = k.conrelid
    JOIN pg_namespace cn ON cn.oid = child.relnamespace
    JOIN pg_class parent ON parent.oid = k.confrelid
    JOIN pg_namespace pn ON pn.oid = parent.relnamespace
    WHERE k.contype = 'f' AND k.conparentid = 0
      AND (k.conrelid = ANY(:oids) OR k.confrelid = ANY(:oids))
    ORDER BY 1
""")
