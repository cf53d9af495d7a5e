"""Where the target will say what stock is where: what is there already decides its shape."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from inventory_migration.catalog import INTEGERS, TEXTS
from inventory_migration.database import quoted
from inventory_migration.proposal.document import PLACEHOLDER, Part
from inventory_migration.proposal.glance import Glance
from inventory_migration.proposal.owners import Link, links
from inventory_migration.proposal.places import Place
from inventory_migration.proposal.sources import counters, quantities
from inventory_migration.proposal.survey import Survey, Table, is_moment, is_text
from inventory_migration.proposal.words import ITEMS, LOCATIONS, says, stem, weight, words

_ALLOCATIONS = ("allocation", "location", "stock_by_location", "stock_location")


@dataclass(frozen=True)
class Levels:
    """A table with a row for each record and location."""

    table: Table
    record: Link
    location: Link
    on_hand: str
    reserved: str | None


def target(
    survey: Survey,
    glance: Glance,
    source: Table,
    place: Place | None,
    located: str,
    *,
    read: set[str],
) -> Part:
    """The part `target`.

    Args:
        survey: What there is.
        glance: How rows are looked at.
        source: The stock records.
        read: Columns that the record is read from, which are not for writing.
        place: The locations, where there are any.
        located: The name of their table, which may be yet to be added.
    """
    found = levels(survey, source, place) if place else []
    if found:
        return _as_levels(source, found[0], [other.table.said for other in found[1:]])
    json = [
        name
        for name, column in source.columns.items()
        if column.type == "jsonb" and says(name, _ALLOCATIONS) and name not in read
    ]
    if json:
        return _as_json(source, json[0])
    existing = _referring(survey, source, place, read)
    return _as_existing(glance, source, *existing) if existing else _as_added(source, located)


def levels(survey: Survey, source: Table, place: Place) -> list[Levels]:
    """The tables that have a row for each record and location."""
    found = []
    for table in survey.tables.values():
        if table in (source, place.table):
            continue
        ways = list(links(survey, table))
        records = [w for w in ways if w.table is source and set(w.keys) == set(source.key or ())]
        places = [w for w in ways if w.table is place.table and w.keys == (place.table.sole_key,)]
        numbers = quantities(table)
        for record in records[:1]:
            for location in places[:1]:
                if numbers and table.unique(*record.columns, *location.columns):
                    reserved = next(iter(counters(table)), None)
                    found.append(Levels(table, record, location, numbers[0][0], reserved))
    return sorted(found, key=lambda level: (not level.record.declared, level.table.said))


def _as_levels(source: Table, found: Levels, others: list[str]) -> Part:
    table = found.table
    comments = [
        f"{table.said} has a row for each record and location: {found.record.said(table)}, "
        f"{found.location.said(table)}."
    ]
    if others:
        comments.append(f"Also considered: {', '.join(others)}.")
    record = dict(zip(found.record.columns, found.record.keys, strict=True))
    parts = [
        Part("shape", "stock_level", ["A run closes under --write-stop, or with `sync: true`."]),
        Part("table", table.spelled),
        Part("record", record),
        Part("location", found.location.columns[0]),
        Part("on_hand", found.on_hand),
    ]
    if found.reserved:
        parts.append(Part("reserved", found.reserved))
    given = {*record, found.location.columns[0], found.on_hand, found.reserved}
    values, unknown = _values(source, table, given)
    if values or unknown:
        part = Part("values", {**values, **dict.fromkeys(unknown, PLACEHOLDER)})
        if unknown:
            part.undecided.append(
                f"a level needs a value in {', '.join(unknown)}, and nobody can tell which"
            )
        parts.append(part)
    return Part("target", parts, comments)


def _values(
    source: Table, table: Table, given: set[str | None]
) -> tuple[dict[str, Any], list[str]]:
    """What the other columns of a level are given, and those of which nobody knows."""
    values: dict[str, Any] = {}
    unknown = []
    for name, column in table.columns.items():
        if name in given or column.generated:
            continue
        needed = column.not_null and not column.has_default
        same = source.columns.get(name)
        if same is not None and same.type == column.type == "boolean":
            values[name] = {"sql": f"s.{quoted(name)}"}
        elif not needed:
            continue
        elif name == table.sole_key and (column.type == "uuid" or is_text(column)):
            values[name] = {"generate": "uuid"}
        elif is_moment(column):
            values[name] = {"sql": "now()"}
        elif is_text(column) and weight(name, ITEMS) >= ITEMS["barcode"]:
            values[name] = {"from": "item"}
        else:
            unknown.append(name)
    return values, unknown


def _as_json(source: Table, column: str) -> Part:
    transfers = next(
        (n for n, c in source.columns.items() if c.type == "jsonb" and says(n, ("transfer",))), None
    )
    parts = [
        Part("shape", "allocation_json", [f"{column} is jsonb, and named like allocations."]),
        Part("column", column),
    ]
    if transfers:
        parts.append(Part("transfers", transfers, ["Set to [] with it; leave it out to keep it."]))
    return Part("target", parts)


def _as_existing(glance: Glance, source: Table, name: str, why: str) -> Part:
    seen = glance.look(source, {"placed": f"count(s.{quoted(name)})"})
    comments = [why]
    if seen is not None and seen.values["placed"]:
        placed = f"{seen.values['placed']:,} of {seen.of}"
        comments.append(f"{placed} have a location already; these records stay there.")
    return Part("target", [Part("shape", "location_column"), Part("column", name, comments)])


def _as_added(source: Table, located: str) -> Part:
    return Part(
        "target",
        [
            Part("shape", "location_column"),
            Part(
                "column",
                _new_name(source, located),
                [f"A column that is added: none of {source.said} refers to a location."],
            ),
            Part("add", True),
        ],
    )


def _referring(
    survey: Survey, source: Table, place: Place | None, read: set[str]
) -> tuple[str, str] | None:
    """The column of the records that refers to a location, and why it is thought to."""
    for link in links(survey, source) if place else ():
        if place and link.table is place.table and link.keys == (place.table.sole_key,):
            if link.columns[0] in read:
                continue
            return link.columns[0], f"{link.said(source)}."
    kinds = INTEGERS
    if place:
        kind = place.table.columns[place.table.sole_key or ""].base_type
        kinds = next((kinds for kinds in (INTEGERS, TEXTS) if kind in kinds), {kind})
    for name, column in source.columns.items():
        meant = (stem(name) or ("",))[-1] in LOCATIONS and name not in read
        if meant and column.base_type in kinds:
            return name, f"{source.said}.{name} is named like a reference to a location."
    return None


def _new_name(source: Table, located: str) -> str:
    word = (words(located) or ("location",))[-1]
    camel = any(re.search("[a-z][A-Z]", name) for name in source.columns)
    for name in (f"{word}_id", f"default_{word}_id", f"stock_{word}_id"):
        if camel:
            name = re.sub("_([a-z])", lambda found: found[1].upper(), name)
        if name not in source.columns:
            return name
    return f"default_{word}_id_{len(source.columns)}"
