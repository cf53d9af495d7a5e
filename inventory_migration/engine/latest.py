"""What stands last of each mapping: its newest migrations, verdicts, success, look at its stock.

A few rows by index for each mapping, however much was migrated. Numbers of one migration are in
`progress.py` and `summary.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inventory_migration.engine import ledger
from inventory_migration.engine.gates import SUITES
from inventory_migration.engine.ledger import SCHEMA
from inventory_migration.engine.observations import MEASURES
from inventory_migration.engine.summary import exact


@dataclass(frozen=True)
class OfInterest:
    """A migration that is shown beside the standing of its mapping.

    Attributes:
        quarantined_percent: Which share of its records may be in quarantine, as it was begun with.
    """

    migration_id: int
    mapping: str
    quarantined_percent: float | None


def of_interest(connection: sa.Connection, mapping: str | None = None) -> list[OfInterest]:
    """The newest migration of each mapping, and every active one."""
    if not ledger.installed(connection):
        return []
    found = connection.execute(_OF_INTEREST, {"mapping": mapping, "active": list(ledger.ACTIVE)})
    return [OfInterest(*row) for row in found]


def of_mappings(connection: sa.Connection, mapping: str | None = None) -> list[dict[str, Any]]:
    """Every mapping that the ledger knows, or one, by name.

    Each has `migrations` by state, `gates` with the last verdict of each, `last_success_at`, and
    `look`: the last that the monitoring took at its stock, or None.
    """
    if not ledger.installed(connection):
        return []
    rows = connection.execute(_MAPPINGS, {"mapping": mapping, "suites": list(SUITES)})
    return [
        {
            "mapping": row.mapping,
            "migrations": row.migrations or {},
            "gates": row.gates or [],
            "last_success_at": row.last_success_at.isoformat() if row.last_success_at else None,
            "look": _look(row) if row.look_at else None,
        }
        for row in rows
    ]


def _look(row: sa.Row[Any]) -> dict[str, Any]:
    drift = row.found.get("drift") or {}
    return {
        "at": row.look_at.isoformat(),
        "passed": row.passed,
        "findings": row.findings,
        "records": row.records,
        "units": exact(row.units),
        "reserved": exact(row.reserved),
        "companies": row.companies,
        "locations": row.locations,
        "drift": {name: drift[name] for name in MEASURES if drift.get(name)},
    }


_OF_INTEREST = sa.text(f"""
    SELECT migration_id, mapping,
           CAST(definition->'thresholds'->>'quarantined_percent' AS double precision)
    FROM (SELECT migration_id, mapping, state, definition,
                 row_number() OVER (PARTITION BY mapping ORDER BY migration_id DESC) AS place
          FROM {SCHEMA}.migration
          WHERE CAST(:mapping AS text) IS NULL OR mapping = :mapping) AS m
    WHERE place = 1 OR state = ANY(:active)
    ORDER BY migration_id
""")

# A run that finds nothing new makes no migration, and its last gate has a verdict all the same. A
# look that is not concluded yet has found nothing, not even that nothing is wrong.
_MAPPINGS = sa.text(f"""
    SELECT n.mapping, m.migrations, g.gates,
           GREATEST(m.verified_at, s.judged_at) AS last_success_at,
           o.at AS look_at, o.passed, o.findings, o.found, o.records, o.units, o.reserved,
           o.companies, o.locations
    FROM (SELECT mapping FROM {SCHEMA}.migration UNION SELECT mapping FROM {SCHEMA}.gate
          UNION SELECT mapping FROM {SCHEMA}.observation) AS n
    LEFT JOIN LATERAL (
        SELECT jsonb_object_agg(state, count) AS migrations,
               max(finished_at) FILTER (WHERE state = 'verified') AS verified_at
        FROM (SELECT state, count(*), max(finished_at) AS finished_at
              FROM {SCHEMA}.migration WHERE mapping = n.mapping GROUP BY state) AS by_state
    ) AS m ON true
    LEFT JOIN LATERAL (
        SELECT jsonb_agg(jsonb_build_object('suite', suite, 'passed', passed,
                                            'judged_at', judged_at)) AS gates
        FROM unnest(CAST(:suites AS text[])) AS suite
        CROSS JOIN LATERAL (
            SELECT passed, judged_at FROM {SCHEMA}.gate
            WHERE mapping = n.mapping AND gate.suite = suite.suite AND passed IS NOT NULL
            ORDER BY gate_id DESC LIMIT 1) AS last
    ) AS g ON true
    LEFT JOIN LATERAL (
        SELECT judged_at FROM {SCHEMA}.gate
        WHERE mapping = n.mapping AND suite = 'reconciliation_report' AND passed
        ORDER BY gate_id DESC LIMIT 1) AS s ON true
    LEFT JOIN LATERAL (
        SELECT * FROM {SCHEMA}.observation
        WHERE mapping = n.mapping AND kind = 'monitored' AND found <> '{{}}'
        ORDER BY observation_id DESC LIMIT 1) AS o ON true
    WHERE CAST(:mapping AS text) IS NULL OR n.mapping = :mapping
    ORDER BY n.mapping
""")
