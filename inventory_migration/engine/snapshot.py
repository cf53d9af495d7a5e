"""The snapshot: the work list, the backup and the baseline in one, cut into phases and chunks.

Each record is written down as it stands, with the pre-image of every column that will be written.
Who may plan a migration is decided in `plan.py`; moving stock belongs in `chunk.py`.
"""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping, literal
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import (
    as_planned,
    baseline,
    canonical,
    columns,
    control,
    coverage,
    evidence,
    joins,
    ledger,
    meetings,
    record_view,
    retries,
    scans,
    schema_change,
    seen,
    untouched,
)
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.references import count_references
from inventory_migration.engine.shapes import shape_of

PASSES = 8
"""How many chunks share a page: more leave less new pages behind, and visit each more often."""

FEWEST = 16
"""Of how many chunks a pass must be, to be worth it: a transaction takes some of them at once."""

STRETCH = 128
"""How many chunks follow each other before the next pass: some transactions, in the cache yet."""


def write_snapshot(engine: sa.Engine, resolved: ResolvedMapping, migration: Migration) -> None:
    """Write the work list: each record with its pre-image, in phases and chunks.

    Raises:
        MappingInvalid: The mapping's joins lose or multiply a record by now; nothing was written.
    """
    schema_change.wait_for_older_writers(engine, resolved)
    with control.exclusive(engine, migration.migration_id, wanted="run") as connection:
        if ledger.snapshot_exists(connection, migration):
            return
        scans.with_room(connection)
        joins.refuse_unfaithful(connection, resolved)
        before = untouched.note_before(connection, resolved)
        connection.execute(
            sa.text(f"""
                CREATE TABLE {migration.planned_locations} AS
                SELECT c.company_key, c.location_key
                FROM ({escaped(canonical.companies(resolved))}) AS c
                WHERE c.default_locations = 1
            """)
        )
        connection.execute(
            sa.text(f"CREATE UNIQUE INDEX ON {migration.planned_locations} (company_key)")
        )
        only = retries.selected(connection, resolved, migration)
        covered = coverage.dealt_with(connection, resolved)
        if only is None and covered:
            only = coverage.uncovered(resolved, covered)
        unseen = seen.unlike_seen(connection, resolved)
        connection.execute(sa.text(escaped(_snapshot(resolved, migration, only))))
        connection.execute(sa.text(f"CREATE INDEX ON {migration.snapshot} (chunk)"))
        connection.execute(sa.text(f"ANALYZE {migration.snapshot}"))
        connection.execute(sa.text(f"ANALYZE {migration.planned_locations}"))
        evidence.seal_snapshot(connection, migration)
        retries.link(connection, resolved, migration)
        by_chunk = _count_by_chunk(connection, resolved, migration, unseen)
        _note_work(connection, resolved, migration, by_chunk)
        count_references(connection, resolved, migration.migration_id)
        baseline.note(connection, resolved, migration, by_chunk, unseen)
        connection.execute(sa.text(f"DROP TABLE {by_chunk}"))
        record_view.refresh(connection, resolved)
        ledger.note(
            connection, untouched.PLANNED, migration_id=migration.migration_id, before=before
        )
        ledger.set_state(connection, migration.migration_id, "running")


