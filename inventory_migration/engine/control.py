"""Who may work, and whether they should: the claim on a target, the desired state, and the barrier.

The claim keeps two processes from driving one migration. The desired state is what workers read
before every chunk. The barrier waits until no chunk can commit any more. What is written to stock
does not belong here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import psycopg

from inventory_migration.engine import busy, ledger
from inventory_migration.engine.failures import Action, action_for, sqlstate
from inventory_migration.errors import (
    LockNotObtained,
    MigrationAborted,
    MigrationBusy,
    MigrationPaused,
    StartRefused,
    StillBusy,
)
from inventory_migration.plain import Connection, Engine, ask, execute

if TYPE_CHECKING:
    import sqlalchemy as sa

C = TypeVar("C", bound=Connection)

BARRIER_SECONDS = 60.0
TELL_SECONDS = 1.0
TERMINATE_SECONDS = 2.0

UNDER_WAY = ("planned", "running", "verifying")
"""States of a migration that somebody drives, or would if they had not died."""

_DESIRED_AT = {
    "verified": "run",
    "rolling_back": "rollback",
    "rolled_back": "rollback",
    "aborted": "abort",
}
"""What is desired where there is nothing left to pause."""


class Claim:
    """A session's exclusive right to drive the migration of one target; ends with the session.

    It is an advisory lock on a connection of its own, so a process that dies gives it up without
    anybody's help.
    """

    def __init__(self, engine: sa.Engine) -> None:
        """Take nothing yet."""
        self._engine = engine
        self._connection: sa.Connection | None = None
        self._targets: set[str] = set()

    def take(self, target: str, *, wait_seconds: float = 0.0) -> None:
        """Claim a target; claiming it again is harmless.

        A session that was ended from outside has given its claims up: they are taken again, unless
        somebody was quicker.

        Raises:
            MigrationBusy: Another session has it; names that session.
        """
        deadline = time.monotonic() + wait_seconds
        connection, lost = self._session()
        for wanted in [*lost, target]:
            if wanted in self._targets:
                continue
            while not ask(connection, _TRY_CLAIM, {"target": wanted})[0].taken:
                if time.monotonic() >= deadline:
                    holder = [row.holder for row in ask(connection, _HOLDER, {"target": wanted})]
                    raise MigrationBusy(target=wanted, holder=[*holder, "another session"][0])
                time.sleep(0.1)
            self._targets.add(wanted)

    def _session(self) -> tuple[sa.Connection, list[str]]:
        """The session that holds the claims, and which ones an earlier session has lost."""
        import sqlalchemy as sa

        if self._connection is not None:
            try:
                ask(self._connection, "SELECT 1 AS one")
            except sa.exc.DBAPIError:
                self._connection.invalidate()
                self._connection.close()
                self._connection = None
            else:
                return self._connection, []
        lost = sorted(self._targets)
        self._targets.clear()
        self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        # It idles for as long as a migration takes.
        execute(self._connection, "SET idle_session_timeout = 0")
        ask(self._connection, f"SELECT {keepalives(local=False)}")
        return self._connection, lost

    def holds(self, target: str) -> bool:
        """Whether this session has claimed a target."""
        return target in self._targets

    def release(self) -> None:
        """Give everything up."""
        connection, self._connection = self._connection, None
        self._targets.clear()
        if connection is not None:
            # A server notices only after a while that a session has closed; unlocking is at once.
            # A session that is lost already has given all up, and its loss has been told. Whatever
            # else comes in between, the session ends.
            import sqlalchemy as sa

            with connection, suppress(sa.exc.SQLAlchemyError):
                ask(connection, "SELECT pg_advisory_unlock_all()")

    def __enter__(self) -> Claim:
        """Use the claim as a context."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give everything up."""
        self.release()


def keepalives(*, local: bool = True) -> str:
    """What lets a server notice a client whose machine is gone; by default it asks after 2 hours.

    Args:
        local: Only in the transaction at hand.
    """
    asked = {"idle": 30, "interval": 10, "count": 3}
    return ", ".join(
        f"set_config('tcp_keepalives_{name}', '{value}', {str(local).lower()})"
        for name, value in asked.items()
    )


def desire(
    connection: Connection, migration_id: int, desired: str, *, reason: str | None = None
) -> None:
    """Say what workers should do: run, pause, abort or rollback. Durable before it counts.

    Who says it again, as a process does that stops since it was asked to, is not who asked.
    """
    durably(connection)
    said = {"migration_id": migration_id, "desired": desired, "reason": reason}
    if execute(connection, _DESIRE, said):
        ledger.note(connection, f"desired_{desired}", migration_id=migration_id, reason=reason)


def durably(connection: Connection) -> None:
    """Let this transaction's commit be on disk before it is told: a pause must not be unsaid."""
    ask(connection, _DURABLY)


def desired_state(connection: Connection, migration_id: int) -> str:
    """What workers should do."""
    [row] = ask(connection, _DESIRED, {"migration_id": migration_id})
    return str(row.desired)


