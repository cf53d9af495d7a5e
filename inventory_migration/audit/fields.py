"""The field mapping: each column from one location to many, with its type and how its value comes.

What is said here is said of the mapping by the very parts that the engine writes by; which objects
use a column is told in `dependencies.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from inventory_migration.audit.touched import LEVELS, LOCATIONS, made
from inventory_migration.catalog import Column, Relation, ResolvedMapping, literal
from inventory_migration.engine import new_locations, schema_change
from inventory_migration.mapping import (
    MARKER,
    AllocationJson,
    Canonical,
    Expression,
    Generated,
    LinkedPlaces,
    LocationColumn,
    Standardised,
    StockLevel,
    Through,
)
from inventory_migration.mapping.entries import FromRecord
from inventory_migration.mapping.parts import Scalar

NONE = ""
STAYS = "stays as it is"

_WRITTEN_AT = "the moment of writing, in UTC with milliseconds"


@dataclass(frozen=True)
class Field:
    """A column, or a field within one, before and after.

    Attributes:
        table: The table that has it.
        column: Its name; the path to a field of JSON, by arrows.
        before: Its type now; empty where there is none yet.
        after: Its type afterwards.
        meaning: What the mapping takes it for; empty where it says nothing of it.
        value: How its value comes.
        changed: Whether the migration gives it a value.
    """

    table: str
    column: str
    before: str
    after: str
    meaning: str
    value: str
    changed: bool

    def row(self) -> dict[str, str]:
        """Return it as a row for reading."""
        return {
            "table": self.table,
            "column": self.column,
            "type before": self.before or "none yet",
            "type after": self.after,
            "is": self.meaning,
            "value": self.value,
        }


def mapped(resolved: ResolvedMapping) -> Iterator[Field]:
    """Every column of the records, and every one of other tables that gets a value."""
    yield from _of_records(resolved)
    target = resolved.mapping.target
    if isinstance(target, StockLevel):
        yield from _of_levels(resolved, target)
    if resolved.mapping.locations.create is not None:
        yield from _of_locations(resolved)
    yield from _of_links(resolved)


def meanings(resolved: ResolvedMapping) -> dict[str, str]:
    """What a mapping takes each column of the records for."""
    source, found = resolved.mapping.source, dict[str, list[str]]()
    owner = source.company
    named: list[tuple[str, object]] = [
        *(("key", name) for name in source.key),
        ("company", None if isinstance(owner, Through) else owner),
        ("item", source.item),
        ("quantity", source.quantity),
        ("reserved", source.reserved),
    ]
    for meaning, part in named:
        column = part.column if isinstance(part, Standardised) else part
        if isinstance(column, str):
            found.setdefault(column, []).append(meaning)
    if isinstance(owner, Through):
        for column in owner.through.record.values():
            found.setdefault(column, []).append("leads to the company")
    return {column: ", ".join(dict.fromkeys(names)) for column, names in found.items()}


def _of_records(resolved: ResolvedMapping) -> Iterator[Field]:
    mapping, table = resolved.mapping, resolved.source.full_name
    meaning = meanings(resolved)
    written = set(mapping.target.columns)
    for column in resolved.source.columns.values():
        if column.name in written:
            continue
        touch = mapping.touch.get(column.name)
        changed = column.name in mapping.touch
        value = f"{_constant(touch)}, where the record is written" if changed else _kept(column)
        yield Field(table, column.name, column.type, column.type, meaning.get(column.name, NONE),
                    value, changed)  # fmt: skip
    target = mapping.target
    for name in target.columns:
        before = resolved.source.columns[name].type if name in resolved.source.columns else NONE
        after = before or resolved.target_types[name]
        if isinstance(target, LocationColumn):
            yield Field(table, name, before, after, "location", _location(resolved), True)
        elif isinstance(target, AllocationJson) and name == target.column:
            yield from _of_entry(resolved, target, table, before, after)
        else:
            value = "an empty list, where the record gets its allocation"
            yield Field(table, name, before, after, "transfer requests", value, True)


def _kept(column: Column) -> str:
    return "computed by the server, and stays as it is" if column.generated else STAYS


def _location(resolved: ResolvedMapping) -> str:
    named = resolved.mapping.locations
    return (
        f"{named.table}.{named.key} of the default location of the record's company, where it is "
        "NULL"
    )


def _of_entry(
    resolved: ResolvedMapping, target: AllocationJson, table: str, before: str, after: str
) -> Iterator[Field]:
    named = resolved.mapping.locations
    place = f"{named.table}.{named.key} of the company's default location"
    form = (
        f"a list with one entry, for {place}"
        if target.as_ == "list"
        else (f"an object with one entry, by {place}")
    )
    yield Field(table, target.column, before, after, "allocations", f"{form}, where it is empty",
                True)  # fmt: skip
    within = "[1]" if target.as_ == "list" else "<location>"
    for path, value in target.fields.leaves():
        name = " → ".join((target.column, within, *path))
        kind, said = _in_json(resolved, value)
        yield Field(table, name, NONE, kind, NONE, said, True)


def _in_json(resolved: ResolvedMapping, value: Scalar | FromRecord) -> tuple[str, str]:
    if not isinstance(value, FromRecord):
        kinds = {bool: "true or false", str: "text", type(None): "null"}
        return kinds.get(type(value), "number"), f"always {_constant(value)}"
    if value.from_ == "written_at":
        return "text", _WRITTEN_AT
    if value.from_ == "marker":
        return "text", f"always '{MARKER}'"
    if value.from_ == "location":
        numeric = resolved.location_key_type in {"smallint", "integer", "bigint"}
        named = resolved.mapping.locations
        kind = "number" if numeric and value.as_ is None else "text"
        return kind, f"{named.table}.{named.key} of the company's default location"
    return "text" if value.as_ == "text" else "number", _number(resolved, value.from_)


def _number(resolved: ResolvedMapping, name: str) -> str:
    """How a number of a record comes from its columns."""
    source = resolved.mapping.source
    quantity = _part(resolved, source.quantity)
    reserved = _part(resolved, source.reserved) if source.reserved is not None else ""
    net = resolved.mapping.quantity_basis == "net"
    if name == "reserved":
        return reserved or "0: the mapping names no reserved"
    if name == "quantity" or not reserved or net == (name == "available"):
        return quantity
    if name == "on_hand":
        return f"{quantity} + {reserved}: a net quantity has what is reserved taken off"
    return f"{quantity} - {reserved}"


def _part(resolved: ResolvedMapping, part: object) -> str:
    """A column with its table, or an expression as the mapping has it."""
    if isinstance(part, Standardised):
        steps = ", ".join(
            step if isinstance(step, str) else type(step).__name__.lower() for step in part.as_
        )
        origin = _part(resolved, part.column or Expression(sql=part.sql or ""))
        return f"{origin}, as {steps}"
    if isinstance(part, Expression):
        return " ".join(part.sql.split())
    return f"{resolved.source.full_name}.{part}"


def _of_levels(resolved: ResolvedMapping, target: StockLevel) -> Iterator[Field]:
    levels = resolved.levels
    table = levels.full_name if levels else _yet_to_be_made(resolved, LEVELS)
    types = {} if levels else schema_change.level_types(resolved)
    named = resolved.mapping.locations
    given: dict[str, tuple[str, str]] = {
        **{name: ("record", _part(resolved, value)) for name, value in target.record.items()},
        target.location: (
            "location",
            f"{named.table}.{named.key} of the default location of the record's company",
        ),
        target.on_hand: ("on hand", _number(resolved, "on_hand")),
    }
    if target.reserved:
        given[target.reserved] = ("reserved", _number(resolved, "reserved"))
    given |= {name: (NONE, _value(resolved, value)) for name, value in target.values.items()}
    yield from _of_new_rows(table, levels, given, types)


def _of_locations(resolved: ResolvedMapping) -> Iterator[Field]:
    named, company = resolved.mapping.locations, resolved.mapping.company
    told = {**named.default, **(named.create or {}), **named.default}
    given = {
        name: (NONE, _value(resolved, told[name]) if name in told else sql)
        for name, sql in new_locations.inserted_values(resolved).items()
    }
    for name in named.default:
        given[name] = ("marks the default location", given[name][1])
    if isinstance(named.company, str):
        given[named.company] = ("company", f"{company}.{company.key}")
    if named.key in given:
        given[named.key] = ("key", given[named.key][1])
    relation = resolved.locations
    types = {} if relation else schema_change.location_types(resolved)
    yield from _of_new_rows(
        relation.full_name if relation else _yet_to_be_made(resolved, LOCATIONS),
        relation,
        given,
        types,
    )


def _of_links(resolved: ResolvedMapping) -> Iterator[Field]:
    mapping = resolved.mapping
    for found in resolved.links:
        given = {n: (NONE, _value(resolved, v)) for n, v in found.link.values.items()}
        yield from _of_new_rows(found.table.full_name, found.table, given, {})
    owner = mapping.locations.company
    if isinstance(owner, LinkedPlaces) and resolved.place_links is not None:
        if mapping.locations.create is None:
            return
        link, key = owner.through, mapping.company.key
        given = {
            link.location: ("location", "the key of the new location"),
            link.company: ("company", f"{mapping.company}.{key}"),
            **{name: (NONE, _value(resolved, value)) for name, value in link.values.items()},
        }
        yield from _of_new_rows(resolved.place_links.full_name, resolved.place_links, given, {})


def _of_new_rows(
    table: str,
    relation: Relation | None,
    given: dict[str, tuple[str, str]],
    types: dict[str, str],
) -> Iterator[Field]:
    """The columns of rows that are made: those that get a value, and those that fill themselves."""
    if relation is None:
        for name, kind in types.items():
            meaning, value = given.get(name, (NONE, "by the server"))
            yield Field(table, name, NONE, kind, meaning, value, True)
        return
    for column in relation.columns.values():
        meaning, value = given.get(column.name, (NONE, _unnamed(column)))
        yield Field(table, column.name, column.type, column.type, meaning, value, True)


def _unnamed(column: Column) -> str:
    if column.generated:
        return "computed by the server"
    return f"its default: {column.default}" if column.has_default else "NULL"


def _value(resolved: ResolvedMapping, value: object) -> str:
    """What a column of a new row is given, as the mapping says it."""
    if isinstance(value, Canonical):
        if value.from_ == "company":
            company = resolved.mapping.source.company
            if isinstance(company, Through):
                return f"{company.through.table}.{company.through.company}"
            return _part(resolved, company)
        if value.from_ == "item":
            return _part(resolved, resolved.mapping.source.item)
        if value.from_ == "location":
            named = resolved.mapping.locations
            return f"{named.table}.{named.key} of the default location"
        return _number(resolved, value.from_)
    if isinstance(value, Generated):
        return f"a new uuid behind {value.prefix}" if value.prefix else "a new uuid"
    if isinstance(value, Expression | Standardised):
        return _part(resolved, value)
    return f"always {_constant(value)}"


def _yet_to_be_made(resolved: ResolvedMapping, role: str) -> str:
    return next(name for name, its in made(resolved).items() if its == role)


def _constant(value: object) -> str:
    """A constant as SQL has it, without the marks that only the server needs."""
    if isinstance(value, Expression):
        return " ".join(value.sql.split())
    return f"'{value}'" if isinstance(value, str) else literal(value)  # type: ignore[arg-type]
