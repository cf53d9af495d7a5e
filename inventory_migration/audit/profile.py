"""The profile of an inventory: how much there is, in what state, what the rules make of it.

The numbers come from the server as aggregates; frames hold them for display, and no stock record
ever travels through one. Whether the numbers are good enough to migrate is for the suite
`audit_profile` to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from inventory_migration.audit import queries
from inventory_migration.audit.queries import ForeignKey
from inventory_migration.catalog import TEXTS, Relation
from inventory_migration.database import escaped, quoted
from inventory_migration.report.markdown import cell, table

if TYPE_CHECKING:
    import pandas as pd

TOP_COMPANIES = 50
"""How many companies a profile lists, those with most records first."""

EXACT_ROWS = 1_000_000
"""Above this size, distinct values are the planner's estimate: counting costs a pass a column."""

_MEASURES = ("records", "units", "reserved", "available")
_DEFECTS = (
    "without_company",
    "of_unknown_company",
    "quantity_missing",
    "not_a_number",
    "negative_quantity",
    "reserved_exceeds_quantity",
    "with_location",
    "at_foreign_location",
)
_TITLES = {
    "outcomes": "Predicted outcomes",
    "companies": f"Companies with most records, at most {TOP_COMPANIES}",
    "duplicates": "Duplicates",
    "columns": "Columns",
    "foreign_keys": "Foreign keys",
}


@dataclass(frozen=True)
class Profile:
    """What an inventory looks like.

    Attributes:
        table: The table that was profiled.
        totals: Counts and exact sums over all records and companies.
        outcomes: Records, units and reserved by predicted outcome and rule.
        companies: The same by company, for those with most records.
        duplicates: Keys, and items of a company, that more than one record has.
        columns: Type, nulls, distinct values, range and type inconsistencies of each column.
        foreign_keys: Rows that refer, and that refer to nothing, for each declared foreign key.
    """

    table: str
    totals: Mapping[str, int | Decimal]
    outcomes: pd.DataFrame
    companies: pd.DataFrame
    duplicates: pd.DataFrame
    columns: pd.DataFrame
    foreign_keys: pd.DataFrame

    def metadata(self) -> dict[str, int | float | str]:
        """Return the figures to keep with a run, flat, with stable names; sums are exact text."""
        outcomes = {
            f"predicted_{outcome}": sum(row["records"] for row in rows)
            for outcome, rows in self._outcomes().items()
        }
        quarantined = {
            f"predicted_quarantined_{row['rule']}": row["records"]
            for row in self._outcomes()["quarantined"]
        }
        copies = dict(zip(self.duplicates["of"], self.duplicates["groups"], strict=True))
        return {
            **{
                name: value if isinstance(value, int) else f"{value:f}"
                for name, value in self.totals.items()
            },
            **outcomes,
            **quarantined,
            "duplicate_keys": int(copies["key"]),
            "duplicate_items": int(copies["company and item"]),
            "null_values": _sum(self.columns["nulls"]),
            "columns_with_type_inconsistencies": sum(map(bool, self.columns["inconsistency"])),
            "foreign_key_orphans": _sum(self.foreign_keys["orphans"]),
        }

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "table": self.table,
            "totals": {name: _plain(value) for name, value in self.totals.items()},
            **{name: _rows(getattr(self, name)) for name in _TITLES},
        }

    def to_markdown(self) -> str:
        """Return everything as Markdown tables."""
        totals = [
            {"figure": name.replace("_", " "), "value": _plain(value)}
            for name, value in self.totals.items()
        ]
        parts = [f"## Profile of {cell(self.table)}", table(totals)]
        for name, title in _TITLES.items():
            parts += [f"### {title}", table(_rows(getattr(self, name)))]
        return "\n\n".join(parts) + "\n"

    def _outcomes(self) -> dict[str, list[dict[str, Any]]]:
        by_outcome: dict[str, list[dict[str, Any]]] = {
            outcome: [] for outcome in ("migrated", "already", "skipped", "quarantined")
        }
        for row in _rows(self.outcomes):
            by_outcome.setdefault(row["outcome"], []).append(row)
        return by_outcome


