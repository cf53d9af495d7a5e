"""What must stand in the live tables for a record, counted from raw rows by the mapping's words.

None of the engine's relations is used: values are read out of JSON of whole rows, added up as
decimals, and compared one by one, so that a mistake of the engine does not hide itself here. How
rows are read is in `sample.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from inventory_migration.mapping import (
    AllocationJson,
    Expression,
    LocationColumn,
    Numeric,
    Standardised,
    StockLevel,
    StockMapping,
    entries,
)

Finding = Literal["explained", "disagrees"]


@dataclass(frozen=True)
class Record:
    """A record of the sample as it was noted, and the raw rows that say how it is.

    Attributes:
        outcome: What the ledger says became of it; 'pending' where it was not looked at yet.
        changed_before: Whether the application changed it between snapshot and chunk.
        undone: Whether that has been taken back.
        company: Key of its company before, as text.
        item: Its item before.
        quantity: Before; what was locked and written, where that was another than planned.
        reserved: The same.
        target_before: The pre-image of the target.
        planned: The location that it was to get, as text.
        row: The live row; None where there is none.
        given: What expressions of the mapping give for it, by what they are for.
        ours: Whether we have written the row last.
        levels: Its levels: each row, and whether we have written it last.
    """

    outcome: str
    changed_before: bool
    undone: bool
    company: str | None
    item: str | None
    quantity: Decimal | None
    reserved: Decimal
    target_before: Any
    planned: str | None
    row: Mapping[str, Any] | None
    given: Mapping[str, Any]
    ours: bool
    levels: Sequence[tuple[Mapping[str, Any], bool]]


@dataclass(frozen=True)
class Place:
    """Units at a location; None where the target keeps no number of them."""

    location: str
    on_hand: Decimal | None
    reserved: Decimal | None
    ours: bool


@dataclass(frozen=True)
class Said:
    """One thing that is not as it was, or not as it must be."""

    finding: Finding
    what: str
    expected: str
    found: str


@dataclass(frozen=True)
class Now:
    """A record as its raw rows say it is."""

    company: str | None
    item: str | None
    quantity: Decimal | None
    reserved: Decimal
    places: tuple[Place, ...]


def now(mapping: StockMapping, record: Record) -> Now | None:
    """What the raw rows say; None where the record is there no more."""
    if record.row is None:
        return None
    source = mapping.source

    def told(part: Any, name: str) -> Any:
        return _value(part, record.row or {}, record.given.get(name))

    return Now(
        company=text(told(source.company, "company")),
        item=text(told(source.item, "item")),
        quantity=number(told(source.quantity, "quantity")),
        reserved=(number(told(source.reserved, "reserved")) if source.reserved else None)
        or Decimal(0),
        places=tuple(_places(mapping, record)),
    )


def recount(
    mapping: StockMapping,
    record: Record,
    found: Now | None,
    owners: Mapping[str, set[str]],
) -> list[Said]:
    """What differs from what must be, and whether the application explains it.

    Args:
        mapping: The mapping.
        record: The record.
        found: What its raw rows say.
        owners: The companies of each location.
    """
    if record.outcome == "gone":
        return [] if found is None else [Said("disagrees", "the record", "gone", "there")]
    if found is None:
        return [Said("explained", "the record", "there", "deleted since")]
    beside = isinstance(mapping.target, StockLevel)
    written = record.outcome == "migrated" and not record.undone
    untouched = written and record.ours and not beside
    said = [*_own_numbers(mapping, record, found, untouched=untouched)]
    if not written and record.outcome != "already":
        return [*said, *_left_alone(record, found, owners)]
    said += _at_own_location(mapping, record, found, owners)
    if not beside and record.ours and written:
        said += _where_planned(record, found)
    if not isinstance(mapping.target, LocationColumn):
        said += _adds_up(mapping, record, found)
    return said


def _own_numbers(
    mapping: StockMapping, record: Record, found: Now, *, untouched: bool
) -> Iterator[Said]:
    """Company, item and numbers are as they were; of a row that we wrote last they must be."""
    computed = isinstance(mapping.source.reserved, Expression)
    for what, before, after in (
        ("company", record.company, found.company),
        ("item", record.item, found.item),
        ("quantity", record.quantity, found.quantity),
        ("reserved", record.reserved, found.reserved),
    ):
        if _same(before, after):
            continue
        elsewhere = (what == "reserved" and computed) or (
            what in {"company", "item"}
            and (record.changed_before or not isinstance(getattr(mapping.source, what), str))
        )
        wrong = untouched and not elsewhere
        yield Said("disagrees" if wrong else "explained", what, shown(before), shown(after))


def _left_alone(record: Record, found: Now, owners: Mapping[str, set[str]]) -> Iterator[Said]:
    """What was put aside has no location but the one that it had, or one of its own company."""
    for place in found.places:
        if place.location in _names(record.target_before):
            continue
        own = found.company in owners.get(place.location, set())
        finding: Finding = "explained" if own and not place.ours else "disagrees"
        yield Said(finding, "location", "none of ours", place.location)


def _at_own_location(
    mapping: StockMapping, record: Record, found: Now, owners: Mapping[str, set[str]]
) -> Iterator[Said]:
    """It is at a location that exists and belongs to its company."""
    if not found.places:
        # Levels are the application's own in the end, to be taken away as it likes.
        theirs = isinstance(mapping.target, StockLevel)
        expected = record.planned or "a location"
        yield Said("explained" if theirs else "disagrees", "location", expected, "none")
    for place in found.places:
        if found.company not in owners.get(place.location, set()):
            company = f"one of company {found.company}"
            yield Said("disagrees", "location", company, place.location)


def _where_planned(record: Record, found: Now) -> Iterator[Said]:
    """A row that we wrote last is where the plan would have it."""
    places = [place.location for place in found.places]
    if places and places != [record.planned]:
        yield Said("disagrees", "location", str(record.planned), ", ".join(places))


def _adds_up(mapping: StockMapping, record: Record, found: Now) -> Iterator[Said]:
    """What is at all its locations is what the record says."""
    if not found.places or found.quantity is None:
        return
    net = mapping.quantity_basis == "net"
    must = {
        "on hand": found.quantity + (found.reserved if net else 0),
        "reserved at locations": found.reserved,
    }
    sums = {
        "on hand": [place.on_hand for place in found.places],
        "reserved at locations": [place.reserved for place in found.places],
    }
    # A level that the application has written is its own; entries stand in the record itself.
    theirs = isinstance(mapping.target, StockLevel) and not (
        all(place.ours for place in found.places) and _same(record.quantity, found.quantity)
    )
    explained = theirs or record.outcome == "already"
    for what, expected in must.items():
        numbers = sums[what]
        if what != "on hand" and None in numbers:
            continue
        total = None if None in numbers else sum((n for n in numbers if n), Decimal(0))
        if total != expected:
            yield Said(
                "explained" if explained else "disagrees", what, shown(expected), shown(total)
            )


def _places(mapping: StockMapping, record: Record) -> Iterator[Place]:
    """Where the target says that the record's units are."""
    target = mapping.target
    if isinstance(target, LocationColumn):
        location = text((record.row or {}).get(target.column))
        if location is not None:
            yield Place(location, None, None, record.ours)
    elif isinstance(target, AllocationJson):
        yield from _entries(mapping, target, record)
    else:
        for row, ours in record.levels:
            yield Place(
                text(row.get(target.location)) or "none",
                number(row.get(target.on_hand)),
                number(row.get(target.reserved)) if target.reserved else None,
                ours,
            )


