"""Whether a mapping's joins are faithful: each record comes exactly once, and nothing else does.

A join that fans out would count units twice, and one that drops a record would leave it behind
without a word, with all totals agreeing. Whether the joins are SQL that the server takes is asked
in `catalog/`.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import columns
from inventory_migration.errors import MappingInvalid

SAMPLES = 5
"""How many keys a sentence names."""


def refuse_unfaithful(connection: sa.Connection, resolved: ResolvedMapping) -> None:
    """Refuse joins that lose or multiply a record; asks nothing where there are none.

    What it finds holds for the moment that the connection sees, so each step that relies on it asks
    in its own transaction.

    Raises:
        MappingInvalid: With a sentence for each way in which the joins are not faithful.
    """
    mapping = resolved.mapping
    if not mapping.source.joins.strip():
        return
    found = connection.execute(sa.text(escaped(_count(resolved)))).one()
    rule = "a join must find exactly one row for each record"
    problems = []
    if found.several:
        records = _counted(found.several, "record comes", "records come")
        problems.append(
            f"{records} more than once ({_such_as(found.several_keys)}); {rule}; join on a unique "
            "key of the other table, or on a subselect that has one row for each"
        )
    if found.never:
        records = _counted(found.never, "record does", "records do")
        problems.append(
            f"{records} not come at all ({_such_as(found.never_keys)}); {rule}; LEFT JOIN keeps "
            "those without a partner"
        )
    if found.strangers:
        rows = _counted(found.strangers, "row belongs", "rows belong")
        problems.append(f"{rows} to no record; {rule}; LEFT JOIN adds none")
    if problems:
        raise MappingInvalid(
            origin=mapping.name,
            problems=[f"{mapping.name}: source.joins: {problem}" for problem in problems],
        )


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
        f"ARRAY(SELECT concat_ws(', ', {keys}) FROM im_wrong WHERE {{}} "
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
