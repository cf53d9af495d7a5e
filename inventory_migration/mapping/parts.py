"""What the parts of a mapping are made of: names, constants, expressions, generated values.

The parts themselves are in `model.py` and `targets.py`; how a value reads as SQL is said in
`catalog/resolved.py`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

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
)

MARKER = "SYSTEM_MIGRATION"

# Strict, so that 1.0 stays a number and does not become true.
Scalar = StrictBool | StrictInt | Annotated[Decimal, Field(allow_inf_nan=False)] | StrictStr | None
Action = Literal["quarantine", "warn", "fail"]


class Part(BaseModel):
    """Base of all parts: an unknown key is a mistake, and a mapping does not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Expression(Part):
    """An SQL expression over the alias `s` of the source table, trusted like code."""

    sql: str = Field(min_length=1)


class Generated(Part):
    """A key that nobody else has: a uuid, or text that begins with a prefix."""

    generate: Literal["uuid"]
    prefix: str | None = None


class Canonical(Part):
    """A value of the record, by its canonical name, whatever the application calls it."""

    from_: Literal[
        "company", "item", "quantity", "on_hand", "reserved", "available", "location"
    ] = Field(alias="from")


def _is_expression(value: object) -> str | None:
    """Whether a column or an expression is meant."""
    if isinstance(value, dict | Expression):
        return "Expression"
    return "Column" if isinstance(value, str) else None


ColumnOrExpression = Annotated[
    Annotated[str, Tag("Column")] | Annotated[Expression, Tag("Expression")],
    Discriminator(
        _is_expression,
        custom_error_type="column_form",
        custom_error_message="should be a column or {sql: ...}",
    ),
]
ValueOrExpression = Scalar | Expression


def _form(value: object) -> str | None:
    """Which form of a value is meant, so that a mistake in it is told once."""
    if isinstance(value, Part):
        return type(value).__name__
    if isinstance(value, dict):
        forms = {"sql": "Expression", "generate": "Generated", "from": "Canonical"}
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

RecordValue = Annotated[
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
"""What a column of a new row is given that belongs to a record or a location."""


class TableName(Part):
    """A table, in a schema or wherever the search path finds it."""

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
