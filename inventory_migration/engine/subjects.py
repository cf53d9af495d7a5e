"""What each suite is held against: its batch, the relations that it names, and its numbers.

Everything here is SQL text and counts; how a suite is judged belongs in `quality/`, and what a
verdict lets happen in `gates.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import (
    as_compared,
    balances,
    canonical,
    ledger,
    proof,
    references,
    tallied,
    tally,
    untouched,
)
from inventory_migration.engine.ledger import Migration


@dataclass(frozen=True)
class Subject:
    """What a suite is held against.

    Attributes:
        batch: The SELECT that it is about.
        relations: The SELECTs that it may name.
        parameters: Its numbers, each by what reads it: not every suite asks for all of them.
        kept: What has to be kept with the verdict of what was counted for it, by its name there.
        short_way: The batch as less tells it than all that there is to read, where such is known:
            if nothing is wrong with that, nothing is wrong with the batch.
    """

    batch: str
    relations: dict[str, str]
    parameters: dict[str, Callable[[], Any]]
    kept: dict[str, Any] = field(default_factory=dict)
    short_way: str | None = None

    def numbers(self, wanted: Collection[str]) -> dict[str, Any]:
        """The numbers that a suite asks for, as far as there are such."""
        return {name: self.parameters[name]() for name in wanted if name in self.parameters}


def subject_of(
    connection: sa.Connection, resolved: ResolvedMapping, suite: str, *, again: bool = False
) -> Subject:
    """What a suite judges, as the data and the ledger stand now.

    Args:
        connection: A connection that sees one moment; only read from.
        resolved: The mapping and its types.
        suite: One of `gates.SUITES`.
        again: Whether what was added up before stands, where nobody has written since, and what is
            added up now may be kept for later.
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
                "expected_rows": partial(_count, connection, f"SELECT FROM {resolved.source.sql}"),
                "quarantined_percent": lambda: (
                    100
                    if limits.action_on("quarantined") == "continue"
                    else limits.quarantined_percent
                ),
                "after_records": lambda: limits.after_records,
            },
        )
    if suite == "default_locations":
        return Subject(
            batch=companies,
            relations={"default_locations": defaults},
            parameters={
                "expected_companies": partial(
                    _count, connection, f"SELECT FROM {resolved.company.sql} AS c"
                )
            },
        )
    migration = ledger.current(connection, mapping.name)
    if migration is None or not ledger.snapshot_exists(connection, migration):
        migration = None
    if suite == "transformed_stock":
        rows = (
            partial(_count, connection, f"SELECT FROM {migration.snapshot}") if migration else int
        )
        return Subject(
            batch=proof.moved(connection, resolved, migration),
            relations={},
            parameters={"expected_rows": rows},
            short_way=as_compared.moved(connection, resolved, migration)
            if again and migration
            else None,
        )
    return _reconciled(connection, resolved, migration, again=again)


def _reconciled(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration | None,
    *,
    again: bool,
) -> Subject:
    """What the last suite is held against: one scan, and what that has found to look at again."""
    # Whoever keeps no verdict keeps nothing with it.
    kept: dict[str, Any] = {}
    if migration is None:
        # Of records that nobody has migrated, none is where it should be.
        found = proof.prove(connection, resolved, None).differences
        unbalanced, compared = balances.no_balance(), 0
        references_now = references.nothing()
    else:
        before = untouched.note_before(connection, resolved)
        look = tallied.again if again else tallied.count
        counted = look(connection, resolved, migration)
        found = counted.differences
        unbalanced = tally.unbalanced(resolved, migration, counted.tally)
        compared = counted.tally.compared
        if again:
            made = tallied.to_keep(connection, resolved, migration, counted, before)
            holds = counted.is_kept or made is not None
            kept = {tallied.KEPT_AS: made}
            kept[tallied.HELD_AT] = tallied.held_at(connection) if holds else None
        references_now = references.compared(connection, resolved, migration.migration_id)
    differing = sum(difference.records for difference in found)
    return Subject(
        batch=proof.differences(connection, resolved, migration)
        if differing
        else proof.no_differences(),
        relations={
            "balance": balances.balance(connection, resolved, migration),
            "unbalanced": unbalanced,
            "balanced": f"SELECT {compared}::bigint AS records",
            "references": references_now,
            "moved": proof.moved(connection, resolved, migration),
        },
        parameters={
            "expected_differences": lambda: differing,
            "expected_balances": partial(balances.count_balances, connection, resolved, migration),
            "expected_records": _records(connection, migration),
        },
        kept=kept,
    )


def _records(connection: sa.Connection, migration: Migration | None) -> Callable[[], int]:
    """What counts the records of a migration's snapshot."""
    if migration is None:
        return lambda: 0
    return partial(_count, connection, f"SELECT FROM {migration.snapshot}")


def _count(connection: sa.Connection, select: str) -> int:
    return int(
        connection.execute(
            sa.text(f"SELECT count(*) FROM ({escaped(select)}) AS counted")
        ).scalar_one()
    )
