"""The default locations that a migration created: which go with its rollback, and who keeps others.

One goes where nobody refers to it: by a foreign key of any table, by the target of a record, or by
a link that is not ours. Making them is in `default_locations.py`, links in `links.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import quoted
from inventory_migration.engine import links
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.parameters import parametrised
from inventory_migration.engine.shapes import shape_of
from inventory_migration.engine.undo_scope import Scope
from inventory_migration.mapping import LinkedPlaces


@dataclass(frozen=True)
class _User:
    """Who may refer to a location `l`.

    Attributes:
        name: What it is called: table and columns.
        named: What it refers to, a SELECT.
        refers: The condition over `l` and a row `u` of that.
    """

    name: str
    named: str
    refers: str


def _gathered(users: Sequence[_User]) -> tuple[str, list[str]]:
    """What all of them refer to, gathered once as CTEs; and the condition that each refers to `l`.

    By itself the planner takes so few locations to be created that it would look through a table of
    stock once for each of them.
    """
    ctes = [f"im_used_{n} AS MATERIALIZED ({user.named})" for n, user in enumerate(users)]
    exist = [
        f"EXISTS (SELECT FROM im_used_{n} AS u WHERE {user.refers})" for n, user in enumerate(users)
    ]
    return f"WITH {', '.join(ctes)}" if ctes else "", exist


def remove(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration, scope: Scope
) -> int:
    """Remove the created locations of a scope's companies that nobody refers to; returns how many.

    Links that we inserted beside a location do not count, and go with it.
    """
    if resolved.locations is None:
        return 0
    key = quoted(resolved.mapping.locations.key)
    gathered, used = _gathered(_users(connection, resolved, migration))
    unused = "".join(f" AND NOT {exists}" for exists in used)
    goes = f"""
        {gathered}
        SELECT w.location_key
        FROM {SCHEMA}.company_location AS w
        JOIN {resolved.locations_sql} AS l ON w.location_key = l.{key}::text
        WHERE w.created AND NOT w.removed AND {_of(migration, scope)}{unused}"""
    # Beside a location that was only adopted, links of ours go all the same.
    adopted = f"""k.location_key NOT IN (
        SELECT w.location_key FROM {SCHEMA}.company_location AS w
        WHERE w.migration_id = :im_migration_id AND w.created)"""
    if not scope.whole:
        adopted = f"""k.location_key IN (
            SELECT w.location_key FROM {SCHEMA}.company_location AS w
            WHERE NOT w.created AND {_of(migration, scope)})"""
    links.remove_links(
        connection,
        resolved,
        migration,
        goes=f"k.location_key IN ({goes}) OR {adopted}",
        parameters=scope.parameters,
    )
    parameters = {"im_migration_id": migration.migration_id, **scope.parameters}
    removed = connection.execute(
        sa.text(
            parametrised(f"""
            WITH removed AS (
                DELETE FROM {resolved.locations_sql} AS l
                -- Not joined: each location would be compared with each that goes.
                WHERE (l.{key}::text IN ({goes})) IS TRUE
                RETURNING l.{key}::text AS location_key)
            UPDATE {SCHEMA}.company_location AS w SET removed = true
            FROM removed
            WHERE w.migration_id = :im_migration_id
              AND w.location_key = removed.location_key""")
        ),
        parameters,
    ).rowcount
    return int(removed)


def kept(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    scope: Scope,
    *,
    going: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The created locations that are there, each with who refers to it: company, key, referred_by.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        migration: Who created them.
        scope: Whose locations.
        going: Relations with canonical keys, whose records' targets do not count any more. They
            may use the parameters of `scope`.
    """
    if resolved.locations is None:
        return []
    key = quoted(resolved.mapping.locations.key)
    users = _users(connection, resolved, migration, going=going)
    named = {f"user_{number}": user for number, user in enumerate(users)}
    gathered, used = _gathered(users)
    asked = "".join(f", {exists} AS {name}" for name, exists in zip(named, used, strict=True))
    rows = connection.execute(
        sa.text(
            parametrised(f"""
            {gathered}
            SELECT w.company_key, w.location_key{asked}
            FROM {SCHEMA}.company_location AS w
            JOIN {resolved.locations_sql} AS l ON w.location_key = l.{key}::text
            WHERE w.created AND NOT w.removed AND {_of(migration, scope)}
            ORDER BY l.{key}""")
        ),
        {"im_migration_id": migration.migration_id, **scope.parameters},
    )
    return [
        {
            "company_key": row.company_key,
            "location_key": row.location_key,
            "referred_by": [user.name for name, user in named.items() if getattr(row, name)],
        }
        for row in rows
    ]


