"""What the data says: the two-way difference between snapshot and live table.

A row that still carries its chunk's transaction id is ours and untouched, so it must equal the
snapshot (or the after-image) in every column; a row that the application touched since is listed as
explained. Nothing is written here; which difference fails a gate is decided in the suites.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import (
    canonical,
    columns,
    coverage,
    ledger,
    sync,
)
from inventory_migration.engine.compared import compared_records
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.scans import FENCE
from inventory_migration.engine.shapes import shape_of
from inventory_migration.engine.shapes.stock_level import StockLevel as LevelShape
from inventory_migration.mapping import AllocationJson, StockLevel, named_column


@dataclass(frozen=True)
class Difference:
    """One kind of difference between what was and what is.

    Attributes:
        kind: What differs.
        explained: The application did it after us, and it harms no promise.
        records: How many records.
        sample: Keys of a few of them.
    """

    kind: str
    explained: bool
    records: int
    sample: list[str]


@dataclass(frozen=True)
class Proof:
    """The two-way difference, as of a moment.

    Attributes:
        as_of: The moment.
        differences: By kind.
        totals: What `totals` says of the records that were compared, by its names.
    """

    as_of: datetime
    differences: list[Difference]
    totals: dict[str, Decimal]

    @property
    def passed(self) -> bool:
        """Whether nothing is unexplained."""
        return all(difference.explained for difference in self.differences)

    @property
    def unexplained(self) -> list[Difference]:
        """The differences that nobody accounts for."""
        return [difference for difference in self.differences if not difference.explained]


def prove(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration | None,
    *,
    phase: int | None = None,
) -> Proof:
    """Count the differences by kind, in one statement.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        migration: What to prove; None where nothing was ever migrated.
        phase: Only the records of one phase.
    """
    if migration is not None and isinstance(resolved.mapping.target, StockLevel):
        clean = _no_difference_of_levels(connection, resolved, migration, phase)
        if clean is not None:
            return clean
    found = _found_beside(connection, resolved, migration, phase)
    compared = _NOTHING_COMPARED
    if migration is not None and ledger.snapshot_exists(connection, migration):
        compared = _counted(connection, resolved, migration, phase)
        found.insert(0, "SELECT u.* FROM compared, unnest(kinds, keys) AS u(kind, key_text)")
    totals = ", ".join(f"c.{name}" for name in _SUMS)
    rows = connection.execute(
        sa.text(
            escaped(f"""
            WITH compared AS MATERIALIZED ({compared})
            SELECT {totals}, d.kind, d.kind IN ({_EXPLAINED}) AS explained, d.records, d.sample
            FROM compared AS c LEFT JOIN (
                SELECT kind, count(*) AS records,
                       (array_agg(key_text ORDER BY key_text))[1:10] AS sample
                FROM ({" UNION ALL ".join(found)}) AS f GROUP BY kind) AS d ON true
            ORDER BY explained, kind""")
        )
    ).all()
    as_of = connection.execute(sa.text("SELECT statement_timestamp()")).scalar_one()
    return Proof(
        as_of=as_of,
        differences=[
            Difference(row.kind, row.explained, row.records, row.sample)
            for row in rows
            if row.kind is not None
        ],
        totals={name: getattr(rows[0], name) or Decimal(0) for name in _SUMS},
    )


def _no_difference_of_levels(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration, phase: int | None
) -> Proof | None:
    """The proof where nothing differs; None where a look at each record's levels has to tell.

    Levels are joined, not added up by record, which takes most of the time of a proof. That is the
    same where as many rows come of it as there are records; and without a record that is gone, no
    level is of none.
    """
    if resolved.target_key or not ledger.snapshot_exists(connection, migration):
        return None
    compared = _counted(connection, resolved, migration, phase, alone=True)
    only = "" if phase is None else f"WHERE p.phase = {phase}"
    never_seen = "0"
    if phase is None:
        covered = coverage.dealt_with_beside(connection, resolved, migration)
        never_seen = f"(SELECT count(*) FROM ({_not_migrated(resolved, covered)}) AS n)"
    row = connection.execute(
        sa.text(
            escaped(f"""
            SELECT c.*, {never_seen} AS never_seen, statement_timestamp() AS as_of,
                   (SELECT count(*) FROM {migration.snapshot} AS p {only}) AS planned
            FROM ({compared}) AS c""")
        )
    ).one()
    if row.kinds or row.dead or row.never_seen or row.records != row.planned:
        return None
    return Proof(row.as_of, [], {name: getattr(row, name) or Decimal(0) for name in _SUMS})


def _counted(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    phase: int | None,
    *,
    alone: bool = False,
) -> str:
    """One row: what `totals` adds up, and kinds and keys of what differs.

    Not grouped by kind: the planner would take each record for a group of its own, and let one
    process do what several could. Added up by the server, which keeps all digits.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        migration: Whose records.
        phase: Only the records of one phase.
        alone: Whether a record is there once for each of its levels; with how many `records` that
            are, and how many of them are `dead`.
    """
    sums = ", ".join(f"{sql} AS {name}" for name, sql in _SUMS.items())
    keys = ", ".join(f"c.{key}" for key in columns.keys(resolved))
    kinds = kind(connection, resolved, migration)
    compared = compared_records(replace(resolved, levels_alone=alone), migration, phase)
    counts = "count(*) AS records, count(*) FILTER (WHERE NOT live) AS dead," if alone else ""
    return f"""
        SELECT {counts} {", ".join(f"sum({name}) AS {name}" for name in _SUMS)},
               array_agg(kind) FILTER (WHERE kind IS NOT NULL) AS kinds,
               array_agg({columns.key_text(resolved, "d")}) FILTER (WHERE kind IS NOT NULL) AS keys
        FROM (SELECT {keys}, c.live, {kinds} AS kind, {sums}
              FROM ({compared}) AS c
              -- A fence: what differs of a record is asked once.
              {FENCE}) AS d"""


def _found_beside(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration | None,
    phase: int | None,
) -> list[str]:
    """Kind and key of what differs that no record of the snapshot shows."""
    if migration is None or not ledger.snapshot_exists(connection, migration):
        covered = coverage.dealt_with(connection, resolved)
        return [f"SELECT kind, key_text FROM ({_not_migrated(resolved, covered)}) AS n"]
    found = []
    if isinstance(resolved.mapping.target, StockLevel):
        kept = sync.keeps_in_step(connection, resolved)
        found.append(_orphans(resolved, migration, phase, kept=kept))
    if phase is None:
        covered = coverage.dealt_with_beside(connection, resolved, migration)
        found.append(_not_migrated(resolved, covered))
    return [f"SELECT kind, key_text FROM ({relation}) AS n" for relation in found]


def differences(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration | None,
) -> str:
    """The relation `differences`: kind, key_text, explained, detail.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        migration: What to compare; None where nothing was ever migrated.
    """
    if migration is None or not ledger.snapshot_exists(connection, migration):
        return _not_migrated(resolved, coverage.dealt_with(connection, resolved))
    kept = sync.keeps_in_step(connection, resolved)
    kinds = kind(connection, resolved, migration)
    ours = f"""
        SELECT kind, key_text, kind IN ({_EXPLAINED}) AS explained, detail
        FROM (SELECT key_text, {kinds} AS kind, {_detail(resolved)} AS detail
              FROM ({compared_records(resolved, migration)}) AS c {FENCE}) AS d
        WHERE kind IS NOT NULL"""
    rest = []
    if isinstance(resolved.mapping.target, StockLevel):
        rest.append(_orphans(resolved, migration, None, kept=kept))
    covered = coverage.dealt_with_beside(connection, resolved, migration)
    rest.append(_not_migrated(resolved, covered))
    return "\nUNION ALL\n".join([ours, *rest])


def no_differences() -> str:
    """The relation `differences` where there are none."""
    return (
        "SELECT NULL::text AS kind, NULL::text AS key_text, NULL::boolean AS explained, "
        "NULL::text AS detail WHERE false"
    )


def kind(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> str:
    """What differs of a record of `compared_records`, as SQL; NULL where nothing does."""
    # While a trigger keeps levels in step, one that is not is wrong, whoever wrote it.
    kept = sync.keeps_in_step(connection, resolved)
    return _kind(resolved, kept=kept, theirs=_is_theirs(resolved, migration, kept=kept))


def moved(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration | None) -> str:
    """The relation `moved`: what became of every snapshot record, as it shows now."""
    if migration is None or not ledger.snapshot_exists(connection, migration):
        return f"""
            SELECT 0::bigint AS position, ''::text AS key_text,
                   NULL::{resolved.source_company_type} AS company_key,
                   ''::text AS outcome, ''::text AS rule,
                   NULL::{shape_of(resolved).location_type} AS location_key,
                   false AS location_found, false AS location_own,
                   0::numeric AS quantity_before, 0::numeric AS quantity,
                   0::numeric AS reserved_before, 0::numeric AS reserved
            WHERE false"""
    kept = sync.keeps_in_step(connection, resolved)
    gone = "NOT live"
    if _is_theirs(resolved, migration, kept=kept):
        gone += " OR location_key IS NULL AND outcome IN ('migrated', 'already')"
    return f"""
        SELECT position, key_text, company_key,
               CASE WHEN {gone} THEN 'gone' ELSE outcome END AS outcome, rule, location_key,
               location_found, location_own,
               expected_quantity AS quantity_before,
               CASE WHEN live THEN {_as_expected("quantity")} END AS quantity,
               expected_reserved AS reserved_before,
               CASE WHEN live THEN {_as_expected("reserved")} END AS reserved
        FROM ({compared_records(resolved, migration, None)}) AS c"""


def _as_expected(measure: str) -> str:
    """What was expected where the application has changed it, and what is there where not."""
    # Whether it has is dear to find out, and says nothing where both are the same.
    return (
        f"CASE WHEN {measure}_after = expected_{measure} THEN {measure}_after "
        f"WHEN changed THEN expected_{measure} ELSE {measure}_after END"
    )


def totals(resolved: ResolvedMapping, migration: Migration) -> str:
    """Units and reserved of the snapshot's records now, and what the application changed.

    Without a word from the application both changes are zero, and after equals before.
    """
    summed = ", ".join(f"COALESCE(sum({sql}), 0) AS {name}" for name, sql in _SUMS.items())
    return f"SELECT {summed} FROM ({compared_records(resolved, migration, None)}) AS c"


_SUMS = {
    "units": "CASE WHEN live THEN quantity_after END",
    "reserved": "CASE WHEN live THEN reserved_after END",
    "units_changed": "CASE WHEN changed THEN COALESCE(quantity_after, 0) "
    "- COALESCE(quantity_before, 0) END",
    "reserved_changed": "CASE WHEN changed THEN COALESCE(reserved_after, 0) "
    "- COALESCE(reserved_before, 0) END",
}


_NOTHING_COMPARED = (
    f"SELECT {', '.join(f'0::numeric AS {name}' for name in _SUMS)}, "
    "NULL::text[] AS kinds, NULL::text[] AS keys"
)


def _is_theirs(resolved: ResolvedMapping, migration: Migration, *, kept: bool) -> bool:
    """Whether levels are the application's own by now, to be taken away as it likes."""
    verified = migration.state == "verified" and not kept
    return verified and isinstance(resolved.mapping.target, StockLevel)


