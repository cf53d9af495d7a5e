"""Working a planned migration off: phase after phase, with checkpoints and thresholds.

What one worker does is in `worker.py`; here is decided whether the next phase may begin, and in
which state a migration is left when something stops it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import (
    checkpoints,
    control,
    gates,
    ledger,
    plan,
    rewrite,
    rewrite_refusals,
    rollback,
    snapshot,
    thresholds,
)
from inventory_migration.engine.failures import lets_nobody_through, message, sqlstate
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.pacing import POLL_SECONDS, Pacing
from inventory_migration.engine.patience import patiently
from inventory_migration.engine.plan import Start
from inventory_migration.engine.staffing import usual_workers
from inventory_migration.engine.thresholds import Exceeded
from inventory_migration.engine.worker import work_phase
from inventory_migration.errors import (
    ControlTotalsDiffer,
    MappingInvalid,
    MigrationError,
    MigrationFailed,
    MigrationHeld,
    MigrationPaused,
    MigrationRolledBack,
    RetriesExhausted,
    ServerNotWell,
    ServerRestarted,
)
from inventory_migration.mapping import StockMapping

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 3.0
HOLDING_SECONDS = 60.0
"""How often progress is told while there is none: a night is long."""


@dataclass(frozen=True)
class Progress:
    """Where a migration stands, read from the ledger."""

    records: int
    records_done: int
    records_per_second: float


def transform_stock(
    engine: sa.Engine,
    mapping: StockMapping,
    claim: control.Claim,
    start: Start,
    *,
    stop_after: str | None = None,
    workers: int | None = None,
) -> Migration | None:
    """Give every stock record its default location: snapshot, then chunk after chunk.

    Args:
        engine: The application's database.
        mapping: What moves.
        claim: The right to drive the target.
        start: Who starts.
        stop_after: Name of the phase after which to pause.
        workers: Threads; None leaves it to the server's size.

    Returns:
        The migration; None where nothing was new.

    Raises:
        GateRefused: The gate of the default locations has not passed, or is stale.
        MigrationPaused: It stopped after a phase, on a threshold, or because somebody asked.
        MigrationRolledBack: A threshold was exceeded, and it has been undone.
        MigrationHeld: The server lacks something.
        MigrationFailed: Something that nobody foresaw.
    """
    names = [phase.name for phase in mapping.phases]
    if stop_after is not None and stop_after not in names:
        raise MappingInvalid(
            origin=mapping.name,
            problems=[
                f"{mapping.name}: there is no phase {stop_after}; phases: {', '.join(names)}"
            ],
        )
    if start.rewrite:
        rewrite_refusals.refuse_options(
            mapping,
            maintenance_window=start.maintenance_window,
            stop_after=stop_after,
            max_rows_per_second=start.max_rows_per_second,
        )
    resolved = plan.read_mapping(engine, mapping)
    claim.take(resolved.target)
    with engine.connect() as connection:
        gates.require(connection, resolved, "default_locations")
        # A verified or rolled back migration needs no work; whoever wants a new one plans it first.
        if ledger.find(connection, target=resolved.target, states=ledger.ACTIVE) is None:
            return None
    migration = plan.open_migration(engine, resolved, start)
    if migration is None:
        return None
    work(
        engine,
        resolved,
        migration,
        start,
        stop_after=stop_after,
        workers=workers,
        at_once=start.rewrite,
    )
    with engine.begin() as connection:
        gates.open_gate(connection, resolved, "transformed_stock", run_id=start.run_id)
    return migration


def require_phase(mapping: StockMapping, name: str | None) -> None:
    """Refuse a phase that the mapping does not have; None stands for no stop at all.

    Raises:
        MappingInvalid: There is no such phase; names those that there are.
    """
    names = [phase.name for phase in mapping.phases]
    if name is not None and name not in names:
        problem = f"{mapping.name}: there is no phase {name}; its phases are {', '.join(names)}"
        raise MappingInvalid(origin=mapping.name, problems=[problem])


def work(
    engine: sa.Engine,
    resolved: ResolvedMapping,
    migration: Migration,
    start: Start,
    *,
    stop_after: str | None = None,
    workers: int | None = None,
    at_once: bool = False,
) -> None:
    """Work all phases off, or leave the migration in a state that says why not.

    The caller holds the claim on the target.

    Args:
        engine: The application's database.
        resolved: The mapping and its types.
        migration: The migration.
        start: Who starts.
        stop_after: Name of the phase after which to pause.
        workers: Threads; None for as many as the server has cores for.
        at_once: All records go in one rewrite of the table, before what is left goes in chunks.
    """
    pacing = Pacing(engine, resolved.mapping, migration, start)
    again = partial(patiently, tries=resolved.mapping.thresholds.failed_attempts)
    try:
        again(partial(snapshot.write_snapshot, engine, resolved, migration))
        again(partial(set_running, engine, migration))
        workers = workers or again(partial(usual_workers, engine))
        if at_once:
            _rewrite(engine, resolved, migration, pacing, workers)
        for number, phase in again(partial(_phases, engine, migration)):
            _work_one_phase(engine, resolved, migration, number, phase, pacing, workers)
            stop = again(partial(thresholds.exceeded, engine, resolved, migration))
            if stop is not None:
                _act(engine, resolved, migration, stop, workers)
            again(partial(_stop_if_asked, engine, migration))
            checkpoints.refresh_statistics(engine, resolved)
            wrong = again(partial(checkpoints.reconcile_phase, engine, resolved, migration, number))
            if wrong is not None:
                action = resolved.mapping.thresholds.action_on("reconciliation")
                found = Exceeded("reconciliation", f"phase {phase}", wrong, action)
                _act(engine, resolved, migration, found, workers)
            if phase == stop_after and _anything_pending(engine, migration):
                _pause(engine, migration, f"stopped after phase {phase}")
    except ControlTotalsDiffer as error:
        _fail(engine, migration, str(error))
        raise
    except RetriesExhausted as error:
        found = thresholds.exhausted(resolved, error.chunk, error.attempts, error.state)
        _act(engine, resolved, migration, found, workers)
    except (ServerRestarted, ServerNotWell) as error:
        # A disk that fills up holds, here as when a statement finds it full.
        if isinstance(error, ServerNotWell) and not error.disk_full:
            _pause(engine, migration, str(error))
        _set_stopped(engine, migration, "held", str(error))
        raise MigrationHeld(
            mapping=migration.mapping, migration_id=migration.migration_id, reason=str(error)
        ) from error
    except MigrationError:
        raise
    except sa.exc.DBAPIError as error:
        raise _left_behind(engine, migration, error) from error
    except Exception as error:
        _fail(engine, migration, f"{type(error).__name__}: {error}")
        raise
    except BaseException:
        # Ctrl-C or Dagster's Terminate: the workers have been stopped and have rolled back.
        control.pause(engine, migration.migration_id, reason="interrupted")
        raise
    finally:
        pacing.close()


def _rewrite(
    engine: sa.Engine,
    resolved: ResolvedMapping,
    migration: Migration,
    pacing: Pacing,
    workers: int,
) -> None:
    """All phases in one pass, once the server may be worked on."""
    tries = resolved.mapping.thresholds.failed_attempts
    while (going := pacing.tend()) and pacing.holding:
        time.sleep(POLL_SECONDS)
    if not going:
        _stop_if_asked(engine, migration)
    once = partial(patiently, partial(rewrite.rewrite, engine, resolved, migration), tries=tries)
    try:
        once()
    except ControlTotalsDiffer as error:
        # What is read from other tables may have changed meanwhile; twice it has not.
        logger.warning("%s; once more", error)
        once()
    stop = patiently(partial(thresholds.exceeded, engine, resolved, migration), tries=tries)
    if stop is not None:
        _act(engine, resolved, migration, stop, workers)
    patiently(partial(_stop_if_asked, engine, migration), tries=tries)
    checkpoints.refresh_statistics(engine, resolved)


def set_running(engine: sa.Engine, migration: Migration) -> None:
    """Note that somebody works on it again, whatever it stood at."""
    with control.exclusive(engine, migration.migration_id, wanted="run") as connection:
        found = ledger.find(connection, migration_id=migration.migration_id)
        if found and found.state != "running":
            ledger.set_state(connection, migration.migration_id, "running")
        connection.execute(
            sa.update(ledger.migration)
            .where(ledger.migration.c.migration_id == migration.migration_id)
            .values(server_started_at=sa.func.pg_postmaster_start_time())
        )


def _phases(engine: sa.Engine, migration: Migration) -> list[tuple[int, str]]:
    with engine.connect() as connection:
        rows = connection.execute(
            sa.select(ledger.phase.c.number, ledger.phase.c.name)
            .where(
                ledger.phase.c.migration_id == migration.migration_id,
                ledger.phase.c.reconciled_at.is_(None),
            )
            .order_by(ledger.phase.c.number)
        )
        return [(number, name) for number, name in rows]


def _work_one_phase(
    engine: sa.Engine,
    resolved: ResolvedMapping,
    migration: Migration,
    number: int,
    phase: str,
    pacing: Pacing,
    workers: int,
) -> None:
    tries = resolved.mapping.thresholds.failed_attempts
    began = told = time.monotonic()
    first = patiently(lambda: _progress(engine, migration, 0.0), tries=tries)
    chunks, pending = patiently(lambda: _chunks(engine, migration, number), tries=tries)
    pacing.begin_phase(pending, workers, of_pass=snapshot.chunks_of_pass(resolved, chunks))

    def watch() -> bool:
        nonlocal told
        now = time.monotonic()
        if now - told < (HOLDING_SECONDS if pacing.holding else PROGRESS_SECONDS):
            return True
        told = now
        try:
            state = _progress(engine, migration, time.monotonic() - began, first.records_done)
            within = thresholds.exceeded(engine, resolved, migration) is None
        except sa.exc.DBAPIError as error:
            if not lets_nobody_through(error):
                raise
            # Whoever works meets it too, and knows what to do about it.
            logger.info("progress is not known: %s", message(error))
            return True
        logger.info(
            "phase %s: %d of %d records, %.0f per second",
            phase,
            state.records_done,
            state.records,
            state.records_per_second,
            extra={
                "migration_id": migration.migration_id,
                "phase": phase,
                "rows_total": state.records,
                "rows_done": state.records_done,
            },
        )
        return within

    work_phase(engine, resolved, migration, number, pacing, workers=workers, watch=watch)


def _progress(engine: sa.Engine, migration: Migration, seconds: float, base: int = 0) -> Progress:
    """How far a migration is, by the chunks that are done."""
    records = ledger.chunk.c.records - ledger.chunk.c.reopened
    done = ledger.chunk.c.state == "done"
    with engine.connect() as connection:
        whole, finished = connection.execute(
            sa.select(
                sa.func.coalesce(sa.func.sum(records), 0),
                sa.func.coalesce(sa.func.sum(records).filter(done), 0),
            ).where(ledger.chunk.c.migration_id == migration.migration_id)
        ).one()
    rate = (int(finished) - base) / seconds if seconds > 0 else 0.0
    return Progress(records=int(whole), records_done=int(finished), records_per_second=rate)


def _act(
    engine: sa.Engine,
    resolved: ResolvedMapping,
    migration: Migration,
    stop: Exceeded,
    workers: int | None,
) -> None:
    """Do what the mapping wants done about a limit that was exceeded."""
    thresholds.note(engine, resolved, migration, stop)
    if stop.action == "continue":
        return
    if stop.action == "pause":
        _pause(engine, migration, stop.reason)
    rollback.undo_migration(engine, resolved, migration, reason=stop.reason, workers=workers)
    raise MigrationRolledBack(
        mapping=migration.mapping, migration_id=migration.migration_id, reason=stop.reason
    )


def _stop_if_asked(engine: sa.Engine, migration: Migration) -> None:
    try:
        with engine.connect() as connection:
            control.require(connection, migration.migration_id, "run")
    except MigrationPaused as error:
        # Whoever asked may have died before the workers had ended.
        control.pause(engine, migration.migration_id, reason=error.reason)
        raise


def _pause(engine: sa.Engine, migration: Migration, reason: str) -> None:
    control.pause(engine, migration.migration_id, reason=reason)
    raise MigrationPaused(
        mapping=migration.mapping, migration_id=migration.migration_id, reason=reason
    )


def _chunks(engine: sa.Engine, migration: Migration, phase: int) -> tuple[int, int]:
    """How many chunks a phase has, and how many of them are left."""
    pending = sa.func.count().filter(ledger.chunk.c.state == "pending")
    with engine.connect() as connection:
        whole, left = connection.execute(
            sa.select(sa.func.count(), pending).where(
                ledger.chunk.c.migration_id == migration.migration_id,
                ledger.chunk.c.phase == phase,
            )
        ).one()
    return int(whole), int(left)


def _anything_pending(engine: sa.Engine, migration: Migration) -> bool:
    with engine.connect() as connection:
        return bool(
            connection.execute(
                sa.select(
                    sa.exists().where(
                        ledger.chunk.c.migration_id == migration.migration_id,
                        ledger.chunk.c.state == "pending",
                    )
                )
            ).scalar_one()
        )


def _left_behind(
    engine: sa.Engine, migration: Migration, error: sa.exc.DBAPIError
) -> MigrationError:
    """Leave a state that says what stopped the migration; as far as the server still answers."""
    state, reason = sqlstate(error), message(error)
    held = lets_nobody_through(error)
    facts: dict[str, Any] = {
        "mapping": migration.mapping,
        "migration_id": migration.migration_id,
        "reason": f"{reason} (SQLSTATE {state})",
    }
    _set_stopped(engine, migration, "held" if held else "failed", facts["reason"])
    return MigrationHeld(**facts) if held else MigrationFailed(**facts)


def _fail(engine: sa.Engine, migration: Migration, reason: str) -> None:
    _set_stopped(engine, migration, "failed", reason)


def _set_stopped(engine: sa.Engine, migration: Migration, state: str, reason: str) -> None:
    try:
        with control.exclusive(engine, migration.migration_id, seconds=10) as connection:
            found = ledger.find(connection, migration_id=migration.migration_id)
            if found and found.state in {"planned", "running", "verifying"}:
                reached = "failed" if found.state == "planned" else state
                ledger.set_state(connection, migration.migration_id, reached, reason=reason)
    except sa.exc.DBAPIError as lost:
        # The server is away: the next run finds the migration as a crash would have left it.
        logger.warning("the state could not be noted: %s", message(lost))
