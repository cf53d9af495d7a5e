"""Where stock can be, in a mapping: the locations, whose they are, and what they need beside.

What the SQL of it is, is said in `engine/places.py`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from inventory_migration.mapping.parts import (
    Canonical,
    Expression,
    LinkValue,
    NewValue,
    Part,
    Scalar,
    Table,
)


class Link(Part):
    """Rows that a default location needs in another table, such as the channels it serves.

    One row, or one for each row of the table `for_each`, alias `f`; expressions may also name the
    location `l` and its company `c`.
    """

    table: Table
    for_each: Table | None = None
    where: Expression | None = None
    values: dict[str, LinkValue] = Field(min_length=1)

    @field_validator("values")
    @classmethod
    def _of_a_location(cls, values: dict[str, LinkValue]) -> dict[str, LinkValue]:
        for column, value in values.items():
            if isinstance(value, Canonical) and value.from_ not in {"company", "location"}:
                raise ValueError(
                    f"{column}: a location has no {value.from_}; take company or location"
                )
        named = [v for v in values.values() if isinstance(v, Canonical) and v.from_ == "location"]
        if not named:
            raise ValueError("a link names its location: give a column {from: location}")
        return values


def _owner_form(value: object) -> str | None:
    """How a location says whose it is."""
    if isinstance(value, Part):
        return type(value).__name__
    if isinstance(value, dict):
        return "Expression"
    return "Column" if isinstance(value, str) else None


CompanyOfLocation = Annotated[
    Annotated[str, Tag("Column")] | Annotated[Expression, Tag("Expression")],
    Discriminator(
        _owner_form,
        custom_error_type="owner_form",
        custom_error_message="should be a column or {sql: ...}",
    ),
]
"""The company that a location belongs to; expressions are over the location `l`."""


class Locations(Part):
    """Where stock can be, how a default location is recognised and how one is made."""

    table: Table
    key: str
    company: CompanyOfLocation
    default: dict[str, Scalar] = Field(min_length=1)
    create: dict[str, NewValue] | None = None
    add: bool = False
    links: list[Link] = Field(default_factory=list)

    @model_validator(mode="after")
    def _an_added_table_has_a_column(self) -> Locations:
        if self.add and not isinstance(self.company, str):
            raise ValueError(
                "a table that is added gets a column for the company: name it in company, or take "
                "add out"
            )
        return self
