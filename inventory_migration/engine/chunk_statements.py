"""The statements of one chunk: lock its records, write them as they are locked, read them back.

How they follow each other is said in `chunk.py`; writing without locking first is in
`fast_path.py`.
"""

from __future__ import annotations

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import canonical, columns, rules
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.parameters import parametrised
from inventory_migration.engine.shapes import shape_of


def lock_statement(resolved: ResolvedMapping, migration: Migration) -> str:
    """Lock the live records of chunks in key order; in a statement of its own."""
    sql = f"""
        SELECT count(*) FROM (
            SELECT 1
            FROM {migration.snapshot} AS p
            JOIN {resolved.source.sql} AS s ON {columns.key_of_source(resolved, "p")}
            WHERE p.chunk = ANY(:im_chunks)
            ORDER BY {columns.source_keys(resolved)}
            FOR NO KEY UPDATE OF s) AS locked"""
    return parametrised(sql)


def write_statement(resolved: ResolvedMapping, migration: Migration) -> str:
    """Give each locked record its one outcome, and write those that are to be migrated."""
    shape = shape_of(resolved)
    named = [*columns.keys(resolved), *columns.beside_key(resolved)]
    keys = ", ".join(f"p.{key}" for key in named)
    records = canonical.records(
        resolved, chunked=migration.snapshot, planned=migration.planned_locations
    )
    exists = (
        f"EXISTS (SELECT FROM {resolved.source.sql} AS s "
        f"WHERE {columns.key_of_source(resolved, 'p')})"
        if resolved.mapping.source.joins
        else "false"
    )
    sql = f"""
        WITH found AS MATERIALIZED (
            SELECT * FROM ({records}) AS r WHERE r.chunk = ANY(:im_chunks)),
        refused AS (
            SELECT * FROM unnest(CAST(:im_bad AS bigint[]), CAST(:im_bad_rules AS text[]),
                                 CAST(:im_bad_reasons AS text[]), CAST(:im_bad_states AS text[]),
                                 CAST(:im_bad_constraints AS text[]))
                     AS b(position, rule, reason, state, constraint_name)),
        classified AS MATERIALIZED (
            SELECT p.position, p.chunk, {keys},
                   p.row_hash AS planned_hash, p.company_key AS planned_company,
                   p.quantity AS planned_quantity, p.reserved AS planned_reserved,
                   f.key_text, f.company_key, f.item_key, f.quantity, f.reserved, f.row_hash,
                   f.unread, f.unconverted, f.held_quantity, f.held_reserved, f.default_location,
                   f.position IS NOT NULL AS live, b.reason, b.state,
                   b.constraint_name,
                   CASE WHEN b.position IS NOT NULL THEN 'quarantined'
                        WHEN f.position IS NOT NULL THEN f.outcome
                        WHEN {exists} THEN 'quarantined'
                        ELSE 'gone' END AS outcome,
                   CASE WHEN b.position IS NOT NULL THEN b.rule
                        WHEN f.position IS NOT NULL THEN f.rule
                        WHEN {exists} THEN 'company_missing' END AS rule
            FROM {migration.snapshot} AS p
            LEFT JOIN found AS f ON f.position = p.position
            LEFT JOIN refused AS b ON b.position = p.position
            WHERE p.chunk = ANY(:im_chunks) AND p.position BETWEEN :im_first AND :im_last),
        moved AS ({shape.apply()}),
        put_aside AS ({put_aside(resolved)}),
        images AS ({images()}),
        counted AS (
            UPDATE {SCHEMA}.chunk AS k SET
                migrated = n.migrated, already = n.already, skipped = n.skipped,
                quarantined = n.quarantined, gone = n.gone, units_before = n.units,
                reserved_before = n.reserved, not_numbers_before = n.not_numbers,
                started_at = transaction_timestamp()
            FROM (SELECT chunk,
                         count(*) FILTER (WHERE outcome = 'migrated') AS migrated,
                         count(*) FILTER (WHERE outcome = 'already') AS already,
                         count(*) FILTER (WHERE outcome = 'skipped') AS skipped,
                         count(*) FILTER (WHERE outcome = 'quarantined') AS quarantined,
                         count(*) FILTER (WHERE outcome = 'gone') AS gone,
                         COALESCE(sum(quantity), 0) AS units,
                         COALESCE(sum(reserved), 0) AS reserved,
                         count(*) FILTER (WHERE live AND quantity IS NULL) AS not_numbers
                  FROM classified GROUP BY chunk) AS n
            WHERE k.migration_id = :im_migration_id AND k.number = n.chunk)
        -- Looked for only where there are any: the planner cannot know how many rows a CTE has, and
        -- would compare each with each.
        SELECT CASE WHEN (SELECT count(*) FROM classified WHERE outcome = 'migrated')
                         <> (SELECT count(*) FROM moved)
                    THEN (SELECT array_agg(position ORDER BY position)
                          FROM (SELECT position FROM classified WHERE outcome = 'migrated'
                                EXCEPT {shape.moved()}) AS swallowed) END"""
    return parametrised(sql)


