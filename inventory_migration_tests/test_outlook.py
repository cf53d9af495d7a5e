"""What `test` and `validate` say in words: default locations, issues, figures of now."""

from __future__ import annotations

import io
from typing import Any

import pytest

from inventory_migration import verbs
from inventory_migration.cli import answers, outlook
from inventory_migration.cli.terminal import console
from inventory_migration.demo import create_demo
from inventory_migration.engine import plan, prediction
from inventory_migration.engine.standing import standing
from inventory_migration.mapping import Expression, StockMapping, named_mapping
from inventory_migration_tests import stage
from inventory_migration_tests.commands import answer, im
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.one_server

BATCHES = named_mapping("inventory_batches")
MAKE = {"id": Expression(sql="gen_random_uuid()::text"), "name": "Main"}
CREATING = BATCHES.model_copy(
    update={"locations": BATCHES.locations.model_copy(update={"create": MAKE})}
)


def demo(database: Database, script: str = "") -> None:
    create_demo(database.engine, companies=20, items=400)
    database.psql(script)


def told(database: Database, mapping: StockMapping = BATCHES, **changes: Any) -> str:
    """What a person reads of a prediction whose gate has passed."""
    resolved = plan.read_mapping(database.engine, mapping)
    with database.engine.connect() as connection:
        found = prediction.predict(connection, resolved)
    found["gate"] = {"passed": True, "expectations": 14, "failed": [], "warnings": [], "notes": []}
    stream = io.StringIO()
    outlook.prediction(console(stream), {**found, **changes})
    return stream.getvalue()


def cells(text: str, first: str) -> list[str]:
    """The last words of the line that begins with a name."""
    line = next(line for line in text.splitlines() if line.startswith(first))
    return line.removeprefix(first).split()


def test_it_is_said_that_every_company_has_its_default_location(database: Database) -> None:
    demo(database)
    references = 40 + int(database.psql('SELECT count(*) FROM "Store"'))
    text = told(database)
    assert "would move 40 of 40 records of InventoryBatch, in about a second." in text
    assert "Every company (Tenant) has exactly one default location (Store).\n" in text
    assert (
        "No issue in the data:\n  no record would be quarantined, and none has a warning\n"
        f"  {references} references by 2 foreign keys, each to a row that is there\n"
    ) in text
    assert cells(text, "Haddad Workwear Ltd") == ["19", "19", "0", "there"]
    assert "Gate audit_profile: passes. 14 expectations, 0 not met.\n" in text


LACKING = (
    'UPDATE "Store" SET "isMain" = false WHERE "tenantId" = (SELECT id FROM "Tenant" '
    "WHERE name = 'Haddad Workwear Ltd'); INSERT INTO \"Tenant\" VALUES ('idle', 'Idle Ltd')"
)


def test_companies_without_a_default_location_are_named_with_what_would_be_done(
    database: Database,
) -> None:
    demo(database, LACKING)
    names = (
        "2 of 5 companies (Tenant) without a default location (Store): Haddad Workwear Ltd, "
        "Idle Ltd. "
    )
    text = told(database)
    assert f"{names}Make one for each, or say under `locations.create` what a new one has." in text
    assert cells(text, "Haddad Workwear Ltd") == ["19", "19", "0", "MISSING"]
    assert "  and 1 company without records\n" in text
    assert "Every company" not in text
    many = [f"Company {number}" for number in range(1, 8)]
    text = told(database, companies_without_default_location=many)
    assert ": Company 1, Company 2, Company 3, Company 4, Company 5 and 2 more. " in text
    text = told(database, CREATING)
    assert f"{names}Each would get one." in text
    assert cells(text, "Haddad Workwear Ltd") == ["19", "19", "0", "to", "be", "made"]


def test_companies_with_several_default_locations_are_named(database: Database) -> None:
    demo(
        database,
        'INSERT INTO "Store" SELECT \'second\', id, name, true FROM "Tenant" '
        "WHERE name = 'Haddad Workwear Ltd'",
    )
    text = told(database)
    assert (
        "1 of 4 companies (Tenant) with more than one default location (Store): "
        "Haddad Workwear Ltd. Leave one to each.\n"
    ) in text
    assert "Every company" not in text


