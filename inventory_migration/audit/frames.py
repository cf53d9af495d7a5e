"""Frames of what a server counted, and their rows as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from inventory_migration.database import escaped

if TYPE_CHECKING:
    import pandas as pd


def fetched(connection: sa.Connection, query: str) -> list[dict[str, Any]]:
    """What a server answers to a query without parameters, a row each."""
    return [dict(row) for row in connection.execute(sa.text(escaped(query))).mappings()]


def frame(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    """Rows as a frame; every value stays what it is."""
    import pandas as pd

    # Object columns: pandas would make floats of exact numbers, and of whole ones beside a NULL.
    values = [[row[name] for name in names] for row in rows]
    return pd.DataFrame(values, columns=list(names), dtype=object)


def rows(found: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, as plain JSON values."""
    names = [str(name) for name in found.columns]
    return [
        dict(zip(names, map(plain, values), strict=True))
        for values in found.itertuples(index=False, name=None)
    ]


def plain(value: Any) -> Any:
    """A value as JSON has it; a number that is not whole as its exact text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value)


def total(column: pd.Series[Any]) -> int:
    """The sum of a column's counts; what was not counted counts as nothing."""
    return sum(int(value) for value in column if value is not None)
