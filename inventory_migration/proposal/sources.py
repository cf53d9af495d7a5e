"""Which table holds the stock records, and which of its columns say what of them."""

from __future__ import annotations

from dataclasses import dataclass

from inventory_migration.proposal.owners import Route, links, routes
from inventory_migration.proposal.survey import Survey, Table, is_moment, is_number, is_text
from inventory_migration.proposal.words import (
    EVENTS,
    GONE,
    ITEMS,
    LOCATIONS,
    NO_STOCK,
    QUANTITIES,
    RECORDS,
    RESERVED,
    head,
    says,
    weight,
    words,
)

LIKELY = 6
"""The least score of a table that is proposed without being asked for."""

LOOKED_INTO = 25
"""Of how many tables, the best by name, owners are looked for."""


@dataclass(frozen=True)
class Candidate:
    """A table that may hold the stock records.

    Attributes:
        score: How likely it does.
        because: What speaks for it and against it, in words.
        routes: How its records lead to owners, the likeliest first.
    """

    table: Table
    score: int
    because: tuple[str, ...]
    routes: tuple[Route, ...] = ()

    @property
    def said(self) -> str:
        """The table with its score and what that is made of."""
        return f"{self.table.said} ({self.score}: {', '.join(self.because)})"


def candidates(survey: Survey) -> list[Candidate]:
    """The tables with a column that is called like a quantity, the likeliest first."""
    named = [by_name(table) for table in survey.tables.values() if quantities(table)]
    named.sort(key=_order)
    looked = [by_references(survey, found) for found in named[:LOOKED_INTO]]
    return sorted(looked, key=_order)


def by_name(table: Table) -> Candidate:
    """Judge a table by the names of itself and its columns, and by its statistics."""
    score, because = 0, []
    found = quantities(table)
    if found:
        score, because = found[0][1], [f"column {found[0][0]}"]
    if says(table.name, EVENTS):
        score -= 8
        because.append("named like what happened, not what is there")
    elif records := weight(table.name, RECORDS):
        score += records
        because.append("named like stock")
    if counter := counters(table):
        score += 2
        because.append(f"column {counter[0]}")
    if items(table):
        score += 1
    if table.key is None:
        score -= 5
        because.append("no key")
    if table.rows == 0:
        score -= 3
        because.append("empty by its statistics")
    return Candidate(table, score, tuple(because))


def by_references(survey: Survey, found: Candidate) -> Candidate:
    """Judge a candidate by what it refers to as well."""
    table = found.table
    score, because = found.score, list(found.because)
    owners = routes(survey, table)
    if owners and owners[0].fit:
        score += 2 if owners[0].named else 1
        because.append(f"leads to {owners[0].owner.said}")
    placed = [
        link.table.said
        for link in links(survey, table)
        if head(link.table.name, LOCATIONS)
        and not (owners and link.table is owners[0].owner)
        and all(table.columns[name].not_null for name in link.columns)
    ]
    if placed:
        score -= 6
        because.append(f"each row is at a location already ({placed[0]})")
    return Candidate(table, score, tuple(because), tuple(owners))


def quantities(table: Table) -> list[tuple[str, int]]:
    """The columns that may say how much there is, with their scores, the likeliest first."""
    found = []
    for name, column in table.columns.items():
        score = weight(name, QUANTITIES)
        if not score or says(name, NO_STOCK) or says(name, RESERVED) or _refers(table, name):
            continue
        if is_number(column):
            found.append((name, score))
        elif is_text(column) and words(name)[-1] in _TEXTUAL:
            found.append((name, score - 3))
    return sorted(found, key=lambda one: (-one[1], len(one[0])))


def numbers(table: Table) -> list[str]:
    """The columns that hold numbers and refer to nothing, whatever they are called."""
    return [n for n, column in table.columns.items() if is_number(column) and not _refers(table, n)]


def counters(table: Table) -> list[str]:
    """The columns that may say how much is promised, the likeliest first."""
    found = [name for name in numbers(table) if says(name, RESERVED)]
    return sorted(found, key=lambda name: (-weight(name, QUANTITIES), len(name)))


def items(table: Table) -> list[str]:
    """The columns that may say which item a record is of, the likeliest first."""
    found = [
        name
        for name, column in table.columns.items()
        if weight(name, ITEMS)
        and (is_text(column) or (is_number(column) and not weight(name, QUANTITIES)))
        and not _refers(table, name)
    ]
    return sorted(found, key=lambda name: (_of_something_else(name) - weight(name, ITEMS), name))


def _of_something_else(name: str) -> int:
    """What speaks against a name or code for its being the item's: `currency_code`."""
    own = {word for phrase in ITEMS for word in phrase.split("_")} | RECORDS.keys()
    return 3 * len(set(words(name)) - own)


def skips(table: Table) -> dict[str, str]:
    """The columns that say that a record is no longer meant, each with a test of its value."""
    found = {}
    for name, column in table.columns.items():
        if not says(name, GONE) or "by" in words(name):
            continue
        if is_moment(column) and not column.not_null:
            found[name] = "IS NOT NULL"
        elif column.type == "boolean":
            found[name] = "IS TRUE"
    return found


def flags(table: Table) -> list[str]:
    """The columns that say yes or no."""
    return [name for name, column in table.columns.items() if column.type == "boolean"]


_TEXTUAL = {"quantity", "qty", "hand", "onhand", "stock", "remaining", "available"}
"""The last words of a quantity that is kept as text."""


def _refers(table: Table, name: str) -> bool:
    """Whether a column is part of the table's key, or of a foreign key."""
    return name in (table.key or ()) or any(name in key.columns for key in table.foreign_keys)


def _order(found: Candidate) -> tuple[int, int, str]:
    return -found.score, -(found.table.rows or 0), found.table.said
