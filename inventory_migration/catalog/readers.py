"""Who reads a table: the views over it, through as many others as there are, and the functions.

Only pg_catalog is read. Whether the text of a function means a table that it has a word of is
judged in `audit/`.
"""

# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog.dependency_queries import said


@dataclass(frozen=True)
class View:
    """A view or materialized view, and what it reads directly.

    Attributes:
        reads: The columns of each relation that it reads, by oid.
    """

    oid: int
    name: str
    materialized: bool
    populated: bool
    definition: str
    reads: Mapping[int, tuple[str, ...]]


def views_over(connection: sa.Connection, oids: Sequence[int], *, ledger: str) -> list[View]:
    """Every view that reads one of the tables, also through other views.

    Args:
        connection: A connection; only read from.
        oids: The tables.
        ledger: The schema of the tool's own views, which are left out.
    """
    found: dict[int, dict[str, Any]] = {}
    for row in connection.execute(_VIEWS, {"oids": list(oids), "ledger": ledger}):
        facts = {
            name: row._mapping[name]
            for name in ("oid", "name", "materialized", "populated", "definition")
        }
        view = found.setdefault(row.oid, {**facts, "reads": {}})
        view["reads"][row.base] = tuple(row.columns)
    return [View(**view) for view in found.values()]


@dataclass(frozen=True)
class Routine:
    """A function or procedure of the application's.

    Attributes:
        uses: The columns by table that the catalog knows it to use; none for a text.
        source: Its text, where the server keeps it as such; "" for one it has parsed.
    """

    name: str
    source: str
    uses: Mapping[int, tuple[str, ...]]


def routines_on(
    connection: sa.Connection, oids: Sequence[int], names: Sequence[str], *, ledger: str
) -> Iterator[Routine]:
    """The functions that use a table by the catalog's own knowledge, and those whose text may.

    Args:
        connection: A connection; only read from.
        oids: The tables and views.
        names: What they are called: a function is returned where its text has one of these words,
            in any case; whether it means the table is up to the caller.
        ledger: The schema of the tool's own functions, which are left out.
    """
    asked = {"oids": list(oids), "ledger": ledger, "patterns": [_like(name) for name in names]}
    for row in connection.execute(_ROUTINES, asked):
        uses = {int(oid): tuple(columns) for oid, columns in row.uses.items()}
        yield Routine(row.name, row.source, uses)


def opaque_routines(connection: sa.Connection, *, ledger: str) -> list[str]:
    """The application's functions in languages whose text is not kept in the database."""
    return list(connection.execute(_OPAQUE, {"ledger": ledger}).scalars())


def _like(name: str) -> str:
    escaped = name.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"


_VIEWS = sa.text(f"""
    WITH RECURSIVE edge AS (
        SELECT r.ev_class AS oid, d.refobjid AS base, d.refobjsubid AS number
        FROM pg_rewrite r
        JOIN pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
                       AND v.relnamespace IS DISTINCT FROM to_regnamespace(:ledger)
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                        AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
        WHERE r.rulename = '_RETURN'),
    reached(oid) AS (
        SELECT unnest(CAST(:oids AS oid[]))
        UNION SELECT e.oid FROM reached JOIN edge e ON e.base = reached.oid)
    SELECT v.oid::bigint AS oid, {said("v.oid")} AS name, v.relkind = 'm' AS materialized,
           v.relispopulated AS populated, pg_get_viewdef(v.oid, true) AS definition,
           e.base::bigint AS base,
           array_remove(array_agg(DISTINCT a.attname::text), NULL) AS columns
    FROM reached
    JOIN edge e ON e.base = reached.oid
    JOIN pg_class v ON v.oid = e.oid
    LEFT JOIN pg_attribute a ON a.attrelid = e.base AND a.attnum = e.number AND e.number > 0
    GROUP BY v.oid, v.relname, v.relkind, v.relispopulated, e.base
    ORDER BY v.relname, e.base
""")

_ROUTINES = sa.text("""
    SELECT f.oid::regprocedure::text AS name, f.prosrc AS source,
           COALESCE(known.uses, '{}') AS uses
    FROM pg_proc f
    JOIN pg_language l ON l.oid = f.prolang
    JOIN pg_namespace n ON n.oid = f.pronamespace
    LEFT JOIN LATERAL (
        SELECT jsonb_object_agg(t.oid::bigint::text, t.columns) AS uses
        FROM (SELECT c.oid, COALESCE(jsonb_agg(DISTINCT a.attname)
                                         FILTER (WHERE a.attname IS NOT NULL), '[]') AS columns
              FROM pg_depend d
              JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid
                              OR d.refclassid = 'pg_type'::regclass AND c.reltype = d.refobjid
              LEFT JOIN pg_attribute a ON d.refclassid = 'pg_class'::regclass
                                      AND a.attrelid = c.oid AND a.attnum = d.refobjsubid
                                      AND d.refobjsubid > 0
              WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid
                AND c.oid = ANY(CAST(:oids AS oid[]))
              GROUP BY c.oid) AS t) AS known ON true
    WHERE n.nspname !~ '^(pg_|information_schema$)' AND n.nspname <> :ledger
      AND l.lanname NOT IN ('internal', 'c')
      AND NOT EXISTS (SELECT FROM pg_depend e
                      WHERE e.classid = 'pg_proc'::regclass AND e.objid = f.oid
                        AND e.deptype = 'e')
      AND (known.uses IS NOT NULL OR f.prosrc ILIKE ANY(CAST(:patterns AS text[])))
    ORDER BY 1
""")

_OPAQUE = sa.text("""
    SELECT f.oid::regprocedure::text
    FROM pg_proc f
    JOIN pg_language l ON l.oid = f.prolang
    JOIN pg_namespace n ON n.oid = f.pronamespace
    WHERE n.nspname !~ '^(pg_|information_schema$)' AND n.nspname <> :ledger
      AND l.lanname IN ('internal', 'c')
      AND NOT EXISTS (SELECT FROM pg_depend e
                      WHERE e.classid = 'pg_proc'::regclass AND e.objid = f.oid
                        AND e.deptype = 'e')
    ORDER BY 1
""")
