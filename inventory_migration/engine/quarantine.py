"""Records in quarantine: which there are, the story of one, and leaving one in place for good.

A record that was tried again and refused again has a row for each attempt; here it is the newest of
them that stands. Which rows a later migration takes, and what becomes of them, is in `retries.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import canonical, columns, coverage, ledger, rules
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.mapping import Rules

STATES = ("open", "retried", "waived")
HINTS = 1000
"""Among how many keys the nearest is looked for."""


@dataclass(frozen=True)
class Filter:
    """Which records of a quarantine are meant; without anything, all of them."""

    keys: tuple[str, ...] = ()
    rule: str | None = None
    state: str | None = None
    company: str | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """What `condition` is executed with."""
        return {
            "im_keys": list(self.keys) or None,
            "im_rule": self.rule,
            "im_state": self.state,
            "im_company": self.company,
        }


def list_records(
    connection: sa.Connection, mapping: str, wanted: Filter, *, limit: int
) -> dict[str, Any]:
    """How many records are in quarantine, by rule and state, and the first of them.

    Args:
        connection: A connection; only read from.
        mapping: The mapping's name.
        wanted: Which records.
        limit: How many records to list.
    """
    relation = f"SELECT * FROM ({records(connection, mapping)}) AS q WHERE {CONDITION}"
    parameters = {"im_mapping": mapping, **wanted.parameters}
    counts = connection.execute(
        sa.text(
            f"SELECT rule, state, count(*) AS records FROM ({relation}) AS w "
            "GROUP BY rule, state ORDER BY rule, state"
        ),
        parameters,
    ).all()
    rows = connection.execute(
        sa.text(f"""
            SELECT l.*, (SELECT 1 + count(*) FROM ({_RETRIES}) AS n) AS attempts
            FROM (SELECT * FROM ({relation}) AS w
                  ORDER BY rule, migration_id, position LIMIT :im_limit) AS l
            ORDER BY rule, migration_id, position
        """),
        {**parameters, "im_limit": limit},
    )
    return {
        "mapping": mapping,
        "total": sum(row.records for row in counts),
        "counts": [dict(row._mapping) for row in counts],
        "records": [
            {
                "key": row.key_text,
                "company": row.company,
                "rule": row.rule,
                "reason": row.reason,
                "state": row.state,
                "sqlstate": row.sqlstate,
                "constraint": row.constraint_name,
                "decision": row.decision,
                "migration_id": row.migration_id,
                "migration_state": row.migration_state,
                "attempts": row.attempts,
            }
            for row in rows
        ],
    }


def find_keys(connection: sa.Connection, mapping: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """The rows of these keys, by key as it was given; those that nobody knows are left out."""
    parts = key_parts(connection, mapping)
    spelled = {columns.spelling(key, parts): key for key in keys} | {key: key for key in keys}
    rows = connection.execute(
        sa.text(
            f"SELECT * FROM ({records(connection, mapping)}) AS q WHERE key_text = ANY(:im_keys)"
        ),
        {"im_mapping": mapping, "im_keys": list(spelled)},
    )
    return {spelled[row.key_text]: row for row in rows}


def show_record(
    connection: sa.Connection, resolved: ResolvedMapping, row: sa.Row[Any]
) -> dict[str, Any]:
    """Everything about a record in quarantine: why, as it was kept, as it is now, what was done.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        row: The record, as `find_keys` has it.
    """
    migration = ledger.find(connection, migration_id=row.migration_id)
    now = _now(connection, resolved, migration, row.position) if migration else None
    place = {"im_place_id": row.migration_id, "im_place": row.position}
    retries = connection.execute(_RETRIES_OF_PLACE, place).all()
    events = connection.execute(_EVENTS, {**place, "im_key": row.key_text}).all()
    return {
        "mapping": resolved.mapping.name,
        "key": row.key_text,
        "company": row.company,
        "state": row.state,
        "rule": row.rule,
        "reason": row.reason,
        "sqlstate": row.sqlstate,
        "constraint": row.constraint_name,
        "migration_id": row.migration_id,
        "migration_state": row.migration_state,
        "chunk": row.chunk,
        "quarantined_at": row.at.isoformat(),
        "decision": row.decision,
        "decided_by": row.decided_by,
        "decided_at": row.decided_at.isoformat() if row.decided_at else None,
        "record": row.record,
        "now": now["record"] if now else None,
        "prediction": {"outcome": now["outcome"], "rule": now["rule"]} if now else None,
        "retries": [{**retry._mapping, "at": retry.at.isoformat()} for retry in retries],
        "events": [{**event._mapping, "at": event.at.isoformat()} for event in events],
    }


def waive(connection: sa.Connection, rows: Sequence[sa.Row[Any]], *, reason: str) -> bool:
    """Accept that open records stay where they are; False where one is no longer open.

    Args:
        connection: The transaction, which must not commit where this returns False.
        rows: The records, as `find_keys` has them.
        reason: Why, for the trail.
    """
    places: dict[int, list[sa.Row[Any]]] = {}
    for row in rows:
        places.setdefault(row.migration_id, []).append(row)
    for migration_id, found in places.items():
        waived = connection.execute(
            sa.update(ledger.outcome)
            .where(
                ledger.outcome.c.migration_id == migration_id,
                ledger.outcome.c.position.in_([row.position for row in found]),
                ledger.outcome.c.state == "open",
            )
            .values(
                state="waived",
                decision=reason,
                decided_by=ledger.who(connection),
                decided_at=ledger.NOW,
            )
        ).rowcount
        if waived != len(found):
            return False
        ledger.note(
            connection,
            "waived",
            migration_id=migration_id,
            reason=reason,
            records=waived,
            keys=[row.key_text for row in found],
        )
    return True


def _now(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration, position: int
) -> sa.RowMapping | None:
    """The record as it stands, and what the rules would say of it; None where it is gone."""
    if not ledger.snapshot_exists(connection, migration):
        return None
    found = connection.execute(
        sa.text(f"""
            SELECT to_jsonb(s) AS record, r.outcome, r.rule
            FROM {migration.snapshot} AS p
            JOIN {escaped(resolved.source.sql)} AS s
              ON {escaped(columns.key_of_source(resolved, "p"))}
            LEFT JOIN ({escaped(canonical.records(resolved))}) AS r
              ON {columns.same_key(resolved, "r", "p")}
            WHERE p.position = :im_place
        """),
        {"im_place": position},
    ).one_or_none()
    return found._mapping if found else None


def records(connection: sa.Connection, mapping: str) -> str:
    """The records in quarantine of `:im_mapping`, each once: as the last standing attempt has it.

    What a migration that was rolled back has tried anew counts as it was before.
    """
    selects = []
    for migration_id in connection.execute(_WITH_QUARANTINE, {"im_mapping": mapping}).scalars():
        migration = ledger.find(connection, migration_id=migration_id)
        if migration is None:
            continue
        company, snapshot = "NULL::text", ""
        if ledger.snapshot_exists(connection, migration):
            company = "p.company_key::text"
            snapshot = f"LEFT JOIN {migration.snapshot} AS p ON p.position = o.position"
        selects.append(f"""
            SELECT o.*, {company} AS company FROM {SCHEMA}.outcome AS o {snapshot}
            WHERE o.migration_id = {migration_id} AND o.outcome = 'quarantined'""")
    if not selects:
        selects.append(f"SELECT o.*, NULL::text AS company FROM {SCHEMA}.outcome AS o WHERE false")
    return f"""
        SELECT o.*, m.state AS migration_state
        FROM ({" UNION ALL ".join(selects)}) AS o
        JOIN {SCHEMA}.migration AS m ON m.migration_id = o.migration_id
        WHERE m.mapping = :im_mapping AND {_STANDS}"""


def key_parts(connection: sa.Connection, mapping: str) -> int:
    """How many columns the key of a mapping's records has."""
    return int(connection.execute(_KEY_PARTS, {"im_mapping": mapping}).scalar() or 1)


