"""Statements of plain text, and a database that is reached without SQLAlchemy.

To import SQLAlchemy takes longer than to answer how far a migration is. What must answer at once is
written with `ask` and `execute`, which take connections of both kinds, so that whoever asks the
same asks it in the same words. How a database is found, and what its errors mean, is in
`database.py`.
"""

from __future__ import annotations

import functools
import re
from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import RowMaker, no_result

from inventory_migration import database

if TYPE_CHECKING:
    import sqlalchemy as sa


class Result(Protocol):
    """What has come of a statement."""

    @property
    def rowcount(self) -> int:
        """How many rows it has changed or found."""

    def all(self) -> Sequence[Any]:
        """Its rows, with their columns as attributes."""


class Connection(Protocol):
    """A connection of SQLAlchemy's, or a plain one."""

    @property
    def engine(self) -> Engine[Connection]:
        """Where it comes from."""

    @property
    def connection(self) -> Any:
        """What has the driver's connection, as `driver_connection`."""

    def exec_driver_sql(self, statement: str, parameters: Any = None, /) -> Result:
        """Execute a statement with the driver's own placeholders."""

    def rollback(self) -> None:
        """Undo what the transaction has done, and end it."""

    def commit(self) -> None:
        """End the transaction."""


C_co = TypeVar("C_co", bound=Connection, covariant=True)


class Engine(Protocol[C_co]):
    """What connects, SQLAlchemy's or plainly."""

    def connect(self) -> AbstractContextManager[C_co]:
        """A connection whose transaction is undone, unless it was committed."""

    def begin(self) -> AbstractContextManager[C_co]:
        """A connection whose transaction is committed, unless something went wrong."""

    def get_execution_options(self) -> Mapping[str, Any]:
        """What errors say: `where` it is, and in which `role`."""


def ask(
    connection: Connection, statement: str, parameters: Mapping[str, Any] | None = None
) -> Sequence[Any]:
    """The rows that a statement finds; its parameters are written `:name`."""
    return connection.exec_driver_sql(_for_driver(statement), parameters or {}).all()


def execute(
    connection: Connection, statement: str, parameters: Mapping[str, Any] | None = None
) -> int:
    """Execute a statement that gives no rows; returns how many it has changed."""
    return connection.exec_driver_sql(_for_driver(statement), parameters or {}).rowcount


@functools.lru_cache(maxsize=256)
def _for_driver(statement: str) -> str:
    # A doubled colon is a cast.
    return re.sub(r"(?<![:\w]):(\w+)", r"%(\1)s", statement.replace("%", "%%"))


def _named(cursor: psycopg.Cursor[Any]) -> RowMaker[Any]:
    if cursor.description is None:
        return no_result
    maker: RowMaker[Any] = _row_of(tuple(column.name for column in cursor.description))._make
    return maker


@functools.cache
def _row_of(names: tuple[str, ...]) -> Any:
    # Two columns of one name are no mistake of a statement whose columns nobody asks for.
    return namedtuple("Row", names, rename=True)


@dataclass(frozen=True)
class PlainResult:
    """What has come of a statement on a plain connection."""

    cursor: psycopg.Cursor[Any]

    @property
    def rowcount(self) -> int:
        """How many rows it has changed or found."""
        return self.cursor.rowcount

    def all(self) -> Sequence[Any]:
        """Its rows."""
        return self.cursor.fetchall()


@dataclass(frozen=True)
class PlainConnection:
    """A connection of the driver's, with SQLAlchemy's names for what both can.

    Attributes:
        driver_connection: The driver's.
        engine: Where it comes from.
    """

    driver_connection: psycopg.Connection[Any]
    engine: PlainEngine

    @property
    def connection(self) -> PlainConnection:
        """What has the driver's connection, as SQLAlchemy's connections have it."""
        return self

    def exec_driver_sql(self, statement: str, parameters: Any = None, /) -> PlainResult:
        """Execute a statement with the driver's own placeholders."""
        cursor = self.driver_connection.cursor(row_factory=_named)
        return PlainResult(cursor.execute(statement, parameters))

    def rollback(self) -> None:
        """Undo what the transaction has done, and end it."""
        self.driver_connection.rollback()

    def commit(self) -> None:
        """End the transaction."""
        self.driver_connection.commit()


class PlainEngine:
    """Connects as an engine of `database.create_engine` does: the same settings, no SQLAlchemy."""

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        """Connect to nothing yet."""
        self._url = url
        self._read_only = read_only
        self._settings = database.settings(url)

    def get_execution_options(self) -> Mapping[str, Any]:
        """What errors say: `where` it is, and in which `role`."""
        return {"where": self._settings.where, "role": self._settings.role}

    @contextmanager
    def connect(
        self, isolation: psycopg.IsolationLevel = psycopg.IsolationLevel.READ_COMMITTED
    ) -> Iterator[PlainConnection]:
        """A connection whose transaction is undone, unless it was committed."""
        with closing(psycopg.connect(**self._settings.parameters)) as driver:  # type: ignore[arg-type]
            self._settings.spell_out(driver, read_only=self._read_only)
            driver.isolation_level = isolation
            yield PlainConnection(driver, self)

    @contextmanager
    def begin(self) -> Iterator[PlainConnection]:
        """A connection whose transaction is committed, unless something went wrong."""
        with self.connect() as connection:
            yield connection
            connection.commit()

    def with_sqlalchemy(self) -> sa.Engine:
        """An engine of SQLAlchemy's for the same database, for what is seldom and needs one."""
        return database.create_engine(self._url, read_only=self._read_only)


@dataclass(frozen=True)
class PlainTarget:
    """A database to work on, as `verbs.Target` is, without SQLAlchemy."""

    engine: PlainEngine
    reader: PlainEngine
    parameters: Mapping[str, str] = field(repr=False)


def open_target(url: str | None = None) -> PlainTarget:
    """Reach a database, or say in one sentence why not; see `database.open_database`."""
    parameters = database.connection_parameters(url)
    conninfo = make_conninfo(**parameters)
    reader = PlainEngine(conninfo, read_only=True)
    try:
        with reader.connect() as connection:
            [row] = ask(connection, "SELECT current_setting('server_version_num')::int AS number")
    except psycopg.Error as error:
        raise database.explain(error, reader) from None
    database.require_supported(row.number, database.describe(reader))
    return PlainTarget(engine=PlainEngine(conninfo), reader=reader, parameters=parameters)
