"""Removing a migration's records from the database, once they are in an archive.

What stays: the migration's own row with its totals, its locations, phases and verdicts, the trail,
and the keys of what it has dealt with, so that nothing is ever migrated twice. Whether an archive
is whole, and still says what is here, is asked in `keeping.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import coverage, ledger, quarantine, record_view, summary
from inventory_migration.engine.dependents import dependents
from inventory_migration.engine.holdings import RECORDS
from inventory_migration.engine.ledger import SCHEMA, Migration

_OWN_TABLES = {"snapshot", "planned_location"}


def problems(
    connection: sa.Connection, migration: Migration, *, together: Collection[int]
) -> list[str]:
    """What would be lost, or stands in the way, if a migration were purged; each with a command.

    Args:
        connection: A connection; only read from.
        migration: A migration that has ended.
        together: The migrations that are purged along with it.
    """
    named = f"migration {migration.migration_id}"
    found = []
    active = ledger.find(connection, target=migration.target, states=ledger.ACTIVE)
    if active is not None:
        state = active.state.replace("_", " ")
        found.append(
            f"migration {active.migration_id} is {state} on the same target: bring it to its end "
            f"first; 'inventory-migration status {active.mapping}' says how"
        )
    opened = _open(connection, migration)
    if opened:
        found.append(
            f"{named} has records in quarantine that are open ({opened:,}): "
            f"'inventory-migration quarantine list {migration.mapping} --state open', then retry "
            "or waive them"
        )
    later = connection.execute(_RETRIED_BY, {"migration_id": migration.migration_id}).scalars()
    for number in later:
        if number not in together:
            found.append(
                f"migration {number} has tried records of {named} again, and a rollback of it "
                "would open them there: both are purged together, or the later one first"
            )
    view = f"{migration.mapping}_record_status"
    own = _tables(connection, migration)
    goes = [view] if not _others(connection, migration) else []
    found += [
        f"{name} reads what {named} has here: drop it first, or let it read the archive"
        for name in dependents(connection, [*own, *goes])
        if name != f"view {SCHEMA}.{view}"
    ]
    return found


def lacking(connection: sa.Connection, migration: Migration) -> list[str]:
    """What the role lacks to remove a migration's records."""
    rows = connection.execute(
        _LACKING,
        {
            "owned": [
                *_tables(connection, migration),
                f"{migration.mapping}_record_status",
            ],
            "deleted": sorted(RECORDS - _OWN_TABLES),
        },
    )
    return [*rows.scalars()]


def remove(
    connection: sa.Connection,
    resolved: ResolvedMapping | None,
    migration: Migration,
    *,
    archive_path: str,
    manifest_sha256: str,
) -> dict[str, int]:
    """Remove a migration's records and leave its keys; returns how many rows went, by table.

    Args:
        connection: The transaction, in which the archive was found to say what is here.
        resolved: The mapping and its types; None where it no longer fits the database.
        migration: The migration.
        archive_path: The archive that is all there is from here on.
        manifest_sha256: The hash of its manifest.
    """
    progress = next(
        one
        for one in summary.list_migrations(connection, mapping=migration.mapping)
        if one["migration_id"] == migration.migration_id
    )
    removed = {}
    if ledger.snapshot_exists(connection, migration):
        removed["snapshot"] = _count(connection, migration.snapshot)
        if migration.state != "rolled_back":
            _keep_keys(connection, migration)
    _mark(connection, migration, archive_path, manifest_sha256, progress)
    _drop_tables(connection, resolved, migration)
    for name in sorted(RECORDS - _OWN_TABLES):
        table = ledger.metadata.tables[f"{SCHEMA}.{name}"]
        removed[name] = connection.execute(
            sa.delete(table).where(table.c.migration_id == migration.migration_id)
        ).rowcount
    ledger.note(
        connection,
        "purged",
        migration_id=migration.migration_id,
        path=archive_path,
        manifest_sha256=manifest_sha256,
        removed=removed,
    )
    return removed


def _keep_keys(connection: sa.Connection, migration: Migration) -> None:
    """Keep which records the migration has dealt with, for whoever could read the snapshot."""
    select = escaped(coverage.covered_keys(connection, migration))
    connection.execute(sa.text(f"CREATE TABLE {migration.covered} AS {select}"))
    owner = connection.execute(_OWNER, {"name": migration.snapshot}).scalar_one()
    if owner is not None:
        connection.execute(sa.text(f"ALTER TABLE {migration.covered} OWNER TO {quoted(owner)}"))
    connection.execute(sa.text(f"ANALYZE {migration.covered}"))


