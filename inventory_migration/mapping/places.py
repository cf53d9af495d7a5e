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
    column_form,
)


class Link(Part):
    """Rows that a default location needs in another table, such as the channels it serves.

    One row, or one for each row of the table `for_each`, alias `f`; expressions may also name the
    location `l` and its company `c`.

    Attributes:
        table: Which table gets the rows.
        for_each: The table of which each row gets one.
        where: Which of its rows.
        values: What the columns of a new row are given.
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


class PlaceLink(Part):
    """A table that says which companies a location belongs to.

    Attributes:
        table: Which.
        location: Its column that names the location.
        company: Its column that names the company.
        where: Which of its rows count, over the alias `o`.
        values: What else a row is given that links a new location.
    """

    table: Table
    location: str
    company: str
    where: Expression | None = None
    values: dict[str, NewValue] = Field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Every column that a new row is given."""
        return [self.location, self.company, *self.values]

    @model_validator(mode="after")
    def _each_column_once(self) -> PlaceLink:
        columns = self.columns
        if twice := sorted({name for name in columns if columns.count(name) > 1}):
            raise ValueError(
                f"{', '.join(twice)} is given twice; location, company and each of values are "
                "columns of their own"
            )
        return self


class LinkedPlaces(Part):
    """The company of a location as another table has it, which may have none, or several.

    Attributes:
        through: Which table says it.
    """

    through: PlaceLink


CompanyOfLocation = Annotated[
    Annotated[str, Tag("Column")]
    | Annotated[Expression, Tag("Expression")]
    | Annotated[LinkedPlaces, Tag("LinkedPlaces")],
    Discriminator(
        column_form({"through": "LinkedPlaces"}),
        custom_error_type="owner_form",
        custom_error_message="should be a column, {sql: ...} or {through: ...}",
    ),
]
"""The company that a location belongs to; expressions are over the location `l`."""


class Locations(Part):
    """Where stock can be, how a default location is recognised and how one is made.

    Attributes:
        table: Which table holds the locations.
        key: Its key.
        company: Whose a location is.
        default: The columns, with their values, that make a location its company's default.
        create: What the columns of a new default location are given; without it each company must
            have one.
        add: Whether to create the table where there is none.
        links: Rows that a new default location needs elsewhere.
    """

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

    @model_validator(mode="after")
    def _what_is_given_is_created(self) -> Locations:
        linked = self.company.through if isinstance(self.company, LinkedPlaces) else None
        if linked is not None and linked.values and self.create is None:
            raise ValueError(
                "company.through.values are of the links of locations that are created: say "
                "create, or take them out"
            )
        return self
