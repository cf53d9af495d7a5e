"""How a migration went over time: its chunks in stretches of time, and when somebody worked.

Read less often than its numbers, since it looks at each chunk for itself. What is foretold from it
is in `forecast.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from inventory_migration.engine.ledger import SCHEMA
from inventory_migration.engine.progress import Numbers, Pulse
from inventory_migration.engine.summary import exact
from inventory_migration.plain import Connection, ask

BUCKETS = 120
"""Into how many stretches of time the course is cut at most."""

GAPS = 200
"""How many of the longest stretches without a chunk are looked at."""


@dataclass(frozen=True)
class Course:
    """How a migration went over time.

    Attributes:
        timeline: Stretches of time in which chunks ended, at most `BUCKETS` of them.
        gaps: The longest stretches in which no chunk was under way, in their order.
        marks: Events that tell since when somebody works, and since when nobody does.
    """

    timeline: list[dict[str, Any]]
    gaps: list[tuple[datetime, datetime]]
    marks: list[tuple[datetime, str]]


def read_course(connection: Connection, pulse: Pulse, numbers: Numbers) -> Course:
    """The chunks on a time line, in buckets of a round number of seconds."""
    parameters = {"migration_id": pulse.row.migration_id}
    marks = ask(connection, _MARKS, {**parameters, "mapping": pulse.row.mapping})
    found = [(mark.at, mark.kind) for mark in marks]
    if numbers.first_at is None or numbers.last_at is None:
        return Course([], [], found)
    span = (numbers.last_at - numbers.first_at).total_seconds()
    width = bucket_seconds(span)
    timed = {**parameters, "first": numbers.first_at, "width": width}
    buckets = ask(connection, _TIMELINE, timed)
    gaps = ask(connection, _GAPS, {**parameters, "limit": GAPS, "least": 1.0})
    return Course(
        timeline=[_bucket(row, width, numbers.last_at) for row in buckets],
        gaps=[(row.since, row.until) for row in gaps],
        marks=found,
    )


def bucket_seconds(span: float) -> float:
    """The shortest round stretch of time of which `BUCKETS` cover a span."""
    for width in _WIDTHS:
        if span < width * BUCKETS:
            return float(width)
    day = _WIDTHS[-1]
    return float(day * (int(span / (day * BUCKETS)) + 1))


_WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


def _bucket(row: Any, width: float, last_at: datetime) -> dict[str, Any]:
    lasted = min(width, max((last_at - row.at).total_seconds(), 0.05))
    return {
        "at": row.at.isoformat(),
        "chunks": int(row.chunks),
        "records": int(row.records),
        "seconds": round(lasted, 3),
        "seconds_median": round(float(row.seconds_median), 4),
        "seconds_max": round(float(row.seconds_max), 4),
        "records_per_chunk": round(int(row.records) / int(row.chunks), 1),
        "workers": round(float(row.busy_seconds) / lasted, 2),
        "records_per_second": round(int(row.records) / lasted, 1),
        "difference": exact(row.difference),
    }


# Chunks that were written together share a transaction, and its time.
_TRANSACTIONS = f"""
    SELECT xid, count(*) AS chunks, sum(records - reopened) AS records,
           min(started_at) AS started_at, max(finished_at) AS finished_at,
           sum(units_after - units_before) AS difference
    FROM {SCHEMA}.chunk
    WHERE migration_id = :migration_id AND xid IS NOT NULL AND finished_at IS NOT NULL
    GROUP BY xid"""

_TIMELINE = f"""
    SELECT CAST(:first AS timestamptz)
               + make_interval(secs => :width * floor(
                   EXTRACT(EPOCH FROM t.finished_at - :first) / :width)) AS at,
           sum(chunks) AS chunks, sum(records) AS records, sum(difference) AS difference,
           percentile_disc(0.5) WITHIN GROUP (
               ORDER BY EXTRACT(EPOCH FROM t.finished_at - t.started_at)) AS seconds_median,
           max(EXTRACT(EPOCH FROM t.finished_at - t.started_at)) AS seconds_max,
           sum(EXTRACT(EPOCH FROM t.finished_at - t.started_at)) AS busy_seconds
    FROM ({_TRANSACTIONS}) AS t
    GROUP BY 1 ORDER BY 1
"""

_GAPS = f"""
    SELECT * FROM (
        SELECT since, until FROM (
            SELECT max(finished_at) OVER (
                       ORDER BY started_at
                       ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS since,
                   started_at AS until
            FROM ({_TRANSACTIONS}) AS t) AS g
        WHERE until - since > make_interval(secs => :least)
        ORDER BY until - since DESC
        LIMIT :limit) AS longest
    ORDER BY since
"""

# A run looks at the inventory first, so that its gate tells when somebody came. What is only kept
# for a gate has opened none.
_MARKS = f"""
    SELECT at, kind FROM {SCHEMA}.event
    WHERE migration_id = :migration_id
      AND (kind LIKE 'state\\_%' OR kind LIKE 'health\\_%' OR kind = 'planned')
    UNION ALL
    SELECT g.opened_at, CASE WHEN g.passed IS NULL THEN 'opened_' ELSE 'judged_' END || g.suite
    FROM {SCHEMA}.gate AS g
    JOIN {SCHEMA}.migration AS m ON m.migration_id = :migration_id
    WHERE g.mapping = :mapping AND (g.passed IS NOT NULL OR g.verdict IS NULL)
          AND g.opened_at BETWEEN m.started_at - interval '1 hour'
          AND COALESCE(m.finished_at, clock_timestamp())
    ORDER BY at
"""
