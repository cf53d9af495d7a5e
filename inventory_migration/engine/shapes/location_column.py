"""The shape in which a stock record refers to its location: one column.

What was written can be derived from the record's company, so only records that the application
changed between snapshot and chunk leave an after-image.
"""

from __future__ import annotations

from inventory_migration.database import quoted
from inventory_migration.engine import readings
from inventory_migration.engine.shapes.source_columns import SourceColumns
from inventory_migration.mapping import LocationColumn as Target


class LocationColumn(SourceColumns):
    """`location_id`: the key of the location."""

    @property
    def location_type(self) -> str:
        """The type of the locations' key."""
        return self.resolved.location_key_type

    def location_key(self, alias: str = "s") -> str:
        """The column itself."""
        target = self.resolved.mapping.target
        assert isinstance(target, Target)  # noqa: S101 - the registry goes by the target's shape
        return f"{alias}.{quoted(target.column)}"

    def same_location(self, key: str, location_key: str) -> str:
        """Equal, in the key's own type."""
        return f"{key} = {location_key}"

    def names(self, alias: str, key: str) -> str:
        """Equal, in the key's own type."""
        return f"{self.location_key(alias)} = {key}"

    def refers(self, key: str, *, only: str = "") -> tuple[str, str]:
        """The same, and each location once."""
        named, names = super().refers(key, only=only)
        return f"SELECT DISTINCT u.* FROM ({named}) AS u", names

    def empty(self, alias: str = "s") -> str:
        """NULL."""
        return f"{self.location_key(alias)} IS NULL"

    def values(self, *, location: str, quantity: str, reserved: str, at: str) -> list[str]:  # noqa: ARG002
        """The location's key."""
        return [location]

    def lines(self) -> str:
        """The record itself, which is at one location, or at none."""
        quantity, reserved = readings.quantity(self.resolved), readings.reserved(self.resolved)
        return f"""
            CROSS JOIN LATERAL (
                SELECT {self.location_key()} AS location_key,
                       {self.on_hand(quantity, reserved)} AS on_hand, {reserved} AS reserved,
                       {self.row_xmin()} AS xmin) AS im_a"""
