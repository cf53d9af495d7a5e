"""Where a suite is judged: how it connects, and the SQL that Great Expectations never sees.

Great Expectations compiles a query to text and has SQLAlchemy read that text again, once or twice:
a colon becomes a parameter, a percent sign two, a brace a placeholder. So it is given a made-up
name for each relation, and the name is replaced on the way to the server. What is expected of the
batch does not belong here.
"""

from __future__ import annotations

import logging
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from inventory_migration.database import describe, explain
from inventory_migration.quality.queries import subquery

if TYPE_CHECKING:
    from great_expectations.datasource.fluent.interfaces import Batch


class Session:
    """A server that can only be read, at one moment where a snapshot is given."""

    def __init__(self, connection_parameters: Mapping[str, str], snapshot: str | None) -> None:
        """Keep how to connect; `opened_session` connects."""
        self._parameters = dict(connection_parameters)
        self._snapshot = snapshot
        self._hidden: dict[str, str] = {}
        self._whole: set[str] = set()
        self._own: psycopg.Connection[Any] | None = None

    def name(self, select: str) -> str:
        """Return a name by which this session's statements read from a SELECT as from a table."""
        name = f"relation_{uuid.uuid4().hex}"
        # The driver halves percent signs.
        self._hidden[name] = subquery(select).replace("%", "%%")
        return name

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query, in a transaction of its own.

        Raises:
            psycopg.Error: The server refuses it.
        """
        return self._executed(query)[1]

    def named_rows(self, query: str) -> list[dict[str, Any]]:
        """The same, each value by its column.

        Raises:
            psycopg.Error: The server refuses it.
        """
        names, rows = self._executed(query)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _executed(self, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        if self._own is None or self._own.closed:
            self._own = self._connect()
        with self._own.transaction(force_rollback=True):
            for statement in self._settings():
                self._own.execute(statement)
            cursor = self._own.execute(query)
            return [column.name for column in cursor.description or ()], cursor.fetchall()

    def close(self) -> None:
        """Leave no connection behind."""
        if self._own is not None:
            self._own.close()

    def batch_of(self, select: str) -> Batch:
        """A SELECT as a batch to validate, in a context of its own.

        A context that is shared confuses relations whose columns differ only in case.
        """
        import great_expectations as gx
        from great_expectations.data_context.types.base import (
            DataContextConfig,
            InMemoryStoreBackendDefaults,
            ProgressBarsConfig,
        )

        # Its own defaults would make a folder for a web site, and draw progress bars.
        configuration = DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
        )
        context = gx.get_context(mode="ephemeral", project_config=configuration)
        source = context.data_sources.add_postgres(  # type: ignore[call-arg]
            "database",
            connection_string="postgresql+psycopg://by@creator/",
            # So that neither a password nor a "$" in it, to be expanded, reaches the context.
            kwargs={"creator": self._connect, "poolclass": NullPool},
        )
        for engine in {source.get_engine(), source.get_execution_engine().engine}:
            sa.event.listen(engine, "begin", self._begin)
            sa.event.listen(engine, "before_cursor_execute", self._unveil, retval=True)
        whole = f"SELECT * FROM {self.name(select)} AS batch"  # noqa: S608
        self._whole.add(whole)
        asset = source.add_query_asset("batch", query=whole)
        return asset.add_batch_definition_whole_table("all").get_batch()

    def try_out(self) -> None:
        """Connect once: a wrong password would otherwise be reported by every expectation."""
        self.rows("SELECT 1")

    def _connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(**self._parameters)  # type: ignore[arg-type]
        connection.read_only = True
        connection.isolation_level = (
            psycopg.IsolationLevel.REPEATABLE_READ
            if self._snapshot
            else psycopg.IsolationLevel.READ_COMMITTED
        )
        return connection

    def _begin(self, connection: sa.Connection) -> None:
        for statement in self._settings():
            connection.exec_driver_sql(statement)

    def _settings(self) -> list[str]:
        snapshot = (self._snapshot or "").replace("'", "''")
        return [
            *([f"SET TRANSACTION SNAPSHOT '{snapshot}'"] if snapshot else []),
            "SET LOCAL work_mem = '128MB'",
            # The planner does not know how dear it is to convert and hash a record.
            "SET LOCAL parallel_setup_cost = 100",
            "SET LOCAL parallel_tuple_cost = 0.01",
            # Nor that of what was just written an index alone tells nothing.
            "SET LOCAL enable_indexonlyscan = off",
            # Compiling takes longer than it saves: many conditions, each a moment.
            "SET LOCAL jit = off",
            # A policy that hides rows from this role must be an error, and not a smaller count.
            "SET LOCAL row_security = off",
            # A statement whose judge was terminated ends with it, where the server can tell.
            "SELECT CASE WHEN strpos(version(), 'linux') > 0 "
            "THEN set_config('client_connection_check_interval', '500ms', true) END",
        ]

    def _unveil(
        self,
        _connection: sa.Connection,
        _cursor: Any,
        statement: str,
        parameters: Any,
        _context: Any,
        _many: bool,
    ) -> tuple[str, Any]:
        if statement.strip() in self._whole:
            # Only column names are read from it; without a limit it fetches every row.
            statement += " LIMIT 0"
        for name, select in self._hidden.items():
            statement = statement.replace(name, select)
        return statement, parameters


@contextmanager
def opened_session(
    connection_parameters: Mapping[str, str], snapshot: str | None
) -> Iterator[Session]:
    """Connect to where a suite is judged.

    Raises:
        DatabaseUnreachable: The server does not answer; so do the other errors of a connection.
    """
    session = Session(connection_parameters, snapshot)
    with _quiet():
        try:
            session.try_out()
        except psycopg.Error as error:
            parameters = dict(connection_parameters)
            where = {"where": describe(parameters), "role": parameters.get("user", "?")}
            engine = sa.create_engine("postgresql+psycopg://", execution_options=where)
            raise explain(error, engine) from None
        try:
            yield session
        finally:
            session.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tracebacks of refused statements out of the log, and deprecations of others' calls."""
    logger = logging.getLogger("great_expectations")
    before, silence = logger.propagate, logging.NullHandler()
    # Not by a level: some of its modules set their own.
    logger.propagate = False
    logger.addHandler(silence)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"great_expectations")
            yield
    finally:
        logger.propagate = before
        logger.removeHandler(silence)
