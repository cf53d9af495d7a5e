"""What is kept of migrations that have ended, and for how long: archives, and what is purged.

How an archive is written and read is in `archive/`, what is removed of the ledger in
`engine/purge.py`; here they are joined with the ledger's own record of archives.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.archive.comparing import changed_since
from inventory_migration.archive.folder import (
    Archive,
    name_of,
    open_archive,
    refuse_to_overwrite,
    write_archive,
)
from inventory_migration.archive.manifest import NAME
from inventory_migration.catalog import ResolvedMapping, resolve
from inventory_migration.engine import archived, control, evidence, holdings, ledger, purge
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.patience import patiently
from inventory_migration.errors import (
    ArchiveDiffers,
    ArchiveMissing,
    MappingInvalid,
    NothingToArchive,
    PrivilegeMissing,
    PurgeRefused,
)
from inventory_migration.mapping import StockMapping, later
from inventory_migration.project import state_folder
from inventory_migration.report.documents import write_report

if TYPE_CHECKING:
    from inventory_migration.verbs import Target

logger = logging.getLogger(__name__)

_TRIES = 8

ENDED = ("verified", "rolled_back", "aborted")
"""States of a migration of which an archive is made."""


def archive(
    target: Target, mapping: StockMapping, folder: Path, *, migration_id: int | None = None
) -> list[dict[str, Any]]:
    """Copy each migration of a mapping that has ended into a folder of its own, oldest first.

    One that is there already, and still says what the database holds, is read back and left. Beside
    one that does not, a newer copy is written.

    Args:
        target: The database; only the record of archives is written.
        mapping: The mapping.
        folder: Where archives are kept.
        migration_id: Only this migration.

    Raises:
        NothingToArchive: No migration has ended, or not this one.
        ArchiveNotWritten: The folder can not be written, or something else stands there.
        ArchiveDiffers: A file that was read back is not what was written.
        LedgerNotOwned: The role may not write the ledger's record of archives.
    """
    with target.reader.connect() as connection:
        wanted = ended(connection, mapping.name, migration_id)
        archived.refuse_lack(connection)
    found = []
    for migration in wanted:
        purged = purged_archive(target, migration)
        if purged is not None:
            found.append({**purged, "written": False})
            continue
        there = _standing(target, migration, folder)
        made = there or _write(target, mapping, migration, folder)
        _note(target.engine, migration, made)
        found.append({**told(made), "purged_at": None, "written": there is None})
    return found


def ended(
    connection: sa.Connection, mapping: str, migration_id: int | None = None
) -> list[Migration]:
    """A mapping's migrations that have ended, oldest first.

    Raises:
        NothingToArchive: There is none, or not this one.
    """
    ids: list[int] = []
    if ledger.installed(connection):
        migration = ledger.migration
        query = sa.select(migration.c.migration_id).where(migration.c.mapping == mapping)
        if migration_id is not None:
            query = query.where(migration.c.migration_id == migration_id)
        ids = [*connection.execute(query.order_by(migration.c.migration_id)).scalars()]
    known = [ledger.find(connection, migration_id=number) for number in ids]
    found = [one for one in known if one is not None and one.state in ENDED]
    if found:
        return found
    why = "nothing was ever migrated with it in this database"
    if known and known[-1] is not None:
        state = known[-1].state.replace("_", " ")
        why = f"migration {known[-1].migration_id} is {state} and has not ended"
    elif migration_id is not None:
        why = f"there is no migration {migration_id} of it in this database"
    raise NothingToArchive(mapping=mapping, why=why)


@dataclass(frozen=True)
class Due:
    """What a purge would remove, and what it leaves because it is too young.

    Attributes:
        migrations: To be removed, newest first.
        kept_until: The others, with the moment until which each is kept online.
    """

    migrations: list[Migration]
    kept_until: dict[int, datetime]


def due(target: Target, mapping: StockMapping, *, migration_id: int | None = None) -> Due:
    """The migrations of a mapping that may leave the database; refuses before anything is done.

    Raises:
        NothingToArchive: No migration has ended, or not this one.
        PurgeRefused: The mapping does not say how long records are kept; this very one is too
            young; or something would be lost. Lists all.
        LedgerNotOwned: The role may not remove it.
    """
    keep = mapping.retention.keep_online
    if keep is None:
        why = (
            "the mapping does not say how long records stay in the database: give it "
            "'retention: {keep_online: 90 days}', or as long as you want"
        )
        raise PurgeRefused(mapping=mapping.name, problems=[why])
    migrations, kept = [], {}
    with target.reader.connect() as connection:
        now = connection.execute(sa.text("SELECT statement_timestamp()")).scalar_one()
        for migration in reversed(ended(connection, mapping.name, migration_id)):
            until = later(holdings.ended_at(connection, migration), keep)
            if migration.purged:
                continue
            if until > now:
                kept[migration.migration_id] = until
            else:
                migrations.append(migration)
        if migration_id in kept:
            ends = f"{kept[migration_id]:%Y-%m-%d %H:%M %Z}"
            why = f"migration {migration_id} is kept online for {keep}, until {ends}"
            raise PurgeRefused(mapping=mapping.name, problems=[why])
        together = {migration.migration_id for migration in migrations}
        problems = [
            problem
            for migration in migrations
            for problem in purge.problems(connection, migration, together=together)
        ]
        if problems:
            raise PurgeRefused(mapping=mapping.name, problems=[*dict.fromkeys(problems)])
        lacking = [one for m in migrations for one in purge.lacking(connection, m)]
        archived.refuse_lacking(connection, [*dict.fromkeys(lacking)])
    return Due(migrations, kept)


def purge_archived(
    target: Target, mapping: StockMapping, wanted: Due, archives: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Remove the records of migrations that are archived, newest first; each in one transaction.

    Args:
        target: The database.
        mapping: The mapping.
        wanted: What `due` has found.
        archives: What `archive` has found, of this very moment.

    Raises:
        ArchiveDiffers: An archive is not what was written, read back once more.
        PurgeRefused: The database holds something else by now.
        MigrationBusy: Somebody drives a migration of the target.
    """
    paths = {one["migration_id"]: Path(one["path"]) for one in archives}
    found = []
    with control.Claim(target.engine) as claim:
        for migration in wanted.migrations:
            claim.take(migration.target)
            read = open_archive(paths[migration.migration_id])
            step = partial(_purge, target.engine, mapping, migration, read)
            removed = patiently(step, tries=_TRIES)
            found.append({"migration_id": migration.migration_id, "removed": removed})
    return found


