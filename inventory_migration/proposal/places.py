"""Where stock can be: the application's table of locations if it has one, and what a new row needs.

Where it has none, a table is proposed that the migration adds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from inventory_migration.catalog import Column
from inventory_migration.database import quoted
from inventory_migration.proposal.companies import Ownership
from inventory_migration.proposal.document import PLACEHOLDER, Part
from inventory_migration.proposal.glance import Glance
from inventory_migration.proposal.owners import links
from inventory_migration.proposal.survey import Survey, Table, alike, is_moment, is_text
from inventory_migration.proposal.words import DEFAULTS, LOCATIONS, head, says, stem, words

NAME, CODE = "Main warehouse", "MAIN"
"""What a default location is called that is created."""

NEW = ("locations", "warehouses", "stock_locations", "inventory_locations", "company_locations")
"""Names for a table that is added, the first that is free."""


@dataclass(frozen=True)
class Place:
    """A table of locations whose rows lead to a company.

    Attributes:
        company: The column by which they do.
        said: How they do, for a person.
        declared: Whether by a foreign key.
        flag: The column that marks one of several.
    """

    table: Table
    company: str
    said: str
    declared: bool
    flag: str | None

    @property
    def score(self) -> int:
        """How likely it is the one that is meant."""
        named = head(self.table.name, LOCATIONS)
        return named + 2 * self.declared + 2 * (self.flag is not None)


@dataclass
class Standing:
    """How the companies stand with their default locations, as far as it was seen."""

    companies: int | None = None
    with_one: int | None = None
    with_several: int | None = None

    @property
    def complete(self) -> bool:
        """Whether each company is known to have exactly one."""
        return bool(self.companies) and self.with_one == self.companies


@dataclass
class Filling:
    """What a new row of a table is given, and what nobody knows to give it."""

    values: dict[str, Any] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def places(survey: Survey, source: Table, owned: Ownership) -> list[Place]:
    """The tables that may be the application's locations, the likeliest first."""
    found = []
    for table in survey.tables.values():
        fit = head(table.name, LOCATIONS) and table.sole_key and table is not owned.table
        if not fit or table is source:
            continue
        way = _to_company(survey, table, source, owned)
        if way:
            found.append(Place(table, *way, default_flag(table)))
    return sorted(found, key=lambda place: (-place.score, place.table.said))


def _to_company(
    survey: Survey, table: Table, source: Table, owned: Ownership
) -> tuple[str, str, bool] | None:
    """The column by which a location leads to its company, in words, and whether it is declared."""
    if owned.table:
        for link in links(survey, table):
            if link.table is owned.table and link.keys == (owned.key,):
                return link.columns[0], link.said(table), link.declared
        return None
    own = owned.column
    if own and own in table.columns and alike(table.columns[own], source.columns[own]):
        return own, f"{table.said}.{own}, called as in {source.said}", False
    return None


def default_flag(table: Table) -> str | None:
    """The column that marks a default, if there is one."""
    flags = [name for name, column in table.columns.items() if column.type == "boolean"]
    return next((name for name in flags if says(name, DEFAULTS)), None)


def existing(place: Place, owned: Ownership, glance: Glance) -> Part:
    """The part `locations` for a table that is there."""
    table = place.table
    named = name_column(table)
    parts = [
        Part("table", table.spelled),
        Part("key", table.sole_key),
        Part("company", place.company, [f"By {place.said}."]),
    ]
    whole = Part("locations", parts, [f"{table.said}: named like locations, and has a company."])
    standing = Standing()
    if place.flag:
        default: dict[str, Any] = {place.flag: True}
        standing = _standing(glance, place, owned)
        parts.append(Part("default", default, [_said(standing, place.flag)]))
    elif named:
        default = {named: _cut(NAME, table.columns[named])}
        why = (
            "no column marks one location of several as the default: it is known by its name. "
            "Where each company's present location is to be taken, mark it in a column and name "
            "that here."
        )
        parts.append(Part("default", default, [why]))
    else:
        default = {}
        why = f"no column of {table.said} tells which location of a company is the default"
        parts.append(Part("default", {PLACEHOLDER: True}, undecided=[why]))
    filling = new_row(table, owned, given={place.company, *default})
    if not filling.unknown:
        parts.append(Part("create", filling.values, ["What a new one has; look it through."]))
    elif standing.complete:
        whole.comments.append(
            "Without `create`, each company must have a default location, as it has now. To make "
            f"one where it is missing, say what it has in {', '.join(filling.unknown)}."
        )
    else:
        values = {**filling.values, **dict.fromkeys(filling.unknown, PLACEHOLDER)}
        why = (
            f"a new location needs a value in {', '.join(filling.unknown)}, and nobody can tell "
            "which from here; or leave `create` out, where each company has a default location"
        )
        parts.append(Part("create", values, undecided=[why]))
    return whole


