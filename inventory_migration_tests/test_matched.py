"""Whether snapshot and table are the same, told by sums: whatever is otherwise has to show."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from inventory_migration.database import escaped
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import ledger, matched, plan, tally
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database, made_database

pytestmark = pytest.mark.one_server

COLUMN = stage.mapping()
ALLOCATIONS = stage.mapping(
    target={"shape": "allocation_json", "column": "allocations", "add": True}
)

ODD = """
    INSERT INTO stock_items (company_id, sku, quantity, reserved, deleted_at) VALUES
        (1, 'negative', -4, 0, NULL), (2, 'deleted', 7, 1, now()), (NULL, 'nobody''s', 9, 0, NULL),
        (3, 'unknown', NULL, 2, NULL)
"""
"""Records that are put aside, by a rule or by what the mapping skips."""

STRICT = {"rules": {"negative_quantity": "quarantine", "company_missing": "quarantine"}}


def migrated(server: EmbeddedServer, mapping: StockMapping) -> Iterator[Database]:
    """A shop with odd records, whose stock has moved."""
    with made_database(server) as database:
        stage.shop(database)
        database.psql(ODD)
        stage.migrate(database, mapping)
        yield database


@pytest.fixture(scope="module")
def column(server: EmbeddedServer) -> Iterator[Database]:
    """Its records have a location each."""
    yield from migrated(server, stage.mapping(**STRICT))


@pytest.fixture(scope="module")
def allocations(server: EmbeddedServer) -> Iterator[Database]:
    """Its records have allocations."""
    yield from migrated(server, stage.mapping(target=ALLOCATIONS.target, **STRICT))


def odd(database: Database, *written: str, mapping: StockMapping = COLUMN) -> dict[str | None, int]:
    """How many records of each company may be otherwise, after something that is taken back."""
    mapping = stage.mapping(target=mapping.target, **STRICT)
    resolved = plan.read_mapping(database.engine, mapping)
    with database.engine.connect() as connection:
        for statement in written:
            connection.execute(sa.text(statement))
        migration = ledger.find(connection, migration_id=1)
        assert migration is not None
        assert matched.is_possible(connection, resolved, migration)
        rows = connection.execute(sa.text(escaped(matched.by_company(resolved, migration)))).all()
        connection.rollback()
    return {row.company_key: row.odd for row in rows}


NONE = {"1": 0, "2": 0, "3": 0, None: 0}

OURS = """
    UPDATE inventory_migration.chunk SET xid = pg_current_xact_id()::xid::text
    WHERE number = (SELECT chunk FROM inventory_migration.snapshot_1 WHERE key_1 = 3)
"""
"""As the transaction of that chunk was this one: rows that it writes are as it wrote them."""

AGAIN = """
    UPDATE stock_items AS s SET sku = sku FROM inventory_migration.snapshot_1 AS p
    JOIN inventory_migration.chunk AS k ON k.number = p.chunk
    WHERE p.key_1 = s.id AND k.xid = pg_current_xact_id()::xid::text