def enter(connection: Connection, migration_id: int) -> str:
    """Begin a worker's transaction: hold the migration's row, then read the desired state.

    Separate statements on purpose: one would read the state as it was before it waited for the row.
    """
    busy.mark(connection, migration_id)
    ask(connection, _HOLD_MIGRATION, {"migration_id": migration_id})
    return desired_state(connection, migration_id)


def may_enter(connection: Connection, migration_id: int) -> bool:
    """The same, for what nobody waits for: whether work is wanted, and no barrier holds the row."""
    held = ask(connection, _HOLD_AT_ONCE, {"migration_id": migration_id})
    return bool([*held]) and desired_state(connection, migration_id) == "run"


def require(connection: Connection, migration_id: int, wanted: str) -> None:
    """Go no further where somebody has asked for something else meanwhile.

    The caller holds the migration's row, so that nobody can ask before this transaction ends.

    Raises:
        MigrationPaused: Somebody asked for a pause.
        MigrationAborted: Somebody asked for an end.
        StartRefused: Somebody asked for a rollback, or lifted it.
    """
    [asked] = ask(connection, _DESIRED, {"migration_id": migration_id})
    if asked.desired == wanted:
        return
    reason = asked.reason or "asked to"
    if asked.desired == "pause":
        raise MigrationPaused(mapping=asked.mapping, migration_id=migration_id, reason=reason)
    if asked.desired == "abort":
        raise MigrationAborted(mapping=asked.mapping, migration_id=migration_id, reason=reason)
    rolling = asked.desired == "rollback"
    raise StartRefused(
        mapping=asked.mapping,
        migration_id=migration_id,
        why=f"is being rolled back ({reason})" if rolling else "was told to go forward again",
        command=f"{'rollback' if rolling else 'resume'} {asked.mapping}",
    )


@contextmanager
def exclusive(
    engine: Engine[C],
    migration_id: int,
    *,
    seconds: float = BARRIER_SECONDS,
    wanted: str | None = None,
    waiting: Callable[[float], None] | None = None,
) -> Iterator[C]:
    """A transaction that no chunk commits beside: what pause, sweep, plan and finalize write in.

    Waits in a loop of short lock timeouts, so that workers who come after are not queued behind it
    and can read that they should stop.

    Args:
        engine: Where to connect.
        migration_id: Whose workers to wait for.
        seconds: How long to wait for them.
        wanted: The desired state in which alone the caller may write; None asks for none.
        waiting: Told after each wait how long it has been by now.

    Raises:
        LockNotObtained: A worker's transaction did not end in time.
        MigrationError: The desired state is another one; see `require`.
    """
    began = time.monotonic()
    deadline = began + seconds
    while True:
        with engine.connect() as connection:
            try:
                execute(connection, "SET LOCAL lock_timeout = '200ms'")
                ask(connection, _TAKE_MIGRATION, {"migration_id": migration_id})
            except Exception as error:
                if action_for(sqlstate(error)) is not Action.RETRY:
                    raise
                connection.rollback()
                if time.monotonic() >= deadline:
                    raise LockNotObtained(
                        what=f"wait for the workers of migration {migration_id}", seconds=seconds
                    ) from error
                if waiting is not None:
                    waiting(time.monotonic() - began)
                time.sleep(random.uniform(0.01, 0.05))  # noqa: S311 - jitter, no secret
                continue
            busy.mark(connection, migration_id)
            if wanted is not None:
                require(connection, migration_id, wanted)
            # Whatever a role's default is meant for, a snapshot of a large table takes its time.
            ask(connection, _UNHURRIED)
            with cancelled_on_interrupt(connection):
                yield connection
            connection.commit()
            return


@contextmanager
def cancelled_on_interrupt(connection: Connection) -> Iterator[None]:
    """Cancel at the server what is under way when the process is interrupted.

    The driver does so for Ctrl-C only; an orchestrator that raises its own interrupt would leave
    the statement running, with its locks, until it ends.
    """
    driver, engine = connection.connection.driver_connection, connection.engine
    backend = driver.info.backend_pid if isinstance(driver, psycopg.Connection) else None
    try:
        yield
    except Exception:
        raise
    except BaseException:
        # By another session: SQLAlchemy has closed this one, which a server in the middle of a
        # statement does not notice.
        if backend is not None:
            with suppress(Exception), engine.connect() as other:
                ask(other, _CANCEL, {"pid": backend})
        raise


def stop(engine: Engine[Connection], migration_id: int, desired: str, *, reason: str) -> None:
    """Say that work should stop, and return once no chunk can commit any more."""
    with engine.begin() as connection:
        desire(connection, migration_id, desired, reason=reason)
    with barrier(engine, migration_id):
        pass


