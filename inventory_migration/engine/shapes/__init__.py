"""One file per target shape: the statements that apply it, undo it and read it back."""

from __future__ import annotations

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine.shapes.location_column import LocationColumn


def shape_of(resolved: ResolvedMapping) -> LocationColumn:
    """The shape that a mapping's target names."""
    return LocationColumn(resolved)
