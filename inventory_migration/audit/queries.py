"""The SELECTs of a profile: each reads a relation once and returns aggregates, never rows.

What becomes of the numbers is in `profile.py`. The relations are a mapping's own SQL, trusted like
code, and names are quoted.
"""

# ruff: noqa: S608

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from inventory_migration.catalog import FLOATS, INTEGERS, TEXTS, Column, Relation
from inventory_migration.database import quoted

_ORDERED = (
    INTEGERS
    | FLOATS
    | {"numeric", "date", "interval"}
    | {f"{kind} {zone} time zone" for kind in ("time", "timestamp") for zone in ("with", "without")}
)
_DISTINCT = _ORDERED | TEXTS | {"boolean", "uuid", "bytea"}

_NUMBER = r"^\s*[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)?\s*$"
_DATE = r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}([ T].*)?$"

SHOWN = 60
"""How much of a text column's smallest and largest value is shown, in characters."""


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key that the catalog declares for a table."""

    name: str
    columns: tuple[str, ...]
    references: str
    referenced_columns: tuple[str, ...]
    readable: bool


def base_type(column: Column) -> str:
    """Return a column's type without its modifier, as in `timestamp(3) without time zone`."""
    return re.sub(r"\(.*?\)", "", column.type)


def totals(records: str, companies: str, *, net: bool, top: int) -> str:
    """Counts and sums over all records, by outcome and rule, and for the largest companies."""
    # Not the sum of differences: that leaves out what is reserved where a quantity is missing.
    available = "0" if net else "COALESCE(sum(reserved), 0)"
    return f"""
        WITH grouped AS (
            SELECT CASE grouping(outcome, company_key)
                     WHEN 1 THEN 'outcome' WHEN 2 THEN 'company' ELSE 'all' END AS level,
                   company_key, outcome, rule,
                   count(*) AS records,
                   COALESCE(sum(quantity), 0) AS units,
                   COALESCE(sum(reserved), 0) AS reserved,
                   COALESCE(sum(quantity), 0) - {available} AS available,
                   count(*) FILTER (WHERE company_key IS NULL) AS without_company,
                   count(*) FILTER (WHERE company_key IS NOT NULL AND company_found IS NOT TRUE)
                       AS of_unknown_company,
                   count(*) FILTER (WHERE quantity_state = 'missing') AS quantity_missing,
                   count(*) FILTER (WHERE quantity_state = 'not_a_number'
                                       OR reserved_state = 'not_a_number') AS not_a_number,
                   count(*) FILTER (WHERE quantity < 0) AS negative_quantity,
                   count(*) FILTER (WHERE quantity >= 0 AND reserved > quantity)
                       AS reserved_exceeds_quantity,
                   count(*) FILTER (WHERE location_key IS NOT NULL) AS with_location,
                   count(*) FILTER (WHERE location_own IS FALSE) AS at_foreign_location
            FROM ({records}
            ) AS r
            GROUP BY GROUPING SETS ((), (outcome, rule), (company_key))
        ), ranked AS (
            SELECT *, row_number() OVER (
                PARTITION BY level ORDER BY records DESC, company_key, outcome, rule) AS place
            FROM grouped
        )
        SELECT g.*, c.company_name, c.default_locations
        FROM ranked AS g
        LEFT JOIN ({companies}
        ) AS c ON g.level = 'company' AND c.company_key = g.company_key
        WHERE g.level <> 'company' OR g.place <= {top}
        ORDER BY g.level, g.place"""


def duplicates(records: str, keys: Sequence[str]) -> str:
    """Keys, and items of a company, that more than one record has, and how many have them."""
    key = ", ".join(quoted(name) for name in keys)
    return f"""
        SELECT 'key' AS of, count(*) AS groups, COALESCE(sum(copies), 0)::bigint AS records
        FROM (SELECT count(*) AS copies FROM ({records}
              ) AS r GROUP BY {key} HAVING count(*) > 1) AS d
        UNION ALL
        SELECT 'company and item', count(*), COALESCE(sum(copies), 0)::bigint
        FROM (SELECT count(*) AS copies FROM ({records}
              ) AS r
              WHERE outcome <> 'skipped' AND company_key IS NOT NULL AND item_key IS NOT NULL
              GROUP BY company_key, item_key HAVING count(*) > 1) AS d"""


