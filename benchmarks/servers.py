"""The server that a benchmark measures on: an embedded one of its own, gone afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inventory_migration.embedded import EmbeddedServer, Server


@contextmanager
def temporary_server(name: str) -> Iterator[tuple[EmbeddedServer, Server]]:
    """A server in a temporary folder, and what is known of it as it runs.

    Args:
        name: What the folder's name begins with.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir="/tmp"))
    folder.chmod(0o711)
    server = EmbeddedServer(folder / "postgres")
    running = server.start()
    try:
        yield server, running
    finally:
        server.reset()
        shutil.rmtree(folder)