def _purge(
    engine: sa.Engine, mapping: StockMapping, migration: Migration, read: Archive
) -> dict[str, int]:
    # What is compared and what is removed are the rows of one moment: whoever changes one
    # meanwhile makes this fail, and be taken again.
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        connection.execute(sa.text("SET LOCAL row_security = off"))
        changed = changed_since(connection, migration, read.manifest, trail=False)
        if changed:
            problem = (
                f"migration {migration.migration_id} has changed since it was archived "
                f"({', '.join(changed)}): try the same command again"
            )
            raise PurgeRefused(mapping=migration.mapping, problems=[problem])
        removed = purge.remove(
            connection,
            _resolved(connection, mapping),
            migration,
            archive_path=str(read.path),
            manifest_sha256=read.manifest_sha256,
        )
        connection.commit()
    return removed


def _resolved(connection: sa.Connection, mapping: StockMapping) -> ResolvedMapping | None:
    """The mapping and its types; None where the application has changed its tables since."""
    try:
        return resolve(connection, mapping)
    except MappingInvalid:
        return None


def verify(folder: Path) -> list[dict[str, Any]]:
    """Read an archive back, or each that lies in a folder; no database is asked.

    Raises:
        ArchiveMissing: The folder holds none.
        ArchiveDiffers: A file is not what was written; lists all.
    """
    paths = [folder]
    if folder.is_dir() and not (folder / NAME).is_file():
        paths = sorted(path.parent for path in folder.glob(f"[!.]*/{NAME}"))
    if not paths:
        raise ArchiveMissing(folder=str(folder), why=f"there is no {NAME} in it, nor a level below")
    found, problems = [], []
    for path in paths:
        try:
            found.append(told(open_archive(path)))
        except ArchiveDiffers as error:
            if len(paths) == 1:
                raise
            problems += [f"{path.name}/{problem}" for problem in error.problems]
    if problems:
        raise ArchiveDiffers(folder=str(folder), problems=problems)
    return found


