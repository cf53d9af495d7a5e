"""The shape in which a stock record refers to its location: one UPDATE of one column.

What was written can be derived from the record's company, so only records that the application
changed between snapshot and chunk leave an after-image. Which records are written is decided in
`canonical.py`, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

from inventory_migration.catalog import ResolvedMapping, literal
from inventory_migration.database import quoted
from inventory_migration.engine import canonical


@dataclass(frozen=True)
class LocationColumn:
    """Statements over a relation `c` of classified records, and over a snapshot row `p`."""

    resolved: ResolvedMapping

    @property
    def target(self) -> str:
        """The quoted target column."""
        return quoted(self.resolved.mapping.target.column)

    def apply(self) -> str:
        """Write the default location of each record to be migrated; returns position and chunk."""
        touched = "".join(
            f", {quoted(column)} = {literal(value)}"
            for column, value in self.resolved.mapping.touch.items()
        )
        return f"""
            UPDATE {self.resolved.source.sql} AS s
            SET {self.target} = c.default_location{touched}
            FROM classified AS c
            WHERE {canonical.key_of_source(self.resolved, "c")}
              AND c.outcome = 'migrated' AND s.{self.target} IS NULL
            RETURNING c.position, c.chunk"""

    def undo(self) -> str:
        """Put back the pre-image where the record still holds what we wrote; returns its position.

        Works on a relation `mine` of snapshot rows that were migrated, with `written`, what we
        wrote, and `xid`, by whom. What the application may have set since beside the location is
        left alone.
        """
        before = canonical.before_columns(self.resolved)
        touched = "".join(
            f", {quoted(column)} = CASE WHEN s.xmin::text = m.xid THEN m.{before[column]} "
            f"ELSE s.{quoted(column)} END"
            for column in self.resolved.mapping.touch
        )
        return f"""
            UPDATE {self.resolved.source.sql} AS s
            SET {self.target} = m.before_1{touched}
            FROM mine AS m
            WHERE {canonical.key_of_source(self.resolved, "m")}
              AND s.{self.target} = m.written
            RETURNING m.position"""

    def written(self, planned: str, after_image: str = "i") -> str:
        """What we wrote for a snapshot row `p`: by after-image, else by its planned company."""
        return (
            f"COALESCE({after_image}.location_key::{self.resolved.location_key_type}, "
            f"(SELECT w.location_key FROM {planned} AS w WHERE w.company_key = p.company_key))"
        )
