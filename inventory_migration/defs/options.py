"""What a run can be told: the fields of Dagster's Launchpad and of `dagster job execute -c`.

Each step has only those that it has a use for. What an option does belongs in the engine.
"""

from dataclasses import replace
from typing import Literal

import dagster as dg
from pydantic import Field, model_validator

from inventory_migration.engine.plan import Start
from inventory_migration.engine.undo_scope import Scope


class StartOptions(dg.Config):
    """What an operator may lift by starting a step."""

    resume: bool = Field(
        default=False,
        description="Go on with a migration that was paused or held; any other start is refused.",
    )
    explicit: bool = Field(
        default=False,
        description="Start anew after a rollback; without it, a rollback stands against every "
        "start, also a scheduled one.",
    )
    as_superuser: bool = Field(
        default=False,
        description="Accept that the application's own triggers run with a superuser's rights, "
        "where the connection's role is one.",
    )

    write_stop: bool = Field(
        default=False,
        description="The application's writes are stopped: lock its tables for the last pass and "
        "the proof, which makes the verdict final for every shape.",
    )
    rewrite: bool = Field(
        default=False,
        description="Move all records at once by a rewrite of their table, which nobody can use "
        "meanwhile; only together with maintenance_window, and only for a location_column.",
    )

    def start(self, run_id: str) -> Start:
        """Return the start that these options make."""
        return Start(
            run_id=run_id,
            explicit=self.explicit,
            resume=self.resume,
            as_superuser=self.as_superuser,
            write_stop=self.write_stop,
            rewrite=self.rewrite,
        )


class WorkOptions(StartOptions):
    """A start, how many work, when and how fast."""

    workers: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Threads that move chunks at the same time, each on a connection of its own; "
        "by default as many as the server, if it is on this machine, has cores, from 2 to 8, and 4 "
        "elsewhere.",
    )
    max_rows_per_second: int | None = Field(
        default=None,
        ge=1,
        description="How many records move at most, instead of what the mapping says.",
    )
    maintenance_window: bool = Field(
        default=False,
        description="This is a maintenance window, in which nobody waits: take longer "
        "transactions. Neither opens nor lifts the hours of the mapping's health.window.",
    )
    no_window: bool = Field(
        default=False,
        description="Work outside of the hours of the mapping's health.window as well.",
    )

    def start(self, run_id: str) -> Start:
        """Return the start that these options make."""
        return replace(
            super().start(run_id),
            max_rows_per_second=self.max_rows_per_second,
            maintenance_window=self.maintenance_window,
            no_window=self.no_window,
        )


class RunOptions(WorkOptions):
    """The same, and how far."""

    stop_after: str | None = Field(
        default=None,
        description="Name of the phase after which to pause, such as pilot; `resume` goes on.",
    )

    @model_validator(mode="after")
    def _rewrite_alone(self) -> "RunOptions":
        """Refuse before the first step what no step could do."""
        if self.rewrite and not self.maintenance_window:
            raise ValueError("rewrite is for a maintenance window only: set maintenance_window too")
        if self.rewrite and self.stop_after is not None:
            raise ValueError("a rewrite moves all phases at once: leave stop_after out")
        if self.rewrite and self.max_rows_per_second is not None:
            raise ValueError("a rewrite is one statement: leave max_rows_per_second out")
        return self


class SteerOptions(dg.Config):
    """Why a migration is stopped, and how firmly."""

    reason: str = Field(
        default="asked for in Dagster", description="Why, for the ledger's trail and the report."
    )
    force: bool = Field(
        default=False,
        description="Cancel what is under way at the server, and end its sessions where that does "
        "not help.",
    )
    wait_seconds: float = Field(
        default=60.0, ge=0, description="How long to wait for the transactions under way."
    )


class MonitorOptions(dg.Config):
    """What a look at migrated stock takes as given."""

    accept: str | None = Field(
        default=None,
        description="Why the numbers are as they are meant to be, however far they have drifted; "
        "later looks are compared with them.",
    )


class AcceptanceOptions(dg.Config):
    """What a trial of the application's operations may do, and what fails it."""

    yes: bool = Field(
        default=False,
        description="Agree that the application's operations are executed on a record of its own, "
        "in a transaction that is rolled back; needed everywhere but on the demo's inventory.",
    )
    fail_on: Literal["critical", "warning"] = Field(
        default="critical", description="From which severity of a finding on the run fails."
    )
    as_superuser: bool = Field(
        default=False,
        description="Accept that the application's own triggers run with a superuser's rights, "
        "where operations are executed as one.",
    )


class RetryOptions(dg.Config):
    """Which records in quarantine are tried again, and how: exactly one way of saying which."""

    keys: list[str] = Field(default=[], description="The records with these keys.")
    rule: str | None = Field(
        default=None, description="All open records of this rule, such as quantity_missing."
    )
    everything: bool = Field(default=False, description="All open records.")
    workers: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Threads that move chunks at the same time, each on a connection of its own; "
        "by default as many as the server, if it is on this machine, has cores, from 2 to 8, and 4 "
        "elsewhere.",
    )
    maintenance_window: bool = Field(
        default=False,
        description="This is a maintenance window, in which nobody waits: take longer "
        "transactions.",
    )
    as_superuser: bool = Field(
        default=False,
        description="Accept that the application's own triggers run with a superuser's rights, "
        "where the connection's role is one.",
    )
    write_stop: bool = Field(
        default=False,
        description="The application's writes are stopped: lock its tables for the last pass and "
        "the proof, which makes the verdict final for every shape.",
    )


class RollbackOptions(dg.Config):
    """What to undo, and why."""

    migration_id: int | None = Field(
        default=None,
        description="The migration to undo; without one all of the mapping's, newest first.",
    )
    phases: list[str] = Field(
        default=[],
        description="Only what is of these phases; the migration can go on, or back, afterwards.",
    )
    companies: list[str] = Field(
        default=[], description="Only what is of the companies with these keys."
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Threads that undo chunks at the same time, each on a connection of its own; "
        "by default as many as move them.",
    )
    dry_run: bool = Field(
        default=False,
        description="Only say what would go back and what would not; write nothing.",
    )
    reason: str = Field(
        default="asked for in Dagster", description="Why, for the ledger's trail and the report."
    )

    def scope(self) -> Scope:
        """Return what is to be undone."""
        return Scope(phases=tuple(self.phases), companies=tuple(self.companies))
