"""An example in a database: its tables and its data, in one transaction, and its preparation.

Only tables of its own are made; where one of its names is taken, nothing happens.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from inventory_migration.database import escaped, explain, quoted
from inventory_migration.errors import ExampleConflict
from inventory_migration.examples.catalogue import Example, functions

# Two loads at the same moment would both find the way clear. A role's limits are made for the
# application's statements, and UTC has no summer time.
_SETTINGS = """
SELECT pg_advisory_xact_lock(hashtextextended('inventory-migration examples', 0));
SET LOCAL search_path = public;
SET LOCAL timezone = 'UTC';
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL work_mem = '128MB';
SET LOCAL jit = off;
"""

# A view, a sequence or a bare type keeps a table of its name out just as a table does.
_TAKEN = sa.text("""
    SELECT name FROM unnest(CAST(:tables AS text[])) WITH ORDINALITY AS wanted (name, number)
    WHERE EXISTS (SELECT FROM pg_class AS c
                  WHERE c.relnamespace = 'public'::regnamespace AND c.relname = wanted.name)
       OR EXISTS (SELECT FROM pg_type AS t
                  WHERE t.typnamespace = 'public'::regnamespace AND t.typname = wanted.name)
    ORDER BY number
""")


@dataclass(frozen=True)
class Loaded:
    """What was put into a database.

    Attributes:
        example: Which.
        tables: Every table, with its rows.
        prepared: Whether what has to be done before a run was done as well.
        elapsed_seconds: From the first statement to the last.
    """

    example: str
    tables: dict[str, int]
    prepared: bool
    elapsed_seconds: float

    def to_dict(self) -> dict[str, object]:
        """One object for `--json`."""
        return asdict(self)


def load_example(
    engine: sa.Engine, example: Example, *, records: int = 2000, seed: int = 1
) -> Loaded:
    """Make an example's tables in the schema `public`, fill them, and prepare the move.

    Args:
        engine: Where; whatever else is in that database is left alone.
        example: Which.
        records: How many stock records beside those of the cases.
        seed: The same seed makes the same data.

    Raises:
        ExampleConflict: The database has tables of these names; nothing was changed.
        MigrationError: The database can not be reached or refuses a statement.
    """
    started = time.monotonic()
    try:
        with engine.begin() as connection:
            _load(connection, example, records, seed)
        if example.has("prepare.sql"):
            # The script begins and ends its own transaction, as it does for psql.
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                _run(connection, "SET search_path = public")
                _run(connection, example.text("prepare.sql"))
                _run(connection, "RESET search_path")
        with engine.begin() as connection:
            rows = _counted(connection, example.tables)
    except sa.exc.DBAPIError as error:
        raise explain(error, engine) from error
    elapsed = round(time.monotonic() - started, 3)
    return Loaded(example.name, rows, example.has("prepare.sql"), elapsed)


def _load(connection: sa.Connection, example: Example, records: int, seed: int) -> None:
    tables = example.tables
    _run(connection, _SETTINGS)
    taken = connection.scalars(_TAKEN, {"tables": tables}).all()
    if taken:
        raise ExampleConflict(example=example.name, tables=list(taken))
    chosen = {"records": str(records), "seed": str(seed)}
    connection.execute(
        sa.text(
            "SELECT set_config('example.records', :records, true), "
            "set_config('example.seed', :seed, true)"
        ),
        chosen,
    )
    _run(connection, functions())
    _run(connection, example.text("schema.sql"))
    _run(connection, example.text("data.sql"))
    # It would outlive the transaction in a session that is used again.
    _run(connection, "DROP FUNCTION pg_temp.draw(bigint, text)")


def _counted(connection: sa.Connection, tables: list[str]) -> dict[str, int]:
    """The rows of each table, of which the planner learns too."""
    _run(connection, f"ANALYZE {', '.join(quoted('public', table) for table in tables)}")
    counts = (
        sa.select(sa.func.count()).select_from(sa.table(table, schema="public")).scalar_subquery()
        for table in tables
    )
    return dict(zip(tables, map(int, connection.execute(sa.select(*counts)).one()), strict=True))


def _run(connection: sa.Connection, statements: str) -> None:
    connection.execute(sa.text(escaped(statements)))
