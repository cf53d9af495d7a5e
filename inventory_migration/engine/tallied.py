"""A tally that is kept for the last gate, and read again while nobody has written.

The proof of a migration's only phase compares all records and adds them up; the last gate and the
report that follows have the same to say. A tally is kept with a gate's entry in the ledger.
Whether anybody has written is asked of the rows' own transactions, those of the snapshot and of the
ledger among them: where one is younger, or one is missing, all is counted once more. Where the last
gate has just asked, and no transaction but the one that keeps its verdict has ended since, there is
nothing to ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import coverage, gates, ledger, tally, unsealed, untouched
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.proof import Difference, Proof
from inventory_migration.engine.tally import Tally
from inventory_migration.mapping import StockLevel

SUITE = "reconciliation_report"
"""The gate whose verdict a tally is kept with."""

KEPT_AS = "tally"
"""Its name in the verdict."""

HELD_AT = "tally_held_at"
"""In the verdict, the transaction before which all were over when a tally held."""

MOST_COMPANIES = 10_000
"""With more of them than a report lists, a tally is not kept."""

_MEASURES = ("records", "units", "reserved", "available")


@dataclass(frozen=True)
class Counted:
    """A tally, and the differences that it has led to.

    Attributes:
        tally: What was compared and added up.
        differences: By kind, as `proof.prove` tells them.
        is_kept: Whether it was taken over, so that it is kept already.
    """

    tally: Tally
    differences: list[Difference]
    is_kept: bool = False


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
    return _taken_over(connection, resolved, migration) or count(connection, resolved, migration)


def is_as_counted(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> bool:
    """Whether every record was as it had been when all were counted, and nobody has written since.

    Args:
        connection: A connection that sees one moment; only read from.
        resolved: The mapping and its types.
        migration: Whose records; its snapshot exists.
    """
    found = _taken_over(connection, resolved, migration)
    return found is not None and not found.tally.unequal and not found.tally.differing


def at_checkpoint(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    before: dict[str, Any] | None,
) -> Counted | None:
    """What the proof of a migration's only phase has to count, where no record differs.

    None where any does, for the proof to say which; and where a phase says less than all.

    Args:
        connection: The transaction of the proof.
        resolved: The mapping and its types.
        migration: The migration, whose chunks are done.
        before: What `untouched.note_before` has said before.
    """
    # Levels are added up by record, and have a proof that is cheaper.
    if before is None or isinstance(resolved.mapping.target, StockLevel):
        return None
    found = tally.regular(connection, resolved, migration)
    return Counted(found, []) if found is not None else None


def as_proof(connection: sa.Connection, counted: Counted) -> Proof:
    """What is counted of records that do not differ, as their proof."""
    after = counted.tally.total["after"]
    as_of = connection.execute(sa.text("SELECT statement_timestamp()")).scalar_one()
    totals = {"units": after["units"], "reserved": after["reserved"]}
    totals |= {"units_changed": "0", "reserved_changed": "0"}
    return Proof(as_of, [], {name: Decimal(total) for name, total in totals.items()})


def keep(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    counted: Counted,
    before: dict[str, Any],
) -> None:
    """Keep a tally for the last gate, which has yet to judge what was counted."""
    kept = to_keep(connection, resolved, migration, counted, before)
    if kept is not None:
        gates.open_gate(connection, resolved, SUITE, seen={KEPT_AS: kept})


def _taken_over(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> Counted | None:
    """What was kept last, where nobody has written since."""
    gate = ledger.gate.c
    kept = connection.execute(
        sa.select(gate.verdict[KEPT_AS])
        .where(gate.mapping == resolved.mapping.name, gate.suite == SUITE)
        .where(gate.mapping_hash == resolved.mapping.hash)
        .where(sa.func.jsonb_typeof(gate.verdict[KEPT_AS]) == "object")
        .order_by(gate.gate_id.desc())
        .limit(1)
    ).scalar()
    if (
        kept
        and kept["migration_id"] == migration.migration_id
        and (
            _holds_yet(connection, resolved, kept["before"])
            or _holds(connection, resolved, migration, kept)
        )
    ):
        return Counted(_read(kept), [], is_kept=True)
    return None


def _holds(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    kept: dict[str, Any],
) -> bool:
    """Whether no row that a tally has read is younger than it, and none is missing."""
    return (
        untouched.still(connection, resolved, kept["before"])
        and unsealed.is_unwritten(connection, migration)
        and _of_ledger(connection, migration, kept["before"]["transaction"]) == kept["ledger"]
    )


def held_at(connection: sa.Connection) -> str | None:
    """Before which transaction all are over in a moment; None where one of them is not.

    Args:
        connection: The connection that has found a tally to hold, in this very moment.
    """
    found: str | None = connection.execute(_OVER).scalar_one()
    return found


def _holds_yet(
    connection: sa.Connection, resolved: ResolvedMapping, before: dict[str, Any]
) -> bool:
    """Whether nobody can have written since the newest verdict's gate has found that a tally holds.

    What is seen now was written by transactions that were over then, and by one more: the one that
    has kept the verdict, and nothing else.
    """
    gate = {"mapping": resolved.mapping.name, "hash": resolved.mapping.hash, "suite": SUITE}
    found = connection.execute(_SINCE, gate).one_or_none()
    if found is None or not found.held_at or not found.only_reads:
        return False
    if int(found.over) != int(found.held_at) + 1:
        return False
    return untouched.is_here(connection, before)


def to_keep(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    counted: Counted,
    before: dict[str, Any] | None,
) -> dict[str, Any] | None:
    """What has to be kept of a tally; None where it would say nothing later, or is kept already.

    Args:
        connection: The connection that has counted.
        resolved: The mapping and its types.
        migration: Whose records.
        counted: What was counted.
        before: What `untouched.note_before` has said before that; with `records`, how many there
            are, where that is known.
    """
    found = counted.tally
    if before is None or counted.differences or len(found.companies) > MOST_COMPANIES:
        return None
    if counted.is_kept:
        # As long as nobody writes it says the same.
        return None
    if len(coverage.dealt_with_beside(connection, resolved, migration)) > 1:
        # That no record is new rests on other snapshots as well.
        return None
    if "records" not in before:
        before = {**before, "records": untouched.count_records(connection, resolved)}
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
    """How many rows a tally has read that are our own, and how many of them are young.

    Of the snapshot it is how many are sealed: whether they are the same still, their seals tell.
    """
    rows = {
        migration.planned_locations: "true",
        **{
            f"{SCHEMA}.{table.name}": f"t.migration_id = {migration.migration_id}"
            for table in (ledger.chunk, ledger.outcome, ledger.after_image)
        },
    }
    age = sa.text("SELECT age(CAST(CAST(:since AS xid8) AS xid))")
    oldest = int(connection.execute(age, {"since": since}).scalar_one())
    counted = ", ".join(
        f"(SELECT count(*) AS rows_{number}, "
        f"count(*) FILTER (WHERE age(t.xmin) <= {oldest}) AS young_{number} "
        f"FROM {table} AS t WHERE {only}) AS of_{number}"
        for number, (table, only) in enumerate(rows.items())
    )
    rows_and_young = connection.execute(sa.text(f"SELECT * FROM {counted}")).one()
    return [unsealed.count_sealed(connection, migration), *map(int, rows_and_young)]


_OVER = sa.text("""
    SELECT CASE WHEN pg_current_xact_id_if_assigned() IS NULL
                     AND pg_snapshot_xmin(pg_current_snapshot())
                         = pg_snapshot_xmax(pg_current_snapshot())
                THEN pg_snapshot_xmax(pg_current_snapshot())::text END
""")

_SINCE = sa.text(f"""
    SELECT verdict ->> '{HELD_AT}' AS held_at,
           pg_snapshot_xmax(pg_current_snapshot())::text AS over,
           pg_current_xact_id_if_assigned() IS NULL AS only_reads
    FROM {SCHEMA}.gate
    WHERE mapping = :mapping AND mapping_hash = :hash AND suite = :suite
    ORDER BY gate_id DESC LIMIT 1
""")
