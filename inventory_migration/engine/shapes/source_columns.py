"""What the shapes have in common that write into columns of the stock record itself.

Such a shape says which location a record names, when its columns are empty, and what is written
into them; the statements follow from that. Which records are written is decided in `canonical.py`,
not here.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

from inventory_migration.catalog import ResolvedMapping, literal
from inventory_migration.database import quoted
from inventory_migration.engine import columns


@dataclass(frozen=True)
class SourceColumns(abc.ABC):
    """A shape whose target is one or more columns of the source table."""

    resolved: ResolvedMapping

    @property
    @abc.abstractmethod
    def location_type(self) -> str:
        """The type of `location_key`."""

    @abc.abstractmethod
    def location_key(self, alias: str = "s") -> str:
        """The key of the location that a source row names; NULL where its columns are empty."""

    @abc.abstractmethod
    def same_location(self, key: str, location_key: str) -> str:
        """The condition that a key of the locations' table is what `location_key` names."""

    @abc.abstractmethod
    def refers(self, alias: str, key: str) -> str:
        """The condition that a source row names a location in any way."""

    @abc.abstractmethod
    def empty(self, alias: str = "s") -> str:
        """The condition that a source row names no location yet."""

    @abc.abstractmethod
    def values(self, *, location: str, quantity: str, reserved: str, at: str) -> list[str]:
        """What is written into each target column, as SQL over the given expressions."""

    def target_columns(self, alias: str = "s") -> list[str]:
        """The quoted target columns of a source row."""
        return [f"{alias}.{quoted(name)}" for name in self.resolved.mapping.target.columns]

    def as_targets(self) -> str:
        """The target columns of a source row `s` under their canonical names."""
        named = zip(self.target_columns(), columns.targets(self.resolved, "target"), strict=True)
        return ", ".join(f"{column} AS {name}" for column, name in named)

    def apply(self) -> str:
        """Write each record to be migrated; returns position and chunk.

        Works on a relation `classified` of records, each with its default location and the numbers
        as they were locked.
        """
        written = self.values(
            location="c.default_location",
            quantity="c.quantity",
            reserved="c.reserved",
            at="transaction_timestamp()",
        )
        names = [quoted(name) for name in self.resolved.mapping.target.columns]
        pairs = [f"{name} = {value}" for name, value in zip(names, written, strict=True)]
        pairs += [
            f"{quoted(column)} = {literal(value)}"
            for column, value in self.resolved.mapping.touch.items()
        ]
        return f"""
            UPDATE {self.resolved.source.sql} AS s
            SET {", ".join(pairs)}
            FROM classified AS c
            WHERE {columns.key_of_source(self.resolved, "c")}
              AND c.outcome = 'migrated' AND {self.empty()}
            RETURNING c.position, c.chunk"""

    def holds(self, relation: str, **written: str) -> str:
        """The condition that a relation's `target_…` columns hold what would be written."""
        held = [f"{relation}.{name}" for name in columns.targets(self.resolved, "target")]
        return columns.all_same(held, self.values(**written))

    def undo(self) -> str:
        """Put back the pre-image where the record still holds what we wrote; returns its position.

        Works on a relation `mine` of snapshot rows that were migrated, with `written_…`, what we
        wrote, and `xid`, by whom. What the application may have set since beside the target is left
        alone.
        """
        before = columns.before_columns(self.resolved)
        pairs = [
            f"{quoted(name)} = m.{before[name]}" for name in self.resolved.mapping.target.columns
        ]
        pairs += [
            f"{quoted(column)} = CASE WHEN s.xmin::text = m.xid THEN m.{before[column]} "
            f"ELSE s.{quoted(column)} END"
            for column in self.resolved.mapping.touch
        ]
        ours = [f"m.{name}" for name in columns.targets(self.resolved, "written")]
        return f"""
            UPDATE {self.resolved.source.sql} AS s
            SET {", ".join(pairs)}
            FROM mine AS m
            WHERE {columns.key_of_source(self.resolved, "m")}
              AND {columns.all_same(self.target_columns(), ours)}
            RETURNING m.position"""

    def written(self, planned: str, *, snapshot: str, after_image: str, chunk: str) -> list[str]:
        """What was written for a snapshot row: by its after-image, else as planned.

        Args:
            planned: Quoted table of the planned locations.
            snapshot: Alias of the snapshot's row.
            after_image: Alias of the after-image's row, all NULL where there is none.
            chunk: Alias of the chunk's row.
        """
        changed = f"{after_image}.position IS NOT NULL"
        return self.values(
            location=f"COALESCE({after_image}.location_key::{self.resolved.location_key_type}, "
            f"(SELECT im_w.location_key FROM {planned} AS im_w "
            f"WHERE im_w.company_key = {snapshot}.company_key))",
            quantity=f"CASE WHEN {changed} THEN {after_image}.quantity "
            f"ELSE {snapshot}.quantity END",
            reserved=f"CASE WHEN {changed} THEN {after_image}.reserved "
            f"ELSE {snapshot}.reserved END",
            at=f"{chunk}.started_at",
        )
