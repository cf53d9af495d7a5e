"""Applications that made this move: every case in their data ends as the example's page says.

One test for each application, which loads it, looks, migrates, closes, and takes everything back:
what the records came to is compared case by case, in one table.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from inventory_migration import acceptance, monitoring, verbs
from inventory_migration.engine.plan import Start
from inventory_migration.engine.quarantine import Filter
from inventory_migration.examples import EXAMPLES, Example
from inventory_migration.examples.load import load_example
from inventory_migration.mapping import StockMapping, parse_mapping
from inventory_migration_tests import stage
from inventory_migration_tests.commands import PROJECT, answer, im, sentence
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.one_server

RECORDS = 120

# What becomes of a case: its outcome, the rule that decided, and the numbers of its level.
Ending = tuple[str, str | None, tuple[int, ...] | None]
MOVED, ASIDE, SKIPPED = "migrated", "quarantined", "skipped"

SPREE: dict[str, Ending] = {
    "count_missing": (ASIDE, "quantity_missing", None),
    "oversold": (MOVED, None, (-3,)),
    "negative_unexplained": (MOVED, None, (-4,)),
    "variant_deleted": (MOVED, None, (7,)),
    "product_deleted": (MOVED, None, (6,)),
    "product_null": (ASIDE, "product_missing", None),
    "product_gone": (ASIDE, "product_missing", None),
    "on_demand": (MOVED, None, (999,)),
    "master_with_stock": (MOVED, None, (10,)),
    "product_count": (MOVED, None, (8,)),
    "no_sku": (MOVED, None, (2,)),
    "sku_twice": (MOVED, None, (11,)),
    "open_order": (MOVED, None, (10,)),
    "not_backorderable": (MOVED, None, (20,)),
}
SALEOR: dict[str, Ending] = {
    "both_negative": (ASIDE, "negative_quantity", None),
    "allocated_negative": (ASIDE, "negative_allocated", None),
    "oversold": (MOVED, None, (2, 5)),
    "counter_drift": (MOVED, None, (30, 9)),
    "no_shipping_method": (MOVED, None, (20, 4)),
    "second_zone": (MOVED, None, (20, 6)),
    "draft_order": (MOVED, None, (20, 0)),
    "canceled_order": (MOVED, None, (20, 0)),
    "untracked": (MOVED, None, (1, 0)),
    "many_lines": (MOVED, None, (50, 6)),
    "partially_fulfilled": (MOVED, None, (40, 7)),
}
MEDUSA: dict[str, Ending] = {
    "oversold": (MOVED, None, (2, 5)),
    "negative_unexplained": (MOVED, None, (-2, 0)),
    "open_order": (MOVED, None, (11, 4)),
    "variant_deleted": (SKIPPED, "deleted", None),
    "sku_shared": (MOVED, None, (3, 0)),
    "item_exists": (MOVED, None, (8, 0)),
    "unmanaged": (SKIPPED, "unmanaged", None),
    "gift_card": (MOVED, None, (50, 0)),
    "no_sku": (MOVED, None, (1, 0)),
    "link_without_level": (MOVED, None, (6, 0)),
    "level_exists": (ASIDE, "target_exists", None),
    "item_shared": (ASIDE, "target_key_shared", None),
    "kit": (ASIDE, "kit", None),
    "canceled_order": (MOVED, None, (5, 0)),
}
ENDINGS = {"spree": SPREE, "saleor": SALEOR, "medusa": MEDUSA}

APART: dict[str, dict[str, object]] = {
    "spree": {
        "second_run": "default-location-unambiguous",
        "shipment_without_location": "0",
        "unit_states": ["backordered|3\non_hand|4", "backordered|3\non_hand|1\nsold|3"],
    },
    "saleor": {
        "no_address": "Default warehouse",
        "variant_gone": "7|CASE-GONE|2",
        "nothing_there": ["0", "1"],
    },
    "medusa": {
        "variant_during_run": ["target_key_missing", "12|0"],
        "two_locations": "Berlin|1\nHamburg|0",
        "no_channel": "sc_01\nsc_02",
        "text_keys": "t",
    },
}
"""The cases that are no record, and what a test finds of each."""


def mapping_of(name: str) -> StockMapping:
    """An example's mapping in chunks that are small beside its data."""
    found = parse_mapping(EXAMPLES[name].files[f"{name}.yaml"], name)
    return found.model_copy(update={"chunk": found.chunk.model_copy(update={"rows": 40})})


