"""When a migration stops by itself, and how long a gate's verdict may be relied on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from inventory_migration.mapping.parts import Part


class Thresholds(Part):
    """When a migration stops by itself, and what it does then."""

    quarantined_percent: float = Field(default=1.0, ge=0, le=100)
    after_records: int = Field(default=1000, ge=0)
    failed_attempts: int = Field(default=8, ge=1)
    action: Literal["rollback", "pause", "continue"] = "rollback"


class Gates(Part):
    """How long a gate's verdict may be relied on."""

    max_age_minutes: int = Field(default=24 * 60, ge=1)
