"""Filling the placeholders of a suite's SQL.

A query in a suite names relations, `{companies}` or `{batch}`, the key columns, `{keys}`, and
numbers, `{$expected_rows}`. What comes out is plain SQL, and how it reaches the server is decided
in `session.py`. Nothing in this module needs Great Expectations or a connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import pairwise
from string import Formatter

_ALIAS = re.compile(r"\s+AS\s+[A-Za-z_]\w*", re.IGNORECASE)


def placeholders(query: str) -> list[str]:
    """Return the names of a query's placeholders, in order.

    Raises:
        ValueError: A brace has no partner, or a placeholder is more than a name; says which.
    """
    return [field for _, field in _parts(query) if field is not None]


def without_alias(query: str, relations: set[str]) -> list[str]:
    """Return the relations that a query does not name with AS, as PostgreSQL 14 and 15 demand."""
    parts = [*_parts(query), ("", None)]
    return [
        field
        for (_, field), (following, _) in pairwise(parts)
        if field in relations and not _ALIAS.match(following)
    ]


def fill(query: str, values: Mapping[str, str]) -> str:
    """Return plain SQL: every placeholder replaced, doubled braces single.

    Values are inserted as they are and not read again, so that braces in them mean nothing.
    """
    return "".join(
        literal + (values[field] if field is not None else "") for literal, field in _parts(query)
    )


def subquery(select: str) -> str:
    """Return a SELECT as it stands in FROM; the line break ends a comment at its end."""
    return f"({select.strip().rstrip(';')}\n)"


def number(value: object) -> str | None:
    """Return a parameter as SQL, or None where it is not a number: nothing else is ever inlined."""
    if isinstance(value, float):
        value = Decimal(str(value))
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    return str(value) if isinstance(value, int) else f"{value:f}" if value.is_finite() else None


def _parts(query: str) -> Iterator[tuple[str, str | None]]:
    for literal, field, spec, conversion in Formatter().parse(query):
        if field is not None and (spec or conversion or not re.fullmatch(r"\$?\w+", field)):
            raise ValueError(f"{{{field}}} is no placeholder; double the braces if they are meant")
        yield literal, field
