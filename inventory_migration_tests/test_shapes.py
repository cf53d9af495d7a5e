"""The contract of a target shape: what every shape passes by being registered.

A shape that is added gets an entry in `TARGETS`; a shape without one fails the first test.
"""

from __future__ import annotations

from typing import Any

import pytest

from inventory_migration.engine import plan, prediction, summary
from inventory_migration.engine.plan import Start
from inventory_migration.engine.shapes import SHAPES
from inventory_migration.errors import MigrationPaused
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.test_rollback import undo

TARGETS: dict[str, dict[str, Any]] = {
    "location_column": {"shape": "location_column", "column": "location_id", "add": True},
    "allocation_json": {
        "shape": "allocation_json",
        "column": "allocations",
        "transfers": "transfers",
        "add": True,
    },
}

# How a record shows that it is at its company's default location, and what it holds there.
PLACED = {
    "location_column": "SELECT s.id, s.quantity, s.reserved FROM stock_items s "
    "JOIN locations l ON l.id = s.location_id AND l.company_id = s.company_id",
    "allocation_json": "SELECT s.id, (a.value->>'allocated')::int, (a.value->>'reserved')::int "
    "FROM stock_items s, jsonb_each(s.allocations) a "
    "JOIN locations l ON true WHERE l.id::text = a.key AND l.company_id = s.company_id",
}

KEYS = {
    "int": (["id"], "SELECT 1"),
    "uuid": (
        ["id"],
        "ALTER TABLE stock_items ALTER id DROP IDENTITY;"
        "ALTER TABLE stock_items ALTER id TYPE uuid USING md5(id::text)::uuid",
    ),
    "composite": (
        ["company_id", "sku"],
        "ALTER TABLE stock_items DROP CONSTRAINT stock_items_pkey;"
        "ALTER TABLE stock_items ADD PRIMARY KEY (company_id, sku)",
    ),
}

contract = pytest.mark.parametrize(
    ("shape", "keys", "basis"),
    [
        (shape, keys, basis)
        for shape in TARGETS
        for keys, basis in (("int", "gross"), ("uuid", "net"), ("composite", "gross"))
    ],
)


def prepared(database: Database, shape: str, keys: str, basis: str) -> StockMapping:
    """The shop with one record that breaks a rule and one that is skipped."""
    columns, change = KEYS[keys]
    stage.shop(database, companies=3, items=30)
    database.psql(
        f"{change}; UPDATE stock_items SET quantity = NULL WHERE sku = 'SKU-7';"
        "UPDATE stock_items SET deleted_at = now() WHERE sku = 'SKU-8'"
    )
    return stage.mapping(
        source={**stage.DEFINITION["source"], "key": columns},
        target=TARGETS[shape],
        quantity_basis=basis,
        thresholds={"quarantined_percent": 100},
        phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}],
    )


def application(database: Database, shape: str) -> str:
    """Every column of the application that the migration does not write."""
    columns = StockMapping.model_validate({**stage.DEFINITION, "target": TARGETS[shape]}).target
    dropped = "".join(f" - '{name}'" for name in columns.columns)
    return database.psql(f"SELECT to_jsonb(s){dropped} AS r FROM stock_items s ORDER BY sku")


def placed(database: Database, shape: str) -> list[str]:
    return database.psql(f"{PLACED[shape]} ORDER BY s.sku").splitlines()


def test_every_registered_shape_has_its_place_in_this_contract() -> None:
    assert set(SHAPES) == set(TARGETS) == set(PLACED)


@contract
def test_conservation(database: Database, shape: str, keys: str, basis: str) -> None:
    mapping = prepared(database, shape, keys, basis)
    before = application(database, shape)
    found = stage.migrate(database, mapping)
    assert found.proof.differences == []
    assert stage.outcomes(database) == {"migrated": 28, "quarantined": 1, "skipped": 1}
    assert application(database, shape) == before
    rows = [row.split("|") for row in placed(database, shape)]
    on_hand = (
        "quantity" if basis == "gross" or shape == "location_column" else "quantity + reserved"
    )
    expected = database.psql(
        f"SELECT count(*), sum({on_hand}), sum(reserved) FROM stock_items "
        "WHERE quantity IS NOT NULL AND deleted_at IS NULL"
    )
    assert expected == "|".join(
        str(n) for n in (len(rows), sum(int(r[1]) for r in rows), sum(int(r[2]) for r in rows))
    )