def pause(
    engine: Engine[Connection],
    migration_id: int,
    *,
    reason: str,
    seconds: float = BARRIER_SECONDS,
    force: bool = False,
    tell: Callable[[str], None] | None = None,
) -> None:
    """Pause a migration: when this returns, nothing more commits until it is resumed.

    Args:
        engine: Where to connect.
        migration_id: Which one.
        reason: Why, for the trail.
        seconds: How long to wait for transactions under way.
        force: Cancel them, and end their sessions where that does not help.
        tell: Told every few seconds who is waited for.

    Raises:
        StillBusy: Somebody's transaction did not end in time; nothing new begins all the same.
    """
    with engine.begin() as connection:
        desire(connection, migration_id, "pause", reason=reason)
    with barrier(engine, migration_id, seconds=seconds, force=force, tell=tell) as connection:
        found = ledger.find(connection, migration_id=migration_id)
        durably(connection)
        if found and found.state in UNDER_WAY:
            ledger.set_state(connection, migration_id, "paused", reason=reason)
        elif found and found.state in _DESIRED_AT:
            # It came too late, and nothing would lift it: a resume is for what stands still.
            desire(connection, migration_id, _DESIRED_AT[found.state], reason="a pause came late")


@contextmanager
def barrier(
    engine: Engine[C],
    migration_id: int,
    *,
    seconds: float = BARRIER_SECONDS,
    force: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Iterator[C]:
    """A transaction after which nobody commits who does not read the desired state first.

    Raises:
        StillBusy: Somebody's transaction did not end in time.
    """
    told = cancelled = terminated = False

    def waiting(waited: float) -> None:
        nonlocal told, cancelled, terminated
        with engine.connect() as connection:
            found = busy.working(connection, migration_id)
            if tell is not None and found and (waited > TELL_SECONDS or force) and not told:
                tell(f"waiting for {'; '.join(map(str, found))}")
                told = True
            if force and found and not cancelled:
                busy.end(connection, found, terminate=False)
                cancelled = True
            elif force and found and waited > TERMINATE_SECONDS and not terminated:
                # A client that is stopped, or gone, does not answer to a cancel.
                busy.end(connection, found, terminate=True)
                terminated = True

    try:
        with exclusive(engine, migration_id, seconds=seconds, waiting=waiting) as connection:
            yield connection
    except LockNotObtained as error:
        with engine.connect() as connection:
            found = busy.working(connection, migration_id)
            migration = ledger.find(connection, migration_id=migration_id)
        raise StillBusy(
            mapping=migration.mapping if migration else "?",
            migration_id=migration_id,
            seconds=seconds,
            busy=[str(session) for session in found],
        ) from error


_DESIRE = f"""
    UPDATE {ledger.SCHEMA}.control
    SET desired = :desired, reason = :reason, set_by = {ledger.WHO}, set_at = clock_timestamp()
    WHERE migration_id = :migration_id
      AND (desired <> :desired OR reason IS DISTINCT FROM :reason)
"""

_DESIRED = f"""
    SELECT c.desired, c.reason, m.mapping
    FROM {ledger.SCHEMA}.control AS c JOIN {ledger.SCHEMA}.migration AS m USING (migration_id)
    WHERE c.migration_id = :migration_id
"""

# Never less than a role or server asks for: remote_apply waits for more than on.
_DURABLY = """
    SELECT set_config('synchronous_commit', 'on', true)
    WHERE current_setting('synchronous_commit') <> 'remote_apply'
"""

# A client that was killed must not leave a long statement behind, with its locks.
_UNHURRIED = f"""
    SELECT set_config('lock_timeout', '0', true), set_config('statement_timeout', '0', true),
           set_config('extra_float_digits', '3', true),
           CASE WHEN version() LIKE '%linux%'
                THEN set_config('client_connection_check_interval', '500ms', true) END,
           {keepalives()}
"""

_TRY_CLAIM = "SELECT pg_try_advisory_lock(hashtextextended(:target, 20261123)) AS taken"

_CANCEL = "SELECT pg_cancel_backend(:pid)"

_HOLDER = """
    SELECT format('process %s of %s, %s, since %s', a.pid, a.usename, a.application_name,
                  to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS')) AS holder
    FROM pg_locks k
    JOIN pg_stat_activity a ON a.pid = k.pid
    CROSS JOIN (SELECT hashtextextended(:target, 20261123) AS key) AS wanted
    WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
      AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND k.classid::bigint = (wanted.key >> 32) & 4294967295
      AND k.objid::bigint = wanted.key & 4294967295
"""

_HOLD_MIGRATION = f"""
    SELECT migration_id FROM {ledger.SCHEMA}.migration
    WHERE migration_id = :migration_id FOR KEY SHARE
"""

_HOLD_AT_ONCE = f"""{_HOLD_MIGRATION} SKIP LOCKED"""

_TAKE_MIGRATION = f"""
    SELECT migration_id FROM {ledger.SCHEMA}.migration
    WHERE migration_id = :migration_id FOR UPDATE
"""
