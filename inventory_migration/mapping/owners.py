"""Whose stock is, in a mapping: the companies, and how a record says which of them it belongs to.

What the SQL of it is, is said in `engine/`; whose a *location* is, is said in `places.py`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from inventory_migration.mapping.parts import ColumnOrExpression, Part, Table


class Company(Part):
    """Who owns stock: a table with a key and a name.

    Attributes:
        table: Which table.
        key: Its key.
        name: The column that names a company.
    """

    table: Table
    key: str
    name: str

    def __str__(self) -> str:
        """The table."""
        return str(self.table)


class CompanyQuery(Part):
    """Who owns stock where no table says so: a SELECT with a row for each company.

    Attributes:
        sql: The SELECT.
        key: Its column that tells companies apart.
        name: Its column that names them.
    """

    sql: str = Field(min_length=1)
    key: str = "key"
    name: str = "name"

    def __str__(self) -> str:
        """What it is called where a table would be."""
        return "company.sql"


def _company_form(value: object) -> str:
    """Which form of a company is meant, so that a mistake in it is told once."""
    query = "sql" in value if isinstance(value, dict) else isinstance(value, CompanyQuery)
    return "CompanyQuery" if query else "Company"


Companies = Annotated[
    Annotated[Company, Tag("Company")] | Annotated[CompanyQuery, Tag("CompanyQuery")],
    Discriminator(_company_form),
]


class LinkTable(Part):
    """A table that says whom a record belongs to.

    Attributes:
        table: Which.
        record: Its columns that name the record, each with the record's own column.
        company: Its column that names the company.
    """

    table: Table
    record: dict[str, str] = Field(min_length=1)
    company: str


class Through(Part):
    """The company of a record as another table has it, which may have none, or several.

    Attributes:
        through: Which table says it.
    """

    through: LinkTable


def _owner_form(value: object) -> str:
    """Whether the record says whom it belongs to, or another table."""
    linked = "through" in value if isinstance(value, dict) else isinstance(value, Through)
    return "Through" if linked else "OfTheRecord"


CompanyOfRecord = Annotated[
    Annotated[ColumnOrExpression, Tag("OfTheRecord")] | Annotated[Through, Tag("Through")],
    Discriminator(_owner_form),
]
