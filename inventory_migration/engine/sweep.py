"""Late arrivals: what came, came back or lost its location while the chunks ran.

The sweep adds what it finds as one more phase, under the lock that no chunk commits beside, and the
same workers work it off. It is decided from the data, never from the fact that a loop has ended.
"""

from __future__ import annotations

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import (
    baseline,
    canonical,
    columns,
    control,
    coverage,
    default_locations,
    evidence,
    ledger,
    retries,
    rules,
    scans,
    schema_change,
    snapshot,
    sync,
    target_keys,
    untouched,
)
from inventory_migration.engine.failures import Action, action_for, sqlstate
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.parameters import parametrised
from inventory_migration.engine.proof import Proof
from inventory_migration.engine.shapes import shape_of
from inventory_migration.engine.shapes.stock_level import StockLevel as LevelShape
from inventory_migration.engine.undo_statements import mine
from inventory_migration.mapping import StockLevel

SWEEP = "sweep"


def sweep(
    engine: sa.Engine, resolved: ResolvedMapping, migration: Migration, *, drain: bool = True
) -> int:
    """Add late arrivals to the snapshot as chunks of the phase `sweep`; returns how many.

    Args:
        engine: The application's database.
        resolved: The mapping and its types.
        migration: The migration, whose snapshot exists.
        drain: Whether to wait until writers of before have ended, whose work is not seen else.
    """
    if drain:
        schema_change.wait_for_older_writers(engine, resolved)
    with control.exclusive(engine, migration.migration_id, wanted="run") as connection:
        scans.with_room(connection)
        return sweep_within(connection, resolved, migration)


