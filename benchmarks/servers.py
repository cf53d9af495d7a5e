"""The server that a benchmark measures on: an embedded one of its own, gone afterwards."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inventory_migration.embedded import EmbeddedServer, Server


@contextmanager
def temporary_server(name: str) -> Iterator[tuple[EmbeddedServer, Server]]:
    """A server in a temporary folder, and what is known of it as it runs.

    Args:
        name: What the folder's name begins with.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    folder.chmod(0o711)
    server = EmbeddedServer(folder / "postgres")
    # It has gigabytes, so it goes too where somebody ends the measurement.
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield server, server.start()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        server.reset()
        shutil.rmtree(folder)


def _leave(*_: Any) -> None:
    raise SystemExit(128 + signal.SIGTERM)
