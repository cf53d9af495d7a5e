"""What the parts of a mapping are made of: names, constants, expressions, generated values.

The parts themselves have modules beside this one; how a value reads as SQL is said in
`catalog/resolved.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    Tag,
    field_validator,
    model_validator,
)

from inventory_migration.mapping import timestamps

MARKER = "SYSTEM_MIGRATION"

# Strict, so that 1.0 stays a number and does not become true.
Scalar = StrictBool | StrictInt | Annotated[Decimal, Field(allow_inf_nan=False)] | StrictStr | None
Action = Literal["quarantine", "warn", "fail"]


class Part(BaseModel):
    """Base of all parts: an unknown key is a mistake, and a mapping does not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Expression(Part):
    """An SQL expression over the alias `s` of the source table, trusted like code.

    Attributes:
        sql: The expression.
    """

    sql: str = Field(min_length=1)


class Generated(Part):
    """A key that nobody else has: a uuid, or text that begins with a prefix.

    Attributes:
        generate: What kind of key; as text where the column holds text.
        prefix: What the text begins with.
    """

    generate: Literal["uuid"]
    prefix: str | None = None


class Canonical(Part):
    """A value of the record, by its canonical name, whatever the application calls it.

    Attributes:
        from_: Which value of the record; `on_hand` and `available` follow from the basis.
    """

    from_: Literal[
        "company", "item", "quantity", "on_hand", "reserved", "available", "location"
    ] = Field(alias="from")


class Separators(Part):
    """What stands between thousands, and before decimals.

    Attributes:
        thousands: What stands between groups of three digits.
        decimal: What stands before the decimals.
    """

    thousands: Literal[",", ".", " ", "'", "_"] = ","
    decimal: Literal[".", ","] = "."

    @model_validator(mode="after")
    def _told_apart(self) -> Separators:
        if self.thousands == self.decimal:
            raise ValueError("thousands and decimal cannot be the same; give both")
        return self


class Numeric(Part):
    """A conversion of text to a number, thousands in groups of three.

    Attributes:
        numeric: How the number is spelled; `numeric` alone for the usual.
    """

    numeric: Separators


class Timestamptz(Part):
    """A conversion of text in a format to a point in time, read in a time zone.

    Attributes:
        timestamptz: The format, such as `DD.MM.YYYY HH24:MI`.
        zone: The time zone in which it is read; without one, UTC.
    """

    timestamptz: str
    zone: str | None = Field(default=None, min_length=1)

    @field_validator("timestamptz")
    @classmethod
    def _is_a_format(cls, value: str) -> str:
        timestamps.parsed(value)
        return value

    @model_validator(mode="after")
    def _one_zone(self) -> Timestamptz:
        if self.zone is not None and "TZH" in timestamps.parsed(self.timestamptz).patterns:
            raise ValueError("TZH reads the time zone from the text: leave zone out")
        return self


TextStep = Literal["trim", "collapse_space", "upper"]


def _step(value: object) -> str | None:
    """Which standardiser is meant, so that a mistake in it is told once."""
    if isinstance(value, Part):
        return type(value).__name__
    if isinstance(value, dict):
        forms = {"numeric": "Numeric", "timestamptz": "Timestamptz"}
        return next((form for key, form in forms.items() if key in value), None)
    return "TextStep" if isinstance(value, str) and value in get_args(TextStep) else None


def _in_full(value: object) -> object:
    """Accept `numeric` alone where its separators are the usual ones."""
    return {"numeric": {}} if value == "numeric" else value


Step = Annotated[
    Annotated[TextStep, Tag("TextStep")]
    | Annotated[Numeric, Tag("Numeric")]
    | Annotated[Timestamptz, Tag("Timestamptz")],
    Discriminator(
        _step,
        custom_error_type="step_form",
        custom_error_message="should be trim, collapse_space, upper, numeric, {numeric: ...} or "
        "{timestamptz: FORMAT}",
    ),
    BeforeValidator(_in_full),
]
"""A standardiser."""


def _one_or_many_steps(value: object) -> object:
    """Accept a standardiser alone where a list of them may stand."""
    return [value] if isinstance(value, str | dict) else value


