"""The observer sees what it is there for: each invariant is broken on purpose once."""

from __future__ import annotations

import pytest

from inventory_migration_tests import stage
from inventory_migration_tests.chaos.invariants import Observer
from inventory_migration_tests.chaos.shops import SHOPS
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.chaos

SHOP = SHOPS["location_column"]

BROKEN = {
    "a unit too much": (
        "UPDATE stock_items SET quantity = quantity + 1 WHERE id = 1",
        "records, units and reserved of the application differ",
    ),
    "a stranger's location": (
        "UPDATE stock_items SET location_id = l.id FROM locations l "
        "WHERE stock_items.id = 1 AND l.company_id = 2",
        "a record is at two locations, at a stranger's",
    ),
    "a record without its location": (
        "UPDATE stock_items SET location_id = NULL WHERE id = 1",
        "a record is in no state, or in more than one",
    ),
    "a record with two outcomes": (
        "INSERT INTO inventory_migration.outcome (migration_id, position, chunk, key_text, outcome)"
        " SELECT 1, position, chunk, '1', 'skipped' FROM inventory_migration.snapshot_1 "
        "WHERE key_1 = 1",
        "a record is in no state, or in more than one",
    ),
    "wrong totals": (
        "UPDATE inventory_migration.chunk SET units_after = units_after + 1 WHERE number = 1",
        "a done chunk's totals do not match the tables",
    ),
    "verified too early": (
        "UPDATE inventory_migration.chunk SET state = 'pending' WHERE number = 1",
        "a state that the chunks do not bear out",
    ),
    "a record that was planned and is gone from the plan": (
        "DELETE FROM inventory_migration.snapshot_1 WHERE key_1 = 1",
        "snapshot, chunks and records do not cover each other",
    ),
}


@pytest.mark.parametrize(("harm", "said"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_told(database: Database, harm: str, said: str) -> None:
    database.psql(SHOP.sql)
    assert stage.migrate(database, SHOP.mapping).proof.passed
    found: list[str] = []
    observer = Observer(database.url, SHOP, found.append)
    observer.look()
    assert found == []
    # Past the ledger's own triggers, as no engine could.
    database.psql(f"SET session_replication_role = replica; {harm}")
    observer.look()
    observer.close()
    assert [sentence for sentence in found if sentence.startswith(said)]


def test_what_commits_after_a_pause_is_told(database: Database) -> None:
    database.psql(SHOP.sql)
    stage.locations(database, SHOP.mapping)
    found: list[str] = []
    observer = Observer(database.url, SHOP, found.append)
    observer.pause_returned()
    observer.look()
    assert found == []
    database.psql("UPDATE stock_items SET updated_at = now() WHERE id = 1")
    observer.look()
    observer.close()
    assert found == ["something was committed after pause had returned"]