def with_owners(name: str, form: str) -> StockMapping:
    """The mapping with the keys that its end says instead, for several companies."""
    text = EXAMPLES[name].files[f"{name}.yaml"]
    end = text.partition(f"# {form}:\n")[2]
    owned = yaml.safe_load("\n".join(line.removeprefix("#   ") for line in end.splitlines()))
    definition = yaml.safe_load(text)
    for part, keys in owned.items():
        definition[part] = keys if part == "company" else {**definition[part], **keys}
    return StockMapping.model_validate(definition)


def taken_back(script: str) -> str:
    """What the end of a script says, to take it back."""
    return "\n".join(re.findall(r"^--   (.*)$", script.rpartition("-- To take it back")[2], re.M))


def everything(database: Database, example: Example) -> dict[str, str]:
    """Every row of every table."""
    return {
        table: database.psql(f'SELECT to_jsonb(t) FROM "{table}" t ORDER BY to_jsonb(t)::text')
        for table in example.tables
    }


def endings(database: Database, example: Example, level: str) -> dict[str, Ending]:
    """What became of each case that is a record; `level` gives its numbers, as an array."""
    keys = {case.key: case.name for case in example.cases if case.key}
    rows = database.psql(
        f"""
        SELECT json_build_array(p.key_1, COALESCE(o.outcome, 'migrated'), o.rule, ({level}))
        FROM inventory_migration.snapshot_1 p
        LEFT JOIN inventory_migration.outcome o ON o.migration_id = 1 AND o.position = p.position
        """
    )
    found = {}
    for key, outcome, rule, numbers in map(json.loads, rows.splitlines()):
        if str(key) in keys:
            held = tuple(numbers) if numbers and outcome == MOVED else None
            found[keys[str(key)]] = (outcome, rule, held)
    return found


def moved(database: Database, name: str, asked: StockMapping, level: str) -> dict[str, Any]:
    """Predict, migrate, find what was predicted, and compare case by case."""
    target = verbs.open_target(database.url)
    predicted = verbs.test(target, asked)
    assert predicted["gate"]["passed"]
    found = verbs.run(target, asked, Start(explicit=True, write_stop=True))
    for told in ("records", "quarantined", "warnings", "units", "reserved", "available"):
        assert found[told].items() >= predicted[told].items(), told
    assert (found["state"], found["locations_created"]) == ("verified", 1)
    for told in ("units", "reserved", "available"):
        assert found[told]["before"] == found[told]["after"], told
    assert endings(database, EXAMPLES[name], level) == ENDINGS[name]
    works = acceptance.accept(target, asked)
    assert (works["passed"], works["findings"]) == (True, [])
    assert len(works["operations"]) == 6
    watched = monitoring.monitor(target, asked)
    assert (watched["passed"], watched["failed"]) == (True, [])
    assert watched["drift"]["units"]["change"] == watched["drift"]["reserved"]["change"] == "0"
    return found


def taken_away(database: Database, asked: StockMapping) -> None:
    """Roll back, and find that nothing was kept."""
    back = verbs.roll_back(verbs.open_target(database.url), asked)
    assert (back["undone"]["kept"], back["undone"]["locations"]) == (0, 1)


def test_every_case_has_an_assertion_and_a_row_in_its_page() -> None:
    for name in EXAMPLES:
        cases = {case.name: case.key for case in EXAMPLES[name].cases}
        assert len(cases) == len(EXAMPLES[name].cases)
        assert {case for case, key in cases.items() if key} == ENDINGS[name].keys()
        assert {case for case, key in cases.items() if not key} == APART[name].keys()
        page = (PROJECT / EXAMPLES[name].page).read_text()
        rows = re.findall(r"^\| `(\w+)`(?: \(([\w]+)\))? \| .+ \| .+ \| .+ \|$", page, flags=re.M)
        assert dict(rows) == {case: key or "" for case, key in cases.items()}


