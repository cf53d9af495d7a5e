"""What the gate of what moved reads of live rows alone, and when it looks at the snapshot again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import as_compared, ledger, plan, proof
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database, made_database

pytestmark = pytest.mark.one_server

SOURCE = {name: said for name, said in stage.DEFINITION["source"].items() if name != "skip"}
PLAIN = stage.mapping(source=SOURCE)
"""What decides about a record stands in columns: the rows' own transactions tell of all of it."""

ALLOCATIONS = stage.mapping(
    source=SOURCE, target={"shape": "allocation_json", "column": "allocations", "add": True}
)
COLUMNS = (
    "key_text, company_key, outcome, rule, location_key::text, location_found, location_own, "
    "quantity_before, quantity, reserved_before, reserved"
)


@pytest.fixture(scope="module")
def moved(server: EmbeddedServer) -> Iterator[Database]:
    """A shop whose records have all moved and been compared."""
    with made_database(server) as database:
        stage.shop(database)
        stage.migrate(database, PLAIN)
        yield database


def short_way(connection: sa.Connection, database: Database, mapping: StockMapping) -> str | None:
    """The relation that the gate is held against first."""
    resolved = plan.read_mapping(database.engine, mapping)
    migration = ledger.find(connection, migration_id=1)
    assert migration is not None
    return as_compared.moved(connection, resolved, migration)


@pytest.mark.parametrize("mapping", [PLAIN, ALLOCATIONS], ids=["column", "allocations"])
def test_rows_alone_say_what_snapshot_and_table_say_together(
    mapping: StockMapping, database: Database
) -> None:
    stage.shop(database)
    stage.migrate(database, mapping)
    resolved = plan.read_mapping(database.engine, mapping)
    with database.engine.connect() as connection:
        short = short_way(connection, database, mapping)
        assert short is not None
        migration = ledger.find(connection, migration_id=1)
        whole = proof.moved(connection, resolved, migration)

        def rows(relation: str) -> list[Any]:
            query = f"SELECT {COLUMNS} FROM ({relation}) AS m ORDER BY 1"
            return [*connection.exec_driver_sql(query.replace("%", "%%"))]

        assert rows(short) == rows(whole)
        assert len(rows(short)) == 30


@pytest.mark.parametrize(
    "written",
    [
        "UPDATE stock_items SET quantity = quantity - 1 WHERE id = 3",
        "DELETE FROM stock_items WHERE id = 3",
        "INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'new', 5)",
        "UPDATE locations SET name = name WHERE company_id = 1",
        "UPDATE inventory_migration.snapshot_1 SET quantity = 9 WHERE position = 1",
        "DELETE FROM inventory_migration.snapshot_1 WHERE position = 2",
        "UPDATE inventory_migration.chunk SET xid = '1' WHERE number = 1",
    ],
)
def test_whoever_writes_anything_has_snapshot_and_table_judged_together(
    moved: Database, written: str
) -> None:
    with moved.engine.connect() as connection:
        assert short_way(connection, moved, PLAIN) is not None
        connection.execute(sa.text(written))
        assert short_way(connection, moved, PLAIN) is None
        connection.rollback()


def test_where_a_record_was_put_aside_rows_alone_do_not_tell(database: Database) -> None:
    stage.shop(database)
    database.psql(
        "UPDATE stock_items SET company_id = NULL WHERE id = 3",
    )
    stage.migrate(database, PLAIN)
    with database.engine.connect() as connection:
        assert short_way(connection, database, PLAIN) is None
    assert verbs.judge(verbs.open_target(database.url), PLAIN, "transformed_stock").passed


def test_what_is_wrong_by_the_short_way_is_looked_at_in_full(
    moved: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = verbs.open_target(moved.url)
    whole = verbs.judge(target, PLAIN, "transformed_stock", keep=False)
    assert verbs.judge(target, PLAIN, "transformed_stock").to_json() == whole.to_json()
    told = as_compared.moved

    def wrong(*arguments: Any) -> str:
        return f"SELECT * FROM ({told(*arguments)}) AS m WHERE key_text <> '3'"

    monkeypatch.setattr(as_compared, "moved", wrong)
    assert verbs.judge(target, PLAIN, "transformed_stock").to_json() == whole.to_json()


def test_a_snapshot_that_is_changed_before_the_gate_is_refused(database: Database) -> None:
    stage.shop(database)
    stage.migrate(database, PLAIN)
    database.psql("UPDATE inventory_migration.snapshot_1 SET quantity = 9")
    found = verbs.judge(verbs.open_target(database.url), PLAIN, "transformed_stock")
    assert [one.key for one in found.failed] == ["totals-unchanged"]
