"""What a migration leaves for its report: phases, chunks, records put aside, gates, events.

Read from the ledger and from nowhere else, so it can be told long after the tables have changed. A
migration's totals are in `summary.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from inventory_migration.engine import gates, ledger
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.summary import OUTCOMES, exact
from inventory_migration.engine.told_rows import ToldRows
from inventory_migration.engine.undo_scope import Scope


def origin(connection: sa.Connection, migration_id: int) -> dict[str, Any]:
    """Who started a migration, with which mapping, in which Dagster runs, and what it added."""
    row = connection.execute(
        sa.select(
            ledger.migration.c.mapping_hash,
            ledger.migration.c.definition,
            ledger.migration.c.target,
            ledger.migration.c.started_by,
            ledger.migration.c.run_ids,
            ledger.migration.c.column_added,
            ledger.migration.c.table_added,
        ).where(ledger.migration.c.migration_id == migration_id)
    ).one()
    return dict(row._mapping)


def phases(connection: sa.Connection, migration_id: int) -> list[dict[str, Any]]:
    """Each phase with its size, how far it came, and how long its chunks took."""
    return _rows(connection, _PHASES, migration_id)


def chunks(connection: sa.Connection, migration_id: int, *, limit: int) -> ToldRows:
    """Each chunk with its records by outcome, its failed attempts, and its totals around it.

    Totals are exact decimal strings, and None where the chunk has not been written.
    """
    # A few at a time: of thousands, the rows would take as much memory again.
    rows = connection.execute(
        _CHUNKS.execution_options(stream_results=True, yield_per=500),
        {"migration_id": migration_id, "limit": limit},
    )
    names = [*rows.keys()][: -len(_TOTALS)]

    def told(*values: Any) -> dict[str, Any]:
        of_units, of_reserved = values[-4:-2], values[-2:]
        return {
            **dict(zip(names, values, strict=False)),
            "units": dict(zip(_MOMENTS, of_units, strict=True)),
            "reserved": dict(zip(_MOMENTS, of_reserved, strict=True)),
        }

    return ToldRows([(*row[: len(names)], *map(_total, row[len(names) :])) for row in rows], told)


def _total(value: Decimal | None) -> str | None:
    # Many chunks have the same.
    return None if value is None else sys.intern(exact(value))


def count_chunks(connection: sa.Connection, migration_id: int) -> int:
    """How many chunks a migration has."""
    query = sa.select(sa.func.count()).where(ledger.chunk.c.migration_id == migration_id)
    return int(connection.execute(query).scalar_one())


def outcomes_by_rule(connection: sa.Connection, migration_id: int) -> list[dict[str, Any]]:
    """Records that were not simply migrated, by outcome, rule and reason, with a few keys."""
    return _rows(connection, _BY_RULE, migration_id)


def quarantined(
    connection: sa.Connection, migration_id: int, *, limit: int
) -> list[dict[str, Any]]:
    """The quarantined records themselves, by rule and in key order; the source rows stay behind."""
    return _rows(connection, _QUARANTINED, migration_id, limit=limit)


def conflicts(connection: sa.Connection, migration_id: int, *, limit: int) -> dict[str, Any]:
    """Records that a rollback found changed by the application: how many, and which.

    Of each both values: what we wrote, and what stands there now.
    """
    return {
        "by_kind": {
            row["kind"]: row["records"] for row in _rows(connection, _CONFLICT_KINDS, migration_id)
        },
        "records": _rows(connection, _CONFLICTS, migration_id, limit=limit),
    }


def undone(
    connection: sa.Connection, migrations: Sequence[Migration], scope: Scope
) -> dict[str, Any]:
    """What the rollback of these migrations has listed: conflicts, and locations that it kept.

    `touched_since` went back all the same, and so is no conflict.
    """
    found: dict[str, Any] = {"conflicts": [], "touched_since": [], "locations_kept": []}
    for migration in migrations:
        parameters = {"im_migration_id": migration.migration_id, **scope.parameters}
        for row in connection.execute(sa.text(_listed(migration, scope)), parameters):
            if row.kind == "touched_since":
                found["touched_since"].append(row.key)
            else:
                found["conflicts"].append(dict(row._mapping))
        kept = connection.execute(_LOCATIONS_KEPT, {"migration_id": migration.migration_id})
        found["locations_kept"] += kept.scalar() or []
    return found


def _listed(migration: Migration, scope: Scope) -> str:
    only = ""
    if not scope.whole:
        only = f"""
            AND EXISTS (SELECT FROM {migration.snapshot} AS p
                        JOIN {SCHEMA}.chunk AS k
                          ON k.migration_id = c.migration_id AND k.number = p.chunk
                        WHERE p.position = c.position AND {scope.records()})"""
    return f"""
        SELECT c.migration_id, c.key_text AS key, c.kind, c.columns AS column, c.ours AS written,
               c.found, c.reason
        FROM {SCHEMA}.conflict AS c
        WHERE c.migration_id = :im_migration_id {only}
        ORDER BY c.position"""


def events(connection: sa.Connection, migration_id: int) -> list[dict[str, Any]]:
    """The audit trail: who did what, when and why; a trial's whole result is elsewhere."""
    return _rows(connection, _EVENTS, migration_id)


