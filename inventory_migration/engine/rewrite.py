"""A rewrite: all records of a table at once, in one pass that nobody else can look into.

For a maintenance window. The table is locked exclusively, so that what is read of it stays true;
each record gets its outcome by the rules of the chunks, the table is written anew with the location
of each company looked up in the statement's own text, and it is read back, all in one transaction.
What was planned before, and what is proved and undone afterwards, is as for chunks.

To a transaction that looks at an older moment, a rewritten table is empty. Such transactions are
waited for, before the lock is asked for and again before the commit. The statements are in
`rewrite_statements.py`; what stands against it in `rewrite_refusals.py`.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import control, ledger, rewrite_refusals, scans, untouched
from inventory_migration.engine.failures import Action, action_for, message, sqlstate
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.measures import MEGABYTE
from inventory_migration.engine.rewrite_as_planned import RewriteAsPlanned
from inventory_migration.engine.rewrite_refusals import REWRITTEN
from inventory_migration.engine.rewrite_statements import RewriteStatements
from inventory_migration.errors import (
    ControlTotalsDiffer,
    RewriteRefused,
    SnapshotsOpen,
    TableInUse,
)

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 60.0
"""How long older snapshots may take to end before the lock is asked for."""

LOCK_SECONDS = 60.0
"""How long others may use the table before it is given up."""

LOCK_TIMEOUT_MS = 200
"""How long others may have to queue behind us each time."""

COMMIT_SECONDS = 10.0
"""How long snapshots may take to end that were taken while the table was rewritten."""

LOOK_SECONDS = 1.0
"""How long afterwards is looked for transactions that came to the table with an older snapshot."""


def rewrite(engine: sa.Engine, resolved: ResolvedMapping, migration: Migration) -> None:
    """Give all records their location in one pass; nothing where that has been done.

    Raises:
        RewriteRefused: Something stands against it by now.
        SnapshotsOpen: Somebody's transaction would see the table empty.
        TableInUse: Others use the table all the while.
        ControlTotalsDiffer: What was written is not what was read; nothing of it stays.
        MigrationError: Somebody asked to stop the migration; see `control.require`.
    """
    with engine.connect() as connection:
        if rewrite_refusals.is_rewritten(connection, migration.migration_id):
            return
        rewrite_refusals.refuse(connection, resolved, migration)
        told = rewrite_refusals.cost(connection, resolved)
    with engine.begin() as connection:
        ledger.note(
            connection,
            "rewrite_planned",
            migration_id=migration.migration_id,
            lock_seconds=round(told.lock_seconds, 1),
            measured=told.measured,
            disk_bytes=told.disk_bytes,
            free_bytes=told.free_bytes,
        )
    logger.info(
        "rewriting %s: nobody can use it for about %.0f s, and it takes %.0f MB a second time",
        resolved.source.full_name,
        told.lock_seconds,
        told.disk_bytes / MEGABYTE,
        extra={"migration_id": migration.migration_id},
    )
    _drain(engine, resolved, migration)
    with _locked(engine, resolved, migration) as connection:
        began = time.monotonic()
        proved = _pass(connection, resolved, migration)
        seconds = time.monotonic() - began
        ledger.note(
            connection,
            REWRITTEN,
            migration_id=migration.migration_id,
            seconds=round(seconds, 3),
            bytes=told.disk_bytes,
            proved=proved,
        )
        connection.execute(_LOOK_ANEW)
        waiting = connection.execute(_WAITING, {"oid": resolved.source.oid}).all()
    _tell_misled(engine, resolved, migration, waiting)
    logger.info(
        "%s rewritten in %.3f s",
        resolved.source.full_name,
        seconds,
        extra={"migration_id": migration.migration_id},
    )


def _pass(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> dict[str, Any] | None:
    """Everything that happens under the lock; returns what that proves for later."""
    # What the catalog said before the lock may have been changed since.
    reasons = list(rewrite_refusals.of_table(connection, resolved))
    if reasons:
        raise RewriteRefused(mapping=resolved.mapping.name, reasons=reasons)
    _wait_for_snapshots(connection, resolved, seconds=0.0)
    connection.execute(_HOLD_CHUNKS, {"migration_id": migration.migration_id})
    before = untouched.note_before(connection, resolved)
    scans.with_room(connection)
    as_planned = untouched.is_as_planned(connection, resolved, migration)
    statements = (RewriteAsPlanned if as_planned else RewriteStatements)(resolved, migration)
    statements.classify(connection)
    expected = statements.expected(connection)
    try:
        statements.write(connection)
    except sa.exc.DBAPIError as error:
        if action_for(sqlstate(error)) is not Action.ISOLATE:
            raise
        reason = f"the server refuses a record ({message(error)}), which a chunk would put aside"
        raise RewriteRefused(mapping=resolved.mapping.name, reasons=[reason]) from error
    found = statements.counts(connection)
    if found != expected:
        raise ControlTotalsDiffer(
            migration_id=migration.migration_id,
            chunk=1,
            differences={"records, and those at a location": (expected, found)},
        )
    statements.finish(connection)
    proved = untouched.note_rewrite(connection, resolved, migration, before)
    connection.execute(_DONE, {"migration_id": migration.migration_id})
    _wait_for_snapshots(connection, resolved, seconds=COMMIT_SECONDS)
    return proved


def _drain(engine: sa.Engine, resolved: ResolvedMapping, migration: Migration) -> None:
    """Return once no snapshot is left that was taken before; who pauses meanwhile is heard."""
    with engine.begin() as connection:
        # A transaction of its own whose id is behind every snapshot that is taken from here on.
        marker = connection.execute(_MARKER).one()
    deadline = time.monotonic() + DRAIN_SECONDS
    told = False
    while True:
        with engine.connect() as connection:
            control.require(connection, migration.migration_id, "run")
            found = _snapshots(connection, resolved, before=marker.at, older_than=marker.xid)
        if not found:
            return
        if not told:
            _tell_waiting(migration, found)
            told = True
        if time.monotonic() >= deadline:
            raise _open(resolved, DRAIN_SECONDS, found)
        time.sleep(0.1)


def _tell_waiting(migration: Migration, sessions: Sequence[str]) -> None:
    logger.info(
        "waiting for %s", "; ".join(sessions), extra={"migration_id": migration.migration_id}
    )


def _wait_for_snapshots(
    connection: sa.Connection, resolved: ResolvedMapping, *, seconds: float
) -> None:
    """Within the rewrite: wait for whoever has a snapshot already and has not come to the table.

    Who waits for it, as each statement does that comes meanwhile, takes another one when it is let
    through, unless its whole transaction looks at one moment; see `_tell_misled`.
    """
    began = connection.execute(sa.text("SELECT clock_timestamp()")).scalar_one()
    deadline = time.monotonic() + seconds
    while found := _snapshots(connection, resolved, before=began):
        if time.monotonic() >= deadline:
            raise _open(resolved, seconds, found)
        time.sleep(0.1)


def _tell_misled(
    engine: sa.Engine,
    resolved: ResolvedMapping,
    migration: Migration,
    waiting: Sequence[sa.Row[Any]],
) -> None:
    """Name who waited for the table with a snapshot, and keeps it now that there is a newer one."""
    deadline = time.monotonic() + LOOK_SECONDS
    found: list[str] = []
    while waiting and time.monotonic() < deadline:
        parameters = {
            "pids": [row.pid for row in waiting],
            "began": [row.xact_start for row in waiting],
            "xid": waiting[0].xid,
        }
        with engine.connect() as connection:
            found = list(connection.execute(_MISLED, parameters).scalars())
        if not found:
            return
        time.sleep(0.1)
    if not found:
        return
    with engine.begin() as connection:
        ledger.note(
            connection, "rewrite_unseen", migration_id=migration.migration_id, sessions=found
        )
    logger.warning(
        "to %s, %s looks empty, since it looks at a moment before the rewrite; do not believe what "
        "it tells",
        "; ".join(found),
        resolved.source.full_name,
        extra={"migration_id": migration.migration_id},
    )


def _snapshots(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    *,
    before: object,
    older_than: str | None = None,
) -> list[str]:
    connection.execute(_LOOK_ANEW)
    parameters = {"oid": resolved.source.oid, "before": before, "xid": older_than}
    return list(connection.execute(_SNAPSHOTS, parameters).scalars())


def _open(resolved: ResolvedMapping, seconds: float, found: list[str]) -> SnapshotsOpen:
    return SnapshotsOpen(
        mapping=resolved.mapping.name,
        table=resolved.source.full_name,
        seconds=seconds,
        sessions=found,
    )


@contextmanager
def _locked(
    engine: sa.Engine, resolved: ResolvedMapping, migration: Migration
) -> Iterator[sa.Connection]:
    """A worker's transaction that has the table for itself.

    The lock is asked for again and again and never waited for, since all who come later would queue
    behind it.
    """
    table = escaped(resolved.source.sql)
    deadline = time.monotonic() + LOCK_SECONDS
    told = False
    while True:
        with engine.connect() as connection:
            connection.execute(_SETTINGS)
            control.enter(connection, migration.migration_id)
            control.require(connection, migration.migration_id, "run")
            try:
                connection.execute(sa.text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
            except sa.exc.DBAPIError as error:
                connection.rollback()
                if action_for(sqlstate(error)) is not Action.RETRY:
                    raise
                held = list(connection.execute(_HOLDERS, {"oid": resolved.source.oid}).scalars())
                if not told and held:
                    _tell_waiting(migration, held)
                    told = True
                if time.monotonic() >= deadline:
                    raise TableInUse(
                        mapping=resolved.mapping.name,
                        table=resolved.source.full_name,
                        seconds=LOCK_SECONDS,
                        sessions=held,
                    ) from error
            else:
                with control.cancelled_on_interrupt(connection):
                    control.durably(connection)
                    yield connection
                connection.commit()
                return
        time.sleep(random.uniform(0.2, 1.0))  # noqa: S311 - jitter, no secret


# Of those of a chunk, the ones that a transaction needs which takes as long as it takes.
_SETTINGS = sa.text(f"""
    SELECT set_config('lock_timeout', '{LOCK_TIMEOUT_MS}ms', true),
           set_config('statement_timeout', '0', true),
           set_config('row_security', 'off', true),
           set_config('extra_float_digits', '3', true),
           CASE WHEN version() LIKE '%linux%'
                THEN set_config('client_connection_check_interval', '500ms', true) END,
           {control.keepalives()}
