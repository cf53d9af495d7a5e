"""Which events of the trail somebody is to be told, and what has become of that.

The trail says what happened, whoever was its cause. Each event that is news to a channel gets a row
in `notification`, once, from whichever process sees it first; the row stays pending until a process
that knows the channel's URL has delivered it. So what a process that died had still to tell is told
by the next one. What a message says and how it is posted belongs in the package `notifications`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from inventory_migration import project
from inventory_migration.engine import ledger, posting
from inventory_migration.engine.ledger import SCHEMA, notification, notification_channel
from inventory_migration.mapping import Channel, StockMapping

_PLAIN, _SLACK = project.NOTIFIED_EVERYWHERE

EVERYWHERE = (Channel(url_variable=_PLAIN), Channel(url_variable=_SLACK, format="slack"))
"""The channels that need no mapping to name them, where their variables are set."""

NEWS_HOURS = 6
"""How old an event may be and still be told."""

_PATIENT_ATTEMPTS = 5
"""How often a message is tried before those behind it no longer wait for it."""

_LONGEST_WAIT = 300.0

_KINDS = (
    *("state_running", "state_paused", "state_held", "state_failed", "state_verified"),
    *("state_rolled_back", "state_aborted"),
    *("phase_done", "threshold", "gate_refused", "monitoring_failed"),
)

_NAMED = {
    "state_paused": "paused",
    "state_held": "held",
    "state_failed": "failed",
    "state_verified": "finished",
    "state_rolled_back": "rolled_back",
    "state_aborted": "aborted",
}


@dataclass(frozen=True)
class Due:
    """A message whose turn it is.

    Attributes:
        attempts: How often it was tried before.
        kind: What the trail calls the event.
        who: Who caused it.
        detail: What the trail has of it.
    """

    notification_id: UUID
    event_id: int
    url_variable: str
    format: str
    migration_id: int | None
    mapping: str
    event: str
    attempts: int
    at: datetime
    kind: str
    who: str
    detail: dict[str, Any]


def channels_of(mapping: StockMapping | None) -> list[Channel]:
    """Who would hear of a mapping's events, from this process: its own channels before others.

    Of no mapping at all, those of the whole installation.
    """
    own = {channel.url_variable: channel for channel in mapping.notifications} if mapping else {}
    everywhere = [c for c in EVERYWHERE if os.environ.get(c.url_variable)]
    return [*own.values(), *(c for c in everywhere if c.url_variable not in own)]


def set_variables(names: Iterable[str]) -> set[str]:
    """Those of these environment variables that hold a URL."""
    return {name for name in names if posting.url_of(name) is not None}


def installed(connection: sa.Connection) -> bool:
    """Whether there is a ledger that knows of channels."""
    return ledger.table_exists(connection, notification.name)


def subscribe(connection: sa.Connection, mapping: StockMapping) -> None:
    """Keep who is to be told of a mapping's events from now on; a channel keeps its beginning.

    In the transaction that begins the work, so that whatever comes of it is news to them.
    """
    _keep(connection, mapping.name, mapping.notifications)
    subscribe_everywhere(connection)


def subscribe_everywhere(connection: sa.Connection, *, since_seconds: float = 0.0) -> None:
    """Keep the channels of the whole installation, as far as this process knows their URLs.

    Args:
        connection: A connection to the ledger.
        since_seconds: How long ago the work began; what has happened since is news to them.
    """
    known = set_variables(channel.url_variable for channel in EVERYWHERE)
    for channel in EVERYWHERE:
        if channel.url_variable in known:
            _upsert(connection, "", channel, since_seconds)


def _keep(connection: sa.Connection, mapping: str, channels: Sequence[Channel]) -> None:
    connection.execute(
        sa.delete(notification_channel).where(
            notification_channel.c.mapping == mapping,
            notification_channel.c.url_variable.not_in([c.url_variable for c in channels]),
        )
    )
    for channel in channels:
        _upsert(connection, mapping, channel)


def _upsert(
    connection: sa.Connection, mapping: str, channel: Channel, since_seconds: float = 0.0
) -> None:
    said = {"format": channel.format, "events": channel.events}
    insert = postgresql.insert(notification_channel).values(
        mapping=mapping,
        url_variable=channel.url_variable,
        since=sa.func.clock_timestamp() - timedelta(seconds=since_seconds),
        **said,
    )
    changed = sa.or_(
        *(notification_channel.c[name].is_distinct_from(insert.excluded[name]) for name in said)
    )
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["mapping", "url_variable"], set_=said, where=changed
        )
    )


def known_variables(connection: sa.Connection) -> set[str]:
    """The variables of all channels whose URL this process knows."""
    return set_variables(ledger.channel_variables(connection))


def oldest(connection: sa.Connection) -> int:
    """The event behind which there can be news, so that the whole trail is looked through once."""
    return int(connection.execute(_OLDEST, {"hours": NEWS_HOURS}).scalar_one())


def gather(connection: sa.Connection, variables: Iterable[str], *, behind: int) -> None:
    """Note what is news to these channels and not noted yet; and let go of what is too old."""
    told = {"variables": list(variables), "hours": NEWS_HOURS}
    connection.execute(_GATHER, {**told, "kinds": list(_KINDS), "behind": behind})
    connection.execute(_TOO_OLD, told)


def pending(connection: sa.Connection, variables: Iterable[str]) -> dict[str, float]:
    """The channels that wait for messages, each with the seconds until one may be tried."""
    rows = connection.execute(_PENDING, {"variables": list(variables)})
    return {row.url_variable: float(row.seconds) for row in rows}


def claim(connection: sa.Connection, variable: str) -> bool:
    """Take the right to post to a channel, one message after the other; it ends with the session.

    A process that dies gives it up without anybody's help.
    """
    return bool(connection.execute(_CLAIM, {"name": variable}).scalar_one())


def release(connection: sa.Connection, variable: str) -> None:
    """Give that right up."""
    connection.execute(_RELEASE, {"name": variable})


def next_due(connection: sa.Connection, variable: str) -> Due | None:
    """The message of a channel whose turn it is; the caller has claimed the channel."""
    row = connection.execute(
        _NEXT, {"variable": variable, "patient": _PATIENT_ATTEMPTS}
    ).one_or_none()
    return Due(**row._mapping) if row else None


def delivered(connection: sa.Connection, due: Due) -> None:
    """Keep that a message has arrived."""
    connection.execute(
        _of(due).values(
            state="delivered",
            attempts=notification.c.attempts + 1,
            failure=None,
            ended_at=sa.func.clock_timestamp(),
        )
    )


def failed(connection: sa.Connection, due: Due, answer: posting.Answer) -> float | None:
    """Keep that a message has not arrived, and leave its channel alone for a while.

    Returns:
        After how many seconds it is tried again; None where it is not.
    """
    said = {"attempts": notification.c.attempts + 1, "failure": answer.failure}
    if not answer.again:
        connection.execute(
            _of(due).values(state="given_up", ended_at=sa.func.clock_timestamp(), **said)
        )
        return None
    wait = answer.after
    if wait is None:
        wait = min(2.0**due.attempts, _LONGEST_WAIT)
    connection.execute(_of(due).values(**said))
    connection.execute(_WAIT, {"variable": due.url_variable, "seconds": wait})
    return wait


def listing(
    connection: sa.Connection, *, mapping: str | None = None, limit: int
) -> list[dict[str, Any]]:
    """What was told, what is still to be told and what was not, newest event first."""
    if not installed(connection):
        return []
    rows = connection.execute(_LIST, {"mapping": mapping, "limit": limit})
    return [
        {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in row._mapping.items()
        }
        for row in rows
    ]


def _of(due: Due) -> sa.Update:
    return sa.update(notification).where(notification.c.notification_id == due.notification_id)


_OLDEST = sa.text(f"""
    SELECT COALESCE(max(event_id), 0) FROM {SCHEMA}.event
    WHERE at <= clock_timestamp() - make_interval(hours => :hours)
