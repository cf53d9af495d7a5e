"""Where a migration stands: in which state, who works, and its chunks added up by phase.

Both are read again and again while somebody looks, and cost no more than they must. Its chunks over
time are in `course.py`, what was put aside and noted in `particulars.py`, what follows from it all
in `picture.py`. What a migration did, for `--json`, is in `summary.py`, and says the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from inventory_migration import logs
from inventory_migration.engine import archived, busy, control
from inventory_migration.engine.ledger import SCHEMA
from inventory_migration.engine.summary import OUTCOMES, exact
from inventory_migration.plain import Connection, ask

MEASURES = ("units", "reserved")


@dataclass(frozen=True)
class Pulse:
    """What changes from one moment to the next, in a statement that costs next to nothing.

    Attributes:
        row: The migration's row, with what is desired of it and what health was found last.
        at: When this was read, by the server's clock.
        driver: Whether somebody holds the claim on its target and has something to drive.
        workers: The server's processes in the middle of a transaction of it.
        last_event: The id of the newest event.
        last_sign_at: When the newest event or look at the server's health was.
    """

    row: Any
    at: datetime
    driver: bool
    workers: tuple[int, ...]
    last_event: int
    last_sign_at: datetime | None

    @property
    def working(self) -> bool:
        """Whether anybody is at work on it."""
        return self.driver or bool(self.workers)

    @property
    def purged(self) -> bool:
        """Whether its records are in an archive and nowhere else."""
        return bool(self.row.purged)


def read_pulse(connection: Connection, migration_id: int) -> Pulse | None:
    """The state, what is desired, and who works; None where there is no such migration."""
    rows = ask(connection, _PULSE, {"migration_id": migration_id})
    if not rows:
        return None
    [row] = rows
    signs = [sign for sign in (row.event_at, row.health_at) if sign is not None]
    return Pulse(
        row=row,
        at=row.read_at,
        driver=bool(row.claimed) and row.state in DRIVEN,
        workers=tuple(row.workers or ()),
        last_event=row.last_event or 0,
        last_sign_at=max(signs, default=None),
    )


DRIVEN = (*control.UNDER_WAY, "rolling_back")
"""States in which whoever holds the claim works."""


@dataclass(frozen=True)
class Numbers:
    """The chunks of a migration added up.

    Attributes:
        at: When this was read, by the server's clock.
        records: Records by outcome; `snapshot`, `pending` and `undone` beside them.
        measures: Of units and of reserved what the snapshot had, what is accounted for, and by how
            much the chunks' totals differ around what they wrote.
        phases: What there is of each phase.
        attempts: Failed attempts, how many chunks had any, and on what they failed last.
        to_undo: Records that a rollback has yet to take back.
        taken_back: Records of the chunks that it has taken back.
        recent: Records of the chunks that ended within the last `RECENT_SECONDS`.
        first_at: When the first chunk began.
        last_at: When the last one ended.
    """

    at: datetime
    records: dict[str, int]
    measures: dict[str, dict[str, str]]
    phases: list[dict[str, Any]]
    attempts: dict[str, Any]
    to_undo: int
    taken_back: int
    recent: int
    first_at: datetime | None
    last_at: datetime | None

    @property
    def done(self) -> int:
        """Records that have an outcome."""
        return sum(self.records[outcome] for outcome in OUTCOMES)


RECENT_SECONDS = 15.0
"""What counts as now, where a rate is told."""


def read_numbers(connection: Connection, pulse: Pulse) -> Numbers:
    """The chunk table added up by phase."""
    migration_id = pulse.row.migration_id
    kept = archived.purged(connection, migration_id) if pulse.purged else None
    if kept is not None:
        return _of_purged(pulse.at, kept.summary)
    parameters = {"migration_id": migration_id, "recent": RECENT_SECONDS}
    rows = ask(connection, _NUMBERS, parameters)
    put_aside = {row.number: {name: _count(row, name) for name in OUTCOMES[1:]} for row in rows}
    if any(row.reopened for row in rows):
        # What a sweep takes up again has an outcome in a chunk that counted it once before.
        put_aside = {number: dict.fromkeys(OUTCOMES[1:], 0) for number in put_aside}
        for phase, outcome, count in ask(connection, _PUT_ASIDE, parameters):
            put_aside[phase][outcome] = int(count)
    failed = logs.hide_within(attempts(connection, migration_id))
    aside = {name: sum(found[name] for found in put_aside.values()) for name in OUTCOMES[1:]}
    written = _total(rows, "records_done")
    return Numbers(
        at=pulse.at,
        records={
            "snapshot": pulse.row.snapshot_records,
            "migrated": written - sum(aside.values()),
            **aside,
            "pending": _total(rows, "pending"),
            "undone": _total(rows, "undone"),
        },
        measures={name: _measure(pulse.row, rows, name) for name in MEASURES},
        phases=[_phase(row, put_aside[row.number]) for row in rows],
        attempts=failed,
        to_undo=_total(rows, "to_undo"),
        taken_back=_total(rows, "taken_back"),
        recent=_total(rows, "recent"),
        first_at=min((row.started_at for row in rows if row.started_at), default=None),
        last_at=max((row.finished_at for row in rows if row.finished_at), default=None),
    )


def attempts(connection: Connection, migration_id: int) -> dict[str, Any]:
    """Failed attempts of all chunks, and by what a chunk failed on last."""
    by_error = [row._asdict() for row in ask(connection, _ATTEMPTS, {"migration_id": migration_id})]
    return {
        "failed": sum(row["attempts"] for row in by_error),
        "chunks": sum(row["chunks"] for row in by_error),
        "by_error": by_error,
    }


def _total(rows: Any, name: str) -> int:
    return sum(_count(row, name) for row in rows)


def _count(row: Any, name: str) -> int:
    """A number of a phase, which may have no chunk at all."""
    return int(getattr(row, name) or 0)


def _measure(migration: Any, rows: Any, name: str) -> dict[str, str]:
    after, changed = getattr(migration, f"{name}_after"), getattr(migration, f"{name}_changed")
    if after is not None and changed is not None:
        # The proof has looked at each record once; what a sweep took up again is in two chunks.
        accounted = after - changed
    else:
        accounted = sum((getattr(row, f"{name}_accounted") or 0 for row in rows), Decimal(0))
    difference = sum((getattr(row, f"{name}_difference") or 0 for row in rows), Decimal(0))
    return {
        "snapshot": exact(getattr(migration, f"snapshot_{name}")),
        "accounted": exact(accounted),
        "difference": exact(difference),
    }


def _phase(row: Any, put_aside: dict[str, int]) -> dict[str, Any]:
    return {
        "number": row.number,
        "name": row.name,
        "companies": int(row.companies),
        # Without those that a sweep has taken into its own.
        "records": _count(row, "records_done") + _count(row, "pending") or int(row.records),
        "records_done": _count(row, "records_done"),
        "records_undone": _count(row, "taken_back"),
        "quarantined": put_aside["quarantined"],
        "failed_attempts": _count(row, "attempts"),
        "chunks": _count(row, "chunks"),
        "chunks_done": _count(row, "chunks_done"),
        "started_at": iso(row.started_at),
        "finished_at": iso(row.finished_at),
        "reconciled_at": iso(row.reconciled_at),
    }


def _of_purged(at: datetime, kept: dict[str, Any]) -> Numbers:
    """What a purge has left of a migration's numbers."""
    records = {name: kept["records"][name] for name in ("snapshot", *OUTCOMES, "pending")}
    return Numbers(
        at=at,
        records={**records, "undone": kept["undone"]["records"]},
        measures={
            name: {
                "snapshot": kept[name]["before"],
                "accounted": kept[name]["before"],
                "difference": "0",
            }
            for name in MEASURES
        },
        phases=[],
        attempts={"failed": 0, "chunks": 0, "by_error": []},
        to_undo=0,
        taken_back=kept["undone"]["records"],
        recent=0,
        first_at=None,
        last_at=None,
    )


