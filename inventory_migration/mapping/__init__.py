"""What moves: the mapping file as a model, and how it is read.

Nothing here knows a database.
"""

from inventory_migration.mapping.files import load_mapping, named_mapping, parse_mapping
from inventory_migration.mapping.health import Health, Window
from inventory_migration.mapping.limits import Gates, Thresholds
from inventory_migration.mapping.model import (
    Company,
    CompanyQuery,
    Link,
    Locations,
    Phase,
    Rules,
    Source,
    StockMapping,
)
from inventory_migration.mapping.parts import (
    MARKER,
    Canonical,
    ColumnOrExpression,
    Expression,
    Generated,
    NewValue,
    RecordValue,
    Scalar,
    TableName,
    ValueOrExpression,
)
from inventory_migration.mapping.targets import AllocationJson, LocationColumn, StockLevel

__all__ = [
    "MARKER",
    "AllocationJson",
    "Canonical",
    "ColumnOrExpression",
    "Company",
    "CompanyQuery",
    "Expression",
    "Gates",
    "Generated",
    "Health",
    "Link",
    "LocationColumn",
    "Locations",
    "NewValue",
    "Phase",
    "RecordValue",
    "Rules",
    "Scalar",
    "Source",
    "StockLevel",
    "StockMapping",
    "TableName",
    "Thresholds",
    "ValueOrExpression",
    "Window",
    "load_mapping",
    "named_mapping",
    "parse_mapping",
]