def verdicts(connection: sa.Connection, mapping: str) -> list[dict[str, Any]]:
    """The newest verdict of each gate of a mapping, with all expectations and those that failed."""
    rows = {row.suite: row for row in connection.execute(_VERDICTS, {"mapping": mapping})}
    found = []
    for row in (rows[suite] for suite in gates.SUITES if suite in rows):
        expectations = (row.verdict or {}).get("expectations", [])
        found.append(
            {
                "suite": row.suite,
                "passed": row.passed,
                "judged_at": row.judged_at,
                "mapping_hash": row.mapping_hash,
                "run_id": row.run_id,
                "expectations": len(expectations),
                "results": [
                    {name: expectation.get(name) for name in _OF_EXPECTATION}
                    for expectation in expectations
                ],
                "failed": [
                    {
                        name: expectation.get(name)
                        for name in ("key", "rule", "severity", "observed", "sample", "error")
                    }
                    for expectation in expectations
                    if not expectation.get("success")
                    # What is only worth knowing has not failed, unless it could not be asked.
                    and (expectation.get("severity") != "info" or expectation.get("error"))
                ],
            }
        )
    return found


_OF_EXPECTATION = (
    *("key", "rule", "expectation", "column", "severity", "success", "observed", "expected"),
    *("unexpected_count", "sample", "why", "error"),
)


def _rows(
    connection: sa.Connection, query: sa.TextClause, migration_id: int, **parameters: int
) -> list[dict[str, Any]]:
    rows = connection.execute(query, {"migration_id": migration_id, **parameters})
    return [dict(row._mapping) for row in rows]


_MOMENTS = ("before", "after")
_TOTALS = [f"{measure}_{moment}" for measure in ("units", "reserved") for moment in _MOMENTS]

_PHASES = sa.text(f"""
    SELECT p.number, p.name, p.companies, p.records, count(k.number) AS chunks,
           count(k.number) FILTER (WHERE k.xid IS NOT NULL) AS chunks_written,
           COALESCE(sum(k.attempts), 0)::bigint AS failed_attempts,
           min(k.started_at) AS started_at, max(k.finished_at) AS finished_at,
           EXTRACT(EPOCH FROM max(k.finished_at) - min(k.started_at)) AS elapsed_seconds,
           p.reconciled_at
    FROM {SCHEMA}.phase AS p
    LEFT JOIN {SCHEMA}.chunk AS k ON k.migration_id = p.migration_id AND k.phase = p.number
    WHERE p.migration_id = :migration_id
    GROUP BY p.migration_id, p.number
    ORDER BY p.number
""")

_CHUNKS = sa.text(f"""
    SELECT k.number, p.name AS phase, k.state, k.records,
           {", ".join(f"k.{outcome}" for outcome in OUTCOMES)}, k.attempts, k.last_error,
           k.started_at, EXTRACT(EPOCH FROM k.finished_at - k.started_at) AS elapsed_seconds,
           {", ".join(f"k.{total}" for total in _TOTALS)}
    FROM {SCHEMA}.chunk AS k
    LEFT JOIN {SCHEMA}.phase AS p ON p.migration_id = k.migration_id AND p.number = k.phase
    WHERE k.migration_id = :migration_id
    ORDER BY k.number
    LIMIT :limit
""")

_BY_RULE = sa.text(f"""
    SELECT outcome, rule, reason, count(*) AS records,
           (array_agg(key_text ORDER BY position))[1:5] AS sample
    FROM {SCHEMA}.outcome
    WHERE migration_id = :migration_id
    GROUP BY outcome, rule, reason
    ORDER BY outcome, records DESC, rule, reason
""")

_QUARANTINED = sa.text(f"""
    SELECT key_text AS key, rule, reason, sqlstate, state, decision, decided_by, chunk
    FROM {SCHEMA}.outcome
    WHERE migration_id = :migration_id AND outcome = 'quarantined'
    ORDER BY rule, position
    LIMIT :limit
""")

_CONFLICT_KINDS = sa.text(f"""
    SELECT kind, count(*) AS records FROM {SCHEMA}.conflict
    WHERE migration_id = :migration_id GROUP BY kind ORDER BY kind
""")

_CONFLICTS = sa.text(f"""
    SELECT key_text AS key, kind, columns AS column, ours AS written, found, reason
    FROM {SCHEMA}.conflict
    WHERE migration_id = :migration_id ORDER BY kind, position LIMIT :limit
""")

_LOCATIONS_KEPT = sa.text(f"""
    SELECT detail->'kept' FROM {SCHEMA}.event
    WHERE migration_id = :migration_id AND kind = 'locations_removed'
    ORDER BY event_id DESC LIMIT 1
""")

_EVENTS = sa.text(f"""
    SELECT at, who, kind,
           CASE kind WHEN 'acceptance' THEN detail - 'result'
                     WHEN 'verdict' THEN detail - 'before' ELSE detail END AS detail
    FROM {SCHEMA}.event
    WHERE migration_id = :migration_id ORDER BY event_id
""")

_VERDICTS = sa.text(f"""
    SELECT DISTINCT ON (suite) suite, passed, judged_at, mapping_hash, run_id, verdict
    FROM {SCHEMA}.gate
    WHERE mapping = :mapping AND passed IS NOT NULL
    ORDER BY suite, gate_id DESC
""")
