"""The walk back, chunk after chunk, by several at a time: claim, retry, shrink, isolate.

What a failure leads to is said in `failures.py`, for this way as for the way there; the threads
that walk are in `crew.py`. A record whose undoing the application refuses, by a trigger or a
constraint, is found by halves, listed with the server's words, and stays. The statements are in
`undo_statements.py`.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, field

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import chunk, control, isolation, ledger, sync
from inventory_migration.engine.chunk import Bad
from inventory_migration.engine.crew import Crew
from inventory_migration.engine.failures import (
    Action,
    action_for,
    lets_nobody_through,
    message,
    passes,
    sqlstate,
)
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.patience import backoff
from inventory_migration.engine.staffing import usual_workers
from inventory_migration.engine.undo_statements import UndoStatements
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


class _Unmended(Exception):
    """What no walker can do anything about."""

    def __init__(self, error: sa.exc.DBAPIError) -> None:
        super().__init__()
        self.error = error


def walk_back(
    engine: sa.Engine,
    resolved: ResolvedMapping,
    migration: Migration,
    *,
    workers: int | None = None,
) -> None:
    """Undo every chunk that is marked; returns when none is left.

    Args:
        engine: Where to connect.
        resolved: The mapping with its types.
        migration: The migration.
        workers: Threads; None leaves it to the server's size.

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
    statements = UndoStatements(resolved, migration, own=own)
    most = resolved.mapping.thresholds.failed_attempts * TRIES
    crew = Crew()
    walkers = [_Walker(statements, most, crew) for _ in range(workers or usual_workers(engine))]
    try:
        crew.work(engine, migration.migration_id, walkers)
    except ServerRestarted as error:
        raise held(engine, migration, str(error)) from error
    except _Unmended as unmended:
        raise stopped(engine, migration, unmended.error) from unmended.error
    except sa.exc.DBAPIError as error:
        raise stopped(engine, migration, error) from error


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


@dataclass
class _Walker:
    """One of those who walk back, and what it keeps from turn to turn.

    Attributes:
        statements: What is done to a chunk.
        most: How often in a row it may fail on what passes.
        crew: All of them.
        limit: How many chunks it takes next.
        failures: How often it failed in a row.
        apart: Whether it looks for the records that the application refuses to take back.
    """

    statements: UndoStatements
    most: int
    crew: Crew
    limit: int = field(default_factory=lambda: CHUNKS_AT_ONCE)
    failures: int = 0
    apart: bool = False

    def connected(self, connection: sa.Connection) -> None:
        """What became of a COMMIT that was lost is told by which chunks are left."""

    def turn(self, connection: sa.Connection) -> bool:
        """One transaction; False where no chunk is left to undo."""
        try:
            undone = undo_some(connection, self.statements, self.limit, apart=self.apart)
            left = undone or self.statements.any_left(connection)
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
        if not undone:
            # Others hold what is left, and may fail; or a session that we have lost commits it.
            self.crew.stop.wait(backoff(1))
        elif self.apart:
            self.limit, self.apart = CHUNKS_AT_ONCE, False
        return left

    def _after(self, error: sa.exc.DBAPIError) -> None:
        action = action_for(sqlstate(error))
        self.failures += 1
        if self.crew.stop.is_set() or action is Action.RECONNECT:
            raise error
        if action is Action.ISOLATE and not self.apart:
            self.limit, self.apart = 1, True
        elif passes(error) and self.failures <= self.most:
            self.limit = max(1, self.limit // 2)
            logger.info("%s, the rollback tries again", message(error))
            self.crew.stop.wait(backoff(self.failures))
        else:
            raise _Unmended(error) from error


def undo_some(
    connection: sa.Connection, statements: UndoStatements, limit: int, *, apart: bool
) -> bool:
    """Undo the newest chunks that are marked and free; False where there are none.

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
        return False
    bad: list[Bad] = []
    if apart:
        statements.lock(connection, numbers)
        bad = _refused(connection, statements, numbers[0])
        swallowed = statements.undo(connection, numbers, bad=bad)
    else:
        swallowed = statements.undo_chunks(connection, numbers)
    if swallowed:
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
