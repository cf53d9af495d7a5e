"""The commands for what has ended: copy it away, read a copy back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inventory_migration.cli import archive_answers
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
) -> int:
    """Copy migrations that have ended into Parquet files, each with a manifest, and read them back.

    One that is archived there already is read back and left as it is.
    """
    from inventory_migration import keeping

    chosen = session.mapping(name, session.mappings(mapping))
    target = session.target(writes=True)
    with session.watched():
        archives = keeping.archive(target, chosen, to, migration_id=migration_id)
    found = {
        "mapping": chosen.name,
        "changed": any(one["written"] for one in archives),
        "archives": archives,
    }
    session.show(found, archive_answers.archived)
    return 0


@verb
def verify_archive(session: Session, folder: Folder) -> None:
    """Read an archive back, file by file, and hold it against its manifest; asks no database."""
    from inventory_migration import keeping

    found = {"folder": str(folder.absolute()), "archives": keeping.verify(folder)}
    session.show(found, archive_answers.verified)


COMMANDS = {
    "archive": (archive, "stock_items --to /srv/archives"),
    "verify-archive": (verify_archive, "/srv/archives/stock_items-1"),
}
