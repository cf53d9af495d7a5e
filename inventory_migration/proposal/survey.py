"""Every table that the role can see, with columns, keys and foreign keys, in four statements.

What a table is for is judged by the modules beside this one; no row of it is read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import FLOATS, INTEGERS, TEXTS, Column
from inventory_migration.database import quoted
from inventory_migration.engine import ledger
from inventory_migration.proposal import words

MANY = 5_000
"""More tables than that are not all looked at: those on the search path are."""


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key that the catalog declares."""

    columns: tuple[str, ...]
    references: int
    referenced_columns: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Table:
    """A table as the catalog has it.

    Attributes:
        visible: Whether its name alone finds it.
        readable: Whether the role may read its rows.
        rows: How many the statistics tell of; None where nothing was counted yet.
        keys: Its unique keys, the primary key first.
    """

    oid: int
    schema: str
    name: str
    visible: bool
    readable: bool
    rows: int | None
    columns: dict[str, Column] = field(default_factory=dict)
    keys: list[tuple[str, ...]] = field(default_factory=list)
    foreign_keys: list[ForeignKey] = field(default_factory=list)

    @property
    def sql(self) -> str:
        """The quoted name."""
        return quoted(self.schema, self.name)

    @property
    def said(self) -> str:
        """The name as a person says it."""
        return self.name if self.visible else f"{self.schema}.{self.name}"

    @property
    def spelled(self) -> str | dict[str, str]:
        """The name as a mapping file spells it."""
        if "." in self.name or "." in self.schema:
            return {"schema": self.schema, "name": self.name}
        return self.said

    @cached_property
    def key(self) -> tuple[str, ...] | None:
        """The primary key, or the shortest unique one that is never NULL."""
        fit = [key for key in self.keys if all(self.columns[name].not_null for name in key)]
        return fit[0] if fit else None

    @property
    def sole_key(self) -> str | None:
        """The key, where it is one column."""
        return self.key[0] if self.key and len(self.key) == 1 else None

    def unique(self, *names: str) -> bool:
        """Whether something keeps these columns unique together."""
        return any(set(key) <= set(names) for key in self.keys)


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        tables: By oid.
        keywords: The words that SQL takes for something else unless they are quoted.
        left_out: How many tables were not looked at, since they are off the search path.
    """

    tables: Mapping[int, Table]
    keywords: frozenset[str]
    left_out: int

    @cached_property
    def _by_ending(self) -> dict[str, list[Table]]:
        found: dict[str, list[Table]] = {}
        for table in self.tables.values():
            for ending in words.endings(table.name):
                found.setdefault(ending, []).append(table)
        return found

    def meant(self, column: str, schema: str) -> list[Table]:
        """The tables that a column refers to by its name, of the same schema if there are any."""
        found = self._by_ending.get("".join(words.stem(column)), [])
        return [table for table in found if table.schema == schema] or found

    def referring(self, table: Table) -> Iterator[tuple[Table, ForeignKey]]:
        """Each foreign key that leads to a table, with the table that has it."""
        for other in self.tables.values():
            for foreign in other.foreign_keys:
                if foreign.references == table.oid:
                    yield other, foreign

    def named(self, name: str) -> list[Table]:
        """The tables that somebody means who says a name, with or without its schema."""
        exact = [t for t in self.tables.values() if name in {t.said, f"{t.schema}.{t.name}"}]
        return exact or [t for t in self.tables.values() if t.name == name]

    def identifier(self, name: str) -> str:
        """A name as SQL, in quotes only where it needs them."""
        plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in self.keywords
        return name if plain else quoted(name)

    def column(self, alias: str, name: str) -> str:
        """A column as SQL."""
        return f"{alias}.{self.identifier(name)}"

    def table(self, table: Table) -> str:
        """A table as SQL."""
        names = [table.name] if table.visible else [table.schema, table.name]
        return ".".join(map(self.identifier, names))


def survey(connection: sa.Connection) -> Survey:
    """Read the catalog; see `Survey`."""
    total = connection.execute(_COUNT, {"ledger": ledger.SCHEMA}).scalar_one()
    named: dict[str, Any] = {"ledger": ledger.SCHEMA, "all": total <= MANY}
    tables = {row.oid: Table(**row._mapping) for row in connection.execute(_TABLES, named)}
    oids = {"oids": list(tables)}
    for row in connection.execute(_COLUMNS, oids):
        tables[row.oid].columns[row.name] = Column(*row[1:])
    for row in connection.execute(_KEYS, oids):
        tables[row.oid].keys.append(tuple(row.columns))
    for row in connection.execute(_FOREIGN_KEYS, oids):
        tables[row.oid].foreign_keys.append(
            ForeignKey(tuple(row.columns), row.confrelid, tuple(row.referenced))
        )
    keywords = connection.execute(_KEYWORDS).scalars()
    return Survey(tables, frozenset(keywords), total - len(tables))


def alike(one: Column, other: Column) -> bool:
    """Whether values of two columns can be the same without a cast that somebody has to write."""
    kinds = {one.base_type, other.base_type}
    return len(kinds) == 1 or kinds <= INTEGERS or kinds <= TEXTS


def is_number(column: Column) -> bool:
    """Whether a column is of a type that holds numbers."""
    return column.base_type in INTEGERS | FLOATS | {"numeric"}


def is_text(column: Column) -> bool:
    """Whether a column is of a type that holds text."""
    return column.base_type in TEXTS


def is_moment(column: Column) -> bool:
    """Whether a column is of a type that holds a day or a moment."""
    return column.base_type == "date" or column.base_type.startswith("timestamp")


# Partitions are found through their table, and what an extension brought is not the application's.
_LOOKED_AT = r"""
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND n.nspname !~ '^(pg_|information_schema$)' AND n.nspname <> :ledger
      AND has_schema_privilege(n.oid, 'USAGE')
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = CAST('pg_class' AS regclass) AND d.objid = c.oid
                        AND d.deptype = 'e')
