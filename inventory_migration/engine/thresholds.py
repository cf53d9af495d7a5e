"""Whether a migration has to stop by itself: what the ledger counts against the mapping's limits.

What is done then belongs in `phases.py`; that somebody is told is written here, for each occasion
once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import hooks, ledger
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.mapping.limits import Trigger, TriggerAction

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exceeded:
    """A limit that was exceeded.

    Attributes:
        trigger: Which one.
        where: The phase, or the migration.
        reason: What was counted, and what is allowed.
        action: What the mapping wants done.
    """

    trigger: Trigger
    where: str
    reason: str
    action: TriggerAction


def exceeded(engine: sa.Engine, resolved: ResolvedMapping, migration: Migration) -> Exceeded | None:
    """Which limit makes the migration stop; None where none does.

    One that is exceeded and lets it continue is told once, and no more.
    """
    with engine.connect() as connection:
        found = list(_exceeded(connection, resolved, migration))
    for limit in found:
        if limit.action == "continue":
            note(engine, resolved, migration, limit)
    return next((limit for limit in found if limit.action != "continue"), None)


def note(
    engine: sa.Engine, resolved: ResolvedMapping, migration: Migration, found: Exceeded
) -> None:
    """Put an exceeded limit into the trail and tell the hooks; what continues is told once."""
    with engine.begin() as connection:
        if found.action == "continue" and _is_noted(connection, migration, found):
            return
        ledger.note(
            connection,
            "threshold",
            migration_id=migration.migration_id,
            trigger=found.trigger,
            where=found.where,
            reason=found.reason,
            action=found.action,
        )
    logger.warning(
        "%s: %s", found.action, found.reason, extra={"migration_id": migration.migration_id}
    )
    hooks.tell(
        engine,
        resolved.mapping,
        migration,
        found.trigger,
        reason=found.reason,
        action=found.action,
    )


def _exceeded(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> Iterator[Exceeded]:
    limits = resolved.mapping.thresholds
    parameters = {"migration_id": migration.migration_id}
    for row in connection.execute(_QUARANTINED, parameters):
        if not row.processed or row.processed < limits.after_records:
            continue
        percent = 100 * row.quarantined / row.processed
        if percent > limits.quarantined_percent:
            where = f"phase {row.phase}" if row.phase else "the migration"
            reason = (
                f"{row.quarantined} of {row.processed} records of {where} were quarantined "
                f"({percent:.1f} %, allowed are {limits.quarantined_percent:g} %)"
            )
            yield Exceeded("quarantined", where, reason, limits.action_on("quarantined"))
    for row in connection.execute(_FAILING, {**parameters, "limit": limits.failed_attempts}):
        yield exhausted(resolved, row.number, row.attempts, row.last_error)
    if limits.chunk_seconds is not None:
        slow = connection.execute(_SLOW, {**parameters, "limit": limits.chunk_seconds}).first()
        if slow is not None:
            reason = (
                f"chunk {slow.number} took {slow.seconds:.1f} s "
                f"(allowed are {limits.chunk_seconds:g} s)"
            )
            where = f"chunk {slow.number}"
            yield Exceeded("chunk_seconds", where, reason, limits.action_on("chunk_seconds"))


def exhausted(resolved: ResolvedMapping, chunk: int, attempts: int, state: str | None) -> Exceeded:
    """A chunk that has failed too often."""
    limits = resolved.mapping.thresholds
    return Exceeded(
        "failed_attempts",
        f"chunk {chunk}",
        f"chunk {chunk} failed {attempts} times, the last time with {state} "
        f"(allowed are {limits.failed_attempts} times)",
        limits.action_on("failed_attempts"),
    )


def _is_noted(connection: sa.Connection, migration: Migration, found: Exceeded) -> bool:
    detail = ledger.event.c.detail
    return bool(
        connection.execute(
            sa.select(
                sa.exists().where(
                    ledger.event.c.migration_id == migration.migration_id,
                    ledger.event.c.kind == "threshold",
                    detail["trigger"].astext == found.trigger,
                    detail["where"].astext == found.where,
                    detail["action"].astext == "continue",
                )
            )
        ).scalar_one()
    )


# Somebody has looked at a waived record and accepted that it stays where it is; one that is tried
# again was bad before, and does no new harm.
_QUARANTINED = sa.text(f"""
    WITH known AS (
        SELECT o.chunk, count(*) AS records
        FROM {SCHEMA}.outcome AS o
        WHERE o.migration_id = :migration_id AND o.outcome = 'quarantined'
          AND (o.state = 'waived'
               OR EXISTS (SELECT FROM {SCHEMA}.retry AS t
                          WHERE t.migration_id = o.migration_id AND t.position = o.position))
        GROUP BY o.chunk)
    SELECT p.name AS phase, sum(k.records - k.reopened) AS processed,
           sum(k.quarantined - COALESCE(w.records, 0)) AS quarantined
    FROM {SCHEMA}.chunk AS k
    JOIN {SCHEMA}.phase AS p ON p.migration_id = k.migration_id AND p.number = k.phase
    LEFT JOIN known AS w ON w.chunk = k.number
    WHERE k.migration_id = :migration_id AND k.state = 'done'
    GROUP BY GROUPING SETS ((), (p.name))
""")

_FAILING = sa.text(f"""
    SELECT number, attempts, last_error
    FROM {SCHEMA}.chunk
    WHERE migration_id = :migration_id AND state = 'pending' AND attempts > :limit
    ORDER BY number
    LIMIT 1
""")

# Chunks that shared a transaction share its time; what was slow before the last start has been
# seen by whoever started.
_SLOW = sa.text(f"""
    SELECT min(k.number) AS number,
           max(extract(epoch FROM k.finished_at - k.started_at)) / count(*) AS seconds
    FROM {SCHEMA}.chunk AS k
    JOIN {SCHEMA}.control AS c ON c.migration_id = k.migration_id
    WHERE k.migration_id = :migration_id AND k.state = 'done' AND k.finished_at > c.set_at
    GROUP BY k.xid
    HAVING max(extract(epoch FROM k.finished_at - k.started_at)) / count(*) > :limit
    ORDER BY seconds DESC
    LIMIT 1
""")
