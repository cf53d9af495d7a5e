"""The way back: chunk after chunk under the same protocol, undoing only what is ours.

A record that the application moved since is kept and listed; one that it merely touched is undone
and listed. Default locations that we created and that nobody uses go too. Resumable: a rollback
that was killed goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import (
    archived,
    control,
    coverage,
    created_locations,
    guard,
    ledger,
    notifications,
    plan,
    retries,
    sync,
    undo_levels,
    undo_marks,
    undo_preview,
    undo_scope,
    undo_walk,
)
from inventory_migration.engine.failures import Action, action_for, passes, sqlstate
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.patience import backoff, patiently
from inventory_migration.engine.undo_scope import WHOLE, Scope
from inventory_migration.errors import MappingInvalid, MigrationPurged, StartRefused
from inventory_migration.mapping import StockMapping

FINISH_TRIES = 50
UNDOABLE = (*ledger.ACTIVE, "verified", "aborted")


def roll_back(
    engine: sa.Engine,
    mapping: StockMapping,
    claim: control.Claim,
    *,
    migration_id: int | None = None,
    scope: Scope = WHOLE,
    reason: str = "asked to",
    workers: int | None = None,
) -> list[Migration]:
    """Undo a mapping's migrations, newest first, or one by id; returns those undone.

    A process that works on the migration is told to stop and waited for.

    Args:
        engine: The application's database.
        mapping: Whose migrations.
        claim: The right to drive the target.
        migration_id: Only this one.
        scope: What of them; by default everything.
        reason: Why, for the trail.
        workers: Threads; None leaves it to the server's size.

    Raises:
        StartRefused: The migration of that id cannot be undone, or is being undone whole.
        MappingInvalid: There is no such migration, phase or company.
        MigrationPurged: Its records are in an archive and nowhere else.
        MigrationBusy: Whoever works on it did not stop in time.
    """
    resolved = plan.read_mapping(engine, mapping)
    ledger.bring_up_to_date(engine)
    with engine.connect() as connection:
        wanted = _wanted(connection, resolved, migration_id, scope)
    if wanted:
        with engine.begin() as connection:
            notifications.subscribe(connection, mapping)
    for migration in wanted:
        if migration.state in ledger.ACTIVE:
            with engine.begin() as connection:
                control.desire(connection, migration.migration_id, "rollback", reason=reason)
    claim.take(resolved.target, wait_seconds=control.BARRIER_SECONDS)
    for migration in wanted:
        undo_migration(engine, resolved, migration, scope=scope, reason=reason, workers=workers)
    return wanted


def undo_migration(
    engine: sa.Engine,
    resolved: ResolvedMapping,
    migration: Migration,
    *,
    scope: Scope = WHOLE,
    reason: str,
    workers: int | None = None,
) -> None:
    """Undo one migration, or what is of a scope; the caller holds the claim on its target.

    Triggers go with the last migration that is undone whole. One that was undone in part is what it
    was before, verified or aborted; one that was under way is paused.
    """
    try:
        _undo(engine, resolved, migration, scope, reason, workers)
    except sa.exc.DBAPIError as error:
        raise undo_walk.stopped(engine, migration, error) from error


def _undo(
    engine: sa.Engine,
    resolved: ResolvedMapping,
    migration: Migration,
    scope: Scope,
    reason: str,
    workers: int | None,
) -> None:
    tries = resolved.mapping.thresholds.failed_attempts
    before, scopes = patiently(lambda: _begin(engine, migration, scope, reason), tries=tries)
    whole = WHOLE in scopes
    with engine.connect() as connection:
        last = whole and _is_last(connection, migration)
    if last:
        guard.take_off(engine, resolved, migration)
    undo_walk.walk_back(engine, resolved, migration, workers=workers)
    if last and sync.wanted(resolved):
        undo_levels.take_trigger_away(engine, resolved, migration)
    for left in reversed(range(FINISH_TRIES)):
        try:
            with control.exclusive(engine, migration.migration_id, wanted="rollback") as connection:
                control.durably(connection)
                if last:
                    guard.list_kept(connection, resolved, migration)
                _remove_locations(connection, resolved, migration, [WHOLE] if whole else scopes)
                if whole:
                    number = migration.migration_id
                    retries.reopen(connection, migration)
                    ledger.set_state(connection, number, "rolled_back", reason=reason)
                else:
                    _leave(connection, migration, before, scopes, reason)
            return
        except sa.exc.DBAPIError as error:
            # Somebody has begun to use a location that was about to go: it is looked at again.
            if not (passes(error) or action_for(sqlstate(error)) is Action.ISOLATE) or not left:
                raise
            time.sleep(backoff(3))


def _begin(
    engine: sa.Engine, migration: Migration, scope: Scope, reason: str
) -> tuple[str, list[Scope]]:
    """Stop whoever works, and mark what is to go back; returns the state before, and all scopes."""
    control.stop(engine, migration.migration_id, "rollback", reason=reason)
    with control.exclusive(engine, migration.migration_id) as connection:
        undo_marks.begin(connection, migration, scope, reason=reason)
        return undo_marks.under_way(connection, migration)


def foretell(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    *,
    migration_id: int | None = None,
    scope: Scope = WHOLE,
) -> tuple[list[Migration], dict[str, Any]]:
    """The migrations that a rollback would undo, and what that would do; see `undo_preview.py`.

    Raises:
        StartRefused: The migration of that id cannot be undone, or is being undone whole.
        MappingInvalid: There is no such migration, phase or company.
    """
    wanted = _wanted(connection, resolved, migration_id, scope)
    return wanted, undo_preview.preview(connection, resolved, wanted, scope)


def _remove_locations(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    scopes: Sequence[Scope],
) -> None:
    """Remove the created locations that nobody refers to, and note the others with who does."""
    removed, kept = 0, []
    for scope in scopes:
        removed += created_locations.remove(connection, resolved, migration, scope)
        kept += created_locations.kept(connection, resolved, migration, scope)
    ledger.note(
        connection,
        "locations_removed",
        migration_id=migration.migration_id,
        removed=removed,
        kept=kept or None,
    )


def _leave(
    connection: sa.Connection,
    migration: Migration,
    before: str,
    scopes: Sequence[Scope],
    reason: str,
) -> None:
    """Leave a migration that was undone in part: as it was, or paused where it was under way."""
    state, desired = _AFTERWARDS.get(before, ("paused", "pause"))
    said = f"{', '.join(map(str, scopes))} undone: {reason}"
    ledger.note(connection, coverage.PARTLY_UNDONE, migration_id=migration.migration_id)
    control.desire(connection, migration.migration_id, desired, reason=said)
    ledger.set_state(connection, migration.migration_id, state, reason=said)


_AFTERWARDS = {"verified": ("verified", "run"), "aborted": ("aborted", "abort")}
"""State and desired state after a part was undone, by the state before."""


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


def _wanted(
    connection: sa.Connection, resolved: ResolvedMapping, migration_id: int | None, scope: Scope
) -> list[Migration]:
    """The migrations to undo, newest first; of a scope those alone that have something of it."""
    found = _undoable(connection, resolved.mapping, migration_id)
    undo_scope.refuse_unknown(connection, resolved, found, scope)
    if scope.whole:
        return found
    for migration in found:
        if migration.state != "rolling_back":
            continue
        if WHOLE in undo_marks.under_way(connection, migration)[1]:
            raise StartRefused(
                mapping=migration.mapping,
                migration_id=migration.migration_id,
                why=f"is being rolled back whole, and not {scope} alone",
                command=f"rollback {migration.mapping}",
            )
    return [
        migration
        for migration in found
        if migration.state in ledger.ACTIVE
        or undo_marks.anything_meant(connection, migration, scope)
    ]


def refuse_purged(connection: sa.Connection, mapping: str, migration_id: int | None = None) -> None:
    """Refuse to undo what is in an archive and nowhere else, also beside what could be undone.

    Args:
        connection: A connection to the ledger; only read from.
        mapping: The mapping's name.
        migration_id: The migration to undo; None stands for all of the mapping.

    Raises:
        MigrationPurged: One of them was purged; says where its records are.
    """
    purged = archived.purged_migrations(connection, mapping)
    meant = [one for one in purged if one.state in UNDOABLE]
    if migration_id is not None:
        meant = [one for one in purged if one.migration_id == migration_id]
    if not meant:
        return
    newest = meant[-1]
    what = "nothing of it can be rolled back from here"
    if migration_id is None:
        what += "; what came after it can, one by one with --id N"
    raise MigrationPurged(
        mapping=mapping,
        migration_id=newest.migration_id,
        path=newest.path,
        when=f"{newest.purged_at:%Y-%m-%d}",
        what=what,
    )


def _undoable(
    connection: sa.Connection, mapping: StockMapping, migration_id: int | None
) -> list[Migration]:
    if not ledger.installed(connection):
        return []
    if migration_id is not None:
        refuse_purged(connection, mapping.name, migration_id)
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
    refuse_purged(connection, mapping.name)
    ids = connection.execute(
        sa.select(ledger.migration.c.migration_id)
        .where(ledger.migration.c.mapping == mapping.name, ledger.migration.c.state.in_(UNDOABLE))
        .order_by(ledger.migration.c.migration_id.desc())
    ).scalars()
    found_all = [ledger.find(connection, migration_id=number) for number in ids]
    return [found for found in found_all if found is not None]