class Standardised(Part):
    """A column or expression of the source whose text goes through standardisers, one by one.

    Attributes:
        column: The column whose text is taken.
        sql: Or the expression.
        as_: What is done to the text, one after the other.
    """

    column: str | None = None
    sql: str | None = Field(default=None, min_length=1)
    as_: Annotated[list[Step], BeforeValidator(_one_or_many_steps)] = Field(
        alias="as", min_length=1
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Standardised:
        if (self.column is None) == (self.sql is None):
            raise ValueError("give either column or sql")
        return self

    @model_validator(mode="after")
    def _converted_once(self) -> Standardised:
        if any(isinstance(step, Part) for step in self.as_[:-1]):
            raise ValueError(
                "numeric and timestamptz come last: what they give is no text any more"
            )
        return self

    @property
    def text_steps(self) -> list[str]:
        """What is done to the text, in this order."""
        return [step for step in self.as_ if isinstance(step, str)]

    @property
    def conversion(self) -> Numeric | Timestamptz | None:
        """What the text is converted to in the end; None where it stays a text."""
        last = self.as_[-1]
        return None if isinstance(last, str) else last


def column_form(special: dict[str, str]) -> Callable[[object], str | None]:
    """What tells a column, an expression, and the forms that a key of their own gives away.

    Args:
        special: The form by each such key, so that a mistake in it is told once.
    """

    def form(value: object) -> str | None:
        if isinstance(value, Part):
            return type(value).__name__
        if isinstance(value, dict):
            return next((name for key, name in special.items() if key in value), "Expression")
        return "Column" if isinstance(value, str) else None

    return form


ColumnOrExpression = Annotated[
    Annotated[str, Tag("Column")]
    | Annotated[Expression, Tag("Expression")]
    | Annotated[Standardised, Tag("Standardised")],
    Discriminator(
        column_form({"column": "Standardised", "as": "Standardised"}),
        custom_error_type="column_form",
        custom_error_message="should be a column, {sql: ...} or {column: ..., as: [...]}",
    ),
]
ValueOrExpression = Scalar | Expression


def _form(value: object) -> str | None:
    """Which form of a value is meant, so that a mistake in it is told once."""
    if isinstance(value, Part):
        return type(value).__name__
    if isinstance(value, dict):
        forms = {"as": "Standardised", "column": "Standardised"}
        forms |= {"sql": "Expression", "generate": "Generated", "from": "Canonical"}
        return next((form for key, form in forms.items() if key in value), None)
    return None if isinstance(value, list) else "Constant"


NewValue = Annotated[
    Annotated[Scalar, Tag("Constant")]
    | Annotated[Expression, Tag("Expression")]
    | Annotated[Generated, Tag("Generated")],
    Discriminator(
        _form,
        custom_error_type="value_form",
        custom_error_message="should be a constant, {sql: ...} or {generate: uuid}",
    ),
]
"""What a column of a new row is given."""

LinkValue = Annotated[
    Annotated[Scalar, Tag("Constant")]
    | Annotated[Expression, Tag("Expression")]
    | Annotated[Generated, Tag("Generated")]
    | Annotated[Canonical, Tag("Canonical")],
    Discriminator(
        _form,
        custom_error_type="value_form",
        custom_error_message="should be a constant, {sql: ...}, {generate: uuid} or {from: ...}",
    ),
]
"""What a column of a new row is given that belongs to a location."""

RecordValue = Annotated[
    Annotated[Scalar, Tag("Constant")]
    | Annotated[Expression, Tag("Expression")]
    | Annotated[Generated, Tag("Generated")]
    | Annotated[Canonical, Tag("Canonical")]
    | Annotated[Standardised, Tag("Standardised")],
    Discriminator(
        _form,
        custom_error_type="value_form",
        custom_error_message="should be a constant, {sql: ...}, {generate: uuid}, {from: ...} or "
        "{column: ..., as: [...]}",
    ),
]
"""What a column of a new row is given that belongs to a record."""


class TableName(Part):
    """A table, in a schema or wherever the search path finds it.

    Attributes:
        schema_: The schema; without one, where the search path finds the table.
        name: The table.
    """

    schema_: str | None = Field(default=None, alias="schema")
    name: str = Field(min_length=1)

    def __str__(self) -> str:
        """The name as a mapping file spells it."""
        return f"{self.schema_}.{self.name}" if self.schema_ else self.name


def _table_name(value: object) -> object:
    """Accept `stock_items` and `shop.stock_items`; a name that holds a dot needs the long form."""
    if not isinstance(value, str):
        return value
    schema, dot, name = value.partition(".")
    return {"schema": schema, "name": name} if dot else {"name": value}


Table = Annotated[TableName, BeforeValidator(_table_name)]


def one_or_many(value: object) -> object:
    """Accept a name alone where a list of names may stand."""
    return [value] if isinstance(value, str) else value


def named_column(part: object) -> str | None:
    """The column that a part of a mapping reads, where it names one; standardised or not."""
    if isinstance(part, Standardised):
        return part.column
    return part if isinstance(part, str) else None
