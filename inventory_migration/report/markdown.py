"""Text and tables as Markdown, in which nothing that comes from a database is markup."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from inventory_migration.report.text import printable

LONGEST = 200
"""Longer values are cut: a table is for reading."""


def cell(value: object, longest: int = LONGEST) -> str:
    """A value as it stands in Markdown: one line, in which nothing is markup."""
    text = printable(value)
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    return re.sub(r"([\\`*_|<>\[\]&~$#])", r"\\\1", text)


def table(rows: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> str:
    """Rows as a table; names are column titles, by default those of the first row."""
    if not rows:
        return "None."
    names = list(names or rows[0])
    lines = [
        " | ".join(cell(name) for name in names),
        " | ".join("---" for _ in names),
        *(" | ".join(cell(row.get(name)) for name in names) for row in rows),
    ]
    return "\n".join(f"| {line} |" for line in lines)


def code(sql: str) -> str:
    """A statement as a block, which nothing within it can end."""
    fence = "```"
    while fence in sql:
        fence += "`"
    return f"{fence}sql\n{sql.strip()}\n{fence}"
