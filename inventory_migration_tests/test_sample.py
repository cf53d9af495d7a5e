"""A sample has some of every kind of record, and its recount sees what the engine would not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import proof
from inventory_migration.engine.plan import Start
from inventory_migration.errors import MigrationPaused
from inventory_migration.mapping import StockMapping
from inventory_migration.report import facts
from inventory_migration_tests import stage, test_shapes
from inventory_migration_tests.conftest import Database, made_database

pytestmark = pytest.mark.one_server

SHAPES = [*test_shapes.TARGETS, *test_shapes.FORMS]

# A target as somebody would write it wrongly by hand, behind the back of application and tool.
PLANTED = {
    "location_column": (
        "UPDATE stock_items SET location_id = 2 WHERE id = 7",
        ("location", "one of company 1", "2"),
    ),
    "allocation_json": (
        "UPDATE stock_items SET allocations = replace(allocations::text, "
        "'\"allocated\": 7', '\"allocated\": 8')::jsonb WHERE id = 7",
        ("on hand", "7", "8"),
    ),
    "allocation_list": (
        "UPDATE stock_items SET allocations = replace(allocations::text, "
        '\'"qty": "7"\', \'"qty": "8"\')::jsonb WHERE id = 7',
        ("on hand", "7", "8"),
    ),
    "stock_level": (
        "UPDATE stock_levels SET location_id = 2 WHERE item_id = 7",
        ("location", "one of company 1", "2"),
    ),
}


@pytest.fixture(scope="module", params=SHAPES)
def migrated(
    server: EmbeddedServer, request: pytest.FixtureRequest
) -> Iterator[tuple[Database, StockMapping, str]]:
    """A shop with records of all kinds, migrated into one shape."""
    mapping = stage.mapping(
        target=test_shapes.target(request.param, "int"),
        phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}],
        thresholds={"quarantined_percent": 100},
    )
    with made_database(server) as made:
        stage.shop(made, items=120)
        made.psql("""
            UPDATE stock_items SET quantity = NULL WHERE id = 20;
            UPDATE stock_items SET deleted_at = now() WHERE id = 21;
            UPDATE stock_items SET quantity = 0, reserved = 0 WHERE id = 22;
            UPDATE stock_items SET quantity = -5 WHERE id = 23;
            UPDATE stock_items SET company_id = NULL WHERE id = 24;
        """)
        stage.migrate(made, mapping)
        yield made, mapping, request.param


def sampled(database: Database, mapping: StockMapping, seed: str | None = None) -> dict[str, Any]:
    found = facts.read(verbs.open_target(database.url).reader, mapping, seed=seed)
    assert found is not None
    return found.facts


def test_it_has_some_of_every_kind_and_agrees_with_what_was_written(
    migrated: tuple[Database, StockMapping, str],
) -> None:
    database, mapping, shape = migrated
    told = sampled(database, mapping)
    sample = told["sample"]
    assert sample["disagreements"] == []
    assert told["verdict"]["passed"] is not False
    records = {record["key"]: record for record in sample["records"]}
    assert 35 <= len(records) <= 60
    assert sample["of"] == 120
    stands_for = {name for record in records.values() for name in record["stands_for"]}
    assert {"outcome migrated", "outcome skipped", "outcome quarantined", "rule quantity_missing",
            "rule company_missing", "phase pilot", "phase rest", "largest company",
            "smallest company", "quantity zero", "quantity negative", "largest quantity",
            "most reserved", "quantity missing", "no company"} <= stands_for  # fmt: skip
    assert {"20", "21", "22", "23", "24", "120"} <= records.keys()
    largest = records["120"]
    location = database.psql("SELECT id FROM locations WHERE company_id = 3")
    on_hand = None if shape == "location_column" else "120"
    assert largest["before"] == {"quantity": "120", "reserved": "30", "location": None}
    assert largest["after"] == {
        "quantity": "120", "reserved": "30", "location": location, "on_hand": on_hand,
        "reserved_there": on_hand and "30",
    }  # fmt: skip
    assert (largest["agrees"], largest["says"]) == (True, [])
    assert records["20"]["after"]["location"] is None


def test_whoever_knows_the_seed_draws_the_same_again(
    migrated: tuple[Database, StockMapping, str],
) -> None:
    database, mapping, _ = migrated
    once = sampled(database, mapping)["sample"]
    again = sampled(database, mapping, seed=once["seed"])["sample"]
    assert again == once
    other = sampled(database, mapping, seed="another")["sample"]
    keys = [[record["key"] for record in one["records"]] for one in (once, other)]
    assert keys[0] != keys[1]
    # By hand, as the report says that it was drawn.
    draws = [hashlib.sha256(f"{once['seed']}:{n}".encode()).hexdigest() for n in range(2000)]
    places = [*dict.fromkeys(1 + int(draw, 16) % 120 for draw in draws)]
    listed = database.psql("SELECT position, key_1 FROM inventory_migration.snapshot_1")
    by_place = dict(line.split("|") for line in listed.splitlines())
    drawn = [by_place[str(place)] for place in places]
    zero = [r["key"] for r in once["records"] if "quantity zero" in r["stands_for"]]
    assert zero == ["22"]
    others = set(database.psql("SELECT key_text FROM inventory_migration.outcome").splitlines())
    assert "20" in others
    migrated_ones = [r["key"] for r in once["records"] if "outcome migrated" in r["stands_for"]]
    assert {*migrated_ones} == {*[key for key in drawn if key not in others][:6]}


def test_what_too_few_are_drawn_of_is_sought_everywhere(
    migrated: tuple[Database, StockMapping, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, mapping, _ = migrated
    monkeypatch.setattr("inventory_migration.report.draw.DRAWS", 3)
    sample = sampled(database, mapping, seed="few")["sample"]
    assert sampled(database, mapping, seed="few")["sample"] == sample
    kinds = {name: [] for record in sample["records"] for name in record["stands_for"]}
    for record in sample["records"]:
        for name in record["stands_for"]:
            kinds[name].append(record["key"])
    assert kinds["quantity missing"] == ["20"]
    assert kinds["outcome skipped"] == ["21"]
    assert kinds["quantity zero"] == ["22"]
    assert kinds["quantity negative"] == ["23"]
    assert kinds["no company"] == ["24"]
    assert kinds["largest quantity"] == kinds["most reserved"] == ["119", "120"]
    assert len(kinds["outcome migrated"]) == 6
    assert len(kinds["any"]) == 3


def test_a_target_that_was_written_wrongly_by_hand_is_seen_and_the_verdict_says_so(
    migrated: tuple[Database, StockMapping, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, mapping, shape = migrated
    change, expected = PLANTED[shape]
    database.psql(f"CREATE TABLE saved AS SELECT * FROM stock_items WHERE id = 7; {change}")
    told = sampled(database, mapping)
    (found,) = told["sample"]["disagreements"]
    assert (found["key"], found["what"], found["expected"], found["found"]) == ("7", *expected)
    (record,) = [one for one in told["sample"]["records"] if one["key"] == "7"]
    assert record["agrees"] is False
    assert "found changed" in record["stands_for"]
    assert told["verdict"]["passed"] is False or told["verdict"]["state"] != "verified"
    # The engine's own proof is blind: the sample is taken another way, and still sees it.
    monkeypatch.setattr(proof, "prove", lambda *_, **__: proof.Proof(sa.func.now(), [], {}))
    monkeypatch.setattr("inventory_migration.report.draw.SIZE", 500)
    told = sampled(database, mapping)
    assert told["differences"] == []
    assert [one["key"] for one in told["sample"]["disagreements"]] == ["7"]
    assert "sample" in told["verdict"]["text"]
    assert told["verdict"]["passed"] is False


def test_what_a_mapping_says_in_sql_and_types_of_its_own_mislead_nobody(database: Database) -> None:
    """Aliases are the mapping's, keys compare as their type does, and numbers have all digits."""
    mapping = stage.mapping(
        target=test_shapes.target("stock_level", "int"),
        phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}],
        source={
            **stage.DEFINITION["source"],
            "joins": "LEFT JOIN products AS p ON p.code = s.sku",
            "company": {"sql": "COALESCE(p.owner, s.company_id)"},
            "reserved": {"sql": "s.reserved + 0.5"},
        },
    )
    stage.shop(database, items=12)
    database.psql("""
        CREATE EXTENSION citext;
        ALTER TABLE companies ALTER id DROP IDENTITY;
        ALTER TABLE companies ALTER id TYPE citext USING 'c' || id;
        ALTER TABLE stock_items ALTER company_id TYPE citext USING 'C' || company_id,
            ALTER quantity TYPE numeric, ALTER reserved TYPE numeric;
        CREATE TABLE products (code text PRIMARY KEY, owner citext);
        INSERT INTO products VALUES ('SKU-3', 'C2');
        UPDATE stock_items SET quantity = 123456789012345678901234567890.5 WHERE id = 4;
        UPDATE stock_items SET reserved = 123456789012345678901234567890.25 WHERE id = 4;
    """)
    stage.locations(database, mapping)
    with pytest.raises(MigrationPaused):
        stage.transform(database, mapping, stop_after="pilot")
    # Between snapshot and chunk another record takes a key over.
    database.psql("""
        DELETE FROM stock_items WHERE id = 12;
        INSERT INTO stock_items (id, company_id, sku, quantity) VALUES (12, 'C3', 'again', 5);
    """)
    stage.transform(database, mapping, start=Start(resume=True))
    stage.close(database, mapping)
    sample = sampled(database, mapping)["sample"]
    assert sample["disagreements"] == []
    by_key = {record["key"]: record for record in sample["records"]}
    assert len(by_key) == 12
    assert by_key["4"]["after"]["reserved_there"] == "123456789012345678901234567890.75"
    assert by_key["3"]["company"] == "C2"
    assert by_key["12"]["after"]["quantity"] == "5"
    assert "item: SKU-12 before, again now, by the application" in by_key["12"]["says"]
    assert len(sample["not_recounted"]) == 2