def _of(migration: Migration, scope: Scope) -> str:
    """The condition that a row `w` of a migration's locations is of a company of the scope."""
    own = "w.migration_id = :im_migration_id"
    if scope.whole:
        return own
    of_records = f"""w.company_key IN (
        SELECT p.company_key::text FROM {migration.snapshot} AS p
        JOIN {SCHEMA}.chunk AS k ON k.migration_id = :im_migration_id AND k.number = p.chunk
        WHERE {scope.records()})"""
    # A company without any record has a location as well.
    by_name = "" if scope.phases else " OR w.company_key = ANY(:im_companies)"
    return f"{own} AND ({of_records}{by_name})"


def _users(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    *,
    going: Sequence[str] = (),
) -> list[_User]:
    """Whoever may refer to a location `l`: declared foreign keys, and the target itself."""
    assert resolved.locations is not None  # noqa: S101 - asked by those who call
    shape = shape_of(resolved)
    key = quoted(resolved.mapping.locations.key)
    linked = {table.oid for table in resolved.link_tables.values()}
    held_by = resolved.levels or resolved.source

    def gather(table: str, columns: Sequence[str], only: str = "") -> str:
        keys = [f"u.{quoted(name)}" for name in columns]
        present = " AND ".join(f"{key} IS NOT NULL" for key in keys)
        return f"SELECT DISTINCT {', '.join(keys)} FROM {table} AS u WHERE {present}{only}"

    stays = "".join(
        f" AND NOT EXISTS (SELECT FROM ({relation}) AS im_g WHERE {shape.goes('u', 'im_g')})"
        for relation in going
    )
    by_target = shape.held_columns()[0]
    users = []
    for row in connection.execute(_REFERRING, {"oid": resolved.locations.oid}):
        named = f"{row.table}.{', '.join(row.columns)}"
        refers = " AND ".join(
            f"u.{quoted(name)} = l.{quoted(other)}"
            for name, other in zip(row.columns, row.others, strict=True)
        )
        only = ""
        if row.oid in linked:
            only += f" AND NOT {links.is_ours(migration, 'u')}"
        if row.oid == held_by.oid and by_target in row.columns:
            only += stays
        table = quoted(row.schema, row.table)
        users.append(_User(named, gather(table, row.columns, only), refers))
    company = resolved.mapping.locations.company
    if isinstance(company, LinkedPlaces) and resolved.place_links is not None:
        # A link need not be declared as a foreign key.
        named = f"{resolved.place_links.name}.{company.through.location}"
        theirs = f" AND NOT {links.is_ours(migration, 'u')}"
        linking = gather(resolved.place_links.sql, [company.through.location], theirs)
        refers = f"u.{quoted(company.through.location)} = l.{key}"
        if named not in {user.name for user in users}:
            users.append(_User(named, linking, refers))
    if resolved.target_exists:
        holding, refers = shape.refers(f"l.{key}", only=stays)
        named = f"{held_by.name}.{by_target}"
        if named not in {user.name for user in users}:
            users.append(_User(named, holding, refers))
    return users


_REFERRING = sa.text("""
    SELECT n.nspname AS schema, c.relname AS table, c.oid::bigint AS oid,
           (SELECT array_agg(a.attname::text ORDER BY u.place)
            FROM unnest(k.conkey) WITH ORDINALITY AS u(attnum, place)
            JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum) AS columns,
           (SELECT array_agg(a.attname::text ORDER BY u.place)
            FROM unnest(k.confkey) WITH ORDINALITY AS u(attnum, place)
            JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum) AS others
    FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE k.contype = 'f' AND k.confrelid = :oid AND k.conparentid = 0
    ORDER BY 1, 2, k.conname
""")