def test_no_company_is_no_promise(database: Database) -> None:
    demo(database, 'TRUNCATE "InventoryBatch", "Store", "Tenant"')
    assert "There is no company (Tenant)." in told(database)


def test_what_is_wrong_with_the_data_is_told_in_words(database: Database) -> None:
    demo(
        database,
        """
        UPDATE "InventoryBatch" SET "remainingQuantity" = -3
        WHERE id = (SELECT min(id) FROM "InventoryBatch");
        UPDATE "InventoryBatch" SET "storeAllocations" = '{"nobody": {}}'
        WHERE id = (SELECT max(id) FROM "InventoryBatch");
        CREATE TABLE lots (batch text);
        INSERT INTO lots SELECT id FROM "InventoryBatch" LIMIT 3;
        INSERT INTO lots VALUES ('gone'), (NULL);
        ALTER TABLE lots ADD CONSTRAINT lot FOREIGN KEY (batch) REFERENCES "InventoryBatch"
            NOT VALID
        """,
    )
    assert (
        "Issues in the data:\n"
        "  1 record would be quarantined: refers to a location that is missing or belongs to "
        "another company (location_foreign)\n"
        "  1 record would move with a warning: the quantity is negative (negative_quantity)\n"
        "  1 of 4 references by lots.lot lead to no row\n"
    ) in told(database)


def test_a_unique_key_that_holds_up_who_refers_to_a_record_is_told(database: Database) -> None:
    stage.shop(database)
    database.psql("CREATE UNIQUE INDEX ON stock_items (sku, updated_at)")
    text = told(database, stage.mapping(touch={"updated_at": {"sql": "now()"}}))
    assert "changes the unique key (sku, updated_at): who inserts rows" in text


def test_a_validation_tells_the_units_as_they_are_now(database: Database) -> None:
    stage.shop(database, companies=2, items=10)
    resolved = plan.read_mapping(database.engine, stage.MAPPING)
    with database.engine.connect() as connection:
        assert standing(connection, resolved, None)["records"]["snapshot"] == 0
    stage.migrate(database)
    database.psql("UPDATE stock_items SET quantity = quantity - 5, reserved = 1 WHERE id = 10")
    resolved = plan.read_mapping(database.engine, stage.MAPPING)
    found = verbs.validate(verbs.open_target(database.url), stage.MAPPING)
    assert found["passed"]
    assert found["records"]["migrated"] == found["records"]["snapshot"] == 10
    assert found["units"] == {"before": "55", "after": "50"}
    assert found["reserved"] == {"before": "10", "after": "9"}
    assert found["available"] == {"before": "45", "after": "41"}
    assert found["changed_by_application"] == {"units": "-5", "reserved": "-1"}
    stream = io.StringIO()
    answers.validation(console(stream), found)
    assert cells(stream.getvalue(), "Units") == ["55", "before,", "50", "now"]
    assert "-5 units, -1 reserved changed meanwhile" in stream.getvalue()


def test_a_planned_migration_stands_without_a_snapshot(database: Database) -> None:
    stage.shop(database, companies=2, items=10)
    migration = stage.locations(database)
    resolved = plan.read_mapping(database.engine, stage.MAPPING)
    with database.engine.connect() as connection:
        assert standing(connection, resolved, migration)["units"] == {"before": "0", "after": "0"}


@pytest.mark.slow
def test_the_four_commands_on_batches_say_what_they_did(database: Database) -> None:
    demo(database, LACKING.partition(";")[2])
    words = ("inventory_batches", "--database-url", database.url)
    look = im("test", *words, code=3).stdout
    assert "1 of 5 companies (Tenant) without a default location (Store): Idle Ltd." in look
    assert "Gate audit_profile: REFUSES. 27 expectations, 1 not met." in look
    database.psql("DELETE FROM \"Tenant\" WHERE id = 'idle'")
    im("run", *words)
    proved = im("validate", *words).stdout
    assert cells(proved, "  migrated") == ["40"]
    assert "Gate transformed_stock: passes. " in proved
    validated = answer("validate", *words)
    assert validated["units"]["before"] == validated["units"]["after"] != "0"
    undone = im("rollback", *words, "--yes").stdout
    assert "Undone             40 records, 0 locations; 0 records kept" in undone
