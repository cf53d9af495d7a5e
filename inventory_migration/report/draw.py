"""Which records a sample has: some of every kind that there is, drawn by a seed.

A stratum is a condition on records of the snapshot. Places in the snapshot are drawn by the seed,
and of each stratum those that come first are taken; what too few of them are of is sought in the
whole snapshot, in the order of MD5(seed || position). So whoever knows the seed draws the same
again, and no record has to be hashed but those that are rare. Edge cases are not drawn but sought.
What is then looked at of each record is said in `sample.py`.
"""

# ruff: noqa: S608 - of names that the mapping was resolved with, quoted

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import columns
from inventory_migration.engine.ledger import SCHEMA, Migration

SIZE = 40
"""About how many records a sample has."""

DRAWS = 2_000
"""How many places are drawn: so many that a kind of which there are few records is among them."""

_MOST_RULES = 8

_ANY = "any"


@dataclass
class Drawn:
    """A record of the sample.

    Attributes:
        position: Its place in the snapshot.
        strata: What it stands for.
    """

    position: int
    strata: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Stratum:
    """A kind of record.

    Attributes:
        name: What it is called.
        condition: Which records of the relation `records` are of it.
        number: How many are taken.
        by: What the first of them have most of; empty where they are only drawn.
    """

    name: str
    condition: str
    number: int
    by: str = ""


@dataclass(frozen=True)
class _Found:
    """A record of a stratum, and how much it has of what that goes by."""

    position: int
    amount: Decimal | None


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
    ours = {"migration_id": migration.migration_id}
    kinds = connection.execute(_KINDS, ours).scalars().all()
    rules = connection.execute(_RULES, ours).scalars().all()[:_MOST_RULES]
    sizes = connection.execute(sa.text(_SIZES.format(snapshot=migration.snapshot))).one()
    strata = [*_strata(resolved, {*kinds}, rules, several=sizes.largest is not None)]
    parameters = {
        **ours,
        "seed": seed,
        "differing": [*differing],
        "places": places(seed, sizes.last),
        **{name: getattr(sizes, name) for name in _COMPANIES},
        **{f"rule_{number}": rule for number, rule in enumerate(rules)},
    }
    drawn = _found(connection, strata, _query(resolved, migration, strata, _DRAWN), parameters)
    sought = [*_sought(strata, drawn, parameters)]
    rare: dict[str, list[_Found]] = {}
    if sought:
        rare = _found(connection, sought, _query(resolved, migration, sought, _RARE), parameters)
    taken: dict[int, Drawn] = {}
    for stratum in strata:
        if stratum.name == _ANY and len(taken) >= SIZE:
            continue
        for position in _first(stratum, drawn.get(stratum.name, []), rare.get(stratum.name, [])):
            taken.setdefault(position, Drawn(position)).strata.append(stratum.name)
            if stratum.name == _ANY and len(taken) >= SIZE:
                break
    return [taken[position] for position in sorted(taken)]


def places(seed: str, last: int) -> list[int]:
    """Places from 1 to the last, in the order in which a seed draws them.

    Args:
        seed: The seed.
        last: The last place; 0 where there is none.
    """
    if not last:
        return []
    draws = (hashlib.sha256(f"{seed}:{number}".encode()) for number in range(DRAWS))
    return [*dict.fromkeys(1 + int(draw.hexdigest(), 16) % last for draw in draws)]


def count(connection: sa.Connection, migration: Migration) -> int:
    """How many records there are to draw from."""
    query = sa.text(f"SELECT count(*) FROM {migration.snapshot}")
    return int(connection.execute(query).scalar_one())


def _strata(
    resolved: ResolvedMapping, kinds: Collection[str], rules: Sequence[str], *, several: bool
) -> Iterator[_Stratum]:
    """All kinds of records that there may be, given outcomes and phases that there are."""
    for outcome, number in (
        ("migrated", 6),
        ("already", 3),
        ("skipped", 3),
        ("quarantined", 3),
        ("gone", 2),
    ):
        # What was simply migrated is in no list.
        if outcome == "migrated" or f"outcome {outcome}" in kinds:
            yield _Stratum(f"outcome {outcome}", f"outcome = '{outcome}'", number)
    for number, rule in enumerate(rules):
        yield _Stratum(f"rule {rule}", f"rule = :rule_{number}", 1)
    for number, phase in enumerate([*(p.name for p in resolved.mapping.phases), "sweep"], 1):
        if f"phase {number}" in kinds:
            yield _Stratum(f"phase {phase}", f"phase = {number}", 2)
    for size in _COMPANIES if several else ():
        company = f"company_key = CAST(:{size} AS {resolved.source_company_type})"
        yield _Stratum(f"{size} company", company, 2)
    yield _Stratum("no company", "company_key IS NULL", 1)
    yield _Stratum("quantity zero", "quantity = 0", 2)
    yield _Stratum("quantity negative", "quantity < 0", 2, by="-quantity")
    yield _Stratum("quantity missing", "quantity IS NULL", 1)
    yield _Stratum("quantity fractional", "quantity <> trunc(quantity)", 1)
    yield _Stratum("largest quantity", "quantity > 0", 2, by="quantity")
    yield _Stratum("most reserved", "reserved > 0", 2, by="reserved")
    yield _Stratum("more reserved than there", "reserved > quantity", 1)
    key = columns.key_text(resolved, "p")
    yield _Stratum("found changed", f"({key}) = ANY(CAST(:differing AS text[]))", 5)
    yield _Stratum(_ANY, "true", SIZE)


