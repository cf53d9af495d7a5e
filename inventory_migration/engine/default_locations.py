"""A default location for each company: adopting those that there are, and creating the others.

All that is wrong is told at once, before anything is written. What becomes of created ones when a
migration is rolled back is in `created_locations.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import canonical, ledger, links, new_locations, places
from inventory_migration.engine.failures import Action, action_for, sqlstate
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.errors import DefaultLocationWrong, LockNotObtained

CREATORS_SECONDS = 5
"""How long the application's creators of locations may make us wait, and queue behind us."""


def refuse_wrong(connection: sa.Connection, resolved: ResolvedMapping) -> None:
    """Refuse two defaults of one company, defaults of none, and a lack that may not be filled."""
    may_create = resolved.mapping.locations.create is not None
    found = connection.execute(
        sa.text(f"""
            SELECT format('company %s (%s): %s', company_key, company_name,
                          CASE default_locations
                               WHEN 0 THEN 'none, and the mapping may not create one'
                               ELSE default_locations || ' default locations' END)
            FROM ({escaped(canonical.companies(resolved))}) AS c
            WHERE default_locations > 1 OR default_locations = 0 AND NOT :may_create
            ORDER BY company_key
        """),
        {"may_create": may_create},
    ).scalars()
    strays = connection.execute(
        sa.text(f"""
            SELECT format('default location %s: no company %s', location_key,
                          COALESCE(company_key::text, 'at all'))
            FROM ({escaped(canonical.default_locations(resolved))}) AS d
            WHERE company_found IS NOT TRUE ORDER BY location_key
        """)
    ).scalars()
    wrong = [*found, *strays]
    if wrong:
        raise DefaultLocationWrong(
            mapping=resolved.mapping.name,
            companies=wrong,
            why="not exactly one default location for each company",
        )


def give(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> int:
    """Create missing default locations, note all of them; returns how many were created."""
    may_create = resolved.mapping.locations.create is not None
    created = _create(connection, resolved, migration) if may_create else []
    connection.execute(
        sa.text(f"""
            INSERT INTO {SCHEMA}.company_location
                (migration_id, company_key, company_name, location_key, created)
            SELECT :migration_id, company_key::text, company_name, location_key::text,
                   location_key::text = ANY(:created)
            FROM ({escaped(canonical.companies(resolved))}) AS c
            WHERE default_locations = 1
            -- One that a rollback in part has removed is given anew.
            ON CONFLICT (migration_id, company_key) DO UPDATE
                SET location_key = EXCLUDED.location_key, created = EXCLUDED.created,
                    removed = false
                WHERE company_location.removed
        """),
        {"migration_id": migration.migration_id, "created": created},
    )
    refuse_wrong(connection, resolved)
    linked = links.insert_links(connection, resolved, migration)
    ledger.note(
        connection,
        "default_locations",
        migration_id=migration.migration_id,
        created=len(created),
        links=linked or None,
    )
    return len(created)


def follow(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> None:
    """Plan with the default locations of companies that had none when the snapshot was taken."""
    connection.execute(
        sa.text(f"""
            INSERT INTO {migration.planned_locations} AS w (company_key, location_key)
            SELECT c.company_key, c.location_key
            FROM ({escaped(canonical.companies(resolved))}) AS c
            WHERE c.default_locations = 1
            ON CONFLICT (company_key) DO UPDATE SET location_key = EXCLUDED.location_key
                WHERE NOT EXISTS (
                    SELECT FROM {escaped(resolved.locations_sql)} AS l
                    WHERE l.{escaped(quoted(resolved.mapping.locations.key))} = w.location_key)
        """)
    )


def _create(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> list[str]:
    """Create the missing default locations; returns their keys.

    Raises:
        DefaultLocationWrong: One is not its company's by what the mapping says of locations.
        LockNotObtained: The application was creating some all the while.
    """
    may_lock = connection.execute(
        sa.text(
            "SELECT bool_and(has_table_privilege(name, 'UPDATE, DELETE, TRUNCATE')) "
            "FROM unnest(CAST(:tables AS text[])) AS t(name)"
        ),
        {"tables": new_locations.filled_tables(resolved)},
    ).scalar_one()
    *locks, insert = new_locations.create_locations(resolved, keep_out=may_lock)
    connection.execute(sa.text(f"SET LOCAL lock_timeout = '{CREATORS_SECONDS}s'"))
    try:
        for lock in locks:
            connection.execute(sa.text(lock))
        created = connection.execute(
            sa.text(insert), {"im_migration_id": migration.migration_id}
        ).all()
    except sa.exc.DBAPIError as error:
        if action_for(sqlstate(error)) is not Action.RETRY:
            raise
        what = f"create rows in {' and '.join(new_locations.filled_tables(resolved))}"
        raise LockNotObtained(what=what, seconds=CREATORS_SECONDS) from error
    connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
    _refuse_unowned(connection, resolved, created)
    return [row.location_key for row in created]


def _refuse_unowned(
    connection: sa.Connection, resolved: ResolvedMapping, created: Sequence[sa.Row[Any]]
) -> None:
    """Refuse what was created where it is not a default location of whom it was created for."""
    company = resolved.mapping.company
    key, name = escaped(quoted(company.key)), escaped(quoted(company.name))
    unowned = connection.execute(
        sa.text(f"""
            SELECT format('company %s (%s)', c.{key}, c.{name})
            FROM {escaped(resolved.company.sql)} AS c
            JOIN unnest(CAST(:companies AS text[]), CAST(:locations AS text[]))
                AS n(company_key, location_key) ON n.company_key = c.{key}::text
            WHERE NOT EXISTS (
                SELECT FROM ({escaped(places.owned(resolved))}) AS l
                WHERE l.is_default AND l.company_key = c.{key}
                  AND l.location_key::text = n.location_key)
            ORDER BY c.{key}
        """),
        {
            "companies": [row.company_key for row in created],
            "locations": [row.location_key for row in created],
        },
    ).scalars()
    if wrong := list(unowned):
        raise DefaultLocationWrong(
            mapping=resolved.mapping.name,
            companies=wrong,
            why="what locations.create and locations.default give a location does not make it a "
            "default location of its company, as locations.company says whose it is; none is "
            "created",
            then="mend the mapping, or the trigger that changes them, take this start back with "
            f"'inventory-migration rollback {resolved.mapping.name}', and run again",
        )
