"""What can be promised of each item of each company, before and after, and what explains the rest.

Which records are compared is said in `compared.py`.
"""

from __future__ import annotations

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import canonical, columns, ledger
from inventory_migration.engine.compared import compared_records
from inventory_migration.engine.ledger import Migration


def balance(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration | None
) -> str:
    """The relation `balance`: available per company and item, before, after and explained."""
    if migration is None or not ledger.snapshot_exists(connection, migration):
        return no_balance()
    return balance_of(resolved, compared_records(resolved, migration, None))


def balance_of(resolved: ResolvedMapping, compared: str) -> str:
    """The same of some records only, as `compared_records` has them."""
    before = canonical.available(resolved, "quantity_before", "reserved_before")
    after = canonical.available(resolved, "quantity_after", "reserved_after")
    return f"""
        WITH compared AS ({compared}),
        entries AS (
            SELECT company_before AS company_key, item_before AS item_key,
                   COALESCE({before}, 0) AS available_before, 0::numeric AS available_after,
                   CASE WHEN changed THEN -COALESCE({before}, 0) ELSE 0 END AS explained
            FROM compared
            UNION ALL
            SELECT company_key, item_key, 0, COALESCE({after}, 0),
                   CASE WHEN changed THEN COALESCE({after}, 0) ELSE 0 END
            FROM compared WHERE live)
        SELECT company_key::text AS company_key, item_key,
               sum(available_before) AS available_before,
               sum(available_after) AS available_after, sum(explained) AS explained
        FROM entries
        GROUP BY company_key, item_key"""


def no_balance() -> str:
    """The relation `balance` where nothing moved: no rows."""
    return (
        "SELECT NULL::text AS company_key, NULL::text AS item_key, 0::numeric AS "
        "available_before, 0::numeric AS available_after, 0::numeric AS explained WHERE false"
    )


def count_balances(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration | None
) -> int:
    """How many rows `balance` must have, counted from the snapshot and the live table."""
    if migration is None or not ledger.snapshot_exists(connection, migration):
        return 0
    return int(
        connection.execute(
            sa.text(
                f"SELECT count(*) FROM (SELECT company_key, item_key FROM {migration.snapshot} "
                "UNION SELECT l.company_key, l.item_key "
                f"FROM ({escaped(canonical.source_rows(resolved))}) AS l "
                f"JOIN {migration.snapshot} AS p ON {columns.same_key(resolved, 'l', 'p')}) AS b"
            )
        ).scalar_one()
    )