def health_of(pulse: Pulse) -> dict[str, Any] | None:
    """The last look at the server's health; None where there was none."""
    if pulse.row.verdict is None:
        return None
    return {
        "verdict": pulse.row.verdict,
        "reasons": pulse.row.reasons,
        "observed": pulse.row.observed,
        "since": iso(pulse.row.health_since),
        "at": iso(pulse.row.health_at),
    }


def iso(moment: datetime | None) -> str | None:
    """A moment as scripts read it."""
    return moment.isoformat() if moment is not None else None


# One look at the locks for both: it holds every lock table of the server for a moment.
_PULSE = f"""
    WITH held AS MATERIALIZED (
        SELECT locktype, pid, classid::bigint AS classid, objid::bigint AS objid, objsubid
        FROM pg_locks
        WHERE locktype = 'advisory' AND granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
    SELECT m.*, c.desired, c.reason AS desired_reason, c.set_by, c.set_at,
           h.verdict, h.reasons, h.observed, h.since AS health_since, h.at AS health_at,
           EXISTS (SELECT FROM {SCHEMA}.archive AS a
                   WHERE a.migration_id = m.migration_id AND a.purged_at IS NOT NULL) AS purged,
           EXISTS (SELECT FROM held AS l
                   WHERE l.objsubid = 1
                     AND l.classid = (hashtextextended(m.target, 20261123) >> 32) & 4294967295
                     AND l.objid = hashtextextended(m.target, 20261123) & 4294967295) AS claimed,
           (SELECT array_agg(DISTINCT pid) FROM held
            WHERE objsubid = 2 AND classid = {busy.MARK} AND objid = m.migration_id) AS workers,
           EXISTS (SELECT FROM {SCHEMA}.chunk AS k
                   WHERE k.migration_id = m.migration_id AND k.state = 'pending') AS pending,
           e.event_id AS last_event, e.at AS event_at, clock_timestamp() AS read_at
    FROM {SCHEMA}.migration AS m
    LEFT JOIN {SCHEMA}.control AS c USING (migration_id)
    LEFT JOIN {SCHEMA}.health AS h USING (migration_id)
    LEFT JOIN LATERAL (SELECT event_id, at FROM {SCHEMA}.event AS e
                       WHERE e.migration_id = m.migration_id
                       ORDER BY event_id DESC LIMIT 1) AS e ON true
    WHERE m.migration_id = :migration_id
"""

