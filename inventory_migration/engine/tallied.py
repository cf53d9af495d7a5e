"""A tally that is kept with the verdict it was made for, and read again while nobody has written.

The last gate compares all records and adds them up; the report that follows has the same to say.
Whether anybody has written is asked of the rows' own transactions, those of the snapshot and of the
ledger among them: where one is younger, or one is missing, all is counted once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import coverage, gates, ledger, tally, untouched
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.proof import Difference
from inventory_migration.engine.tally import Tally

SUITE = "reconciliation_report"
"""The gate whose verdict a tally is kept with."""

KEPT_AS = "tally"
"""Its name in the verdict."""

MOST_COMPANIES = 10_000
"""With more of them than a report lists, a tally is not kept."""

_MEASURES = ("records", "units", "reserved", "available")


@dataclass(frozen=True)
class Counted:
    """A tally, and the differences that it has led to.

    Attributes:
        tally: What was compared and added up.
        differences: By kind, as `proof.prove` tells them.
    """

    tally: Tally
    differences: list[Difference]


def count(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> Counted:
    """Compare and add up; the snapshot exists."""
    counted = tally.tally(connection, resolved, migration)
    found = tally.differences(connection, resolved, migration, counted)
    return Counted(counted, found)


def again(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> Counted:
    """The same; what was kept, where nobody has written since.

    Args:
        connection: A connection that sees one moment; only read from.
        resolved: The mapping and its types.
        migration: Whose records; its snapshot exists.
    """
    newest = gates.latest(connection, resolved.mapping.name, SUITE)
    kept = (newest.verdict or {}).get(KEPT_AS) if newest is not None else None
    if (
        kept
        and newest is not None
        and newest.mapping_hash == resolved.mapping.hash
        and kept["migration_id"] == migration.migration_id
        and untouched.still(connection, resolved, kept["before"])
        and _of_ledger(connection, migration, kept["before"]["transaction"]) == kept["ledger"]
    ):
        return Counted(_read(kept), [])
    return count(connection, resolved, migration)


def to_keep(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration, counted: Counted
) -> dict[str, Any] | None:
    """What has to be kept of a tally; None where it would say nothing later.

    Args:
        connection: The connection that has counted, which sees one moment.
        resolved: The mapping and its types.
        migration: Whose records.
        counted: What was counted.
    """
    before = untouched.note_before(connection, resolved)
    found = counted.tally
    if before is None or counted.differences or len(found.companies) > MOST_COMPANIES:
        return None
    if len(coverage.dealt_with_beside(connection, resolved, migration)) > 1:
        # That no record is new rests on other snapshots as well.
        return None
    before["records"] = untouched.count_records(connection, resolved)
    return {
        "migration_id": migration.migration_id,
        "before": before,
        "ledger": _of_ledger(connection, migration, before["transaction"]),
        "total": _row(found.total),
        "companies": [[key, *_row(entry)] for key, entry in found.companies.items()],
        "counts": [found.compared, found.unequal, found.differing],
    }


def _row(entry: dict[str, Any]) -> list[Any]:
    numbers = [entry[moment][name] for moment in ("before", "after") for name in _MEASURES]
    return [*numbers, entry["changed_by_application"]]


def _entry(row: list[Any]) -> dict[str, Any]:
    size = len(_MEASURES)
    return {
        "before": dict(zip(_MEASURES, row[:size], strict=True)),
        "after": dict(zip(_MEASURES, row[size : 2 * size], strict=True)),
        "changed_by_application": row[-1],
    }


def _read(kept: dict[str, Any]) -> Tally:
    companies = {key: _entry(row) for key, *row in kept["companies"]}
    return Tally(_entry(kept["total"]), companies, *kept["counts"])


def _of_ledger(connection: sa.Connection, migration: Migration, since: str) -> list[int]:
    """How many rows a tally has read that are our own, and how many of them are young."""
    rows = {
        migration.snapshot: "true",
        migration.planned_locations: "true",
        **{
            f"{SCHEMA}.{table.name}": f"t.migration_id = {migration.migration_id}"
            for table in (ledger.chunk, ledger.outcome, ledger.after_image)
        },
    }
    age = sa.text("SELECT age(CAST(CAST(:since AS xid8) AS xid))")
    oldest = int(connection.execute(age, {"since": since}).scalar_one())
    counted = ", ".join(
        f"(SELECT count(*) FROM {table} AS t WHERE {only}), "
        f"(SELECT count(*) FROM {table} AS t WHERE {only} AND age(t.xmin) <= {oldest})"
        for table, only in rows.items()
    )
    return [int(n) for n in connection.execute(sa.text(f"SELECT {counted}")).one()]
