"""What was counted of columns, put into words: the same tables in every document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inventory_migration.audit.column_queries import QUANTILES

Row = dict[str, Any]


def told(
    columns: Sequence[Mapping[str, Any]], details: Sequence[Mapping[str, Any]]
) -> dict[str, list[Row]]:
    """Tables for reading: title to rows; those with nothing to say are left out.

    Args:
        columns: The rows of `TableProfile.columns`.
        details: Those of `TableProfile.details`.
    """
    found = {
        "Columns": [_column(row) for row in columns],
        "Numbers and moments": [_amounts(row) for row in details if row["p50"] is not None],
        "Texts": [_texts(row) for row in details if row["shapes"]],
        "Most frequent values": [
            {"column": row["column"], "values": _counted(row["most_frequent"])}
            for row in details
            # Where every value is there once, none is more frequent than another.
            if row["most_frequent"] and row["most_frequent"][0][1] > 1
        ],
    }
    return {title: rows for title, rows in found.items() if rows}


def _column(row: Mapping[str, Any]) -> Row:
    about = "≈ " if row["distinct_is"] == "estimated" and row["distinct"] is not None else ""
    lengths = "" if row["shortest"] is None else f"{row['shortest']} to {row['longest']}"
    hidden = {"hidden": "values are not shown", "not readable": "this role may not read it"}
    remarks = [
        hidden.get(row["shown"]),
        row["inconsistency"],
        f"{row['blank']:,} blank" if row["blank"] else None,
        f"{row['negative']:,} negative" if row["negative"] else None,
    ]
    return {
        "column": row["column"],
        "type": row["type"],
        "nulls": _number(row["nulls"]),
        "distinct": about + _number(row["distinct"]),
        "smallest": row["minimum"],
        "largest": row["maximum"],
        "length": lengths,
        "remarks": "; ".join(filter(None, remarks)),
    }


def _amounts(row: Mapping[str, Any]) -> Row:
    outliers = _number(row["outliers"])
    if row["outlying"]:
        outliers += f": {', '.join(row['outlying'])}"
    return {
        "column": row["column"],
        **{f"{share} %": row[f"p{share}"] for share in QUANTILES},
        "fractional": _number(row["fractional"]),
        "outliers": outliers,
    }


def _texts(row: Mapping[str, Any]) -> Row:
    examples = "; ".join(
        " = ".join(f'"{_spaced(text)}"' for text in one) for one in row["variant_examples"]
    )
    variants = f"{_number(row['variants'])} of {_number(row['variant_records'])} rows: {examples}"
    return {
        "column": row["column"],
        "shapes": f"{_number(row['shapes'])}: {_counted(row['shape_examples'])}",
        "spellings of the same": variants if row["variants"] else "none",
        "spaces at the ends": _number(row["spaced"]),
    }


def _counted(pairs: Sequence[Sequence[Any]]) -> str:
    return ", ".join(f"{_spaced(value)} ({count:,})" for value, count in pairs)


def _spaced(text: str) -> str:
    """A text whose first and last spaces are seen."""
    inner = text.strip()
    if not inner:
        return "\N{OPEN BOX}" * len(text)
    before, after = text[: text.index(inner)], text[text.index(inner) + len(inner) :]
    return "\N{OPEN BOX}" * len(before) + inner + "\N{OPEN BOX}" * len(after)


def _number(value: Any) -> str:
    return "" if value is None else f"{int(value):,}"
