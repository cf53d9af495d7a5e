"""The profile of an inventory: how much there is, in what state, what the rules make of it.

The numbers come from the server as aggregates; frames hold them for display, and no stock record
ever travels through one. Whether the numbers are good enough to migrate is for the suite
`audit_profile` to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from inventory_migration.audit import columns, queries, references
from inventory_migration.audit.columns import EXACT_ROWS, SAMPLE_ROWS, TableProfile
from inventory_migration.audit.frames import fetched, frame, plain, rows, total
from inventory_migration.audit.involved import Involved
from inventory_migration.audit.references import Reference
from inventory_migration.catalog import Derived
from inventory_migration.database import escaped
from inventory_migration.engine.copies import copies
from inventory_migration.proposal.survey import survey
from inventory_migration.report.markdown import cell, table

if TYPE_CHECKING:
    import pandas as pd

TOP_COMPANIES = 50
"""How many companies a run's profile lists, those with most records first."""

MOST_COMPANIES = 200
"""How many the profile of an audit lists."""

_COPIES = "company and item"
_MEASURES = ("records", "units", "reserved", "available")
_OF_COMPANY = ("quantity_missing", "negative_quantity", "reserved_exceeds_quantity")
_DEFECTS = (
    "without_company",
    "of_unknown_company",
    "quantity_missing",
    "not_a_number",
    "negative_quantity",
    "fractional_quantity",
    "reserved_exceeds_quantity",
    "with_location",
    "at_foreign_location",
)
_TITLES = {
    "outcomes": "Predicted outcomes",
    "companies": "Companies with most records",
    "duplicates": "Duplicates",
    "references": "References",
}


@dataclass(frozen=True)
class Profile:
    """What an inventory looks like.

    Attributes:
        totals: Counts and exact sums over all records and companies.
        outcomes: Records, units and reserved by predicted outcome and rule.
        companies: The same by company, for those with most records.
        duplicates: Keys, and items of a company, that more than one record has.
        references: Rows that refer, and that refer to nothing, for each foreign key, and for
            each column that refers by its name alone where those were looked for.
        tables: The columns of each table, the stock records first.
        along: The further counts that came along, by their SQL.
    """

    totals: Mapping[str, int | Decimal]
    outcomes: pd.DataFrame
    companies: pd.DataFrame
    duplicates: pd.DataFrame
    references: pd.DataFrame
    tables: tuple[TableProfile, ...]
    along: Mapping[str, int] = field(default_factory=dict)

    @property
    def companies_left_out(self) -> int:
        """How many companies with records are not listed."""
        listed = sum(key is not None for key in self.companies["company_key"])
        stocked = int(self.totals["companies"]) - int(self.totals["companies_without_stock"])
        return max(0, stocked - listed)

    @property
    def copies(self) -> int:
        """How many items a company has in more than one record."""
        groups = dict(zip(self.duplicates["of"], self.duplicates["groups"], strict=True))
        return int(groups[_COPIES])

    @property
    def source(self) -> TableProfile:
        """The table that holds the stock records."""
        return self.tables[0]

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
        groups = dict(zip(self.duplicates["of"], self.duplicates["groups"], strict=True))
        return {
            **{
                name: value if isinstance(value, int) else f"{value:f}"
                for name, value in self.totals.items()
            },
            **outcomes,
            **quarantined,
            "duplicate_keys": int(groups["key"]),
            "duplicate_items": self.copies,
            "null_values": total(self.source.columns["nulls"]),
            "columns_with_type_inconsistencies": sum(
                map(bool, self.source.columns["inconsistency"])
            ),
            "foreign_key_orphans": sum(
                row["orphans"] or 0
                for row in rows(self.references)
                if row["known_by"] == references.DECLARED
            ),
        }

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "totals": {name: plain(value) for name, value in self.totals.items()},
            **{name: rows(getattr(self, name)) for name in _TITLES},
            "tables": [one.to_json() for one in self.tables],
        }

    def to_markdown(self) -> str:
        """Return everything as Markdown tables."""
        parts = [f"## Profile of {cell(self.source.table)}", table(self.figures())]
        for title, found in self.sections().items():
            parts += [f"### {title}", table(found)]
            if title == _TITLES["companies"] and self.companies_left_out:
                parts.append(f"{self.companies_left_out:,} companies more are not listed.")
        for one in self.tables:
            parts += [f"### {cell(one.title)}", one.basis, *map(table, one.sections().values())]
        return "\n\n".join(parts) + "\n"

    def figures(self) -> list[dict[str, Any]]:
        """Return the totals as rows for reading."""
        return [
            {"figure": name.replace("_", " "), "value": plain(value)}
            for name, value in self.totals.items()
        ]

    def sections(self) -> dict[str, list[dict[str, Any]]]:
        """Return tables for reading, but for the columns: title to rows, by column title."""
        return {
            title: [
                {column.replace("_", " "): value for column, value in row.items()}
                for row in rows(getattr(self, name))
            ]
            for name, title in _TITLES.items()
        }

    def _outcomes(self) -> dict[str, list[dict[str, Any]]]:
        by_outcome: dict[str, list[dict[str, Any]]] = {
            outcome: [] for outcome in ("migrated", "already", "skipped", "quarantined")
        }
        for row in rows(self.outcomes):
            by_outcome.setdefault(row["outcome"], []).append(row)
        return by_outcome


