"""The walk back, chunk after chunk: claim, retry, shrink, reconnect, hold, isolate.

What a failure leads to is said in `failures.py`, for this way as for the way there. A record whose
undoing the application refuses, by a trigger or a constraint, is found by halves, listed with the
server's words, and stays. The statements are in `undo_statements.py`.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import chunk, control, isolation, ledger, sync
from inventory_migration.engine.chunk import Bad
from inventory_migration.engine.failures import (
    Action,
    action_for,
    lets_nobody_through,
    message,
    passes,
    sqlstate,
)
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.patience import RECONNECT_SECONDS, backoff
from inventory_migration.engine.undo_statements import UndoStatements
from inventory_migration.engine.worker import require_same_server
from inventory_migration.errors import (
    MigrationFailed,
    RollbackHeld,
    RollbackStopped,
    ServerRestarted,
)

logger = logging.getLogger(__name__)

CHUNKS_AT_ONCE = 5
TRIES = 100
"""How often in a row, for each attempt that a mapping grants a chunk: a way back is needed more."""


class _Swallowed(Exception):
    """A trigger or rule swallowed or changed writes; the chunk is taken apart in the next turn."""


def walk_back(engine: sa.Engine, resolved: ResolvedMapping, migration: Migration) -> None:
    """Undo every chunk that is marked; returns when none is left.

    Raises:
        RollbackHeld: The server lacks something, was restarted, or is away; nobody's record.
        RollbackStopped: Something that no retry mends.
        StartRefused: Somebody lifted the rollback.
    """
    with engine.connect() as connection:
        if not ledger.snapshot_exists(connection, migration):
            return
        # Behind a cut-over nothing is left of what kept levels in step.
        own = sync.wanted(resolved) and sync.own_levels(connection, resolved)
    walk = _Walk(resolved, migration, own=own)
    lost_at: float | None = None
    while True:
        try:
            with engine.connect() as connection:
                if lost_at is not None:
                    require_same_server(connection, migration.migration_id)
                while walk.turn(connection):
                    lost_at = None
                return
        except ServerRestarted as error:
            raise held(engine, migration, str(error)) from error
        except sa.exc.DBAPIError as error:
            # Only a lost connection is mended by another one.
            lost_at = time.monotonic() if lost_at is None else lost_at
            patient = time.monotonic() - lost_at < RECONNECT_SECONDS
            if action_for(sqlstate(error)) is not Action.RECONNECT or not patient:
                raise stopped(engine, migration, error) from error
            logger.warning("connection lost (%s), the rollback tries again", message(error))
            time.sleep(backoff(5))


def stopped(engine: sa.Engine, migration: Migration, error: sa.exc.DBAPIError) -> MigrationFailed:
    """What a rollback ends with on an error of the server; its reason is left where it stands."""
    reason = f"{message(error)} (SQLSTATE {sqlstate(error)})"
    if lets_nobody_through(error):
        return held(engine, migration, reason)
    _note_reason(engine, migration, reason)
    return RollbackStopped(
        mapping=migration.mapping, migration_id=migration.migration_id, reason=reason
    )


def held(engine: sa.Engine, migration: Migration, reason: str) -> RollbackHeld:
    """What a rollback ends with where the server lacks something."""
    _note_reason(engine, migration, reason)
    return RollbackHeld(
        mapping=migration.mapping, migration_id=migration.migration_id, reason=reason
    )


class _Walk:
    """One way back: its statements, how many chunks it takes, and how often it failed in a row."""

    def __init__(self, resolved: ResolvedMapping, migration: Migration, *, own: bool) -> None:
        self.migration = migration
        self.statements = UndoStatements(resolved, migration, own=own)
        self.most = resolved.mapping.thresholds.failed_attempts * TRIES
        self.limit, self.failures, self.apart = CHUNKS_AT_ONCE, 0, False

    def turn(self, connection: sa.Connection) -> bool:
        """One transaction; False where no chunk is left to undo."""
        try:
            with control.cancelled_on_interrupt(connection):
                more = undo_some(connection, self.statements, self.limit, apart=self.apart)
            connection.commit()
        except sa.exc.DBAPIError as error:
            connection.rollback()
            self._after(error)
            return True
        except _Swallowed:
            connection.rollback()
            self.limit, self.apart = 1, True
            return True
        self.failures = 0
        if self.apart:
            self.limit, self.apart = CHUNKS_AT_ONCE, False
        return more

    def _after(self, error: sa.exc.DBAPIError) -> None:
        action = action_for(sqlstate(error))
        self.failures += 1
        if action is Action.ISOLATE and not self.apart:
            self.limit, self.apart = 1, True
        elif passes(error) and self.failures <= self.most:
            self.limit = max(1, self.limit // 2)
            logger.info("%s, the rollback tries again", message(error))
            time.sleep(backoff(self.failures))
        else:
            raise error


def undo_some(
    connection: sa.Connection, statements: UndoStatements, limit: int, *, apart: bool
) -> bool:
    """Undo the newest chunks that are marked; False where there are none.

    Args:
        connection: A fresh transaction.
        statements: Of the migration.
        limit: How many chunks.
        apart: Whether to look for the records that the application refuses to take back.
    """
    migration = statements.migration
    connection.execute(chunk.SETTINGS)
    if control.enter(connection, migration.migration_id) != "rollback":
        control.require(connection, migration.migration_id, "rollback")
    numbers = statements.claim(connection, limit)
    if not numbers:
        # One that is locked is being committed by a session that we have lost.
        left = statements.any_left(connection)
        connection.rollback()
        if left:
            time.sleep(backoff(1))
        return left
    statements.lock(connection, numbers)
    bad = _refused(connection, statements, numbers[0]) if apart else []
    if statements.undo(connection, numbers, bad=bad):
        raise _Swallowed
    statements.finish(connection, numbers, bad)
    for record in bad:
        logger.warning(
            "a record stays as it is: %s",
            record.reason,
            extra={"migration_id": migration.migration_id, "chunk": numbers[0]},
        )
    logger.info(
        "chunks %d to %d undone",
        numbers[-1],
        numbers[0],
        extra={"migration_id": migration.migration_id, "chunk": numbers[0]},
    )
    return True


def _refused(connection: sa.Connection, statements: UndoStatements, number: int) -> list[Bad]:
    """The records of a locked chunk that the application does not take back."""

    def attempt(first: int, last: int) -> list[int]:
        return statements.undo(connection, [number], first=first, last=last)

    why = "a trigger or rule of the application swallowed or changed what was put back"
    return isolation.refused(connection, statements.migration, number, attempt, swallowed=why)


def _note_reason(engine: sa.Engine, migration: Migration, reason: str) -> None:
    """Let `status` say why it stands; as far as the server still answers."""
    with suppress(sa.exc.DBAPIError), engine.begin() as connection:
        connection.execute(
            sa.update(ledger.migration)
            .where(
                ledger.migration.c.migration_id == migration.migration_id,
                ledger.migration.c.state == "rolling_back",
            )
            .values(reason=reason)
        )
        ledger.note(
            connection, "rollback_stopped", migration_id=migration.migration_id, reason=reason
        )
