"""The tables of a mapping before and after, as a picture: what they hold, and what refers to what.

Which tables and columns are shown is decided here; how they are drawn, in `svg.py` and
`mermaid.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from inventory_migration.audit.children import Child
from inventory_migration.audit.fields import Field, meanings
from inventory_migration.audit.mermaid import mermaid
from inventory_migration.audit.svg import svg
from inventory_migration.audit.touched import (
    COMPANIES,
    EACH,
    LEVELS,
    LOCATIONS,
    RECORDS,
    Touched,
    made,
)
from inventory_migration.catalog import Relation, ResolvedMapping
from inventory_migration.catalog.dependencies import CatalogObject
from inventory_migration.mapping import (
    Canonical,
    LinkedPlaces,
    StockLevel,
    Through,
    named_column,
)

__all__ = ["Box", "Diagram", "Line", "Link", "after", "before", "mermaid", "svg"]

MOST_CHILDREN = 8
"""More child tables than that would hide the rest of a picture."""

State = Literal["", "new", "written"]


@dataclass(frozen=True)
class Line:
    """A column of a table in a picture.

    Attributes:
        name: Its name.
        type: Its type.
        key: Whether it is the table's key, or part of it.
        state: Whether the migration adds it, or writes it.
    """

    name: str
    type: str
    key: bool = False
    state: State = ""


@dataclass(frozen=True)
class Box:
    """A table in a picture.

    Attributes:
        name: What it is called.
        role: What it is to the mapping.
        lines: The columns that matter here.
        more: How many others it has.
        state: Whether the migration makes it, or writes to it.
        rank: How far it is from the companies, from which others are drawn to the right.
    """

    name: str
    role: str
    lines: tuple[Line, ...]
    more: int = 0
    state: State = ""
    rank: int = 0


@dataclass(frozen=True)
class Link:
    """What refers to what.

    Attributes:
        child: The number of the box that refers.
        parent: The number of the box that it refers to.
        columns: The columns by which it does.
        declared: Whether a foreign key says so; if not, only the mapping or a name does.
        new: Whether the migration brings it.
    """

    child: int
    parent: int
    columns: tuple[str, ...]
    declared: bool
    new: bool = False


@dataclass(frozen=True)
class Diagram:
    """A picture of tables.

    Attributes:
        title: What it shows.
        boxes: The tables.
        links: What refers to what, by the numbers of boxes.
        left_out: How many child tables are not shown.
    """

    title: str
    boxes: tuple[Box, ...]
    links: tuple[Link, ...]
    left_out: int = 0


@dataclass
class _Table:
    """A table that is being put together: columns by name, and which of them to show."""

    name: str
    role: str
    rank: int
    types: dict[str, str]
    keys: tuple[str, ...] = ()
    shown: dict[str, State] = field(default_factory=dict)
    state: State = ""

    def show(self, names: Iterable[str], state: State = "") -> None:
        for name in names:
            if name in self.types and (state or name not in self.shown):
                self.shown[name] = state

    def box(self) -> Box:
        self.show(self.keys)
        lines = tuple(
            Line(name, kind, name in self.keys, self.shown[name])
            for name, kind in self.types.items()
            if name in self.shown
        )
        more = len(self.types) - len(lines)
        return Box(self.name, self.role, lines, more, self.state, self.rank)


_Edges = dict[tuple[int, int, tuple[str, ...]], tuple[bool, bool]]

# The numbers of tables that are yet to be made, beside the oids of those that are there.
_NEW_LOCATIONS, _NEW_LEVELS = -1, -2
_RANKS = {COMPANIES: 0, RECORDS: 1, LOCATIONS: 1, LEVELS: 2, EACH: 3}


def before(
    resolved: ResolvedMapping,
    tables: Mapping[int, Touched],
    foreign: Sequence[CatalogObject],
    children: Sequence[Child],
) -> Diagram:
    """The tables as they are.

    Args:
        resolved: The mapping and its types.
        tables: The tables that it touches, by oid.
        foreign: Their foreign keys, as the catalog has them.
        children: The tables below the records.
    """
    found, edges = _standing(resolved, tables, foreign)
    return _drawn("Before the migration", found, edges, children)


def after(
    resolved: ResolvedMapping,
    tables: Mapping[int, Touched],
    foreign: Sequence[CatalogObject],
    children: Sequence[Child],
    mapped: Sequence[Field],
) -> Diagram:
    """The tables as they will be, with what is new and what is written; arguments as `before`.

    Args:
        resolved: The mapping and its types.
        tables: The tables that it touches, by oid.
        foreign: Their foreign keys, as the catalog has them.
        children: The tables below the records.
        mapped: The columns with their types afterwards.
    """
    found, edges = _standing(resolved, tables, foreign)
    for oid, table in tables.items():
        if table.added:
            types = resolved.target_types
            found[oid].types |= {name: types[name] for name in table.added}
        found[oid].show(table.written, "written")
        found[oid].show(table.added, "new")
        found[oid].state = "written" if table.written else ""
    locations = resolved.locations.oid if resolved.locations else _NEW_LOCATIONS
    named = resolved.mapping.locations
    if resolved.locations is None:
        found[_NEW_LOCATIONS] = _made(resolved, LOCATIONS, mapped, (named.key,))
        company = resolved.company.oid
        edges[_NEW_LOCATIONS, company, (str(named.company),)] = (True, True)
    target = resolved.mapping.target
    if isinstance(target, StockLevel) and resolved.levels is None:
        key = (*target.record, target.location)
        found[_NEW_LEVELS] = _made(resolved, LEVELS, mapped, key)
        edges[_NEW_LEVELS, resolved.source.oid, tuple(target.record)] = (True, True)
        edges[_NEW_LEVELS, locations, (target.location,)] = (True, True)
    elif not isinstance(target, StockLevel):
        edges.setdefault((resolved.source.oid, locations, (target.columns[0],)), (False, True))
    return _drawn("After the migration", found, edges, children)


def _standing(
    resolved: ResolvedMapping, tables: Mapping[int, Touched], foreign: Sequence[CatalogObject]
) -> tuple[dict[int, _Table], _Edges]:
    """The tables that are there, with what they refer to by a foreign key or by the mapping."""
    found = {oid: _table(table) for oid, table in tables.items()}
    edges: _Edges = {}
    for one in foreign:
        child, parent = one.facts["table"], one.facts["parent"]
        if child in found and parent in found:
            edges[child, parent, tuple(one.uses[child])] = (True, False)
            found[child].show(one.uses[child])
    for child, parent, columns in _named(resolved):
        if child in found and parent in found:
            known = {(c, p) for c, p, held in edges if set(held) & set(columns)}
            if (child, parent) not in known:
                edges[child, parent, columns] = (False, False)
            found[child].show(columns)
    found[resolved.source.oid].show(meanings(resolved))
    mapping = resolved.mapping
    if resolved.company.oid in found:
        found[resolved.company.oid].keys = (mapping.company.key,)
        found[resolved.company.oid].show([mapping.company.name])
    if resolved.locations is not None:
        found[resolved.locations.oid].keys = (mapping.locations.key,)
        found[resolved.locations.oid].show(mapping.locations.default)
    found[resolved.source.oid].keys = tuple(mapping.source.key)
    if resolved.levels is not None and isinstance(mapping.target, StockLevel):
        found[resolved.levels.oid].show(mapping.target.numbers)
    return found, edges


def _named(resolved: ResolvedMapping) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """What refers to what by the mapping's own word: child, parent, columns."""
    mapping, source = resolved.mapping, resolved.source.oid
    company = resolved.company.oid
    if column := named_column(mapping.source.company):
        yield source, company, (column,)
    places = resolved.locations.oid if resolved.locations else 0
    if isinstance(mapping.locations.company, str):
        yield places, company, (mapping.locations.company,)
    target = mapping.target
    if isinstance(target, StockLevel):
        levels = resolved.levels.oid if resolved.levels else 0
        yield levels, source, tuple(target.record)
        yield levels, places, (target.location,)
    for found in resolved.links:
        for name, value in found.link.values.items():
            if isinstance(value, Canonical) and value.from_ == "location":
                yield found.table.oid, places, (name,)
    owned, owner = mapping.locations.company, mapping.source.company
    if isinstance(owned, LinkedPlaces) and resolved.place_links is not None:
        yield resolved.place_links.oid, places, (owned.through.location,)
        yield resolved.place_links.oid, company, (owned.through.company,)
    if isinstance(owner, Through) and resolved.owners is not None:
        yield resolved.owners.oid, source, tuple(owner.through.record)
        yield resolved.owners.oid, company, (owner.through.company,)


