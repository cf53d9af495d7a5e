"""Removing the tool from a database: refused while anything would be lost by it.

What is the tool's in a database is known in `engine/removal.py`; here that is joined with the
archives, which have to have all that goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from inventory_migration import keeping, verbs
from inventory_migration.archive.comparing import changed_since
from inventory_migration.archive.folder import Archive, open_archive
from inventory_migration.engine import archived, ledger, removal
from inventory_migration.engine.failures import passes
from inventory_migration.engine.ledger import Migration
from inventory_migration.errors import (
    ArchiveDiffers,
    ArchiveMissing,
    LedgerMissing,
    LedgerNotDropped,
    LockNotObtained,
)

if TYPE_CHECKING:
    from inventory_migration.verbs import Target


def ready(target: Target) -> dict[int, Archive]:
    """The archives that have all that would go with the ledger, by migration; each read back.

    Raises:
        LedgerMissing: There is no ledger.
        LedgerNotDropped: Something would be lost, or depends on the ledger; lists all.
    """
    with verbs.one_moment(target) as (connection, _):
        if not ledger.installed(connection):
            raise LedgerMissing
        found: dict[int, Archive] = {}
        problems = [*removal.problems(connection), *_not_archived(connection, found)]
    if problems:
        raise LedgerNotDropped(problems=problems)
    return found


def drop_ledger(target: Target, archives: dict[int, Archive]) -> dict[str, Any]:
    """Remove the ledger, in one transaction, if all is still as `ready` found it.

    Args:
        target: The database.
        archives: What `ready` has found.

    Raises:
        LedgerNotDropped: Something has changed since; lists all.
        LockNotObtained: Somebody reads or writes the ledger all the while.
    """
    try:
        with target.engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
            removal.lock(connection)
            problems = [*removal.problems(connection), *_changed(connection, archives)]
            if problems:
                raise LedgerNotDropped(problems=problems)
            dropped = removal.drop(connection)
    except sa.exc.DBAPIError as error:
        if not passes(error):
            raise
        raise LockNotObtained(what="have the ledger alone", seconds=2) from error
    return {
        "changed": True,
        "dropped": dropped,
        "archives": [
            {"migration_id": number, "mapping": one.manifest.mapping, "path": str(one.path)}
            for number, one in archives.items()
        ],
    }


def _not_archived(connection: sa.Connection, found: dict[int, Archive]) -> Iterator[str]:
    """The migrations that are in no archive as they are now; those that are go into `found`."""
    for migration in _ended(connection):
        named = f"migration {migration.migration_id} of {migration.mapping}"
        command = f"'inventory-migration archive {migration.mapping} --to DIR'"
        rows = archived.archives(connection, migration.migration_id)
        if migration.purged:
            rows = [row for row in rows if row.purged_at is not None]
        if not rows:
            yield f"{named} is not archived: {command}"
            continue
        reasons = []
        for row in rows:
            try:
                read = open_archive(Path(row.path))
            except (ArchiveMissing, ArchiveDiffers):
                reasons.append(
                    f"its archive {row.path} can not be read here: 'inventory-migration "
                    f"verify-archive {row.path}' says why"
                )
                continue
            changed = changed_since(connection, migration, read.manifest, trail=True)
            if read.manifest_sha256 != row.manifest_sha256:
                reasons.append(f"the archive in {row.path} is another one than the ledger knows")
            elif changed:
                reasons.append(
                    f"has changed since it was archived in {row.path} ({', '.join(changed)}): "
                    f"{command}"
                )
            else:
                found[migration.migration_id] = read
                break
        else:
            yield f"{named}: {reasons[0]}"


def _changed(connection: sa.Connection, archives: dict[int, Archive]) -> Iterator[str]:
    for migration in _ended(connection):
        read = archives.get(migration.migration_id)
        if read is None or changed_since(connection, migration, read.manifest, trail=True):
            yield (
                f"migration {migration.migration_id} of {migration.mapping} has changed meanwhile: "
                f"'inventory-migration archive {migration.mapping} --to DIR'"
            )


def _ended(connection: sa.Connection) -> list[Migration]:
    ids = connection.execute(
        sa.select(ledger.migration.c.migration_id)
        .where(ledger.migration.c.state.in_(keeping.ENDED))
        .order_by(ledger.migration.c.migration_id)
    ).scalars()
    found = [ledger.find(connection, migration_id=number) for number in [*ids]]
    return [migration for migration in found if migration is not None]
