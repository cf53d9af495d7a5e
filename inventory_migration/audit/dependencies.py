"""The structure that a migration meets: what hangs on its tables, what it does to each of it.

The catalog is read in `catalog/`. This puts together what `constraints.py`, `surroundings.py`,
`readers.py`, `children.py` and `fields.py` make of it, as JSON, as Markdown and as plain rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from inventory_migration.audit import children, constraints, diagram, fields, surroundings
from inventory_migration.audit.children import Child
from inventory_migration.audit.diagram import Diagram
from inventory_migration.audit.effects import CONCERNS, Concern, Effect, Move
from inventory_migration.audit.fields import Field
from inventory_migration.audit.readers import ReadBy, told_of_routines, told_of_views
from inventory_migration.audit.touched import Touched, made, touched
from inventory_migration.catalog import Column, ResolvedMapping
from inventory_migration.catalog.dependencies import CatalogObject, Part, objects_on, parts_of
from inventory_migration.catalog.readers import opaque_routines, routines_on, views_over
from inventory_migration.engine.ledger import SCHEMA
from inventory_migration.engine.triggers import fired_triggers
from inventory_migration.mapping import StockMapping
from inventory_migration.report.markdown import cell, table

_KINDS = {
    "foreign_key": "foreign key",
    "primary": "primary key",
    "unique": "unique constraint",
    "exclusion": "exclusion constraint",
    "check": "check constraint",
    "not_null": "not null",
    "generated": "generated column",
    "partitioned": "partitions",
    "partition_of": "partition of",
    "inherits": "inherits from",
    "row_security": "row level security",
    "column_grant": "grant",
    "statistics": "extended statistics",
    "event_trigger": "event trigger",
}
_EFFECTS = {**constraints.EFFECTS, **surroundings.EFFECTS}
_UNSEEN = (
    "SQL that stands outside this database, and SQL that a function puts together from pieces, "
    "cannot be seen from here."
)


@dataclass(frozen=True)
class Dependency:
    """An object that hangs on a table that the mapping touches.

    Attributes:
        kind: What it is.
        name: What it is called.
        table: The tables of the mapping that it hangs on, or refers to.
        columns: The columns of these tables that it uses, as far as they are known.
        definition: How the server says it.
        effect: What the migration does to it.
        concern: Whether somebody has to do something about it, should know of it, or neither.
        guess: Whether that it hangs on the table is only a guess from its text.
    """

    kind: str
    name: str
    table: str
    columns: tuple[str, ...]
    definition: str
    effect: str
    concern: Concern
    guess: bool = False


@dataclass(frozen=True)
class TouchedTable:
    """A table of the mapping, and what a migration does in it."""

    table: str
    role: str
    done: str


@dataclass(frozen=True)
class Dependencies:
    """What a migration meets in a database, and what it does to it.

    Attributes:
        tables: The tables that the mapping touches.
        objects: What hangs on them, what needs something done first.
        children: Tables whose rows belong to a stock record, and may need a location too.
        fields: Each column before and after, and how its value comes.
        unread: What could not be looked into.
        before: The tables as they are.
        after: The tables as they will be.
    """

    tables: tuple[TouchedTable, ...]
    objects: tuple[Dependency, ...]
    children: tuple[Child, ...]
    fields: tuple[Field, ...]
    unread: tuple[str, ...]
    before: Diagram
    after: Diagram

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "tables": [asdict(one) for one in self.tables],
            "dependencies": [{**asdict(one), "columns": list(one.columns)} for one in self.objects],
            "children": [one.to_json() for one in self.children],
            "fields": [asdict(one) for one in self.fields],
            "unread": list(self.unread),
        }

    def sections(self) -> dict[str, list[dict[str, str]]]:
        """Return tables for reading: title to rows, each by column title; a title may have none."""
        return {
            "Tables": [
                {"table": t.table, "is": t.role, "what the migration does": t.done}
                for t in self.tables
            ],
            "Fields": [field.row() for field in self.fields],
            "Child tables": [child.row() for child in self.children],
            "Dependencies": [
                {
                    "concern": one.concern,
                    "kind": one.kind,
                    "name": one.name,
                    "of": one.table,
                    "columns": ", ".join(one.columns),
                    "what the migration does to it": one.effect
                    + (" (A guess: its text has the name.)" if one.guess else ""),
                    "definition": one.definition,
                }
                for one in self.objects
            ],
            "Not looked into": [{"what": line} for line in self.unread],
        }

    def to_markdown(self) -> str:
        """Return everything as Markdown, with diagrams that GitHub draws."""
        parts = ["## Schema and dependencies"]
        for title, drawn in (("Before", self.before), ("After", self.after)):
            parts += [f"### {title}", f"```mermaid\n{diagram.mermaid(drawn)}\n```"]
        for title, rows in self.sections().items():
            parts += [f"### {cell(title)}", table(rows)]
        return "\n\n".join(parts) + "\n"

    def metadata(self) -> dict[str, int]:
        """Return the figures to keep with a run, with stable names."""
        return {
            "dependencies": len(self.objects),
            "dependencies_to_do": sum(one.concern == "to do" for one in self.objects),
            "child_tables": len(self.children),
            "child_tables_to_do": sum(one.concern == "to do" for one in self.children),
        }


def examine(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    *,
    others: Sequence[StockMapping] = (),
) -> Dependencies:
    """Look at everything that hangs on the tables of a mapping, in statements that only read.

    Args:
        connection: A connection to the application's database.
        resolved: The mapping and its types.
        others: Other mappings of this database, by which a child table may be covered.
    """
    tables = touched(resolved)
    parts = parts_of(connection, list(tables))
    roots = {part.oid: part.root for part in parts}
    unread: list[str] = []
    found = objects_on(connection, parts, ledger=SCHEMA, unread=unread)
    move = _move(connection, resolved, tables, parts, found)
    views = ReadBy(views_over(connection, list(roots), ledger=SCHEMA), roots, tables)
    routines = routines_on(
        connection,
        [*roots, *(view.oid for view in views)],
        [one.relation.name for one in tables.values()],
        ledger=SCHEMA,
    )
    dependencies = [
        *_of_objects(found, move),
        *_of_columns(tables, found),
        *(
            _dependency(told.kind, told.name, told.tables, told.definition, told.effect, move,
                        guess=told.guess)
            for told in (
                *told_of_views(views, move),
                *told_of_routines(routines, roots, views, move),
            )
        ),
    ]  # fmt: skip
    below, closed = children.find(connection, resolved, tables, others)
    unread += closed
    opaque = opaque_routines(connection, ledger=SCHEMA)
    if opaque:
        unread.append(f"Functions whose text is not in the database: {', '.join(opaque)}.")
    unread += [
        f"{child.table}: {resolved.role} may not read its rows; only its structure was looked at."
        for child in below
        if not child.readable
    ]
    mapped = tuple(fields.mapped(resolved))
    foreign = [one for one in found if one.kind == "foreign_key"]
    return Dependencies(
        tables=(
            *(
                TouchedTable(one.relation.full_name, ", ".join(one.roles), one.said)
                for one in tables.values()
            ),
            *(TouchedTable(name, role, "is made") for name, role in made(resolved).items()),
        ),
        objects=tuple(sorted(dependencies, key=lambda one: CONCERNS.index(one.concern))),
        children=tuple(below),
        fields=mapped,
        unread=(*unread, _UNSEEN),
        before=diagram.before(resolved, tables, foreign, below),
        after=diagram.after(resolved, tables, foreign, below, mapped),
    )


def _move(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    tables: Mapping[int, Touched],
    parts: Sequence[Part],
    found: Sequence[CatalogObject],
) -> Move:
    counted = [resolved.source, resolved.locations, resolved.levels]
    partitions = dict.fromkeys(tables, 0)
    for part in parts:
        partitions[part.root] += part.oid != part.root
    return Move(
        resolved=resolved,
        tables=tables,
        fired={
            (fired["table"], fired["name"]): fired for fired in fired_triggers(connection, resolved)
        },
        made=tuple(made(resolved)),
        counted=frozenset(one.oid for one in counted if one is not None),
        partitions=partitions,
        indexing=_indexing(found, tables),
    )


def _indexing(
    found: Sequence[CatalogObject], tables: Mapping[int, Touched]
) -> dict[int, tuple[str, ...]]:
    """The indexes that hold what an update sets, or what is generated from that, by table."""
    names: dict[int, tuple[str, ...]] = {}
    follows: dict[int, set[str]] = {oid: set(table.updated) for oid, table in tables.items()}
    for one in found:
        if (
            one.kind == "generated"
            and set(one.uses[one.facts["table"]]) & follows[one.facts["table"]]
        ):
            follows[one.facts["table"]].add(one.name)
    for one in found:
        if one.kind in {"index", "primary", "unique", "exclusion"}:
            oid = one.facts["table"]
            # From PostgreSQL 16 on, a summary of a page's values keeps nothing from its place.
            if one.facts.get("method") != "brin" and set(one.uses[oid]) & follows[oid]:
                names[oid] = (*names.get(oid, ()), one.name)
    return names


def _of_objects(found: Sequence[CatalogObject], move: Move) -> Iterator[Dependency]:
    for one in found:
        effect = _EFFECTS[one.kind](one, move)
        if effect is not None:
            kind = _KINDS.get(one.kind, one.kind)
            yield _dependency(kind, one.name, one.uses, one.definition, effect, move)


def _of_columns(
    tables: Mapping[int, Touched], found: Sequence[CatalogObject]
) -> Iterator[Dependency]:
    """The columns that must not be NULL, by what that means for what is written."""
    unsure = {
        (one.facts["table"], name)
        for one in found
        if one.kind == "not_null"
        for name in one.uses[one.facts["table"]]
    }
    for one in tables.values():
        groups: dict[Effect, list[str]] = {}
        for column in one.relation.columns.values():
            if column.not_null and (one.relation.oid, column.name) not in unsure:
                groups.setdefault(_effect_on_needed(column, one), []).append(column.name)
        for effect, names in groups.items():
            yield Dependency(
                kind="not null",
                name=", ".join(names),
                table=one.relation.full_name,
                columns=tuple(names),
                definition="NOT NULL",
                effect=effect.text,
                concern=effect.concern,
            )


def _effect_on_needed(column: Column, table: Touched) -> Effect:
    if column.name in table.updated:
        return Effect("Written, and never with NULL.")
    if table.inserted is None:
        return Effect("Not written.")
    if column.name in table.inserted:
        return Effect(
            "New rows are given a value, by the mapping: one that comes to NULL is refused.",
            "to know",
        )
    return Effect("New rows have its default.")


def _dependency(
    kind: str,
    name: str,
    uses: Mapping[int, Sequence[str]],
    definition: str,
    effect: Effect,
    move: Move,
    *,
    guess: bool = False,
) -> Dependency:
    mine = {oid: uses[oid] for oid in move.tables if oid in uses}
    several = len(mine) > 1
    return Dependency(
        kind=kind,
        name=name,
        table=", ".join(move.tables[oid].relation.full_name for oid in mine),
        columns=tuple(
            f"{move.tables[oid].relation.name}.{column}" if several else column
            for oid, columns in mine.items()
            for column in columns
        ),
        definition=" ".join(definition.split()),
        effect=effect.text,
        concern=effect.concern,
        guess=guess,
    )
