"""Records of a quarantine that a later migration takes: which, and what becomes of the old rows.

A row that was tried again is `retried`, whatever came of it: what did not go has a row of the later
migration's own, with the reason as it is by then. Going back opens the old row again. What people
are told of it is in `quarantine.py`.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import columns, ledger, quarantine, record_view
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.quarantine import Filter


def count_selectable(connection: sa.Connection, resolved: ResolvedMapping, wanted: Filter) -> int:
    """How many records `select` would take."""
    return int(
        connection.execute(
            sa.text(f"SELECT count(*) FROM ({_selectable(connection, resolved, wanted)}) AS q"),
            _parameters(resolved, wanted),
        ).scalar_one()
    )


def select(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration, wanted: Filter
) -> int:
    """Note which records a new migration tries again; returns how many."""
    return connection.execute(
        sa.text(f"""
            INSERT INTO {SCHEMA}.retry (migration_id, earlier_id, earlier_position)
            SELECT :im_new_id, q.migration_id, q.position
            FROM ({_selectable(connection, resolved, wanted)}) AS q
        """),
        {"im_new_id": migration.migration_id, **_parameters(resolved, wanted)},
    ).rowcount


def selected(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> str | None:
    """The keys of the records that a migration was started for; None where it takes what is new."""
    keys = ", ".join(f"p.{key}" for key in columns.keys(resolved))
    selects = [
        f"""
        SELECT {keys} FROM {earlier.snapshot} AS p
        JOIN {SCHEMA}.retry AS t ON t.earlier_position = p.position
        WHERE t.migration_id = {migration.migration_id} AND t.earlier_id = {earlier.migration_id}"""
        for earlier in _comparable(connection, resolved)
        if connection.execute(_IS_TRIED, _pair(migration, earlier)).scalar_one()
    ]
    return " UNION ".join(selects) or None


def link(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> None:
    """Note which records of a snapshot are in quarantine, and close those that are gone."""
    relation = quarantine.records(connection, resolved.mapping.name)
    for earlier in _comparable(connection, resolved):
        if earlier.migration_id >= migration.migration_id:
            continue
        connection.execute(
            sa.text(f"""
                INSERT INTO {SCHEMA}.retry AS t
                    (migration_id, earlier_id, earlier_position, position)
                SELECT :im_new_id, q.migration_id, q.position, p.position
                FROM ({relation}) AS q
                JOIN {earlier.snapshot} AS e ON e.position = q.position
                JOIN {migration.snapshot} AS p ON {columns.same_key(resolved, "p", "e")}
                WHERE q.migration_id = :im_earlier_id AND q.state IN ('open', 'waived')
                ON CONFLICT (migration_id, earlier_id, earlier_position)
                DO UPDATE SET position = EXCLUDED.position
            """),
            {"im_mapping": resolved.mapping.name, **_pair(migration, earlier)},
        )
    connection.execute(_SETTLE_GONE, {"im_migration_id": migration.migration_id})


def outcomes(connection: sa.Connection, migration_id: int) -> dict[str, int]:
    """What became of the records that a migration has tried again, counted by outcome."""
    rows = connection.execute(_OUTCOMES, {"im_migration_id": migration_id})
    return dict(map(tuple, rows))


def settle_statement(migration: Migration) -> str:
    """Close the old rows of what the chunks `:im_chunks` have tried again, with what came of it."""
    return f"""
        UPDATE {SCHEMA}.outcome AS o SET state = 'retried', {_BY_US},
            decision = 'migration {migration.migration_id}: ' || COALESCE(n.outcome, 'migrated')
                       || COALESCE(', ' || n.rule, '')
        FROM {migration.snapshot} AS p
        JOIN {SCHEMA}.retry AS t
          ON t.migration_id = :im_migration_id AND t.position = p.position
        LEFT JOIN {SCHEMA}.outcome AS n
          ON n.migration_id = :im_migration_id AND n.position = p.position
        WHERE p.chunk = ANY(:im_chunks)
          AND o.migration_id = t.earlier_id AND o.position = t.earlier_position
          -- Asked once: most migrations try nothing again.
          AND (SELECT EXISTS (SELECT FROM {SCHEMA}.retry WHERE migration_id = :im_migration_id))"""


def reopen_statement(only: str) -> str:
    """Open the old rows again of what a migration has tried and is undone.

    Args:
        only: A condition over the row `t` of `retry`.
    """
    return f"""
        UPDATE {SCHEMA}.outcome AS o SET state = 'open', {_BY_US},
            decision = 'migration ' || t.migration_id || ' was rolled back'
        FROM {SCHEMA}.retry AS t
        WHERE t.migration_id = :im_migration_id AND {only}
          AND o.migration_id = t.earlier_id AND o.position = t.earlier_position
          AND o.state = 'retried'"""


def reopen(connection: sa.Connection, migration: Migration) -> None:
    """Open all old rows again of what a migration has tried: none of it stands any more."""
    connection.execute(
        sa.text(reopen_statement("true")), {"im_migration_id": migration.migration_id}
    )


def _selectable(connection: sa.Connection, resolved: ResolvedMapping, wanted: Filter) -> str:
    """What may be tried again: what is open, and what was waived where it is named itself."""
    ids = ", ".join(str(m.migration_id) for m in _comparable(connection, resolved)) or "NULL"
    states = "('open', 'waived')" if wanted.keys else "('open')"
    return f"""
        SELECT q.* FROM ({quarantine.records(connection, resolved.mapping.name)}) AS q
        WHERE {quarantine.CONDITION} AND q.state IN {states} AND q.migration_id IN ({ids})"""


def _parameters(resolved: ResolvedMapping, wanted: Filter) -> dict[str, Any]:
    return {"im_mapping": resolved.mapping.name, **wanted.parameters}


def _comparable(connection: sa.Connection, resolved: ResolvedMapping) -> list[Migration]:
    """The mapping's migrations of this very table, by the same key, oldest first."""
    same_table = set(
        connection.execute(
            sa.select(ledger.migration.c.migration_id).where(
                ledger.migration.c.mapping == resolved.mapping.name,
                ledger.migration.c.source_oid == resolved.source.oid,
            )
        ).scalars()
    )
    return [m for m in record_view.alike(connection, resolved) if m.migration_id in same_table]


def _pair(migration: Migration, earlier: Migration) -> dict[str, int]:
    return {"im_new_id": migration.migration_id, "im_earlier_id": earlier.migration_id}


_BY_US = f"decided_by = {ledger.WHO}, decided_at = clock_timestamp()"

_IS_TRIED = sa.text(f"""
    SELECT EXISTS (SELECT FROM {SCHEMA}.retry
                   WHERE migration_id = :im_new_id AND earlier_id = :im_earlier_id)
""")

_SETTLE_GONE = sa.text(f"""
    UPDATE {SCHEMA}.outcome AS o SET state = 'retried', {_BY_US},
        decision = 'migration ' || t.migration_id || ': gone'
    FROM {SCHEMA}.retry AS t
    WHERE t.migration_id = :im_migration_id AND t.position IS NULL
      AND o.migration_id = t.earlier_id AND o.position = t.earlier_position
""")

_OUTCOMES = sa.text(f"""
    SELECT CASE WHEN t.position IS NULL THEN 'gone' ELSE COALESCE(o.outcome, 'migrated') END,
           count(*)
    FROM {SCHEMA}.retry AS t
    LEFT JOIN {SCHEMA}.outcome AS o ON o.migration_id = t.migration_id AND o.position = t.position
    WHERE t.migration_id = :im_migration_id
    GROUP BY 1 ORDER BY 1
""")
