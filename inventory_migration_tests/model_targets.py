"""How each shape's target is filled beforehand and read afterwards, for the test of the model.

A shape that is added gets an entry in `TARGETS`. What belongs into a target is decided in
`model.py`, not here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from inventory_migration.database import quoted
from inventory_migration_tests.model import (
    EXACT,
    ZERO,
    Held,
    Key,
    Record,
    counted,
    number,
    on_hand,
)

MISSING = 999
"""A location that there never is."""


@dataclass(frozen=True)
class Filled:
    """A record whose target says something already, in one of the forms that mean the same."""

    record: Record
    form: int


Fill = Callable[[sa.Connection, Sequence[str], Sequence[Filled]], None]
Read = Callable[[sa.Connection, Sequence[str]], dict[Key, Any]]


@dataclass(frozen=True)
class Target:
    """A shape as this test sees it.

    Attributes:
        definition: What the mapping says.
        fill: Make the target of new records name the location that each record names.
        read: What the target holds for every record, as it stands, None where it holds nothing.
        held: The same as what lies at which location, for a record that a migration has written.
        columns: Columns of the stock records' own table that the shape writes, with their types.
        beside: Makes a table of the shape's own, which has a row for each record and location.
        agrees: Whether what was filled in is what a migration would write.
    """

    definition: dict[str, Any]
    fill: Fill
    read: Read
    held: Callable[[Any, Record, str], list[Held]]
    columns: dict[str, str] = field(default_factory=dict)
    beside: Callable[[dict[str, str]], str] | None = None
    agrees: Callable[[Filled, Record, str], bool] = lambda *_: True

    def mapped(self, keys: Sequence[str]) -> dict[str, Any]:
        """What the mapping says for records of this key."""
        record = {"record": {f"item_{name}": name for name in keys}} if self.beside else {}
        return {**self.definition, **record}


def named(keys: Sequence[str]) -> str:
    """The key columns, quoted."""
    return ", ".join(quoted(name) for name in keys)


def update(connection: sa.Connection, keys: Sequence[str], sets: str, rows: list[Any]) -> None:
    """Set columns of records; each row has the record and the further parameters."""
    same = " AND ".join(f"{quoted(name)} = :key_{n}" for n, name in enumerate(keys))
    if rows:
        connection.execute(
            sa.text(f"UPDATE stock_items SET {sets} WHERE {same}"),
            [
                {**values, **{f"key_{n}": part for n, part in enumerate(record.key)}}
                for record, values in rows
            ],
        )


def read_columns(
    connection: sa.Connection, keys: Sequence[str], selected: str
) -> dict[Key, tuple[Any, ...]]:
    """Columns of every stock record by its key."""
    rows = connection.execute(sa.text(f"SELECT {named(keys)}, {selected} FROM stock_items"))
    return {tuple(row)[: len(keys)]: tuple(row)[len(keys) :] for row in rows}


def fill_column(connection: sa.Connection, keys: Sequence[str], filled: Sequence[Filled]) -> None:
    rows = [(f.record, {"location": f.record.location}) for f in filled]
    update(connection, keys, "location_id = :location", rows)


def read_column(connection: sa.Connection, keys: Sequence[str]) -> dict[Key, Any]:
    return {key: found for key, (found,) in read_columns(connection, keys, "location_id").items()}


def held_in_column(found: Any, record: Record, basis: str) -> list[Held]:
    """All that the record's own columns count lies at the one location."""
    there, reserved, _ = counted(record, basis)
    return [] if found is None else [Held(found, there, reserved)]


def fill_json(connection: sa.Connection, keys: Sequence[str], filled: Sequence[Filled]) -> None:
    rows = [
        (
            f.record,
            {
                "allocations": allocations(f),
                "transfers": [None, "[]", '[{"to": "x"}]'][f.form % 3],
            },
        )
        for f in filled
    ]
    sets = "allocations = CAST(:allocations AS jsonb), transfers = CAST(:transfers AS jsonb)"
    update(connection, keys, sets, rows)


def allocations(filled: Filled) -> str | None:
    """JSON that names the record's location; also none at all, or none that there is."""
    location = filled.record.location
    if location is None:
        forms = [None, "{}", "[]", "null"]
    elif location == MISSING:
        # A location's key alone is no allocation to it.
        forms = ['{"999": {}}', '{"x": 1}', '"10"', "[10]", "10", "20", "30", "false"]
    else:
        entry = {"allocated": 1, "reserved": 0}
        forms = [json.dumps({str(location): said}) for said in (entry, {}, None)]
    return forms[filled.form % len(forms)]


