"""The rows that a shop needs beside a location: its channels, its shipping zones, as declared.

Inserted for every default location that lacks them, kept word for word in the ledger, and taken
away with the location, as far as they are unchanged. So are the links that say whose a location is,
which come into being together with it, in `new_locations.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import OWNERSHIP, ResolvedLink, ResolvedMapping, literal
from inventory_migration.database import quoted
from inventory_migration.engine import places
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.parameters import parametrised
from inventory_migration.mapping import Canonical, Generated, LinkedPlaces, LinkValue


def insert_links(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> int:
    """Insert the declared links that default locations lack; returns how many."""
    inserted = 0
    for number, found in enumerate(resolved.links):
        inserted += connection.execute(
            sa.text(parametrised(_insert(resolved, found))),
            {"im_migration_id": migration.migration_id, "im_link": number},
        ).rowcount
    return inserted


def is_ours(migration: Migration, alias: str) -> str:
    """The condition that a row of a link's table is one that we inserted, and unchanged."""
    return (
        f"EXISTS (SELECT FROM {SCHEMA}.location_link AS im_k "
        f"WHERE im_k.migration_id = {migration.migration_id} AND NOT im_k.removed "
        f"AND im_k.record = to_jsonb({alias}))"
    )


def remove_links(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    *,
    goes: str,
    parameters: Mapping[str, Any],
) -> int:
    """Delete our links of locations that go, and of those that we only adopted.

    Args:
        connection: The transaction that the locations are removed in.
        resolved: The mapping and its types.
        migration: Whose links.
        goes: The condition over a link `k` that it goes.
        parameters: What that condition needs.
    """
    removed = 0
    for number, table in resolved.link_tables.items():
        sql = f"""
            WITH removed AS (
                DELETE FROM {table.sql} AS t
                USING {SCHEMA}.location_link AS k
                WHERE k.migration_id = :im_migration_id AND k.link = :im_link AND NOT k.removed
                  AND k.record = to_jsonb(t) AND ({goes})
                RETURNING k.link_id)
            UPDATE {SCHEMA}.location_link AS k SET removed = true
            FROM removed WHERE k.link_id = removed.link_id"""
        removed += connection.execute(
            sa.text(parametrised(sql)),
            {"im_migration_id": migration.migration_id, "im_link": number, **parameters},
        ).rowcount
    return removed


def inserted_columns(resolved: ResolvedMapping, number: int) -> list[str]:
    """The columns that a link of this number is given; see `ResolvedMapping.link_tables`."""
    company = resolved.mapping.locations.company
    if number == OWNERSHIP and isinstance(company, LinkedPlaces):
        return company.through.columns
    return list(resolved.links[number].link.values)


def insert_statements(resolved: ResolvedMapping) -> list[str]:
    """What `insert_links` executes, for reading."""
    return [_insert(resolved, found) for found in resolved.links]


def _insert(resolved: ResolvedMapping, found: ResolvedLink) -> str:
    named, company = resolved.mapping.locations, resolved.mapping.company
    values = found.link.values
    names = ", ".join(quoted(name) for name in values)
    given = ", ".join(f"{_value(resolved, v)} AS {quoted(n)}" for n, v in values.items())
    each = f"CROSS JOIN {found.for_each.sql} AS f" if found.for_each else ""
    only = f"AND ({found.link.where.sql})" if found.link.where else ""
    identity = [quoted(name) for name in _identity(found)]
    same = " AND ".join(f"x.{name} IS NOT DISTINCT FROM w.{name}" for name in identity)
    # A location that belongs to two companies needs once what does not depend on them.
    once = ", ".join(f"w.{name}" for name in identity)
    location = next(
        name for name, v in values.items() if isinstance(v, Canonical) and v.from_ == "location"
    )
    return f"""
        WITH wanted AS MATERIALIZED (
            SELECT {given}
            FROM {resolved.locations_sql} AS l
            JOIN ({places.owned(resolved)}) AS im_w ON im_w.location_key = l.{quoted(named.key)}
            JOIN {resolved.company.sql} AS c
              ON c.{quoted(company.key)} = im_w.company_key {each}
            WHERE im_w.is_default {only}),
        inserted AS (
            INSERT INTO {found.table.sql} AS t ({names})
            SELECT DISTINCT ON ({once}) {names} FROM wanted AS w
            WHERE NOT EXISTS (SELECT FROM {found.table.sql} AS x WHERE {same})
            RETURNING t.{quoted(location)}::text AS location_key, to_jsonb(t) AS record)
        INSERT INTO {SCHEMA}.location_link (migration_id, link, location_key, record)
        SELECT :im_migration_id, :im_link, location_key, record FROM inserted"""


def _identity(found: ResolvedLink) -> list[str]:
    """The columns by which a link is known: a unique key where all of it is given, else all."""
    values = found.link.values
    told = {name for name, value in values.items() if not isinstance(value, Generated)}
    for unique in found.table.unique_keys:
        if set(unique) <= told:
            return list(unique)
    return [name for name in values if name in told]


def _value(resolved: ResolvedMapping, value: LinkValue) -> str:
    named, company = resolved.mapping.locations, resolved.mapping.company
    if isinstance(value, Canonical):
        if value.from_ == "location":
            return f"l.{quoted(named.key)}"
        return f"c.{quoted(company.key)}"
    return literal(value)
