"""Batches allocated to their tenant's main store, as JSON on the batch itself."""

from __future__ import annotations

import json
import re

import pytest

from inventory_migration import verbs
from inventory_migration.demo import create_demo
from inventory_migration.engine.snapshot import write_snapshot
from inventory_migration.errors import DefaultLocationWrong, GateRefused, MappingInvalid
from inventory_migration.mapping import StockMapping, named_mapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database

BATCHES = named_mapping("inventory_batches")


def demo(database: Database) -> None:
    create_demo(database.engine, companies=20, items=400)


def batches(database: Database) -> str:
    return database.psql('SELECT to_jsonb(b) FROM "InventoryBatch" b ORDER BY id')


def test_every_batch_is_allocated_to_its_tenants_main_store(database: Database) -> None:
    demo(database)
    untouched = (
        "SELECT to_jsonb(b) - 'storeAllocations' - 'transferRequests' "
        'FROM "InventoryBatch" b ORDER BY id'
    )
    before = database.psql(untouched)
    stage.migrate(database, BATCHES)
    assert database.psql(untouched) == before
    rows = database.psql(
        'SELECT b."storeAllocations", b."transferRequests", s.id, b."remainingQuantity", '
        'b."reservedQuantity" FROM "InventoryBatch" b '
        'JOIN "Store" s ON s."tenantId" = b."tenantId" AND s."isMain" ORDER BY b.id'
    ).splitlines()
    assert len(rows) == 40
    for row in rows:
        allocations, transfers, store, quantity, reserved = row.split("|")
        entry = json.loads(allocations)
        assert transfers == "[]"
        assert list(entry) == [store]
        assert sorted(entry[store]) == ["allocated", "lastUpdated", "reserved", "updatedBy"]
        assert entry[store]["allocated"] == int(quantity)
        assert entry[store]["reserved"] == int(reserved)
        assert entry[store]["updatedBy"] == "SYSTEM_MIGRATION"
        written = entry[store]["lastUpdated"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", written)


@pytest.mark.slow
def test_there_and_back_leaves_every_batch_as_it_was(database: Database) -> None:
    demo(database)
    before = batches(database)
    target = verbs.open_target(database.url)
    found = verbs.run(target, BATCHES)
    assert found["records"]["migrated"] == found["records"]["snapshot"] == 40
    assert found["units"]["before"] == found["units"]["after"] != "0"
    assert verbs.validate(target, BATCHES)["passed"]
    assert verbs.run(target, BATCHES)["changed"] is False
    assert verbs.roll_back(target, BATCHES)["undone"]["records"] == 40
    assert batches(database) == before


def test_tenants_without_a_main_store_are_all_listed_before_anything_is_written(
    database: Database,
) -> None:
    demo(database)
    database.psql(
        'UPDATE "Store" SET "isMain" = false WHERE "tenantId" IN '
        '(SELECT id FROM "Tenant" ORDER BY id LIMIT 2)'
    )
    names = database.psql('SELECT name FROM "Tenant" ORDER BY id LIMIT 2').splitlines()
    before = batches(database)
    with pytest.raises(DefaultLocationWrong) as caught:
        stage.migrate(database, BATCHES)
    assert len(caught.value.companies) == 2
    assert all(any(name in said for said in caught.value.companies) for name in names)
    assert batches(database) == before
    predicted = verbs.test(verbs.open_target(database.url), BATCHES)
    assert predicted["gate"]["passed"] is False


def test_a_missing_column_is_refused(database: Database) -> None:
    demo(database)
    database.psql('ALTER TABLE "InventoryBatch" DROP COLUMN "transferRequests"')
    with pytest.raises(MappingInvalid, match=r"target.transfers.*transferRequests"):
        stage.migrate(database, BATCHES)


def test_json_of_another_type_is_refused(database: Database) -> None:
    demo(database)
    database.psql('ALTER TABLE "InventoryBatch" ALTER "storeAllocations" TYPE json')
    with pytest.raises(MappingInvalid, match="allocations need jsonb"):
        stage.migrate(database, BATCHES)


def test_a_batch_that_holds_an_allocation_already_is_left_alone(database: Database) -> None:
    demo(database)
    database.psql(
        'UPDATE "InventoryBatch" b '
        "SET \"storeAllocations\" = jsonb_build_object(s.id, '{}'::jsonb) "
        'FROM "Store" s WHERE s."tenantId" = b."tenantId" AND s."isMain" '
        'AND b.id = (SELECT min(id) FROM "InventoryBatch")'
    )
    kept = batches(database).splitlines()[0]
    stage.migrate(database, BATCHES)
    assert stage.outcomes(database) == {"already": 1, "migrated": 39}
    assert batches(database).splitlines()[0] == kept


def test_an_allocation_to_a_strangers_store_is_put_aside(database: Database) -> None:
    demo(database)
    database.psql(
        'UPDATE "InventoryBatch" SET "storeAllocations" = \'{"nobody": {}}\' '
        'WHERE id = (SELECT min(id) FROM "InventoryBatch")'
    )
    stage.migrate(database, BATCHES)
    assert stage.outcomes(database) == {"migrated": 39, "quarantined": 1}
    assert database.psql("SELECT rule FROM inventory_migration.outcome") == "location_foreign"


def test_a_number_is_no_allocation_to_the_location_of_that_key(database: Database) -> None:
    stage.shop(database, companies=1, items=3)
    database.psql(
        """
        CREATE TABLE locations (id bigserial PRIMARY KEY, company_id bigint, name text, code text,
                                is_default boolean);
        INSERT INTO locations VALUES (10, 1, 'Main', 'M', true);
        ALTER TABLE stock_items ADD allocations jsonb;
        UPDATE stock_items SET allocations = '10' WHERE id = 2;
        UPDATE stock_items SET allocations = '{"10": {}}' WHERE id = 3;
        """
    )
    stage.migrate(
        database, stage.mapping(target={"shape": "allocation_json", "column": "allocations"})
    )
    assert (
        database.psql("SELECT key_text, outcome, rule FROM inventory_migration.outcome ORDER BY 1")
        == "2|quarantined|location_foreign\n3|already|"
    )


@pytest.mark.parametrize("nothing", ["NULL", "'{}'", "'[]'", "'null'"])
def test_json_that_holds_nothing_is_filled_and_put_back_as_it_was(
    database: Database, nothing: str
) -> None:
    demo(database)
    database.psql(f'UPDATE "InventoryBatch" SET "storeAllocations" = {nothing}')
    before = batches(database)
    stage.migrate(database, BATCHES)
    assert stage.outcomes(database) == {"migrated": 40}
    verbs.roll_back(verbs.open_target(database.url), BATCHES)
    assert batches(database) == before


@pytest.mark.parametrize(
    "change",
    [
        "jsonb_set(\"storeAllocations\", ARRAY[k, 'allocated'], '1000')",
        '"storeAllocations" || \'{"other": {}}\'',
        "'{}'::jsonb || '{\"other\": {}}'",
    ],
    ids=["edited", "extended", "replaced"],
)
def test_an_allocation_that_the_application_changed_is_kept_and_listed(
    database: Database, change: str
) -> None:
    demo(database)
    stage.migrate(database, BATCHES)
    database.psql(
        f'UPDATE "InventoryBatch" b SET "storeAllocations" = {change} FROM '
        '(SELECT id, (SELECT min(j) FROM jsonb_object_keys("storeAllocations") j) AS k '
        'FROM "InventoryBatch" ORDER BY id LIMIT 1) AS f WHERE f.id = b.id'
    )
    kept = batches(database).splitlines()[0]
    verbs.roll_back(verbs.open_target(database.url), BATCHES)
    assert batches(database).splitlines()[0] == kept
    assert database.psql('SELECT count("storeAllocations") FROM "InventoryBatch"') == "1"
    assert (
        database.psql("SELECT kind, ours <> found FROM inventory_migration.conflict")
        == "moved_since|t"
    )


def test_a_transfer_that_was_requested_since_keeps_the_allocation(database: Database) -> None:
    demo(database)
    stage.migrate(database, BATCHES)
    database.psql(
        'UPDATE "InventoryBatch" SET "transferRequests" = \'[{"to": "x"}]\' '
        'WHERE id = (SELECT min(id) FROM "InventoryBatch")'
    )
    verbs.roll_back(verbs.open_target(database.url), BATCHES)
    assert database.psql('SELECT count("storeAllocations") FROM "InventoryBatch"') == "1"


def test_what_is_allocated_is_what_was_locked_not_what_was_planned(database: Database) -> None:
    demo(database)
    migration = stage.locations(database, BATCHES)
    assert migration is not None
    write_snapshot(database.engine, stage.plan.read_mapping(database.engine, BATCHES), migration)
    database.psql('UPDATE "InventoryBatch" SET "remainingQuantity" = "remainingQuantity" + 7')
    stage.transform(database, BATCHES)
    assert stage.close(database, BATCHES).proof.differences == []
    assert (
        database.psql(
            'SELECT count(*) FROM "InventoryBatch" b, jsonb_each("storeAllocations") e '
            "WHERE (e.value->>'allocated')::int = b.\"remainingQuantity\""
        )
        == "40"
    )
    verbs.roll_back(verbs.open_target(database.url), BATCHES)
    assert database.psql('SELECT count("storeAllocations") FROM "InventoryBatch"') == "0"


def test_a_batch_without_its_allocation_is_a_difference(database: Database) -> None:
    demo(database)
    stage.migrate(database, BATCHES)
    lost = database.psql(
        'UPDATE "InventoryBatch" SET "storeAllocations" = NULL '
        'WHERE id = (SELECT min(id) FROM "InventoryBatch") RETURNING id'
    )
    found = verbs.validate(verbs.open_target(database.url), BATCHES)
    assert found["passed"] is False
    assert [(d["kind"], d["sample"]) for d in found["differences"]] == [("location_lost", [lost])]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ('"remainingQuantity" = "remainingQuantity" - 1', "target_outdated"),
        ('"reservedQuantity" = "reservedQuantity" + 1', "target_outdated"),
        (
            '"storeAllocations" = jsonb_set("storeAllocations", ARRAY[{store}, \'allocated\'], '
            "'1000')",
            "target_differs",
        ),
    ],
    ids=["sold from", "reserved from", "edited"],
)
def test_an_allocation_that_no_longer_equals_its_batch_is_a_difference(
    database: Database, change: str, kind: str
) -> None:
    demo(database)
    stage.migrate(database, BATCHES)
    change = change.format(store='(SELECT min(k) FROM jsonb_object_keys("storeAllocations") AS k)')
    database.psql(
        f'UPDATE "InventoryBatch" SET {change} WHERE id = (SELECT min(id) FROM "InventoryBatch")'
    )
    found = verbs.validate(verbs.open_target(database.url), BATCHES)
    assert found["passed"] is False
    assert [(d["kind"], d["records"]) for d in found["differences"]] == [(kind, 1)]