"""

_COUNT = sa.text(f"SELECT count(*) {_LOOKED_AT}")

_TABLES = sa.text(f"""
    SELECT CAST(c.oid AS bigint) AS oid, n.nspname AS schema, c.relname AS name,
           pg_table_is_visible(c.oid) AS visible,
           has_table_privilege(c.oid, 'SELECT') AS readable,
           CAST(CASE WHEN c.relkind = 'p'
                     THEN (SELECT sum(NULLIF(l.reltuples, -1))
                           FROM pg_partition_tree(c.oid) t JOIN pg_class l ON l.oid = t.relid
                           WHERE t.isleaf)
                     ELSE NULLIF(c.reltuples, -1) END AS bigint) AS rows
    {_LOOKED_AT} AND (:all OR pg_table_is_visible(c.oid))
    ORDER BY n.nspname, c.relname
""")

_COLUMNS = sa.text("""
    SELECT CAST(a.attrelid AS bigint) AS oid, a.attname AS name,
           CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod)
                ELSE format_type(a.atttypid, a.atttypmod) END,
           a.attnotnull OR t.typnotnull, a.atthasdef OR a.attidentity <> '', a.attgenerated <> ''
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = ANY(CAST(:oids AS oid[])) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum
""")

_KEYS = sa.text("""
    SELECT CAST(i.indrelid AS bigint) AS oid,
           array_agg(a.attname::text ORDER BY k.place) AS columns
    FROM pg_index i
    CROSS JOIN LATERAL unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(attnum, place)
    LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = ANY(CAST(:oids AS oid[])) AND i.indisunique AND i.indisvalid
      AND i.indimmediate AND i.indexprs IS NULL AND i.indpred IS NULL
    GROUP BY i.indexrelid, i.indrelid, i.indisprimary, i.indnkeyatts
    ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, 2
""")

_FOREIGN_KEYS = sa.text("""
    SELECT CAST(f.conrelid AS bigint) AS oid, CAST(f.confrelid AS bigint) AS confrelid,
           array_agg(a.attname::text ORDER BY k.place) AS columns,
           array_agg(r.attname::text ORDER BY k.place) AS referenced
    FROM pg_constraint f
    CROSS JOIN LATERAL unnest(f.conkey, f.confkey) WITH ORDINALITY AS k(mine, theirs, place)
    JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.mine
    JOIN pg_attribute r ON r.attrelid = f.confrelid AND r.attnum = k.theirs
    WHERE f.contype = 'f' AND f.conparentid = 0
      AND f.conrelid = ANY(CAST(:oids AS oid[])) AND f.confrelid = ANY(CAST(:oids AS oid[]))
    GROUP BY f.oid, f.conrelid, f.confrelid, f.conname
    ORDER BY f.conrelid, f.conname
""")

_KEYWORDS = sa.text("SELECT word FROM pg_get_keywords() WHERE catcode <> 'U'")