def _snapshot(resolved: ResolvedMapping, migration: Migration, only: str | None) -> str:
    """The statement that writes the snapshot: position and chunk in key order within each phase.

    Args:
        resolved: The mapping and its types.
        migration: Whose snapshot.
        only: A relation with the keys of the records to take; None for all.
    """
    keys = columns.keys(resolved)
    key_list = ", ".join(keys)
    if only is None and len(resolved.mapping.phases) == 1:
        return _snapshot_of_all(resolved, migration)
    beside = [*columns.before_columns(resolved).values(), *columns.beside_key(resolved)]
    taken = f"JOIN ({only}) AS u ON {columns.same_key(resolved, 'u', 'r')}" if only else ""
    company_key = f"c.{quoted(resolved.mapping.company.key)}"
    rows = resolved.mapping.chunk.rows
    dealt = _chunk_of(resolved, "position - 1 - records_before::bigint")
    return f"""
        CREATE TABLE {migration.snapshot} AS
        WITH work AS MATERIALIZED (
            SELECT {", ".join(f"r.{key}" for key in keys)}, r.company_key, r.item_key, r.quantity,
                   r.reserved, r.skip_reason, r.row_hash, r.row_version, r.item_duplicate,
                   {", ".join(f"r.{name}" for name in beside)}
            FROM ({flagged_rows(resolved)}) AS r {taken}),
        owners AS (
            SELECT {company_key} AS company_key, {_listed_phase(resolved, company_key)} AS listed
            FROM {resolved.company.sql} AS c
            WHERE {company_key} IN (SELECT company_key FROM work)),
        ranked AS (
            SELECT company_key, listed,
                   row_number() OVER (PARTITION BY listed IS NULL ORDER BY company_key) AS place,
                   count(*) OVER () AS companies
            FROM owners),
        phased AS (SELECT company_key, {_phase_by_rank(resolved)} AS phase FROM ranked),
        placed AS (
            SELECT w.*, COALESCE(phased.phase, {len(resolved.mapping.phases)}) AS phase
            FROM work AS w LEFT JOIN phased ON phased.company_key = w.company_key),
        sizes AS (
            SELECT phase, records, sum(records) OVER (ORDER BY phase) - records AS records_before,
                   sum(chunks) OVER (ORDER BY phase) - chunks AS chunks_before
            FROM (SELECT phase, count(*) AS records, (count(*) + {rows - 1}) / {rows} AS chunks
                  FROM placed GROUP BY phase) AS counted),
        numbered AS (
            SELECT placed.*, row_number() OVER (ORDER BY phase, {key_list}) AS position FROM placed)
        SELECT position, (chunks_before + 1 + {dealt})::integer AS chunk,
               phase, {key_list}, company_key, item_key, quantity, reserved, skip_reason,
               row_hash, row_version, item_duplicate, {", ".join(beside)}
        FROM numbered JOIN sizes USING (phase)
        ORDER BY 1"""


def _snapshot_of_all(resolved: ResolvedMapping, migration: Migration) -> str:
    """The same where all records are one phase: nobody's place is asked for, and nothing is kept.

    So the server may read and sort with more than one process; only what is numbered and written is
    one's work.
    """
    key_list = ", ".join(columns.keys(resolved))
    beside = [*columns.before_columns(resolved).values(), *columns.beside_key(resolved)]
    kept = f"""{key_list}, company_key, item_key, quantity, reserved, skip_reason,
               row_hash, row_version, item_duplicate, {", ".join(beside)}"""
    return f"""
        CREATE TABLE {migration.snapshot} AS
        WITH counted AS (SELECT count(*) AS records FROM {resolved.source.sql} AS s)
        SELECT position, (1 + {_chunk_of(resolved, "position - 1")})::integer AS chunk, 1 AS phase,
               {kept}
        FROM (SELECT row_number() OVER (ORDER BY {key_list}) AS position,
                     (SELECT records FROM counted) AS records, r.*
              FROM (SELECT {kept} FROM ({flagged_rows(resolved)}) AS r
                    -- A fence: nothing wider is carried through the numbering.
                    ORDER BY {key_list} OFFSET 0) AS r) AS numbered"""


def chunks_of_pass(resolved: ResolvedMapping, chunks: int) -> int | None:
    """How many chunks follow each other before one meets the pages of the first again.

    Args:
        resolved: The mapping and its types.
        chunks: How many the phase has.

    Returns:
        The number; None where the phase is in key order.
    """
    groups = chunks // PASSES
    if not shape_of(resolved).in_place or groups < FEWEST:
        return None
    return min(groups, STRETCH)


def _chunk_of(resolved: ResolvedMapping, place: str) -> str:
    """Which chunk of its phase a record is in, from 0 on, by its place in key order.

    Records that follow each other, and so lie on one page, are dealt out to PASSES chunks that are
    far apart: by the time of the next of them, what the last one's rows were before is dead, and
    the server writes new versions into its room, with no new page and no new entry in any index.
    What fills no group of chunks stays in key order, and so do records whose rows are not written.

    Args:
        resolved: The mapping and its types.
        place: The record's place in its phase, from 0 on; `records` are in the phase.
    """
    rows = resolved.mapping.chunk.rows
    if not shape_of(resolved).in_place:
        return f"({place}) / {rows}"
    dealt, stretch = rows * PASSES, rows * PASSES * STRETCH
    groups = f"(records / {dealt})"
    # Of the last stretch there may be less.
    here = f"LEAST({STRETCH}, {groups} - ({place}) / {stretch} * {STRETCH})"
    return f"""
               CASE WHEN {groups} >= {FEWEST} AND ({place}) < {groups} * {dealt}
                    THEN ({place}) / {stretch} * {STRETCH * PASSES}
                         + ({place}) % {PASSES} * {here}
                         + ({place}) % {stretch} / {dealt}
                    ELSE ({place}) / {rows} END"""