def _mark(
    connection: sa.Connection,
    migration: Migration,
    path: str,
    manifest_sha256: str,
    progress: dict[str, Any],
) -> None:
    told = ("records", "records_done", "rows_migrated", "quarantined")
    table = ledger.archive
    kept = {"progress": {name: progress[name] for name in told}}
    connection.execute(
        sa.update(table)
        .where(
            table.c.migration_id == migration.migration_id,
            table.c.path == path,
            table.c.manifest_sha256 == manifest_sha256,
        )
        .values(
            purged_at=ledger.NOW,
            purged_by=ledger.who(connection),
            summary=table.c.summary.op("||")(sa.cast(kept, table.c.summary.type)),
        )
    )


def _drop_tables(
    connection: sa.Connection, resolved: ResolvedMapping | None, migration: Migration
) -> None:
    """Drop the snapshot, from under the view that tells of records."""
    if resolved is None:
        record_view.remove(connection, migration.mapping)
    else:
        record_view.refresh(connection, resolved, without=migration)
    connection.execute(sa.text("SET LOCAL lock_timeout = '2s'"))
    for name in _tables(connection, migration):
        connection.execute(sa.text(f"DROP TABLE {quoted(SCHEMA, name)}"))


def _tables(connection: sa.Connection, migration: Migration) -> list[str]:
    names = (
        f"snapshot_{migration.migration_id}",
        f"snapshot_{migration.migration_id}_location",
    )
    return [name for name in names if ledger.table_exists(connection, name)]


def _open(connection: sa.Connection, migration: Migration) -> int:
    """How many records of a migration are in quarantine and wait for somebody."""
    records = quarantine.records(connection, migration.mapping)
    query = f"SELECT count(*) FROM ({records}) AS q WHERE state = 'open' AND migration_id = :id"
    return int(
        connection.execute(
            sa.text(query), {"im_mapping": migration.mapping, "id": migration.migration_id}
        ).scalar_one()
    )


def _count(connection: sa.Connection, table: str) -> int:
    return int(connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one())


def _others(connection: sa.Connection, migration: Migration) -> bool:
    """Whether another migration of the mapping has its records here."""
    ids = connection.execute(
        sa.select(ledger.migration.c.migration_id).where(
            ledger.migration.c.mapping == migration.mapping,
            ledger.migration.c.migration_id != migration.migration_id,
        )
    ).scalars()
    return any(ledger.table_exists(connection, f"snapshot_{number}") for number in ids)


_RETRIED_BY = sa.text(f"""
    SELECT DISTINCT t.migration_id
    FROM {SCHEMA}.retry AS t JOIN {SCHEMA}.migration AS m ON m.migration_id = t.migration_id
    WHERE t.earlier_id = :migration_id AND m.state <> 'rolled_back'
      AND NOT EXISTS (SELECT FROM {SCHEMA}.archive AS a
                      WHERE a.migration_id = t.migration_id AND a.purged_at IS NOT NULL)
    ORDER BY t.migration_id
""")

_OWNER = sa.text("""
    SELECT CASE WHEN relowner <> current_user::regrole THEN pg_get_userbyid(relowner)::text END
    FROM pg_class WHERE oid = to_regclass(:name)
""")

_LACKING = sa.text(f"""
    SELECT format('ownership of %s', c.oid::regclass)
    FROM pg_class c
    WHERE c.relnamespace = to_regnamespace('{SCHEMA}') AND c.relname = ANY(:owned)
      AND NOT pg_has_role(c.relowner, 'USAGE')
    UNION ALL
    SELECT format('%s ON {SCHEMA}.%s', v.privilege, v.name)
    FROM (SELECT 'DELETE' AS privilege, name FROM unnest(CAST(:deleted AS text[])) AS u(name)
          UNION ALL VALUES ('INSERT', 'event'), ('UPDATE', 'archive')) AS v
    WHERE NOT has_table_privilege(format('{SCHEMA}.%s', v.name), v.privilege)
    UNION ALL
    SELECT 'CREATE ON SCHEMA {SCHEMA}' WHERE NOT has_schema_privilege('{SCHEMA}', 'CREATE')
""")
