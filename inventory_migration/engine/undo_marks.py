"""Which chunks a rollback is to undo, kept in the ledger, so that a killed one knows where it was.

A chunk holds records of several companies. What is of a scope and shares its chunk with others, or
with records that were put aside, gets a chunk of its own first: chunks are undone whole, and one
that a resumed migration takes up again holds nothing but records to be migrated.
"""

from __future__ import annotations

import sqlalchemy as sa

from inventory_migration.engine import ledger
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.undo_scope import Scope

BEGUN = "rollback_begun"
"""The event that says what is undone; its `before` is the state that the rollback began in."""


def begin(connection: sa.Connection, migration: Migration, scope: Scope, *, reason: str) -> None:
    """Set a migration to be rolled back, and mark what is; the caller holds its row.

    A scope is only ever added to one that has not come to its end.
    """
    found = ledger.find(connection, migration_id=migration.migration_id)
    began = found is not None and found.state != "rolling_back"
    ledger.note(
        connection,
        BEGUN,
        migration_id=migration.migration_id,
        before=found.state if found and began else None,
        phases=list(scope.phases) or None,
        companies=list(scope.companies) or None,
    )
    if began:
        ledger.set_state(connection, migration.migration_id, "rolling_back", reason=reason)
    connection.execute(_SERVER, {"migration_id": migration.migration_id})
    if scope.whole:
        connection.execute(_MARK_ALL, {"migration_id": migration.migration_id})
    elif ledger.snapshot_exists(connection, migration):
        parameters = {"im_migration_id": migration.migration_id, **scope.parameters}
        connection.execute(sa.text(_split(migration, scope)), parameters)
        connection.execute(sa.text(_mark(migration, scope)), parameters)


def under_way(connection: sa.Connection, migration: Migration) -> tuple[str, list[Scope]]:
    """The state in which the rollback under way began, and what it is to undo."""
    rows = connection.execute(_BEGUN, {"migration_id": migration.migration_id}).all()
    scopes = [
        Scope(tuple(row.detail.get("phases", ())), tuple(row.detail.get("companies", ())))
        for row in rows
    ]
    before = rows[0].detail["before"] if rows else "failed"
    return before, list(dict.fromkeys(scopes))


def anything_meant(connection: sa.Connection, migration: Migration, scope: Scope) -> bool:
    """Whether a migration has something of a scope that is not undone: records, or a location."""
    asked = [f"SELECT FROM ({_meant(migration, scope)}) AS m"]
    if not ledger.snapshot_exists(connection, migration):
        asked = []
    if scope.companies and not scope.phases:
        asked.append(
            f"SELECT FROM {SCHEMA}.company_location WHERE migration_id = :im_migration_id "
            "AND created AND NOT removed AND company_key = ANY(:im_companies)"
        )
    conditions = " OR ".join(f"EXISTS ({query})" for query in asked) or "false"
    return bool(
        connection.execute(
            sa.text(f"SELECT {conditions}"),
            {"im_migration_id": migration.migration_id, **scope.parameters} if asked else {},
        ).scalar_one()
    )


def reopen(connection: sa.Connection, migration: Migration) -> int:
    """Let a resumed migration take up what was undone of it; returns how many chunks.

    What the rollback listed of these records is forgotten: they are looked at anew.
    """
    parameters = {"migration_id": migration.migration_id}
    numbers = list(connection.execute(_REOPEN, parameters).scalars())
    if not numbers:
        return 0
    for table in ("after_image", "level_image", "conflict"):
        connection.execute(
            sa.text(
                f"DELETE FROM {SCHEMA}.{table} AS t USING {migration.snapshot} AS p "
                "WHERE t.migration_id = :migration_id AND t.position = p.position "
                "AND p.chunk = ANY(:numbers)"
            ),
            {**parameters, "numbers": numbers},
        )
    connection.execute(_UNRECONCILED, {**parameters, "numbers": numbers})
    ledger.note(connection, "reopened", migration_id=migration.migration_id, chunks=len(numbers))
    return len(numbers)


def _meant(migration: Migration, scope: Scope) -> str:
    """The migrated records of a scope, with the numbers that they were written with."""
    return f"""
        SELECT p.position, p.chunk,
               CASE WHEN i.position IS NOT NULL THEN i.quantity ELSE p.quantity END AS quantity,
               CASE WHEN i.position IS NOT NULL THEN i.reserved ELSE p.reserved END AS reserved
        FROM {migration.snapshot} AS p
        JOIN {SCHEMA}.chunk AS k ON k.migration_id = :im_migration_id AND k.number = p.chunk
        LEFT JOIN {SCHEMA}.outcome AS o
          ON o.migration_id = :im_migration_id AND o.position = p.position
        LEFT JOIN {SCHEMA}.after_image AS i
          ON i.migration_id = :im_migration_id AND i.position = p.position
        WHERE k.state = 'done' AND o.position IS NULL AND {scope.records()}"""


