"""What moves: the mapping file as a model, and how it is read.

Nothing here knows a database.
"""

from inventory_migration.mapping import entries, statements, timestamps
from inventory_migration.mapping.acceptance import Acceptance, Expected, Operation, Query
from inventory_migration.mapping.expectations import Expectations, Loosened
from inventory_migration.mapping.files import load_mapping, named_mapping, parse_mapping
from inventory_migration.mapping.health import Health, Window
from inventory_migration.mapping.limits import Gates, Thresholds
from inventory_migration.mapping.model import Phase, StockMapping
from inventory_migration.mapping.monitor import Monitor
from inventory_migration.mapping.notifications import Channel
from inventory_migration.mapping.owners import Company, CompanyQuery, LinkTable, Through
from inventory_migration.mapping.parts import (
    MARKER,
    Canonical,
    ColumnOrExpression,
    Expression,
    Generated,
    LinkValue,
    NewValue,
    Numeric,
    RecordValue,
    Scalar,
    Separators,
    Standardised,
    TableName,
    Timestamptz,
    ValueOrExpression,
    named_column,
)
from inventory_migration.mapping.places import Link, LinkedPlaces, Locations, PlaceLink
from inventory_migration.mapping.retention import Retention, later
from inventory_migration.mapping.rules import Rules
from inventory_migration.mapping.source import Source
from inventory_migration.mapping.targets import AllocationJson, LocationColumn, StockLevel

__all__ = [
    "MARKER",
    "Acceptance",
    "AllocationJson",
    "Canonical",
    "Channel",
    "ColumnOrExpression",
    "Company",
    "CompanyQuery",
    "Expectations",
    "Expected",
    "Expression",
    "Gates",
    "Generated",
    "Health",
    "Link",
    "LinkTable",
    "LinkValue",
    "LinkedPlaces",
    "LocationColumn",
    "Locations",
    "Loosened",
    "Monitor",
    "NewValue",
    "Numeric",
    "Operation",
    "Phase",
    "PlaceLink",
    "Query",
    "RecordValue",
    "Retention",
    "Rules",
    "Scalar",
    "Separators",
    "Source",
    "Standardised",
    "StockLevel",
    "StockMapping",
    "TableName",
    "Thresholds",
    "Through",
    "Timestamptz",
    "ValueOrExpression",
    "Window",
    "entries",
    "later",
    "load_mapping",
    "named_column",
    "named_mapping",
    "parse_mapping",
    "statements",
    "timestamps",
]
