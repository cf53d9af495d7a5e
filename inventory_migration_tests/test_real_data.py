"""Inventories that other people published, through their own mappings, there and back.

The data is not part of the project: it is looked for beside it, or where INVENTORY_TEST_DATA says.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inventory_migration import verbs
from inventory_migration.audit.findings import Finding, findings
from inventory_migration.engine.plan import Start
from inventory_migration.mapping import StockMapping, load_mapping
from inventory_migration.project import project_folder
from inventory_migration_tests.conftest import Database, run_psql

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
DATA = Path(os.environ.get("INVENTORY_TEST_DATA", project_folder().parent / "shared" / "data"))

needs_data = pytest.mark.skipif(
    not DATA.is_dir(),
    reason="needs the published inventories: put northwind/ and saleor/ into a folder and name it "
    "in INVENTORY_TEST_DATA",
)


def northwind(database: Database) -> StockMapping:
    database.psql((DATA / "northwind" / "northwind.sql").read_text())
    return load_mapping(HERE / "mappings" / "northwind.yaml")


def saleor(database: Database) -> StockMapping:
    folder = DATA / "saleor"
    script = (folder / "load.sql").read_text()
    for name in sorted(folder.glob("*.csv")):
        script = script.replace(f"FROM '{name.name}'", f"FROM '{name}'")
    run_psql(database.server, database.url, script)
    return load_mapping(HERE / "mappings" / "saleor.yaml")


def audited(database: Database, mapping: StockMapping) -> dict[str, Finding]:
    target = verbs.open_target(database.url)
    found = findings(verbs.judge(target, mapping, "audit_profile", keep=False), mapping)
    return {finding.key: finding for finding in found}


@needs_data
def test_northwind_is_found_oversold_discontinued_and_free_to_have_no_quantity(
    database: Database,
) -> None:
    found = audited(database, northwind(database))
    discontinued = database.psql(
        "SELECT product_id FROM products WHERE discontinued = 1 AND units_in_stock > 0 ORDER BY 1"
    )
    # Not a word of units_on_order: what is on its way in is no stock, and no oddity.
    assert {key: finding.count for key, finding in found.items()} == {
        "reserved-within-quantity": 17,
        "retired-without-stock": len(discontinued.splitlines()),
        "quantity-column-not-null": 1,
    }
    assert sorted(found["retired-without-stock"].sample, key=int) == discontinued.splitlines()
    assert found["quantity-column-not-null"].sample == ("units_in_stock",)
    oversold = found["reserved-within-quantity"]
    counted = f"SELECT sum(quantity) FROM ({oversold.sql.rstrip(';')}) AS f"
    assert database.psql(counted) == database.psql(
        "SELECT sum(units_in_stock) FROM products "
        f"WHERE product_id IN ({', '.join(oversold.sample)})"
    )


@needs_data
def test_saleor_is_found_without_names_without_music_and_with_one_variant_sold_out(
    database: Database,
) -> None:
    shipped = saleor(database)
    # A sold-out item is no defect, so that nobody is told of it who does not ask.
    empty = {"when": {"sql": "s.quantity = 0"}, "do": "warn"}
    rules = type(shipped.rules).model_validate({"sold_out": empty})
    found = audited(database, shipped.model_copy(update={"rules": rules}))
    assert {key: (finding.count, finding.details[:1]) for key, finding in found.items()} == {
        "own-sold-out": (1, ("",)),
        "texts-filled": (4, ("column_name=name",)),
        "company-with-stock": (1, ("",)),
    }
    # The company is one join away, and the statements that show the rows bring the join along.
    names = database.psql(found["texts-filled"].sql).splitlines()
    assert [row.split("|")[0] for row in names] == list(found["texts-filled"].sample)
    assert "JOIN product_product p" in found["own-sold-out"].sql
    (sold_out,) = found["own-sold-out"].sample
    assert database.psql("SELECT id FROM product_productvariant WHERE quantity = 0") == sold_out
    assert found["company-with-stock"].sample == ("8, Music",)


@needs_data
def test_northwind_moves_to_one_warehouse_per_supplier_and_back(database: Database) -> None:
    mapping = northwind(database)
    target = verbs.open_target(database.url)
    untouched = "SELECT to_jsonb(p) - 'warehouse_id' FROM products p ORDER BY product_id"
    before = database.psql(untouched)

    predicted = verbs.test(target, mapping)
    assert predicted["gate"]["passed"]
    assert predicted["warnings"] == {"reserved_exceeds_quantity": 17}

    found = verbs.run(target, mapping)
    assert found["companies"] == found["locations_created"] == 29
    assert found["records"]["snapshot"] == found["records"]["migrated"] == 77
    assert found["units"] == {"before": "3119", "after": "3119"}
    assert found["reserved"] == {"before": "1198", "after": "1198"}
    assert found["warnings"] == predicted["warnings"]
    assert database.psql(untouched) == before
    assert (
        database.psql(
            "SELECT count(*), sum(units_in_stock), count(DISTINCT w.supplier_id) FROM products p "
            "JOIN warehouses w ON w.id = p.warehouse_id AND w.supplier_id = p.supplier_id"
        )
        == "77|3119|29"
    )
    assert verbs.validate(target, mapping)["passed"]
    assert verbs.run(target, mapping)["changed"] is False

    back = verbs.roll_back(target, mapping)
    assert back["undone"] == {"records": 77, "kept": 0, "locations": 29}
    assert database.psql(untouched) == before
    assert database.psql("SELECT count(warehouse_id) FROM products") == "0"


@needs_data
def test_saleor_moves_by_product_type_one_join_away_and_back(database: Database) -> None:
    mapping = saleor(database)
    target = verbs.open_target(database.url)
    untouched = "SELECT to_jsonb(v) - 'warehouse_id' FROM product_productvariant v ORDER BY id"
    before = database.psql(untouched)

    found = verbs.run(target, mapping)
    assert found["companies"] == found["locations_created"] == 8
    assert found["records"]["snapshot"] == found["records"]["migrated"] == 124
    assert found["units"] == {"before": "1292802", "after": "1292802"}
    assert found["reserved"] == {"before": "1297", "after": "1297"}
    assert found["available"] == {"before": "1291505", "after": "1291505"}
    assert database.psql(untouched) == before
    assert (
        database.psql(
            "SELECT count(*), sum(v.quantity), count(DISTINCT w.product_type_id) "
            "FROM product_productvariant v JOIN product_product p ON p.id = v.product_id "
            "JOIN warehouse_warehouse w ON w.id = v.warehouse_id "
            "AND w.product_type_id = p.product_type_id"
        )
        == "124|1292802|7"
    )
    assert verbs.validate(target, mapping)["passed"]

    back = verbs.roll_back(target, mapping)
    assert back["undone"] == {"records": 124, "kept": 0, "locations": 8}
    assert database.psql(untouched) == before
    assert database.psql("SELECT count(*) FROM warehouse_warehouse") == "0"


SALEOR_2_10 = """
    CREATE TABLE warehouse_warehouse (
        id uuid PRIMARY KEY, name varchar(250) NOT NULL, slug varchar(255) NOT NULL UNIQUE,
        product_type_id int NOT NULL REFERENCES product_producttype, is_default boolean NOT NULL);
    CREATE TABLE shipping_shippingzone (id int PRIMARY KEY, name varchar(100));
    INSERT INTO shipping_shippingzone VALUES (1, 'Europe'), (2, 'Oceania');
    CREATE TABLE warehouse_warehouse_shipping_zones (
        id serial PRIMARY KEY, warehouse_id uuid NOT NULL REFERENCES warehouse_warehouse,
        shippingzone_id int NOT NULL REFERENCES shipping_shippingzone,
        UNIQUE (warehouse_id, shippingzone_id));
    CREATE TABLE warehouse_stock (
        id serial PRIMARY KEY, warehouse_id uuid NOT NULL REFERENCES warehouse_warehouse,
        product_variant_id int NOT NULL REFERENCES product_productvariant ON DELETE CASCADE,
        quantity int NOT NULL CHECK (quantity >= 0),
        quantity_allocated int NOT NULL CHECK (quantity_allocated >= 0),
        UNIQUE (warehouse_id, product_variant_id));