def _entries(mapping: StockMapping, target: AllocationJson, record: Record) -> Iterator[Place]:
    held = (record.row or {}).get(target.column)
    fields = entries.numbers(target.fields, mapping.quantity_basis)

    def told(entry: Any, meaning: entries.Meaning) -> Any:
        for path in fields[meaning]:
            value = entry
            for name in path:
                value = value.get(name) if isinstance(value, Mapping) else None
            return value
        return None

    listed = held if isinstance(held, list) else []
    named = [(text(told(entry, "location")), entry) for entry in listed]
    if isinstance(held, Mapping):
        named = [*held.items()]
    for location, entry in named:
        on_hand, reserved = number(told(entry, "on_hand")), number(told(entry, "reserved"))
        available = number(told(entry, "available"))
        if reserved is None and on_hand is not None and available is not None:
            reserved = on_hand - available
        if on_hand is None and available is not None:
            promised = reserved if reserved is not None else _reserved(mapping, record)
            on_hand = available + promised
        yield Place(location or "none", on_hand, reserved, record.ours)


def _reserved(mapping: StockMapping, record: Record) -> Decimal:
    part = mapping.source.reserved
    if part is None:
        return Decimal(0)
    return number(_value(part, record.row or {}, record.given.get("reserved"))) or Decimal(0)


def _names(before: Any) -> set[str]:
    """The locations that a pre-image of the target names."""
    if isinstance(before, Mapping):
        return {str(name) for name in before}
    if isinstance(before, list):
        return {str(one) for entry in before for one in _leaves(entry)}
    return {str(before)} if before is not None else set()


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for one in value.values():
            yield from _leaves(one)
    else:
        yield value


def _value(part: Any, row: Mapping[str, Any], given: Any) -> Any:
    """What a part of the mapping says of a raw row, or an expression of it has given."""
    if isinstance(part, str):
        return row.get(part)
    if not isinstance(part, Standardised):
        return given
    value = row.get(part.column) if part.column is not None else given
    if value is None:
        return None
    found = str(value)
    for step in part.text_steps:
        if step == "trim":
            found = found.strip()
        elif step == "collapse_space":
            found = re.sub(r"\s+", " ", found)
        elif step == "upper":
            found = found.upper()
    if isinstance(part.conversion, Numeric):
        separators = part.conversion.numeric
        found = re.sub(rf"[{re.escape(separators.thousands)}\s]", "", found)
        found = found.replace(separators.decimal, ".")
    return found or None


def number(value: Any) -> Decimal | None:
    """A number, exactly; None where there is none that is finite."""
    if value is None or isinstance(value, bool | Mapping | list):
        return None
    try:
        found = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def text(value: Any) -> str | None:
    """A key as text, without the blanks that fill a column of fixed width."""
    return None if value is None else str(value).rstrip()


def shown(value: Any) -> str:
    """A value as a report shows it."""
    if value is None:
        return "none"
    if isinstance(value, Decimal):
        plain = f"{value:f}"
        return (plain.rstrip("0").rstrip(".") if "." in plain else plain) or "0"
    return str(value)


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, str) and isinstance(after, str):
        return before.rstrip() == after.rstrip()
    return bool(before == after)
