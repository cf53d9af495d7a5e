"""The ledger as people and scripts read it: a migration's numbers, and the list of all.

Every number is asked of the tables. These functions only read, and promise the keys that `--json`
documents. A record's story is in `story.py`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from inventory_migration.engine import archived, ledger
from inventory_migration.engine.ledger import ACTIVE, SCHEMA, Migration
from inventory_migration.plain import Connection, ask

_UNWRITTEN = {"html": None, "markdown": None, "json": None}

OUTCOMES = ("migrated", "already", "skipped", "quarantined", "gone")


def exact(value: Decimal | int | None) -> str:
    """A number of units as an exact decimal string, without a tail of zeros."""
    if value is None:
        return "0"
    text = f"{Decimal(value):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def summarize(
    connection: Connection, migration: Migration | None, *, mapping: str, changed: bool
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
    [row] = ask(connection, _MIGRATION, parameters)
    [records] = ask(connection, _RECORDS, parameters)
    quarantined = ask(connection, _QUARANTINED, parameters)
    warnings = ask(connection, _WARNINGS, parameters)
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


def by_company(connection: Connection, migration: Migration) -> list[dict[str, Any]]:
    """Outcomes and totals of each company, as planned: what adds up to the migration's own."""
    rows = ask(
        connection,
        f"""
            SELECT w.company_key, w.company_name, w.location_key, w.created, n.*
            FROM ({counted_by_company(migration)}) AS n
            FULL JOIN (SELECT * FROM {SCHEMA}.company_location
                       WHERE migration_id = :migration_id) AS w ON w.company_key = n.key
            ORDER BY COALESCE(n.snapshot, 0) DESC, w.company_name
        """,
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


def list_migrations(connection: Connection, *, mapping: str | None = None) -> list[dict[str, Any]]:
    """Every migration that the ledger knows, newest first, with how far it is."""
    if not ledger.installed(connection):
        return []
    rows = ask(connection, _LIST, {"mapping": mapping})
    looks = last_looks(connection)
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


def last_looks(connection: Connection) -> dict[int, dict[str, Any]]:
    """What was found last about the server's health for each migration under way, by its id."""
    return {
        row.migration_id: {
            "verdict": row.verdict,
            "since": row.since.isoformat(),
            "at": row.at.isoformat(),
            "reasons": row.reasons,
            **row.observed,
        }
        for row in ask(connection, _LAST_LOOKS, {"active": list(ACTIVE)})
    }


def _of_purged(row: Any) -> dict[str, Any]:
    return {**row.archived["progress"], "archived": archived.told(row)}


_MIGRATION = f"""
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
"""

_RECORDS = f"""
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
"""

_QUARANTINED = f"""
    SELECT rule, count(*) FROM {SCHEMA}.outcome
    WHERE migration_id = :migration_id AND outcome = 'quarantined'
    GROUP BY rule ORDER BY rule
"""

_WARNINGS = f"""
    SELECT rule, records FROM {SCHEMA}.warning WHERE migration_id = :migration_id ORDER BY rule
"""

_LIST = f"""
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
"""

_LAST_LOOKS = f"""
    SELECT h.* FROM {SCHEMA}.health AS h JOIN {SCHEMA}.migration AS m USING (migration_id)
    WHERE m.state = ANY(:active)
"""
