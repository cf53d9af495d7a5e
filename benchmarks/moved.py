"""Whether a contender has done what it was timed for: looked at afterwards, by nobody's own word.

All stock is where it belongs, with the units that it had, and the application's tables look alike
whoever moved it: who leaves out an index or a key would win by that. None of it is timed.
"""

from __future__ import annotations

import psycopg

Totals = tuple[int, int, int]
"""Records, units and reserved units."""


def moved(connection: psycopg.Connection, shape: str) -> Totals:
    """What stands at a location of its own company.

    Args:
        connection: The database.
        shape: The shape that it was moved to.
    """
    return _totals(connection, _MOVED[shape])


def all_moved(connection: psycopg.Connection, shape: str) -> tuple[str, ...]:
    """Make sure that all stock is where it belongs, and return how the tables look.

    Args:
        connection: The database.
        shape: The shape that it was moved to.
    """
    there, arrived = _totals(connection, _THERE), moved(connection, shape)
    if not there[0] or there != arrived:
        raise AssertionError(f"records, units and reserved: {there} there, {arrived} moved")
    return structure(connection)


def nothing_moved(connection: psycopg.Connection, shape: str) -> None:
    """Make sure that a way back left nothing behind.

    Args:
        connection: The database.
        shape: The shape that it was moved to.
    """
    left = moved(connection, shape)
    if left != (0, 0, 0):
        raise AssertionError(f"records, units and reserved: {left} left after the rollback")


def structure(connection: psycopg.Connection) -> tuple[str, ...]:
    """The application's columns, constraints, indexes and triggers, a line each.

    Args:
        connection: The database.
    """
    rows = connection.execute(_STRUCTURE).fetchall()
    connection.rollback()
    return tuple(row[0] for row in rows)


def _totals(connection: psycopg.Connection, query: str) -> Totals:
    row = connection.execute(query).fetchone()
    connection.rollback()
    if row is None:
        raise AssertionError("an aggregate has one row")
    return (int(row[0]), int(row[1]), int(row[2]))


_SUMS = "SELECT count(*), coalesce(sum({0}), 0), coalesce(sum({1}), 0) "

_THERE = _SUMS.format("quantity", "reserved") + "FROM stock_items"

_MOVED = {
    "location_column": _SUMS.format("s.quantity", "s.reserved")
    + "FROM stock_items AS s JOIN locations AS l ON l.id = s.location_id "
    "AND l.company_id = s.company_id AND l.is_default",
    "stock_level": _SUMS.format("v.on_hand", "v.reserved")
    + "FROM stock_levels AS v JOIN stock_items AS s ON s.id = v.item_id "
    "JOIN locations AS l ON l.id = v.location_id AND l.company_id = s.company_id AND l.is_default",
    "allocation_json": _SUMS.format(
        "(e.value ->> 'allocated')::bigint", "(e.value ->> 'reserved')::bigint"
    )
    + "FROM stock_items AS s CROSS JOIN jsonb_each(s.allocations) AS e "
    "JOIN locations AS l ON l.id::text = e.key AND l.company_id = s.company_id AND l.is_default",
}

_STRUCTURE = """
    WITH tables AS (
        SELECT oid, relname FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
          AND relname IN ('companies', 'locations', 'stock_items', 'stock_levels')
    )
    SELECT format('%s.%s %s%s', relname, attname, format_type(atttypid, atttypmod),
                  CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END) AS line
    FROM tables JOIN pg_attribute ON attrelid = tables.oid AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT format('%s %s', relname, pg_get_constraintdef(c.oid))
    FROM tables JOIN pg_constraint AS c ON c.conrelid = tables.oid AND c.contype <> 'n'
    UNION ALL
    SELECT pg_get_indexdef(indexrelid) FROM tables JOIN pg_index ON indrelid = tables.oid
    UNION ALL
    SELECT pg_get_triggerdef(t.oid)
    FROM tables JOIN pg_trigger AS t ON tgrelid = tables.oid AND NOT tgisinternal
    ORDER BY 1
"""