def test_a_forged_allocation_is_a_difference(database: Database) -> None:
    demo(database)
    stage.migrate(database, BATCHES)
    database.psql(
        'UPDATE "InventoryBatch" SET "storeAllocations" = \'{"nobody": {}}\' '
        'WHERE id = (SELECT min(id) FROM "InventoryBatch")'
    )
    found = verbs.validate(verbs.open_target(database.url), BATCHES)
    assert found["passed"] is False
    assert [d["kind"] for d in found["differences"]] == ["location_foreign"]


def test_under_net_the_reserved_units_come_back_on_hand(database: Database) -> None:
    demo(database)
    net = StockMapping.model_validate(
        {**BATCHES.model_dump(mode="json", by_alias=True), "quantity_basis": "net"}
    )
    found = stage.migrate(database, net)
    assert found.proof.differences == []
    assert (
        database.psql(
            'SELECT count(*) FROM "InventoryBatch" b, jsonb_each("storeAllocations") e '
            "WHERE (e.value->>'allocated')::int - (e.value->>'reserved')::int "
            '= b."remainingQuantity"'
        )
        == "40"
    )


@pytest.mark.slow
def test_both_shipped_mappings_work_beside_each_other(database: Database) -> None:
    demo(database)
    target = verbs.open_target(database.url)
    assert verbs.run(target, named_mapping("stock_items"))["state"] == "verified"
    assert verbs.run(target, BATCHES)["state"] == "verified"
    assert verbs.roll_back(target, named_mapping("stock_items"))["changed"]
    assert verbs.validate(target, BATCHES)["passed"]


