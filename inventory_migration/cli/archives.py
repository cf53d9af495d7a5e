"""The commands for what has ended: copy it away, read a copy back, remove the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inventory_migration.cli import archive_answers
from inventory_migration.cli.answers import PROGRAM
from inventory_migration.cli.session import Mappings, Name, Session, verb

Folder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="An archive, or a folder of archives."),
]


@verb
def archive(
    session: Session,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where archives are kept.")],
    name: Name = None,
    mapping: Mappings = None,
    migration_id: Annotated[
        int | None, typer.Option("--migration", metavar="N", help="Only this migration.")
    ] = None,
    purge: Annotated[
        bool,
        typer.Option(
            "--purge", help="Then remove from the database what is older than keep_online."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> int:
    """Copy migrations that have ended into Parquet files, each with a manifest, and read them back.

    One that is archived there already is read back and left as it is. With --purge the records of
    those that ended longer ago than the mapping's keep_online are only there from then on.
    """
    from inventory_migration import keeping

    chosen = session.mapping(name, session.mappings(mapping))
    target = session.target(writes=True)
    due = keeping.due(target, chosen, migration_id=migration_id) if purge else None
    if due is not None and due.migrations:
        question = archive_answers.purging(chosen.name, due)
        if not session.confirm(question, yes=yes):
            return 1
    with session.watched():
        archives = keeping.archive(target, chosen, to, migration_id=migration_id)
        purged = keeping.purge_archived(target, chosen, due, archives) if due is not None else []
    found = {
        "mapping": chosen.name,
        "changed": bool(purged) or any(one["written"] for one in archives),
        "archives": archives,
        "purged": purged,
        "kept_until": {
            str(number): until.isoformat()
            for number, until in (due.kept_until if due is not None else {}).items()
        },
    }
    session.show(found, archive_answers.archived)
    return 0


@verb
def verify_archive(session: Session, folder: Folder) -> None:
    """Read an archive back, file by file, and hold it against its manifest; asks no database."""
    from inventory_migration import keeping

    found = {"folder": str(folder.absolute()), "archives": keeping.verify(folder)}
    session.show(found, archive_answers.verified)


@verb
def drop(
    session: Session,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> int:
    """Remove the tool's own tables, views and functions from the database.

    Refused, with all that stands against it, while something would be lost: a migration under way,
    records in quarantine, what is in no archive, triggers on your tables, what others have built
    upon it. Your tables stay as they are.
    """
    from inventory_migration import clearing

    target = session.target(writes=True)
    archives = clearing.ready(target)
    if not session.confirm(archive_answers.dropping(archives), yes=yes):
        return 1
    session.show(clearing.drop_ledger(target, archives), archive_answers.dropped)
    return 0


ledger = typer.Typer(help="The tool's own tables in the database.", no_args_is_help=True)
ledger.command("drop", epilog=f"For example: {PROGRAM} ledger drop --yes")(drop)

COMMANDS = {
    "archive": (archive, "stock_items --to /srv/archives"),
    "verify-archive": (verify_archive, "/srv/archives/stock_items-1"),
}
