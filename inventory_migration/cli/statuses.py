"""The command `status`: the migrations of a database, or one of them for as long as it goes on."""

from __future__ import annotations

from typing import Annotated

import typer

from inventory_migration.cli import answers
from inventory_migration.cli.session import Mappings, Name, Session, verb
from inventory_migration.errors import CommandUnclear


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
    from inventory_migration import watching

    if not watch and (interval is not None or until_paused):
        raise CommandUnclear("--interval and --until-paused go with --watch; add it")
    target = session.target()
    chosen = session.name(name, mapping, target) if name or mapping else None
    found = [one for one in watching.glance(target) if chosen in {None, one["mapping"]}]
    if not watch:
        session.show(found, answers.status)
        return 0
    from inventory_migration.cli.watch import watch as watch_one

    return watch_one(session, target, found, interval=interval, until_paused=until_paused)
