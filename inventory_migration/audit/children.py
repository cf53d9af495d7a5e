"""Tables whose rows belong to a stock record, and which will need to say a location too.

They are known by a foreign key to the records, or by a column that is named like one; beside them
stand those that refer to the product of a record. Whether one counts stock is judged by names,
which is why nothing is done to any of them.
"""

# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from inventory_migration.audit.effects import Concern
from inventory_migration.audit.readers import names_table
from inventory_migration.audit.touched import Touched
from inventory_migration.catalog import FLOATS, INTEGERS, TEXTS, ResolvedMapping, base_type
from inventory_migration.engine.ledger import SCHEMA
from inventory_migration.mapping import Expression, StockMapping
from inventory_migration.proposal import words

COUNTS = 5
"""How surely a number's name must say that it is an amount."""

_NO_AMOUNT = (
    "price", "cost", "tax", "discount", "rate", "value", "weight", "width", "height", "length",
    "volume", "per", "percent", "factor", "ratio", "min", "max", "minimum", "maximum", "limit",
    "threshold", "reorder", "safety", "capacity", "average", "id", "sort", "position",
)  # fmt: skip
_MOVES = frozenset(
    (
        "adjustment", "allocation", "delivery", "fulfillment", "fulfilment", "inventory", "line",
        "movement", "picking", "receipt", "reservation", "return", "serial", "shipment", "stock",
        "transfer", "unit",
    )
)  # fmt: skip
"""Last words of a table whose rows are units or movements, though none of its columns counts."""


@dataclass(frozen=True)
class Child:
    """A table whose rows belong to a stock record or to its product.

    Attributes:
        table: What it is called.
        columns: The columns that say which record or product.
        refers_to: The table that they name.
        known_by: A foreign key, or the column's name alone.
        quantities: The columns that count something.
        locations: The columns that say a location.
        covered: What the mapping has to do with it; empty where it has nothing.
        advice: What to do about it.
        concern: Whether somebody has to do something about it, should know of it, or neither.
        readable: Whether the role may read its rows.
        of_record: Whether it names a record, and not only its product.
        declared: Whether a foreign key says so.
        types: The type of each of its columns.
    """

    table: str
    columns: tuple[str, ...]
    refers_to: str
    known_by: str
    quantities: tuple[str, ...]
    locations: tuple[str, ...]
    covered: str
    advice: str
    concern: Concern
    readable: bool
    of_record: bool
    declared: bool
    types: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            **asdict(self),
            "columns": list(self.columns),
            "quantities": list(self.quantities),
            "locations": list(self.locations),
        }

    def row(self) -> dict[str, str]:
        """Return it as a row for reading."""
        return {
            "concern": self.concern,
            "table": self.table,
            "belongs to": f"{self.refers_to} by {', '.join(self.columns)}",
            "known by": self.known_by,
            "counts": ", ".join(self.quantities),
            "says a location": ", ".join(self.locations) or "no",
            "covered by the mapping": self.covered or "no",
            "what to do": self.advice,
        }


def find(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    tables: Mapping[int, Touched],
    others: Sequence[StockMapping] = (),
) -> list[Child]:
    """The tables below the stock records and below their products, what needs most first.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        tables: The tables that the mapping touches, which are left out.
        others: Other mappings of this database.
    """
    asked = {"ledger": SCHEMA, "touched": list(tables)}
    products = _products(connection, resolved, tables)
    parents = {
        resolved.source.oid: f"{resolved.source.schema}.{resolved.source.name}",
        **products,
    }
    links = [
        _Link(row.oid, tuple(row.columns), row.parent, f"foreign key {row.name}", True)
        for row in connection.execute(_REFERRING, {**asked, "parents": list(parents)})
    ]
    known = {link.child for link in links if link.parent == resolved.source.oid}
    links += [link for link in _by_name(connection, resolved, asked) if link.child not in known]
    if not links:
        return []
    locations = resolved.locations.oid if resolved.locations else None
    facts = {
        row.oid: row
        for row in connection.execute(
            _FACTS, {"oids": sorted({link.child for link in links}), "locations": locations}
        )
    }
    found: dict[int, Child] = {}
    for link in links:
        # A table that names both a record and a product belongs to the record.
        if link.child not in found:
            child = _judged(link, facts[link.child], parents[link.parent], resolved, others)
            if child is not None:
                found[link.child] = child
    order: list[Concern] = ["to do", "to know", "untouched"]
    return sorted(found.values(), key=lambda child: (order.index(child.concern), child.table))


