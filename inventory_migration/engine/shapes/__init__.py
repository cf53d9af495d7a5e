"""One file per target shape: the statements that apply it, undo it and read it back."""

from __future__ import annotations

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine.shapes.allocation_json import AllocationJson
from inventory_migration.engine.shapes.location_column import LocationColumn
from inventory_migration.engine.shapes.source_columns import SourceColumns

SHAPES: dict[str, type[SourceColumns]] = {
    "location_column": LocationColumn,
    "allocation_json": AllocationJson,
}


def shape_of(resolved: ResolvedMapping) -> SourceColumns:
    """The shape that a mapping's target names."""
    return SHAPES[resolved.mapping.target.shape](resolved)
