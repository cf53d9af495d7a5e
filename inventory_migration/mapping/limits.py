"""When a migration stops by itself, who is told, and how long a gate's verdict may be relied on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from inventory_migration.mapping.parts import Part

Trigger = Literal["quarantined", "failed_attempts", "reconciliation", "chunk_seconds"]
"""What makes a migration stop by itself."""

TriggerAction = Literal["rollback", "pause", "continue"]

Occasion = Literal[
    "quarantined", "failed_attempts", "reconciliation", "chunk_seconds", "verification"
]
"""What somebody is told about: the triggers, and a last verification that failed."""


class Hook(Part):
    """Who is told: a command that reads a JSON object, or a URL that takes one by POST.

    A URL is named by the environment variable that holds it, since it is a secret more often than
    not, and a mapping is kept in the ledger.

    Attributes:
        command: The command with its arguments.
        url_variable: The environment variable that holds the URL.
        occasions: What is told; without it, everything.
    """

    command: list[str] | None = Field(default=None, min_length=1)
    url_variable: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    occasions: list[Occasion] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_way(self) -> Hook:
        if (self.command is None) == (self.url_variable is None):
            raise ValueError("a hook needs either command or url_variable")
        return self


class Thresholds(Part):
    """When a migration stops by itself, what it does then, and who is told.

    Attributes:
        quarantined_percent: Share of the records, of the migration and of each phase.
        after_records: How many must have been looked at before that share counts.
        failed_attempts: How often a chunk may fail.
        chunk_seconds: How long a chunk may take; without it, as long as it takes.
        action: What each of these does, and a phase that does not reconcile.
        actions: What one of them does instead.
        hooks: Who is told.
    """

    quarantined_percent: float = Field(default=1.0, ge=0, le=100)
    after_records: int = Field(default=1000, ge=0)
    failed_attempts: int = Field(default=8, ge=1)
    chunk_seconds: float | None = Field(default=None, gt=0)
    action: TriggerAction = "rollback"
    actions: dict[Trigger, TriggerAction] = Field(default_factory=dict)
    hooks: list[Hook] = Field(default_factory=list)

    def action_on(self, trigger: Trigger) -> TriggerAction:
        """What a trigger does."""
        return self.actions.get(trigger, self.action)


class Gates(Part):
    """How long a gate's verdict may be relied on.

    Attributes:
        max_age_minutes: How old the verdict may be on which the next step relies.
    """

    max_age_minutes: int = Field(default=24 * 60, ge=1)
