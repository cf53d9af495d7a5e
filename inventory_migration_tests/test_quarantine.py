"""Records in quarantine, looked at: what is listed, what is told of one, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inventory_migration import quarantine, verbs
from inventory_migration.errors import NothingMigrated, NotInQuarantine
from inventory_migration_tests import stage
from inventory_migration_tests.commands import answer, im, mapping_file, sentence
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.test_isolation import refusing

LENIENT = stage.mapping(thresholds={"quarantined_percent": 100})


@pytest.fixture
def target(database: Database) -> verbs.Target:
    return verbs.open_target(database.url)


@pytest.fixture
def shop(database: Database) -> Database:
    """A shop with three records that no rule lets go, and one that a trigger refuses."""
    stage.shop(database, items=30)
    database.psql(
        "UPDATE stock_items SET quantity = NULL WHERE id IN (4, 11);"
        "UPDATE stock_items SET company_id = 99 WHERE id = 5"
    )
    refusing(database, "NEW.id = 7", "RAISE EXCEPTION 'item % is frozen', NEW.id")
    stage.migrate(database, LENIENT)
    return database


@pytest.mark.usefixtures("shop")
def test_what_is_in_quarantine_is_counted_by_rule_and_state_and_listed(
    target: verbs.Target,
) -> None:
    found = quarantine.list_records(target, "shop")
    assert found["total"] == 4
    assert found["counts"] == [
        {"rule": "company_missing", "state": "open", "records": 1},
        {"rule": "quantity_missing", "state": "open", "records": 2},
        {"rule": "refused_by_server", "state": "open", "records": 1},
    ]
    assert [(r["key"], r["company"], r["rule"], r["attempts"]) for r in found["records"]] == [
        ("5", "99", "company_missing", 1),
        ("4", "1", "quantity_missing", 1),
        ("11", "2", "quantity_missing", 1),
        ("7", "1", "refused_by_server", 1),
    ]
    assert found["records"][-1]["reason"] == "item 7 is frozen"


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        ({"rule": "quantity_missing"}, ["4", "11"]),
        ({"company": "1"}, ["4", "7"]),
        ({"company": "1", "rule": "refused_by_server"}, ["7"]),
        ({"state": "waived"}, []),
        ({"rule": "location_foreign"}, []),
    ],
)
def test_a_filter_holds_for_the_counts_and_for_the_records(
    target: verbs.Target, wanted: dict[str, str], keys: list[str]
) -> None:
    found = quarantine.list_records(target, "shop", **wanted)  # type: ignore[arg-type]
    assert [record["key"] for record in found["records"]] == keys
    assert found["total"] == sum(row["records"] for row in found["counts"]) == len(keys)


@pytest.mark.usefixtures("shop")
def test_a_limit_shortens_the_list_and_not_the_counts(target: verbs.Target) -> None:
    found = quarantine.list_records(target, "shop", limit=1)
    assert (found["total"], len(found["records"])) == (4, 1)


def test_a_record_is_told_as_it_was_kept_and_as_it_is_now(
    shop: Database, target: verbs.Target
) -> None:
    shop.psql("UPDATE stock_items SET quantity = 44 WHERE id = 4")
    found = quarantine.show_record(target, LENIENT, "4")
    assert (found["state"], found["rule"], found["reason"]) == (
        "open",
        "quantity_missing",
        "the quantity is NULL",
    )
    assert (found["record"]["quantity"], found["now"]["quantity"]) == (None, 44)
    assert found["record"]["sku"] == "SKU-4"
    assert found["prediction"] == {"outcome": "migrated", "rule": None}


def test_what_the_server_said_of_a_record_is_told(database: Database, target: verbs.Target) -> None:
    stage.shop(database, items=5)
    stage.locations(database, LENIENT)
    database.psql(
        "ALTER TABLE stock_items ADD CONSTRAINT odd CHECK (id <> 4 OR location_id IS NULL)"
    )
    stage.transform(database, LENIENT)
    found = quarantine.show_record(target, LENIENT, "4")
    assert (found["rule"], found["sqlstate"], found["constraint"]) == (
        "refused_by_server",
        "23514",
        "odd",
    )
    assert "violates check constraint" in found["reason"]
    assert found["migration_state"] == "running"


def test_a_record_that_is_gone_by_now_is_told_as_gone(shop: Database, target: verbs.Target) -> None:
    shop.psql("DELETE FROM stock_items WHERE id = 4")
    found = quarantine.show_record(target, LENIENT, "4")
    assert (found["now"], found["prediction"]) == (None, None)
    assert found["record"]["id"] == 4


def test_a_key_of_several_columns_is_found_by_its_parts(
    database: Database, target: verbs.Target
) -> None:
    composite = stage.mapping(
        source={**stage.DEFINITION["source"], "key": ["company_id", "sku"]},
        thresholds={"quarantined_percent": 100},
    )
    stage.shop(database)
    database.psql(
        "UPDATE stock_items SET quantity = NULL WHERE id = 4;"
        "ALTER TABLE stock_items DROP CONSTRAINT stock_items_pkey;"
        "ALTER TABLE stock_items ADD PRIMARY KEY (company_id, sku)"
    )
    stage.migrate(database, composite)
    for spelling in ("1,SKU-4", "1, SKU-4"):
        assert quarantine.show_record(target, composite, spelling)["key"] == "1, SKU-4"


@pytest.mark.usefixtures("shop")
def test_what_is_unknown_is_told_with_the_nearest(target: verbs.Target) -> None:
    with pytest.raises(NotInQuarantine, match=r"no record 110 is in quarantine; did you mean 11\?"):
        quarantine.show_record(target, LENIENT, "110")
    with pytest.raises(NotInQuarantine, match="did you mean company_missing") as caught:
        quarantine.list_records(target, "shop", rule="company_mising", company="98")
    assert len(caught.value.problems) == 2
    assert "quarantine list shop" in str(caught.value)


def test_nothing_is_in_quarantine_of_what_was_never_migrated(target: verbs.Target) -> None:
    with pytest.raises(NothingMigrated):
        quarantine.list_records(target, "shop")


class TestCommands:
    """The same as commands."""

    @pytest.fixture
    def path(self, shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("INVENTORY_DATABASE_URL", shop.url)
        monkeypatch.setenv("COLUMNS", "200")
        return mapping_file(tmp_path, thresholds={"quarantined_percent": 100})

    def test_list(self, path: Path) -> None:
        # What the ledger knows needs no file.
        said = im("quarantine", "list", "shop", "--limit", 3).stdout
        assert "quantity_missing   open" in said
        assert "1 more; --limit 4 lists them all." in said
        assert answer("quarantine", "list", "--mapping", path)["total"] == 4
        none = im("quarantine", "list", "shop", "--state", "waived").stdout
        assert none == "No record of shop is in quarantine, as far as was asked.\n"

    def test_show(self, path: Path) -> None:
        said = im("quarantine", "show", "--mapping", path, 7).stdout
        assert "shop, record 7: open" in said
        assert "item 7 is frozen" in said
        assert "P0001" in said
        assert '"sku": "SKU-7"' in said
        assert "now        the same" in said
        found = answer("quarantine", "show", "shop", 7, "--mapping", path)
        assert found["next"] == f"inventory-migration quarantine retry --mapping {path} 7"
        assert json.dumps(found["record"]) in said

    def test_mistakes_are_one_sentence(self, path: Path) -> None:
        unknown = im("quarantine", "show", 111, "--mapping", path, code=2)
        assert sentence(unknown) == (
            "Error: shop: no record 111 is in quarantine; did you mean 11?; "
            f"'inventory-migration quarantine list --mapping {path}' lists what there is"
        )
        assert "no mapping shopp" in sentence(im("quarantine", "list", "shopp", code=2))
        assert "'--state'" in sentence(im("quarantine", "list", "shop", "--state", "lost", code=2))
        assert "quote a key" in sentence(im("quarantine", "show", "shop", 1, 2, code=2))
