"""The shapes of a target as a mapping file names them: where it will say what stock is where.

One model for each shape; the statements that write a shape are in `engine/shapes/`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from inventory_migration.mapping.entries import USUAL, Fields
from inventory_migration.mapping.parts import (
    Canonical,
    ColumnOrExpression,
    Part,
    RecordValue,
    Standardised,
    Table,
)

_OF_NUMBERS = {"quantity", "on_hand", "reserved", "available"}


class LocationColumn(Part):
    """The shape in which a stock record holds a reference to its location.

    Attributes:
        shape: Its name.
        column: The column that refers to the location.
        add: Whether to add the column where there is none.
    """

    shape: Literal["location_column"]
    column: str
    add: bool = False

    @property
    def columns(self) -> list[str]:
        """Every column of the stock record that the shape writes."""
        return [self.column]

    @property
    def holds(self) -> list[str]:
        """What is told of a record's target, before and after: the column's value."""
        return self.columns


class AllocationJson(Part):
    """The shape in which a stock record holds its allocations as JSON, by location.

    Attributes:
        shape: Its name.
        column: The column that holds the allocations.
        transfers: A column that lists transfer requests and starts empty.
        as_: Whether entries go by location in an object, or name it in a list.
        entry: What one says; left out, as usual.
        add: Whether to add the columns where there are none.
    """

    shape: Literal["allocation_json"]
    column: str
    transfers: str | None = None
    as_: Literal["object", "list"] = Field(default="object", alias="as")
    entry: Fields | None = None
    add: bool = False

    @property
    def fields(self) -> Fields:
        """The template of an entry."""
        return self.entry or USUAL

    @property
    def columns(self) -> list[str]:
        """Every column of the stock record that the shape writes."""
        return [self.column, *([self.transfers] if self.transfers else [])]

    @property
    def holds(self) -> list[str]:
        """What is told of a record's target, before and after: the columns' values."""
        return self.columns


class StockLevel(Part):
    """The shape in which a table has a row for each record and location, with the numbers there.

    Attributes:
        shape: Its name.
        table: Which table holds the levels.
        record: Its columns that name a level's record, each with what names it.
        location: Its column that names the location.
        on_hand: Its column for how much is there, reserved units with it.
        reserved: Its column for what is reserved.
        values: What its other columns are given.
        add: Whether to create the table where there is none.
        sync: Whether a trigger keeps levels in step with their records.
    """

    shape: Literal["stock_level"]
    table: Table
    record: dict[str, ColumnOrExpression] = Field(min_length=1)
    location: str
    on_hand: str
    reserved: str | None = None
    values: dict[str, RecordValue] = Field(default_factory=dict)
    add: bool = False
    sync: bool = False

    @field_validator("record")
    @classmethod
    def _stays_text(cls, record: dict[str, ColumnOrExpression]) -> dict[str, ColumnOrExpression]:
        for name, value in record.items():
            if isinstance(value, Standardised) and value.conversion is not None:
                raise ValueError(f"{name}: only trim, collapse_space and upper make sense here")
        return record

    @model_validator(mode="after")
    def _each_column_once(self) -> StockLevel:
        named = [*self.record, self.location, self.on_hand, *self.values]
        named += [self.reserved] if self.reserved else []
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is given two values")
        return self

    @model_validator(mode="after")
    def _kept_in_step_whole(self) -> StockLevel:
        lost = [
            name
            for name, value in self.values.items()
            if isinstance(value, Canonical) and value.from_ in _OF_NUMBERS
        ]
        if self.sync and self.reserved is None and lost:
            raise ValueError(
                f"{', '.join(lost)} cannot be kept in step without a column for what is reserved: "
                "name it in target.reserved"
            )
        return self

    @property
    def record_columns(self) -> dict[str, str]:
        """The columns of a level that hold a column of its record as it is, with that column."""
        return {name: value for name, value in self.record.items() if isinstance(value, str)}

    def keyed_by(self, key: list[str]) -> bool:
        """Whether levels are named by just these columns of their records, each once."""
        named = list(self.record_columns.values())
        return len(named) == len(self.record) and sorted(named) == sorted(key)

    @property
    def following(self) -> dict[str, Canonical]:
        """The columns beside the numbers that follow from these, and change with them."""
        return {
            name: value
            for name, value in self.values.items()
            if isinstance(value, Canonical) and value.from_ in _OF_NUMBERS and self.reserved
        }

    @property
    def columns(self) -> list[str]:
        """Every column of the stock record that the shape writes: none."""
        return []

    @property
    def holds(self) -> list[str]:
        """What is told of a record's target, before and after: location and numbers."""
        return ["location", "on_hand", *(["reserved"] if self.reserved else [])]

    @property
    def holds_as(self) -> list[str]:
        """The canonical names of what a target holds."""
        return ["location_key", *self.holds[1:]]

    @property
    def numbers(self) -> list[str]:
        """The columns that hold numbers."""
        return [self.on_hand, *([self.reserved] if self.reserved else [])]


TargetShape = Annotated[LocationColumn | AllocationJson | StockLevel, Field(discriminator="shape")]
