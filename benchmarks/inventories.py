"""Databases to move stock in: the inventory made once by size, and a fresh copy for everybody.

What the inventory is like belongs in `stock.py`, who moves it in `contenders.py`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from benchmarks import stock
from benchmarks.contenders import Copy
from inventory_migration.embedded import EmbeddedServer

_MOVING = "stock_moving"


def fill(server: EmbeddedServer, rows: int) -> None:
    """Make the inventory of a size once; everybody gets a copy of these very files.

    Args:
        server: Where.
        rows: How many records of stock it has.
    """
    name = _template(rows)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}")
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    with psycopg.connect(_address(server, name), autocommit=True) as connection:
        for statement in stock.application(rows):
            connection.execute(statement)


@contextmanager
def copied(server: EmbeddedServer, rows: int, shape: str) -> Iterator[Copy]:
    """A copy of the inventory of a size, in a server that has nothing else to write.

    Args:
        server: Where.
        rows: The size, which has been made.
        shape: The shape that its stock is to be moved to.
    """
    with (
        tempfile.TemporaryDirectory(prefix="throughput-") as folder,
        psycopg.connect(server.url, autocommit=True) as connection,
    ):
        connection.execute(f"DROP DATABASE IF EXISTS {_MOVING} WITH (FORCE)")
        connection.execute(
            f"CREATE DATABASE {_MOVING} TEMPLATE {_template(rows)} STRATEGY file_copy"
        )
        connection.execute("CHECKPOINT")
        try:
            yield Copy(_address(server, _MOVING), shape, Path(folder))
        finally:
            connection.execute(f"DROP DATABASE {_MOVING} WITH (FORCE)")


def _template(rows: int) -> str:
    return f"stock_before_{rows}"


def _address(server: EmbeddedServer, database: str) -> str:
    return server.url.replace("/inventory?", f"/{database}?")