def test_the_examples_are_listed_for_people_and_programs() -> None:
    told = im("examples").stdout
    found = answer("examples")["examples"]
    assert [one["name"] for one in found] == [*EXAMPLES]
    for one in found:
        assert one["tables"]
        for case in one["cases"]:
            assert case["said"] in told
    assert "'inventory-migration examples --copy NAME'" in told


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_copy_is_what_ships_and_is_never_written_over_a_file(name: str, tmp_path: Path) -> None:
    found = answer("examples", "--copy", name, "--out", tmp_path)
    assert parse_mapping((tmp_path / f"{name}.yaml").read_text(), name).name == name
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == EXAMPLES[name].files
    assert found["mapping"] == str(tmp_path / f"{name}.yaml")
    assert "is there already" in sentence(im("examples", "--copy", name, "--out", tmp_path, code=2))
    (tmp_path / "mine.after.sql").write_text("mine")
    mine = tmp_path / "mine.yaml"
    refused = sentence(im("examples", "--copy", name, "--out", mine, code=2))
    assert f"{tmp_path / 'mine.after.sql'} is there already" in refused
    assert not mine.exists()
    (tmp_path / "mine.after.sql").unlink()
    told = im("examples", "--copy", name, "--out", mine).stdout
    assert f"inventory-migration run --mapping {mine} --write-stop" in told
    assert str(tmp_path / "mine.after.sql") in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--copy", "spre"], "no example spre; did you mean spree?; there is spree, saleor"),
        (["--load", "magento"], "no example magento; there is spree, saleor"),
        (["--copy", "spree", "--load", "spree"], "--copy and --load are two commands"),
        (["--out", "x.yaml"], "name the example with --copy NAME"),
        (["--copy", "spree", "--out", "/none/x.yaml"], "can not be written to /none/x.yaml"),
        (["--load", "spree", "--records", "-1"], "Invalid value for '--records'"),
    ],
)
def test_a_call_that_cannot_be_meant_is_one_sentence(words: list[str], said: str) -> None:
    assert said in sentence(im("examples", *words, code=2))