def told(archive: Archive) -> dict[str, Any]:
    """What is said of an archive."""
    manifest = archive.manifest
    return {
        "migration_id": manifest.migration_id,
        "mapping": manifest.mapping,
        "state": manifest.state,
        "ended_at": manifest.ended_at.isoformat(),
        "path": str(archive.path),
        "manifest_sha256": archive.manifest_sha256,
        "files": len(manifest.tables) + len(manifest.documents),
        "rows": manifest.rows,
        "bytes": manifest.bytes,
        "tables": {
            table.file.removesuffix(".parquet"): {
                "rows": table.rows,
                "sums": {name: total.sum for name, total in table.sums.items()},
            }
            for table in manifest.tables
        },
        "created_at": manifest.created_at.isoformat(),
        "created_by": manifest.created_by,
        "keep_until": manifest.keep_until.isoformat() if manifest.keep_until else None,
    }


def purged_archive(target: Target, migration: Migration) -> dict[str, Any] | None:
    """The archive that is all there is of a migration's records; None while they are online."""
    with target.reader.connect() as connection:
        row = archived.purged(connection, migration.migration_id)
    if row is None:
        return None
    return {
        "migration_id": migration.migration_id,
        "mapping": migration.mapping,
        "state": migration.state,
        "path": row.path,
        "manifest_sha256": row.manifest_sha256,
        "files": row.files,
        "rows": row.records,
        "purged_at": row.purged_at.isoformat(),
    }


def _standing(target: Target, migration: Migration, folder: Path) -> Archive | None:
    """The archive of a migration in a folder that says what the database still holds."""
    for path in _places(migration, folder):
        if not path.exists():
            return None
        if not (path / NAME).is_file():
            refuse_to_overwrite(path)
        found = open_archive(path)
        with _one_moment(target) as connection:
            if not _is_of(connection, migration, found):
                refuse_to_overwrite(path)
            if not changed_since(connection, migration, found.manifest, trail=True):
                return found
    return None


def _write(target: Target, mapping: StockMapping, migration: Migration, folder: Path) -> Archive:
    name = next(path.name for path in _places(migration, folder) if not path.exists())
    with _one_moment(target) as connection:
        current = ledger.find(connection, migration_id=migration.migration_id) or migration
        documents = partial(_write_documents, target, mapping, current)
        return write_archive(connection, mapping, current, folder / name, documents)


def _places(migration: Migration, folder: Path) -> Iterator[Path]:
    """Where archives of a migration lie in a folder, oldest first."""
    name = name_of(migration)
    yield folder / name
    for number in count(2):
        yield folder / f"{name}.{number}"


def _is_of(connection: sa.Connection, migration: Migration, found: Archive) -> bool:
    """Whether an archive is one of this very migration: another database has numbers of its own."""
    manifest, database = found.manifest, evidence.database_fingerprint(connection)
    return (manifest.mapping, manifest.migration_id) == (
        migration.mapping,
        migration.migration_id,
    ) and database.items() <= manifest.database.items()


def _write_documents(
    target: Target, mapping: StockMapping, migration: Migration, folder: Path
) -> None:
    """The report as it was written when the migration ended, or else as of now.

    What lies below says what stood then; only the newest migration can be told of anew.
    """
    written = sorted((state_folder() / "reports").glob(f"{name_of(migration)}.*"))
    for path in written:
        shutil.copyfile(path, folder / path.name)
    if written:
        return
    with target.reader.connect() as connection:
        newest = ledger.find(connection, mapping=mapping.name)
    if newest is not None and newest.migration_id == migration.migration_id:
        try:
            write_report(target, mapping, folder)
        except PrivilegeMissing as error:
            # Who may read the ledger alone can archive it; the report needs the stock as well.
            logger.warning(
                "migration %s is archived without a report: %s", newest.migration_id, error
            )


def _note(engine: sa.Engine, migration: Migration, made: Archive) -> None:
    manifest = made.manifest
    with engine.begin() as connection:
        archived.note(
            connection,
            migration.migration_id,
            path=str(made.path),
            manifest_sha256=made.manifest_sha256,
            files=len(manifest.tables) + len(manifest.documents),
            rows=manifest.rows,
            summary=manifest.summary,
        )


@contextmanager
def _one_moment(target: Target) -> Iterator[sa.Connection]:
    with verbs.one_moment(target) as (connection, _):
        yield connection
