"""The record that operations are tried on, and what their statements are told of it.

Values are taken as text and cast to their own types where they are used, so that every type of key
will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import canonical, columns, coverage, places
from inventory_migration.engine.acceptance import stock
from inventory_migration.engine.shapes import shape_of
from inventory_migration.engine.summary import exact


@dataclass(frozen=True)
class Sample:
    """A record at its company's default location.

    Attributes:
        key: Its key as records are told.
        values: What statements are told of it, by parameter, as text.
        types: The type of each parameter.
        on_hand: What lies at the default location.
        reserved: What is promised of it.
        second_made: Whether the second location is there for the trial only.
    """

    key: str
    values: dict[str, str | None]
    types: dict[str, str]
    on_hand: Decimal
    reserved: Decimal
    second_made: bool = False

    def told(self) -> dict[str, Any]:
        """The record as people and programs are told of it."""
        return {
            "key": self.key,
            **{
                name: self.values.get(name)
                for name in ("company", "item", "location", "second_location")
            },
            "second_location_made": self.second_made,
            "on_hand": exact(self.on_hand),
            "reserved": exact(self.reserved),
        }


def take_sample(connection: sa.Connection, resolved: ResolvedMapping) -> Sample | None:
    """Choose a migrated record with enough available for every operation, the first by its key."""
    keys, levels = columns.keys(resolved), resolved.target_key
    names = [*zip(resolved.mapping.record_names, keys, strict=True)]
    names += [
        (name, f"level_{number}")
        for number, name in enumerate(resolved.mapping.level_names, 1)
        if levels
    ]
    told = ", ".join(f"l.{column}::text AS {name}" for name, column in names)
    moved = stock.moved(resolved, coverage.dealt_with(connection, resolved))
    shape = shape_of(resolved)
    here = shape.same_location("d.location_key", "l.location_key")
    second = "NULL::text"
    if resolved.locations is not None:
        belongs = places.belongs(resolved, "im_p", "l.company_key")
        second = f"""(SELECT im_p.location_key::text FROM ({places.places(resolved)}) AS im_p
                      WHERE {belongs} AND im_p.location_key <> d.location_key
                      ORDER BY im_p.location_key LIMIT 1)"""
    row = connection.execute(
        sa.text(
            escaped(f"""
            WITH moved AS MATERIALIZED ({moved})
            SELECT {columns.key_text(resolved, "l")} AS key_text, {told},
                   l.company_key::text AS company, l.item_key::text AS item,
                   d.location_key::text AS location, l.on_hand, l.reserved,
                   {second} AS second_location
            FROM ({stock.lines(resolved)}) AS l
            JOIN ({canonical.defaults_by_company(resolved)}) AS d
              ON d.company_key = l.company_key AND {here}
            WHERE l.meant AND NOT l.skipped AND l.on_hand - l.reserved >= """)
            + ":needed"
            + escaped(f"""
              AND EXISTS (SELECT FROM moved AS m WHERE {columns.same_key(resolved, "m", "l")})
            ORDER BY {", ".join(f"l.{key}" for key in keys)}
            LIMIT 1""")
        ),
        {"needed": resolved.mapping.acceptance.needed},
    ).one_or_none()
    if row is None:
        return None
    types = dict(zip(resolved.mapping.record_names, resolved.key_columns, strict=True))
    level = resolved.levels.columns if resolved.levels else {}
    return Sample(
        key=row.key_text,
        values={
            **{name: getattr(row, name) for name, _ in names},
            **{
                name: getattr(row, name)
                for name in ("company", "item", "location", "second_location")
            },
            "on_hand": exact(row.on_hand),
            "reserved": exact(row.reserved),
        },
        types={
            **{name: column.type for name, column in types.items()},
            **{
                name: level[part.column].type
                for name, part in zip(resolved.mapping.level_names, levels, strict=False)
            },
            "company": resolved.company_key_type,
            "item": resolved.item_type,
            "location": resolved.location_key_type,
            "second_location": resolved.location_key_type,
            "on_hand": "numeric",
            "reserved": "numeric",
        },
        on_hand=row.on_hand,
        reserved=row.reserved,
    )


def moved_records(connection: sa.Connection, resolved: ResolvedMapping) -> int:
    """How many records there are to choose from, however much they have."""
    moved = stock.moved(resolved, coverage.dealt_with(connection, resolved))
    return int(
        connection.execute(sa.text(f"SELECT count(*) FROM ({escaped(moved)}) AS m")).scalar_one()
    )
