"""The picture of a migration says the numbers that its summary says, in every state."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inventory_migration import inquiries, verbs, watching
from inventory_migration.engine import control, rollback
from inventory_migration.errors import MigrationPaused, MigrationUnknown
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.one_server

ROOMY = stage.mapping(
    thresholds={"quarantined_percent": 100},
    phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}],
)


@pytest.fixture
def shop(database: Database) -> Database:
    stage.shop(database, companies=3, items=40)
    database.psql("""
        UPDATE stock_items SET quantity = NULL WHERE id IN (4, 6);
        UPDATE stock_items SET deleted_at = now() WHERE id = 9;
        UPDATE stock_items SET company_id = NULL WHERE id = 11;
    """)
    return database


def seen(target: verbs.Target, migration_id: int = 1) -> dict[str, Any]:
    """The picture, held against the summary."""
    found = watching.picture(target, migration_id)
    json.dumps(found)
    told = inquiries.last_summary(target, "shop")
    assert told["migration_id"] == migration_id
    records = {name: found["records"][name] for name in told["records"]}
    assert records == told["records"]
    assert found["records"]["undone"] == told["undone"]["records"]
    assert found["units"]["snapshot"] == told["units"]["before"]
    assert found["reserved"]["snapshot"] == told["reserved"]["before"]
    assert found["units"]["difference"] == "0"
    assert {q["rule"]: q["records"] for q in found["quarantine"]} == told["quarantined"]
    assert (found["state"], found["reason"]) == (told["state"], told["reason"])
    return found


def test_its_numbers_are_those_of_the_summary(shop: Database, target: verbs.Target) -> None:
    with pytest.raises(MigrationUnknown):
        watching.picture(target, 1)
    stage.locations(shop, ROOMY)
    assert seen(target)["stage"] == "preparing"
    with pytest.raises(MigrationPaused):
        stage.transform(shop, ROOMY, stop_after="pilot")
    paused = seen(target)
    assert paused["stage"] == "standing"
    assert 0 < paused["percent"] < 99
    stage.transform(shop, ROOMY, start=stage.Start(resume=True))
    assert seen(target)["percent"] == 99.0
    stage.close(shop, ROOMY)
    assert seen(target)["percent"] == 100.0
    with control.Claim(shop.engine) as claim:
        rollback.roll_back(shop.engine, ROOMY, claim)
    undone = seen(target)
    assert undone["stage"] == "finished"
    assert undone["records"]["undone"] > 0
    [listed] = watching.glance(target)
    assert listed["state"] == "rolled_back"
    assert listed["eta"] is None
    found = watching.companies(target, 1, search="company 2")
    assert [company["company_name"] for company in found["companies"]] == ["Company 2"]
