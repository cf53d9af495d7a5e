"""References of the tables of a mapping, in and out, and how many of them lead to nothing.

Those that a foreign key declares, and those that only a column's name tells of: what it is called
is what a table is called, and its type fits that table's key. A name can mislead; that is why it is
said how a reference is known, and why nothing is refused for it.
"""

# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import Relation
from inventory_migration.database import escaped, quoted
from inventory_migration.engine.ledger import SCHEMA
from inventory_migration.proposal import words
from inventory_migration.proposal.survey import Survey, Table, alike

DECLARED, NAMED = "foreign key", "name only"


@dataclass(frozen=True)
class Reference:
    """Columns of one table that hold the key of a row of another.

    Attributes:
        name: The foreign key's name; that of the column where there is none.
        table: Who refers.
        columns: By which columns.
        references: To what.
        referenced_columns: By which columns of it.
        known_by: `DECLARED` or `NAMED`.
        readable: Whether the role may read both.
        rows: How many rows refer to something; None where that was not counted.
        orphans: How many of them refer to nothing.
    """

    name: str
    table: tuple[str, str]
    columns: tuple[str, ...]
    references: tuple[str, str]
    referenced_columns: tuple[str, ...]
    known_by: str
    readable: bool
    rows: int | None = None
    orphans: int | None = None

    def row(self) -> dict[str, Any]:
        """Return the reference as a row for a frame."""
        return {
            "name": self.name,
            "table": ".".join(self.table),
            "columns": ", ".join(self.columns),
            "references": ".".join(self.references),
            "known_by": self.known_by,
            "rows": self.rows,
            "orphans": self.orphans,
        }


def declared(
    connection: sa.Connection, oids: Sequence[int], *, inward: bool = False
) -> list[Reference]:
    """The foreign keys that tables have, and with `inward` those that lead to them."""
    found = connection.execute(_DECLARED, {"oids": list(oids), "inward": inward, "ledger": SCHEMA})
    return [
        Reference(
            name=row.name,
            table=(row.child_schema, row.child),
            columns=tuple(row.columns),
            references=(row.parent_schema, row.parent),
            referenced_columns=tuple(row.referenced_columns),
            known_by=DECLARED,
            readable=row.readable,
        )
        for row in found
    ]


def named(survey: Survey, relations: Mapping[int, Relation]) -> Iterator[Reference]:
    """The columns that refer to a table by their name alone, in or out of the given tables."""
    for table in survey.tables.values():
        referring = {name for foreign in table.foreign_keys for name in foreign.columns}
        for name, column in table.columns.items():
            if name in referring or table.sole_key == name:
                continue
            for meant in _meant(survey, table, name):
                key = meant.sole_key
                involved = table.oid in relations or meant.oid in relations
                if key and involved and alike(column, meant.columns[key]):
                    yield Reference(
                        name=name,
                        table=(table.schema, table.name),
                        columns=(name,),
                        references=(meant.schema, meant.name),
                        referenced_columns=(key,),
                        known_by=NAMED,
                        readable=table.readable and meant.readable,
                    )


def counted(connection: sa.Connection, references: Sequence[Reference]) -> list[Reference]:
    """The same references with how many rows refer, and how many to nothing."""
    asked = {number: one for number, one in enumerate(references) if one.readable}
    if not asked:
        return list(references)
    query = " UNION ALL ".join(_count(number, one) for number, one in asked.items())
    found = {row.number: row for row in connection.execute(sa.text(escaped(query)))}
    return [
        replace(one, rows=found[number].records, orphans=found[number].orphans)
        if number in found
        else one
        for number, one in enumerate(references)
    ]


def _meant(survey: Survey, table: Table, column: str) -> list[Table]:
    """The one table that a column means by its name; none where several are called so."""
    found = survey.meant(column, table.schema)
    exact = [one for one in found if words.words(one.name) == words.stem(column)]
    meant = [one for one in exact or found if one.oid != table.oid]
    return meant if len(meant) == 1 else []


def _count(number: int, one: Reference) -> str:
    filled = " AND ".join(f"s.{quoted(column)} IS NOT NULL" for column in one.columns)
    pairs = zip(one.columns, one.referenced_columns, strict=True)
    same = " AND ".join(f"t.{quoted(theirs)} = s.{quoted(ours)}" for ours, theirs in pairs)
    rows = f"FROM {quoted(*one.table)} AS s WHERE {filled}"
    # Asked for apart, as a join: several processes look the keys up in one table of them.
    return (
        f"SELECT {number} AS number, (SELECT count(*) {rows}) AS records, "
        f"(SELECT count(*) {rows} AND NOT EXISTS "
        f"(SELECT FROM {quoted(*one.references)} AS t WHERE {same})) AS orphans"
    )


_DECLARED = sa.text("""
    SELECT k.conname AS name,
           cn.nspname AS child_schema, child.relname AS child,
           pn.nspname AS parent_schema, parent.relname AS parent,
           mine.columns, theirs.columns AS referenced_columns,
           mine.readable AND theirs.readable AS readable
    FROM pg_constraint k
    JOIN pg_class child ON child.oid = k.conrelid
    JOIN pg_namespace cn ON cn.oid = child.relnamespace
    JOIN pg_class parent ON parent.oid = k.confrelid
    JOIN pg_namespace pn ON pn.oid = parent.relnamespace
    CROSS JOIN LATERAL (
        SELECT array_agg(a.attname::text ORDER BY p.place) AS columns,
               has_schema_privilege(cn.oid, 'USAGE')
               AND bool_and(has_column_privilege(a.attrelid, a.attnum, 'SELECT')) AS readable
        FROM unnest(k.conkey) WITH ORDINALITY AS p (attnum, place)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = p.attnum) AS mine
    CROSS JOIN LATERAL (
        SELECT array_agg(a.attname::text ORDER BY p.place) AS columns,
               has_schema_privilege(pn.oid, 'USAGE')
               AND bool_and(has_column_privilege(a.attrelid, a.attnum, 'SELECT')) AS readable
        FROM unnest(k.confkey) WITH ORDINALITY AS p (attnum, place)
        JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = p.attnum) AS theirs
    WHERE k.contype = 'f'
      -- A partitioned table has a constraint of its own for each partition of the one it refers to.
      AND k.conparentid = 0
      AND (k.conrelid = ANY(CAST(:oids AS oid[]))
           OR :inward AND k.confrelid = ANY(CAST(:oids AS oid[])))
      AND cn.nspname <> :ledger
    ORDER BY k.conrelid <> ALL(CAST(:oids AS oid[])), child.relname, k.conname
""")
