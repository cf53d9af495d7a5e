"""What a rollback is to undo: a whole migration, or what is of some phases or companies of it.

Names are checked here before anything is written. How it is undone is in `undo_walk.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import ledger
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.errors import MappingInvalid


@dataclass(frozen=True)
class Scope:
    """Which records go back; without any name all of them do.

    Attributes:
        phases: Names of phases; the sweep's late arrivals are one of their own.
        companies: Keys of companies, as text. With phases as well, what is of both.
    """

    phases: tuple[str, ...] = ()
    companies: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return not (self.phases or self.companies)

    def records(self) -> str:
        """The condition that a snapshot row `p` of a chunk `k` is meant."""
        conditions = []
        if self.phases:
            conditions.append(
                f"k.phase IN (SELECT f.number FROM {SCHEMA}.phase AS f "
                "WHERE f.migration_id = :im_migration_id AND f.name = ANY(:im_phases))"
            )
        if self.companies:
            conditions.append("p.company_key::text = ANY(:im_companies)")
        return " AND ".join(conditions) or "true"

    @property
    def parameters(self) -> dict[str, list[str]]:
        """What `records` needs beside the migration's id."""
        given = {"im_phases": list(self.phases), "im_companies": list(self.companies)}
        return {name: value for name, value in given.items() if value}

    def __str__(self) -> str:
        """Say it as a clause."""
        parts = [
            f"{one if len(names) == 1 else many} {', '.join(names)}"
            for one, many, names in (
                ("phase", "phases", self.phases),
                ("company", "companies", self.companies),
            )
            if names
        ]
        return " of ".join(reversed(parts)) or "the whole migration"


WHOLE = Scope()


def refuse_unknown(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migrations: Sequence[Migration],
    scope: Scope,
) -> None:
    """Refuse phases and companies that there are not, all of them at once.

    Raises:
        MappingInvalid: Names each, and what there is.
    """
    mapping = resolved.mapping
    known = [phase.name for phase in mapping.phases]
    if migrations:
        known += connection.execute(
            sa.select(ledger.phase.c.name)
            .where(ledger.phase.c.migration_id.in_([m.migration_id for m in migrations]))
            .order_by(ledger.phase.c.number)
        ).scalars()
    phases = list(dict.fromkeys(known))
    problems = [
        f"{mapping.name}: there is no phase {name}; its phases are {', '.join(phases)}"
        for name in scope.phases
        if name not in phases
    ]
    key = quoted(mapping.company.key)
    looked_in = [f"SELECT {key}::text FROM {resolved.company.sql} AS c"] + [
        f"SELECT company_key::text FROM {migration.snapshot}"
        for migration in migrations
        if ledger.snapshot_exists(connection, migration)
    ]
    if scope.companies:
        missing = connection.execute(
            sa.text(
                "SELECT given FROM unnest(CAST(:companies AS text[])) AS g(given) WHERE "
                + " AND ".join(f"given NOT IN ({_not_null(query)})" for query in looked_in)
            ),
            {"companies": list(scope.companies)},
        ).scalars()
        problems += [
            f"{mapping.name}: there is no company {company} in {resolved.company.name}; give its "
            f"{mapping.company.key} as it stands there"
            for company in missing
        ]
    if problems:
        raise MappingInvalid(origin=mapping.name, problems=problems)


def _not_null(query: str) -> str:
    """A query for `NOT IN`, which a NULL among its rows would make unknown."""
    return escaped(f"SELECT x.k FROM ({query}) AS x(k) WHERE x.k IS NOT NULL")