def _split(migration: Migration, scope: Scope) -> str:
    """Give what is meant of a chunk that holds other records too a chunk of its own.

    It carries the same transaction's id, and the totals of both add up to what they were.
    """
    return f"""
        WITH meant AS MATERIALIZED ({_meant(migration, scope)}),
        taken AS MATERIALIZED (
            SELECT k.number,
                   (SELECT max(number) FROM {SCHEMA}.chunk WHERE migration_id = :im_migration_id)
                   + row_number() OVER (ORDER BY k.number) AS new_number,
                   count(*) AS records, COALESCE(sum(m.quantity), 0) AS units,
                   COALESCE(sum(m.reserved), 0) AS reserved,
                   count(*) FILTER (WHERE m.quantity IS NULL) AS not_numbers
            FROM meant AS m
            JOIN {SCHEMA}.chunk AS k ON k.migration_id = :im_migration_id AND k.number = m.chunk
            GROUP BY k.number, k.records, k.reopened
            HAVING count(*) < k.records - k.reopened),
        added AS (
            INSERT INTO {SCHEMA}.chunk
                (migration_id, number, phase, state, records, migrated, located, units_before,
                 units_after, reserved_before, reserved_after, not_numbers_before,
                 not_numbers_after, xid, started_at, finished_at)
            SELECT k.migration_id, t.new_number, k.phase, k.state, t.records, t.records, t.records,
                   t.units, t.units, t.reserved, t.reserved, t.not_numbers, t.not_numbers, k.xid,
                   k.started_at, k.finished_at
            FROM taken AS t
            JOIN {SCHEMA}.chunk AS k ON k.migration_id = :im_migration_id AND k.number = t.number),
        lessened AS (
            UPDATE {SCHEMA}.chunk AS k SET
                reopened = k.reopened + t.records, migrated = k.migrated - t.records,
                located = k.located - t.records, units_before = k.units_before - t.units,
                units_after = k.units_after - t.units,
                reserved_before = k.reserved_before - t.reserved,
                reserved_after = k.reserved_after - t.reserved,
                not_numbers_before = k.not_numbers_before - t.not_numbers,
                not_numbers_after = k.not_numbers_after - t.not_numbers
            FROM taken AS t
            WHERE k.migration_id = :im_migration_id AND k.number = t.number)
        UPDATE {migration.snapshot} AS p SET chunk = t.new_number
        FROM meant AS m JOIN taken AS t ON t.number = m.chunk
        WHERE p.position = m.position"""


def _mark(migration: Migration, scope: Scope) -> str:
    return f"""
        UPDATE {SCHEMA}.chunk AS c SET undoing = true
        FROM (SELECT m.chunk, count(*) AS records FROM ({_meant(migration, scope)}) AS m
              GROUP BY m.chunk) AS n
        WHERE c.migration_id = :im_migration_id AND c.number = n.chunk
          AND n.records = c.records - c.reopened"""


# So that a walk that has lost its connection can tell whether it is the same server.
_SERVER = sa.text(f"""
    UPDATE {SCHEMA}.migration SET server_started_at = pg_postmaster_start_time()
    WHERE migration_id = :migration_id
""")

_MARK_ALL = sa.text(f"""
    UPDATE {SCHEMA}.chunk
    SET state = CASE state WHEN 'pending' THEN 'undone' ELSE state END, undoing = state = 'done'
    WHERE migration_id = :migration_id AND state IN ('pending', 'done')
""")

_BEGUN = sa.text(f"""
    SELECT e.detail FROM {SCHEMA}.event AS e
    WHERE e.migration_id = :migration_id AND e.kind = '{BEGUN}'
      AND e.event_id >= (SELECT max(b.event_id) FROM {SCHEMA}.event AS b
                         WHERE b.migration_id = :migration_id AND b.kind = '{BEGUN}'
                           AND b.detail ? 'before')
    ORDER BY e.event_id
""")

_REOPEN = sa.text(f"""
    UPDATE {SCHEMA}.chunk SET
        state = 'pending', undoing = false, xid = NULL, undo_xid = NULL, undone_records = 0,
        kept_records = 0, migrated = 0, located = 0, units_before = NULL, units_after = NULL,
        reserved_before = NULL, reserved_after = NULL, not_numbers_before = 0,
        not_numbers_after = 0, attempts = 0, last_error = NULL, started_at = NULL,
        finished_at = NULL
    WHERE migration_id = :migration_id AND state = 'undone'
    RETURNING number
""")

_UNRECONCILED = sa.text(f"""
    UPDATE {SCHEMA}.phase AS f SET reconciled_at = NULL
    FROM {SCHEMA}.chunk AS k
    WHERE f.migration_id = :migration_id AND k.migration_id = :migration_id
      AND k.phase = f.number AND k.number = ANY(:numbers)
""")