def company_counts(companies: str) -> str:
    """How many companies there are, and how many of them stand out."""
    return f"""
        SELECT count(*) AS companies,
               count(*) FILTER (WHERE stock_records = 0) AS companies_without_stock,
               count(*) FILTER (WHERE default_locations = 0) AS companies_without_default_location,
               count(*) FILTER (WHERE default_locations > 1)
                   AS companies_with_several_default_locations
        FROM ({companies}
        ) AS c"""


def columns(source: Relation) -> str:
    """For each column: filled rows, range, and how many texts look like something else."""
    parts = ["count(*) AS records"]
    for number, column in enumerate(source.columns.values()):
        name = f"s.{quoted(column.name)}"
        parts.append(f"count({name}) AS filled_{number}")
        if base_type(column) in TEXTS:
            text = f'{name}::text COLLATE "C"'
            parts += [
                f"left(min({text}), {SHOWN}) AS minimum_{number}",
                f"left(max({text}), {SHOWN}) AS maximum_{number}",
                f"count(*) FILTER (WHERE {name} ~ '{_NUMBER}') AS numbers_{number}",
                f"count(*) FILTER (WHERE {name} ~ '{_DATE}') AS dates_{number}",
            ]
        elif base_type(column) in _ORDERED:
            parts += [
                f"min({name})::text AS minimum_{number}",
                f"max({name})::text AS maximum_{number}",
            ]
    return f"SELECT {', '.join(parts)} FROM {source.sql} AS s"


def distinct_values(source: Relation) -> str | None:
    """How many values each comparable column has; None where there is no such column."""
    selects = [
        f"SELECT {number} AS number, count(*) AS values "
        f"FROM (SELECT DISTINCT s.{quoted(column.name)} AS v FROM {source.sql} AS s) AS d "
        "WHERE v IS NOT NULL"
        for number, column in enumerate(source.columns.values())
        if base_type(column) in _DISTINCT and (column.name,) not in source.unique_keys
    ]
    return " UNION ALL ".join(selects) or None


def orphans(source: Relation, keys: Sequence[ForeignKey]) -> str:
    """For each foreign key: how many rows refer to something, and how many to nothing."""
    selects = []
    for number, key in enumerate(keys):
        filled = " AND ".join(f"s.{quoted(column)} IS NOT NULL" for column in key.columns)
        pairs = zip(key.columns, key.referenced_columns, strict=True)
        same = " AND ".join(f"t.{quoted(theirs)} = s.{quoted(ours)}" for ours, theirs in pairs)
        dangling = (
            f"count(*) FILTER (WHERE NOT EXISTS (SELECT FROM {key.references} AS t WHERE {same}))"
            if key.readable
            else "NULL::bigint"
        )
        selects.append(
            f"SELECT {number} AS number, count(*) AS rows, {dangling} AS orphans "
            f"FROM {source.sql} AS s WHERE {filled}"
        )
    return " UNION ALL ".join(selects)


FOREIGN_KEYS = """
    SELECT k.conname AS name, n.nspname AS schema, t.relname AS table,
           has_table_privilege(t.oid, 'SELECT') AS readable,
           (SELECT array_agg(a.attname::text ORDER BY p.place)
              FROM unnest(k.conkey) WITH ORDINALITY AS p (attnum, place)
              JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = p.attnum) AS columns,
           (SELECT array_agg(a.attname::text ORDER BY p.place)
              FROM unnest(k.confkey) WITH ORDINALITY AS p (attnum, place)
              JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = p.attnum)
               AS referenced_columns
    FROM pg_constraint k
    JOIN pg_class t ON t.oid = k.confrelid
    JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE k.conrelid = :oid AND k.contype = 'f'
      -- A partitioned table has a constraint of its own for each partition of the one it refers to.
      AND k.conparentid = 0
    ORDER BY k.conname
"""

ESTIMATED_VALUES = """
    SELECT s.attname AS name,
           CASE WHEN s.n_distinct < 0 THEN -s.n_distinct * :records ELSE s.n_distinct END AS values
    FROM pg_stats s
    WHERE s.schemaname = :schema AND s.tablename = :table
"""
