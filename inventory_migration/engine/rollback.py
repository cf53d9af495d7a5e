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
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import (
    chunk,
    control,
    created_locations,
    guard,
    ledger,
    plan,
    schema_change,
    sync,
    undo_preview,
)
from inventory_migration.engine.failures import Action, action_for, message, sqlstate
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.shapes import shape_of
from inventory_migration.engine.undo_scope import WHOLE
from inventory_migration.engine.undo_statements import undo_statement
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
        removed = created_locations.remove(connection, resolved, migration, WHOLE)
        kept = created_locations.kept(connection, resolved, migration, WHOLE)
        ledger.note(
            connection,
            "locations_removed",
            migration_id=migration.migration_id,
            removed=removed,
            kept=kept or None,
        )
        ledger.set_state(connection, migration.migration_id, "rolled_back", reason=reason)


def foretell(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    *,
    migration_id: int | None = None,
) -> tuple[list[Migration], dict[str, Any]]:
    """The migrations that a rollback would undo, and what that would do; see `undo_preview.py`.

    Raises:
        StartRefused: The migration of that id cannot be undone.
    """
    wanted = _wanted(connection, resolved.mapping, migration_id)
    return wanted, undo_preview.preview(connection, resolved, wanted, WHOLE)


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
    statements = [sa.text(undo_statement(resolved, migration))]
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


_CLAIM = sa.text(f"""
    SELECT number FROM {SCHEMA}.chunk
    WHERE migration_id = :migration_id AND state = 'done'
    ORDER BY number DESC
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
""")
