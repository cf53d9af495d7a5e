"""The tables that a mapping involves: those that it names, and those that its SQL reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inventory_migration.audit.touched import touched
from inventory_migration.catalog import Derived, Relation, ResolvedMapping
from inventory_migration.catalog.tables import find_table
from inventory_migration.database import escaped
from inventory_migration.engine import canonical
from inventory_migration.engine.ledger import SCHEMA
from inventory_migration.mapping import TableName

READ = "read by its expressions and joins"
QUERY = "what its query for companies gives"


@dataclass(frozen=True)
class Involved:
    """A table, or what stands for one, and what it is to the mapping."""

    relation: Relation
    roles: tuple[str, ...]


def named_tables(resolved: ResolvedMapping) -> list[Involved]:
    """The tables that a mapping names, the stock records first, and its query for companies."""
    found = [Involved(one.relation, one.roles) for one in touched(resolved).values()]
    if isinstance(resolved.company, Derived):
        found.insert(1, Involved(resolved.company, (QUERY,)))
    return found


def read_tables(connection: sa.Connection, resolved: ResolvedMapping) -> list[Involved]:
    """The tables beside those that the mapping's own SQL reads, as the server plans it."""
    known = {one.relation.oid for one in named_tables(resolved)}
    plans = [
        connection.execute(
            sa.text(escaped(f"EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) {query}"))
        ).scalar_one()
        for query in (canonical.records(resolved), canonical.companies(resolved))
    ]
    names = sorted({name for plan in plans for name in _relations(plan)})
    found = []
    for root in connection.execute(
        _ROOTS, {"schemas": [one for one, _ in names], "tables": [one for _, one in names]}
    ):
        table = find_table(connection, TableName(schema=root.schema, name=root.name))
        if table is None or table.relation is None or root.schema in {SCHEMA, "pg_catalog"}:
            continue
        if table.relation.oid not in known:
            found.append(Involved(table.relation, (READ,)))
    return found


def _relations(plan: Any) -> Iterator[tuple[str, str]]:
    """Every table that a plan reads, by schema and name, at whatever depth."""
    if isinstance(plan, dict):
        if "Relation Name" in plan and "Schema" in plan:
            yield plan["Schema"], plan["Relation Name"]
        for part in plan.values():
            yield from _relations(part)
    elif isinstance(plan, list):
        for part in plan:
            yield from _relations(part)


# A plan names the partitions that it reads and not the table that they are of.
_ROOTS = sa.text("""
    SELECT DISTINCT n.nspname AS schema, root.relname AS name
    FROM unnest(CAST(:schemas AS text[]), CAST(:tables AS text[])) AS read(schema, name)
    JOIN pg_namespace m ON m.nspname = read.schema
    JOIN pg_class c ON c.relnamespace = m.oid AND c.relname = read.name
    JOIN pg_class root ON root.oid = COALESCE(pg_partition_root(c.oid), c.oid)
    JOIN pg_namespace n ON n.oid = root.relnamespace
    ORDER BY 1, 2
""")