@contract
def test_idempotence(database: Database, shape: str, keys: str, basis: str) -> None:
    mapping = prepared(database, shape, keys, basis)
    stage.migrate(database, mapping)
    after = stage.table(database, "stock_items") if keys == "int" else placed(database, shape)
    assert stage.migrate(database, mapping).changed is False
    again = stage.table(database, "stock_items") if keys == "int" else placed(database, shape)
    assert again == after


@contract
def test_resume(database: Database, shape: str, keys: str, basis: str) -> None:
    mapping = prepared(database, shape, keys, basis)
    stage.locations(database, mapping)
    with pytest.raises(MigrationPaused):
        stage.transform(database, mapping, stop_after="pilot")
    assert 0 < len(placed(database, shape)) < 28
    stage.transform(database, mapping, start=Start(resume=True))
    assert stage.close(database, mapping).proof.differences == []
    assert len(placed(database, shape)) == 28


@contract
def test_rollback(database: Database, shape: str, keys: str, basis: str) -> None:
    mapping = prepared(database, shape, keys, basis)
    before = application(database, shape)
    stage.migrate(database, mapping)
    undo(database, mapping)
    assert placed(database, shape) == []
    assert application(database, shape) == before
    target = mapping.target.columns[0]
    assert database.psql(f"SELECT count({target}) FROM stock_items") == "0"
    assert database.psql("SELECT count(*) FROM locations") == "0"


@contract
def test_provenance(database: Database, shape: str, keys: str, basis: str) -> None:
    """A record that the application took further is neither undone nor overlooked."""
    mapping = prepared(database, shape, keys, basis)
    stage.migrate(database, mapping)
    column = mapping.target.columns[0]
    database.psql(
        "INSERT INTO locations (company_id, name) VALUES (1, 'Shelf');"
        f"UPDATE stock_items SET {column} = "
        + ("4" if shape == "location_column" else "'{\"4\": {}}'")
        + " WHERE sku = 'SKU-1'"
    )
    undo(database, mapping)
    assert database.psql(f"SELECT sku FROM stock_items WHERE {column} IS NOT NULL") == "SKU-1"
    assert database.psql("SELECT kind FROM inventory_migration.conflict") == "moved_since"


@contract
def test_quarantine(database: Database, shape: str, keys: str, basis: str) -> None:
    mapping = prepared(database, shape, keys, basis)
    stage.migrate(database, mapping)
    assert (
        database.psql(
            "SELECT rule, record->>'sku' FROM inventory_migration.outcome "
            "WHERE outcome = 'quarantined'"
        )
        == "quantity_missing|SKU-7"
    )


@contract
def test_dry_run(database: Database, shape: str, keys: str, basis: str) -> None:
    mapping = prepared(database, shape, keys, basis)
    with database.engine.connect() as connection:
        predicted = prediction.predict(connection, plan.resolve(connection, mapping))
    stage.migrate(database, mapping)
    assert {
        name: count for name, count in predicted["records"].items() if count and name != "snapshot"
    } == stage.outcomes(database)


@contract
def test_status_of_a_record(database: Database, shape: str, keys: str, basis: str) -> None:
    mapping = prepared(database, shape, keys, basis)
    stage.migrate(database, mapping)
    columns = ", ', ', ".join(KEYS[keys][0])
    key = database.psql(f"SELECT concat({columns}) FROM stock_items WHERE sku = 'SKU-7'")
    with database.engine.connect() as connection:
        found = summary.show_record(connection, plan.resolve(connection, mapping), key)
    assert [(h["outcome"], h["rule"]) for h in found["history"]] == [
        ("quarantined", "quantity_missing")
    ]