_NUMBERS = f"""
    SELECT p.number, p.name, p.companies, p.records, p.reconciled_at, k.*
    FROM {SCHEMA}.phase AS p
    LEFT JOIN (
        SELECT phase, count(*) AS chunks, count(*) FILTER (WHERE w) AS chunks_done,
               sum(records - reopened) FILTER (WHERE w) AS records_done,
               sum(records - reopened) FILTER (WHERE NOT w) AS pending,
               sum(already) FILTER (WHERE w) AS already,
               sum(skipped) FILTER (WHERE w) AS skipped,
               sum(quarantined) FILTER (WHERE w) AS quarantined,
               sum(gone) FILTER (WHERE w) AS gone,
               sum(units_before) FILTER (WHERE w) AS units_accounted,
               sum(units_after - units_before) FILTER (WHERE w) AS units_difference,
               sum(reserved_before) FILTER (WHERE w) AS reserved_accounted,
               sum(reserved_after - reserved_before) FILTER (WHERE w) AS reserved_difference,
               sum(reopened) AS reopened, sum(attempts) AS attempts,
               sum(undone_records) AS undone,
               sum(records - reopened) FILTER (WHERE undoing) AS to_undo,
               sum(records - reopened) FILTER (WHERE undo_xid IS NOT NULL) AS taken_back,
               sum(records - reopened) FILTER (
                   WHERE finished_at > clock_timestamp() - make_interval(secs => :recent))
                   AS recent,
               min(started_at) AS started_at, max(finished_at) AS finished_at
        FROM (SELECT *, xid IS NOT NULL AS w FROM {SCHEMA}.chunk
              WHERE migration_id = :migration_id) AS c
        GROUP BY phase) AS k ON k.phase = p.number
    WHERE p.migration_id = :migration_id
    ORDER BY p.number
"""

_PUT_ASIDE = f"""
    SELECT k.phase, o.outcome, sum(o.records) AS records
    FROM (SELECT chunk, outcome, count(*) AS records FROM {SCHEMA}.outcome
          WHERE migration_id = :migration_id GROUP BY chunk, outcome) AS o
    JOIN {SCHEMA}.chunk AS k ON k.migration_id = :migration_id AND k.number = o.chunk
    WHERE k.xid IS NOT NULL
    GROUP BY k.phase, o.outcome
"""

_ATTEMPTS = f"""
    SELECT last_error AS error, count(*) AS chunks, sum(attempts)::bigint AS attempts
    FROM {SCHEMA}.chunk
    WHERE migration_id = :migration_id AND attempts > 0
    GROUP BY last_error
    ORDER BY attempts DESC, error
"""
