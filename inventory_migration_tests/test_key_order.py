"""Live rows that are sealed in the order of their keys have the seals that all others have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.engine import evidence, key_order, ledger, plan, staffing
from inventory_migration.engine.blocks import Block
from inventory_migration.mapping import StockMapping
from inventory_migration.report import facts, seal
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.one_server

SOURCE = {name: said for name, said in stage.DEFINITION["source"].items() if name != "skip"}
PLAIN = stage.mapping(source=SOURCE)
ALLOCATIONS = stage.mapping(
    source=SOURCE, target={"shape": "allocation_json", "column": "allocations", "add": True}
)
LEVELS = stage.mapping(source=SOURCE, target=stage.LEVELS)
BY_SKU = stage.mapping(source={**SOURCE, "key": ["sku"]})
BY_BOTH = stage.mapping(source={**SOURCE, "key": ["sku", "id"]})

KEYS = """
    ALTER TABLE stock_items ALTER sku SET NOT NULL, ALTER sku TYPE text COLLATE "C",
                            DROP CONSTRAINT stock_items_pkey;
    CREATE UNIQUE INDEX ON stock_items (sku, id);
    CREATE UNIQUE INDEX ON stock_items (sku);
    CREATE UNIQUE INDEX ON stock_items (id);
    UPDATE stock_items SET sku = lpad(id::text, 9, '0');
"""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let thirty records be many."""
    monkeypatch.setattr(evidence, "BLOCK_ROWS", 7)
    monkeypatch.setattr(key_order, "FEWEST_BLOCKS", 2)


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> list[list[Block] | None]:
    """What is found in the order of keys, each time that it is asked for."""
    found: list[list[Block] | None] = []
    asked = key_order.live_now

    def live_now(*arguments: Any, **options: Any) -> list[Block] | None:
        found.append(asked(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(key_order, "live_now", live_now)
    return found


def moved(database: Database, mapping: StockMapping) -> None:
    """A shop whose records have all moved, and of which a verdict was kept."""
    stage.shop(database)
    if mapping in (BY_SKU, BY_BOTH):
        database.psql(KEYS)
    # Room between any two keys.
    database.psql("UPDATE stock_items SET id = -id; UPDATE stock_items SET id = id * -2")
    stage.migrate(database, mapping)
    verbs.judge(verbs.open_target(database.url), mapping, "reconciliation_report")


def beside(database: Database, mapping: StockMapping) -> list[Block]:
    """The blocks as each row beside its snapshot tells them."""
    resolved = plan.read_mapping(database.engine, mapping)
    with database.engine.connect() as connection:
        migration = ledger.find(connection, migration_id=1)
        assert migration is not None
        sealed = evidence.blocks_of(connection, migration)
        return evidence.live_now(connection, resolved, migration, sealed)


def reported(database: Database, mapping: StockMapping) -> Sequence[Block]:
    """The blocks of a report."""
    found = facts.read(database.engine, mapping)
    assert found is not None
    assert found.live is not None
    assert found.facts["seal"]["live"]["sha256"] == seal.root_hash(found.live)
    return found.live


def told(blocks: Sequence[Block]) -> list[tuple[int, int, str, dict[int, bytes]]]:
    return [(block.first, block.last, block.sha256, block.each()) for block in blocks]


@pytest.mark.parametrize(
    "mapping", [PLAIN, ALLOCATIONS, BY_SKU, BY_BOTH], ids=["column", "allocations", "text", "two"]
)
def test_rows_in_the_order_of_keys_have_the_seals_of_rows_beside_their_snapshot(
    mapping: StockMapping, database: Database, spied: list[list[Block] | None]
) -> None:
    moved(database, mapping)
    found = told(reported(database, mapping))
    assert spied
    assert spied[0] is not None
    assert found == told(beside(database, mapping))
    assert [first for first, *_ in found] == [1, 8, 15, 22, 29]
    assert sum(len(rows) for *_, rows in found) == 30


@pytest.mark.parametrize(
    "written",
    [
        # As many as before, in the same block.
        "DELETE FROM stock_items WHERE id = 20; INSERT INTO stock_items VALUES (21, 1, 'new', 5)",
        "DELETE FROM stock_items WHERE id = 20",
        "UPDATE stock_items SET quantity = quantity + 1 WHERE id = 20",
    ],
)
def test_where_somebody_has_written_since_rows_are_put_beside_their_snapshot(
    written: str, database: Database, spied: list[list[Block] | None]
) -> None:
    moved(database, PLAIN)
    before = told(beside(database, PLAIN))
    database.psql(written)
    found = told(reported(database, PLAIN))
    assert found == told(beside(database, PLAIN))
    assert found != before
    assert not spied


def test_blocks_that_have_another_number_of_records_say_nothing(database: Database) -> None:
    moved(database, PLAIN)
    database.psql("DELETE FROM stock_items WHERE id = 20")
    assert in_key_order(database, PLAIN) is None


def test_who_waits_for_others_to_read_is_not_ended_for_being_idle(database: Database) -> None:
    moved(database, PLAIN)
    database.psql(f"ALTER DATABASE {database.name} SET idle_in_transaction_session_timeout = '9s'")
    database.engine.dispose()
    told: list[str] = []
    assert in_key_order(database, PLAIN, told) is not None
    assert told == ["9s", "0"]


@pytest.mark.parametrize("unfit", ["levels", "scattered", "few", "phases", "refused", "elsewhere"])
def test_what_no_index_finds_on_few_pages_is_read_in_another_way(
    unfit: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapping = LEVELS if unfit == "levels" else PLAIN
    moved(database, mapping)
    if unfit != "levels":
        assert in_key_order(database, mapping) is not None
    if unfit == "scattered":
        monkeypatch.setattr(key_order, "FEWEST_ON_PAGE", 8)
    elif unfit == "few":
        monkeypatch.setattr(key_order, "FEWEST_BLOCKS", 6)
    elif unfit == "refused":
        monkeypatch.setattr(staffing, "usual_workers", refused)
    elif unfit == "elsewhere":
        # Another of several servers has not exported it.
        another = key_order.Moment(database.engine, "0000000A-0000000B-1")
        monkeypatch.setattr(key_order, "moment_of", lambda *_: another)
    elif unfit == "phases":
        database.psql("INSERT INTO inventory_migration.phase (migration_id, number, name) "
                      "VALUES (1, 2, 'late')")  # fmt: skip
    assert in_key_order(database, mapping) is None


def refused(_reader: sa.Engine) -> int:
    raise sa.exc.OperationalError("", {}, psycopg.OperationalError("too many connections"))


def in_key_order(
    database: Database, mapping: StockMapping, idle: list[str] | None = None
) -> list[Block] | None:
    """What the order of keys tells, whoever has written; and how long `idle` may last around it."""
    resolved = plan.read_mapping(database.engine, mapping)
    reading = database.engine.connect().execution_options(isolation_level="REPEATABLE READ")
    with reading as connection:
        moment = key_order.moment_of(connection, database.engine)
        migration = ledger.find(connection, migration_id=1)
        assert migration is not None
        sealed = evidence.blocks_of(connection, migration)
        limit = sa.text("SELECT current_setting('idle_in_transaction_session_timeout')")
        limits = [connection.execute(limit).scalar_one()]
        found = key_order.live_now(connection, moment, resolved, migration, sealed)
        limits.append(connection.execute(limit).scalar_one())
        if idle is not None:
            idle += limits
        return found
