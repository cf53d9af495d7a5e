"""What one scan tells of a migration's records: totals of each company, differences, what moved.

Snapshot and live table are compared record by record, as the proof does, and added up by company.
What is not as it was is few, or nothing: it is looked at again by itself, and only where there is
any. How records are compared is said in `proof.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import canonical, coverage, proof
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.proof import Difference
from inventory_migration.engine.summary import exact
from inventory_migration.mapping import StockLevel

_MEASURES = ("units", "reserved", "available")


@dataclass(frozen=True)
class Tally:
    """What one scan has counted.

    Attributes:
        total: `before` and `after` (records, units, reserved, available; numbers of units as exact
            decimal strings) and `changed_by_application`, how much of what is available now the
            application has changed.
        companies: The same of each company, by its key as text.
        compared: How many records of the snapshot were compared.
        unequal: How many of them are not in the same balance with the same number as before.
        differing: How many of them differ in any kind.
    """

    total: dict[str, Any]
    companies: Mapping[str | None, dict[str, Any]]
    compared: int
    unequal: int
    differing: int


def tally(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> Tally:
    """Compare and add up; the snapshot exists."""
    total: dict[str, Any] = {}
    found: dict[str | None, dict[str, Any]] = {}
    compared = unequal = differing = 0
    for row in connection.execute(sa.text(escaped(_query(connection, resolved, migration)))):
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
            compared = int(row.records_before or 0)
            unequal, differing = int(row.unequal or 0), int(row.differing or 0)
        else:
            found[row.company_key] = entry
    return Tally(total, found, compared, unequal, differing)


def differences(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    counted: Tally,
) -> list[Difference]:
    """The differences by kind, as `proof.prove` tells them; looked for only where there are any.

    Args:
        connection: A connection that sees the moment of the tally.
        resolved: The mapping and its types.
        migration: Whose records.
        counted: What the scan has counted.
    """
    # Levels of records that are gone are no records that could be compared.
    if not counted.differing and not isinstance(resolved.mapping.target, StockLevel):
        covered = coverage.dealt_with_beside(connection, resolved, migration)
        if not coverage.count_never_seen(connection, resolved, covered):
            return []
    return proof.prove(connection, resolved, migration).differences


def unbalanced(resolved: ResolvedMapping, migration: Migration, counted: Tally) -> str:
    """The relation `unbalanced`: available per company and item, of the records that moved in it.

    A record that is in the same balance with the same number on both sides leaves it as it is, so
    what it would add to both is left out.
    """
    if not counted.unequal:
        return proof.no_balance()
    compared = proof.compared_records(resolved, migration)
    moved = f"SELECT * FROM ({compared}) AS c WHERE {_unequal(resolved)}"
    return proof.balance_of(resolved, moved)


def _available(resolved: ResolvedMapping) -> tuple[str, str]:
    return (
        canonical.available(resolved, "quantity_before", "reserved_before"),
        canonical.available(resolved, "quantity_after", "reserved_after"),
    )


def _unequal(resolved: ResolvedMapping) -> str:
    """When a record is in another balance than before, or in the same with another number."""
    before, after = _available(resolved)
    return (
        "(changed OR NOT live OR company_before IS DISTINCT FROM company_key "
        "OR item_before IS DISTINCT FROM item_key "
        f"OR COALESCE({before}, 0) IS DISTINCT FROM COALESCE({after}, 0))"
    )


def _query(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> str:
    """Each company and all together, from the pairs of companies that records have gone between.

    First by both companies, the one before and the one now, which is one that several processes can
    do; of what comes out there are few rows.
    """
    before, after = _available(resolved)
    sums = ", ".join(
        f"sum({name}_{moment}) AS {name}_{moment}"
        for name in ("records", *_MEASURES)
        for moment in ("before", "after")
    )
    return f"""
        WITH pairs AS MATERIALIZED (
            SELECT company_before::text AS company_before, company_key::text AS company_now,
                   count(*) AS records_before, count(*) FILTER (WHERE live) AS records_after,
                   sum(quantity_before) AS units_before,
                   sum(quantity_after) FILTER (WHERE live) AS units_after,
                   sum(reserved_before) AS reserved_before,
                   sum(reserved_after) FILTER (WHERE live) AS reserved_after,
                   sum({before}) AS available_before,
                   sum({after}) FILTER (WHERE live) AS available_after,
                   sum({before}) FILTER (WHERE changed) AS changed_before,
                   sum({after}) FILTER (WHERE changed AND live) AS changed_after,
                   count(*) FILTER (WHERE {_unequal(resolved)}) AS unequal,
                   count(*) FILTER (
                       WHERE {proof.kind(connection, resolved, migration)} IS NOT NULL) AS differing
            FROM ({proof.compared_records(resolved, migration)}) AS c
            GROUP BY 1, 2),
        entries AS (
            SELECT company_before AS company_key, records_before, 0::bigint AS records_after,
                   COALESCE(units_before, 0) AS units_before, 0::numeric AS units_after,
                   COALESCE(reserved_before, 0) AS reserved_before, 0::numeric AS reserved_after,
                   COALESCE(available_before, 0) AS available_before,
                   0::numeric AS available_after,
                   -COALESCE(changed_before, 0) AS changed, unequal, differing
            FROM pairs
            UNION ALL
            SELECT company_now, 0, records_after, 0, COALESCE(units_after, 0),
                   0, COALESCE(reserved_after, 0), 0, COALESCE(available_after, 0),
                   COALESCE(changed_after, 0), 0, 0
            FROM pairs WHERE records_after > 0)
        SELECT company_key, GROUPING(company_key) = 1 AS is_total, {sums},
               sum(changed) AS changed, sum(unequal) AS unequal, sum(differing) AS differing
        FROM entries
        GROUP BY GROUPING SETS ((company_key), ())"""
