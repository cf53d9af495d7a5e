"""Flags of the records that a move to levels would leave behind, because nothing maps them.

A level is a row of its own: whether an item may be sold without stock, or is counted at all, stays
with the record, where the application may look no more. What a mapping says about it is up to its
`source.skip`, `target.values` and rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import canonical
from inventory_migration.mapping import (
    CompanyQuery,
    Expression,
    LinkedPlaces,
    Standardised,
    StockLevel,
    Through,
)


@dataclass(frozen=True)
class Flag:
    """A column that nothing maps, and that says something about some records.

    Attributes:
        column: Its name.
        usual: Its default, as text; where it has none, what it is taken to be.
        records: How many records that are not skipped have something else.
        such_as: The key of one of them.
    """

    column: str
    usual: str
    records: int
    such_as: str


def unmapped(connection: sa.Connection, resolved: ResolvedMapping) -> list[Flag]:
    """The flags with other values than their default that a mapping to levels says nothing of.

    A shape that writes into the record itself leaves none behind.

    Args:
        connection: A connection that sees one moment; only read from.
        resolved: The mapping and its types.
    """
    if not isinstance(resolved.mapping.target, StockLevel):
        return []
    mapped = mentioned(resolved)
    flags = [
        row
        for row in connection.execute(_FLAGS, {"oid": resolved.source.oid})
        if row.name not in mapped
    ]
    if not flags:
        return []
    counted = ", ".join(
        f"count(*) FILTER (WHERE r.flag_{n}) AS records_{n}, "
        f"min(r.key_text) FILTER (WHERE r.flag_{n}) AS key_{n}"
        for n in range(len(flags))
    )
    other = ", ".join(
        f"s.{quoted(row.name)} IS DISTINCT FROM ({row.usual}) AS flag_{n}"
        for n, row in enumerate(flags)
    )
    rows = canonical.source_rows(resolved, extra=other, hashed=False)
    found = connection.execute(
        sa.text(f"SELECT {counted} FROM ({escaped(rows)}) AS r WHERE r.skip_reason IS NULL")
    ).one()
    return [
        Flag(row.name, row.usual, records, getattr(found, f"key_{n}"))
        for n, row in enumerate(flags)
        if (records := int(getattr(found, f"records_{n}")))
    ]


def mentioned(resolved: ResolvedMapping) -> set[str]:
    """Every column that the mapping names, and every word of its SQL."""
    source = resolved.mapping.source
    named: list[object] = [*source.key, source.company, source.item]
    named += [source.quantity, source.reserved]
    words = set(re.findall(r"[\w$]+", " ".join(fragments(resolved))))
    target = resolved.mapping.target
    if isinstance(target, StockLevel):
        named += [*target.record.values(), *target.values.values()]
    if isinstance(source.company, Through):
        named += source.company.through.record.values()
    columns = {part.column for part in named if isinstance(part, Standardised) and part.column}
    return {name for name in named if isinstance(name, str)} | columns | words


def fragments(resolved: ResolvedMapping) -> Iterator[str]:
    """All SQL that the mapping brought along."""
    source = resolved.mapping.source
    yield source.joins
    if isinstance(resolved.mapping.company, CompanyQuery):
        yield resolved.mapping.company.sql
    parts: list[object] = [source.company, source.item, source.quantity, source.reserved]
    parts += [*source.skip.values(), *resolved.mapping.touch.values()]
    parts += [rule.when for rule in resolved.mapping.rules.own.values()]
    target = resolved.mapping.target
    if isinstance(target, StockLevel):
        parts += [*target.record.values(), *target.values.values()]
    locations = resolved.mapping.locations
    parts += [locations.company, *(locations.create or {}).values()]
    if isinstance(locations.company, LinkedPlaces):
        owned = locations.company.through
        parts += [owned.where, *owned.values.values()]
    for link in locations.links:
        parts += [link.where, *link.values.values()]
    for part in parts:
        if isinstance(part, Expression | Standardised) and part.sql:
            yield part.sql


# A flag without a default is taken to be down: false, or the first of an enumeration.
_FLAGS = sa.text("""
    SELECT a.attname AS name,
           COALESCE(pg_get_expr(d.adbin, d.adrelid),
                    CASE WHEN t.typtype = 'e'
                         THEN (SELECT quote_literal(e.enumlabel) FROM pg_enum e
                               WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder LIMIT 1)
                         ELSE 'false' END) AS usual
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
      AND (t.typtype = 'e'
           OR t.oid = 'boolean'::regtype OR t.typbasetype = 'boolean'::regtype)
    ORDER BY a.attnum
""")