""")

# Within a transaction the server would show what it showed the first time.
_LOOK_ANEW = sa.text("SELECT pg_stat_clear_snapshot()")

_MARKER = sa.text(
    "SELECT CAST(CAST(pg_current_xact_id() AS xid) AS text) AS xid, clock_timestamp() AS at"
)

# A prepared transaction has no snapshot any more, and what it locks is waited for at the lock. A
# standby that tells us what it looks at has a transaction id for it, and no time.
_SNAPSHOTS = sa.text("""
    SELECT format('process %s of %s%s, %s, open for %s s', pid, usename,
                  ' (' || NULLIF(application_name, '') || ')', COALESCE(state, 'busy'),
                  round(extract(epoch FROM clock_timestamp() - xact_start)))
    FROM pg_stat_activity
    WHERE datname = current_database() AND backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
      AND backend_type = 'client backend' AND xact_start <= CAST(:before AS timestamptz)
      AND NOT EXISTS (SELECT FROM pg_locks k
                      WHERE k.pid = pg_stat_activity.pid AND NOT k.granted
                        AND k.locktype = 'relation' AND k.relation = CAST(:oid AS oid)
                        AND k.database = (SELECT oid FROM pg_database
                                          WHERE datname = current_database()))
    UNION ALL
    SELECT format('replication slot %s, whose standby looks at an older moment', slot_name)
    FROM pg_replication_slots
    WHERE xmin IS NOT NULL AND age(xmin) >= age(CAST(CAST(:xid AS text) AS xid))
    UNION ALL
    SELECT format('standby %s, which looks at an older moment', application_name)
    FROM pg_stat_replication
    WHERE backend_xmin IS NOT NULL AND age(backend_xmin) >= age(CAST(CAST(:xid AS text) AS xid))
    ORDER BY 1
