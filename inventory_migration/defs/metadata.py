"""What steps found, as Dagster shows it: numbers to plot over time, columns, tables, Markdown.

The same number has the same name wherever it appears. Only presentation belongs here; every number
comes from the ledger or from the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import dagster as dg

from inventory_migration.audit import findings
from inventory_migration.catalog import Relation, ResolvedMapping
from inventory_migration.engine.summary import OUTCOMES
from inventory_migration.mapping import StockMapping, named_column
from inventory_migration.quality.verdict import ExpectationVerdict, Verdict
from inventory_migration.report.markdown import code

Metadata = dict[str, Any]

LONGEST = 30_000
"""How long a page of Markdown may be, in characters, before it is cut."""

_EXACT = 2**53
"""Above this, the UI's numbers would no longer be exact."""


ROWS = {outcome: f"rows_{outcome}" for outcome in OUTCOMES} | {"quarantined": "quarantined"}
"""What the count of an outcome is called, wherever it is plotted."""

FIGURES = {
    "rows_total": "stock records of the migration",
    "records_done": "stock records that have an outcome",
    **{name: f"stock records that are {outcome}" for outcome, name in ROWS.items()},
    "records_undone": "stock records that a rollback has taken back",
    "percent": "how much of a migration, or of its rollback, is done; 100 once it is proved",
    "records_per_second": "stock records that are moved, of late; of a step that ended, on average",
    "eta_seconds": "how long it may take until it is proved; `_low` and `_high` how long at least "
    "and at most",
    "workers": "transactions that work on the migration, wherever",
    "failed_attempts": "attempts at chunks that failed, and were made again",
    "units_difference": "units that chunks wrote more than they read: always 0",
    "reserved_difference": "the same for reserved units",
    "active_seconds": "how long somebody has worked on the migration",
    "elapsed_seconds": "how long the step has taken so far, or took",
    **{
        f"{measure}_{moment}": f"{what}, {when}"
        for measure, what in (
            ("units", "units of all stock records"),
            ("reserved", "units that are reserved"),
            ("available", "units that can be promised"),
        )
        for moment, when in (("before", "as the snapshot has them"), ("after", "afterwards"))
    },
    "records": "stock records when somebody monitored",
    "units": "units then",
    "reserved": "units that are reserved then",
    "available": "units that can be promised then",
    "put_aside": "stock records that are skipped or in quarantine then",
    "locations": "locations then",
    "companies": "companies then",
    "findings": "rows that are not as they should be",
    "drift_records": "stock records that came or went since the look that is compared with",
    "drift_units": "units that did",
    "drift_reserved": "reserved units that did",
    "drift_records_percent": "the same in percent of what there was",
    "drift_units_percent": "the same for units",
    "drift_reserved_percent": "the same for reserved units",
}
"""What is plotted, and what each figure counts."""


def of_summary(summary: Mapping[str, Any]) -> Metadata:
    """What a migration did so far: records by outcome, units, reserved and available."""
    found: Metadata = {}
    if summary["migration_id"] is not None:
        found["migration_id"] = dg.MetadataValue.int(summary["migration_id"])
        found["state"] = dg.MetadataValue.text(summary["state"])
    found["rows_total"] = dg.MetadataValue.int(summary["records"]["snapshot"])
    for outcome in OUTCOMES:
        found[ROWS[outcome]] = dg.MetadataValue.int(summary["records"][outcome])
    for measure in ("units", "reserved", "available"):
        for moment in ("before", "after"):
            found[f"{measure}_{moment}"] = number(summary[measure][moment])
    found["summary"] = dg.MetadataValue.md(summary_markdown(summary))
    return found


def summary_markdown(summary: Mapping[str, Any]) -> str:
    """A migration's figures as a Markdown table."""
    if summary["migration_id"] is None:
        return "Nothing has been migrated."
    lines = [
        f"Migration {summary['migration_id']} is **{summary['state'].replace('_', ' ')}**"
        + (f": {summary['reason']}" if summary["reason"] else "")
        + ("." if summary["changed"] else "; this step had nothing to do."),
        "",
        "| | before | after |",
        "| --- | ---: | ---: |",
        *(
            f"| {measure} | {summary[measure]['before']} | {summary[measure]['after']} |"
            for measure in ("units", "reserved", "available")
        ),
        "",
        "| outcome | records |",
        "| --- | ---: |",
        *(f"| {outcome} | {summary['records'][outcome]} |" for outcome in OUTCOMES),
        f"| **snapshot** | {summary['records']['snapshot']} |",
    ]
    for title, counts in (
        ("Quarantined, by rule", summary["quarantined"]),
        ("Warnings, by rule", summary["warnings"]),
    ):
        if counts:
            lines += ["", f"{title}: " + ", ".join(f"{rule} {n}" for rule, n in counts.items())]
    return "\n".join(lines)


