"""One file per target shape: the statements that apply it, undo it and read it back."""

from __future__ import annotations

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine.shapes.allocation_json import AllocationJson
from inventory_migration.engine.shapes.location_column import LocationColumn
from inventory_migration.engine.shapes.shape import Held, Shape
from inventory_migration.engine.shapes.source_columns import SourceColumns
from inventory_migration.engine.shapes.stock_level import StockLevel

__all__ = ["SHAPES", "Held", "Shape", "SourceColumns", "shape_of"]

SHAPES: dict[str, type[Shape]] = {
    "location_column": LocationColumn,
    "allocation_json": AllocationJson,
    "stock_level": StockLevel,
}


def shape_of(resolved: ResolvedMapping) -> Shape:
    """The shape that a mapping's target names."""
    return SHAPES[resolved.mapping.target.shape](resolved)
