"""Whether a mapping's joins are faithful: each record comes exactly once, and nothing else does.

A join that fans out would count units twice, and one that drops a record would leave it behind
without a word, with all totals agreeing. A query for companies that gives one of them twice is such
a join. Whether they are SQL that the server takes is asked in `catalog/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from inventory_migration.catalog import Derived, ResolvedMapping
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import columns
from inventory_migration.errors import MappingInvalid

SAMPLES = 5
"""How many keys a sentence names."""


def refuse_unfaithful(connection: sa.Connection, resolved: ResolvedMapping) -> None:
    """Refuse joins that lose or multiply a record, and companies that come twice.

    Asks nothing where there are neither joins nor a query for companies.

    What it finds holds for the moment that the connection sees, so each step that relies on it asks
    in its own transaction.

    Raises:
        MappingInvalid: With a sentence for each way in which they are not faithful.
    """
    problems = [*_of_companies(connection, resolved), *_of_joins(connection, resolved)]
    if problems:
        name = resolved.mapping.name
        raise MappingInvalid(
            origin=name, problems=[f"{name}: {where}: {problem}" for where, problem in problems]
        )


def keep_keys(resolved: ResolvedMapping) -> bool:
    """Whether no two records can have one key, nor any none: the server itself keeps that.

    No mapping resolves whose key its table does not keep unique and filled; a join may still repeat
    a record, and so may a query for companies.
    """
    return not resolved.mapping.source.joins.strip() and not isinstance(resolved.company, Derived)


def _of_companies(
    connection: sa.Connection, resolved: ResolvedMapping
) -> Iterator[tuple[str, str]]:
    """What is wrong with the keys that a query for companies gives."""
    if not isinstance(resolved.company, Derived):
        return
    key = f"c.{quoted(resolved.mapping.company.key)}"
    found = connection.execute(
        sa.text(f"""
            SELECT count(*) FILTER (WHERE {escaped(key)} IS NULL) AS unnamed,
                   ARRAY(SELECT {escaped(key)}::text FROM {escaped(resolved.company.sql)} AS c
                         GROUP BY {escaped(key)} HAVING count(*) > 1
                         ORDER BY {escaped(key)} LIMIT {SAMPLES}) AS repeated
            FROM {escaped(resolved.company.sql)} AS c
        """)
    ).one()
    repeated = [key for key in found.repeated if key is not None]
    if repeated:
        yield (
            "company.sql",
            f"gives a company more than once ({_such_as(repeated)}); group by its key, and take "
            "one of its names, such as min(name)",
        )
    if found.unnamed:
        rows = _counted(found.unnamed, "row", "rows")
        yield "company.sql", f"gives {rows} without a key; leave them out by WHERE"


def _of_joins(connection: sa.Connection, resolved: ResolvedMapping) -> Iterator[tuple[str, str]]:
    """In which ways joins are not faithful."""
    if not resolved.mapping.source.joins.strip():
        return
    found = connection.execute(sa.text(escaped(_count(resolved)))).one()
    rule = "a join must find exactly one row for each record"
    if found.several:
        records = _counted(found.several, "record comes", "records come")
        yield (
            "source.joins",
            f"{records} more than once ({_such_as(found.several_keys)}); {rule}; join on a unique "
            "key of the other table, or on a subselect that has one row for each",
        )
    if found.never:
        records = _counted(found.never, "record does", "records do")
        yield (
            "source.joins",
            f"{records} not come at all ({_such_as(found.never_keys)}); {rule}; LEFT JOIN keeps "
            "those without a partner",
        )
    if found.strangers:
        rows = _counted(found.strangers, "row belongs", "rows belong")
        yield "source.joins", f"{rows} to no record; {rule}; LEFT JOIN adds none"


def _count(resolved: ResolvedMapping) -> str:
    """How many records come several times or never, with some of their keys, and what else comes.

    The mapping's own SQL stands in the first part only, which sees none of the others: a table of
    the application may have their names.
    """
    keys = ", ".join(columns.keys(resolved))
    named = ", ".join(
        f"s.{quoted(column.name)} AS {key}"
        for column, key in zip(resolved.key_columns, columns.keys(resolved), strict=True)
    )
    own = columns.source_keys(resolved)
    sample = (
        f"ARRAY(SELECT {columns.key_text(resolved)} FROM im_wrong WHERE {{}} "
        f"ORDER BY {keys} LIMIT {SAMPLES})"
    )
    return f"""
        WITH im_joined AS MATERIALIZED (
            SELECT {named}, count(*) AS times
            FROM {resolved.source.sql} AS s {resolved.mapping.source.joins}
            GROUP BY {own}),
        im_wrong AS MATERIALIZED (
            SELECT {named}, COALESCE(j.times, 0) AS times
            FROM {resolved.source.sql} AS s
            LEFT JOIN im_joined AS j ON {columns.key_of_source(resolved, "j")}
            WHERE j.times IS DISTINCT FROM 1)
        SELECT count(*) FILTER (WHERE times > 1) AS several,
               {sample.format("times > 1")} AS several_keys,
               count(*) FILTER (WHERE times = 0) AS never,
               {sample.format("times = 0")} AS never_keys,
               (SELECT COALESCE(sum(times), 0)::bigint FROM im_joined WHERE key_1 IS NULL)
                   AS strangers
        FROM im_wrong"""


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _such_as(keys: Sequence[str]) -> str:
    return f"such as {', '.join(keys)}"
