"""Reading a live catalog: which names exist, what types they have, what hangs on them.

Everything here only reads. What is written to the database, and the SELECTs that a mapping yields,
do not belong here.
"""

from inventory_migration.catalog.conversions import column_sql
from inventory_migration.catalog.resolution import resolve
from inventory_migration.catalog.resolved import (
    OWNERSHIP,
    ResolvedLink,
    ResolvedMapping,
    TargetKey,
    literal,
)
from inventory_migration.catalog.tables import (
    FLOATS,
    INTEGERS,
    TEXTS,
    Column,
    Derived,
    Relation,
    Trigger,
    base_type,
)

__all__ = [
    "FLOATS",
    "INTEGERS",
    "OWNERSHIP",
    "TEXTS",
    "Column",
    "Derived",
    "Relation",
    "ResolvedLink",
    "ResolvedMapping",
    "TargetKey",
    "Trigger",
    "base_type",
    "column_sql",
    "literal",
    "resolve",
]
