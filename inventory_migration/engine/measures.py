"""How the server is: one statement that asks for all measures, and what it answers, as readings.

What a role may not see, or a server does not have, is unknown, and says why. Whether a reading is
good or bad is decided in `health.py`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from inventory_migration.database import escaped
from inventory_migration.engine.busy import MARKED
from inventory_migration.engine.failures import message
from inventory_migration.mapping import Health

MEGABYTE = 1024 * 1024
SECONDS = 2.0
"""How long one look may take: who waits for the workers must not wait for a look."""

BLOCKED_SECONDS = 0.25
"""How long a session must have waited for us to count: a chunk's locks are not felt before."""

MONITORING = "pg_monitor"
"""The role whose members see other sessions, replicas and the server's folder."""


@dataclass(frozen=True)
class Measure:
    """Something that is measured.

    Attributes:
        name: Its key in a mapping.
        unit: The unit of its value.
        text: What is said of a value that is too much; of what in brackets.
    """

    name: str
    unit: str
    text: str


MEASURES = (
    Measure("replica_lag_seconds", "s", "replica {what} is {value} behind"),
    Measure("replica_lag_megabytes", "MB", "replica {what} has yet to replay {value}"),
    Measure("slot_lag_megabytes", "MB", "replication slot {what} keeps {value} of WAL"),
    Measure("oldest_transaction_seconds", "s", "a transaction is open for {value}: {what}"),
    Measure("blocked_sessions", "sessions", "{value} wait for a worker of ours: {what}"),
    Measure("wal_megabytes_per_second", "MB/s", "{value} of WAL are written"),
    Measure("free_disk_megabytes", "MB", "{value} are free on the disk of {what}"),
)


@dataclass(frozen=True)
class Reading:
    """What a measure is.

    Attributes:
        value: Its value in its unit; None where there is none, such as no replica, or it is not
            known.
        what: Whose it is: the process, replica, slot or folder.
        unknown: Why it is not known, or only in part.
        allowance: What has to be left besides the limit.
    """

    value: float | None = None
    what: str = ""
    unknown: str | None = None
    allowance: float = 0.0