def test_an_example_is_loaded_beside_others_and_into_no_table_that_is_there(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    database.psql("CREATE TABLE theirs (); CREATE VIEW spree_variants AS SELECT 1 AS id")
    refused = sentence(im("examples", "--load", "spree", code=2))
    assert "this database has spree_variants in schema public already; nothing was" in refused
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert database.psql(tables) == "1"
    database.psql("DROP VIEW spree_variants")
    found = answer("examples", "--load", "spree", "--records", 30, "--seed", 7)
    assert found["tables"]["spree_variants"] == 30 + 18
    assert "Next: 'inventory-migration examples --copy saleor'" in (
        im("examples", "--load", "saleor", "--records", 0).stdout
    )
    both = len(EXAMPLES["spree"].tables) + len(EXAMPLES["saleor"].tables)
    assert database.psql(tables) == str(1 + both)
    assert "spree_products, spree_variants" in sentence(im("examples", "--load", "spree", code=2))


@pytest.mark.slow
def test_spree_carries_every_unit_and_flag_and_back(database: Database) -> None:
    example, asked = EXAMPLES["spree"], mapping_of("spree")
    load_example(database.engine, example, records=RECORDS)
    target = verbs.open_target(database.url)
    # Whoever takes our location back leaves that of others.
    database.psql("UPDATE spree_shipments SET stock_location_id = 99 WHERE id % 4 = 0")
    before = everything(database, example)
    apart: dict[str, object] = {}

    # A location called default is taken for the one; of two, nobody is chosen.
    database.psql(
        "INSERT INTO spree_stock_locations (name, created_at, updated_at) "
        "SELECT 'default', now(), now() FROM generate_series(1, 2)"
    )
    refused = verbs.judge(target, asked, "audit_profile", keep=False)
    assert not refused.passed
    apart["second_run"] = next(e.key for e in refused.failed if e.severity == "critical")
    database.psql("TRUNCATE spree_stock_locations")

    found = moved(
        database,
        "spree",
        asked,
        "SELECT array_agg(i.count_on_hand) FROM spree_stock_items i WHERE i.variant_id = key_1",
    )
    warned = {rule: n for rule, n in found["warnings"].items() if rule != "negative_quantity"}
    assert warned == {
        "item_duplicate": 2,
        "product_deleted": 1,
        "negative_unexplained": 1,
        "master_beside_variants": 1,
        "product_count_differs": 1,
    }
    assert database.psql(
        "SELECT variant_id, backorderable, deleted_at FROM spree_stock_items "
        "WHERE variant_id IN (2, 3, 4, 8, 18) ORDER BY 1"
    ) == ("2|t|\n3|t|\n4|f|2013-01-15 00:00:00\n8|t|\n18|f|")

    after = example.files["spree.after.sql"]
    database.psql(after)
    once = everything(database, example)
    database.psql(after)
    assert everything(database, example) == once
    apart["shipment_without_location"] = database.psql(
        "SELECT count(*) FROM spree_shipments WHERE stock_location_id IS NULL"
    )
    assert database.psql(
        "SELECT count(*) FROM spree_stock_items i WHERE count_on_hand <> COALESCE("
        "(SELECT sum(m.quantity) FROM spree_stock_movements m WHERE m.stock_item_id = i.id), 0)"
    ) == ("0")
    states = "SELECT state, count(*) FROM spree_inventory_units WHERE id < 8 GROUP BY 1 ORDER BY 1"
    apart["unit_states"] = [database.psql(states)]
    database.psql(taken_back(after))
    apart["unit_states"] += [database.psql(states)]
    taken_away(database, asked)
    assert everything(database, example) == before
    assert apart == APART["spree"]


def test_spree_with_owners_gives_each_a_location_as_the_mappings_end_says(
    database: Database,
) -> None:
    load_example(database.engine, EXAMPLES["spree"], records=30)
    text = EXAMPLES["spree"].files["spree.yaml"]
    added = re.search(r"^#   (ALTER TABLE .*;)$", text, flags=re.M)
    assert added
    database.psql(f"""
        CREATE TABLE enterprises (id integer PRIMARY KEY, name text);
        INSERT INTO enterprises VALUES (1, 'Farm'), (2, 'Dairy'), (3, 'Nobody''s');
        ALTER TABLE spree_products ADD supplier_id integer;
        UPDATE spree_products SET supplier_id = 1 + id % 2;
        {added[1]}
    """)
    assert stage.migrate(database, with_owners("spree", "marketplace")).proof.passed
    assert database.psql("SELECT enterprise_id FROM spree_stock_locations ORDER BY 1") == "1\n2\n3"
    strangers = (
        "SELECT count(*), count(*) FILTER (WHERE l.enterprise_id <> p.supplier_id) "
        "FROM spree_stock_items i JOIN spree_stock_locations l ON l.id = i.stock_location_id "
        "JOIN spree_variants v ON v.id = i.variant_id JOIN spree_products p ON p.id = v.product_id"
    )
    assert database.psql(strangers) == "45|0"
    rules = "SELECT key_text, rule FROM inventory_migration.outcome ORDER BY 1"
    assert database.psql(rules) == "1|quantity_missing\n6|company_missing\n7|company_missing"


@pytest.mark.slow
def test_saleor_carries_what_is_allocated_whatever_its_zone_and_back(database: Database) -> None:
    example, asked = EXAMPLES["saleor"], mapping_of("saleor")
    load_example(database.engine, example, records=RECORDS)
    before = everything(database, example)
    apart: dict[str, object] = {}

    found = moved(
        database,
        "saleor",
        asked,
        "SELECT ARRAY[t.quantity, t.quantity_allocated] FROM warehouse_stock t "
        "WHERE t.product_variant_id = key_1",
    )
    assert found["warnings"].pop("untracked") > 1
    assert found["warnings"] == {"reserved_exceeds_quantity": 1, "allocated_differs": 3}
    zones = "SELECT count(*) FROM warehouse_warehouse_shipping_zones"
    assert database.psql(zones) == "2"
    apart["no_address"] = database.psql(
        "SELECT a.company_name FROM warehouse_warehouse w JOIN account_address a "
        "ON a.id = w.address_id"
    )

    after = example.files["saleor.after.sql"]
    apart["variant_gone"] = database.psql(after)
    once = everything(database, example)
    assert database.psql(after) == apart["variant_gone"]
    assert everything(database, example) == once
    made = "SELECT order_line_id, quantity_allocated FROM warehouse_allocation ORDER BY 1 LIMIT 8"
    assert database.psql(made) == "1|5\n2|2\n3|4\n4|6\n9|1\n10|2\n11|3\n12|7"
    assert database.psql(
        "SELECT t.product_variant_id FROM warehouse_stock t WHERE t.quantity_allocated <> COALESCE("
        "(SELECT sum(a.quantity_allocated) FROM warehouse_allocation a WHERE a.stock_id = t.id), 0)"
    ) == ("4")
    database.psql(taken_back(after))
    taken_away(database, asked)
    assert everything(database, example) == before

    # A warehouse all the same, so that what comes has a place.
    database.psql(
        "TRUNCATE product_productvariant, shipping_shippingzone, shipping_shippingmethod CASCADE"
    )
    empty = stage.migrate(database, asked)
    assert empty.proof.passed
    made = "SELECT count(*) FROM warehouse_warehouse"
    apart["nothing_there"] = [database.psql(query) for query in (zones, made)]
    taken_away(database, asked)
    database.psql(taken_back(example.files["saleor.prepare.sql"]))
    assert database.psql("SELECT count(*) FROM account_address") == "0"
    assert apart == APART["saleor"]


@pytest.mark.slow
def test_medusa_puts_what_is_open_back_on_hand_and_reserves_it_and_back(
    database: Database,
) -> None:
    example, asked = EXAMPLES["medusa"], mapping_of("medusa")
    load_example(database.engine, example, records=RECORDS)
    prepare, after = example.files["medusa.prepare.sql"], example.files["medusa.after.sql"]
    before = everything(database, example)
    database.psql(prepare)
    assert everything(database, example) == before
    apart: dict[str, object] = {}
    items = (
        "SELECT v.sku, i.id, i.sku, i.requires_shipping FROM product_variant v "
        "JOIN product_variant_inventory_item k ON k.variant_id = v.id "
        "JOIN inventory_item i ON i.id = k.inventory_item_id "
        "WHERE v.id ~ 'case_0[5-8]' ORDER BY v.id"
    )
    assert re.sub("prepared_[0-9a-f]{32}", "new", database.psql(items)).splitlines() == [
        "CASE-SHARED|iitem_new|CASE-SHARED|t",
        "CASE-06|iitem_case_06|CASE-06|t",
        "CASE-08|iitem_new|CASE-08|f",
    ]
    database.psql(
        "INSERT INTO product_variant (id, title, product_id, inventory_quantity) "
        "VALUES ('variant_late', 'Late', 'prod_case', 12)"
    )

    found = moved(
        database,
        "medusa",
        asked,
        "SELECT ARRAY[t.stocked_quantity, t.reserved_quantity] FROM inventory_level t "
        "JOIN product_variant_inventory_item k ON k.inventory_item_id = t.inventory_item_id "
        "WHERE k.variant_id = key_1 LIMIT 1",
    )
    late = "SELECT rule FROM inventory_migration.outcome WHERE key_text = 'variant_late'"
    apart["variant_during_run"] = [database.psql(late)]
    assert found["warnings"] == {"negative_quantity": 2, "negative_without_backorder": 1}
    apart["two_locations"] = database.psql(
        "SELECT l.name, count(e.id) FROM stock_location l "
        "LEFT JOIN inventory_level e ON e.location_id = l.id "
        "WHERE l.name <> 'Default' GROUP BY 1 ORDER BY 1"
    )
    apart["no_channel"] = database.psql(
        "SELECT k.sales_channel_id FROM sales_channel_location k JOIN stock_location l "
        "ON l.id = k.location_id AND l.name = 'Default' ORDER BY 1"
    )
    apart["text_keys"] = database.psql(
        "SELECT array_agg(p.key_1 ORDER BY p.position) = "
        "(SELECT array_agg(v.id ORDER BY v.id) FROM product_variant v) "
        "FROM inventory_migration.snapshot_1 p"
    )

    # Prepared once more, the late one goes too.
    database.psql(prepare)
    start = Start(explicit=True, retry=Filter(keys=("variant_late",)))
    stage.locations(database, asked, start)
    stage.transform(database, asked)
    assert stage.close(database, asked).proof.passed
    apart["variant_during_run"] += [
        database.psql(
            "SELECT e.stocked_quantity, e.reserved_quantity FROM inventory_level e "
            "JOIN product_variant_inventory_item k ON k.inventory_item_id = e.inventory_item_id "
            "WHERE k.variant_id = 'variant_late'"
        )
    ]

    # What differs is the level that was there, which no order has reserved.
    assert database.psql(after) == ""
    once = everything(database, example)
    assert database.psql(after) == ""
    assert everything(database, example) == once
    assert database.psql(
        "SELECT line_item_id, quantity FROM reservation_item WHERE line_item_id ~ 'case' ORDER BY 1"
    ) == ("item_case_1|5\nitem_case_2|4")
    assert database.psql(
        "SELECT count(*) FROM store s JOIN stock_location l ON l.id = s.default_location_id"
    ) == ("1")
    database.psql(taken_back(after))
    taken_away(database, asked)
    database.psql("DELETE FROM product_variant_inventory_item WHERE variant_id = 'variant_late'")
    database.psql("DELETE FROM product_variant WHERE id = 'variant_late'")
    database.psql("DELETE FROM inventory_item WHERE id = 'iitem_prepared_' || md5('variant_late')")
    assert everything(database, example) == before
    database.psql(taken_back(prepare))
    assert database.psql("SELECT count(*) FROM inventory_item WHERE id !~ 'case'") == "0"
    assert apart == APART["medusa"]


def test_medusa_by_sales_channel_gives_each_a_location_as_the_mappings_end_says(
    database: Database,
) -> None:
    load_example(database.engine, EXAMPLES["medusa"], records=30)
    database.psql(
        "INSERT INTO product (id, title) VALUES ('prod_both', 'Both');"
        "INSERT INTO product_sales_channel VALUES ('prod_both', 'sc_01'), ('prod_both', 'sc_02');"
        "UPDATE product_variant SET product_id = 'prod_both' WHERE id = 'variant_case_16';"
    )
    assert stage.migrate(database, with_owners("medusa", "channels")).proof.passed
    assert database.psql(
        "SELECT k.sales_channel_id, count(e.id) > 0, bool_and(x.sales_channel_id IS NOT NULL) "
        "FROM sales_channel_location k JOIN stock_location l ON l.id = k.location_id "
        "LEFT JOIN inventory_level e ON e.location_id = l.id "
        "LEFT JOIN product_variant_inventory_item i ON i.inventory_item_id = e.inventory_item_id "
        "LEFT JOIN product_variant v ON v.id = i.variant_id "
        "LEFT JOIN product_sales_channel x "
        "ON x.product_id = v.product_id AND x.sales_channel_id = k.sales_channel_id "
        "GROUP BY 1 ORDER BY 1"
    ) == ("sc_01|t|t\nsc_02|t|t")
    rule = "SELECT rule FROM inventory_migration.outcome WHERE key_text = 'variant_case_16'"
    assert database.psql(rule) == "company_ambiguous"
