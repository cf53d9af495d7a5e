"""What a migration does to an object on one of its tables: what there is to be said, and to know.

The sentences themselves are in `constraints.py`, `surroundings.py` and `readers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from inventory_migration.audit.touched import RECORDS, Touched
from inventory_migration.catalog import ResolvedMapping
from inventory_migration.catalog.dependencies import CatalogObject

Concern = Literal["to do", "to know", "untouched"]
"""Whether somebody has to do something about an object, should know of it, or neither."""

UNTOUCHED: Concern = "untouched"
CONCERNS: tuple[Concern, ...] = ("to do", "to know", UNTOUCHED)
"""What needs most comes first."""


@dataclass(frozen=True)
class Effect:
    """What a migration does to an object, and whether it concerns anybody."""

    text: str
    concern: Concern = UNTOUCHED


@dataclass(frozen=True)
class Move:
    """What a migration does, as far as the objects on its tables can tell.

    Attributes:
        resolved: The mapping.
        tables: The tables that it touches, by oid.
        fired: The triggers that it fires, by table and name.
        made: The tables that it makes, by name.
        counted: The tables whose foreign keys are counted before and after.
        partitions: How many partitions a table has, by its oid.
        indexing: The indexes and keys that hold a written column of a table, by its oid.
    """

    resolved: ResolvedMapping
    tables: Mapping[int, Touched]
    fired: Mapping[tuple[str, str], Mapping[str, Any]]
    made: tuple[str, ...]
    counted: frozenset[int]
    partitions: Mapping[int, int]
    indexing: Mapping[int, tuple[str, ...]]


EffectOn = Callable[[CatalogObject, Move], Effect | None]
"""Tells what a migration does to an object of one kind; None for one that is not worth a word."""


def written_of(columns: tuple[str, ...], table: Touched) -> list[str]:
    """Which of these columns are set in rows that are there."""
    return [name for name in columns if name in table.updated]


def own_table(found: CatalogObject, move: Move) -> tuple[Touched, tuple[str, ...]]:
    """The touched table that an object belongs to, and the columns of it that it uses."""
    oid = found.facts["table"]
    return move.tables[oid], found.uses[oid]


def nothing_written(table: Touched) -> str:
    """What is said of an object on a table in which no row is written."""
    if RECORDS in table.roles:
        return "No column of a record is written."
    return "The table is only read."
