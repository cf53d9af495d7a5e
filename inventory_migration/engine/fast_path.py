"""A chunk in one statement: classified and written without locking first.

One statement sees the database as of one moment, and writes only those versions of rows that it
has seen: whatever was changed meanwhile is left, which the counts tell, and then nothing of it may
commit. The chunk is done again, with its records locked first (`chunk.py`). What is read after the
write is what the server returns of it, unless a trigger may speak later.

First goes what is as it was planned (`as_planned.py`), and only the rest is classified.
"""

from __future__ import annotations

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import as_planned, canonical, columns
from inventory_migration.engine.chunk_statements import images, put_aside
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.parameters import parametrised
from inventory_migration.engine.shapes import shape_of


def fast_statement(resolved: ResolvedMapping, migration: Migration) -> str | None:
    """Classify, write and count chunks at once; None where records must be locked first.

    Returns:
        A statement with a row for each chunk that it has marked done: the chunk's own columns, and
        how many records were `moved` and `kept` in all, and whether triggers of the application
        are `heard`. Only where every record of the chunks is one of these, may it commit.
    """
    if resolved.target_key or resolved.mapping.source.joins:
        return None
    shape = shape_of(resolved)
    # Not every server compares a ctid again once it has waited for a lock.
    version = "s.tableoid = c.row_table AND s.ctid = c.row_tid AND s.xmin = c.row_xmin"
    ctes = shape.unlocked(version)
    if ctes is None:
        return None
    applied = ", ".join(f"{name} AS ({cte})" for name, cte in ctes.items())
    planned, tables, left = _as_planned(resolved, migration)
    records = canonical.records(
        resolved, chunked=left, planned=migration.planned_locations, versions=True
    )
    taken = [
        *("position", "chunk", *columns.keys(resolved), "company_key", "item_key", "quantity"),
        *("reserved", "row_hash", "unread", "unconverted"),
        *("default_location", "outcome", "rule", *canonical.VERSIONS),
    ]
    sql = f"""
        WITH {planned},
        classified AS MATERIALIZED (
            SELECT {", ".join(f"r.{name}" for name in taken)},
                   CASE WHEN r.outcome <> 'migrated' THEN r.held_quantity END AS held_quantity,
                   CASE WHEN r.outcome <> 'migrated' THEN r.held_reserved END AS held_reserved,
                   NULL::text AS key_text,
                   NULL::text AS reason, NULL::text AS state, NULL::text AS constraint_name
            FROM ({records}) AS r
            WHERE r.chunk = ANY(:im_chunks)
            ORDER BY r.position),
        {applied},
        -- Whose outcome is another one must stay what it is as well, until this commits.
        kept AS MATERIALIZED (
            SELECT c.position
            FROM classified AS c
            JOIN {resolved.source.sql} AS s ON {version}
            WHERE c.outcome <> 'migrated'
            ORDER BY c.position
            FOR NO KEY UPDATE OF s),
        put_aside AS ({put_aside(resolved)}),
        images AS ({images()}),
        before AS (
            SELECT chunk,
                   count(*) FILTER (WHERE outcome = 'migrated') AS migrated,
                   count(*) FILTER (WHERE outcome = 'already') AS already,
                   count(*) FILTER (WHERE outcome = 'skipped') AS skipped,
                   count(*) FILTER (WHERE outcome = 'quarantined') AS quarantined,
                   COALESCE(sum(quantity), 0) AS units,
                   COALESCE(sum(reserved), 0) AS reserved,
                   count(*) FILTER (WHERE quantity IS NULL) AS not_numbers,
                   COALESCE(sum(quantity) FILTER (WHERE outcome <> 'migrated'), 0) AS units_kept,
                   COALESCE(sum(reserved) FILTER (WHERE outcome <> 'migrated'), 0)
                       AS reserved_kept,
                   count(*) FILTER (WHERE outcome <> 'migrated' AND quantity IS NULL)
                       AS not_numbers_kept
            FROM classified GROUP BY chunk),
        after AS (
            SELECT chunk, COALESCE(sum(quantity), 0) AS units,
                   COALESCE(sum(reserved), 0) AS reserved,
                   count(*) FILTER (WHERE not_number) AS not_numbers,
                   count(*) FILTER (WHERE located) AS located
            FROM moved GROUP BY chunk),
        row_tables AS (SELECT row_table FROM classified {tables}),
        counted AS (
            SELECT n.number,
                   COALESCE(b.already, 0) AS already, COALESCE(b.skipped, 0) AS skipped,
                   COALESCE(b.quarantined, 0) AS quarantined,
                   {_sum("t.migrated", "b.migrated")} AS migrated,
                   {_sum("t.units_before", "b.units")} AS units_before,
                   {_sum("t.reserved_before", "b.reserved")} AS reserved_before,
                   {_sum("t.not_numbers_before", "b.not_numbers")} AS not_numbers_before,
                   {_sum("t.units", "b.units_kept", "a.units")} AS units_after,
                   {_sum("t.reserved", "b.reserved_kept", "a.reserved")} AS reserved_after,
                   {_sum("t.not_numbers", "b.not_numbers_kept", "a.not_numbers")}
                       AS not_numbers_after,
                   {_sum("t.located", "a.located")} AS located
            FROM unnest(CAST(:im_chunks AS integer[])) AS n(number)
            LEFT JOIN of_planned AS t ON t.chunk = n.number
            LEFT JOIN before AS b ON b.chunk = n.number
            LEFT JOIN after AS a ON a.chunk = n.number
            WHERE t.chunk IS NOT NULL OR b.chunk IS NOT NULL),
        done AS (
            UPDATE {SCHEMA}.chunk AS k SET
                migrated = n.migrated, already = n.already, skipped = n.skipped,
                quarantined = n.quarantined, gone = 0, units_before = n.units_before,
                reserved_before = n.reserved_before, not_numbers_before = n.not_numbers_before,
                units_after = n.units_after, reserved_after = n.reserved_after,
                not_numbers_after = n.not_numbers_after, located = n.located, state = 'done',
                started_at = transaction_timestamp(), finished_at = clock_timestamp(),
                xid = pg_current_xact_id()::xid::text
            FROM counted AS n
            WHERE k.migration_id = :im_migration_id AND k.number = n.number
            RETURNING k.*)
        SELECT d.*, (SELECT count(*) FROM moved)
                    + (SELECT COALESCE(sum(migrated), 0) FROM of_planned) AS moved,
               (SELECT count(*) FROM kept) AS kept,
               EXISTS (SELECT FROM pg_trigger AS g
                       WHERE NOT g.tgisinternal AND g.tgenabled <> 'D' AND {shape.heard()}) AS heard
        FROM done AS d"""
    return parametrised(sql)


