"""The ledger as people and scripts read it: a migration's numbers, a record's story.

Every number is asked of the tables. These functions only read, and promise the keys that `--json`
documents.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import archived, canonical, columns, health, ledger
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.errors import RecordUnknown

_UNWRITTEN = {"html": None, "markdown": None, "json": None}

OUTCOMES = ("migrated", "already", "skipped", "quarantined", "gone")


def exact(value: Decimal | int | None) -> str:
    """A number of units as an exact decimal string, without a tail of zeros."""
    if value is None:
        return "0"
    text = f"{Decimal(value):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def summarize(
    connection: sa.Connection, migration: Migration | None, *, mapping: str, changed: bool
) -> dict[str, Any]:
    """What a migration did, in the shape that `run`, `resume` and `rollback` print.

    Args:
        connection: A connection to the ledger.
        migration: The migration; None where nothing was ever migrated.
        mapping: Name of the mapping.
        changed: Whether the command at hand changed anything.
    """
    if migration is None:
        return _nothing(mapping)
    kept = archived.purged(connection, migration.migration_id)
    if kept is not None:
        told = {name: value for name, value in kept.summary.items() if name != "progress"}
        return {
            **told,
            "changed": changed,
            "archived": archived.told(kept),
            "report": dict(_UNWRITTEN),
            "seal": None,
        }
    parameters = {"migration_id": migration.migration_id}
    row = connection.execute(_MIGRATION, parameters).one()
    records = connection.execute(_RECORDS, parameters).one()
    quarantined = connection.execute(_QUARANTINED, parameters).all()
    warnings = connection.execute(_WARNINGS, parameters).all()
    before, reserved_before = row.snapshot_units or 0, row.snapshot_reserved or 0
    after = row.units_after if row.units_after is not None else before
    reserved_after = row.reserved_after if row.reserved_after is not None else reserved_before
    return {
        "migration_id": migration.migration_id,
        "mapping": mapping,
        "state": row.state,
        "reason": row.reason,
        "changed": changed,
        "companies": row.companies,
        "locations_created": row.locations_created,
        "locations_adopted": row.locations_adopted,
        "records": {
            "snapshot": row.snapshot_records,
            **{name: int(getattr(records, name)) for name in OUTCOMES},
            "pending": int(records.pending),
        },
        "quarantined": dict(map(tuple, quarantined)),
        "waived": int(records.waived),
        "warnings": dict(map(tuple, warnings)),
        "units": {"before": exact(before), "after": exact(after)},
        "reserved": {"before": exact(reserved_before), "after": exact(reserved_after)},
        "available": {
            "before": exact(row.available_before),
            "after": exact(row.available_after),
        },
        "changed_by_application": {
            "units": exact(row.units_changed),
            "reserved": exact(row.reserved_changed),
        },
        "undone": {
            "records": int(records.undone),
            "kept": int(records.kept),
            "locations": row.locations_removed,
        },
        "started_at": row.started_at.isoformat(),
        "finished_at": row.finished_at.isoformat() if row.finished_at else None,
        "elapsed_seconds": round(float(row.elapsed_seconds), 3),
        "archived": None,
        "report": dict(_UNWRITTEN),
        "seal": None,
    }


def _nothing(mapping: str) -> dict[str, Any]:
    zero = {"before": "0", "after": "0"}
    return {
        "migration_id": None,
        "mapping": mapping,
        "state": None,
        "reason": None,
        "changed": False,
        "companies": 0,
        "locations_created": 0,
        "locations_adopted": 0,
        "records": {"snapshot": 0, **dict.fromkeys(OUTCOMES, 0), "pending": 0},
        "quarantined": {},
        "waived": 0,
        "warnings": {},
        "units": zero,
        "reserved": zero,
        "available": zero,
        "changed_by_application": {"units": "0", "reserved": "0"},
        "undone": {"records": 0, "kept": 0, "locations": 0},
        "started_at": None,
        "finished_at": None,
        "elapsed_seconds": 0.0,
        "archived": None,
        "report": dict(_UNWRITTEN),
        "seal": None,
    }


def by_company(connection: sa.Connection, migration: Migration) -> list[dict[str, Any]]:
    """Outcomes and totals of each company, as planned: what adds up to the migration's own."""
    rows = connection.execute(
        sa.text(f"""
            SELECT w.company_key, w.company_name, w.location_key, w.created, n.*
            FROM ({counted_by_company(migration)}) AS n
            FULL JOIN (SELECT * FROM {SCHEMA}.company_location
                       WHERE migration_id = :migration_id) AS w ON w.company_key = n.key
            ORDER BY COALESCE(n.snapshot, 0) DESC, w.company_name
        """),
        {"migration_id": migration.migration_id},
    )
    return [
        {
            "company_key": row.company_key if row.company_key is not None else row.key,
            "company_name": row.company_name,
            "location_key": row.location_key,
            "location_created": row.created,
            **{name: int(getattr(row, name) or 0) for name in ("snapshot", *OUTCOMES)},
            "units": exact(row.units),
            "reserved": exact(row.reserved),
        }
        for row in rows
    ]


