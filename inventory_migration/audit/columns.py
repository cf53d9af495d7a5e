"""The columns of a table as a frame: what is in each, counted over all rows or over a sample.

Every number is an aggregate of the server's. Values of columns that hold secrets or tell of a
person are not asked for, let alone kept; see `hidden.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from inventory_migration.audit import column_queries as queries
from inventory_migration.audit.column_queries import Asked, Kind
from inventory_migration.audit.column_text import told
from inventory_migration.audit.frames import fetched, frame, rows
from inventory_migration.audit.hidden import ADDRESSES, hides
from inventory_migration.catalog import (
    FLOATS,
    INTEGERS,
    TEXTS,
    Column,
    Derived,
    Relation,
    base_type,
)

if TYPE_CHECKING:
    import pandas as pd

EXACT_ROWS = 1_000_000
"""Above this size, distinct values are the planner's estimate: counting costs a pass a column."""

SAMPLE_ROWS = 100_000
"""About how many rows of a larger table are looked at in detail."""

BLOCKS_ABOVE = 5_000_000
"""Above this size a sample is of whole blocks: reading each row for it would take too long."""

_SEED: Final = 7
_TIMES: Final = {f"time {zone} time zone" for zone in ("with", "without")}
_MOMENTS: Final = {"date"} | {f"timestamp {zone} time zone" for zone in ("with", "without")}


@dataclass(frozen=True)
class TableProfile:
    """What the rows and columns of a table look like.

    Attributes:
        table: The table's name.
        roles: What it is to the mapping.
        records: How many rows it has; None where the role may not read any of it.
        looked_at: How many rows the details rest on; None where there are no details.
        columns: A row for each column, over all rows.
        details: The same for values, shapes, quantiles and outliers, of the rows looked at.
    """

    table: str
    roles: tuple[str, ...]
    records: int | None
    looked_at: int | None
    columns: pd.DataFrame
    details: pd.DataFrame

    @property
    def is_sampled(self) -> bool:
        """Whether details were estimated from a part of the rows."""
        return self.looked_at is not None and self.looked_at < (self.records or 0)

    @property
    def title(self) -> str:
        """The table and what it is, as a heading."""
        return f"Columns of {self.table} ({', '.join(self.roles)})"

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "table": self.table,
            "roles": list(self.roles),
            "records": self.records,
            "looked_at": self.looked_at,
            "sampled": self.is_sampled,
            "columns": rows(self.columns),
            "details": rows(self.details),
        }

    def sections(self) -> dict[str, list[dict[str, Any]]]:
        """Return tables for reading: title to rows, each by column title; empty ones left out."""
        return told(rows(self.columns), rows(self.details))

    @property
    def basis(self) -> str:
        """What the figures rest on, in a sentence."""
        if self.records is None:
            return "Not read: this role may not."
        if self.looked_at is None:
            return f"{self.records:,} rows."
        if self.is_sampled:
            return (
                f"{self.records:,} rows. Distinct values, quantiles, outliers, shapes, variants "
                f"and most frequent values are estimated from {self.looked_at:,} of them."
            )
        return f"{self.records:,} rows, all of them looked at."


@dataclass(frozen=True)
class _Fact:
    """What the catalog says of a column beside its type."""

    base: str
    category: str
    readable: bool
    estimate: float | None