"""


@needs_data
def test_saleor_moves_to_the_tables_that_its_next_release_has_and_back(database: Database) -> None:
    saleor(database)
    database.psql(SALEOR_2_10)
    mapping = load_mapping(HERE / "mappings" / "saleor_levels.yaml")
    target = verbs.open_target(database.url)
    before = database.psql("SELECT to_jsonb(v) FROM product_productvariant v ORDER BY id")

    assert verbs.test(target, mapping)["gate"]["passed"]
    found = verbs.run(target, mapping, Start(explicit=True, write_stop=True))
    assert found["companies"] == found["locations_created"] == 8
    assert found["records"]["snapshot"] == found["records"]["migrated"] == 124
    assert found["units"] == {"before": "1292802", "after": "1292802"}
    assert found["available"] == {"before": "1291505", "after": "1291505"}
    assert (
        database.psql(
            "SELECT count(*), sum(t.quantity), sum(t.quantity_allocated), "
            "count(DISTINCT t.warehouse_id) FROM warehouse_stock t "
            "JOIN product_productvariant v ON v.id = t.product_variant_id "
            "AND v.quantity = t.quantity AND v.quantity_allocated = t.quantity_allocated "
            "JOIN product_product p ON p.id = v.product_id "
            "JOIN warehouse_warehouse w ON w.id = t.warehouse_id "
            "AND w.product_type_id = p.product_type_id"
        )
        == "124|1292802|1297|7"
    )
    assert database.psql("SELECT count(*) FROM warehouse_warehouse_shipping_zones") == "16"
    assert verbs.validate(target, mapping)["passed"]
    assert verbs.run(target, mapping)["changed"] is False

    back = verbs.roll_back(target, mapping)
    assert back["undone"] == {"records": 124, "kept": 0, "locations": 8}
    assert database.psql("SELECT to_jsonb(v) FROM product_productvariant v ORDER BY id") == before
    for table in (
        "warehouse_stock",
        "warehouse_warehouse",
        "warehouse_warehouse_shipping_zones",
    ):
        assert database.psql(f"SELECT count(*) FROM {table}") == "0"


@needs_data
def test_northwind_under_net_gets_its_open_orders_back_on_hand(database: Database) -> None:
    northwind(database)
    mapping = load_mapping(HERE / "mappings" / "northwind_levels.yaml")
    target = verbs.open_target(database.url)
    found = verbs.run(target, mapping, Start(explicit=True, write_stop=True))
    assert found["available"] == {"before": "3119", "after": "3119"}
    assert found["reserved"] == {"before": "1198", "after": "1198"}
    assert (
        database.psql(
            "SELECT count(*), sum(on_hand), sum(reserved), sum(on_hand - reserved), sum(free), "
            "min(free) FROM stock_levels"
        )
        == "77|4317|1198|3119|3119|0"
    )
    assert verbs.validate(target, mapping)["passed"]
    assert verbs.roll_back(target, mapping)["undone"]["records"] == 77
    assert database.psql("SELECT count(*) FROM stock_levels") == "0"