def _as_planned(resolved: ResolvedMapping, migration: Migration) -> tuple[str, str, str]:
    """What is written as it was planned, in which tables that is, and what is left to classify.

    Returns:
        CTEs, the last of them `of_planned`: what was written, by chunk; a clause that adds its
        tables; and the relation of the snapshot's records that are left.
    """
    ctes = as_planned.written_as_planned(resolved, migration)
    if ctes is None:
        return f"of_planned AS ({_NOTHING_PLANNED})", "", migration.snapshot
    first = ",\n        ".join(f"{name} AS MATERIALIZED ({cte})" for name, cte in ctes.items())
    return (
        f"""{first},
        of_planned AS MATERIALIZED ({_OF_PLANNED}),
        -- Looked for only where there is any: mostly there is none.
        short AS MATERIALIZED (
            SELECT k.number FROM {SCHEMA}.chunk AS k
            LEFT JOIN of_planned AS t ON t.chunk = k.number
            WHERE k.migration_id = :im_migration_id AND k.number = ANY(:im_chunks)
              AND COALESCE(t.migrated, 0) <> k.records - k.reopened),
        left_over AS MATERIALIZED (
            SELECT p.* FROM {migration.snapshot} AS p
            WHERE p.chunk = ANY(ARRAY(SELECT number FROM short))
              AND p.position NOT IN (SELECT position FROM as_planned))""",
        "UNION SELECT row_table FROM as_planned",
        "left_over",
    )


_OF_PLANNED = """
            -- Few are otherwise: what they had is taken off, and what they have added.
            SELECT chunk, count(*) AS migrated, COALESCE(sum(quantity_before), 0) AS units_before,
                   COALESCE(sum(reserved_before), 0) AS reserved_before,
                   count(*) FILTER (WHERE quantity_before IS NULL) AS not_numbers_before,
                   COALESCE(sum(quantity_before), 0)
                       - COALESCE(sum(quantity_before) FILTER (WHERE otherwise IS NOT NULL), 0)
                       + COALESCE(sum(otherwise[1]), 0) AS units,
                   COALESCE(sum(reserved_before), 0)
                       - COALESCE(sum(reserved_before) FILTER (WHERE otherwise IS NOT NULL), 0)
                       + COALESCE(sum(otherwise[2]), 0) AS reserved,
                   count(*) FILTER (WHERE otherwise IS NULL AND quantity_before IS NULL)
                       + COALESCE(sum(otherwise[3]), 0) AS not_numbers,
                   count(*) FILTER (WHERE otherwise IS NULL) + COALESCE(sum(otherwise[4]), 0)
                       AS located
            FROM as_planned GROUP BY chunk"""

_NOTHING_PLANNED = """
            SELECT NULL::integer AS chunk, 0 AS migrated, 0 AS units_before, 0 AS reserved_before,
                   0 AS not_numbers_before, 0 AS units, 0 AS reserved, 0 AS not_numbers,
                   0 AS located WHERE false"""


def _sum(*parts: str) -> str:
    return " + ".join(f"COALESCE({part}, 0)" for part in parts)