""")

_WAITING = sa.text("""
    SELECT a.pid, a.xact_start, CAST(CAST(pg_current_xact_id() AS xid) AS text) AS xid
    FROM pg_stat_activity a
    WHERE a.backend_xmin IS NOT NULL AND a.backend_type = 'client backend'
      AND EXISTS (SELECT FROM pg_locks k
                  WHERE k.pid = a.pid AND NOT k.granted AND k.locktype = 'relation'
                    AND k.relation = CAST(:oid AS oid)
                    AND k.database = (SELECT oid FROM pg_database
                                      WHERE datname = current_database()))
""")

_MISLED = sa.text("""
    SELECT format('process %s of %s%s', a.pid, a.usename,
                  ' (' || NULLIF(a.application_name, '') || ')')
    FROM pg_stat_activity a
    JOIN unnest(CAST(:pids AS integer[]), CAST(:began AS timestamptz[])) AS w(pid, began)
      ON w.pid = a.pid AND w.began = a.xact_start
    WHERE age(a.backend_xmin) >= age(CAST(CAST(:xid AS text) AS xid))
    ORDER BY a.pid
""")

_HOLDERS = sa.text("""
    SELECT format('process %s of %s%s, %s', a.pid, a.usename,
                  ' (' || NULLIF(a.application_name, '') || ')', COALESCE(a.state, 'busy'))
    FROM pg_locks k JOIN pg_stat_activity a ON a.pid = k.pid
    WHERE k.locktype = 'relation' AND k.relation = CAST(:oid AS oid) AND k.granted
      AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION
    SELECT format('prepared transaction %s of %s', x.gid, x.owner)
    FROM pg_locks k JOIN pg_prepared_xacts x
      ON k.virtualtransaction = '-1/' || CAST(x.transaction AS text)
    WHERE k.locktype = 'relation' AND k.relation = CAST(:oid AS oid)
    ORDER BY 1
""")

_HOLD_CHUNKS = sa.text(f"""
    SELECT count(*) FROM (
        SELECT number FROM {SCHEMA}.chunk WHERE migration_id = :migration_id
        ORDER BY number FOR UPDATE) AS held
""")

# Nothing is left that a checkpoint could keep from beginning; the final proof sees all of it.
_DONE = sa.text(f"""
    UPDATE {SCHEMA}.phase SET reconciled_at = clock_timestamp()
    WHERE migration_id = :migration_id AND reconciled_at IS NULL
""")
