"""What was archived, as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from inventory_migration.cli.terminal import moment, number, say, table


def archived(screen: Console, found: Mapping[str, Any]) -> None:
    """Which archives there are now, and which of them are new."""
    for one in found["archives"]:
        named = f"Migration {one['migration_id']} of {one['mapping']}"
        if one["purged_at"]:
            say(screen, f"{named} is archived in {one['path']}, and was purged.")
            continue
        how = "was archived and read back" if one["written"] else "is archived and was read back"
        say(screen, f"{named} {how}: {one['path']}")
    _listed(screen, [one for one in found["archives"] if not one["purged_at"]])


def verified(screen: Console, found: Mapping[str, Any]) -> None:
    """That each archive is what was written, and until when it is kept."""
    for one in found["archives"]:
        say(screen, f"{one['path']} is what its manifest says.")
    _listed(screen, found["archives"])


def _listed(screen: Console, archives: Sequence[Mapping[str, Any]]) -> None:
    if not archives:
        return
    say(screen)
    rows = [
        {
            "migration": f"{one['mapping']} {one['migration_id']}",
            "ended": f"{one['state'].replace('_', ' ')}, {moment(one['ended_at'])}",
            "rows": number(one["rows"]),
            "bytes": number(one["bytes"]),
            "keep until": _until(one["keep_until"]),
        }
        for one in archives
    ]
    table(screen, rows, right={"rows", "bytes"})
    say(screen)
    say(screen, "SHA-256 of the manifests, to be kept where nobody can change both:")
    for one in archives:
        say(screen, f"  {one['manifest_sha256']}  {one['path']}/manifest.json")


def _until(text: str | None) -> str:
    if text is None:
        return "for ever"
    passed = datetime.fromisoformat(text) <= datetime.now(UTC)
    return f"{moment(text)}{', which has passed' if passed else ''}"
