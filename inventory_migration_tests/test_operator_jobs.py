"""The jobs around a migration: what still works is tried, and records in quarantine try again."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.dagster_runs import execute, failure

pytestmark = [pytest.mark.slow, pytest.mark.one_server]

RECEIVE = {
    "sql": "UPDATE stock_items SET quantity = quantity + 5 WHERE id = :record",
    "expect": {"on_hand": 5},
}
SHIP = {
    "sql": "UPDATE stock_items SET quantity = quantity - 1 WHERE id = :record",
    "expect": {"on_hand": -2},
}
LOCATED = "SELECT count(*) FROM stock_items WHERE location_id IS NOT NULL"


def observed(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """Return the last observation's metadata as plain values."""
    (*_, seen) = [e for e in result.all_events if e.event_type_value == "ASSET_OBSERVATION"]
    observation = seen.event_specific_data.asset_observation
    assert observation.asset_key == dg.AssetKey(["shop", "transformed_stock"])
    return {name: found.value for name, found in observation.metadata.items()}


def accept(database: Database, operations: dict[str, Any], **options: Any) -> Any:
    """Run the job of a mapping with these operations."""
    mapping = stage.mapping(acceptance={"operations": operations})
    ops = {"acceptance_shop_now": {"config": options}} if options else {}
    return execute(database, "acceptance_shop", mapping=mapping, ops=ops)


def test_acceptance_needs_consent_and_fails_where_an_operation_does(database: Database) -> None:
    stage.shop(database)
    assert "nothing was ever migrated with shop" in failure(accept(database, {"receive": RECEIVE}))
    stage.migrate(database)
    before = database.psql("SELECT * FROM stock_items ORDER BY id")
    unasked = accept(database, {"receive": RECEIVE})
    assert "this executes 1 operations (receive)" in failure(unasked)
    assert "launch the job with 'yes: true'" in failure(unasked)
    kept = "SELECT count(*) FROM inventory_migration.event WHERE kind = 'acceptance'"
    assert database.psql(kept) == "0"

    passed = accept(database, {"receive": RECEIVE}, yes=True)
    assert passed.success
    assert observed(passed)["operations_failed"] == 0
    assert [row.data["result"] for row in observed(passed)["operations"].records] == ["ok"]

    failed = accept(database, {"receive": RECEIVE, "ship": SHIP}, yes=True)
    assert not failed.success
    assert "ship: on hand expected -2, observed -1" in failure(failed)
    assert observed(failed)["operations_failed"] == 1
    assert database.psql(kept) == "2"
    assert database.psql("SELECT * FROM stock_items ORDER BY id") == before


def test_records_in_quarantine_are_tried_again_by_their_rule(database: Database) -> None:
    stage.shop(database)
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id IN (7, 8)")
    lenient = stage.mapping(thresholds={"action": "continue"})
    stage.migrate(database, lenient)
    assert database.psql(LOCATED) == "28"
    database.psql("UPDATE stock_items SET quantity = 7 WHERE id = 7")

    def retry(**options: Any) -> dg.ExecuteInProcessResult:
        ops = {"retry_quarantine_shop_now": {"config": options}}
        return execute(database, "retry_quarantine_shop", mapping=lenient, ops=ops)

    for options in ({}, {"rule": "quantity_missing", "everything": True}):
        assert "say which records to try again in the configuration" in failure(retry(**options))
    assert "there is no rule quantity_mising" in failure(retry(rule="quantity_mising"))
    assert database.psql(LOCATED) == "28"

    done = retry(rule="quantity_missing")
    assert done.success
    seen = observed(done)
    assert (seen["retried"], seen["retried_migrated"], seen["retried_quarantined"]) == (2, 1, 1)
    assert database.psql(LOCATED) == "29"
    runs = "SELECT run_ids[1] FROM inventory_migration.migration ORDER BY migration_id DESC LIMIT 1"
    assert database.psql(runs) == done.run_id
