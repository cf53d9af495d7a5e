"""How the server bears a migration, as `status` shows it: what restrains it, and every measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from inventory_migration.cli.terminal import moment, number, say, table

_LEVELS = {"slow": "slowed down", "hold": "waits"}


def restraints(screen: Console, migration_id: int, found: Mapping[str, Any]) -> None:
    """What restrains a migration, and what was measured last."""
    if found["max_rows_per_second"]:
        say(
            screen,
            f"  {migration_id}: at most {number(found['max_rows_per_second'])} records per second",
        )
    for reason in found["reasons"]:
        since = moment(found["since"])
        say(screen, f"  {migration_id}: {_LEVELS[reason['level']]} since {since}: {reason['text']}")
    rows = [
        {
            "measure": measure["measure"],
            "value": _value(measure),
            "slow": _limit(measure["slow"]),
            "hold": _limit(measure["hold"]),
            "unit": measure["unit"],
            "": measure["level"],
            "since": moment(measure["since"]),
        }
        for measure in found["measures"]
    ]
    if rows:
        say(screen, f"Measured {moment(found['at'])}:")
        table(screen, rows, right={"value", "slow", "hold"})


def _value(measure: Mapping[str, Any]) -> str:
    if measure["value"] is None:
        return "unknown" if measure["unknown"] else "none"
    at_least = "at least " if measure["unknown"] else ""
    return at_least + _limit(measure["value"])


def _limit(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}".removesuffix(".0")
