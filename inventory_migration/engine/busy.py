"""Who is still at work on a migration, and how they are made to stop.

Every transaction that drives a migration marks itself by a shared advisory lock, which any role can
see and which ends with the transaction. What is waited for, and for how long, belongs in
`control.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from inventory_migration.database import original
from inventory_migration.errors import PrivilegeMissing
from inventory_migration.plain import Connection, ask

MARK = 20261124
"""The first half of the advisory lock's key; the second is the migration's id."""

MARKED = f"""
    locktype = 'advisory' AND granted AND objsubid = 2
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND classid = {MARK} AND objid::bigint = :migration_id"""
"""The condition that a row of pg_locks is the mark of a session at work on `:migration_id`."""


@dataclass(frozen=True)
class Busy:
    """A session in the middle of a transaction.

    Attributes:
        pid: Its process at the server.
        role: Its role.
        program: What it calls itself; empty where we may not see that.
        state: What it does, such as `active` or `idle in transaction`.
        seconds: Since when its transaction runs.
    """

    pid: int
    role: str
    program: str
    state: str
    seconds: float

    def __str__(self) -> str:
        """Say it as a clause."""
        program = f" ({self.program})" if self.program else ""
        return f"process {self.pid} of {self.role}{program}, {self.state} for {self.seconds:.0f} s"


def mark(connection: Connection, migration_id: int) -> None:
    """Let this transaction be seen as one that works on a migration."""
    ask(connection, _MARK_BUSY, {"migration_id": migration_id})


def working(connection: Connection, migration_id: int) -> list[Busy]:
    """The sessions with such a transaction, the longest first; the asking one left out."""
    # Within a transaction the server would show what it showed the first time.
    ask(connection, "SELECT pg_stat_clear_snapshot()")
    rows = ask(connection, _WORKING, {"migration_id": migration_id})
    return [Busy(row.pid, row.role, row.program, row.state, float(row.seconds)) for row in rows]


def end(connection: Connection, found: list[Busy], *, terminate: bool) -> None:
    """Cancel the statements of these sessions, or end the sessions themselves.

    Raises:
        PrivilegeMissing: A session belongs to a role that this one may not signal.
    """
    statement = _TERMINATE if terminate else _CANCEL
    for session in found:
        try:
            ask(connection, statement, {"pid": session.pid})
        except Exception as error:
            if not isinstance(original(error), psycopg.Error):
                raise
            connection.rollback()
            engine = connection.engine.get_execution_options()
            raise PrivilegeMissing(
                str(engine["where"]), str(engine["role"]), f"it may not end {session}"
            ) from error


_MARK_BUSY = f"SELECT pg_advisory_xact_lock_shared({MARK}, CAST(:migration_id AS integer))"

_WORKING = f"""
    SELECT a.pid, a.usename AS role, COALESCE(a.application_name, '') AS program,
           COALESCE(a.state, 'busy') AS state,
           GREATEST(COALESCE(extract(epoch FROM clock_timestamp() - a.xact_start), 0), 0)
               AS seconds
    FROM pg_stat_activity a
    WHERE a.pid IN (SELECT pid FROM pg_locks WHERE {MARKED}) AND a.pid <> pg_backend_pid()
    ORDER BY seconds DESC, a.pid
"""

_CANCEL = "SELECT pg_cancel_backend(:pid)"

_TERMINATE = "SELECT pg_terminate_backend(:pid)"
