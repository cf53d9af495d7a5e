"""Late arrivals: what came, came back or lost its location while the chunks ran.

The sweep adds what it finds as one more phase, under the lock that no chunk commits beside, and the
same workers work it off. It is decided from the data, never from the fact that a loop has ended.
"""

from __future__ import annotations

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import (
    canonical,
    columns,
    control,
    coverage,
    ledger,
    plan,
    schema_change,
    snapshot,
)
from inventory_migration.engine.chunk import parametrised
from inventory_migration.engine.ledger import SCHEMA, Migration

SWEEP = "sweep"


def sweep(engine: sa.Engine, resolved: ResolvedMapping, migration: Migration) -> int:
    """Add late arrivals to the snapshot as chunks of the phase `sweep`; returns how many."""
    schema_change.wait_for_older_writers(engine, resolved)
    number = phase_number(resolved)
    with control.exclusive(engine, migration.migration_id) as connection:
        _locations_of_new_companies(connection, resolved, migration)
        first = connection.execute(
            sa.select(sa.func.coalesce(sa.func.max(ledger.chunk.c.number), 0) + 1).where(
                ledger.chunk.c.migration_id == migration.migration_id
            )
        ).scalar_one()
        parameters = {"migration_id": migration.migration_id}
        reopened = connection.execute(
            sa.text(_reopen(resolved, migration, first)),
            {"im_migration_id": migration.migration_id},
        ).scalar_one()
        added = connection.execute(sa.text(_add(connection, resolved, migration, first))).rowcount
        if reopened + added == 0:
            return 0
        connection.execute(
            sa.text(f"""
                INSERT INTO {SCHEMA}.chunk (migration_id, number, phase, records)
                SELECT :migration_id, chunk, :phase, count(*)
                FROM {migration.snapshot} WHERE chunk >= :first GROUP BY chunk
            """),
            {**parameters, "phase": number, "first": first},
        )
        connection.execute(
            sa.text(f"""
                INSERT INTO {SCHEMA}.phase (migration_id, number, name, records)
                VALUES (:migration_id, :number, :name, :records)
                ON CONFLICT (migration_id, number)
                DO UPDATE SET records = phase.records + EXCLUDED.records, reconciled_at = NULL
            """),
            {**parameters, "number": number, "name": SWEEP, "records": reopened + added},
        )
        snapshot.note_baseline(connection, resolved, migration)
        ledger.note(
            connection, "swept", migration_id=migration.migration_id, reopened=reopened, added=added
        )
        return int(reopened + added)


def phase_number(resolved: ResolvedMapping) -> int:
    """The sweep comes after the mapping's phases."""
    return len(resolved.mapping.phases) + 1


def _locations_of_new_companies(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> None:
    plan.give_locations(connection, resolved, migration)
    connection.execute(
        sa.text(f"""
            INSERT INTO {migration.planned_locations} AS w (company_key, location_key)
            SELECT c.company_key, c.location_key
            FROM ({escaped(canonical.companies(resolved))}) AS c
            WHERE c.default_locations = 1
            ON CONFLICT (company_key) DO UPDATE SET location_key = EXCLUDED.location_key
                WHERE NOT EXISTS (
                    SELECT FROM {escaped(resolved.locations_sql)} AS l
                    WHERE l.{escaped(quoted(resolved.mapping.locations.key))} = w.location_key)
        """)
    )


def _reopen(resolved: ResolvedMapping, migration: Migration, first: int) -> str:
    """Move records that need another turn into new chunks: gone but back, unlocated, or misplaced.

    A misplaced record that has been put aside already keeps its outcome.
    """
    keys = ", ".join(f"p.{key}" for key in columns.keys(resolved))
    rows = resolved.mapping.chunk.rows
    chunk = f"{first} + (row_number() OVER (ORDER BY p.position) - 1) / {rows}"
    sql = f"""
        WITH late AS (
            SELECT p.position, p.chunk AS old_chunk, ({chunk})::integer AS new_chunk, {keys}
            FROM {migration.snapshot} AS p
            JOIN ({canonical.records(resolved)}) AS r ON {columns.same_key(resolved, "r", "p")}
            LEFT JOIN {SCHEMA}.outcome AS o
              ON o.migration_id = :im_migration_id AND o.position = p.position
            WHERE o.outcome = 'gone'
               OR o.rule = '{canonical.LATE_RULE}' AND r.outcome <> 'quarantined'
               OR COALESCE(o.outcome, 'already') = 'already' AND r.location_own IS NOT TRUE),
        forgotten AS (
            DELETE FROM {SCHEMA}.outcome AS o USING late
            WHERE o.migration_id = :im_migration_id AND o.position = late.position),
        unimaged AS (
            DELETE FROM {SCHEMA}.after_image AS i USING late
            WHERE i.migration_id = :im_migration_id AND i.position = late.position),
        taken AS (
            UPDATE {SCHEMA}.chunk AS k SET reopened = k.reopened + n.records
            FROM (SELECT old_chunk, count(*) AS records FROM late GROUP BY 1) AS n
            WHERE k.migration_id = :im_migration_id AND k.number = n.old_chunk),
        given AS (
            UPDATE {migration.snapshot} AS p
            SET chunk = late.new_chunk, phase = {phase_number(resolved)}
            FROM late WHERE p.position = late.position RETURNING 1)
        SELECT count(*) FROM given"""
    return parametrised(sql)


def _add(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration, first: int
) -> str:
    """Append records that no snapshot holds, in chunks after the reopened ones."""
    keys = ", ".join(columns.keys(resolved))
    before = columns.before_columns(resolved)
    covered = coverage.with_verified(connection, resolved, migration)
    never = coverage.never_seen(resolved, covered)
    rows = resolved.mapping.chunk.rows
    last = f"(SELECT COALESCE(max(position), 0) FROM {migration.snapshot})"
    next_chunk = f"(SELECT GREATEST(max(chunk) + 1, {first}) FROM {migration.snapshot})"
    return escaped(f"""
        INSERT INTO {migration.snapshot}
            (position, chunk, phase, {keys}, company_key, item_key, quantity, reserved,
             skip_reason, row_hash, item_duplicate, {", ".join(before.values())})
        SELECT {last} + row_number() OVER (ORDER BY {keys}),
               ({next_chunk}
                + (row_number() OVER (ORDER BY {keys}) - 1) / {rows})::integer,
               {phase_number(resolved)}, {keys}, company_key, item_key, quantity, reserved,
               skip_reason, row_hash, item_duplicate, {", ".join(before.values())}
        FROM ({snapshot.flagged_rows(resolved)}) AS r
        WHERE {never}""")
