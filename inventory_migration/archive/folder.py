"""Writing an archive: a folder that is complete, or not there.

It grows under another name, is read back file by file, and gets its own in one step at the end.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from inventory_migration import __version__
from inventory_migration.archive.files import write_table
from inventory_migration.archive.manifest import (
    NAME,
    Manifest,
    StoredColumn,
    StoredFile,
    StoredTable,
    Sum,
)
from inventory_migration.archive.reading import read_back, sha256
from inventory_migration.archive.types import stored_type
from inventory_migration.engine import evidence, holdings, ledger, summary, trail
from inventory_migration.engine.holdings import Holding
from inventory_migration.engine.ledger import Migration
from inventory_migration.errors import ArchiveNotWritten
from inventory_migration.mapping import StockMapping, later

DOCUMENTS = "report"
"""The folder of the report's documents within an archive."""


@dataclass(frozen=True)
class Archive:
    """An archive that was read back.

    Attributes:
        path: Its folder.
        manifest: What is in it.
        manifest_sha256: The SHA-256 of the manifest's file.
    """

    path: Path
    manifest: Manifest
    manifest_sha256: str


def name_of(migration: Migration) -> str:
    """What the archive of a migration is called."""
    return f"{migration.mapping}-{migration.migration_id}"


def open_archive(path: Path) -> Archive:
    """Read an archive back, whole.

    Raises:
        ArchiveMissing: The folder is no archive.
        ArchiveDiffers: Its files are not what its manifest says.
    """
    manifest = read_back(path)
    return Archive(path.absolute(), manifest, sha256(path / NAME))


def write_archive(
    connection: sa.Connection,
    mapping: StockMapping,
    migration: Migration,
    path: Path,
    documents: Callable[[Path], None],
) -> Archive:
    """Copy all that the database holds of a migration, and read it back.

    Args:
        connection: A transaction that sees one moment and only reads.
        mapping: The mapping as it is now, for how long the archive is to be kept.
        migration: A migration that has ended.
        path: Its folder to be; the one that it lies in is made where it is not there.
        documents: Writes the report's documents into a folder.

    Raises:
        ArchiveNotWritten: The folder can not be written, is full, or has such an archive already.
        ArchiveDiffers: What was read back is not what was written.
    """
    import pyarrow as pa

    holdings.spell_plainly(connection)
    try:
        with _growing(path) as growing:
            tables = [
                _written(connection, holding, growing)
                for holding in holdings.holdings(connection, migration)
            ]
            (growing / DOCUMENTS).mkdir()
            documents(growing / DOCUMENTS)
            manifest = _manifest(connection, mapping, migration, tables, _documents(growing))
            _write_durably(growing / NAME, manifest.model_dump_json(indent=2).encode() + b"\n")
            _sync_folders(growing)
            found = open_archive(growing)
    except (OSError, pa.ArrowException) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ArchiveNotWritten(folder=str(path), why=_sentence(why)) from error
    return Archive(path.absolute(), found.manifest, found.manifest_sha256)


@contextmanager
def _growing(path: Path) -> Iterator[Path]:
    """A folder to fill, that becomes `path` where nothing goes wrong and else is no more."""
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    growing = folder / f".{path.name}.partial"
    lock = folder / f".{path.name}.lock"
    with lock.open("wb") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            why = "somebody is writing this archive at this moment"
            raise ArchiveNotWritten(folder=str(path), why=why) from None
        try:
            refuse_to_overwrite(path)
            # Left by a process that was killed: the lock says that it is not alive.
            shutil.rmtree(growing, ignore_errors=True)
            growing.mkdir()
            yield growing
            refuse_to_overwrite(path)
            growing.rename(path)
            _sync(folder)
        finally:
            shutil.rmtree(growing, ignore_errors=True)
            lock.unlink(missing_ok=True)


def refuse_to_overwrite(path: Path) -> None:
    """Refuse a place where something is already.

    Raises:
        ArchiveNotWritten: There is.
    """
    if path.exists() or path.is_symlink():
        why = "something is there already, and nothing is written over it"
        raise ArchiveNotWritten(folder=str(path), why=why)


def _written(connection: sa.Connection, holding: Holding, folder: Path) -> StoredTable:
    found = holdings.measure(connection, holding)
    columns = []
    for column in holding.columns:
        stored, note = stored_type(column, found.ranges.get(column.name))
        columns.append(StoredColumn(name=column.name, type=column.type, stored=stored, note=note))
    path = folder / f"{holding.name}.parquet"
    write_table(connection, holding.ordered_rows, columns, path)
    return StoredTable(
        file=path.name,
        sha256=sha256(path),
        bytes=path.stat().st_size,
        rows=found.rows,
        columns=columns,
        sums={
            column.name: Sum(sum=measured.sum, counted=measured.counted)
            for column in holding.columns
            if column.base == "numeric" and (measured := found.ranges[column.name])
        },
        digest=found.digest,
    )


def _documents(folder: Path) -> list[StoredFile]:
    found = []
    for path in sorted((folder / DOCUMENTS).iterdir()):
        data = path.read_bytes()
        _write_durably(path, data)
        found.append(
            StoredFile(
                file=path.relative_to(folder).as_posix(),
                sha256=hashlib.sha256(data).hexdigest(),
                bytes=len(data),
            )
        )
    return found


def _manifest(
    connection: sa.Connection,
    mapping: StockMapping,
    migration: Migration,
    tables: Sequence[StoredTable],
    documents: Sequence[StoredFile],
) -> Manifest:
    ended_at = holdings.ended_at(connection, migration)
    keep = mapping.retention.keep_archive
    told = summary.summarize(connection, migration, mapping=migration.mapping, changed=False)
    # No part of what the migration did, but of what a command is asked for.
    del told["changed"], told["report"], told["seal"]
    return Manifest(
        mapping=migration.mapping,
        migration_id=migration.migration_id,
        state=migration.state,
        ended_at=ended_at,
        last_event=holdings.last_event(connection, migration),
        definition=trail.origin(connection, migration.migration_id)["definition"],
        mapping_hash=migration.mapping_hash,
        summary=told,
        keep_archive=keep,
        keep_until=later(ended_at, keep) if keep else None,
        database=database_of(connection),
        tool_version=__version__,
        ledger_version=ledger.VERSION,
        created_at=connection.execute(sa.text("SELECT statement_timestamp()")).scalar_one(),
        created_by=ledger.who(connection),
        tables=[*tables],
        documents=[*documents],
    )


def database_of(connection: sa.Connection) -> dict[str, Any]:
    """Which database this is, and which server it is on."""
    server = connection.execute(_SERVER).one()
    return {**evidence.database_fingerprint(connection), **server._mapping}


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folders(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir():
            _sync(path)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sentence(text: str) -> str:
    """What a system says, within a sentence of ours."""
    return f"{text[:1].lower()}{text[1:]}".rstrip(".") if text else "it can not be written"


_SERVER = sa.text("""
    SELECT current_setting('server_version') AS server_version,
           host(inet_server_addr()) AS address, inet_server_port() AS port
""")
