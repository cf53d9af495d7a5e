"""What a worker does in a turn: claim, retry, isolate, until a phase is worked off.

Any number of threads, and of processes, may work on one migration; the claim by row lock keeps them
apart. The threads of one process are in `crew.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import control, ledger, unheard
from inventory_migration.engine.chunk import ChunkStatements, Claimed, Finished
from inventory_migration.engine.crew import Crew
from inventory_migration.engine.failures import (
    SUPPRESSED,
    Action,
    action_for,
    message,
    sqlstate,
)
from inventory_migration.engine.isolation import write_without_bad
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.pacing import Pacing, Turn
from inventory_migration.engine.patience import backoff
from inventory_migration.errors import (
    ControlTotalsDiffer,
    MigrationError,
    RetriesExhausted,
)

logger = logging.getLogger(__name__)

MOST_CAREFUL = 64
"""How many transactions lock their records first at most before it is tried without again."""


class _Changed(Exception):
    """A record changed while its chunk was written without a lock; the chunk is done again."""


class _Suppressed(MigrationError):
    """A trigger or rule swallowed writes without an error; the chunk is taken apart next time."""


@dataclass
class _Worker:
    """One of the workers of a phase, and what it keeps from turn to turn.

    Attributes:
        statements: What is done to a chunk.
        phase: Number of the phase.
        pacing: What restrains all of them.
        crew: All of them.
        unheard: Chunks whose COMMIT has been sent and not been answered.
        careful: How many of its next transactions lock their records first.
        changed: How many it locked first when a record had changed last.
    """

    statements: ChunkStatements
    phase: int
    pacing: Pacing
    crew: Crew
    unheard: list[int] = field(default_factory=list)
    careful: int = 0
    changed: int = 0

    def connected(self, connection: sa.Connection) -> None:
        """Ask what became of a COMMIT that another connection was lost in."""
        if self.unheard:
            unheard.settle(connection, self.statements.migration_id, self.unheard)
            self.unheard = []

    def turn(self, connection: sa.Connection) -> bool:
        """Take chunks, as many as it may by now."""
        turn = self.pacing.admit(self.crew.stop)
        if turn is None:
            return False
        try:
            return _take(turn, connection, self.statements, self.phase, self, self.crew)
        finally:
            self.pacing.finish(turn, self.crew.stop)

    def meet_writers(self) -> None:
        """Lock first for a while, the longer the more often records change beneath it."""
        self.changed = min(MOST_CAREFUL, max(1, 2 * self.changed))
        self.careful = self.changed


def work_phase(
    engine: sa.Engine,
    resolved: ResolvedMapping,
    migration: Migration,
    phase: int,
    pacing: Pacing,
    *,
    workers: int,
    watch: Callable[[], bool] | None = None,
) -> None:
    """Work until no chunk of the phase is pending, or until the desired state says otherwise.

    Args:
        engine: Where to connect.
        resolved: The mapping with its types.
        migration: The migration, whose snapshot exists.
        phase: Number of the phase.
        pacing: What restrains the workers; tended here.
        workers: Threads on this machine.
        watch: Called every few tenths of a second by the waiting thread; False stops the workers.

    Raises:
        ControlTotalsDiffer: Twice in a row a chunk's totals did not agree.
        sqlalchemy.exc.DBAPIError: Something that no retry mends.
    """
    statements = ChunkStatements(resolved, migration)
    # Nobody begins before it is known whether they may.
    if not pacing.tend():
        return
    crew = Crew()
    crew.work(
        engine,
        migration.migration_id,
        [_Worker(statements, phase, pacing, crew) for _ in range(workers)],
        tend=lambda: pacing.tend() and (watch is None or watch()),
    )


def _take(
    turn: Turn,
    connection: sa.Connection,
    statements: ChunkStatements,
    phase: int,
    worker: _Worker,
    crew: Crew,
) -> bool:
    """One transaction; False where there is nothing left to do or the desired state says stop."""
    claimed: Claimed | None = None
    started = time.monotonic()
    try:
        statements.begin(connection)
        if control.enter(connection, statements.migration_id) != "run":
            connection.rollback()
            return False
        wal_before = _wal_position(connection)
        claimed = statements.claim(connection, phase, turn.chunks)
        if claimed is None:
            left = _pending(connection, statements.migration_id, phase)
            connection.rollback()
            # Others hold what is left; they may fail, so the phase ends only with its last chunk.
            crew.stop.wait(0.05)
            return left
        finished, turn.locking = _transact(connection, statements, claimed, worker)
        turn.wal_bytes = _wal_position(connection) - wal_before
        worker.unheard = claimed.numbers
        connection.commit()
        worker.unheard = []
    except sa.exc.DBAPIError as error:
        connection.rollback()
        if action_for(sqlstate(error)) is not Action.RECONNECT:
            # The server has answered: it has not committed.
            worker.unheard = []
        if crew.stop.is_set():
            return False
        _after_failure(connection, statements, claimed, sqlstate(error), error, turn, crew)
        return True
    except _Changed:
        connection.rollback()
        worker.meet_writers()
        return True
    except (ControlTotalsDiffer, _Suppressed) as error:
        connection.rollback()
        state = SUPPRESSED if isinstance(error, _Suppressed) else "totals"
        if isinstance(error, ControlTotalsDiffer) and claimed and claimed.last_error == "totals":
            raise
        _note_attempt(connection, statements, claimed, state)
        return True
    seconds = time.monotonic() - started
    turn.rows, turn.seconds = sum(chunk.records for chunk in finished), seconds
    turn.done, turn.alone = len(claimed.numbers), claimed.attempts > 0
    _tell(statements.migration_id, finished, seconds)
    return True


def _tell(migration_id: int, finished: list[Finished], seconds: float) -> None:
    """Log each chunk of a transaction that committed, with what the database counted of it."""
    together = f" for {len(finished)} chunks" if len(finished) > 1 else ""
    for chunk in finished:
        counted = [f"{count} {outcome}" for outcome, count in chunk.outcomes.items() if count]
        logger.info(
            "chunk %d done in %.3f s%s: %s",
            chunk.number,
            seconds,
            together,
            ", ".join(counted) or "no record",
            extra={
                "migration_id": migration_id,
                "chunk": chunk.number,
                "rows_total": chunk.records,
                **{f"rows_{outcome}": count for outcome, count in chunk.outcomes.items()},
            },
        )


def _transact(
    connection: sa.Connection, statements: ChunkStatements, claimed: Claimed, worker: _Worker
) -> tuple[list[Finished], float]:
    """Move what is claimed; returns it as finished, and how many seconds its locks took."""
    counted, locking = None, 0.0
    if statements.fast and not (worker.careful or claimed.attempts):
        counted = statements.write_unlocked(connection, claimed.numbers)
        if counted is None:
            raise _Changed
        worker.changed //= 2
    else:
        worker.careful = max(0, worker.careful - 1)
        locking = _lock_and_write(connection, statements, claimed)
    connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
    return statements.finish(connection, claimed.numbers, counted), locking


def _lock_and_write(
    connection: sa.Connection, statements: ChunkStatements, claimed: Claimed
) -> float:
    """Write records that are locked first; returns how many seconds that took."""
    started = time.monotonic()
    statements.lock_records(connection, claimed.numbers)
    locking = time.monotonic() - started
    if claimed.attempts and action_for(claimed.last_error) is Action.ISOLATE:
        bad = write_without_bad(connection, statements, claimed.numbers[0])
        described = statements.described(connection, [record.position for record in bad])
        for record in bad:
            key, company = described[record.position]
            logger.warning(
                "record %s put aside: %s",
                key,
                record.reason,
                extra={
                    "migration_id": statements.migration_id,
                    "chunk": claimed.numbers[0],
                    "company": company,
                },
            )
    elif statements.write(connection, claimed.numbers):
        raise _Suppressed
    return locking


def _after_failure(
    connection: sa.Connection,
    statements: ChunkStatements,
    claimed: Claimed | None,
    state: str | None,
    error: sa.exc.DBAPIError,
    turn: Turn,
    crew: Crew,
) -> None:
    action = action_for(state)
    if action in {Action.STOP, Action.HOLD, Action.RECONNECT} or claimed is None:
        if action in {Action.RETRY, Action.SHRINK}:
            crew.stop.wait(backoff(1))
            return
        raise error
    attempts = _note_attempt(connection, statements, claimed, state)
    if action in {Action.RETRY, Action.SHRINK}:
        turn.failed = message(error)
        _give_up(statements, claimed, attempts, state, error)
        logger.info("%s, %s again", message(error), _span(claimed.numbers))
        crew.stop.wait(backoff(attempts))
    else:
        _give_up(statements, claimed, attempts, state, error)


def _give_up(
    statements: ChunkStatements,
    claimed: Claimed,
    attempts: int,
    state: str | None,
    error: sa.exc.DBAPIError,
) -> None:
    """Stop where a chunk has failed too often, unless the mapping wants to go on trying."""
    limits = statements.resolved.mapping.thresholds
    if attempts > limits.failed_attempts and limits.action_on("failed_attempts") != "continue":
        raise RetriesExhausted(
            migration_id=statements.migration_id,
            chunk=claimed.numbers[0],
            attempts=attempts,
            state=state,
            reason=message(error),
        ) from error


def _note_attempt(
    connection: sa.Connection,
    statements: ChunkStatements,
    claimed: Claimed | None,
    state: str | None,
) -> int:
    """Keep, in a transaction of its own, that these chunks failed; returns how often by now.

    Not behind a pause: they fail again, or do not, once somebody resumes.
    """
    if claimed is None or not control.may_enter(connection, statements.migration_id):
        connection.rollback()
        return 0
    chunk = ledger.chunk
    attempts = connection.execute(
        sa.update(chunk)
        .where(
            chunk.c.migration_id == statements.migration_id,
            chunk.c.number.in_(claimed.numbers),
            chunk.c.state == "pending",
        )
        .values(attempts=chunk.c.attempts + 1, last_error=state)
        .returning(chunk.c.attempts)
    ).scalars()
    most = max(attempts, default=0)
    connection.commit()
    return most


def _wal_position(connection: sa.Connection) -> int:
    """How many bytes of WAL the server has written in its life, whoever caused them."""
    written = sa.text("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")
    return int(connection.execute(written).scalar_one())


def _pending(connection: sa.Connection, migration_id: int, phase: int) -> bool:
    chunk = ledger.chunk
    return bool(
        connection.execute(
            sa.select(
                sa.exists().where(
                    chunk.c.migration_id == migration_id,
                    chunk.c.phase == phase,
                    chunk.c.state == "pending",
                )
            )
        ).scalar_one()
    )


def _span(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"chunk {numbers[0]}"
    return f"chunks {numbers[0]} to {numbers[-1]}"
