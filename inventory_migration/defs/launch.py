"""Running a mapping's job in this process: how the CLI's `run` and `resume` become Dagster runs.

The run is kept where `dagster dev` finds it. What comes back is what the verbs would have returned
or raised. What a terminal shows of it does not belong here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.events import RunFailureReason
from dagster._core.instance.ref import InstanceRef

from inventory_migration import project
from inventory_migration.defs.build import build_definitions
from inventory_migration.defs.history import kept
from inventory_migration.defs.resources import Database, given
from inventory_migration.engine import ledger
from inventory_migration.errors import MigrationError, MigrationPaused, RunFailed
from inventory_migration.mapping import StockMapping

_NO_CAPTURE = {
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    }
}


@dataclass(frozen=True)
class Launched:
    """A run that has ended.

    Attributes:
        run_id: Dagster's id of the run.
        success: Whether all steps and gates passed.
        error: The condition that stopped it; None where it succeeded.
        summary: What the migration did, in the shape that `run --json` prints; None where the run
            did not get to its end.
    """

    run_id: str
    success: bool
    error: MigrationError | None
    summary: dict[str, Any] | None


def migrate(
    mapping: StockMapping,
    *,
    database_url: str | None = None,
    options: Mapping[str, Any] | None = None,
    known: Sequence[StockMapping] = (),
    log_level: int = logging.CRITICAL,
) -> Launched:
    """Run `migrate_<mapping>` in this process, from a terminal's main thread.

    Args:
        mapping: What moves.
        database_url: Any libpq URL; it is not stored with the run.
        options: The fields of `assets.RunOptions`.
        known: Other mappings, for the definitions that the run is part of.
        log_level: From which level on Dagster's own log goes to stderr.

    Raises:
        KeyboardInterrupt: Somebody pressed Ctrl-C before there was a migration to pause.
    """
    database = Database(database_url)
    mappings = [mapping, *(other for other in known if other.name != mapping.name)]
    definitions = build_definitions(
        mappings,
        resource_overrides={"database": given(lambda: database, pushes=False)},
        log_level=log_level,
    )
    job = definitions.resolve_job_def(f"migrate_{mapping.name}")
    # The terminal is the caller's: captured, it would be none, and progress bars would not move.
    reference = InstanceRef.from_dir(str(project.dagster_home()), overrides=_NO_CAPTURE)
    with dg.DagsterInstance.from_ref(kept(reference)) as instance:
        result = job.execute_in_process(
            run_config=dict(options or {}), instance=instance, raise_on_error=False
        )
    error = None if result.success else database.error
    if error is None and not result.success:
        error = _interruption(database, mapping) if _interrupted(database, result) else None
        error = error or _unforeseen(result)
    return Launched(
        run_id=result.run_id,
        success=result.success,
        error=error,
        summary=database.summary if result.success else None,
    )


def _interrupted(database: Database, result: dg.ExecuteInProcessResult) -> bool:
    # Between two steps an interrupt reaches none of them, and the run is all that it stops.
    return database.interrupted or any(
        getattr(event.event_specific_data, "failure_reason", None)
        is RunFailureReason.UNEXPECTED_TERMINATION
        for event in result.all_events
        if event.is_job_event
    )


def _interruption(database: Database, mapping: StockMapping) -> MigrationPaused:
    with database.target.reader.connect() as connection:
        if ledger.installed(connection):
            found = ledger.find(connection, mapping=mapping.name, states=ledger.ACTIVE)
            if found is not None and found.state == "paused":
                return MigrationPaused(
                    mapping=mapping.name,
                    migration_id=found.migration_id,
                    reason=found.reason or "interrupted",
                )
    raise KeyboardInterrupt


def _unforeseen(result: dg.ExecuteInProcessResult) -> RunFailed:
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            cause = error.cause or error if error else None
            reason = cause.message.strip() if cause else "no reason given"
            return RunFailed(run_id=result.run_id, step=event.step_key, reason=reason)
    said = [event.message for event in result.all_events if event.is_failure and event.message]
    return RunFailed(run_id=result.run_id, step=None, reason=said[-1] if said else "it did not run")
