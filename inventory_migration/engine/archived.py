"""What the ledger says of archives: which there are of a migration, and which is all there is.

An archive itself is written and read in `archive/`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from inventory_migration.engine import ledger
from inventory_migration.engine.ledger import SCHEMA
from inventory_migration.errors import LedgerNotOwned
from inventory_migration.plain import Connection, ask, execute


def note(
    connection: Connection,
    migration_id: int,
    *,
    path: str,
    manifest_sha256: str,
    files: int,
    rows: int,
    summary: dict[str, Any],
) -> None:
    """Keep that an archive was read back whole; where it is new, in the trail as well."""
    said = {
        "migration_id": migration_id,
        "path": path,
        "manifest_sha256": manifest_sha256,
        "files": files,
        "records": rows,
        "summary": json.dumps(summary),
    }
    if execute(connection, _KNOWN, said):
        return
    execute(connection, _NOTE, said)
    ledger.note(
        connection,
        "archived",
        migration_id=migration_id,
        path=path,
        manifest_sha256=manifest_sha256,
        rows=rows,
    )


def purged_migrations(connection: Connection, mapping: str) -> Sequence[Any]:
    """A mapping's migrations whose records are nowhere but in an archive, with it; oldest first."""
    return ask(connection, _PURGED_OF_MAPPING, {"mapping": mapping})


def archives(connection: Connection, migration_id: int) -> Sequence[Any]:
    """What the ledger says of a migration's archives, newest first."""
    return ask(connection, _ARCHIVES, {"migration_id": migration_id})


def purged(connection: Connection, migration_id: int) -> Any | None:
    """The archive that is all there is of a migration's records; None while they are online."""
    found = ask(connection, _ARCHIVES, {"migration_id": migration_id})
    return next((row for row in found if row.purged_at is not None), None)


def told(row: Any | None) -> dict[str, str] | None:
    """Where a migration's records are since when, as answers say it; None while they are online."""
    if row is None:
        return None
    return {"path": row.path, "purged_at": row.purged_at.isoformat()}


def refuse_lack(connection: Connection) -> None:
    """Refuse a role that could copy everything, and then not say so in the ledger.

    Raises:
        LedgerNotOwned: It lacks a privilege; lists all.
    """
    refuse_lacking(connection, [row.lack for row in ask(connection, _LACKING)])


def refuse_lacking(connection: Connection, lacking: Sequence[str]) -> None:
    """Refuse a role that lacks something.

    Raises:
        LedgerNotOwned: It does; lists all, and who owns the ledger.
    """
    if lacking:
        [found] = ask(connection, _ROLES)
        raise LedgerNotOwned(role=found.role, owner=found.owner, lacking=lacking)


_LACKING = f"""
    SELECT format('%s ON %s', v.privilege, v.name) AS lack
    FROM (VALUES ('{SCHEMA}.archive', 'INSERT'), ('{SCHEMA}.archive', 'UPDATE'),
                 ('{SCHEMA}.event', 'INSERT')) AS v(name, privilege)
    WHERE NOT has_table_privilege(v.name, v.privilege)
"""

_ROLES = f"""
    SELECT current_user::text AS role, pg_get_userbyid(nspowner)::text AS owner
    FROM pg_namespace WHERE nspname = '{SCHEMA}'
"""

_KNOWN = f"""
    UPDATE {SCHEMA}.archive SET verified_at = clock_timestamp()
    WHERE migration_id = :migration_id AND path = :path AND manifest_sha256 = :manifest_sha256
"""

_NOTE = f"""
    INSERT INTO {SCHEMA}.archive
        (migration_id, path, manifest_sha256, files, records, summary, archived_by, verified_at)
    VALUES (:migration_id, :path, :manifest_sha256, :files, :records, CAST(:summary AS jsonb),
            {ledger.WHO}, clock_timestamp())
"""

_ARCHIVES = f"""
    SELECT * FROM {SCHEMA}.archive WHERE migration_id = :migration_id ORDER BY archive_id DESC
"""

_PURGED_OF_MAPPING = f"""
    SELECT a.*, m.mapping, m.state
    FROM {SCHEMA}.archive AS a JOIN {SCHEMA}.migration AS m USING (migration_id)
    WHERE m.mapping = :mapping AND a.purged_at IS NOT NULL
    ORDER BY a.migration_id
"""
