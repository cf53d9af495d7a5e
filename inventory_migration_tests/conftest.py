"""A real server for the session, and a fresh database for each test that asks for one.

The server runs in a folder of its own, through the same code as the embedded one, so that no test
ever sees the project's inventory. `--server=system` runs the suite on the PostgreSQL that the
system has.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.database import create_engine, quoted
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.mapping import StockMapping
from inventory_migration_tests.receivers import Receiver, receiving

# A test's data may be lost in a power cut, and its transactions are small.
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_wal_size": "1GB",
    "shared_buffers": "128MB",
}

ROOMY = 6 * 1024**3
"""What the servers of a few processes may come to, in bytes."""

SECRET = "s3cr3t$pa:ss"
"""The password of `ann` on the server that asks for one."""

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--server",
        choices=["embedded", "system"],
        default=os.environ.get("INVENTORY_TEST_SERVER", "embedded"),
        help="which PostgreSQL the tests run on (default: embedded)",
    )


def pytest_report_header(config: pytest.Config) -> str:
    return f"postgresql: {config.getoption('--server')}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests tell of themselves, wherever they ran and however they ended."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            told = [line for name, line in report.user_properties if name == "verdict"]
            if told and report.when == "call":
                terminalreporter.section(f"{report.nodeid}: {outcome}", sep="-")
                for line in told:
                    terminalreporter.line(line)


def system_binaries() -> Path | None:
    """Return the newest PostgreSQL that Debian's packages, or the PATH, have."""
    versions = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = sorted(versions, key=lambda path: float(path.parts[-3]))
    if newest:
        return newest[-1].parent
    found = shutil.which("postgres")
    return Path(found).resolve().parent if found else None


def run_psql(server: EmbeddedServer, url: str, sql: str) -> str:
    """Run a script with psql, stop at its first error, and return what it printed, unaligned."""
    ended = subprocess.run(
        [server.binaries / "psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align",
         "--set=ON_ERROR_STOP=1", url],
        input=sql, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.rstrip("\n")


@dataclass(frozen=True)
class Database:
    """A database of one test."""

    name: str
    url: str
    server: EmbeddedServer

    @cached_property
    def engine(self) -> sa.Engine:
        """The engine that the tool itself would use."""
        return create_engine(self.url)

    def psql(self, sql: str) -> str:
        """Run a script with psql and return what it printed."""
        return run_psql(self.server, self.url, sql)

    def hand_over(self, mapping: StockMapping) -> None:
        """Let another role migrate from here on; here whoever owns the tables goes on."""


@pytest.fixture
def verdict(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes lines that are printed behind the last test: seeds, what was done, what came of it."""

    def tell(line: str) -> None:
        request.node.user_properties.append(("verdict", line))

    return tell


def _quickest_folder() -> str:
    """Memory where there is plenty: making a database on a disk takes twenty times as long."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK):
        free = shutil.disk_usage(memory).free
        if free > ROOMY:
            return str(memory)
    return "/tmp"


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder for servers, which the account of a server started by root can reach."""
    made = Path(tempfile.mkdtemp(prefix="inventory-test-", dir=_quickest_folder()))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session", autouse=True)
def _private_state(folder: Path) -> Iterator[None]:
    """Keep every test, and every process it starts, away from the project's own state."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [*os.environ]:
            if name.startswith(("PG", "INVENTORY_", "DAGSTER_")):
                patch.delenv(name)
        patch.setenv("INVENTORY_HOME", str(folder / "home"))
        patch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
        for name in (
            "INVENTORY_DATABASE_URL",
            "INVENTORY_MAPPINGS",
            "INVENTORY_EXPECTATIONS",
            "DAGSTER_HOME",
        ):
            patch.delenv(name, raising=False)
        yield
        EmbeddedServer(folder / "home" / "postgres").reset()


@pytest.fixture(scope="session")
def binaries(request: pytest.FixtureRequest) -> Path | None:
    """The chosen server's programs; None stands for the embedded ones."""
    if request.config.getoption("--server") == "embedded":
        return None
    found = system_binaries()
    if found is None:
        pytest.exit("--server=system needs PostgreSQL: apt-get install postgresql", returncode=2)
    return found


@pytest.fixture(scope="session")
def server(folder: Path, binaries: Path | None) -> Iterator[EmbeddedServer]:
    """The session's server, running."""
    made = EmbeddedServer(folder / "postgres", binaries=binaries, settings=FAST)
    made.start()
    yield made
    made.reset()


@contextmanager
def made_database(server: EmbeddedServer) -> Iterator[Database]:
    """An empty database, dropped afterwards whoever is still connected."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        # From PostgreSQL 15 on the default goes through the log, page by page.
        copied = "STRATEGY file_copy" if connection.info.server_version >= 150000 else ""
        connection.execute(f"CREATE DATABASE {quoted(name)} TEMPLATE template0 {copied}")
        made = Database(name, server.url.replace("/inventory?", f"/{name}?"), server)
        yield made
        made.engine.dispose()
        connection.execute(f"DROP DATABASE {quoted(name)} WITH (FORCE)")


@pytest.fixture
def database(server: EmbeddedServer) -> Iterator[Database]:
    """An empty database, dropped after the test."""
    with made_database(server) as made:
        yield made


@pytest.fixture
def target(database: Database) -> verbs.Target:
    """The database of a test as the verbs take it."""
    return verbs.open_target(database.url)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A server of our own machine that is told of whatever happens in a test."""
    with receiving() as receiver:
        monkeypatch.setenv("INVENTORY_NOTIFY_URL", receiver.url)
        yield receiver


@pytest.fixture
def connection(emptied: Database) -> Iterator[sa.Connection]:
    """A transaction in a module's own `emptied` database, undone after the test."""
    with emptied.engine.connect() as connection:
        yield connection
        connection.rollback()


@pytest.fixture(scope="session")
def guarded(folder: Path, binaries: Path | None) -> Iterator[EmbeddedServer]:
    """A server that asks every role but its own for a password."""
    home = folder / "guarded"
    home.mkdir()
    home.chmod(0o755)
    rules = home / "pg_hba.conf"
    rules.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
    rules.chmod(0o644)
    settings = {**FAST, "hba_file": str(rules)}
    server = EmbeddedServer(home / "postgres", binaries=binaries, settings=settings)
    server.start()
    script = f"""
        CREATE ROLE ann LOGIN PASSWORD '{SECRET}';
        CREATE TABLE stock (id int);
        CREATE DATABASE closed;
        REVOKE CONNECT ON DATABASE closed FROM PUBLIC;
    """
    run_psql(server, server.url, script)
    yield server
    server.reset()
