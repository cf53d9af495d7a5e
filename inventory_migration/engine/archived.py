"""What the ledger says of archives: which there are of a migration, and which is all there is.

An archive itself is written and read in `archive/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from inventory_migration.engine import ledger
from inventory_migration.engine.ledger import SCHEMA
from inventory_migration.errors import LedgerNotOwned


def note(
    connection: sa.Connection,
    migration_id: int,
    *,
    path: str,
    manifest_sha256: str,
    files: int,
    rows: int,
    summary: dict[str, Any],
) -> None:
    """Keep that an archive was read back whole; where it is new, in the trail as well."""
    table = ledger.archive
    known = connection.execute(
        sa.update(table)
        .where(
            table.c.migration_id == migration_id,
            table.c.path == path,
            table.c.manifest_sha256 == manifest_sha256,
        )
        .values(verified_at=ledger.NOW)
    ).rowcount
    if known:
        return
    connection.execute(
        sa.insert(table).values(
            migration_id=migration_id,
            path=path,
            manifest_sha256=manifest_sha256,
            files=files,
            records=rows,
            summary=summary,
            archived_by=ledger.who(connection),
            verified_at=ledger.NOW,
        )
    )
    ledger.note(
        connection,
        "archived",
        migration_id=migration_id,
        path=path,
        manifest_sha256=manifest_sha256,
        rows=rows,
    )


def purged_migrations(connection: sa.Connection, mapping: str) -> list[sa.Row[Any]]:
    """A mapping's migrations whose records are nowhere but in an archive, with it; oldest first."""
    query = (
        sa.select(ledger.archive, ledger.migration.c.mapping, ledger.migration.c.state)
        .join(ledger.migration, ledger.migration.c.migration_id == ledger.archive.c.migration_id)
        .where(ledger.migration.c.mapping == mapping, ledger.archive.c.purged_at.is_not(None))
        .order_by(ledger.archive.c.migration_id)
    )
    return [*connection.execute(query)]


def archives(connection: sa.Connection, migration_id: int) -> list[sa.Row[Any]]:
    """What the ledger says of a migration's archives, newest first."""
    query = sa.select(ledger.archive).where(ledger.archive.c.migration_id == migration_id)
    return [*connection.execute(query.order_by(ledger.archive.c.archive_id.desc()))]


def purged(connection: sa.Connection, migration_id: int) -> sa.Row[Any] | None:
    """The archive that is all there is of a migration's records; None while they are online."""
    return connection.execute(
        sa.select(ledger.archive).where(
            ledger.archive.c.migration_id == migration_id,
            ledger.archive.c.purged_at.is_not(None),
        )
    ).one_or_none()


def told(row: sa.Row[Any] | None) -> dict[str, str] | None:
    """Where a migration's records are since when, as answers say it; None while they are online."""
    if row is None:
        return None
    return {"path": row.path, "purged_at": row.purged_at.isoformat()}


def refuse_lack(connection: sa.Connection) -> None:
    """Refuse a role that could copy everything, and then not say so in the ledger.

    Raises:
        LedgerNotOwned: It lacks a privilege; lists all.
    """
    refuse_lacking(connection, connection.execute(_LACKING).scalars().all())


def refuse_lacking(connection: sa.Connection, lacking: Sequence[str]) -> None:
    """Refuse a role that lacks something.

    Raises:
        LedgerNotOwned: It does; lists all, and who owns the ledger.
    """
    if lacking:
        raise LedgerNotOwned(**dict(connection.execute(_ROLES).one()._mapping), lacking=lacking)


_LACKING = sa.text(f"""
    SELECT format('%s ON %s', v.privilege, v.name)
    FROM (VALUES ('{SCHEMA}.archive', 'INSERT'), ('{SCHEMA}.archive', 'UPDATE'),
                 ('{SCHEMA}.event', 'INSERT')) AS v(name, privilege)
    WHERE NOT has_table_privilege(v.name, v.privilege)
""")

_ROLES = sa.text(f"""
    SELECT current_user::text AS role, pg_get_userbyid(nspowner)::text AS owner
    FROM pg_namespace WHERE nspname = '{SCHEMA}'
""")