def flagged_rows(resolved: ResolvedMapping) -> str:
    """Every stock record with its pre-images, and whether its company has the item twice.

    That is told by all records, also those that a migration does not take; where it is merely
    warned about, nobody reads it.
    """
    duplicate = "false"
    if resolved.mapping.rules.item_duplicate != "warn":
        duplicate = (
            "r.item_key IS NOT NULL AND r.company_key IS NOT NULL AND r.skip_reason IS NULL "
            "AND count(*) OVER (PARTITION BY r.company_key, r.item_key, r.skip_reason) > 1"
        )
    extra = f"{shape_of(resolved).pre_images()}, {as_planned.ROW_XMIN}"
    rows = canonical.source_rows(resolved, extra=extra)
    version, assumed = as_planned.row_version(resolved)
    flagged = f"SELECT r.*, {duplicate} AS item_duplicate FROM ({rows}) AS r"
    if resolved.target_key:
        narrow = canonical.source_rows(replace(resolved, target_exists=False), hashed=False)
        placed = f"""
            LEFT JOIN ({canonical.defaults_by_company(resolved)}) AS d
              ON d.company_key = r.company_key"""
        met = meetings.meetings(resolved, f"({narrow}) AS r {placed}", ["d.location_key"])
        flagged = f"""
            SELECT r.*, {duplicate} AS item_duplicate, {meetings.SHARED}
            FROM ({rows}) AS r {placed}
            LEFT JOIN ({met}) AS im_m ON {meetings.meets(resolved, ["d.location_key"])}"""
    return f"SELECT r.*, {version} AS row_version FROM ({flagged}) AS r {assumed}"


def _listed_phase(resolved: ResolvedMapping, company_key: str) -> str:
    """The phase that names a company; NULL where none does."""
    listed = [
        f"WHEN {company_key}::text IN ({', '.join(literal(str(key)) for key in phase.companies)}) "
        f"THEN {number}"
        for number, phase in enumerate(resolved.mapping.phases, start=1)
        if isinstance(phase.companies, list)
    ]
    return f"CASE {' '.join(listed)} END" if listed else "NULL::integer"


def _phase_by_rank(resolved: ResolvedMapping) -> str:
    """The phase of a company by its place among those that no phase names."""
    phases = resolved.mapping.phases
    branches, taken = [], "0"
    for number, phase in enumerate(phases[:-1], start=1):
        if isinstance(phase.companies, int):
            taken = f"({taken} + {phase.companies})"
        elif phase.percent is not None:
            taken = f"({taken} + ceil(companies * {phase.percent} / 100.0))"
        else:
            continue
        branches.append(f"WHEN place <= {taken} THEN {number}")
    return f"CASE WHEN listed IS NOT NULL THEN listed {' '.join(branches)} ELSE {len(phases)} END"


def _count_by_chunk(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration, unseen: str | None
) -> str:
    """Add up the snapshot, each chunk by itself, in one scan; returns the table of what came of it.

    By itself first: the server reads with more than one process only for a new table.
    """
    made = quoted(SCHEMA, f"counting_{migration.migration_id}")
    connection.execute(
        sa.text(f"""
            CREATE TABLE {made} AS
            SELECT chunk, min(phase) AS phase,
                   {", ".join(baseline.sums(resolved, unseen).values())}
            FROM {migration.snapshot} AS p GROUP BY chunk
        """)
    )
    return made


def _note_work(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration, by_chunk: str
) -> None:
    """Write the rows of phases and chunks from what the snapshot holds."""
    parameters = {"migration_id": migration.migration_id}
    # Read by itself: the server reads with more than one process only where nothing is written.
    counted = connection.execute(
        sa.text(f"""
            SELECT phase, count(company_key) AS companies, sum(records)::bigint AS records
            FROM (SELECT phase, company_key, count(*) AS records
                  FROM {migration.snapshot} GROUP BY phase, company_key) AS of_company
            GROUP BY phase
        """)
    ).all()
    of_phase = {row.phase: row for row in counted}
    connection.execute(
        sa.insert(ledger.phase),
        [
            {
                **parameters,
                "number": number,
                "name": phase.name,
                "companies": of_phase[number].companies if number in of_phase else 0,
                "records": of_phase[number].records if number in of_phase else 0,
            }
            for number, phase in enumerate(resolved.mapping.phases, start=1)
        ],
    )
    connection.execute(
        sa.text(f"""
            INSERT INTO {SCHEMA}.chunk (migration_id, number, phase, records)
            SELECT :migration_id, chunk, phase, records FROM {by_chunk} ORDER BY chunk
        """),
        parameters,
    )
