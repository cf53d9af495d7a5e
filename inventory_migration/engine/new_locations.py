"""Locations that are made: the statements that give every company without a default location one.

A link that says whose a location is comes with it, in one statement. Whether what was made is its
company's default location is asked of the data in `default_locations.py`.
"""

from __future__ import annotations

from inventory_migration.catalog import OWNERSHIP, TEXTS, ResolvedMapping, base_type, literal
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import canonical
from inventory_migration.engine.ledger import SCHEMA
from inventory_migration.engine.parameters import parametrised
from inventory_migration.mapping import LinkedPlaces


def create_locations(resolved: ResolvedMapping, *, keep_out: bool = True) -> list[str]:
    """The statements that give every company without a default location one.

    The first keeps a second creator out; the last returns a row for each company that lacked one:
    company_key, and the location_key of what was made for it, NULL where a trigger made it another.
    It takes the parameter `im_migration_id`.
    """
    lock = f"LOCK TABLE {', '.join(filled_tables(resolved))} IN SHARE ROW EXCLUSIVE MODE"
    insert = parametrised(_insert(resolved))
    return [escaped(lock), insert] if keep_out else [insert]


def filled_tables(resolved: ResolvedMapping) -> list[str]:
    """The quoted tables that decide who lacks a location, into which `create_locations` inserts."""
    linked = resolved.place_links
    return [resolved.locations_sql, *([linked.sql] if linked else [])]


def inserted_columns(resolved: ResolvedMapping) -> list[str]:
    """The columns that `create_locations` sets, which is what a role must be allowed to insert."""
    return list(inserted_values(resolved))


def keyed_beforehand(resolved: ResolvedMapping) -> bool:
    """Whether a location has its key before it is there: no column of it tells whom it is for."""
    return not isinstance(resolved.mapping.locations.company, str)


def _insert(resolved: ResolvedMapping) -> str:
    named = resolved.mapping.locations
    company_key = f"c.{quoted(resolved.mapping.company.key)}"
    values = inserted_values(resolved)
    known = overriding = ""
    if keyed_beforehand(resolved):
        known = f", {_typed_key(resolved, values[named.key])} AS im_location"
        values[named.key] = "im_k.im_location"
        # The next value of its own sequence is what an identity column refuses otherwise.
        overriding = "OVERRIDING SYSTEM VALUE"
        told, paired = quoted(named.key), "im_n.told = im_k.im_location"
    else:
        told, paired = quoted(str(named.company)), "im_n.told = im_k.im_company"
    return f"""
        WITH lacking AS MATERIALIZED (
            SELECT {company_key} AS im_company{known}
            FROM {resolved.company.sql} AS c
            WHERE NOT EXISTS (
                SELECT FROM ({canonical.default_locations(resolved)}) AS d
                WHERE d.company_key = {company_key})),
        created AS (
            INSERT INTO {resolved.locations_sql} AS l
                ({", ".join(quoted(name) for name in values)}) {overriding}
            SELECT {", ".join(values.values())}
            FROM lacking AS im_k
            JOIN {resolved.company.sql} AS c ON {company_key} = im_k.im_company
            ORDER BY {company_key}
            RETURNING l.{quoted(named.key)} AS location_key, l.{told} AS told){_linked(resolved)}
        SELECT im_k.im_company::text AS company_key, im_n.location_key::text AS location_key
        FROM lacking AS im_k LEFT JOIN created AS im_n ON {paired}"""


def _linked(resolved: ResolvedMapping) -> str:
    """The links of what is created, kept word for word in the ledger; nothing without any."""
    company, table = resolved.mapping.locations.company, resolved.place_links
    if not isinstance(company, LinkedPlaces) or table is None:
        return ""
    link = company.through
    company_key = f"c.{quoted(resolved.mapping.company.key)}"
    values = ["im_k.im_location", "im_k.im_company", *map(literal, link.values.values())]
    return f""",
        linked AS (
            INSERT INTO {table.sql} AS t ({", ".join(quoted(name) for name in link.columns)})
            SELECT {", ".join(values)}
            FROM lacking AS im_k
            JOIN {resolved.company.sql} AS c ON {company_key} = im_k.im_company
            ORDER BY {company_key}
            RETURNING t.{quoted(link.location)}::text AS location_key, to_jsonb(t) AS record),
        noted AS (
            INSERT INTO {SCHEMA}.location_link (migration_id, link, location_key, record)
            SELECT :im_migration_id, {OWNERSHIP}, location_key, record FROM linked)"""


def _typed_key(resolved: ResolvedMapping, value: str) -> str:
    """A key in its type before it is inserted; a text as it is, since a cast would cut it."""
    kind = resolved.location_key_type
    return value if base_type(kind) in TEXTS else f"CAST({value} AS {kind})"


def inserted_values(resolved: ResolvedMapping) -> dict[str, str]:
    """What a created location has in each column, as SQL over its company `c`."""
    named = resolved.mapping.locations
    values = {
        **{name: literal(value) for name, value in named.default.items()},
        **{name: literal(value) for name, value in (named.create or {}).items()},
    }
    if isinstance(named.company, str):
        values = {named.company: f"c.{quoted(resolved.mapping.company.key)}", **values}
    key = resolved.locations.columns[named.key] if resolved.locations else None
    if key is None or named.key in values:
        return values
    if not key.has_default and resolved.location_key_type == "uuid":
        values[named.key] = "gen_random_uuid()"
    elif keyed_beforehand(resolved):
        # A key without any default is one that the mapping must give.
        values[named.key] = key.default or "NULL"
    return values
