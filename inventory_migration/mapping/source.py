"""The stock records of a mapping: what tells them apart, whose they are, and how much they hold."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from inventory_migration.mapping.owners import CompanyOfRecord
from inventory_migration.mapping.parts import (
    ColumnOrExpression,
    Expression,
    Part,
    Standardised,
    Table,
    Timestamptz,
    one_or_many,
)


class Source(Part):
    """The stock records: key, owner, item and numbers.

    Attributes:
        table: Which table holds the stock records.
        key: The columns that tell them apart.
        company: Whose a record is.
        joins: What is joined to it; it must give one row for each record.
        item: What is in stock, such as an SKU.
        quantity: How much.
        reserved: How much of it is promised.
        skip: Records that are left out, by reason, and the condition of each.
    """

    table: Table
    key: Annotated[list[str], BeforeValidator(one_or_many), Field(min_length=1)]
    company: CompanyOfRecord
    joins: str = ""
    item: ColumnOrExpression
    quantity: ColumnOrExpression
    reserved: ColumnOrExpression | None = None
    skip: dict[str, Expression] = Field(default_factory=dict)

    @field_validator("company", "item")
    @classmethod
    def _stays_text(cls, value: ColumnOrExpression) -> ColumnOrExpression:
        if isinstance(value, Standardised) and value.conversion is not None:
            raise ValueError("only trim, collapse_space and upper make sense here")
        return value

    @field_validator("quantity", "reserved")
    @classmethod
    def _is_no_time(cls, value: ColumnOrExpression | None) -> ColumnOrExpression | None:
        if isinstance(value, Standardised) and isinstance(value.conversion, Timestamptz):
            raise ValueError("a quantity is a number, not a point in time")
        return value
