"""A process that drives the shop's migration, without Dagster: it begins within a second.

As a program: `python -m inventory_migration_tests.dashboard.driver MAPPING URL RATE`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inventory_migration.embedded import project_server
from inventory_migration.engine.plan import Start
from inventory_migration.mapping import StockMapping, load_mapping
from inventory_migration_tests import stage
from inventory_migration_tests.commands import PROJECT
from inventory_migration_tests.conftest import Database


@contextmanager
def driving(database: Database, mapping: Path, *, rate: int) -> Iterator[subprocess.Popen[bytes]]:
    """Let a process of its own migrate at so many records per second, and end it afterwards."""
    words = [sys.executable, "-m", __name__, str(mapping), database.url, str(rate)]
    process = subprocess.Popen(words, cwd=PROJECT, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)


def drive(mapping: StockMapping, url: str, rate: int) -> None:
    """Migrate, or go on where it was paused."""
    database = Database("shop", url, project_server())
    start = Start(explicit=True, resume=True, max_rows_per_second=rate)
    stage.migrate(database, mapping, start=start)


if __name__ == "__main__":
    drive(load_mapping(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3]))