def known_keys(connection: sa.Connection, mapping: str, like: str) -> list[str]:
    """Keys of records in quarantine, of about the length of one that is none of them."""
    return list(
        connection.execute(
            sa.text(
                f"SELECT key_text FROM ({records(connection, mapping)}) AS q "
                "ORDER BY abs(length(key_text) - length(:im_like)), key_text LIMIT :im_limit"
            ),
            {"im_mapping": mapping, "im_like": like, "im_limit": HINTS},
        ).scalars()
    )


def known_rules(connection: sa.Connection, mapping: str) -> set[str]:
    """The rules that put records into quarantine: those there are, and those of the ledger."""
    found = connection.execute(_RULES, {"im_mapping": mapping}).scalars()
    return {*Rules.model_fields, rules.LATE_RULE, *coverage.REFUSED_RULES, *found}


def known_companies(connection: sa.Connection, mapping: str) -> list[str]:
    """The keys of companies that a mapping's migrations have met."""
    rows = connection.execute(
        sa.text(f"""
            SELECT company FROM ({records(connection, mapping)}) AS q WHERE company IS NOT NULL
            UNION
            SELECT w.company_key FROM {SCHEMA}.company_location AS w
            JOIN {SCHEMA}.migration AS m USING (migration_id) WHERE m.mapping = :im_mapping
        """),
        {"im_mapping": mapping},
    )
    return list(rows.scalars())