def test_the_gate_refuses_a_tenant_with_two_main_stores(database: Database) -> None:
    demo(database)
    database.psql(
        'INSERT INTO "Store" SELECT \'second\', "tenantId", name, true FROM "Store" LIMIT 1'
    )
    with pytest.raises(GateRefused, match="default-location-unambiguous"):
        verbs.run(verbs.open_target(database.url), BATCHES)


CREATING = StockMapping.model_validate(
    {
        **(SHIPPED := BATCHES.model_dump(mode="json", by_alias=True)),
        "locations": {
            **SHIPPED["locations"],
            "create": {
                "id": {"sql": "'store_' || replace(gen_random_uuid()::text, '-', '')"},
                "name": {"sql": "c.name || ': main store'"},
            },
        },
    }
)
"""The shipped mapping, where a tenant without a main store gets one."""


def stores(database: Database) -> str:
    return database.psql('SELECT to_jsonb(s) FROM "Store" s ORDER BY id')


def without_main_stores(database: Database) -> None:
    """Two tenants have other stores only, and a third has no store at all."""
    demo(database)
    database.psql(
        'UPDATE "Store" SET "isMain" = false WHERE "tenantId" IN '
        '(SELECT id FROM "Tenant" ORDER BY id LIMIT 2);'
        'DELETE FROM "Store" WHERE "tenantId" = (SELECT id FROM "Tenant" ORDER BY id DESC LIMIT 1)'
    )


