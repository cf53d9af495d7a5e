"""What was archived, as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console

from inventory_migration.cli.terminal import moment, number, say, table

if TYPE_CHECKING:
    from inventory_migration.archive.folder import Archive
    from inventory_migration.keeping import Due


def purging(mapping: str, due: Due) -> str:
    """What a purge is about to do, for a question."""
    ids = ", ".join(str(one.migration_id) for one in due.migrations)
    which = "migration" if len(due.migrations) == 1 else "migrations"
    return (
        f"this removes the records of {which} {ids} of {mapping} from the database once they are "
        "archived and read back: nothing of them can be rolled back then"
    )


def dropping(archives: Mapping[int, Archive]) -> str:
    """What dropping the ledger is about to do, for a question."""
    kept = f" ({number(len(archives))} archived)" if archives else ""
    return (
        "this removes the schema inventory_migration from the database: none of its migrations"
        f"{kept} can be rolled back or proved from here then"
    )


def dropped(screen: Console, found: Mapping[str, Any]) -> None:
    """That the ledger is gone, and where all of it is."""
    count = number(len(found["dropped"]))
    say(screen, f"The ledger was dropped: {count} tables, views and functions. Your tables stay.")
    for one in found["archives"]:
        say(screen, f"  {one['mapping']} {one['migration_id']}: {one['path']}")


def archived(screen: Console, found: Mapping[str, Any]) -> None:
    """Which archives there are now, and which of them are new."""
    for one in found["archives"]:
        named = f"Migration {one['migration_id']} of {one['mapping']}"
        if one["purged_at"]:
            say(screen, f"{named} is archived in {one['path']}, and was purged.")
            continue
        how = "was archived and read back" if one["written"] else "is archived and was read back"
        say(screen, f"{named} {how}: {one['path']}")
    for one in found["purged"]:
        rows = number(sum(one["removed"].values()))
        say(screen, f"Migration {one['migration_id']} was purged: {rows} rows are only there now.")
    for migration_id, until in found["kept_until"].items():
        say(screen, f"Migration {migration_id} is kept online until {moment(until)}.")
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