CONDITION = """
    (CAST(:im_keys AS text[]) IS NULL OR q.key_text = ANY(:im_keys))
    AND (CAST(:im_rule AS text) IS NULL OR q.rule = :im_rule)
    AND (CAST(:im_state AS text) IS NULL OR q.state = :im_state)
    AND (CAST(:im_company AS text) IS NULL OR q.company = :im_company)"""

_WITH_QUARANTINE = sa.text(f"""
    SELECT m.migration_id FROM {SCHEMA}.migration AS m
    WHERE m.mapping = :im_mapping
      AND EXISTS (SELECT FROM {SCHEMA}.outcome AS o
                  WHERE o.migration_id = m.migration_id AND o.outcome = 'quarantined')
    ORDER BY m.migration_id
""")

_STANDS = f"""
    NOT EXISTS (
        SELECT FROM {SCHEMA}.retry AS t
        JOIN {SCHEMA}.migration AS later
          ON later.migration_id = t.migration_id AND later.state <> 'rolled_back'
        JOIN {SCHEMA}.outcome AS again
          ON again.migration_id = t.migration_id AND again.position = t.position
         AND again.outcome = 'quarantined'
        WHERE t.earlier_id = o.migration_id AND t.earlier_position = o.position)
    AND NOT (m.state = 'rolled_back' AND EXISTS (
        SELECT FROM {SCHEMA}.retry AS t
        WHERE t.migration_id = o.migration_id AND t.position = o.position))"""

_CHAIN = f"""
    WITH RECURSIVE chain AS (
        SELECT CAST({{migration_id}} AS bigint) AS migration_id,
               CAST({{position}} AS bigint) AS position
        UNION
        SELECT t.earlier_id, t.earlier_position
        FROM chain AS c
        JOIN {SCHEMA}.retry AS t ON t.migration_id = c.migration_id AND t.position = c.position)"""

_RETRIES = f"""
    {_CHAIN.format(migration_id="l.migration_id", position="l.position")}
    SELECT 1 FROM {SCHEMA}.retry AS t
    JOIN chain AS c ON t.earlier_id = c.migration_id AND t.earlier_position = c.position"""

_OF_PLACE = _CHAIN.format(migration_id=":im_place_id", position=":im_place")

_RETRIES_OF_PLACE = sa.text(f"""
    {_OF_PLACE}
    SELECT t.migration_id, m.state AS migration_state, m.started_at AS at, m.started_by AS who,
           CASE WHEN o.position IS NOT NULL THEN o.outcome
                WHEN m.state = 'rolled_back' THEN 'undone'
                WHEN before.state <> 'retried' THEN 'pending'
                WHEN t.position IS NULL THEN 'gone'
                ELSE 'migrated' END AS outcome, o.rule, o.reason, o.sqlstate
    FROM chain AS c
    JOIN {SCHEMA}.retry AS t ON t.earlier_id = c.migration_id AND t.earlier_position = c.position
    JOIN {SCHEMA}.migration AS m ON m.migration_id = t.migration_id
    JOIN {SCHEMA}.outcome AS before
      ON before.migration_id = c.migration_id AND before.position = c.position
    LEFT JOIN {SCHEMA}.outcome AS o ON o.migration_id = t.migration_id AND o.position = t.position
    ORDER BY t.migration_id
""")

_EVENTS = sa.text(f"""
    {_OF_PLACE}
    SELECT e.at, e.who, e.kind, e.migration_id, e.detail->>'reason' AS reason
    FROM {SCHEMA}.event AS e
    WHERE e.kind = 'waived' AND e.migration_id IN (SELECT migration_id FROM chain)
          AND jsonb_exists(e.detail->'keys', :im_key)
       OR e.kind IN ('retrying', 'state_verified', 'state_aborted', 'state_rolled_back')
          AND e.migration_id IN (
              SELECT t.migration_id FROM {SCHEMA}.retry AS t
              JOIN chain AS c
                ON t.earlier_id = c.migration_id AND t.earlier_position = c.position)
    ORDER BY e.event_id
""")

_KEY_PARTS = sa.text(f"""
    SELECT jsonb_array_length(definition->'source'->'key') FROM {SCHEMA}.migration
    WHERE mapping = :im_mapping ORDER BY migration_id DESC LIMIT 1
""")

_RULES = sa.text(f"""
    SELECT DISTINCT o.rule FROM {SCHEMA}.outcome AS o
    JOIN {SCHEMA}.migration AS m USING (migration_id)
    WHERE m.mapping = :im_mapping AND o.outcome = 'quarantined' AND o.rule IS NOT NULL
""")