def counted_by_company(migration: Migration) -> str:
    """A query for the records of each company by outcome, and their units and reserved."""
    return f"""
        SELECT p.company_key::text AS key,
               count(*) AS snapshot,
               count(*) FILTER (WHERE k.xid IS NULL) AS pending,
               count(*) FILTER (WHERE o.position IS NULL AND k.xid IS NOT NULL) AS migrated,
               count(*) FILTER (WHERE o.outcome = 'already') AS already,
               count(*) FILTER (WHERE o.outcome = 'skipped') AS skipped,
               count(*) FILTER (WHERE o.outcome = 'quarantined') AS quarantined,
               count(*) FILTER (WHERE o.outcome = 'gone') AS gone,
               COALESCE(sum(p.quantity), 0) AS units,
               COALESCE(sum(p.reserved), 0) AS reserved
        FROM {migration.snapshot} AS p
        JOIN {SCHEMA}.chunk AS k
          ON k.migration_id = :migration_id AND k.number = p.chunk
        LEFT JOIN {SCHEMA}.outcome AS o
          ON o.migration_id = :migration_id AND o.position = p.position
        GROUP BY p.company_key"""


def list_migrations(
    connection: sa.Connection, *, mapping: str | None = None
) -> list[dict[str, Any]]:
    """Every migration that the ledger knows, newest first, with how far it is."""
    if not ledger.installed(connection):
        return []
    rows = connection.execute(_LIST, {"mapping": mapping})
    looks = health.last_looks(connection)
    return [
        {
            "migration_id": row.migration_id,
            "mapping": row.mapping,
            "state": row.state,
            "reason": row.reason,
            "phase": row.phase,
            "records": int(row.records),
            "records_done": int(row.records_done),
            "rows_migrated": int(row.rows_migrated),
            "quarantined": int(row.quarantined),
            "started_at": row.started_at.isoformat(),
            "finished_at": row.finished_at.isoformat() if row.finished_at else None,
            "elapsed_seconds": round(float(row.elapsed_seconds), 3),
            "working": bool(row.working),
            "health": looks.get(row.migration_id),
            "archived": None,
            # Its records are gone, so their numbers were kept.
            **(_of_purged(row) if row.purged_at else {}),
        }
        for row in rows
    ]


def _of_purged(row: sa.Row[Any]) -> dict[str, Any]:
    return {**row.archived["progress"], "archived": archived.told(row)}


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


_MIGRATION = sa.text(f"""
    SELECT m.*,
           EXTRACT(EPOCH FROM COALESCE(m.finished_at, clock_timestamp()) - m.started_at)
               AS elapsed_seconds,
           count(w.company_key) FILTER (WHERE w.created) AS locations_created,
           count(DISTINCT w.location_key) FILTER (WHERE NOT w.created) AS locations_adopted,
           count(w.company_key) FILTER (WHERE w.removed) AS locations_removed,
           -- Subtracted here, since a Decimal keeps 28 digits only.
           m.snapshot_units
               - CASE WHEN n.net THEN 0 ELSE m.snapshot_reserved END AS available_before,
           COALESCE(m.units_after, m.snapshot_units)
               - CASE WHEN n.net THEN 0 ELSE COALESCE(m.reserved_after, m.snapshot_reserved) END
               AS available_after
    FROM {SCHEMA}.migration AS m
    CROSS JOIN LATERAL (SELECT m.definition->>'quantity_basis' = 'net' AS net) AS n
    LEFT JOIN {SCHEMA}.company_location AS w USING (migration_id)
    WHERE m.migration_id = :migration_id
    GROUP BY m.migration_id, n.net
""")