def _kind(resolved: ResolvedMapping, *, kept: bool, theirs: bool) -> str:
    """The kind of difference of a compared record; NULL where there is none."""
    target = resolved.mapping.target
    by_trigger = "'changed_by_trigger'" if resolved.source.triggers else "'row_changed'"
    # Whose target is a row of its own may have its record touched without that.
    beside = isinstance(target, StockLevel)
    if beside:
        by_trigger = "'touched_since'"
    # A target that is as we wrote it has missed what the record was changed to since. One that the
    # application has written itself is its own, unless something is there to keep the two in step.
    kept = kept or isinstance(target, AllocationJson)
    lost = "'target_changed_since'" if theirs else "'location_lost'"
    renamed = "'target_changed_since'" if theirs else "'target_key_changed'"
    differing = "'target_differs'" if kept else "'target_changed_since'"
    # A number computed from other tables changes without the record's row being touched.
    reserved = resolved.mapping.source.reserved
    computed = reserved is not None and named_column(reserved) is None
    reserved_kind = "'reserved_changed_since'" if computed else "'units_changed'"
    return f"""
        CASE WHEN undone THEN NULL
             WHEN NOT done THEN 'not_processed'
             WHEN outcome = 'gone' THEN CASE WHEN live THEN 'came_back' END
             WHEN NOT live THEN 'deleted_since'
             WHEN outcome IN ('skipped', 'quarantined') THEN
                 CASE WHEN as_before OR of_another THEN NULL
                      WHEN location_own THEN 'located_since'
                      ELSE 'location_foreign' END
             WHEN renamed THEN {renamed}
             WHEN location_key IS NULL THEN {lost}
             WHEN NOT location_own THEN 'location_foreign'
             WHEN outcome = 'already' THEN
                 CASE WHEN NOT numbers_same THEN 'target_of_others_differs' END
             WHEN NOT numbers_same THEN
                 CASE WHEN {"ours" if beside else "as_written"} THEN 'target_outdated'
                      ELSE {differing} END
             WHEN NOT ours THEN 'touched_since'
             WHEN NOT as_written THEN 'location_differs'
             WHEN quantity IS DISTINCT FROM expected_quantity THEN 'units_changed'
             WHEN reserved IS DISTINCT FROM expected_reserved THEN {reserved_kind}
             WHEN row_hash IS DISTINCT FROM expected_hash THEN {by_trigger}
        END"""