class Meter:
    """Asks one server for everything that a mapping wants to be measured."""

    def __init__(self, limits: Health, migration_id: int) -> None:
        """Ask nothing yet."""
        self._limits = limits
        self._migration_id = migration_id
        wanted = {m.name for m in MEASURES if getattr(limits, m.name) is not None}
        self._asked = {
            name: sql for name, sql in _ASKED.items() if wanted & set(_ANSWERS.get(name, (name,)))
        }
        self._wanted = wanted
        self._broken: dict[str, str] = {}
        self._waldir: bool | None = None
        self._wal: tuple[float, float] | None = None

    def read(self, connection: sa.Connection) -> dict[str, Reading]:
        """Look at everything, in one statement where the server lets us.

        Raises:
            sqlalchemy.exc.DBAPIError: The server does not answer at all.
        """
        if self._waldir is None:
            self._waldir = connection.execute(_MAY_LIST_WAL).scalar_one()
            if "free_disk_megabytes" in self._asked and self._waldir:
                self._asked["wal_size"] = _WAL_SIZE
        try:
            found = self._ask(connection, self._asked)
        except sa.exc.DBAPIError as error:
            if error.connection_invalidated:
                raise
            connection.rollback()
            found = self._ask_apart(connection)
        return {m.name: self._reading(m.name, connection, found) for m in self._measured()}

    def _measured(self) -> list[Measure]:
        return [measure for measure in MEASURES if measure.name in self._wanted]

    def _ask(self, connection: sa.Connection, asked: Mapping[str, str]) -> dict[str, Any]:
        listed = ", ".join(f"({sql}) AS {name}" for name, sql in asked.items())
        row = connection.execute(
            sa.text(f"SELECT extract(epoch FROM clock_timestamp())::float8 AS moment, {listed}"),
            {"migration_id": self._migration_id} if ":migration_id" in listed else {},
        ).one()
        return dict(row._mapping)

    def _ask_apart(self, connection: sa.Connection) -> dict[str, Any]:
        """Ask for one after the other, and for what fails never again."""
        found: dict[str, Any] = {}
        for name, sql in [*self._asked.items()]:
            try:
                found |= self._ask(connection, {name: sql})
            except sa.exc.DBAPIError as error:
                if error.connection_invalidated:
                    raise
                connection.rollback()
                self._broken[name] = message(error)
                del self._asked[name]
        return found

    def _reading(self, name: str, connection: sa.Connection, found: Mapping[str, Any]) -> Reading:
        source = next((asked for asked, names in _ANSWERS.items() if name in names), name)
        if name == "free_disk_megabytes":
            return self._disk(connection, found)
        if source in self._broken:
            return Reading(unknown=self._broken[source])
        told = found[source]
        if name == "wal_megabytes_per_second":
            return self._wal_rate(found["moment"], float(told))
        told = told or {}
        value = told.get(name, told.get("value"))
        hidden = (
            f"the role does not see everything; GRANT {MONITORING} lets it"
            if told.get("hidden")
            else None
        )
        return Reading(
            None if value is None else float(value),
            str(told.get(f"{name}_of", told.get("what")) or ""),
            hidden,
        )

    def _wal_rate(self, moment: float, written: float) -> Reading:
        before, self._wal = self._wal, (moment, written)
        if before is None or moment <= before[0]:
            return Reading()
        return Reading((written - before[1]) / MEGABYTE / (moment - before[0]))

    def _disk(self, connection: sa.Connection, found: Mapping[str, Any]) -> Reading:
        told = found.get("free_disk_megabytes") or {}
        room = max(0, (told.get("max_wal_bytes") or 0) - int(found.get("wal_size") or 0))
        source = self._limits.free_disk_from
        try:
            if source is None:
                free, where = _local_disk(connection, told)
            elif source.sql is not None:
                answer = connection.execute(sa.text(escaped(source.sql))).scalar()
                free, where = _bytes(answer, "the query"), "the server"
            else:
                free, where = _bytes(_output(source.command or []), "the command"), "the server"
        except _UnknownError as error:
            return Reading(unknown=str(error))
        except sa.exc.DBAPIError as error:
            if error.connection_invalidated:
                raise
            connection.rollback()
            return Reading(unknown=message(error))
        except sa.exc.SQLAlchemyError:
            return Reading(unknown="the query answers with no rows")
        return Reading(free / MEGABYTE, where, allowance=room / MEGABYTE)


class _UnknownError(Exception):
    """Why a measure is not known."""


def _local_disk(connection: sa.Connection, told: Mapping[str, Any]) -> tuple[int, str]:
    """The bytes that are free where the server has its data, if that is on this machine."""
    say = "say who knows it in health.free_disk_from"
    directory = told.get("directory")
    if directory is None:
        raise _UnknownError(f"the role may not see data_directory; GRANT {MONITORING}, or {say}")
    if not is_local(connection, told["backend"]):
        raise _UnknownError(f"the server is on another machine; {say}")
    free: list[int] = []
    # WAL may have a disk of its own, behind a link that not everybody may follow.
    for folder in (Path(directory), Path(directory) / "pg_wal"):
        try:
            found = os.statvfs(folder)
        except OSError as error:
            if not free:
                raise _UnknownError(f"{directory}: {error.strerror}; {say}") from error
            continue
        free.append(found.f_bavail * found.f_frsize)
    return min(free), str(directory)