def read_back_statement(resolved: ResolvedMapping, migration: Migration) -> str:
    """What the target says now, in a statement of its own: triggers may have spoken since."""
    shape = shape_of(resolved)
    rows = canonical.source_rows(resolved, chunked=migration.snapshot, extra=shape.as_targets())
    located = shape.holds(
        "r",
        location="w.location_key",
        quantity="r.quantity",
        reserved="r.reserved",
        at=f"(SELECT {shape.moment('transaction_timestamp()')})",
    )
    units, reserved = "r.quantity", "r.reserved"
    if shape.held():
        # What was migrated counts as its target has it, all else as it stands in the record.
        units, reserved = (
            f"CASE WHEN o.position IS NULL THEN r.held_{name} ELSE r.{name} END"
            for name in ("quantity", "reserved")
        )
    sql = f"""
        WITH back AS (
            SELECT p.chunk,
                   COALESCE(sum({units}), 0) AS units, COALESCE(sum({reserved}), 0) AS reserved,
                   count(*) FILTER (WHERE r.position IS NOT NULL AND r.quantity IS NULL)
                       AS not_numbers,
                   count(*) FILTER (WHERE o.position IS NULL AND r.position IS NOT NULL
                                      AND w.location_key IS NOT NULL AND {located})
                       AS located
            FROM {migration.snapshot} AS p
            LEFT JOIN (SELECT * FROM ({rows}) AS x WHERE x.chunk = ANY(:im_chunks)) AS r
                   ON r.position = p.position
            LEFT JOIN {SCHEMA}.outcome AS o
                   ON o.migration_id = :im_migration_id AND o.position = p.position
            LEFT JOIN {migration.planned_locations} AS w ON w.company_key = r.company_key
            WHERE p.chunk = ANY(:im_chunks)
            GROUP BY p.chunk)
        UPDATE {SCHEMA}.chunk AS k SET
            state = 'done', units_after = back.units, reserved_after = back.reserved,
            not_numbers_after = back.not_numbers, located = back.located,
            xid = pg_current_xact_id()::xid::text, finished_at = clock_timestamp()
        FROM back
        WHERE k.migration_id = :im_migration_id AND k.number = back.chunk
        RETURNING k.*"""
    return parametrised(sql)


def put_aside(resolved: ResolvedMapping) -> str:
    """Keep the outcome of each record of `classified` that is not to be migrated."""
    row = (
        f"(SELECT to_jsonb(s) FROM {resolved.source.sql} AS s "
        f"WHERE {columns.key_of_source(resolved, 'c')})"
    )
    return f"""
            INSERT INTO {SCHEMA}.outcome AS o
                (migration_id, position, chunk, key_text, outcome, rule, reason, sqlstate,
                 constraint_name, state, record)
            SELECT :im_migration_id, position, chunk,
                   COALESCE(key_text, {columns.key_text(resolved, "c")}), outcome, rule,
                   COALESCE(reason, {rules.reason(resolved)}), state,
                   constraint_name,
                   CASE WHEN outcome = 'quarantined' THEN 'open' END,
                   CASE WHEN outcome = 'quarantined' THEN {row} END
            FROM classified AS c
            WHERE outcome <> 'migrated'
            ON CONFLICT (migration_id, position) DO UPDATE
                SET chunk = EXCLUDED.chunk, outcome = EXCLUDED.outcome, rule = EXCLUDED.rule,
                    reason = EXCLUDED.reason, sqlstate = EXCLUDED.sqlstate,
                    constraint_name = EXCLUDED.constraint_name, state = EXCLUDED.state,
                    record = EXCLUDED.record, at = EXCLUDED.at"""


def images() -> str:
    """Keep what was written of the records that are not what they were when they were planned."""
    return f"""
            INSERT INTO {SCHEMA}.after_image AS i
                (migration_id, position, location_key, quantity, reserved, row_hash)
            SELECT :im_migration_id, position, default_location::text, quantity, reserved, row_hash
            FROM classified
            WHERE outcome = 'migrated'
              -- What lies beside the record, such as order lines, is not in its row's hash.
              AND (row_hash IS DISTINCT FROM planned_hash
                   OR company_key IS DISTINCT FROM planned_company
                   OR quantity IS DISTINCT FROM planned_quantity
                   OR reserved IS DISTINCT FROM planned_reserved)
            ON CONFLICT (migration_id, position) DO UPDATE
                SET location_key = EXCLUDED.location_key, quantity = EXCLUDED.quantity,
                    reserved = EXCLUDED.reserved, row_hash = EXCLUDED.row_hash"""
