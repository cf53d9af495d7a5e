"""A dashboard that is served by a program of its own, as a user starts it.

What starts it, waits for it, and sees that nothing of it is left belongs here; what a browser makes
of it is `viewer.py`'s matter.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from inventory_migration_tests.commands import PROGRAM, PROJECT
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.sessions import until

_MARK = "INVENTORY_STARTED_BY_TEST"


@dataclass(frozen=True)
class Served:
    """A running dashboard."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]


@contextmanager
def dashboard(
    database: Database, folder: Path, *options: str, **environment: str
) -> Iterator[Served]:
    """Serve a database's dashboard; afterwards nothing that it started is left.

    Args:
        database: The database that it looks at.
        folder: Where its log goes.
        options: Further options of the command.
        environment: Further variables of its environment.
    """
    log = folder / f"dashboard-{uuid.uuid4().hex[:8]}.log"
    words = ("dashboard", "--port", "0", *options)
    with started(database, log, *words, **environment) as process:
        yield Served(_address(process, log), log, process)
        assert process.poll() in {None, 0}, log.read_text()
        assert "Traceback" not in log.read_text(), log.read_text()


@contextmanager
def started(
    database: Database, log: Path, *words: str, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command on a database; afterwards neither it nor a child of it is left."""
    mark = uuid.uuid4().hex
    variables = {
        **os.environ,
        "INVENTORY_DATABASE_URL": database.url,
        "PYTHONUNBUFFERED": "1",
        _MARK: mark,
        **environment,
    }
    with log.open("wb") as written:
        process = subprocess.Popen(
            [*PROGRAM, *words], cwd=PROJECT, env=variables,
            stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        left = marked(mark)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(20)
    assert process.pid not in left, f"did not end when told to: {log.read_text()[-2000:]}"


def marked(mark: str) -> list[int]:
    """Return the processes that were started for a test, by it or by what it started."""
    wanted = f"{_MARK}={mark}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return where a dashboard says that it is, once it answers there."""
    found: list[str] = []

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        told = re.search(r"http://[^\s/]+:\d+", log.read_text())
        if told is None:
            return False
        try:
            urllib.request.urlopen(told[0], timeout=5).close()
        except urllib.error.HTTPError:
            pass  # it answers, if only that it wants a token
        except OSError:
            return False
        found.append(told[0])
        return True

    until(answers, "a dashboard that answers", seconds=120)
    return found[0]


@contextmanager
def stalled(database: Database) -> Iterator[None]:
    """Stop every process of a database's server, as on a machine whose storage hangs."""
    status = database.server.status()
    assert status is not None
    pids = [status.pid]
    os.kill(status.pid, signal.SIGSTOP)
    try:
        # Only now: one that does not run has no further child.
        for pid in _children(status.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                pids.append(pid)
        yield
    finally:
        for pid in reversed(pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                found.append(int(path.parent.name))
    return found


def ended(process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> int:
    """Wait for a command's end and return its exit code."""
    begun = time.monotonic()
    while process.poll() is None:
        assert time.monotonic() - begun < seconds, log.read_text()[-3000:]
        time.sleep(0.05)
    return process.returncode
