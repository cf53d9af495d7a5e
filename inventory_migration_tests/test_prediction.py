"""What a run would do is what the run that follows does, and asking writes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from inventory_migration.catalog import resolve
from inventory_migration.database import create_engine
from inventory_migration.demo import create_demo
from inventory_migration.engine import ledger, prediction, summary
from inventory_migration.engine.summary import OUTCOMES
from inventory_migration.mapping import StockMapping, named_mapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.stage import DEFINITION, mapping

pytestmark = pytest.mark.one_server

SAME = (
    "mapping", "companies", "locations_created", "quarantined", "warnings", "units", "reserved",
    "available", "changed",
)  # fmt: skip


def predict(database: Database, mapping: StockMapping) -> dict[str, Any]:
    """A prediction, in a transaction that cannot write."""
    reader = create_engine(database.url, read_only=True)
    with reader.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        return prediction.predict(connection, resolve(connection, mapping))


def run(database: Database, mapping: StockMapping) -> dict[str, Any]:
    """What a run says in the end."""
    closed = stage.migrate(database, mapping)
    assert closed.proof.passed
    with database.engine.connect() as connection:
        found = ledger.find(connection, mapping=mapping.name)
        return summary.summarize(connection, found, mapping=mapping.name, changed=closed.changed)


def agree(predicted: dict[str, Any], done: dict[str, Any]) -> None:
    """The numbers of a prediction are those of the run that followed."""
    assert {name: predicted[name] for name in SAME} == {name: done[name] for name in SAME}
    assert predicted["records"] == {
        name: count for name, count in done["records"].items() if name != "pending"
    }


def tolerant(mapping: StockMapping) -> StockMapping:
    """The mapping, with no limit to what may be put aside."""
    limits = mapping.thresholds.model_copy(update={"action": "continue"})
    return mapping.model_copy(update={"thresholds": limits})


RULES = {
    "default": {},
    "strict": {
        "negative_quantity": "quarantine",
        "reserved_exceeds_quantity": "quarantine",
        "item_duplicate": "quarantine",
    },
}


@pytest.mark.parametrize("rules", RULES)
def test_the_prediction_of_a_dirty_inventory_is_what_the_run_does(
    database: Database, rules: str
) -> None:
    create_demo(database.engine, items=2000, dirty=0.05)
    shipped = tolerant(named_mapping("stock_items"))
    chosen = shipped.model_copy(update={"rules": shipped.rules.model_copy(update=RULES[rules])})
    predicted = predict(database, chosen)
    assert predicted["state"] == "predicted"
    assert predicted["changed"] is True
    assert predicted["quarantined"]
    assert predicted["skipped"]["deleted"] == predicted["records"]["skipped"] > 0
    assert sum(predicted["records"][name] for name in OUTCOMES) == 2000
    agree(predicted, run(database, chosen))

    again = predict(database, chosen)
    assert again["changed"] is False
    assert again["records"] == {"snapshot": 0, **dict.fromkeys(OUTCOMES, 0)}
    assert stage.migrate(database, chosen).changed is False


def test_asking_writes_nothing_not_even_a_ledger(database: Database) -> None:
    stage.shop(database)
    before = database.psql("SELECT count(*) FROM pg_class")
    predict(database, stage.MAPPING)
    assert database.psql("SELECT count(*) FROM pg_class") == before
    with database.engine.connect() as connection:
        assert not ledger.installed(connection)


def test_the_prediction_of_a_later_run_is_of_what_is_new(database: Database) -> None:
    stage.shop(database, items=12)
    database.psql("UPDATE stock_items SET sku = 'twice' WHERE id IN (1, 4)")
    careful = mapping(thresholds={"action": "continue"})
    agree(predict(database, careful), run(database, careful))
    database.psql(
        """
        INSERT INTO companies (name) VALUES ('Fourth');
        INSERT INTO stock_items (company_id, sku, quantity, reserved)
        VALUES (1, 'twice', 5, 1), (2, 'pair', -7, 0), (2, 'pair', 7, 9), (9, 'x', 3, 0),
               (4, 'y', NULL, 0);
        INSERT INTO stock_items (company_id, sku, quantity, reserved, deleted_at)
        VALUES (1, 'twice', -5, 1, now()), (1, 'old', 5, 9, now());
        """
    )
    predicted = predict(database, careful)
    assert predicted["records"]["snapshot"] == 7
    assert predicted["locations_created"] == 1
    assert predicted["companies_without_default_location"] == ["Fourth"]
    assert predicted["warnings"] == {
        "item_duplicate": 2,
        "negative_quantity": 1,
        "reserved_exceeds_quantity": 1,
    }
    agree(predicted, run(database, careful))


@pytest.mark.parametrize("items", [0, 6])
def test_a_first_run_changes_something_even_where_nothing_is_to_be_moved(
    database: Database, items: int
) -> None:
    stage.shop(database, items=items)
    database.psql("UPDATE stock_items SET deleted_at = now()")
    predicted = predict(database, stage.MAPPING)
    assert predicted["records"]["migrated"] == 0
    agree(predicted, run(database, stage.MAPPING))


def test_of_a_net_quantity_all_is_available(database: Database) -> None:
    stage.shop(database, items=12)
    database.psql("UPDATE stock_items SET reserved = 500 WHERE id = 3")
    net = mapping(quantity_basis="net")
    predicted = predict(database, net)
    assert predicted["available"] == predicted["units"]
    assert predicted["warnings"] == {}
    agree(predicted, run(database, net))


def test_units_are_exact_beyond_the_digits_that_a_float_or_a_decimal_keeps(
    database: Database,
) -> None:
    stage.shop(database, items=2)
    database.psql(
        """
        ALTER TABLE stock_items ALTER quantity TYPE numeric, ALTER reserved TYPE numeric;
        UPDATE stock_items SET quantity = 2e37 + 1, reserved = 1e-20;
        """
    )
    predicted = predict(database, stage.MAPPING)
    units = "40000000000000000000000000000000000002"
    assert predicted["units"] == {"before": units, "after": units}
    left = f"{units[:-1]}1.99999999999999999998"
    assert predicted["available"] == {"before": left, "after": left}
    agree(predicted, run(database, stage.MAPPING))


def test_units_are_exact_decimals_whatever_they_are_kept_as(database: Database) -> None:
    stage.shop(database, items=4)
    database.psql(
        """
        ALTER TABLE stock_items ALTER quantity TYPE text, ALTER reserved TYPE real;
        UPDATE stock_items SET quantity = (ARRAY[' 0.10', '1e3', '#REF!', '7.2500'])[id],
                               reserved = (ARRAY[0.1, 0.2, 0.3, 0])[id];
        """
    )
    exact = mapping(thresholds={"action": "continue"})
    predicted = predict(database, exact)
    assert predicted["units"] == {"before": "1007.35", "after": "1007.35"}
    assert predicted["reserved"] == {"before": "0.6", "after": "0.6"}
    assert predicted["available"] == {"before": "1006.75", "after": "1006.75"}
    assert predicted["quarantined"] == {"quantity_not_a_number": 1}
    agree(predicted, run(database, exact))


def test_each_company_is_told_with_its_records_and_outcomes(database: Database) -> None:
    stage.shop(database, companies=3, items=5)
    database.psql(
        "INSERT INTO companies (name) VALUES ('Idle'); "
        "UPDATE stock_items SET quantity = NULL WHERE id = 1; "
        "UPDATE stock_items SET deleted_at = now() WHERE id = 2"
    )
    told = predict(database, stage.MAPPING)["by_company"]
    assert [
        (row["company_name"], row["records"], row["migrated"], row["quarantined"], row["skipped"])
        for row in told
    ] == [
        ("Company 1", 2, 1, 1, 0),
        ("Company 2", 2, 1, 0, 1),
        ("Company 3", 1, 1, 0, 0),
        ("Idle", 0, 0, 0, 0),
    ]
    assert {row["default_locations"] for row in told} == {0}


def test_companies_that_lack_a_location_are_told_though_none_may_be_created(
    database: Database,
) -> None:
    stage.shop(database, companies=2)
    database.psql(
        "CREATE TABLE locations (id bigint PRIMARY KEY, company_id bigint, is_default boolean); "
        "INSERT INTO locations VALUES (7, 2, true)"
    )
    adopting = mapping(locations={**DEFINITION["locations"], "create": None})
    predicted = predict(database, adopting)
    assert predicted["companies_without_default_location"] == ["Company 1"]
    assert predicted["locations_created"] == 0


def test_what_every_write_sets_off_is_told(database: Database) -> None:
    stage.shop(database)
    database.psql(
        """
        CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.updated_at := now(); RETURN NEW; END';
        CREATE TRIGGER stamp BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION stamp();
        CREATE PUBLICATION everything FOR TABLE stock_items;
        """
    )
    fires = predict(database, mapping(touch={"deleted_at": None}))["fires"]
    assert [trigger["name"] for trigger in fires["triggers"]] == ["stamp"]
    assert fires["triggers"][0]["columns_changed"] == ["updated_at"]
    assert fires["publications"] == ["everything"]
    assert fires["columns_written"] == ["location_id", "deleted_at"]
    assert fires["unique_keys_written"] == []


def test_a_unique_key_that_a_write_changes_is_named(database: Database) -> None:
    stage.shop(database)
    database.psql(
        "CREATE UNIQUE INDEX ON stock_items (sku, deleted_at);"
        "CREATE UNIQUE INDEX ON stock_items (company_id, deleted_at) WHERE id > 5"
    )
    fires = predict(database, mapping(touch={"deleted_at": None}))["fires"]
    assert fires["unique_keys_written"] == [["sku", "deleted_at"]]


def test_the_time_is_estimated_from_what_this_database_has_shown(database: Database) -> None:
    stage.shop(database, items=100)
    first = predict(database, stage.MAPPING)
    assert first["elapsed_seconds"] == round(100 / prediction.RECORDS_PER_SECOND, 1)
    stage.migrate(database)
    database.psql(
        """
        UPDATE inventory_migration.chunk SET started_at = now(), finished_at = now() + '10 s';
        INSERT INTO stock_items (company_id, quantity) SELECT 1, 1 FROM generate_series(1, 50);
        """
    )
    assert predict(database, stage.MAPPING)["elapsed_seconds"] == pytest.approx(5.0)


def test_the_rules_of_a_moment_are_those_of_one_moment(database: Database) -> None:
    stage.shop(database, items=6)
    reader = create_engine(database.url, read_only=True)
    with reader.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(sa.text("SELECT 1 FROM companies"))
        database.psql("INSERT INTO stock_items (company_id, quantity) VALUES (1, 5)")
        found = prediction.predict(connection, resolve(connection, stage.MAPPING))
    assert found["records"]["snapshot"] == 6
    assert found["by_company"][0]["records"] == 2
