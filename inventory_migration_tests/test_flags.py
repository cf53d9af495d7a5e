"""A flag that nothing maps stays behind with the record, and is told before anything moves."""

from __future__ import annotations

from typing import Any

import pytest

from inventory_migration import verbs
from inventory_migration.engine import flags, plan
from inventory_migration.engine.flags import Flag
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.commands import im, mapping_file
from inventory_migration_tests.conftest import Database

TARGET: dict[str, Any] = {
    "shape": "stock_level",
    "table": "levels",
    "record": {"item_id": "id"},
    "location": "location_id",
    "on_hand": "on_hand",
    "add": True,
}


def mapping(**changes: Any) -> StockMapping:
    return stage.mapping(**{"target": TARGET, **changes})


@pytest.fixture
def shop(database: Database) -> Database:
    """Flags of every kind; of three records one is sold without stock, one is skipped as well."""
    stage.shop(database, companies=1, items=3)
    database.psql(
        """
        CREATE TYPE policy AS ENUM ('deny', 'allow');
        CREATE DOMAIN flag AS boolean;
        ALTER TABLE stock_items
            ADD backorderable boolean NOT NULL DEFAULT false,
            ADD "track; inventory" boolean DEFAULT true,
            ADD active flag, ADD on_demand policy, ADD shown boolean DEFAULT true,
            ADD always boolean GENERATED ALWAYS AS (true) STORED;
        UPDATE stock_items SET backorderable = true, "track; inventory" = NULL, active = true,
                               on_demand = 'allow' WHERE id = 2;
        UPDATE stock_items SET backorderable = true, deleted_at = now() WHERE id = 3;
        UPDATE stock_items SET on_demand = 'deny', active = false WHERE id = 1;
        """
    )
    return database


def found(database: Database, asked: StockMapping) -> list[Flag]:
    with database.engine.connect() as connection:
        return flags.unmapped(connection, plan.resolve(connection, asked))


def test_each_flag_with_other_values_than_its_default_is_listed(shop: Database) -> None:
    assert found(shop, mapping()) == [
        Flag("backorderable", "false", 1, "2"),
        Flag("track; inventory", "true", 1, "2"),
        Flag("active", "false", 1, "2"),
        Flag("on_demand", "'deny'", 1, "2"),
    ]


def test_a_flag_that_says_the_usual_is_not_told(database: Database) -> None:
    stage.shop(database)
    database.psql("ALTER TABLE stock_items ADD backorderable boolean NOT NULL DEFAULT true")
    assert found(database, mapping()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"source": {**stage.DEFINITION["source"], "skip": {"odd": {"sql": "s.backorderable"}}}},
        {"rules": {"odd": {"when": {"sql": "s.backorderable"}, "do": "warn"}}},
        {"target": {**TARGET, "add": False, "table": "places", "values": {
            "sold": {"sql": "s.backorderable"}}}},
    ],
    ids=["skip", "rule", "value"],
)  # fmt: skip
def test_a_flag_that_the_mapping_names_is_mapped(shop: Database, changes: dict[str, Any]) -> None:
    shop.psql("CREATE TABLE places (item_id bigint, location_id bigint, on_hand numeric, "
              "sold boolean, PRIMARY KEY (item_id, location_id))")  # fmt: skip
    told = [flag.column for flag in found(shop, mapping(**changes))]
    assert "backorderable" not in told
    # A record that is skipped takes its other flags with it.
    assert ("active" in told) is ("source" not in changes)


def test_a_record_that_keeps_its_row_loses_no_flag(shop: Database) -> None:
    assert found(shop, stage.MAPPING) == []


def test_test_tells_of_them(shop: Database, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told = verbs.test(verbs.open_target(shop.url), mapping())["unmapped_flags"]
    assert told[0] == {"column": "backorderable", "usual": "false", "records": 1, "such_as": "2"}
    monkeypatch.setenv("INVENTORY_DATABASE_URL", shop.url)
    shown = im("test", "--mapping", mapping_file(tmp_path, target=TARGET)).stdout
    assert "1 record has another backorderable than false (such as 2)" in " ".join(shown.split())
    assert "Issues in the data:" in shown