_RECORDS = sa.text(f"""
    SELECT COALESCE(sum(k.records - k.reopened) FILTER (WHERE k.xid IS NOT NULL), 0)
               - COALESCE(sum(o.put_aside), 0) AS migrated,
           COALESCE(sum(o.already), 0) AS already, COALESCE(sum(o.skipped), 0) AS skipped,
           COALESCE(sum(o.quarantined), 0) AS quarantined, COALESCE(sum(o.gone), 0) AS gone,
           COALESCE(sum(o.waived), 0) AS waived,
           COALESCE(sum(k.records - k.reopened) FILTER (WHERE k.xid IS NULL), 0) AS pending,
           COALESCE(sum(k.undone_records), 0) AS undone, COALESCE(sum(k.kept_records), 0) AS kept
    FROM {SCHEMA}.chunk AS k
    LEFT JOIN (
        SELECT chunk, count(*) AS put_aside,
               count(*) FILTER (WHERE outcome = 'already') AS already,
               count(*) FILTER (WHERE outcome = 'skipped') AS skipped,
               count(*) FILTER (WHERE outcome = 'quarantined') AS quarantined,
               count(*) FILTER (WHERE outcome = 'gone') AS gone,
               count(*) FILTER (WHERE state = 'waived') AS waived
        FROM {SCHEMA}.outcome WHERE migration_id = :migration_id GROUP BY chunk) AS o
      ON o.chunk = k.number
    WHERE k.migration_id = :migration_id
""")

_QUARANTINED = sa.text(f"""
    SELECT rule, count(*) FROM {SCHEMA}.outcome
    WHERE migration_id = :migration_id AND outcome = 'quarantined'
    GROUP BY rule ORDER BY rule
""")

_WARNINGS = sa.text(f"""
    SELECT rule, records FROM {SCHEMA}.warning WHERE migration_id = :migration_id ORDER BY rule
""")

_IDS = sa.text(f"""
    SELECT migration_id FROM {SCHEMA}.migration WHERE mapping = :mapping ORDER BY migration_id
""")

_LIST = sa.text(f"""
    SELECT m.migration_id, m.mapping, m.state, m.reason, m.started_at, m.finished_at,
           EXTRACT(EPOCH FROM COALESCE(m.finished_at, clock_timestamp()) - m.started_at)
               AS elapsed_seconds,
           a.path, a.purged_at, a.summary AS archived,
           COALESCE(sum(k.records - k.reopened), 0) AS records,
           COALESCE(sum(k.records - k.reopened) FILTER (WHERE k.state = 'done'), 0)
               AS records_done,
           COALESCE(sum(k.migrated) FILTER (WHERE k.state = 'done'), 0) AS rows_migrated,
           COALESCE(sum(k.quarantined) FILTER (WHERE k.state = 'done'), 0) AS quarantined,
           (SELECT p.name FROM {SCHEMA}.phase AS p
             WHERE p.migration_id = m.migration_id AND p.reconciled_at IS NULL
             ORDER BY p.number LIMIT 1) AS phase,
           EXISTS (
               SELECT FROM pg_locks AS l
               WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND l.classid::bigint
                     = (hashtextextended(m.target, 20261123) >> 32) & 4294967295
                 AND l.objid::bigint = hashtextextended(m.target, 20261123) & 4294967295)
               AND m.state IN ('planned', 'running', 'verifying', 'rolling_back') AS working
    FROM {SCHEMA}.migration AS m
    LEFT JOIN {SCHEMA}.chunk AS k USING (migration_id)
    LEFT JOIN {SCHEMA}.archive AS a
      ON a.migration_id = m.migration_id AND a.purged_at IS NOT NULL
    WHERE CAST(:mapping AS text) IS NULL OR m.mapping = :mapping
    GROUP BY m.migration_id, a.archive_id
    ORDER BY m.migration_id DESC
""")
