"""The command that looks at an inventory before anything is moved, and says what it found."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from inventory_migration.cli.answers import PROGRAM
from inventory_migration.cli.migrations import REFUSED
from inventory_migration.cli.session import Mappings, Name, Session, verb
from inventory_migration.cli.terminal import number, pairs, say

TOLD = 12
"""How many findings the summary names."""


class FailOn(StrEnum):
    """From which severity of a finding on the exit code says so."""

    WARNING = "warning"
    CRITICAL = "critical"


@verb
def audit(
    session: Session,
    name: Name = None,
    mapping: Mappings = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Where to write the documents.")
    ] = None,
    fail_on: Annotated[
        FailOn | None,
        typer.Option("--fail-on", help="End with 3 where a finding is of this severity or worse."),
    ] = None,
) -> int:
    """Look at an inventory and all that hangs on it; write what was found as HTML, Markdown, JSON.

    It reads one moment of the database and writes nothing to it, before a migration as after one.
    """
    from inventory_migration import audits
    from inventory_migration.audit import documents

    given = session.mappings(mapping)
    chosen = session.mapping(name, given)
    target = session.target()
    folder = documents.make_folder(to)
    with session.watched():
        found = audits.audit(target, chosen, [m for m in given.values() if m is not chosen])
        paths = documents.write(found, folder)
    told = found.to_json()
    session.show({**told, "report": paths}, _shown)
    return REFUSED if fail_on is not None and found.is_worse(fail_on) else 0


def _shown(screen: Console, found: Mapping[str, Any]) -> None:
    totals = found["profile"]["totals"]
    say(screen, f"Audit of {found['mapping']}, as of {found['as_of'].replace('T', ' ')}.")
    say(screen, found["conclusion"])
    say(screen)
    missing = number(totals["companies_without_default_location"])
    pairs(
        screen,
        [
            ("Companies", f"{number(totals['companies'])}, {missing} without a default location"),
            ("Records", number(totals["records"])),
            ("  at a location", number(totals["with_location"])),
            ("Units", number(totals["units"])),
            ("  reserved", number(totals["reserved"])),
            ("  available", number(totals["available"])),
            ("Dependencies", _to_do(found["dependencies"])),
            ("Child tables", _to_do(found["children"])),
        ],
    )
    if found["findings"]:
        say(screen)
    for finding in found["findings"][:TOLD]:
        observed = finding["error"] or finding["observed"]
        say(screen, f"  {finding['severity']}: {finding['key']}: {observed}")
    if len(found["findings"]) > TOLD:
        say(screen, f"  and {number(len(found['findings']) - TOLD)} more; the documents have all")
    say(screen)
    pairs(screen, [(form.upper() if form != "markdown" else "Markdown", path)
                   for form, path in found["report"].items()])  # fmt: skip
    say(screen, f"Next: '{PROGRAM} test {found['mapping']}'.")


def _to_do(rows: list[Mapping[str, Any]]) -> str:
    wanted = sum(row["concern"] == "to do" for row in rows)
    return f"{number(len(rows))}, {number(wanted)} to do something about"


COMMANDS = {"audit": (audit, "stock_items --to reports --fail-on critical")}