""")

_EVENT_OF_KIND = " ".join(f"WHEN '{kind}' THEN '{name}'" for kind, name in _NAMED.items())

# What a rollback of a part leaves a migration in is no news of its own: a verified one has not been
# finished again.
_GATHER = sa.text(f"""
    INSERT INTO {SCHEMA}.notification
        (event_id, url_variable, format, migration_id, mapping, event)
    SELECT n.event_id, c.url_variable, c.format, n.migration_id, n.mapping, n.event
    FROM (
        SELECT e.event_id, e.migration_id, e.at,
               COALESCE(m.mapping, e.detail->>'mapping', '') AS mapping,
               CASE WHEN b.kind = 'state_rolling_back' AND e.kind LIKE 'state\\_%'
                    THEN 'rolled_back'
                    WHEN e.kind = 'state_running' AND b.kind IS NULL THEN 'started'
                    WHEN e.kind = 'state_running' THEN 'resumed'
                    ELSE CASE e.kind {_EVENT_OF_KIND} ELSE e.kind END END AS event
        FROM {SCHEMA}.event AS e
        LEFT JOIN {SCHEMA}.migration AS m ON m.migration_id = e.migration_id
        LEFT JOIN LATERAL (
            SELECT p.kind FROM {SCHEMA}.event AS p
            WHERE p.migration_id = e.migration_id AND p.event_id < e.event_id
              AND p.kind LIKE 'state\\_%'
            ORDER BY p.event_id DESC LIMIT 1) AS b ON true
        WHERE e.event_id > :behind AND e.kind = ANY(:kinds)
          AND e.at > clock_timestamp() - make_interval(hours => :hours)
    ) AS n
    JOIN {SCHEMA}.notification_channel AS c
      ON c.url_variable = ANY(:variables) AND n.at >= c.since
     AND (c.events IS NULL OR n.event = ANY(c.events))
     AND (c.mapping = n.mapping
          OR c.mapping = '' AND NOT EXISTS (
              SELECT FROM {SCHEMA}.notification_channel AS o
              WHERE o.mapping = n.mapping AND o.url_variable = c.url_variable))
    WHERE NOT EXISTS (
        SELECT FROM {SCHEMA}.notification AS t
        WHERE t.event_id = n.event_id AND t.url_variable = c.url_variable)
    ON CONFLICT DO NOTHING
