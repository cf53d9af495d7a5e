"""What the ledger itself says, asked with psql: what a page's figures are held against."""

from __future__ import annotations

import json
from typing import Any

from inventory_migration_tests.conftest import Database

_FIGURES = """
    WITH told AS (
        SELECT COALESCE(o.outcome, CASE WHEN k.xid IS NULL THEN 'pending' ELSE 'migrated' END)
                    AS outcome,
               k.state, k.phase, p.quantity, p.reserved
        FROM inventory_migration.snapshot_{id} p
        JOIN inventory_migration.chunk k ON k.migration_id = {id} AND k.number = p.chunk
        LEFT JOIN inventory_migration.outcome o ON o.migration_id = {id} AND o.position = p.position
    )
    SELECT json_build_object(
        'state', (SELECT state FROM inventory_migration.migration WHERE migration_id = {id}),
        'records', (SELECT json_object_agg(outcome, n)
                    FROM (SELECT outcome, count(*) AS n FROM told GROUP BY 1) counted),
        'snapshot', (SELECT count(*) FROM told),
        'units', (SELECT COALESCE(sum(quantity), 0)::text FROM told),
        'units_accounted', (SELECT COALESCE(sum(quantity), 0)::text FROM told
                            WHERE outcome <> 'pending'),
        'reserved', (SELECT COALESCE(sum(reserved), 0)::text FROM told),
        'reserved_accounted', (SELECT COALESCE(sum(reserved), 0)::text FROM told
                               WHERE outcome <> 'pending'),
        'phases', (SELECT json_agg(json_build_object(
                        'name', h.name, 'companies', h.companies, 'records', h.records,
                        'records_done', (SELECT count(*) FROM told
                                         WHERE phase = h.number AND outcome <> 'pending'))
                        ORDER BY h.number)
                   FROM inventory_migration.phase h WHERE migration_id = {id}),
        'quarantine', (SELECT COALESCE(json_object_agg(rule, n), '{{}}') FROM (
                        SELECT rule, count(*) AS n FROM inventory_migration.outcome
                        WHERE migration_id = {id} AND outcome = 'quarantined' GROUP BY 1) ruled),
        'events', (SELECT json_agg(kind ORDER BY event_id DESC) FROM inventory_migration.event
                   WHERE migration_id = {id}))
"""

_MOVED = """
    SELECT COALESCE(sum(records), 0) FROM inventory_migration.chunk WHERE xid IS NOT NULL
"""


def figures(database: Database, migration_id: int = 1) -> dict[str, Any]:
    """All figures of a migration, counted record by record."""
    found: dict[str, Any] = json.loads(database.psql(_FIGURES.format(id=migration_id)))
    return found


def accounted(database: Database) -> int:
    """How many records chunks have accounted for; 0 before there are any chunks."""
    there = database.psql("SELECT to_regclass('inventory_migration.chunk') IS NOT NULL")
    return int(database.psql(_MOVED)) if there == "t" else 0


def events(database: Database, kind: str) -> list[str]:
    """Who did what of a kind, the oldest first."""
    found = database.psql(
        f"SELECT who FROM inventory_migration.event WHERE kind = '{kind}' ORDER BY event_id"
    )
    return found.splitlines()