@dataclass(frozen=True)
class _Link:
    """Columns of a table that name a row of another."""

    child: int
    columns: tuple[str, ...]
    parent: int
    known_by: str
    declared: bool


def _products(
    connection: sa.Connection, resolved: ResolvedMapping, tables: Mapping[int, Touched]
) -> dict[int, str]:
    """The tables that a record refers to as its item, variant or product."""
    rows = connection.execute(_REFERRED, {"oid": resolved.source.oid})
    return {
        row.oid: f"{row.schema}.{row.name}"
        for row in rows
        if row.oid not in tables and words.head(row.name, words.RECORDS)
    }


def _by_name(
    connection: sa.Connection, resolved: ResolvedMapping, asked: Mapping[str, object]
) -> Iterator[_Link]:
    """Columns without a foreign key that are named like the key of a record."""
    source = resolved.source
    if len(resolved.key_columns) != 1:
        return
    (key,) = resolved.key_columns
    endings = words.endings(source.name)
    # The beginning is enough to ask by: how a word ends differs by its number.
    patterns = [f"{ending[:-1]}%" if len(ending) > 3 else f"{ending}%" for ending in endings]
    rows = connection.execute(_NAMED, {**asked, "patterns": patterns}).all()
    if not rows:
        return
    names = {"".join(words.words(name)) for name in connection.execute(_TABLES, asked).scalars()}
    for row in rows:
        stem = "".join(words.stem(row.column))
        # Another table of just that name is meant, if there is one.
        meant = stem in endings and (stem == "".join(words.words(source.name)) or stem not in names)
        if meant and _comparable(row.type, key.type):
            yield _Link(row.oid, (row.column,), source.oid, "its column's name", False)


def _comparable(one: str, other: str) -> bool:
    both = {base_type(one), base_type(other)}
    return len(both) == 1 or both <= INTEGERS or both <= TEXTS


def _judged(
    link: _Link,
    facts: sa.Row[tuple[object, ...]],
    parent: str,
    resolved: ResolvedMapping,
    others: Sequence[StockMapping],
) -> Child | None:
    """A child and what to do about it; None for what has nothing to do with an amount of stock."""
    numeric = INTEGERS | FLOATS | {"numeric"}
    named = {*link.columns, *facts.referring}
    columns = [(name, kind) for name, kind in facts.columns if name not in named]
    quantities = tuple(
        name
        for name, kind in columns
        if base_type(kind) in numeric and not words.stem(name) and _is_amount(name)
    )
    moves = words.words(facts.name)[-1:] and words.words(facts.name)[-1] in _MOVES
    direct = link.parent == resolved.source.oid
    if not direct and not quantities:
        return None
    locations = tuple(
        dict.fromkeys(
            [*facts.locations, *(name for name, _ in columns if _says_location(name, resolved))]
        )
    )
    advice, concern = _advice(
        resolved, link, parent, locations, counts=bool(quantities or moves), direct=direct
    )
    return Child(
        table=f"{facts.schema}.{facts.name}",
        columns=link.columns,
        refers_to=parent,
        known_by=link.known_by,
        quantities=quantities,
        locations=locations,
        covered=", ".join(_covered(facts, resolved, others)),
        advice=advice,
        concern=concern,
        readable=facts.readable,
        of_record=direct,
        declared=link.declared,
        types=dict(facts.columns),
    )


def _is_amount(name: str) -> bool:
    return words.weight(name, words.QUANTITIES) >= COUNTS and not words.says(name, _NO_AMOUNT)


def _says_location(name: str, resolved: ResolvedMapping) -> bool:
    """Whether a column names a location as the application calls it, or as most do."""
    stem = "".join(words.stem(name))
    named = resolved.mapping.locations.table.name
    surely = words.weight(name, words.LOCATIONS) >= words.LOCATIONS["depot"]
    return bool(stem) and (surely or stem in words.endings(named))


