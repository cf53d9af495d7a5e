"""The command `status`: the migrations of a database, or one of them for as long as it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from inventory_migration.cli import health, wording
from inventory_migration.cli.answers import PROGRAM
from inventory_migration.cli.session import Mappings, Name, Session, verb
from inventory_migration.cli.terminal import duration, moment, number, say, table
from inventory_migration.errors import CommandUnclear

if TYPE_CHECKING:
    from pathlib import Path

    from inventory_migration.plain import PlainTarget
    from inventory_migration.verbs import Target


@verb
def status(
    session: Session,
    name: Name = None,
    mapping: Mappings = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Watch the migration that is under way until it ends, and end as it does: with "
            "0 verified or taken back as asked, 1 failed, 3 the proof found a difference, 4 "
            "aborted, 5 rolled back by a threshold. With --json an object a line.",
        ),
    ] = False,
    interval: Annotated[
        float | None,
        typer.Option(
            "--interval",
            metavar="SECONDS",
            min=0.1,
            help="From one look to the next with --watch; 1 on a terminal and with --json, "
            "otherwise 5.",
        ),
    ] = None,
    until_paused: Annotated[
        bool,
        typer.Option(
            "--until-paused", help="End, with 4, where what is watched is paused or held, too."
        ),
    ] = False,
) -> int:
    """List the migrations of this database, newest first, and how far each is; or watch one."""
    if not watch and (interval is not None or until_paused):
        raise CommandUnclear("--interval and --until-paused go with --watch; add it")
    if not watch:
        session.show(_found(session, session.plain_target(), name, mapping), listed)
        return 0
    from inventory_migration.cli.watch import watch as watch_one

    target = session.target()
    found = _found(session, target, name, mapping)
    return watch_one(session, target, found, interval=interval, until_paused=until_paused)


def _found(
    session: Session,
    target: Target | PlainTarget,
    name: str | None,
    mapping: Sequence[Path] | None,
) -> list[dict[str, Any]]:
    from inventory_migration import watching

    chosen = session.name(name, mapping, target) if name or mapping else None
    return [one for one in watching.glance(target) if chosen in {None, one["mapping"]}]


def listed(screen: Console, found: Sequence[Mapping[str, Any]]) -> None:
    """The migrations of a database."""
    if not found:
        say(screen, "No migration yet.")
        return
    rows = [
        {
            "id": migration["migration_id"],
            "mapping": migration["mapping"],
            "state": _progressing(migration),
            "phase": migration["phase"] or "",
            "records": f"{number(migration['records_done'])} of {number(migration['records'])}",
            "quarantined": number(migration["quarantined"]),
            "started": moment(migration["started_at"]),
            "took": duration(migration["elapsed_seconds"]) if migration["finished_at"] else "",
        }
        for migration in found
    ]
    table(screen, rows, right={"id", "records", "quarantined", "took"})
    for migration in found:
        if migration["reason"]:
            say(screen, f"  {migration['migration_id']}: {migration['reason']}")
        if migration["archived"]:
            path = migration["archived"]["path"]
            say(screen, f"  {migration['migration_id']}: its records are archived in {path}")
        if migration["working"]:
            say(screen, f"  {migration['migration_id']}: {_going(migration)}")
        if migration["health"] and migration["working"]:
            health.restraints(screen, migration["migration_id"], migration["health"])
    newest = found[0]
    if newest["state"] in {"paused", "held"}:
        say(screen, f"Go on with '{PROGRAM} resume {newest['mapping']}'.")
    elif newest["state"] in {"planned", "running", "verifying"} and not newest["working"]:
        say(
            screen,
            f"Nobody works on migration {newest['migration_id']}: "
            f"'{PROGRAM} run {newest['mapping']}' takes it up.",
        )


def _progressing(migration: Mapping[str, Any]) -> str:
    state = str(migration["state"]).replace("_", " ")
    if migration["state"] in {"planned", "running", "verifying"} and not migration["working"]:
        return f"{state}, left"
    return state


def _going(migration: Mapping[str, Any]) -> str:
    """How far one is that somebody works on, and for how long still."""
    told = [wording.percentage(migration["percent"])]
    if migration["rate"]["now"]:
        told.append(wording.rate(migration["rate"], under_way=True))
    if migration["eta"] is not None:
        told.append(f"{wording.outlook(migration['eta'])}")
    return "; ".join(told)