def of_table(
    relation: Relation, *, database: str | None, notes: Mapping[str, str] | None = None
) -> Metadata:
    """A table's name and columns.

    Args:
        relation: The table.
        database: The database that it is in.
        notes: What the migration takes columns for, by their names.
    """
    notes = notes or {}
    name = relation.full_name
    return {
        "dagster/table_name": f"{database}.{name}" if database else name,
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn(
                    name=column.name,
                    type=column.type,
                    description=notes.get(column.name),
                    constraints=dg.TableColumnConstraints(
                        nullable=not column.not_null,
                        unique=(column.name,) in relation.unique_keys,
                    ),
                )
                for column in relation.columns.values()
            ]
        ),
    }


def stock_columns(resolved: ResolvedMapping) -> dict[str, str]:
    """What a mapping takes the columns of the stock records for."""
    source, target = resolved.mapping.source, resolved.mapping.target
    notes = dict.fromkeys(source.key, "key of the stock record")
    for part, what in (
        (source.company, "company that owns the stock"),
        (source.item, "item, such as a SKU"),
        (source.quantity, "units in stock"),
        (source.reserved, "units reserved"),
        *((name, "what a migration writes") for name in target.columns[1:]),
        *((name, "location of the stock: what a migration writes") for name in target.columns[:1]),
    ):
        if column := named_column(part):
            notes[column] = what
    return notes


def location_columns(resolved: ResolvedMapping) -> dict[str, str]:
    """What a mapping takes the columns of the locations for."""
    locations = resolved.mapping.locations
    owner = named_column(locations.company)
    return {
        **dict.fromkeys(locations.default, "says whether this is its company's default location"),
        locations.key: "key of the location",
        **({owner: "company that the location belongs to"} if owner else {}),
    }


def of_expectation(found: ExpectationVerdict) -> Metadata:
    """What came of one expectation, with the keys of some offending rows."""
    said: Metadata = {
        "observed": dg.MetadataValue.text(found.observed or "nothing"),
        "expectation": dg.MetadataValue.text(found.expectation),
        "severity": dg.MetadataValue.text(found.severity),
    }
    if found.expected:
        said["expected"] = dg.MetadataValue.text(found.expected)
    if found.unexpected_count is not None:
        said["unexpected_rows"] = dg.MetadataValue.int(found.unexpected_count)
    for name, value in (
        ("column", found.column),
        ("rule", found.rule),
        ("error", found.error),
        ("why", found.why),
        ("advice", "" if found.success else found.advice),
        ("loosened", found.loosened),
    ):
        if value:
            said[name] = dg.MetadataValue.text(value)
    if found.sql:
        said["sql"] = dg.MetadataValue.md(code(found.sql))
    if found.sample:
        about = [found.sample, found.details] if found.details else [found.sample]
        columns = ["key", "detail"][: len(about)]
        said["sample"] = table(columns, list(zip(*about, strict=True)))
    return said


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> dg.TableMetadataValue:
    """Rows as a table, in which everything is text."""
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord(
                {
                    name: "" if value is None else str(value)
                    for name, value in zip(columns, row, strict=True)
                }
            )
            for row in rows
        ],
        schema=dg.TableSchema(columns=[dg.TableColumn(name, "text") for name in columns]),
    )


def of_findings(verdict: Verdict, mapping: StockMapping) -> Metadata:
    """What the audit found that is not as it should be, the gravest first."""
    found = findings.findings(verdict, mapping)
    counts = findings.to_json(found)["counts"]
    return {
        **{f"findings_{level}": dg.MetadataValue.int(count) for level, count in counts.items()},
        "findings": markdown(
            findings.to_markdown(found), f"inventory-migration audit {mapping.name}"
        ),
    }


def markdown(text: str, command: str) -> dg.MetadataValue[Any]:
    """A page of Markdown, as much of it as the UI shows well, and the command that writes all."""
    if len(text) > LONGEST:
        # Between two paragraphs, so that no table and no block of SQL is cut.
        kept = text[: text.rindex("\n\n", 0, LONGEST)]
        if kept.count("\n```") % 2:
            kept = kept[: kept.rindex("\n```")]
        text = f"{kept.rstrip()}\n\nThere is more: `{command}` writes all of it.\n"
    return dg.MetadataValue.md(text)


def number(exact: str) -> dg.MetadataValue[Any]:
    """Units as a number that can be plotted, where that loses nothing; else as they are spelled."""
    value = Decimal(exact)
    if value == value.to_integral_value() and abs(value) < _EXACT:
        return dg.MetadataValue.int(int(value))
    return dg.MetadataValue.text(exact)
