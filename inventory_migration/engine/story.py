"""A record's story: what each migration that met it has done to it, and how it stands now.

A migration's numbers are in `summary.py`; these functions only read, too.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import archived, canonical, columns, ledger
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.summary import exact
from inventory_migration.errors import RecordUnknown


def show_record(connection: sa.Connection, resolved: ResolvedMapping, key: str) -> dict[str, Any]:
    """What became of one stock record, in every migration that met it, and how it stands now.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        key: The key as `key_text` shows it; parts of a composite key separated by commas.

    Raises:
        RecordUnknown: Neither the table nor the ledger knows it.
    """
    spelled = columns.spelling(key, len(resolved.key_columns))
    same, parameters = "key_text IN (:key, :spelled)", {"key": key, "spelled": spelled}
    current = connection.execute(
        sa.text(
            f"SELECT key_text, company_key::text, item_key, quantity, reserved, "
            "location_key::text, outcome AS prediction, rule "
            f"FROM ({escaped(canonical.records(resolved))}) AS r WHERE {same} "
            "ORDER BY key_text = :key DESC"
        ),
        parameters,
    ).first()
    history = []
    if ledger.installed(connection):
        for migration_id in connection.execute(_IDS, {"mapping": resolved.mapping.name}).scalars():
            found = ledger.find(connection, migration_id=migration_id)
            if found and found.purged:
                history += _in_archive(connection, resolved, found, same, parameters)
            elif found and ledger.snapshot_exists(connection, found):
                history += _story(connection, resolved, found, same, parameters)
    if current is None and not history:
        raise RecordUnknown(mapping=resolved.mapping.name, key=key)
    now = None
    if current is not None:
        now = {
            "company": current.company_key,
            "item": current.item_key,
            "quantity": exact(current.quantity) if current.quantity is not None else None,
            "reserved": exact(current.reserved),
            "location": current.location_key,
            "prediction": current.prediction,
            "rule": current.rule,
        }
    return {"mapping": resolved.mapping.name, "key": key, "now": now, "history": history}


def _story(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    same: str,
    parameters: dict[str, str],
) -> list[dict[str, Any]]:
    rows = connection.execute(
        sa.text(f"SELECT * FROM ({escaped(record_status(resolved, migration))}) AS r WHERE {same}"),
        parameters,
    )
    return [
        {
            "migration_id": row.migration_id,
            "outcome": row.outcome,
            "rule": row.rule,
            "reason": row.reason,
            "chunk": row.chunk,
            "chunk_state": row.chunk_state,
            "location_before": row.location_before,
            "location_after": row.location_after,
            "quantity": exact(row.quantity) if row.quantity is not None else None,
            "reserved": exact(row.reserved),
        }
        for row in rows
    ]


def _in_archive(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    same: str,
    parameters: dict[str, str],
) -> list[dict[str, Any]]:
    """That a migration which was purged has met the record, and where the rest is told."""
    kept = archived.purged(connection, migration.migration_id)
    if kept is None or not ledger.table_exists(connection, f"covered_{migration.migration_id}"):
        return []
    keys = f"SELECT {columns.key_text(resolved, 'p')} AS key_text FROM {migration.covered} AS p"
    met = sa.text(f"SELECT FROM ({escaped(keys)}) AS r WHERE {same}")
    return [
        {
            "migration_id": migration.migration_id,
            "outcome": "archived",
            "rule": None,
            "reason": f"its story is in {kept.path}",
            "chunk": None,
            "chunk_state": None,
            "location_before": None,
            "location_after": None,
            "quantity": None,
            "reserved": None,
        }
        for _ in connection.execute(met, parameters)
    ]


def record_status(resolved: ResolvedMapping, migration: Migration) -> str:
    """What a migration did to each of its records: outcome, chunk, location before and after."""
    keys = ", ".join(f"p.{key}" for key in columns.keys(resolved))
    return f"""
        SELECT {migration.migration_id}::bigint AS migration_id,
               {columns.key_text(resolved, "p")} AS key_text, {keys}, p.position, p.chunk,
               k.state AS chunk_state,
               CASE WHEN k.xid IS NULL THEN 'pending'
                    ELSE COALESCE(o.outcome, 'migrated') END AS outcome,
               o.rule, o.reason, p.before_1::text AS location_before,
               CASE WHEN o.position IS NULL AND k.state = 'done'
                    THEN COALESCE(i.location_key, w.location_key::text)
                    ELSE p.before_1::text END AS location_after,
               COALESCE(i.quantity, p.quantity) AS quantity,
               COALESCE(i.reserved, p.reserved) AS reserved
        FROM {migration.snapshot} AS p
        JOIN {SCHEMA}.chunk AS k
          ON k.migration_id = {migration.migration_id} AND k.number = p.chunk
        LEFT JOIN {SCHEMA}.outcome AS o
          ON o.migration_id = {migration.migration_id} AND o.position = p.position
        LEFT JOIN {SCHEMA}.after_image AS i
          ON i.migration_id = {migration.migration_id} AND i.position = p.position
        LEFT JOIN {migration.planned_locations} AS w ON w.company_key = p.company_key"""


_IDS = sa.text(f"""
    SELECT migration_id FROM {SCHEMA}.migration WHERE mapping = :mapping ORDER BY migration_id
""")