@pytest.mark.slow
def test_tenants_without_a_main_store_get_one_with_a_key_that_the_mapping_makes(
    database: Database,
) -> None:
    without_main_stores(database)
    batches_before, stores_before = batches(database), stores(database)
    target = verbs.open_target(database.url)
    predicted = verbs.test(target, CREATING)
    assert predicted["gate"]["passed"]
    assert predicted["locations_created"] == 3
    assert len(predicted["companies_without_default_location"]) == 3
    done = verbs.run(target, CREATING)
    assert done["locations_created"] == 3
    assert done["records"]["migrated"] == predicted["records"]["migrated"] == 40
    made = database.psql(
        'SELECT s.id, s.name, t.name FROM "Store" s JOIN "Tenant" t ON t.id = s."tenantId" '
        "WHERE s.id LIKE 'store\\_%' AND s.\"isMain\" ORDER BY 2"
    ).splitlines()
    assert len({row.split("|")[0] for row in made}) == 3
    for row in made:
        key, name, tenant = row.split("|")
        assert re.fullmatch(r"store_[0-9a-f]{32}", key)
        assert name == f"{tenant}: main store"
    allocated = (
        'SELECT count(*) FROM "InventoryBatch" b JOIN "Store" s ON s."tenantId" = b."tenantId" '
        'AND s."isMain" AND b."storeAllocations" ? s.id'
    )
    assert database.psql(allocated) == "40"
    assert int(database.psql(f"{allocated} WHERE s.id LIKE 'store\\_%'")) > 0
    assert verbs.validate(target, CREATING)["passed"]
    assert verbs.run(target, CREATING)["changed"] is False
    undone = verbs.roll_back(target, CREATING)["undone"]
    assert undone == {"records": 40, "kept": 0, "locations": 3}
    assert (batches(database), stores(database)) == (batches_before, stores_before)


def test_a_created_store_that_a_batch_names_outlives_a_rollback(database: Database) -> None:
    without_main_stores(database)
    before = stores(database)
    target = verbs.open_target(database.url)
    verbs.run(target, CREATING)
    used = database.psql(
        "SELECT id FROM \"Store\" WHERE id LIKE 'store\\_%' AND id IN "
        '(SELECT jsonb_object_keys("storeAllocations") FROM "InventoryBatch") LIMIT 1'
    )
    database.psql(
        'UPDATE "InventoryBatch" SET "storeAllocations" = '
        f"jsonb_set(\"storeAllocations\", '{{{used},allocated}}', '1000') "
        'WHERE id = (SELECT min(id) FROM "InventoryBatch" '
        f"WHERE \"storeAllocations\" ? '{used}')"
    )
    undone = verbs.roll_back(target, CREATING)["undone"]
    assert (undone["kept"], undone["locations"]) == (1, 2)
    assert database.psql(f"SELECT count(*) FROM \"Store\" WHERE id = '{used}'") == "1"
    assert len(stores(database).splitlines()) == len(before.splitlines()) + 1


def test_a_created_store_needs_a_key_that_the_mapping_makes(database: Database) -> None:
    demo(database)
    keyless = CREATING.model_dump(mode="json", by_alias=True)
    del keyless["locations"]["create"]["id"]
    with pytest.raises(MappingInvalid, match="column id of Store needs a value and has no default"):
        verbs.test(verbs.open_target(database.url), StockMapping.model_validate(keyless))
