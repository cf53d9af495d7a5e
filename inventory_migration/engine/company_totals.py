"""What each company had before and has now, and all of them together: in one scan.

The records are those of a migration's snapshot; which of them differ is told in `proof.py`.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import canonical, proof
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.summary import exact

_MEASURES = ("units", "reserved", "available")


def company_totals(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> tuple[dict[str, Any], dict[str | None, dict[str, Any]]]:
    """Totals before and after, of all companies together and by the key of each.

    Returns:
        Entries with `before` and `after` (records, units, reserved, available; numbers of units as
        exact decimal strings) and `changed_by_application`, how much of what is available now the
        application has changed.
    """
    total: dict[str, Any] = {}
    found: dict[str | None, dict[str, Any]] = {}
    for row in connection.execute(sa.text(escaped(_totals(resolved, migration)))):
        entry: dict[str, Any] = {
            moment: {
                "records": int(getattr(row, f"records_{moment}") or 0),
                **{name: exact(getattr(row, f"{name}_{moment}")) for name in _MEASURES},
            }
            for moment in ("before", "after")
        }
        entry["changed_by_application"] = exact(row.changed)
        if row.is_total:
            total = entry
        else:
            found[row.company_key] = entry
    return total, found


def _totals(resolved: ResolvedMapping, migration: Migration) -> str:
    before = canonical.available(resolved, "quantity_before", "reserved_before")
    after = canonical.available(resolved, "quantity_after", "reserved_after")
    sums = ", ".join(
        f"sum({name}_{moment}) AS {name}_{moment}"
        for name in ("records", *_MEASURES)
        for moment in ("before", "after")
    )
    return f"""
        WITH compared AS ({proof.compared_records(resolved, migration)}),
        entries AS (
            SELECT company_before::text AS company_key, 1 AS records_before, 0 AS records_after,
                   COALESCE(quantity_before, 0) AS units_before, 0::numeric AS units_after,
                   COALESCE(reserved_before, 0) AS reserved_before, 0::numeric AS reserved_after,
                   COALESCE({before}, 0) AS available_before, 0::numeric AS available_after,
                   CASE WHEN changed THEN -COALESCE({before}, 0) ELSE 0 END AS changed
            FROM compared
            UNION ALL
            SELECT company_key::text, 0, 1, 0, COALESCE(quantity_after, 0), 0,
                   COALESCE(reserved_after, 0), 0, COALESCE({after}, 0),
                   CASE WHEN changed THEN COALESCE({after}, 0) ELSE 0 END
            FROM compared WHERE live)
        SELECT company_key, GROUPING(company_key) = 1 AS is_total, {sums}, sum(changed) AS changed
        FROM entries
        GROUP BY GROUPING SETS ((company_key), ())"""
