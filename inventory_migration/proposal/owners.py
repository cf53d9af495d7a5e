"""Who owns a table's rows: by foreign key or by name, directly or through one other table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from inventory_migration.catalog import INTEGERS, TEXTS
from inventory_migration.proposal.survey import Survey, Table, alike
from inventory_migration.proposal.words import NO_OWNERS, OWNERS, head, stem, words

SURE = 6
"""How surely a word must say an owner's where nothing else does."""


@dataclass(frozen=True)
class Link:
    """How a row of one table leads to one row of another.

    Attributes:
        columns: The columns that hold the other's key.
        table: The other table.
        keys: Its key, column by column.
        declared: Whether by a foreign key, and not just by name.
    """

    columns: tuple[str, ...]
    table: Table
    keys: tuple[str, ...]
    declared: bool

    def said(self, table: Table) -> str:
        """How it leads there, for a person."""
        how = "foreign key" if self.declared else "by its name; there is no foreign key"
        return f"{table.said}.{', '.join(self.columns)} to {self.table.said} ({how})"


@dataclass(frozen=True)
class Route:
    """How a record leads to its owner.

    Attributes:
        link: The last step, from the records or from what they are joined with.
        through: The first of two steps.
        score: How likely the owner is one.
        named: Whether anything about it is called as owners are.
        fit: Whether it is proposed, and not just told of.
    """

    source: Table
    link: Link
    through: Link | None
    score: int
    named: bool
    fit: bool

    @property
    def owner(self) -> Table:
        """The table of owners."""
        return self.link.table

    @property
    def holder(self) -> Table:
        """The table that holds the owner's key."""
        return self.through.table if self.through else self.source

    @property
    def said(self) -> str:
        """The route, for a person."""
        steps = [self.through.said(self.source)] if self.through else []
        return ", then ".join([*steps, self.link.said(self.holder)])


def links(survey: Survey, table: Table) -> Iterator[Link]:
    """Every way from a row of a table to one row of another."""
    declared = set()
    for foreign in table.foreign_keys:
        declared |= set(foreign.columns)
        found = survey.tables[foreign.references]
        if found is not table:
            yield Link(foreign.columns, found, foreign.referenced_columns, declared=True)
    for name, column in table.columns.items():
        if name in declared or not stem(name):
            continue
        for found in survey.meant(name, table.schema):
            key = found.sole_key
            if found is not table and key and alike(column, found.columns[key]):
                yield Link((name,), found, (key,), declared=False)


def routes(survey: Survey, source: Table) -> list[Route]:
    """Every way from a record to what may own it, the likeliest first, one for each owner."""
    best: dict[int, Route] = {}
    for route in _routes(survey, source):
        known = best.get(route.owner.oid)
        if route.score > 0 and (known is None or route.score > known.score):
            best[route.owner.oid] = route
    return sorted(best.values(), key=lambda route: (not route.fit, -route.score, route.owner.said))


def _routes(survey: Survey, source: Table) -> Iterator[Route]:
    for first in links(survey, source):
        yield from _as_owner(source, first, None)
        for second in links(survey, first.table):
            if second.table is not source:
                yield from _as_owner(source, second, first)


def _as_owner(source: Table, link: Link, through: Link | None) -> Iterator[Route]:
    holder, owner = (through.table if through else source), link.table
    if len(link.columns) != 1 or not owner.columns[link.keys[0]].not_null:
        return
    if "by" in words(link.columns[0]):
        return  # created_by, updated_by: who wrote a row owns no stock by that
    called = (stem(link.columns[0]) or ("",))[-1]
    named = max(head(owner.name, OWNERS), OWNERS.get(called, 0))
    required = holder.columns[link.columns[0]].not_null
    declared = link.declared
    if through:
        required = required and all(source.columns[name].not_null for name in through.columns)
        declared = declared and through.declared
    if not named and not declared:
        return
    many = owner.rows is not None and source.rows is not None and owner.rows >= source.rows > 0
    score = (
        (named or -head(owner.name, NO_OWNERS))
        + 3 * link.declared
        # The record's own word for its owner goes before that of what it refers to.
        + (through is None) * (6 if named else 2)
        + (through is not None and not through.declared) * -2
        + required
        - 3 * many
    )
    # What is not called an owner and may be missing is a collection, or a tag.
    fit = bool(named) or required
    yield Route(source, link, through, score, named=bool(named), fit=fit)


def own_columns(table: Table) -> list[str]:
    """The columns that may hold who owns a record though nothing refers to a table of owners."""
    fit = INTEGERS | TEXTS | {"uuid"}
    referring = {name for foreign in table.foreign_keys for name in foreign.columns}
    found = {
        name: OWNERS.get((_bare(name) or ("",))[-1], 0)
        for name, column in table.columns.items()
        if column.base_type in fit and name not in referring and name not in (table.key or ())
    }
    likely = [name for name, weight in found.items() if weight >= SURE]
    return sorted(likely, key=lambda name: (-found[name], name))


def _bare(column: str) -> tuple[str, ...]:
    """What a column is about, without the word for how it says it: `vendor_name` is a vendor's."""
    said = words(column)
    return stem(column) or (said[:-1] if len(said) > 1 and said[-1] == "name" else said)
