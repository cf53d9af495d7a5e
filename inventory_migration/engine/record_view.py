"""The view that answers for any record: `<mapping>_record_status` in the ledger's schema.

It reads nothing but the ledger's own tables, so it never keeps the application from changing its
own. What it says of one migration is `story.record_status`.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import ledger, story
from inventory_migration.engine.failures import message, sqlstate
from inventory_migration.engine.ledger import SCHEMA, Migration

logger = logging.getLogger(__name__)

_COLUMNS_DIFFER = "42P16"
# Somebody reads it for long, has a view upon it, or owns it: theirs to decide, and no reason to
# stop a migration.
_TOLERATED = {"55P03", "2BP01", "42501"}


def view_name(mapping: str) -> str:
    """The quoted name of a mapping's view."""
    return quoted(SCHEMA, f"{mapping}_record_status")


def refresh(
    connection: sa.Connection, resolved: ResolvedMapping, *, without: Migration | None = None
) -> None:
    """Let the view cover every snapshot of the mapping that has the key of the newest.

    Args:
        connection: The transaction.
        resolved: The mapping and its types.
        without: A migration whose snapshot is about to go.
    """
    name = view_name(resolved.mapping.name)
    selects = [
        f"""
        SELECT r.*, m.state AS migration_state
        FROM ({story.record_status(resolved, migration)}) AS r
        JOIN {SCHEMA}.migration AS m ON m.migration_id = r.migration_id"""
        for migration in alike(connection, resolved)
        if without is None or migration.migration_id != without.migration_id
    ]
    if not selects:
        remove(connection, resolved.mapping.name)
        return
    view = f"VIEW {name} AS {' UNION ALL '.join(selects)}"
    try:
        if not _replaced(connection, [f"CREATE OR REPLACE {view}"]):
            _replaced(connection, [f"DROP VIEW {name}", f"CREATE {view}"])
    except sa.exc.DBAPIError as error:
        if sqlstate(error) not in _TOLERATED:
            raise
        logger.warning("the view %s stays as it was: %s", name, message(error))


def remove(connection: sa.Connection, mapping: str) -> None:
    """Drop the view, where there is one."""
    connection.execute(sa.text(f"DROP VIEW IF EXISTS {view_name(mapping)}"))


def _replaced(connection: sa.Connection, statements: list[str]) -> bool:
    """Execute under a savepoint; False where the columns of the view that is there differ."""
    savepoint = connection.begin_nested()
    try:
        connection.execute(sa.text("SET LOCAL lock_timeout = '2s'"))
        for statement in statements:
            connection.execute(sa.text(escaped(statement)))
        connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
    except sa.exc.DBAPIError as error:
        savepoint.rollback()
        if sqlstate(error) == _COLUMNS_DIFFER:
            return False
        raise
    savepoint.commit()
    return True


def alike(connection: sa.Connection, resolved: ResolvedMapping) -> list[Migration]:
    """The mapping's migrations whose snapshots have the same key columns, oldest first."""
    rows = connection.execute(_SNAPSHOTS, {"mapping": resolved.mapping.name}).all()
    newest = rows[-1].key_columns if rows else None
    found = [
        ledger.find(connection, migration_id=row.migration_id)
        for row in rows
        if row.key_columns == newest
    ]
    return [migration for migration in found if migration is not None]


_SNAPSHOTS = sa.text(f"""
    SELECT m.migration_id,
           (SELECT array_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod))
                             ORDER BY a.attname)
            FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attname ~ '^key_[0-9]+$') AS key_columns
    FROM {SCHEMA}.migration AS m
    JOIN pg_class AS c ON c.relname = format('snapshot_%s', m.migration_id)
                      AND c.relnamespace = to_regnamespace('{SCHEMA}')
    WHERE m.mapping = :mapping
    ORDER BY m.migration_id
""")