def describe(
    connection: sa.Connection,
    relation: Relation,
    roles: Sequence[str],
    *,
    identifying: Sequence[str] = (),
    detailed: bool = False,
    exact_rows: int = EXACT_ROWS,
    sample_rows: int = SAMPLE_ROWS,
) -> TableProfile:
    """Describe the columns of a table.

    Args:
        connection: A connection; only read from.
        relation: The table, or what stands for one.
        roles: What it is to the mapping.
        identifying: Columns that refer to other tables, whose values are no amounts.
        detailed: Whether values are looked at beyond their range; costs a sample's reading.
        exact_rows: Up to how many rows distinct values are counted and not estimated.
        sample_rows: Up to how many rows all are looked at in detail.
    """
    facts = _facts(connection, relation)
    keys = {key[0] for key in relation.unique_keys if len(key) == 1}
    asked = [
        Asked(
            number=number,
            name=column.name,
            kind=_kind(column, facts.get(column.name)),
            hidden=hides(relation.name, column.name) or column.base_type == "bytea",
            identifies=column.name in keys or column.name in identifying,
        )
        for number, column in enumerate(relation.columns.values())
        if column.name not in facts or facts[column.name].readable
    ]
    name = relation.full_name
    if not asked and relation.columns:
        return TableProfile(
            name, tuple(roles), None, None, frame([], _COLUMNS), frame([], _DETAILS)
        )
    found = fetched(connection, queries.overview(relation.sql, asked))[0]
    asked = [_hidden(column, found) for column in asked]
    records = found["records"]
    detail: dict[int, dict[str, Any]] = {}
    looked_at = None
    if detailed:
        sampled = _rows(relation, records, sample_rows)
        query = queries.details(sampled, asked)
        looked = fetched(connection, query) if query else []
        detail = {row["number"]: row for row in looked}
        looked_at = looked[0]["looked_at"] if looked else None
    whole = looked_at == records
    distinct = (
        {number: row["values"] for number, row in detail.items()}
        if whole
        else _distinct(connection, relation, asked, facts, records, exact_rows)
    )
    counted = whole or records <= exact_rows
    by_name = {column.name: column for column in asked}
    return TableProfile(
        table=name,
        roles=tuple(roles),
        records=records,
        looked_at=looked_at,
        columns=frame(
            [
                _row(column, by_name.get(column.name), found, distinct, keys, counted=counted)
                for column in relation.columns.values()
            ],
            _COLUMNS,
        ),
        details=frame(
            [_details(column, detail[column.number]) for column in asked
             if column.number in detail],
            _DETAILS,
        ),
    )  # fmt: skip


_COLUMNS: Final = (
    "column", "type", "shown", "nulls", "distinct", "distinct_is", "minimum", "maximum",
    "shortest", "longest", "blank", "negative", "inconsistency",
)  # fmt: skip
_DETAILS: Final = (
    "column", *(f"p{share}" for share in queries.QUANTILES), "fractional", "outliers",
    "outlying", "shapes", "shape_examples", "variants", "variant_records", "spaced",
    "variant_examples", "most_frequent",
)  # fmt: skip


def _row(
    column: Column,
    asked: Asked | None,
    found: Mapping[str, Any],
    distinct: Mapping[int, int],
    keys: set[str],
    *,
    counted: bool,
) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(_COLUMNS)
    row |= {"column": column.name, "type": column.type, "inconsistency": ""}
    if asked is None:
        return {**row, "shown": "not readable", "distinct_is": ""}
    number = asked.number
    filled = found[f"filled_{number}"]
    unique = column.name in keys
    ranges = () if asked.hidden else ("minimum", "maximum")
    return {
        **row,
        "shown": "hidden" if asked.hidden else "shown",
        "nulls": found["records"] - filled,
        "distinct": filled if unique else distinct.get(number),
        "distinct_is": "exact" if counted or unique else "estimated",
        **{name: found.get(f"{name}_{number}")
           for name in (*ranges, "shortest", "longest", "blank", "negative")},
        "inconsistency": _inconsistency(asked, filled, found),
    }  # fmt: skip


def _details(column: Asked, found: Mapping[str, Any]) -> dict[str, Any]:
    quantiles = found["quantiles"] or [None] * len(queries.QUANTILES)
    outliers, shapes, variants = (found[name] or {} for name in ("outliers", "shapes", "variants"))
    return {
        "column": column.name,
        **{f"p{share}": value for share, value in zip(queries.QUANTILES, quantiles, strict=True)},
        "fractional": found["fractional"],
        "outliers": outliers.get("records"),
        "outlying": outliers.get("examples"),
        "shapes": shapes.get("shapes"),
        "shape_examples": shapes.get("top"),
        "variants": variants.get("groups"),
        "variant_records": variants.get("records"),
        "spaced": variants.get("spaced"),
        "variant_examples": variants.get("examples"),
        "most_frequent": found["top"],
    }