def _not_migrated(resolved: ResolvedMapping, covered: list[Migration]) -> str:
    """Live records that no migration has dealt with."""
    return f"""
        SELECT CASE WHEN outcome = 'already' THEN 'arrived_with_location' ELSE 'not_migrated' END
                   AS kind,
               key_text, outcome = 'already' AS explained,
               format('would be %s', outcome) AS detail
        FROM ({canonical.records(resolved)}) AS r
        WHERE {coverage.never_seen(resolved, covered)}"""


def _detail(resolved: ResolvedMapping) -> str:
    """Both values of what differs."""
    before = "format('%s units before, %s now', quantity_before, quantity)"
    if shape_of(resolved).held() is None:
        return before
    return (
        f"CASE WHEN numbers_same THEN {before} "
        "ELSE format('%s units and %s reserved in the record, %s and %s in the target', "
        "quantity, reserved, held_quantity, held_reserved) END"
    )


def _orphans(
    resolved: ResolvedMapping, migration: Migration, phase: int | None, *, kept: bool
) -> str:
    """Levels of records that are gone, as far as the snapshot knows these records.

    One that is as we wrote it, or that should have been kept in step, is a difference; whatever the
    application did with it afterwards is its own.
    """
    shape = shape_of(resolved)
    assert isinstance(shape, LevelShape)  # noqa: S101 - only such a target has levels
    key_text = columns.key_text(resolved, "p")
    kind = "'target_orphaned'"
    if not kept:
        kind = f"CASE WHEN t.row_xmin = k.xid THEN {kind} ELSE 'target_changed_since' END"
    only = f"AND k.phase = {phase}" if phase is not None else ""
    heirs = ""
    if resolved.target_key:
        # A record that was made anew has the level of its name.
        rows = canonical.source_rows(replace(resolved, target_exists=False), hashed=False)
        heirs = f"""
                AND t.company_key = p.company_key
                AND NOT EXISTS (SELECT FROM ({rows}) AS im_h
                                WHERE {columns.same_record(resolved, "im_h", "p")}
                                  AND im_h.company_key = p.company_key)"""
    return f"""
        SELECT kind, key_text, kind IN ({_EXPLAINED}) AS explained, detail
        FROM (SELECT {kind} AS kind, {key_text} AS key_text,
                     format('no record, and %s units on hand', t.on_hand) AS detail
              FROM {migration.snapshot} AS p
              JOIN {SCHEMA}.chunk AS k
                ON k.migration_id = {migration.migration_id} AND k.number = p.chunk
              JOIN ({shape.levels()}) AS t ON {columns.same_record(resolved, "t", "p")}
              WHERE NOT EXISTS (SELECT FROM {resolved.source.sql} AS s
                                WHERE {columns.key_of_source(resolved, "p")}) {heirs}
                {only}) AS d"""


_EXPLAINED = ", ".join(
    f"'{kind}'"
    for kind in (
        "deleted_since",
        "touched_since",
        "located_since",
        "changed_by_trigger",
        "reserved_changed_since",
        "arrived_with_location",
        "target_changed_since",
        "target_of_others_differs",
    )
)
"""What the application did after us, and what harms no promise."""


def unexplained_text(found: list[Difference]) -> str:
    """The unexplained differences as one clause of a sentence."""
    parts: list[Any] = [
        f"{d.kind.replace('_', ' ')}: {d.records} (such as {', '.join(d.sample[:3])})"
        for d in found
    ]
    return "; ".join(parts)
