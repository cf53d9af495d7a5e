"""What was put aside, judged and noted of a migration, and what became of each company.

Lists for whoever looks closely; only the companies look at the snapshot, and only where somebody
asks. The same for a report, at more length, is in `trail.py`.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from inventory_migration import logs
from inventory_migration.engine import ledger, trail
from inventory_migration.engine.ledger import SCHEMA
from inventory_migration.engine.progress import Pulse, iso
from inventory_migration.engine.summary import OUTCOMES, counted_by_company, exact

SAMPLE = 5
"""How many keys are shown of records that a rule has put aside."""

EVENTS = 100


def read_details(connection: sa.Connection, pulse: Pulse) -> dict[str, Any]:
    """Quarantine by rule, the last look at health, the gates, and the newest events."""
    migration_id = pulse.row.migration_id
    quarantine = connection.execute(_QUARANTINE, {"migration_id": migration_id, "sample": SAMPLE})
    events = connection.execute(_EVENTS, {"migration_id": migration_id, "limit": EVENTS})
    verdicts = trail.verdicts(connection, pulse.row.mapping)
    found: dict[str, Any] = {
        "quarantine": [dict(row._mapping) for row in quarantine],
        "gates": [
            {
                "suite": verdict["suite"],
                "passed": verdict["passed"],
                "judged_at": iso(verdict["judged_at"]),
                "expectations": verdict["expectations"],
                "failed": verdict["failed"],
            }
            for verdict in verdicts
        ],
        "events": [{**row._mapping, "at": row.at.isoformat()} for row in events],
    }
    # People and applications write what they like into a reason.
    return dict(logs.hide_within(found))


def read_companies(
    connection: sa.Connection, migration_id: int, *, search: str, limit: int
) -> dict[str, Any]:
    """Outcomes and units of the companies whose name or key has a text in it, largest first.

    Looks at the snapshot of those that are shown, and at no other.
    """
    migration = ledger.find(connection, migration_id=migration_id)
    if migration is None or not ledger.snapshot_exists(connection, migration):
        return {"total": 0, "companies": []}
    parameters = {"migration_id": migration_id, "search": search.strip(), "limit": limit}
    rows = connection.execute(
        sa.text(f"""
            WITH counted AS ({counted_by_company(migration)})
            SELECT COALESCE(w.company_key, n.key) AS company_key, w.company_name, w.location_key,
                   w.created, n.*, count(*) OVER () AS total
            FROM counted AS n
            FULL JOIN (SELECT * FROM {SCHEMA}.company_location
                       WHERE migration_id = :migration_id) AS w ON w.company_key = n.key
            WHERE :search = ''
               OR position(lower(:search) IN lower(COALESCE(w.company_name, ''))) > 0
               OR COALESCE(w.company_key, n.key) = :search
            ORDER BY COALESCE(n.snapshot, 0) DESC, w.company_name, 1
            LIMIT :limit
        """),
        parameters,
    ).all()
    return {
        "total": int(rows[0].total) if rows else 0,
        "companies": [
            {
                "company_key": row.company_key,
                "company_name": row.company_name,
                "location_key": row.location_key,
                "location_created": row.created,
                **{
                    name: int(getattr(row, name) or 0)
                    for name in ("snapshot", *OUTCOMES, "pending")
                },
                "units": exact(row.units),
                "reserved": exact(row.reserved),
            }
            for row in rows
        ],
    }


_QUARANTINE = sa.text(f"""
    SELECT rule, reason, count(*) AS records,
           (array_agg(key_text ORDER BY position))[1:CAST(:sample AS integer)] AS sample
    FROM {SCHEMA}.outcome
    WHERE migration_id = :migration_id AND outcome = 'quarantined'
    GROUP BY rule, reason
    ORDER BY records DESC, rule, reason
""")

_EVENTS = sa.text(f"""
    SELECT event_id, at, who, kind,
           CASE WHEN kind = 'acceptance' THEN detail - 'result' ELSE detail END AS detail
    FROM {SCHEMA}.event
    WHERE migration_id = :migration_id ORDER BY event_id DESC LIMIT :limit
""")
