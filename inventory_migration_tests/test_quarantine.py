"""Records in quarantine, looked at: what is listed, what is told of one, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from inventory_migration import inquiries, quarantine, steering, verbs
from inventory_migration.engine import ledger, plan, snapshot
from inventory_migration.engine import quarantine as engine
from inventory_migration.engine.ledger import Migration
from inventory_migration.errors import (
    CommandUnclear,
    MigrationPaused,
    NothingMigrated,
    NotInQuarantine,
)
from inventory_migration.report.facts import collect
from inventory_migration.report.page import page
from inventory_migration_tests import stage
from inventory_migration_tests.commands import answer, im, mapping_file, sentence
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.test_isolation import refusing

pytestmark = pytest.mark.one_server

LENIENT = stage.mapping(thresholds={"quarantined_percent": 100})


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
        "the quantity is NULL or blank",
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


def test_a_waived_record_stays_where_it_is_with_who_said_so_and_why(
    shop: Database, target: verbs.Target
) -> None:
    found = quarantine.waive(target, "shop", ["4", "7", "4"], reason=" written off ")
    assert found == {"mapping": "shop", "waived": ["4", "7"], "reason": "written off", "open": 2}
    told = quarantine.show_record(target, LENIENT, "7")
    assert (told["state"], told["decision"]) == ("waived", "written off")
    assert told["decided_by"].startswith("postgres by ")
    [event] = told["events"]
    assert (event["kind"], event["reason"], event["who"]) == (
        "waived",
        "written off",
        told["decided_by"],
    )
    assert (
        shop.psql("SELECT detail->'keys' FROM inventory_migration.event WHERE kind = 'waived'")
        == '["4", "7"]'
    )


def test_a_waived_record_is_not_tried_again_by_itself(shop: Database, target: verbs.Target) -> None:
    quarantine.waive(target, "shop", ["4"], reason="written off")
    shop.psql("UPDATE stock_items SET quantity = 44 WHERE id = 4")
    assert stage.locations(shop, LENIENT) is None
    shop.psql("UPDATE stock_items SET quantity = 11 WHERE id = 11")
    assert stage.migrate(shop, LENIENT).proof.passed
    assert shop.psql("SELECT count(*) FROM inventory_migration.snapshot_2") == "1"
    unplaced = shop.psql("SELECT id FROM stock_items WHERE location_id IS NULL ORDER BY id")
    assert unplaced.split() == ["4", "5", "7"]


def test_what_was_waived_of_an_aborted_migration_is_left_by_the_next(
    database: Database, target: verbs.Target
) -> None:
    phased = stage.mapping(
        thresholds={"quarantined_percent": 100},
        phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}],
    )
    stage.shop(database)
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id IN (1, 4)")
    stage.locations(database, phased)
    with pytest.raises(MigrationPaused):
        stage.transform(database, phased, stop_after="pilot")
    quarantine.waive(target, "shop", ["4"], reason="written off")
    steering.abort(target, "shop")
    database.psql("UPDATE stock_items SET quantity = 4 WHERE id IN (1, 4)")
    assert stage.migrate(database, phased).proof.passed
    assert database.psql("SELECT id FROM stock_items WHERE location_id IS NULL") == "4"
    listed = quarantine.list_records(target, "shop")
    assert [(r["key"], r["state"]) for r in listed["records"]] == [
        ("1", "retried"),
        ("4", "waived"),
    ]


def test_a_sweep_does_not_try_a_waived_record_again(
    database: Database, target: verbs.Target
) -> None:
    stage.shop(database, companies=2)
    stage.locations(database, LENIENT)
    # Planned with it, and gone before the chunks.
    database.psql("CREATE TABLE kept AS SELECT * FROM locations WHERE company_id = 2")
    migration = ledger_migration(database)
    snapshot.write_snapshot(database.engine, plan.read_mapping(database.engine, LENIENT), migration)
    database.psql("DELETE FROM locations WHERE company_id = 2")
    stage.pass_gate(database.engine, LENIENT, "default_locations")
    stage.transform(database, LENIENT)
    late = [r["key"] for r in quarantine.list_records(target, "shop")["records"]]
    assert len(late) == 15
    quarantine.waive(target, "shop", late[:1], reason="its warehouse is closed")
    database.psql("INSERT INTO locations OVERRIDING SYSTEM VALUE SELECT * FROM kept")
    assert stage.close(database, LENIENT).proof.passed
    assert database.psql("SELECT id FROM stock_items WHERE location_id IS NULL") == late[0]


def ledger_migration(database: Database) -> Migration:
    with database.engine.connect() as connection:
        found = ledger.find(connection, mapping="shop")
    assert found is not None
    return found


def test_waiving_is_all_or_nothing_and_says_everything_that_is_wrong(
    shop: Database, target: verbs.Target
) -> None:
    quarantine.waive(target, "shop", ["4"], reason="written off")
    with pytest.raises(NotInQuarantine) as caught:
        quarantine.waive(target, "shop", ["4", "7"], reason="again")
    assert caught.value.problems == ("record 4 is waived already (written off)",)
    with pytest.raises(NotInQuarantine) as caught:
        quarantine.waive(target, "shop", ["7", "8", "9"], reason="again")
    assert [problem.partition(";")[0] for problem in caught.value.problems] == [
        "no record 8 is in quarantine",
        "no record 9 is in quarantine",
    ]
    for reason in ("", "  "):
        with pytest.raises(CommandUnclear, match="needs a reason"):
            quarantine.waive(target, "shop", ["7"], reason=reason)
    waived = "SELECT key_text FROM inventory_migration.outcome WHERE state = 'waived'"
    assert shop.psql(waived) == "4"


def test_a_record_of_a_migration_that_was_rolled_back_cannot_be_waived(
    shop: Database, target: verbs.Target
) -> None:
    shop.psql("DROP TRIGGER meddle ON stock_items")
    verbs.roll_back(target, LENIENT)
    with pytest.raises(NotInQuarantine, match="which is rolled back, so that the next run"):
        quarantine.waive(target, "shop", ["4"], reason="written off")
    assert quarantine.list_records(target, "shop", state="open")["total"] == 4


def test_a_waiver_that_somebody_else_was_quicker_to_give_is_refused(shop: Database) -> None:
    with shop.engine.connect() as first, shop.engine.connect() as second:
        rows = [engine.find_keys(session, "shop", ("4",)) for session in (first, second)]
        assert engine.waive(first, [rows[0]["4"]], reason="one")
        first.commit()
        assert not engine.waive(second, [rows[1]["4"]], reason="two")


def test_summary_and_report_say_what_was_waived(shop: Database, target: verbs.Target) -> None:
    quarantine.waive(target, "shop", ["4"], reason="written off")
    told = inquiries.last_summary(target, "shop")
    assert (told["waived"], told["records"]["quarantined"]) == (1, 4)
    facts = collect(shop.engine, LENIENT)
    assert facts is not None
    [waived] = [row for row in facts["quarantine"] if row["state"] == "waived"]
    assert (waived["key"], waived["decision"]) == ("4", "written off")
    assert "written off" in page(facts)


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

    def test_waive(self, path: Path) -> None:
        said = im("quarantine", "waive", "shop", 4, 7, "--reason", "written off").stdout
        assert said == "2 records stay where they are: 4, 7 (written off); 2 of shop are open.\n"
        found = answer("quarantine", "waive", 5, "--reason", "gone", "--mapping", path)
        assert (found["waived"], found["open"]) == (["5"], 1)
        assert "waived" in im("report", "--summary", "--mapping", path).stdout
        shown = im("quarantine", "show", 5, "--mapping", path).stdout
        assert re.search("waived +20.* by .*: gone", shown)

    def test_a_waiver_that_is_not_one_is_refused(self, path: Path) -> None:
        call = ("quarantine", "waive", "--mapping", path)
        assert "needs a reason" in sentence(im(*call, 4, "--reason", " ", code=2))
        assert "Missing option '--reason'" in sentence(im(*call, 4, code=2))
        assert "by their keys" in sentence(im(*call, "shop", "--reason", "x", code=2))

    def test_a_retry_asks_first(self, path: Path) -> None:
        asked = im("quarantine", "retry", "--all", "--mapping", path, code=2)
        assert (
            "this tries 4 records of shop again, in a migration of their own; nobody is here"
            in (sentence(asked))
        )
        assert len(answer("status")) == 1

    @pytest.mark.slow
    def test_retry(self, shop: Database, path: Path) -> None:
        call = ("quarantine", "retry", "--mapping", path)
        shop.psql("UPDATE stock_items SET quantity = 4 WHERE id IN (4, 11)")
        said = im(*call, 4, 5, "--yes").stdout
        assert "Tried again: 1 migrated, 1 quarantined." in said
        assert "Migration 2 of shop is verified." in said
        found = answer(*call, "--rule", "quantity_missing", "--yes")
        assert found["retried"] == {"migrated": 1}
        assert Path(found["report"]["markdown"]).is_file()
        nothing = im(*call, "--rule", "quantity_missing")
        assert nothing.stdout == "Nothing to try again: no record of shop that was meant is open.\n"

    def test_mistakes_are_one_sentence(self, path: Path) -> None:
        unknown = im("quarantine", "show", 111, "--mapping", path, code=2)
        assert sentence(unknown) == (
            "Error: shop: no record 111 is in quarantine; did you mean 11?; "
            f"'inventory-migration quarantine list --mapping {path}' lists what there is"
        )
        assert "no mapping shopp" in sentence(im("quarantine", "list", "shopp", code=2))
        assert "'--state'" in sentence(im("quarantine", "list", "shop", "--state", "lost", code=2))
        assert "quote a key" in sentence(im("quarantine", "show", "shop", 1, 2, code=2))