def read_json(connection: sa.Connection, keys: Sequence[str]) -> dict[Key, Any]:
    found = read_columns(connection, keys, "allocations::text, transfers::text")
    return {key: None if said == (None, None) else said for key, said in found.items()}


def held_in_json(found: Any, record: Record, basis: str) -> list[Held]:  # noqa: ARG001
    """What the entries say; the record's own columns are not asked."""
    entries, transfers = found or ("{}", "[]")
    assert transfers == "[]"
    # As a float the last digits of a quantity would be lost on the way to being compared.
    said = json.loads(entries or "{}", parse_int=Decimal, parse_float=Decimal)
    for entry in said.values():
        assert set(entry) == {"allocated", "reserved", "lastUpdated", "updatedBy"}
        assert entry["updatedBy"] == "SYSTEM_MIGRATION"
    return [
        Held(int(location), entry["allocated"], entry["reserved"])
        for location, entry in said.items()
    ]


def level_table(keys: dict[str, str]) -> str:
    """The application's own table of levels."""
    columns = "".join(f"{quoted(f'item_{name}')} {kind}, " for name, kind in keys.items())
    record = ", ".join(quoted(f"item_{name}") for name in keys)
    return f"""
        CREATE TABLE stock_levels (
            {columns} location_id bigint, on_hand numeric NOT NULL, reserved numeric NOT NULL,
            PRIMARY KEY ({record}, location_id),
            FOREIGN KEY ({record}) REFERENCES stock_items ({named(list(keys))})
                ON DELETE CASCADE)"""


def level_of(filled: Filled) -> tuple[Decimal, Decimal]:
    """The numbers of a level that the application made: its record's, or one more."""
    quantity, reserved = (
        number(n) or ZERO for n in (filled.record.quantity, filled.record.reserved)
    )
    return (EXACT.add(quantity, Decimal(filled.form % 2)), reserved)


def level_agrees(filled: Filled, record: Record, basis: str) -> bool:
    quantity, reserved = number(record.quantity), number(record.reserved) or ZERO
    return quantity is not None and level_of(filled) == (
        on_hand(quantity, reserved, basis),
        reserved,
    )


def fill_levels(connection: sa.Connection, keys: Sequence[str], filled: Sequence[Filled]) -> None:
    rows = [
        {
            **{f"key_{n}": part for n, part in enumerate(f.record.key)},
            "location": f.record.location,
            "on_hand": level_of(f)[0],
            "reserved": level_of(f)[1],
        }
        for f in filled
        if f.record.location is not None
    ]
    if rows:
        parts = ", ".join(f":key_{n}" for n, _ in enumerate(keys))
        connection.execute(
            sa.text(f"INSERT INTO stock_levels VALUES ({parts}, :location, :on_hand, :reserved)"),
            rows,
        )


def read_levels(connection: sa.Connection, keys: Sequence[str]) -> dict[Key, Any]:
    same = " AND ".join(f"t.{quoted(f'item_{name}')} = s.{quoted(name)}" for name in keys)
    found = connection.execute(
        sa.text(
            f"SELECT {', '.join(f's.{quoted(name)}' for name in keys)}, "
            "t.location_id, t.on_hand, t.reserved "
            f"FROM stock_items s LEFT JOIN stock_levels t ON {same} ORDER BY t.location_id"
        )
    )
    levels: dict[Key, Any] = {}
    for *key, location, there, reserved in found:
        held = levels.setdefault(tuple(key), [])
        if location is not None:
            held.append((location, there, reserved))
    return {key: held or None for key, held in levels.items()}


def held_in_levels(found: Any, record: Record, basis: str) -> list[Held]:  # noqa: ARG001
    """What the levels say; the record's own columns are not asked."""
    return [Held(*level) for level in found or []]


TARGETS: dict[str, Target] = {
    "stock_level": Target(
        definition={
            "shape": "stock_level",
            "table": "stock_levels",
            "location": "location_id",
            "on_hand": "on_hand",
            "reserved": "reserved",
            "add": True,
        },
        beside=level_table,
        agrees=level_agrees,
        fill=fill_levels,
        read=read_levels,
        held=held_in_levels,
    ),
    "location_column": Target(
        definition={"shape": "location_column", "column": "location_id", "add": True},
        columns={"location_id": "bigint"},
        fill=fill_column,
        read=read_column,
        held=held_in_column,
    ),
    "allocation_json": Target(
        definition={
            "shape": "allocation_json",
            "column": "allocations",
            "transfers": "transfers",
            "add": True,
        },
        columns={"allocations": "jsonb", "transfers": "jsonb"},
        fill=fill_json,
        read=read_json,
        held=held_in_json,
    ),
}