def added(survey: Survey, source: Table, owned: Ownership, taken: set[str]) -> Part:
    """The part `locations` for a table that is yet to be added, beside the source."""
    name = next((name for name in NEW if name not in taken), f"{NEW[0]}_{len(taken)}")
    spelled: Any = name
    if not source.visible or "." in source.schema:
        spelled = {"schema": source.schema, "name": name}
    other = [t for t in survey.tables.values() if head(t.name, LOCATIONS) and t is not owned.table]
    comments = ["A table that is added: nothing here is named like locations of companies."]
    if other:
        listed = ", ".join(sorted(table.said for table in other))
        comments = [f"A table that is added, since nothing leads from {listed} to {owned.said}."]
    return Part(
        "locations",
        [
            Part("table", spelled),
            Part("key", "id"),
            Part("company", _referring(owned)),
            Part("default", {"is_default": True}),
            Part("create", {"name": NAME, "code": CODE}),
            Part("add", True),
        ],
        comments,
    )


def name_column(table: Table) -> str | None:
    """The text column that holds what a row is called."""
    texts = [name for name, column in table.columns.items() if is_text(column)]
    return next((n for n in texts if words(n)[-1:] in (("name",), ("title",), ("label",))), None)


def new_row(table: Table, owned: Ownership, *, given: set[str]) -> Filling:
    """What a new location is given, column by column; the company's row is `c`."""
    found = Filling()
    named = name_column(table)
    for name, column in table.columns.items():
        if name in given or column.generated:
            continue
        needed = column.not_null and not column.has_default
        if name == table.sole_key:
            if needed and column.type != "uuid":
                _take(found, name, _new_key(column))
            continue
        if name == named or (needed and is_text(column)):
            _take(found, name, _called(table, owned, column, is_name=name == named))
        elif needed:
            _take(found, name, _plain(column, owned))
    return found


def _take(found: Filling, name: str, value: Any) -> None:
    if value is None:
        found.unknown.append(name)
    else:
        found.values[name] = value


def _called(table: Table, owned: Ownership, column: Column, *, is_name: bool) -> Any:
    said = words(column.name)[-1:]
    if is_name:
        text = NAME
    elif said in (("code",), ("slug",)):
        text = CODE if said == ("code",) else CODE.lower()
    else:
        return _plain(column, owned)
    if table.unique(column.name):
        return {"sql": f"'{text}{' ' if is_name else '-'}' || c.{quoted(owned.key)}"}
    return _cut(text, column)


def _plain(column: Column, owned: Ownership) -> Any:
    """A value for a column of which only its type and name are known; None where there is none."""
    same = owned.columns.get(column.name)
    if same is not None and same.type == column.type and same.not_null:
        return {"sql": f"c.{quoted(column.name)}"}
    if is_moment(column):
        return {"sql": "now()"}
    if column.type == "boolean" and words(column.name)[-1:] in (("active",), ("enabled",)):
        return True
    return None


def _new_key(column: Column) -> Any:
    """A key that nobody else has, where a text is to be one; None for any other type."""
    if not is_text(column):
        return None
    longest = re.search(r"\((\d+)\)", column.type)
    if longest is None or int(longest[1]) >= 36:
        return {"generate": "uuid"}
    return {"generate": "uuid", "prefix": ""} if int(longest[1]) >= 32 else None


def _cut(text: str, column: Column) -> str:
    longest = re.search(r"\((\d+)\)", column.type)
    return text[: int(longest[1])] if longest else text


def _referring(owned: Ownership) -> str:
    """A name for the column that leads from a location to its company."""
    if owned.column and owned.table is None:
        return owned.column
    if stem(owned.key):
        return owned.key
    named = words(owned.table.name) if owned.table else ()
    return f"{'_'.join(named) or 'company'}_id"[:63]


def _standing(glance: Glance, place: Place, owned: Ownership) -> Standing:
    """Count companies by how many default locations they have."""
    company = owned.table
    if place.flag is None or company is None or not (place.table.readable and company.readable):
        return Standing()
    own, theirs, marked = quoted(place.company), quoted(owned.key), quoted(place.flag)
    found = glance.ask(
        "SELECT count(*), count(*) FILTER (WHERE d.n = 1), count(*) FILTER (WHERE d.n > 1) "
        f"FROM {company.sql} AS c LEFT JOIN (SELECT l.{own} AS k, count(*) AS n "
        f"FROM {place.table.sql} AS l WHERE l.{marked} GROUP BY 1) AS d ON d.k = c.{theirs}"
    )
    return Standing(*found) if found is not None else Standing()


def _said(standing: Standing, flag: str) -> str:
    if standing.companies is None:
        return f"{flag} is named like the mark of a default; how many have one was not counted."
    several = f", {standing.with_several:,} several" if standing.with_several else ""
    return (
        f"{flag} is named like the mark of a default: {standing.with_one:,} of "
        f"{standing.companies:,} companies have one{several}."
    )
