"""Items that a company has in more than one record: whether there are any, and how many.

Grouping millions of records by texts is dear, and in most inventories there is nothing to find. So
hashes are sorted first: equal items have equal ones, and where none is there twice, no item is.
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from inventory_migration.database import escaped


class Copies(NamedTuple):
    """How many items there are several times, and how many records have them."""

    groups: int
    records: int


def copies(connection: sa.Connection, live: str) -> Copies:
    """Count the items that a company has several times, exactly.

    Args:
        connection: A connection; only read from.
        live: The SELECT of the records that are not skipped: `company_key` and `item_key`.
    """
    if not may_be(connection, live):
        return Copies(0, 0)
    found = connection.execute(sa.text(escaped(_copies(live)))).one()
    return Copies(found.groups, found.records)


def may_be(connection: sa.Connection, live: str) -> bool:
    """Whether two records may have the same company and item; where not, none have."""
    query = sa.text(escaped(_may_be(live)))
    return bool(connection.execute(query).scalar_one())


def _may_be(live: str) -> str:
    # Several processes may hash, and one sorts: bare numbers, without a row around each.
    return f"""
        SELECT count(*) <> count(DISTINCT of_item)
        FROM (SELECT hash_record_extended(ROW(company_key, item_key), 0) AS of_item
              FROM ({live}
              ) AS r WHERE {_WITH_ITEM} OFFSET 0) AS h"""


def _copies(live: str) -> str:
    return f"""
        SELECT count(*) AS groups, COALESCE(sum(copies), 0)::bigint AS records
        FROM (SELECT count(*) AS copies FROM ({live}
              ) AS r WHERE {_WITH_ITEM}
              GROUP BY company_key, item_key HAVING count(*) > 1) AS d"""


_WITH_ITEM = "company_key IS NOT NULL AND item_key IS NOT NULL"
