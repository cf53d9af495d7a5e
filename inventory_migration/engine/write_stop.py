"""A declared write stop: the last pass and the proof in one transaction that nobody writes beside.

Where an application cannot write a target of its own in step with its records, its writes have to
rest for the verdict to be final. The lock makes sure that they do. When to close in this way is
decided in `reconcile.py`.
"""

from __future__ import annotations

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import ledger, sweep
from inventory_migration.engine.chunk import ChunkStatements
from inventory_migration.engine.failures import Action, action_for, sqlstate
from inventory_migration.engine.isolation import write_without_bad
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.statements import tables_stopped
from inventory_migration.errors import WritersActive

WAIT_SECONDS = 10
"""How long writers may take to end once a write stop is declared; others queue behind us."""


def stop_writes(connection: sa.Connection, resolved: ResolvedMapping) -> list[str]:
    """Lock every table that stock is read from or written to against other writers.

    Returns:
        The quoted names of the tables; the lock lasts as long as the transaction.

    Raises:
        WritersActive: Somebody still writes to one of them.
    """
    tables = tables_stopped(connection, resolved)
    connection.execute(sa.text("SET LOCAL row_security = off"))
    connection.execute(sa.text(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'"))
    try:
        listed = ", ".join(escaped(table) for table in tables)
        connection.execute(sa.text(f"LOCK TABLE {listed} IN SHARE MODE"))
    except sa.exc.DBAPIError as error:
        if action_for(sqlstate(error)) is not Action.RETRY:
            raise
        raise WritersActive(
            mapping=resolved.mapping.name, tables=tables, seconds=WAIT_SECONDS
        ) from error
    connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
    return tables


def delta_pass(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> int:
    """Sweep and write what it finds, all in this transaction; returns how many records."""
    found = sweep.sweep_within(connection, resolved, migration)
    if found == 0:
        return 0
    statements = ChunkStatements(resolved, migration)
    pending = connection.execute(
        sa.select(ledger.chunk.c.number)
        .where(
            ledger.chunk.c.migration_id == migration.migration_id,
            ledger.chunk.c.state == "pending",
        )
        .order_by(ledger.chunk.c.number)
    ).scalars()
    for number in list(pending):
        statements.lock_records(connection, [number])
        write_without_bad(connection, statements, number)
        statements.finish(connection, [number])
    connection.execute(
        sa.text(f"""
            UPDATE {SCHEMA}.phase SET reconciled_at = clock_timestamp()
            WHERE migration_id = :migration_id AND reconciled_at IS NULL
        """),
        {"migration_id": migration.migration_id},
    )
    return found
