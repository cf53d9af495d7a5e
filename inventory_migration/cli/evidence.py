"""The command that tells a genuine report from a forged one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from inventory_migration.cli.answers import LISTED
from inventory_migration.cli.session import Session, verb
from inventory_migration.cli.terminal import moment, number, say


@verb
def verify_report(
    session: Session,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A report: its .html, .md or .json file.")
    ],
) -> int:
    """Tell whether a report is what was sealed, and which records were changed since."""
    from inventory_migration.report import authenticity

    found = authenticity.verify(session.target().reader, file)
    session.show(found, verified)
    return 0 if found["genuine"] and not found["tampered"] else 3


def verified(screen: Console, found: Mapping[str, Any]) -> None:
    """Whether it is genuine, what differs, and what was changed in the database since."""
    if found["genuine"]:
        say(
            screen,
            f"Genuine: {found['file']} says what was sealed on {moment(found['sealed_at'])} by "
            f"{found['sealed_by']}.",
        )
    else:
        say(screen, f"Forged: {found['file']} is not what was sealed.")
    for why in found["why"]:
        say(screen, f"  {why[0].upper()}{why[1:]}.")
    for one in found["differs"][:LISTED]:
        say(screen, f"  {one['where']}: {one['file']} in the file, {one['sealed']} as sealed")
    if found["sha256"]:
        say(
            screen,
            f"  Report {found['report']}, migration {found['migration_id']} of "
            f"{found['mapping']}, SHA-256 {found['sha256']}",
        )
        rows(screen, "Snapshot", found["snapshot"], "tampered with since it was written")
        rows(screen, "Live rows", found["live"], "changed since the report")
    for sentence in found["since"]:
        say(screen, sentence)


def rows(screen: Console, name: str, found: Mapping[str, Any], changed: str) -> None:
    """What was changed of some rows, by their keys."""
    if not found["compared"]:
        say(screen, f"{name}: not compared, {found['why']}.")
        return
    total, shown = found["changed"]["rows"], found["changed"]["shown"]
    if not total:
        say(screen, f"{name}: none was {changed}.")
        return
    say(screen, f"{name} {changed}: {number(total)}.")
    for row in shown[:LISTED]:
        say(screen, f"  {_named(row)}")
    if total > LISTED:
        say(screen, f"  and {number(total - LISTED)} more; --json lists up to {len(shown)}.")


def _named(row: Mapping[str, Any]) -> str:
    if row["through"] is not None:
        return f"some of chunk {row['chunk']}, positions {row['position']} to {row['through']}"
    if row["key"] is None:
        return f"position {row['position']}, which is gone"
    return f"{row['key']} (chunk {row['chunk']}, position {row['position']})"


COMMANDS = {"verify-report": (verify_report, "reports/stock_items-1.html")}
