"""Which records a sample has: some of every kind that there is, drawn by a seed.

A stratum is a condition on records of the snapshot; of each so many are taken, in the order of
MD5(seed || position), so that whoever knows the seed draws the same again. Edge cases are not drawn
but sought. What is then looked at of each record is said in `sample.py`.
"""

# ruff: noqa: S608 - of names that the mapping was resolved with, quoted

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import columns
from inventory_migration.engine.ledger import SCHEMA, Migration

SIZE = 40
"""About how many records a sample has."""

_MOST_RULES = 8


@dataclass
class Drawn:
    """A record of the sample.

    Attributes:
        position: Its place in the snapshot.
        strata: What it stands for.
    """

    position: int
    strata: list[str] = field(default_factory=list)


def positions(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    differing: Sequence[str],
    seed: str,
) -> list[Drawn]:
    """The records of the sample, in order of their positions.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        migration: Whose snapshot.
        differing: Keys of records that were found changed, by the application or by anybody.
        seed: What they are drawn by.
    """
    parameters = {"migration_id": migration.migration_id, "seed": seed, "differing": [*differing]}
    rules = connection.execute(_RULES, {"migration_id": migration.migration_id}).scalars().all()
    rules = rules[:_MOST_RULES]
    parameters |= {f"rule_{number}": rule for number, rule in enumerate(rules)}
    query = _query(resolved, migration, [*_strata(resolved, len(rules))])
    found: dict[int, Drawn] = {}
    for row in connection.execute(sa.text(query), parameters):
        name = row.stratum
        if name.startswith("rule "):
            name = f"rule {rules[int(name.removeprefix('rule '))]}"
        if name == _ANY and len(found) >= SIZE:
            continue
        found.setdefault(row.position, Drawn(row.position)).strata.append(name)
    return [found[position] for position in sorted(found)]


def count(connection: sa.Connection, migration: Migration) -> int:
    """How many records there are to draw from."""
    query = sa.text(f"SELECT count(*) FROM {migration.snapshot}")
    return int(connection.execute(query).scalar_one())


_ANY = "any"


def _strata(resolved: ResolvedMapping, rules: int) -> Iterator[tuple[str, str, str, int]]:
    """Name, condition, order and number of each; what is sought goes by a number first."""
    for outcome, number in (
        ("migrated", 6),
        ("already", 3),
        ("skipped", 3),
        ("quarantined", 3),
        ("gone", 2),
    ):
        yield f"outcome {outcome}", f"outcome = '{outcome}'", "drawn", number
    for number in range(rules):
        yield f"rule {number}", f"rule = :rule_{number}", "drawn", 1
    for number, phase in enumerate([*(p.name for p in resolved.mapping.phases), "sweep"], 1):
        yield f"phase {phase}", f"phase = {number}", "drawn", 2
    for place in ("largest", "middle", "smallest"):
        chosen = f"company_key IS NOT DISTINCT FROM (SELECT {place} FROM sizes)"
        yield f"{place} company", chosen, "drawn", 2
    yield "no company", "company_key IS NULL", "drawn", 1
    yield "quantity zero", "quantity = 0", "drawn", 2
    yield "quantity negative", "quantity < 0", "quantity, drawn", 2
    yield "quantity missing", "quantity IS NULL", "drawn", 1
    yield "quantity fractional", "quantity <> trunc(quantity)", "drawn", 1
    yield "largest quantity", "quantity > 0", "quantity DESC, drawn", 2
    yield "most reserved", "reserved > 0", "reserved DESC, drawn", 2
    yield "more reserved than there", "reserved > quantity", "drawn", 1
    key = columns.key_text(resolved, "p")
    yield "found changed", f"({key}) = ANY(CAST(:differing AS text[]))", "drawn", 5
    yield _ANY, "true", "drawn", SIZE


def _query(
    resolved: ResolvedMapping, migration: Migration, strata: list[tuple[str, str, str, int]]
) -> str:
    parts = "\nUNION ALL\n".join(
        f"(SELECT '{name}' AS stratum, {place} AS place, position FROM records AS p "
        f"WHERE {condition} ORDER BY {order} LIMIT {number})"
        for place, (name, condition, order, number) in enumerate(strata)
    )
    keys = ", ".join(f"p.{key}" for key in columns.keys(resolved))
    return f"""
        WITH records AS MATERIALIZED (
            SELECT p.position, {keys}, p.company_key, p.phase, p.quantity, p.reserved,
                   COALESCE(o.outcome, CASE WHEN k.xid IS NULL THEN 'pending' ELSE 'migrated' END)
                       AS outcome, o.rule, md5(:seed || p.position::text) AS drawn
            FROM {migration.snapshot} AS p
            JOIN {SCHEMA}.chunk AS k ON k.migration_id = :migration_id AND k.number = p.chunk
            LEFT JOIN {SCHEMA}.outcome AS o
              ON o.migration_id = :migration_id AND o.position = p.position),
        counted AS (
            SELECT company_key, count(*) AS n,
                   row_number() OVER (ORDER BY count(*) DESC, company_key::text) AS place,
                   count(*) OVER () AS companies
            FROM records WHERE company_key IS NOT NULL GROUP BY company_key),
        sizes AS (
            SELECT (SELECT company_key FROM counted WHERE place = 1) AS largest,
                   (SELECT company_key FROM counted WHERE place = (companies + 1) / 2) AS middle,
                   (SELECT company_key FROM counted WHERE place = companies) AS smallest)
        SELECT stratum, position FROM ({parts}) AS s ORDER BY place, position"""


_RULES = sa.text(f"""
    SELECT rule FROM {SCHEMA}.outcome
    WHERE migration_id = :migration_id AND rule IS NOT NULL
    GROUP BY rule ORDER BY count(*) DESC, rule
""")
