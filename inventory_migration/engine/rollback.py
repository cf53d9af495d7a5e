"""The way back: chunk after chunk under the same protocol, undoing only what is ours.

A record that the application moved since is kept and listed; one that it merely touched is undone
and listed. Default locations that we created and that nobody uses go too. Resumable: a rollback
that was killed goes on where it was.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import (
    canonical,
    chunk,
    columns,
    control,
    guard,
    ledger,
    links,
    plan,
    schema_change,
    sync,
)
from inventory_migration.engine.failures import Action, action_for, message, sqlstate
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.shapes import shape_of
from inventory_migration.errors import (
    ControlTotalsDiffer,
    MappingInvalid,
    MigrationFailed,
    StartRefused,
)
from inventory_migration.mapping import StockMapping

logger = logging.getLogger(__name__)

CHUNKS_AT_ONCE = 5
UNDOABLE = (*ledger.ACTIVE, "verified", "aborted")


def roll_back(
    engine: sa.Engine,
    mapping: StockMapping,
    claim: control.Claim,
    *,
    migration_id: int | None = None,
    reason: str = "asked to",
) -> list[Migration]:
    """Undo a mapping's migrations, newest first, or one by id; returns those undone.

    A process that works on the migration is told to stop and waited for.

    Raises:
        StartRefused: The migration of that id cannot be undone.
        MigrationBusy: Whoever works on it did not stop in time.
    """
    resolved = plan.read_mapping(engine, mapping)
    with engine.begin() as connection:
        if ledger.installed(connection):
            ledger.install(connection)
    with engine.connect() as connection:
        wanted = _wanted(connection, mapping, migration_id)
    for migration in wanted:
        if migration.state in ledger.ACTIVE:
            with engine.begin() as connection:
                control.desire(connection, migration.migration_id, "rollback", reason=reason)
    claim.take(resolved.target, wait_seconds=control.BARRIER_SECONDS)
    for migration in wanted:
        undo_migration(engine, resolved, migration, reason=reason)
    return wanted


def undo_migration(
    engine: sa.Engine, resolved: ResolvedMapping, migration: Migration, *, reason: str
) -> None:
    """Undo one migration; the caller holds the claim on its target."""
    control.stop(engine, migration.migration_id, "rollback", reason=reason)
    with control.exclusive(engine, migration.migration_id) as connection:
        found = ledger.find(connection, migration_id=migration.migration_id)
        if found and found.state != "rolling_back":
            ledger.set_state(connection, migration.migration_id, "rolling_back", reason=reason)
        connection.execute(
            sa.update(ledger.chunk)
            .where(
                ledger.chunk.c.migration_id == migration.migration_id,
                ledger.chunk.c.state == "pending",
            )
            .values(state="undone")
        )
    with engine.connect() as connection:
        last = _is_last(connection, migration)
    if last:
        guard.take_off(engine, resolved, migration)
    _walk_back(engine, resolved, migration)
    if last and sync.wanted(resolved):
        _take_trigger_away(engine, resolved)
    with control.exclusive(engine, migration.migration_id) as connection:
        control.durably(connection)
        if last:
            guard.list_kept(connection, resolved, migration)
        removed = _remove_locations(connection, resolved, migration)
        ledger.note(
            connection, "locations_removed", migration_id=migration.migration_id, removed=removed
        )
        ledger.set_state(connection, migration.migration_id, "rolled_back", reason=reason)


def _is_last(connection: sa.Connection, migration: Migration) -> bool:
    """Whether no other migration of the mapping needs its triggers any more."""
    others = connection.execute(
        sa.select(sa.func.count()).where(
            ledger.migration.c.mapping == migration.mapping,
            ledger.migration.c.migration_id != migration.migration_id,
            ledger.migration.c.state.in_(UNDOABLE),
        )
    ).scalar_one()
    return not others


def _take_trigger_away(engine: sa.Engine, resolved: ResolvedMapping) -> None:
    """End the trigger of levels with the last migration that needs it, and what it alone has made.

    Behind the walk, so that until then what it has written can be told from what the application
    has.
    """
    with engine.connect() as connection:
        if not sync.own_levels(connection, resolved):
            return
    schema_change.execute_briefly(
        engine,
        [escaped(s) for s in sync.remove_statements(resolved, levels=True)],
        what=f"take the trigger off {resolved.source.name}",
    )


def _wanted(
    connection: sa.Connection, mapping: StockMapping, migration_id: int | None
) -> list[Migration]:
    if not ledger.installed(connection):
        return []
    if migration_id is not None:
        found = ledger.find(connection, migration_id=migration_id)
        if found is None or found.mapping != mapping.name:
            raise MappingInvalid(
                origin=mapping.name,
                problems=[
                    f"{mapping.name} has no migration {migration_id}; "
                    "see 'inventory-migration status'"
                ],
            )
        if found.state not in UNDOABLE:
            raise StartRefused(
                mapping=mapping.name,
                migration_id=migration_id,
                why=f"is {found.state.replace('_', ' ')} and cannot be undone",
                command="status",
            )
        return [found]
    ids = connection.execute(
        sa.select(ledger.migration.c.migration_id)
        .where(ledger.migration.c.mapping == mapping.name, ledger.migration.c.state.in_(UNDOABLE))
        .order_by(ledger.migration.c.migration_id.desc())
    ).scalars()
    found_all = [ledger.find(connection, migration_id=number) for number in ids]
    return [found for found in found_all if found is not None]


def _walk_back(engine: sa.Engine, resolved: ResolvedMapping, migration: Migration) -> None:
    with engine.connect() as connection:
        if not ledger.snapshot_exists(connection, migration):
            return
    shape = shape_of(resolved)
    statements = [sa.text(_undo(resolved, migration))]
    statements += [sa.text(chunk.parametrised(s)) for s in shape.after_undo(migration.snapshot)]
    locks = [sa.text(chunk.lock_statement(resolved, migration))]
    targets = shape.lock(migration.snapshot)
    locks += [sa.text(chunk.parametrised(targets))] if targets else []
    limit, failures = CHUNKS_AT_ONCE, 0
    with engine.connect() as connection:
        while True:
            try:
                with control.cancelled_on_interrupt(connection):
                    more = _undo_some(connection, migration, locks, statements, limit)
                connection.commit()
            except sa.exc.DBAPIError as error:
                connection.rollback()
                action, failures = action_for(sqlstate(error)), failures + 1
                limits = resolved.mapping.thresholds
                if action not in {Action.RETRY, Action.SHRINK} or failures > 100 * (
                    limits.failed_attempts
                ):
                    raise MigrationFailed(
                        mapping=migration.mapping,
                        migration_id=migration.migration_id,
                        reason=f"the rollback met {message(error)} (SQLSTATE {sqlstate(error)})",
                    ) from error
                limit = max(1, limit // 2)
                time.sleep(random.uniform(0.02, 0.1))  # noqa: S311 - jitter, no secret
                continue
            failures = 0
            if not more:
                return


def _undo_some(
    connection: sa.Connection,
    migration: Migration,
    locks: Sequence[sa.TextClause],
    statements: Sequence[sa.TextClause],
    limit: int,
) -> bool:
    """Undo the newest chunks that are done; False where there are none."""
    connection.execute(chunk.SETTINGS)
    if control.enter(connection, migration.migration_id) != "rollback":
        raise MigrationFailed(
            mapping=migration.mapping,
            migration_id=migration.migration_id,
            reason="somebody lifted the rollback",
        )
    numbers = list(
        connection.execute(
            _CLAIM, {"migration_id": migration.migration_id, "limit": limit}
        ).scalars()
    )
    if not numbers:
        return False
    for lock in locks:
        connection.execute(lock, {"im_chunks": numbers})
    parameters = {"im_migration_id": migration.migration_id, "im_chunks": numbers}
    undo, *after = statements
    rows = connection.execute(undo, parameters).all()
    for statement in after:
        connection.execute(statement, parameters)
    connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
    for row in rows:
        if row.mine != row.undone + row.kept + row.absent + row.back_already:
            raise ControlTotalsDiffer(
                migration_id=migration.migration_id,
                chunk=row.number,
                differences={
                    "records to undo": (
                        row.mine,
                        row.undone + row.kept + row.absent + row.back_already,
                    )
                },
            )
    logger.info(
        "chunks %d to %d undone",
        numbers[-1],
        numbers[0],
        extra={"migration_id": migration.migration_id, "chunk": numbers[0]},
    )
    return True


def mine(resolved: ResolvedMapping, migration: Migration, *, only: str) -> str:
    """The migrated snapshot rows with what we wrote, by whom: what a shape's `undo` works on.

    Args:
        resolved: The mapping and its types.
        migration: Whose snapshot.
        only: Condition over the snapshot row `p` and the chunk `k`.
    """
    shape = shape_of(resolved)
    keys = ", ".join(f"p.{key}" for key in columns.keys(resolved))
    before = ", ".join(f"p.{name}" for name in columns.before_columns(resolved).values())
    values = shape.written(migration.planned_locations, snapshot="p", after_image="i", chunk="k")
    named = columns.targets(resolved, "written")
    written = ", ".join(f"{v} AS {n}" for v, n in zip(values, named, strict=True))
    live = ""
    if sync.wanted(resolved):
        # What our trigger has written since follows from the record as it is now.
        now = shape.values(location=values[0], quantity="n.quantity", reserved="n.reserved", at="")
        names = columns.targets(resolved, "live")
        written += "".join(f", {v} AS {n}" for v, n in zip(now, names, strict=True))
        rows = canonical.source_rows(replace(resolved, target_exists=False))
        live = f"LEFT JOIN ({rows}) AS n ON {columns.same_key(resolved, 'n', 'p')}"
    return f"""
        SELECT p.position, p.chunk, {keys}, {before}, k.xid, g.row_hash AS image, {written}
        FROM {migration.snapshot} AS p
        JOIN {SCHEMA}.chunk AS k ON k.migration_id = :im_migration_id AND k.number = p.chunk
        LEFT JOIN {SCHEMA}.outcome AS o
          ON o.migration_id = :im_migration_id AND o.position = p.position
        LEFT JOIN {SCHEMA}.after_image AS i
          ON i.migration_id = :im_migration_id AND i.position = p.position
        LEFT JOIN {SCHEMA}.level_image AS g
          ON g.migration_id = :im_migration_id AND g.position = p.position {live}
        WHERE {only} AND o.position IS NULL"""


def _undo(resolved: ResolvedMapping, migration: Migration) -> str:
    shape = shape_of(resolved)
    keys = ", ".join(columns.keys(resolved))
    found = columns.targets(resolved, "found")
    back = columns.all_same(found, columns.targets(resolved, "before"))
    sql = f"""
        WITH mine AS MATERIALIZED (
            {mine(resolved, migration, only="p.chunk = ANY(:im_chunks)")}),
        live AS MATERIALIZED (
            SELECT position, chunk, concat_ws(', ', {keys}) AS key_text,
                   {shape.told("written")} AS written, {shape.told("found")} AS found,
                   {shape.ours()} AS ours, {back} AS back,
                   row_xmin IS DISTINCT FROM xid AS touched
            FROM ({shape.found()}) AS f),
        undone AS ({shape.undo()}),
        listed AS (
            INSERT INTO {SCHEMA}.conflict (migration_id, position, key_text, kind, ours, found)
            SELECT :im_migration_id, position, key_text,
                   CASE WHEN ours THEN 'touched_since' ELSE 'moved_since' END, written, found
            FROM live
            WHERE NOT back AND (NOT ours OR touched)
            ON CONFLICT (migration_id, position) DO NOTHING),
        counted AS (
            SELECT m.chunk, count(*) AS mine, count(u.position) AS undone,
                   count(*) FILTER (WHERE l.position IS NULL) AS absent,
                   count(*) FILTER (WHERE u.position IS NULL AND l.back) AS back_already,
                   count(*) FILTER (WHERE u.position IS NULL AND NOT l.ours AND NOT l.back)
                       AS kept
            FROM mine AS m
            LEFT JOIN live AS l USING (position)
            LEFT JOIN undone AS u USING (position)
            GROUP BY m.chunk)
        UPDATE {SCHEMA}.chunk AS k SET
            state = 'undone', undo_xid = pg_current_xact_id()::xid::text,
            undone_records = COALESCE(c.undone, 0), kept_records = COALESCE(c.kept, 0)
        FROM unnest(CAST(:im_chunks AS integer[])) AS n(number)
        LEFT JOIN counted AS c ON c.chunk = n.number
        WHERE k.migration_id = :im_migration_id AND k.number = n.number
        RETURNING k.number, COALESCE(c.mine, 0) AS mine, COALESCE(c.undone, 0) AS undone,
                  COALESCE(c.absent, 0) AS absent, COALESCE(c.back_already, 0) AS back_already,
                  COALESCE(c.kept, 0) AS kept"""
    return chunk.parametrised(sql)


def _remove_locations(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> int:
    """Remove the default locations that this migration created and that nobody refers to.

    Links that we inserted beside a location do not count, and go with it.
    """
    if resolved.locations is None:
        return 0
    key = quoted(resolved.mapping.locations.key)
    linked = {found.table.oid for found in resolved.links}
    users = []
    for row in connection.execute(_REFERRING, {"oid": resolved.locations.oid}):
        ours = f" AND NOT {links.is_ours(migration, 'u')}" if row.oid in linked else ""
        refers = f"u.{quoted(row.column)} = l.{key}{ours}"
        users.append((quoted(row.schema, row.table), refers))
    if resolved.target_exists:
        users.append(shape_of(resolved).refers(f"l.{key}"))
    unused = "".join(
        f" AND NOT EXISTS (SELECT FROM {table} AS u WHERE {refers})" for table, refers in users
    )
    goes = f"""
        SELECT w.location_key
        FROM {SCHEMA}.company_location AS w
        JOIN {resolved.locations_sql} AS l ON w.location_key = l.{key}::text
        WHERE w.migration_id = {migration.migration_id} AND w.created AND NOT w.removed{unused}"""
    links.remove_links(connection, resolved, migration, goes)
    removed = connection.execute(
        sa.text(
            escaped(f"""
            WITH removed AS (
                DELETE FROM {resolved.locations_sql} AS l
                WHERE l.{key}::text IN ({goes})
                RETURNING l.{key}::text AS location_key)
            UPDATE {SCHEMA}.company_location AS w SET removed = true
            FROM removed
            WHERE w.migration_id = {migration.migration_id}
              AND w.location_key = removed.location_key""")
        )
    ).rowcount
    return int(removed)


_CLAIM = sa.text(f"""
    SELECT number FROM {SCHEMA}.chunk
    WHERE migration_id = :migration_id AND state = 'done'
    ORDER BY number DESC
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
""")

_REFERRING = sa.text("""
    SELECT n.nspname AS schema, c.relname AS table, c.oid::bigint AS oid, a.attname AS column
    FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
    WHERE k.contype = 'f' AND k.confrelid = :oid AND k.conparentid = 0
      AND cardinality(k.conkey) = 1
""")