def sweep_within(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> int:
    """Sweep in the caller's transaction, which no chunk commits beside; returns how many."""
    if proved(connection, resolved, migration) is not None:
        return 0
    number = phase_number(resolved)
    if sync.wanted(resolved):
        sync.refresh(connection, resolved)
    else:
        _take_back(connection, resolved, migration)
    first = connection.execute(
        sa.select(sa.func.coalesce(sa.func.max(ledger.chunk.c.number), 0) + 1).where(
            ledger.chunk.c.migration_id == migration.migration_id
        )
    ).scalar_one()
    parameters = {"migration_id": migration.migration_id}
    reopened = added = 0
    ours = {"im_migration_id": migration.migration_id}
    # Looked at first: the server reads with more than one process only where nothing is written.
    if connection.execute(sa.text(_any_late(resolved, migration)), ours).scalar_one():
        reopened = connection.execute(
            sa.text(_reopen(resolved, migration, first)), ours
        ).scalar_one()
    if connection.execute(sa.text(_any_new(connection, resolved, migration))).scalar_one():
        added = connection.execute(sa.text(_add(connection, resolved, migration, first))).rowcount
    if reopened + added == 0:
        return 0
    evidence.seal_snapshot(connection, migration)
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
    retries.link(connection, resolved, migration)
    baseline.note(connection, resolved, migration)
    ledger.note(
        connection, "swept", migration_id=migration.migration_id, reopened=reopened, added=added
    )
    return int(reopened + added)


def proved(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> Proof | None:
    """The proof of all records where nothing came late, as nobody has written since it was made.

    Args:
        connection: A transaction that no chunk commits beside; companies that came since the plan
            are given their locations in it.
        resolved: The mapping and its types.
        migration: The migration.
    """
    default_locations.give(connection, resolved, migration)
    default_locations.follow(connection, resolved, migration)
    return untouched.proved_at_checkpoint(connection, resolved, migration)


def phase_number(resolved: ResolvedMapping) -> int:
    """The sweep comes after the mapping's phases."""
    return len(resolved.mapping.phases) + 1


def _take_back(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> None:
    """Undo what is as we wrote it and no longer fits its record, so that it is written anew.

    The application sold from a record after its chunk, or deleted it; the target has missed that.
    Records that somebody is writing at this moment are left to the next sweep.
    """
    shape = shape_of(resolved)
    if shape.held() is None:
        return
    rows = canonical.source_rows(resolved)
    gone = ""
    if isinstance(resolved.mapping.target, StockLevel):
        gone = f"""
            UNION ALL
            SELECT p.position FROM {migration.snapshot} AS p
            WHERE NOT EXISTS (SELECT FROM {resolved.source.sql} AS s
                              WHERE {columns.key_of_source(resolved, "p")})"""
    sql = f"""
        WITH outdated AS MATERIALIZED (
            SELECT p.position
            FROM {migration.snapshot} AS p
            JOIN ({rows}) AS l ON {columns.same_key(resolved, "l", "p")}
            WHERE l.location_key IS NOT NULL
              AND (l.held_quantity IS DISTINCT FROM l.quantity
                   OR l.held_reserved IS DISTINCT FROM l.reserved)
               OR {target_keys.differs(resolved, "l", "p")}),
        late AS MATERIALIZED (
            SELECT * FROM (
                SELECT p.position
                FROM {migration.snapshot} AS p
                JOIN {resolved.source.sql} AS s ON {columns.key_of_source(resolved, "p")}
                WHERE p.position IN (SELECT position FROM outdated)
                FOR NO KEY UPDATE OF s SKIP LOCKED) AS locked {gone}),
        mine AS MATERIALIZED (
            {mine(resolved, migration, only=_LATE)}),
        undone AS ({shape.undo()})
        SELECT count(*) FROM undone"""
    savepoint = connection.begin_nested()
    try:
        connection.execute(sa.text("SET LOCAL lock_timeout = '500ms'"))
        taken = connection.execute(
            sa.text(parametrised(sql)), {"im_migration_id": migration.migration_id}
        ).scalar_one()
        connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
    except sa.exc.DBAPIError as error:
        savepoint.rollback()
        if action_for(sqlstate(error)) is not Action.RETRY:
            raise
        return
    savepoint.commit()
    if taken:
        ledger.note(connection, "taken_back", migration_id=migration.migration_id, records=taken)


_LATE = "p.position IN (SELECT position FROM late) AND k.state = 'done'"


def _reopen(resolved: ResolvedMapping, migration: Migration, first: int) -> str:
    """Move records that need another turn into new chunks: gone but back, unlocated, or misplaced.

    A misplaced record that has been put aside already keeps its outcome, and so does a waived one.
    """
    keys = ", ".join(f"p.{key}" for key in columns.keys(resolved))
    rows = resolved.mapping.chunk.rows
    chunk = f"{first} + (row_number() OVER (ORDER BY p.position) - 1) / {rows}"
    meets, met = "", ""
    if resolved.target_key:
        meets = "".join(f", r.{name}" for name in columns.SHARING)
        met = "".join(f", {name} = late.{name}" for name in columns.SHARING)
    sql = f"""
        WITH late AS (
            SELECT p.position, p.chunk AS old_chunk, ({chunk})::integer AS new_chunk, {keys}{meets}
            {_late(resolved, migration)}),
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
            SET chunk = late.new_chunk, phase = {phase_number(resolved)}{met}
            FROM late WHERE p.position = late.position RETURNING 1)
        SELECT count(*) FROM given"""
    return parametrised(sql)


def _late(resolved: ResolvedMapping, migration: Migration) -> str:
    """Snapshot rows, `p`, of records that need another turn, `r`: FROM and WHERE of a SELECT."""
    misplaced = "r.location_own IS NOT TRUE"
    if resolved.target_key:
        renamed = target_keys.differs(resolved, "r", "p")
        # Its old level is the application's own by now: to write another would count it twice.
        stays = LevelShape(resolved).stands("p")
        misplaced = f"({misplaced} OR {renamed}) AND NOT ({renamed} AND {stays})"
    return f"""
            FROM {migration.snapshot} AS p
            JOIN ({canonical.records(resolved)}) AS r ON {columns.same_key(resolved, "r", "p")}
            LEFT JOIN {SCHEMA}.outcome AS o
              ON o.migration_id = :im_migration_id AND o.position = p.position
            WHERE o.outcome = 'gone'
               OR o.rule = '{rules.LATE_RULE}' AND o.state = 'open'
                  AND r.outcome <> 'quarantined'
               OR COALESCE(o.outcome, 'already') = 'already' AND {misplaced}"""


def _any_late(resolved: ResolvedMapping, migration: Migration) -> str:
    """Whether any record needs another turn."""
    return parametrised(f"SELECT count(*) {_late(resolved, migration)}")


def _any_new(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> str:
    """Whether there is a record that no snapshot holds."""
    covered = coverage.dealt_with_beside(connection, resolved, migration)
    return escaped(f"""
        SELECT count(*) FROM ({canonical.source_rows(resolved, hashed=False)}) AS r
        WHERE {coverage.never_seen(resolved, covered)}""")


def _add(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration, first: int
) -> str:
    """Append records that no snapshot holds, in chunks after the reopened ones."""
    keys = ", ".join(columns.keys(resolved))
    beside = [*columns.before_columns(resolved).values(), *columns.beside_key(resolved)]
    covered = coverage.dealt_with_beside(connection, resolved, migration)
    never = coverage.never_seen(resolved, covered)
    rows = resolved.mapping.chunk.rows
    last = f"(SELECT COALESCE(max(position), 0) FROM {migration.snapshot})"
    next_chunk = f"(SELECT GREATEST(max(chunk) + 1, {first}) FROM {migration.snapshot})"
    return escaped(f"""
        INSERT INTO {migration.snapshot}
            (position, chunk, phase, {keys}, company_key, item_key, quantity, reserved,
             skip_reason, row_hash, item_duplicate, {", ".join(beside)})
        SELECT {last} + row_number() OVER (ORDER BY {keys}),
               ({next_chunk}
                + (row_number() OVER (ORDER BY {keys}) - 1) / {rows})::integer,
               {phase_number(resolved)}, {keys}, company_key, item_key, quantity, reserved,
               skip_reason, row_hash, item_duplicate, {", ".join(beside)}
        FROM ({snapshot.flagged_rows(resolved)}) AS r
        WHERE {never}""")
