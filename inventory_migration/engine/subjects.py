"""What each suite is held against: its batch, the relations that it names, and its numbers.

Everything here is SQL text and counts; how a suite is judged belongs in `quality/`, and what a
verdict lets happen in `gates.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import canonical, ledger, proof, references


@dataclass(frozen=True)
class Subject:
    """What a suite is held against: its batch, the relations that it names, its numbers."""

    batch: str
    relations: dict[str, str]
    parameters: dict[str, Any]


def subject_of(connection: sa.Connection, resolved: ResolvedMapping, suite: str) -> Subject:
    """What a suite judges, as the data and the ledger stand now.

    Args:
        connection: A connection that sees one moment; only read from.
        resolved: The mapping and its types.
        suite: One of `gates.SUITES`.
    """
    mapping = resolved.mapping
    companies = canonical.companies(resolved)
    defaults = canonical.default_locations(resolved)
    if suite == "audit_profile":
        limits = mapping.thresholds
        return Subject(
            batch=canonical.records(resolved),
            relations={"companies": companies, "default_locations": defaults},
            parameters={
                "expected_rows": _count(connection, f"SELECT FROM {resolved.source.sql}"),
                "quarantined_percent": 100
                if limits.action_on("quarantined") == "continue"
                else limits.quarantined_percent,
                "after_records": limits.after_records,
            },
        )
    if suite == "default_locations":
        return Subject(
            batch=companies,
            relations={"default_locations": defaults},
            parameters={
                "expected_companies": _count(connection, f"SELECT FROM {resolved.company.sql} AS c")
            },
        )
    migration = ledger.current(connection, mapping.name)
    moved = proof.moved(connection, resolved, migration)
    if suite == "transformed_stock":
        rows = 0
        if migration is not None and ledger.snapshot_exists(connection, migration):
            rows = _count(connection, f"SELECT FROM {migration.snapshot}")
        return Subject(batch=moved, relations={}, parameters={"expected_rows": rows})
    differences = proof.differences(connection, resolved, migration)
    balance = proof.balance(connection, resolved, migration)
    compared = (
        references.compared(connection, resolved, migration.migration_id)
        if migration is not None
        else references.nothing()
    )
    return Subject(
        batch=differences,
        relations={"balance": balance, "references": compared, "moved": moved},
        parameters={
            "expected_differences": sum(
                difference.records
                for difference in proof.prove(connection, resolved, migration).differences
            ),
            "expected_balances": proof.count_balances(connection, resolved, migration),
        },
    )


def _count(connection: sa.Connection, select: str) -> int:
    return int(
        connection.execute(
            sa.text(f"SELECT count(*) FROM ({escaped(select)}) AS counted")
        ).scalar_one()
    )