def _hidden(column: Asked, found: Mapping[str, Any]) -> Asked:
    """A column as it is to be looked at further: one that holds addresses shows nothing."""
    filled, addresses = found[f"filled_{column.number}"], found.get(f"addresses_{column.number}")
    if addresses and addresses >= ADDRESSES * filled:
        return Asked(column.number, column.name, column.kind, hidden=True,
                     identifies=column.identifies)  # fmt: skip
    return column


def _kind(column: Column, fact: _Fact | None) -> Kind:
    base = fact.base if fact else column.base_type
    category = fact.category if fact else ""
    for kind, fits in (
        (Kind.TEXT, base in TEXTS or category == "S"),
        (Kind.LABEL, category == "E"),
        (Kind.NUMBER, base in INTEGERS | FLOATS | {"numeric", "money"}),
        (Kind.MOMENT, base in _MOMENTS),
        (Kind.ORDERED, base in _TIMES | {"interval"}),
        (Kind.PLAIN, base in {"boolean", "uuid", "bytea"}),
    ):
        if fits:
            return kind
    return Kind.OPAQUE


def _rows(relation: Relation, records: int, sample_rows: int) -> str:
    """What details are read from: the table, or a sample that is the same for the same table."""
    if records <= sample_rows or isinstance(relation, Derived):
        return f"{relation.sql} AS s"
    method = "SYSTEM" if records > BLOCKS_ABOVE else "BERNOULLI"
    percent = f"{100 * sample_rows / records:.6f}"
    return f"{relation.sql} AS s TABLESAMPLE {method} ({percent}) REPEATABLE ({_SEED})"


def _distinct(
    connection: sa.Connection,
    relation: Relation,
    asked: Sequence[Asked],
    facts: Mapping[str, _Fact],
    records: int,
    exact_rows: int,
) -> dict[int, int]:
    keys = {key[0] for key in relation.unique_keys if len(key) == 1}
    if records <= exact_rows:
        query = queries.distinct_values(
            relation.sql, [column for column in asked if column.name not in keys]
        )
        found = fetched(connection, query) if query else []
        return {row["number"]: row["values"] for row in found}
    estimates = {name: fact.estimate for name, fact in facts.items()}
    return {
        column.number: round(-estimate * records if estimate < 0 else estimate)
        for column in asked
        if (estimate := estimates.get(column.name)) is not None
    }


def _inconsistency(asked: Asked, filled: int, found: Mapping[str, Any]) -> str:
    """What a text column holds that has a type of its own, and in what share of its values."""
    if asked.kind != Kind.TEXT or not filled:
        return ""
    return ", ".join(
        f"{100 * count / filled:.1f} % {what}"
        for what in ("numbers", "dates")
        if (count := found[f"{what}_{asked.number}"])
    )


def _facts(connection: sa.Connection, relation: Relation) -> dict[str, _Fact]:
    if isinstance(relation, Derived):
        return {}
    found = connection.execute(
        _FACTS, {"oid": relation.oid, "schema": relation.schema, "table": relation.name}
    )
    return {
        row.name: _Fact(base_type(row.base), row.category, row.readable, row.estimate)
        for row in found
    }


_FACTS = sa.text("""
    SELECT a.attname AS name,
           format_type(COALESCE(NULLIF(t.typbasetype, 0), t.oid), NULL) AS base,
           t.typcategory::text AS category,
           has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable,
           s.n_distinct AS estimate
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_stats s
      ON s.schemaname = :schema AND s.tablename = :table AND s.attname = a.attname
    WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped
""")
