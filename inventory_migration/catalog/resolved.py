"""A mapping whose names were found, and how its columns, expressions and constants read as SQL."""

from __future__ import annotations

from dataclasses import dataclass

from inventory_migration.catalog.tables import Column, Relation
from inventory_migration.database import quoted
from inventory_migration.mapping import (
    ColumnOrExpression,
    Expression,
    StockMapping,
    ValueOrExpression,
)


@dataclass(frozen=True)
class ResolvedMapping:
    """A mapping whose every name was found, with the types that its SQL needs."""

    mapping: StockMapping
    source: Relation
    company: Relation
    locations: Relation | None
    locations_sql: str
    location_key_type: str
    company_key_type: str
    source_company_type: str
    quantity_type: str
    reserved_type: str | None
    target_exists: bool
    role: str
    is_superuser: bool

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The key of a stock record, in the mapping's order."""
        return tuple(self.source.columns[name] for name in self.mapping.source.key)

    @property
    def target_types(self) -> dict[str, str]:
        """The type of each column that the shape writes."""
        if self.mapping.target.shape == "location_column":
            return {self.mapping.target.column: self.location_key_type}
        return dict.fromkeys(self.mapping.target.columns, "jsonb")

    @property
    def target(self) -> str:
        """What a migration writes, by name: one active migration per target."""
        return f"{self.source.schema}.{self.source.name}.{self.mapping.target.column}"


def column_sql(column: ColumnOrExpression, alias: str = "s") -> str:
    """The SQL of a column or expression of the source."""
    if isinstance(column, Expression):
        return f"({column.sql})"
    return f"{quoted(alias)}.{quoted(column)}"


def literal(value: ValueOrExpression) -> str:
    """The SQL of a constant, or of an expression as it stands."""
    if isinstance(value, Expression):
        return f"({value.sql})"
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        # Under E'' a backslash means the same whatever standard_conforming_strings says.
        return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
    return str(value)
