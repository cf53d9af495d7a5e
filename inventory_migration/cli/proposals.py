"""The command that proposes a mapping, and how its answer reads."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inventory_migration.cli.session import Session, verb
from inventory_migration.errors import CommandUnclear, MappingUndecided

if TYPE_CHECKING:
    from rich.console import Console

PROGRAM = "inventory-migration"


@verb
def init(
    session: Session,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write it there; never over a file."),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option("--table", metavar="NAME", help="The table of the stock records."),
    ] = None,
) -> None:
    """Propose a mapping from the database's catalog, with what each choice rests on.

    Writes nothing to the database. Exit code 3 where a key of it is left for you to decide.
    """
    from inventory_migration import inquiries

    if out is not None and out.exists():
        raise CommandUnclear(f"{out} is there already, and is not written over; name another file")
    found = inquiries.propose_mapping(session.target(), table)
    if out is not None:
        write_new(out, found.yaml)
    said = {"mapping": found.name, "out": str(out) if out else None, **asdict(found)}
    del said["name"]
    if not session.json:
        for note in found.notes:
            session.note(f"Look at {note}.")
    if found.undecided:
        if session.json:
            session.so_far = said
        else:
            session.show(said, _shown)
        open_keys = [f"{one['key']}: {one['why']}" for one in found.undecided]
        raise MappingUndecided(
            mapping=found.name,
            undecided=open_keys,
            file=shlex.quote(str(out)) if out else "FILE",
        )
    session.show(said, _shown)


def write_new(path: Path, text: str) -> None:
    """Write a file that was not there.

    Raises:
        CommandUnclear: It is there by now, or its folder does not take it.
    """
    try:
        # Exclusively: what somebody writes meanwhile is not written over either.
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CommandUnclear(
            f"the mapping can not be written to {path}: {(error.strerror or str(error)).lower()}; "
            "name another file with --out"
        ) from None


def _shown(screen: Console, found: dict[str, Any]) -> None:
    """The document as it is, or where it was written."""
    from inventory_migration.cli.terminal import say

    if found["out"] is None:
        screen.file.write(found["yaml"])
        return
    say(screen, f"{found['out']}: a mapping for the stock records of {found['table']}.")
    if not found["undecided"]:
        file = shlex.quote(found["out"])
        say(screen, f"Next: read it, then '{PROGRAM} test --mapping {file}'.")


COMMANDS = {"init": (init, "--out shop.yaml")}