_COMPANIES = ("largest", "middle", "smallest")


def _sought(
    strata: Sequence[_Stratum],
    drawn: Mapping[str, Sequence[_Found]],
    parameters: dict[str, Any],
) -> Iterator[_Stratum]:
    """What is to be looked for everywhere; adds to the parameters what there must be more of."""
    for place, stratum in enumerate(strata):
        found = drawn.get(stratum.name, [])
        enough = len(found) >= stratum.number
        if stratum.name == "found changed" and not parameters["differing"]:
            continue
        if stratum.by and enough:
            # Only what has more than the last one can come before it.
            parameters[f"most_{place}"] = found[-1].amount
            yield replace(
                stratum,
                condition=f"{stratum.condition} AND {stratum.by} > CAST(:most_{place} AS numeric)",
            )
        elif not enough and stratum.name != _ANY:
            yield stratum


def _first(stratum: _Stratum, drawn: list[_Found], rare: list[_Found]) -> list[int]:
    """The records to take of a stratum: what was drawn comes before what was sought."""
    found = [*drawn, *rare]
    if stratum.by:
        found.sort(key=lambda one: -(one.amount or 0))
    return [*dict.fromkeys(one.position for one in found)][: stratum.number]


def _found(
    connection: sa.Connection,
    strata: Sequence[_Stratum],
    query: str,
    parameters: Mapping[str, Any],
) -> dict[str, list[_Found]]:
    """The first records of each stratum, by its name."""
    found: dict[str, list[_Found]] = {}
    for row in connection.execute(sa.text(query), parameters):
        found.setdefault(strata[row.place].name, []).append(_Found(row.position, row.amount))
    return found


def _query(
    resolved: ResolvedMapping, migration: Migration, strata: Sequence[_Stratum], source: str
) -> str:
    parts = "\nUNION ALL\n".join(
        f"(SELECT {place} AS place, position, "
        f"CAST({stratum.by or 'NULL'} AS numeric) AS amount, drawn FROM records AS p "
        f"WHERE {stratum.condition} "
        f"ORDER BY {f'{stratum.by} DESC, ' if stratum.by else ''}drawn LIMIT {stratum.number})"
        for place, stratum in enumerate(strata)
    )
    # Of what is rare, nothing is kept or hashed but the records that are sought.
    sought = " OR ".join(f"({stratum.condition})" for stratum in strata)
    keys = ", ".join(f"p.{key}" for key in columns.keys(resolved))
    return f"""
        WITH records AS MATERIALIZED (
            SELECT * FROM (
                SELECT p.position, {keys}, p.company_key, p.phase, p.quantity, p.reserved,
                       COALESCE(o.outcome,
                                CASE WHEN k.xid IS NULL THEN 'pending' ELSE 'migrated' END)
                           AS outcome, o.rule, {source.format(snapshot=migration.snapshot)}
                JOIN {SCHEMA}.chunk AS k ON k.migration_id = :migration_id AND k.number = p.chunk
                LEFT JOIN {SCHEMA}.outcome AS o
                  ON o.migration_id = :migration_id AND o.position = p.position) AS p
            WHERE {sought})
        SELECT place, position, amount FROM ({parts}) AS s
        ORDER BY place, amount DESC, drawn"""


_DRAWN = """d.drawn
                FROM unnest(CAST(:places AS bigint[])) WITH ORDINALITY AS d (position, drawn)
                -- Said twice, so that a row that is not drawn is joined with nothing.
                JOIN {snapshot} AS p ON p.position = d.position
                 AND p.position = ANY(CAST(:places AS bigint[]))"""

_RARE = """md5(:seed || p.position::text) AS drawn
                FROM {snapshot} AS p"""

_SIZES = """
    WITH companies AS MATERIALIZED (
        SELECT company_key, count(*) AS records, max(position) AS last FROM {snapshot}
        GROUP BY company_key),
    counted AS (
        SELECT company_key, row_number() OVER (ORDER BY records DESC, company_key::text) AS place,
               count(*) OVER () AS companies
        FROM companies WHERE company_key IS NOT NULL)
    SELECT (SELECT COALESCE(max(last), 0) FROM companies) AS last,
           (SELECT company_key::text FROM counted WHERE place = 1) AS largest,
           (SELECT company_key::text FROM counted WHERE place = (companies + 1) / 2) AS middle,
           (SELECT company_key::text FROM counted WHERE place = companies) AS smallest"""

_KINDS = sa.text(f"""
    SELECT DISTINCT 'outcome ' || outcome FROM {SCHEMA}.outcome WHERE migration_id = :migration_id
    UNION ALL
    SELECT DISTINCT 'phase ' || phase FROM {SCHEMA}.chunk WHERE migration_id = :migration_id
""")

_RULES = sa.text(f"""
    SELECT rule FROM {SCHEMA}.outcome
    WHERE migration_id = :migration_id AND rule IS NOT NULL
    GROUP BY rule ORDER BY count(*) DESC, rule
""")