def _table(table: Touched) -> _Table:
    relation: Relation = table.relation
    role = table.roles[0]
    return _Table(
        name=relation.full_name,
        role=", ".join(table.roles),
        rank=_RANKS.get(role, 2),
        types={column.name: column.type for column in relation.columns.values()},
        keys=min(relation.unique_keys, key=len, default=()),
    )


def _made(
    resolved: ResolvedMapping, role: str, mapped: Sequence[Field], key: tuple[str, ...]
) -> _Table:
    """A table that is yet to be made, all of whose columns are new."""
    name = next(name for name, its in made(resolved).items() if its == role)
    types = {one.column: one.after for one in mapped if one.table == name}
    table = _Table(name, role, _RANKS[role], types, key, state="new")
    table.show(types, "new")
    return table


def _drawn(
    title: str, found: Mapping[int, _Table], edges: _Edges, children: Sequence[Child]
) -> Diagram:
    boxes = [table.box() for table in found.values()]
    numbers = {oid: number for number, oid in enumerate(found)}
    links = [
        Link(numbers[child], numbers[parent], columns, declared, new)
        for (child, parent, columns), (declared, new) in edges.items()
        if child in numbers and parent in numbers
    ]
    shown = [child for child in children if child.concern != "untouched" and child.kind == "record"]
    records = next(n for n, box in enumerate(boxes) if RECORDS in box.role)
    for child in shown[:MOST_CHILDREN]:
        names = (*child.columns, *child.locations, *child.quantities)
        lines = tuple(Line(name, child.types[name]) for name in names)
        links.append(Link(len(boxes), records, child.columns, child.declared))
        more = len(child.types) - len(lines)
        boxes.append(Box(child.table, "belongs to a record", lines, more, rank=2))
    return Diagram(title, tuple(boxes), tuple(links), max(0, len(shown) - MOST_CHILDREN))