""")

_TOO_OLD = sa.text(f"""
    UPDATE {SCHEMA}.notification AS t
    SET state = 'given_up', ended_at = clock_timestamp(),
        failure = 'it was news no more after ' || :hours || ' hours'
                  || COALESCE('; the last time ' || t.failure, '')
    FROM {SCHEMA}.event AS e
    WHERE t.state = 'pending' AND t.url_variable = ANY(:variables) AND e.event_id = t.event_id
      AND e.at <= clock_timestamp() - make_interval(hours => :hours)
""")

_PENDING = sa.text(f"""
    SELECT url_variable,
           GREATEST(EXTRACT(EPOCH FROM min(due_at) - clock_timestamp()), 0) AS seconds
    FROM {SCHEMA}.notification
    WHERE state = 'pending' AND url_variable = ANY(:variables)
    GROUP BY url_variable
""")

_NEXT = sa.text(f"""
    SELECT t.notification_id, t.event_id, t.url_variable, t.format, t.migration_id, t.mapping,
           t.event, t.attempts, e.at, e.kind, e.who, e.detail
    FROM {SCHEMA}.notification AS t JOIN {SCHEMA}.event AS e USING (event_id)
    WHERE t.state = 'pending' AND t.url_variable = :variable AND t.due_at <= clock_timestamp()
    ORDER BY t.attempts >= :patient, t.event_id
    LIMIT 1
""")

# It is the receiver who is away or has had enough, so that nothing else is posted there either.
_WAIT = sa.text(f"""
    UPDATE {SCHEMA}.notification
    SET due_at = GREATEST(due_at, clock_timestamp() + make_interval(secs => :seconds))
    WHERE state = 'pending' AND url_variable = :variable
""")

_LIST = sa.text(f"""
    SELECT t.notification_id, e.at, t.event, t.mapping, t.migration_id, t.url_variable, t.format,
           t.state, t.attempts, t.due_at, t.failure, t.ended_at
    FROM {SCHEMA}.notification AS t JOIN {SCHEMA}.event AS e USING (event_id)
    WHERE CAST(:mapping AS text) IS NULL OR t.mapping = :mapping
    ORDER BY t.event_id DESC, t.url_variable
    LIMIT :limit
""")

_CLAIM = sa.text("SELECT pg_try_advisory_lock(hashtextextended(:name, 20261127))")

_RELEASE = sa.text("SELECT pg_advisory_unlock(hashtextextended(:name, 20261127))")