"""
"""Its rows are written by it."""


@pytest.mark.parametrize("mapping", [COLUMN, ALLOCATIONS], ids=["column", "allocations"])
def test_where_all_is_as_it_was_planned_nothing_is_odd_and_what_was_put_aside_neither(
    column: Database, allocations: Database, mapping: StockMapping
) -> None:
    database = column if mapping is COLUMN else allocations
    assert odd(database, mapping=mapping) == NONE
    assert database.psql("SELECT count(*) FROM inventory_migration.outcome") == "4"


@pytest.mark.parametrize(
    "written",
    [
        ["DELETE FROM stock_items WHERE id = 3"],
        ["INSERT INTO stock_items (company_id, sku, quantity) VALUES (3, 'new', 0)"],
        ["UPDATE stock_items SET sku = sku WHERE id = 3"],
        ["UPDATE stock_items SET quantity = quantity + 1 WHERE id = 3"],
        ["UPDATE stock_items SET location_id = NULL WHERE id = 3"],
        ["UPDATE stock_items SET company_id = 1 WHERE id = 3"],
        ["UPDATE locations SET company_id = 1, is_default = false WHERE company_id = 3"],
        ["UPDATE inventory_migration.chunk SET state = 'undone' WHERE number = 1"],
        [
            "INSERT INTO inventory_migration.chunk "
            "(migration_id, number, phase, records, state, xid) "
            "SELECT 1, 99, 1, 0, 'done', xid FROM inventory_migration.chunk WHERE number = 1",
            "UPDATE inventory_migration.chunk SET xid = '3' WHERE number = 1",
        ],
        ["UPDATE inventory_migration.snapshot_1 SET item_key = 'x' WHERE key_1 = 3"],
        [
            "UPDATE inventory_migration.snapshot_1 SET quantity = 9 - quantity "
            "WHERE key_1 IN (3, 6)"
        ],
        [
            "UPDATE inventory_migration.snapshot_1 SET reserved = 1 - reserved "
            "WHERE key_1 IN (3, 6)"
        ],
        ["UPDATE inventory_migration.snapshot_1 SET row_hash = row_hash + 1 WHERE key_1 = 3"],
        ["DELETE FROM inventory_migration.snapshot_1 WHERE key_1 = 3"],
        [
            "INSERT INTO inventory_migration.outcome (migration_id, position, chunk, key_text, "
            "outcome) VALUES (1, 3, 1, '3', 'skipped')"
        ],
        [
            "UPDATE inventory_migration.outcome SET outcome = 'already' "
            "WHERE key_text = '34'"
        ],
        ["DELETE FROM inventory_migration.outcome WHERE key_text = '34'"],
        [
            "UPDATE stock_items SET location_id = (SELECT id FROM locations WHERE company_id = 3) "
            "WHERE id = 34"
        ],
        ["UPDATE stock_items SET reserved = 3 WHERE id = 34"],
    ],
    ids=lambda written: " ".join(written)[:60],
)  # fmt: skip
def test_whatever_is_otherwise_shows_in_the_company_that_it_concerns(
    column: Database, written: list[str]
) -> None:
    assert odd(column, *written)["3"] > 0


def test_a_row_that_its_chunk_has_put_elsewhere_shows(column: Database) -> None:
    assert odd(column, OURS, AGAIN) == NONE
    elsewhere = (
        "UPDATE stock_items SET location_id = (SELECT id FROM locations WHERE company_id = 1) "
        "WHERE id = 3"
    )
    assert odd(column, OURS, AGAIN, elsewhere) == {**NONE, "3": 11}


def test_rows_that_change_places_in_one_column_show_though_no_sum_is_another(
    column: Database,
) -> None:
    exchanged = "UPDATE stock_items SET sku = 'SKU-' || 5 - id WHERE id IN (1, 4)"
    assert odd(column, OURS, AGAIN, exchanged) == {**NONE, "1": 11}


def test_an_allocation_that_says_something_else_shows(allocations: Database) -> None:
    assert odd(allocations, OURS, AGAIN, mapping=ALLOCATIONS) == NONE
    more = (
        "UPDATE stock_items SET allocations = replace(allocations::text, '\"allocated\": 3', "
        "'\"allocated\": 4')::jsonb WHERE id = 3"
    )
    assert odd(allocations, OURS, AGAIN, more, mapping=ALLOCATIONS)["3"] > 0


def test_rows_do_not_tell_where_records_were_changed_or_are_of_several_migrations(
    database: Database,
) -> None:
    stage.shop(database)
    stage.migrate(database)
    resolved = plan.read_mapping(database.engine, stage.MAPPING)

    def possible(migration_id: int) -> bool:
        with database.engine.connect() as connection:
            migration = ledger.find(connection, migration_id=migration_id)
            assert migration is not None
            return matched.is_possible(connection, resolved, migration)

    assert possible(1)
    database.psql(
        "INSERT INTO inventory_migration.after_image (migration_id, position, location_key) "
        "VALUES (1, 3, '3')"
    )
    assert not possible(1)
    database.psql(
        "DELETE FROM inventory_migration.after_image; "
        "INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'new', 5)"
    )
    assert possible(1)
    stage.migrate(database)
    assert not possible(2)


def test_a_tally_of_sums_is_that_of_records_put_beside_their_rows(column: Database) -> None:
    mapping = stage.mapping(**STRICT)
    resolved = plan.read_mapping(column.engine, mapping)
    with column.engine.connect() as connection:
        migration = ledger.find(connection, migration_id=1)
        assert migration is not None
        by_sums = tally.tally(connection, resolved, migration)
        beside = tally._added_up(
            connection, tally._query(connection, resolved, migration, odd=True)
        ).tally
    assert by_sums == beside
    assert by_sums.compared == 34
