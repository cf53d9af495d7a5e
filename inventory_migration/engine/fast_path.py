"""A chunk in one statement: classified and written without locking first.

One statement sees the database as of one moment, and writes only those versions of rows that it
has seen: whatever was changed meanwhile is left, which the counts tell, and then nothing of it may
commit. The chunk is done again, with its records locked first (`chunk.py`). What is read after the
write is what the server returns of it, unless a trigger may speak later.
"""

from __future__ import annotations

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import canonical, columns
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
    records = canonical.records(
        resolved, chunked=migration.snapshot, planned=migration.planned_locations, versions=True
    )
    taken = [
        *("position", "chunk", *columns.keys(resolved), "company_key", "item_key", "quantity"),
        *("reserved", "row_hash", "unread", "unconverted"),
        *("default_location", "outcome", "rule", *canonical.VERSIONS),
    ]
    sql = f"""
        WITH classified AS MATERIALIZED (
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
        done AS (
            UPDATE {SCHEMA}.chunk AS k SET
                migrated = b.migrated, already = b.already, skipped = b.skipped,
                quarantined = b.quarantined, gone = 0, units_before = b.units,
                reserved_before = b.reserved, not_numbers_before = b.not_numbers,
                units_after = b.units_kept + COALESCE(a.units, 0),
                reserved_after = b.reserved_kept + COALESCE(a.reserved, 0),
                not_numbers_after = b.not_numbers_kept + COALESCE(a.not_numbers, 0),
                located = COALESCE(a.located, 0), state = 'done',
                started_at = transaction_timestamp(), finished_at = clock_timestamp(),
                xid = pg_current_xact_id()::xid::text
            FROM before AS b LEFT JOIN after AS a ON a.chunk = b.chunk
            WHERE k.migration_id = :im_migration_id AND k.number = b.chunk
            RETURNING k.*)
        SELECT d.*, (SELECT count(*) FROM moved) AS moved, (SELECT count(*) FROM kept) AS kept,
               EXISTS (SELECT FROM pg_trigger AS g
                       WHERE NOT g.tgisinternal AND g.tgenabled <> 'D' AND {shape.heard()}) AS heard
        FROM done AS d"""
    return parametrised(sql)
