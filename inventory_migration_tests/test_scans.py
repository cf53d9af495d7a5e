"""How whole tables are read right after all of their rows were written."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from inventory_migration.database import connection_parameters
from inventory_migration.engine import scans
from inventory_migration.quality.session import opened_session
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.one_server

ALLOWED = "SHOW enable_indexonlyscan"


def test_an_index_alone_is_not_asked_for_rows_that_may_just_have_been_written(
    database: Database,
) -> None:
    database.psql("CREATE TABLE written AS SELECT generate_series(1, 999) AS n")
    database.psql("CREATE INDEX ON written (n)")
    database.psql("VACUUM (FREEZE, ANALYZE) written")
    with database.engine.connect() as connection:
        connection.execute(sa.text("SET LOCAL enable_seqscan = off"))

        def plan() -> str:
            explained = connection.execute(sa.text("EXPLAIN SELECT count(*) FROM written"))
            return "\n".join(explained.scalars())

        assert "Index Only Scan" in plan()
        scans.with_room(connection)
        assert "Index Only Scan" not in plan()
        connection.rollback()
        assert connection.execute(sa.text(ALLOWED)).scalar_one() == "on"


def test_no_more_does_a_suite_ask_it(database: Database) -> None:
    with opened_session(connection_parameters(database.url), None) as session:
        assert session.rows(ALLOWED) == [("off",)]