def profile(
    connection: sa.Connection,
    records_sql: str,
    companies_sql: str,
    tables: Sequence[Involved],
    *,
    net: bool = False,
    live_sql: str | None = None,
    keys_are_unique: bool = False,
    along: Sequence[str] = (),
    detailed: bool = False,
    exact_rows: int = EXACT_ROWS,
    sample_rows: int = SAMPLE_ROWS,
) -> Profile:
    """Profile an inventory, in a handful of statements for each table that only read.

    Args:
        connection: A connection to the application's database.
        records_sql: The SELECT of the canonical relation `records`.
        companies_sql: The SELECT of the canonical relation `companies`.
        tables: The tables to describe, that of the stock records first.
        net: Whether quantities have the reserved units taken off already.
        live_sql: The SELECT of the records that are not skipped, where there is one that asks for
            less than `records_sql`.
        keys_are_unique: Whether the server itself keeps two records from having one key.
        along: Further counts over all records `r`, each as SQL, for whoever needs them later.
        detailed: Whether to look at values, and for references that no foreign key declares,
            which costs several times as much; what a run keeps with its first step does without.
        exact_rows: Up to how many rows distinct values are counted and not estimated.
        sample_rows: Up to how many rows of a table all are looked at in detail.
    """
    top = MOST_COMPANIES if detailed else TOP_COMPANIES
    found, along = _totals(connection, records_sql, companies_sql, net=net, top=top, along=along)
    [whole] = [row for row in found if row["level"] == "all"]
    counts = fetched(connection, queries.company_counts(companies_sql))[0]
    referring = _references(connection, tables, detailed=detailed)
    return Profile(
        totals={**{name: whole[name] for name in (*_MEASURES, *_DEFECTS)}, **counts},
        outcomes=frame(
            _outcomes(connection, records_sql, whole, net=net), ["outcome", "rule", *_MEASURES]
        ),
        companies=frame(
            [row for row in found if row["level"] == "company"],
            ["company_key", "company_name", "default_locations", *_MEASURES, *_OF_COMPANY],
        ),
        duplicates=frame(
            _duplicates(
                connection,
                records_sql,
                live_sql or queries.live(records_sql),
                keys_are_unique=keys_are_unique,
            ),
            ["of", "groups", "records"],
        ),
        references=frame(
            [one.row() for one in references.counted(connection, referring)],
            ["name", "table", "columns", "references", "known_by", "rows", "orphans"],
        ),
        tables=tuple(
            columns.describe(
                connection,
                one.relation,
                one.roles,
                identifying=[
                    name
                    for reference in referring
                    if reference.table == (one.relation.schema, one.relation.name)
                    for name in reference.columns
                ],
                detailed=detailed,
                exact_rows=exact_rows,
                sample_rows=sample_rows,
            )
            for one in tables
        ),
        along={sql: whole[f"along_{number}"] for number, sql in enumerate(along)},
    )


def _outcomes(
    connection: sa.Connection, records_sql: str, whole: Mapping[str, Any], *, net: bool
) -> list[dict[str, Any]]:
    """What is simply to be migrated, and all else by outcome and rule, where there is any."""
    plain = {name: whole[f"plain_{name}"] for name in _MEASURES}
    found = [{"outcome": "migrated", "rule": None, **plain}] if plain["records"] else []
    if plain["records"] < whole["records"]:
        found += fetched(connection, queries.put_aside(records_sql, net=net))
    return sorted(found, key=lambda row: (-row["records"], row["outcome"], row["rule"] or ""))


def _totals(
    connection: sa.Connection,
    records_sql: str,
    companies_sql: str,
    *,
    net: bool,
    top: int,
    along: Sequence[str],
) -> tuple[list[dict[str, Any]], Sequence[str]]:
    """The rows of `queries.totals`, and what came along: nothing where the server refuses it."""
    if along:
        query = queries.totals(records_sql, companies_sql, net=net, top=top, along=along)
        try:
            with connection.begin_nested():
                return fetched(connection, query), along
        except (sa.exc.DataError, sa.exc.NotSupportedError, sa.exc.ProgrammingError):
            # Whose condition it is that cannot be asked, says the gate that it belongs to.
            pass
    return fetched(connection, queries.totals(records_sql, companies_sql, net=net, top=top)), ()


def _references(
    connection: sa.Connection, tables: Sequence[Involved], *, detailed: bool
) -> list[Reference]:
    """The references to count: of the stock records; in detail, all of all tables."""
    relations = {
        one.relation.oid: one.relation for one in tables if not isinstance(one.relation, Derived)
    }
    if not detailed:
        return references.declared(connection, [tables[0].relation.oid])
    return [
        *references.declared(connection, list(relations), inward=True),
        *references.named(survey(connection), relations),
    ]


def _duplicates(
    connection: sa.Connection, records_sql: str, live_sql: str, *, keys_are_unique: bool
) -> list[dict[str, Any]]:
    """Keys and items that several records have; looked for only where there may be such."""
    found = {of: {"of": of, "groups": 0, "records": 0} for of in ("key", _COPIES)}
    if not keys_are_unique:
        query = queries.repeated_keys(records_sql, _keys(connection, records_sql))
        [found["key"]] = fetched(connection, query)
    found[_COPIES] |= copies(connection, live_sql)._asdict()
    return list(found.values())


def _keys(connection: sa.Connection, records_sql: str) -> list[str]:
    query = f"SELECT * FROM ({records_sql}\n) AS r LIMIT 0"  # noqa: S608 - trusted SQL
    names = connection.execute(sa.text(escaped(query))).keys()
    return [name for name in names if re.fullmatch(r"key_[0-9]+", name)]