def is_local(connection: sa.Connection, backend: int) -> bool:
    """Whether the server runs here, and in our own space of processes, so that paths are ours."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        return False
    host = driver.info.host
    if not host.startswith("/") and driver.info.hostaddr not in {"127.0.0.1", "::1"}:
        return False
    if not Path("/proc/self/cmdline").exists():
        return host.startswith("/")
    try:
        return Path(f"/proc/{backend}/cmdline").read_bytes().startswith(b"postgres")
    except OSError:
        return False


def _output(command: list[str]) -> str:
    try:
        ended = subprocess.run(  # noqa: S603 - a mapping is trusted like code
            command, capture_output=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise _UnknownError(f"the command did not end within {SECONDS:.0f} s") from None
    except OSError as error:
        raise _UnknownError(f"the command cannot be started: {error.strerror}") from error
    if ended.returncode:
        raise _UnknownError(f"the command ended with exit code {ended.returncode}")
    return ended.stdout.decode(errors="replace")


def _bytes(answer: object, who: str) -> int:
    try:
        return int(str(answer).split()[-1])
    except (ValueError, IndexError):
        raise _UnknownError(f"{who} did not answer with a number of bytes") from None


_MAY_LIST_WAL = sa.text("SELECT has_function_privilege('pg_ls_waldir()', 'EXECUTE')")

_WAL_SIZE = "SELECT COALESCE(sum(size), 0)::bigint FROM pg_ls_waldir()"

_OURS = f"SELECT pid FROM pg_locks WHERE {MARKED}"

# A base backup has no replay position, and is no replica. What a role may not see of a replica is
# NULL, its state too.
_REPLICAS = """
    SELECT jsonb_build_object(
        'replica_lag_seconds', max(seconds), 'replica_lag_megabytes', max(megabytes),
        'replica_lag_seconds_of', (array_agg(name ORDER BY seconds DESC NULLS LAST))[1],
        'replica_lag_megabytes_of', (array_agg(name ORDER BY megabytes DESC NULLS LAST))[1],
        'hidden', COALESCE(bool_or(state IS NULL), false))
    FROM (SELECT application_name AS name, state,
                 CASE WHEN replay_lsn IS NOT NULL
                      THEN COALESCE(extract(epoch FROM replay_lag), 0) END AS seconds,
                 pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) / 1048576 AS megabytes
          FROM pg_stat_replication) AS replica"""

_SLOTS = """
    SELECT jsonb_build_object(
        'value', megabytes, 'what', format('%s (%s)', slot_name,
                                           CASE WHEN active THEN 'in use' ELSE 'not in use' END))
    FROM (SELECT slot_name, active,
                 pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) / 1048576 AS megabytes
          FROM pg_replication_slots WHERE restart_lsn IS NOT NULL) AS slot
    ORDER BY megabytes DESC LIMIT 1"""

# Only what keeps dead rows from being cleaned up: a snapshot, or a transaction with an id.
_TRANSACTIONS = f"""
    SELECT jsonb_build_object(
        'value', COALESCE(max(seconds), 0), 'what', (array_agg(what ORDER BY seconds DESC))[1],
        'hidden', NOT pg_has_role('pg_read_all_stats', 'USAGE') AND EXISTS (
            SELECT FROM pg_stat_activity
            WHERE datname = current_database() AND NOT pg_has_role(usesysid, 'USAGE')))
    FROM (SELECT extract(epoch FROM clock_timestamp() - xact_start) AS seconds,
                 concat('process ', pid, ' of ', usename, ' (' || NULLIF(application_name, '')
                        || ')', ', ', state) AS what
          FROM pg_stat_activity
          WHERE datname = current_database() AND backend_type = 'client backend'
            AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL)
            AND pid <> pg_backend_pid() AND pid NOT IN ({_OURS})
          UNION ALL
          SELECT extract(epoch FROM clock_timestamp() - prepared),
                 format('prepared transaction %s of %s', gid, owner)
          FROM pg_prepared_xacts WHERE database = current_database()) AS open"""

# Who waits for a lock is shown to every role, and since when as well.
_BLOCKED = f"""
    SELECT jsonb_build_object(
        'value', count(*), 'what', string_agg('process ' || pid, ', ' ORDER BY pid))
    FROM (SELECT DISTINCT pid FROM pg_locks
          WHERE NOT granted AND waitstart < clock_timestamp() - interval '{BLOCKED_SECONDS} s') AS w
    WHERE pid NOT IN ({_OURS}) AND pg_blocking_pids(pid) && ARRAY({_OURS})"""

_DISK = """
    SELECT jsonb_build_object(
        'directory', (SELECT setting FROM pg_settings WHERE name = 'data_directory'),
        'max_wal_bytes', (SELECT pg_size_bytes(setting || unit) FROM pg_settings
                          WHERE name = 'max_wal_size'),
        'backend', pg_backend_pid())"""

_ASKED = {
    "replicas": _REPLICAS,
    "slot_lag_megabytes": _SLOTS,
    "oldest_transaction_seconds": _TRANSACTIONS,
    "blocked_sessions": _BLOCKED,
    "wal_megabytes_per_second": "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')",
    "free_disk_megabytes": _DISK,
}

_ANSWERS = {"replicas": ("replica_lag_seconds", "replica_lag_megabytes")}
"""What one question answers, where that is several measures."""