def profile(
    connection: sa.Connection,
    records_sql: str,
    companies_sql: str,
    source: Relation,
    *,
    net: bool = False,
    exact_rows: int = EXACT_ROWS,
) -> Profile:
    """Profile an inventory, in a handful of statements that only read.

    Args:
        connection: A connection to the application's database.
        records_sql: The SELECT of the canonical relation `records`.
        companies_sql: The SELECT of the canonical relation `companies`.
        source: The table that holds the stock records.
        net: Whether quantities have the reserved units taken off already.
        exact_rows: Up to how many rows distinct values are counted and not estimated.
    """
    found = _all(connection, queries.totals(records_sql, companies_sql, net=net, top=TOP_COMPANIES))
    by_level: dict[str, list[dict[str, Any]]] = {"all": [], "outcome": [], "company": []}
    for row in found:
        by_level[row["level"]].append(row)
    counts = _all(connection, queries.company_counts(companies_sql))[0]
    return Profile(
        table=f"{source.schema}.{source.name}",
        totals={**{name: by_level["all"][0][name] for name in (*_MEASURES, *_DEFECTS)}, **counts},
        outcomes=_frame(by_level["outcome"], ["outcome", "rule", *_MEASURES]),
        companies=_frame(
            by_level["company"],
            ["company_key", "company_name", "default_locations", *_MEASURES],
        ),
        duplicates=_frame(
            _all(connection, queries.duplicates(records_sql, _keys(connection, records_sql))),
            ["of", "groups", "records"],
        ),
        columns=_columns(connection, source, exact_rows),
        foreign_keys=_foreign_keys(connection, source),
    )


def _keys(connection: sa.Connection, records_sql: str) -> list[str]:
    query = f"SELECT * FROM ({records_sql}\n) AS r LIMIT 0"  # noqa: S608 - trusted SQL
    names = connection.execute(sa.text(escaped(query))).keys()
    return [name for name in names if re.fullmatch(r"key_[0-9]+", name)]


def _columns(connection: sa.Connection, source: Relation, exact_rows: int) -> pd.DataFrame:
    found = _all(connection, queries.columns(source))[0]
    records = found["records"]
    exact = records <= exact_rows
    distinct = _distinct(connection, source, records, exact=exact)
    rows = []
    for number, column in enumerate(source.columns.values()):
        filled = found[f"filled_{number}"]
        unique = (column.name,) in source.unique_keys
        values = filled if unique else distinct.get(number)
        numbers, dates = found.get(f"numbers_{number}"), found.get(f"dates_{number}")
        rows.append(
            {
                "column": column.name,
                "type": column.type,
                "nulls": records - filled,
                "distinct": values,
                "distinct_is": "exact" if exact or unique else "estimated",
                "minimum": found.get(f"minimum_{number}"),
                "maximum": found.get(f"maximum_{number}"),
                "inconsistency": _inconsistency(queries.base_type(column), filled, numbers, dates),
            }
        )
    return _frame(rows, list(rows[0]) if rows else [])


def _distinct(
    connection: sa.Connection, source: Relation, records: int, *, exact: bool
) -> dict[int, int]:
    if exact:
        query = queries.distinct_values(source)
        found = _all(connection, query) if query else []
        return {row["number"]: row["values"] for row in found}
    estimates = connection.execute(
        sa.text(queries.ESTIMATED_VALUES),
        {"records": records, "schema": source.schema, "table": source.name},
    )
    numbers = {name: number for number, name in enumerate(source.columns)}
    return {numbers[row.name]: round(row.values) for row in estimates if row.name in numbers}


def _inconsistency(kind: str, filled: int, numbers: int | None, dates: int | None) -> str:
    """What a text column holds that has a type of its own, and in what share of its values."""
    if kind not in TEXTS or not filled:
        return ""
    return ", ".join(
        f"{100 * count / filled:.1f} % {what}"
        for what, count in (("numbers", numbers), ("dates", dates))
        if count
    )


def _foreign_keys(connection: sa.Connection, source: Relation) -> pd.DataFrame:
    keys = [
        ForeignKey(
            name=row.name,
            columns=tuple(row.columns),
            references=quoted(row.schema, row.table),
            referenced_columns=tuple(row.referenced_columns),
            readable=row.readable,
        )
        for row in connection.execute(sa.text(queries.FOREIGN_KEYS), {"oid": source.oid})
    ]
    found = _all(connection, queries.orphans(source, keys)) if keys else []
    counts = {row["number"]: row for row in found}
    rows = [
        {
            "name": key.name,
            "columns": ", ".join(key.columns),
            "references": key.references,
            "rows": counts[number]["rows"],
            "orphans": counts[number]["orphans"],
        }
        for number, key in enumerate(keys)
    ]
    return _frame(rows, ["name", "columns", "references", "rows", "orphans"])


def _all(connection: sa.Connection, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(sa.text(escaped(query))).mappings()]


def _frame(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    # Object columns: pandas would make floats of exact numbers, and of whole ones beside a NULL.
    values = [[row[name] for name in names] for row in rows]
    return pd.DataFrame(values, columns=list(names), dtype=object)


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    names = [str(name) for name in frame.columns]
    return [
        dict(zip(names, map(_plain, values), strict=True))
        for values in frame.itertuples(index=False, name=None)
    ]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value)


def _sum(column: pd.Series[Any]) -> int:
    return sum(int(value) for value in column if value is not None)
