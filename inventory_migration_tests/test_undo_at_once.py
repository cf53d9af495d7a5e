"""Taking chunks back in one statement: what it may take, and what it leaves for a closer look."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from inventory_migration.engine import control, ledger, plan
from inventory_migration.engine.undo_statements import UndoStatements
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.sessions import until, waiters
from inventory_migration_tests.test_rollback import undo

CHUNK = "SELECT state, undone_records, kept_records FROM inventory_migration.chunk"
CONFLICTS = "SELECT key_text, kind, found FROM inventory_migration.conflict ORDER BY position"


def statements_of(database: Database, mapping: stage.StockMapping) -> UndoStatements:
    """The statements of the first migration, whose chunks are all to be undone."""
    with database.engine.begin() as connection:
        resolved = plan.resolve(connection, mapping)
        migration = ledger.find(connection, migration_id=1)
        control.desire(connection, 1, "rollback")
    assert migration is not None
    return UndoStatements(resolved, migration)


@pytest.mark.parametrize(
    ("target", "table", "changes", "left"),
    [
        (
            {"shape": "location_column", "column": "location_id", "add": True},
            "stock_items",
            (
                "UPDATE stock_items SET location_id = 2 WHERE id = 3",
                "UPDATE stock_items SET quantity = 99 WHERE id = 4",
                "DELETE FROM stock_items WHERE id = 5",
            ),
            ("undone|3|1", "3|moved_since|2\n4|touched_since|1", "3|3|2\n4|99|"),
        ),
        (
            stage.LEVELS,
            "levels",
            (
                "UPDATE levels SET on_hand = 1 WHERE item_id = 3",
                "UPDATE levels SET item_id = 4 WHERE item_id = 4",
                "DELETE FROM levels WHERE item_id = 5",
            ),
            (
                "undone|3|1",
                "3|moved_since|location 1, on_hand 1, reserved 0\n"
                "4|touched_since|location 1, on_hand 4, reserved 1",
                "3|1|1",
            ),
        ),
    ],
    ids=["location_column", "stock_level"],
)
def test_what_changes_while_the_statement_waits_is_looked_at_once_it_is_locked(
    database: Database,
    target: dict[str, Any],
    table: str,
    changes: tuple[str, ...],
    left: tuple[str, str, str],
) -> None:
    mapping = stage.mapping(target=target)
    stage.shop(database, companies=1, items=5)
    stage.migrate(database, mapping)
    database.psql("INSERT INTO locations (company_id, name) VALUES (1, 'Shelf')")
    statements = statements_of(database, mapping)

    def work() -> list[int]:
        with database.engine.begin() as connection:
            connection.execute(sa.text("SET LOCAL lock_timeout = '60s'"))
            return statements.undo_chunks(connection, [1])

    with psycopg.connect(database.url) as session, ThreadPoolExecutor(1) as pool:
        for change in changes:
            session.execute(change)
        undoing = pool.submit(work)
        until(lambda: waiters(database) == 1, "the walker at the application's lock")
        session.commit()
        assert undoing.result(60) == []
    key, *held = ("id", "quantity") if table == "stock_items" else ("item_id", "on_hand")
    kept = f"SELECT {key}, {held[0]}, location_id FROM {table} WHERE {key} IN (3, 4) ORDER BY 1"
    found = (database.psql(CHUNK), database.psql(CONFLICTS), database.psql(kept))
    assert found == left


@pytest.mark.one_server
def test_what_nobody_has_touched_is_neither_locked_nor_read_before(database: Database) -> None:
    stage.shop(database, items=60)
    stage.migrate(database)
    database.psql("UPDATE stock_items SET quantity = 99 WHERE id = 60")
    said: list[str] = []

    def listen(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    sa.event.listen(database.engine, "before_cursor_execute", listen)
    undo(database, workers=1)
    locks = [one for one in said if "FOR NO KEY UPDATE OF s" in one]
    # Of 12 chunks, the newest alone has a record that somebody has written since.
    assert len(locks) == 1
    assert sum("WITH mine AS" in one for one in said) == 3 + 2
    assert database.psql("SELECT count(location_id), max(quantity) FROM stock_items") == "0|99"