def _covered(
    facts: sa.Row[tuple[object, ...]], resolved: ResolvedMapping, others: Sequence[StockMapping]
) -> Iterator[str]:
    reserved = resolved.mapping.source.reserved
    if isinstance(reserved, Expression) and names_table(reserved.sql, facts.schema, facts.name):
        yield "read for what is reserved"
    for other in others:
        table = other.source.table
        if other.name != resolved.mapping.name and (
            table.name == facts.name and table.schema_ in {None, facts.schema}
        ):
            yield f"records of the mapping {other.name}"


def _advice(
    resolved: ResolvedMapping,
    link: _Link,
    parent: str,
    locations: tuple[str, ...],
    *,
    counts: bool,
    direct: bool,
) -> tuple[str, Concern]:
    if not counts:
        return "It counts nothing and moves nothing, as far as names tell: nothing.", "untouched"
    if locations:
        return (
            f"It says a location in {', '.join(locations)}, which the migration does not fill: see "
            "that the application does, and fill what is NULL.",
            "to know",
        )
    if not direct:
        return (
            f"Its rows name a row of {parent} and no record: from which location stock goes, they "
            "will not say. Add a column where that must be known.",
            "to know",
        )
    by = ", ".join(link.columns)
    if resolved.mapping.target.shape == "location_column":
        return (
            f"A row is where its record is: join by {by}. Add a column of its own before records "
            "move between locations, or past rows would move along.",
            "to know",
        )
    return (
        "A record can be at several locations, and a row does not say at which: add a column, fill "
        f"it with the default location of the company (join by {by}), and let the application set "
        "it from then on.",
        "to do",
    )


_OF_APPLICATION = """
    n.nspname !~ '^(pg_|information_schema$)' AND n.nspname <> :ledger
      AND c.relkind IN ('r', 'p') AND NOT c.relispartition"""

_REFERRING = sa.text(f"""
    SELECT c.oid::bigint AS oid, k.conname::text AS name, k.confrelid::bigint AS parent,
           (SELECT array_agg(a.attname::text ORDER BY u.place)
            FROM unnest(k.conkey) WITH ORDINALITY AS u(attnum, place)
            JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum) AS columns
    FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confrelid = ANY(CAST(:parents AS oid[]))
      AND NOT c.oid = ANY(CAST(:touched AS oid[])) AND {_OF_APPLICATION}
    ORDER BY array_position(CAST(:parents AS oid[]), k.confrelid), c.relname, k.conname
""")

_REFERRED = sa.text("""
    SELECT DISTINCT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name
    FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.confrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE k.contype = 'f' AND k.conparentid = 0 AND k.conrelid = CAST(:oid AS oid)
""")

_NAMED = sa.text(f"""
    SELECT c.oid::bigint AS oid, a.attname::text AS column,
           format_type(a.atttypid, a.atttypmod) AS type
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE a.attnum > 0 AND NOT a.attisdropped AND {_OF_APPLICATION}
      AND NOT c.oid = ANY(CAST(:touched AS oid[]))
      AND lower(replace(a.attname, '_', '')) LIKE ANY(CAST(:patterns AS text[]))
      AND NOT EXISTS (SELECT FROM pg_constraint k
                      WHERE k.conrelid = c.oid AND k.contype = 'f' AND a.attnum = ANY(k.conkey))
    ORDER BY c.relname, a.attnum
""")

_TABLES = sa.text(f"""
    SELECT c.relname::text
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {_OF_APPLICATION} AND CAST(:touched AS oid[]) IS NOT NULL
""")

_FACTS = sa.text("""
    SELECT c.oid::bigint AS oid, n.nspname::text AS schema,
           c.relname::text AS name,
           has_schema_privilege(n.oid, 'USAGE')
               AND has_any_column_privilege(c.oid, 'SELECT') AS readable,
           (SELECT jsonb_agg(jsonb_build_array(a.attname, format_type(a.atttypid, a.atttypmod))
                             ORDER BY a.attnum)
            FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
           ARRAY(SELECT a.attname::text
                 FROM pg_constraint k
                 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(k.conkey)
                 WHERE k.conrelid = c.oid AND k.contype = 'f') AS referring,
           ARRAY(SELECT a.attname::text
                 FROM pg_constraint k
                 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(k.conkey)
                 WHERE k.conrelid = c.oid AND k.contype = 'f'
                   AND k.confrelid = CAST(:locations AS oid)
                 ORDER BY a.attnum) AS locations
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = ANY(CAST(:oids AS oid[]))
""")
