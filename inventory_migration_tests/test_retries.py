"""Records in quarantine, tried again: in a migration of their own, under every shape, and back."""

from __future__ import annotations

from typing import Any

import pytest

from inventory_migration import quarantine, verbs
from inventory_migration.engine import balances, control, rollback
from inventory_migration.engine.plan import Start
from inventory_migration.engine.quarantine import Filter
from inventory_migration.engine.reconcile import Reconciled
from inventory_migration.engine.undo_scope import Scope
from inventory_migration.errors import (
    CommandUnclear,
    MigrationPaused,
    MigrationRolledBack,
    NothingMigrated,
    NotInQuarantine,
    StartRefused,
)
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage, test_shapes
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.test_isolation import refusing
from inventory_migration_tests.test_rollback import undo

pytestmark = pytest.mark.one_server

LENIENT = stage.mapping(thresholds={"quarantined_percent": 100})
STATES = "SELECT migration_id, key_text, state FROM inventory_migration.outcome ORDER BY 1, 2"


@pytest.fixture
def shop(database: Database) -> Database:
    """A shop with two records that no rule lets go, and two that a trigger refuses."""
    stage.shop(database, items=30)
    database.psql(
        "UPDATE stock_items SET quantity = NULL WHERE id = 4;"
        "UPDATE stock_items SET company_id = 99 WHERE id = 5"
    )
    refusing(database, "NEW.id IN (7, 8)", "RAISE EXCEPTION 'item % is frozen', NEW.id")
    stage.migrate(database, LENIENT)
    return database


def retry(
    database: Database, wanted: Filter | None = None, mapping: StockMapping = LENIENT
) -> Reconciled:
    """All steps of a retry."""
    start = Start(explicit=True, retry=wanted or Filter())
    assert stage.locations(database, mapping, start) is not None
    stage.transform(database, mapping)
    return stage.close(database, mapping)


def states(target: verbs.Target) -> dict[str, tuple[str, str, int]]:
    """State, rule and attempts of each record in quarantine, by its key."""
    found = quarantine.list_records(target, "shop")
    return {r["key"]: (r["state"], r["rule"], r["attempts"]) for r in found["records"]}


def test_what_goes_is_out_of_quarantine_and_what_does_not_stays_with_its_new_reason(
    shop: Database, target: verbs.Target
) -> None:
    shop.psql(
        "UPDATE stock_items SET quantity = 44 WHERE id = 4;"
        "UPDATE stock_items SET company_id = 2, quantity = NULL WHERE id = 5;"
        "DROP TRIGGER meddle ON stock_items; DROP FUNCTION meddle;"
    )
    refusing(shop, "NEW.id = 8", "RAISE EXCEPTION 'item % is still frozen', NEW.id")
    assert retry(shop).proof.differences == []
    assert states(target) == {
        "4": ("retried", "quantity_missing", 2),
        "5": ("open", "quantity_missing", 2),
        "7": ("retried", "refused_by_server", 2),
        "8": ("open", "refused_by_server", 2),
    }
    unplaced = shop.psql("SELECT id FROM stock_items WHERE location_id IS NULL ORDER BY id")
    assert unplaced.split() == ["5", "8"]
    told = quarantine.show_record(target, LENIENT, "8")
    assert told["reason"] == "item 8 is still frozen"
    assert [(r["migration_id"], r["outcome"]) for r in told["retries"]] == [(2, "quarantined")]
    gone = quarantine.show_record(target, LENIENT, "7")
    assert gone["decision"] == "migration 2: migrated"
    assert [event["kind"] for event in gone["events"]] == ["retrying", "state_verified"]
    assert shop.psql(STATES) == (
        "1|4|retried\n1|5|retried\n1|7|retried\n1|8|retried\n2|5|open\n2|8|open"
    )


@pytest.mark.parametrize(
    ("wanted", "tried"),
    [
        (Filter(keys=("4", "7")), ["4", "7"]),
        (Filter(rule="refused_by_server"), ["7", "8"]),
        (Filter(), ["4", "5", "7", "8"]),
    ],
)
def test_only_what_is_meant_is_tried_again(
    shop: Database, wanted: Filter, tried: list[str]
) -> None:
    shop.psql("UPDATE stock_items SET quantity = 5, company_id = 1 WHERE id IN (4, 5)")
    assert retry(shop, wanted).proof.passed
    keys = shop.psql("SELECT key_1 FROM inventory_migration.snapshot_2 ORDER BY 1")
    assert keys.split() == tried


def test_a_waived_record_is_tried_again_where_its_key_is_named(
    shop: Database, target: verbs.Target
) -> None:
    shop.psql("UPDATE stock_items SET quantity = 44 WHERE id = 4")
    quarantine.waive(target, "shop", ["4", "5"], reason="written off")
    assert retry(shop).proof.passed
    assert {key: state for key, (state, *_) in states(target).items()} == {
        "4": "waived", "5": "waived", "7": "open", "8": "open",
    }  # fmt: skip
    assert retry(shop, Filter(keys=("4",))).proof.passed
    assert states(target)["4"] == ("retried", "quantity_missing", 2)


def test_a_record_that_is_gone_by_now_is_out_of_quarantine(
    shop: Database, target: verbs.Target
) -> None:
    shop.psql("DELETE FROM stock_items WHERE id = 4")
    assert retry(shop, Filter(keys=("4",))).proof.passed
    told = quarantine.show_record(target, LENIENT, "4")
    assert (told["state"], told["decision"]) == ("retried", "migration 2: gone")
    assert [r["outcome"] for r in told["retries"]] == ["gone"]


def test_a_plain_run_that_takes_what_was_mended_says_so_too(
    shop: Database, target: verbs.Target
) -> None:
    shop.psql("UPDATE stock_items SET quantity = 44 WHERE id = 4")
    assert stage.migrate(shop, LENIENT).proof.passed
    assert states(target)["4"] == ("retried", "quantity_missing", 2)
    assert states(target)["7"] == ("open", "refused_by_server", 1)


def test_what_has_arrived_meanwhile_is_swept_up_by_a_retry(shop: Database) -> None:
    shop.psql("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'LATE', 3)")
    assert retry(shop, Filter(keys=("7",))).proof.passed
    assert shop.psql("SELECT count(location_id) FROM stock_items WHERE sku = 'LATE'") == "1"


def test_a_rollback_opens_again_what_a_retry_had_closed(
    shop: Database, target: verbs.Target
) -> None:
    shop.psql("UPDATE stock_items SET quantity = 44 WHERE id = 4")
    before = stage.table(shop, "stock_items")
    assert retry(shop).proof.passed
    undo(shop, LENIENT, 2)
    assert stage.table(shop, "stock_items") == before
    assert states(target) == {
        "4": ("open", "quantity_missing", 2),
        "5": ("open", "company_missing", 2),
        "7": ("open", "refused_by_server", 2),
        "8": ("open", "refused_by_server", 2),
    }
    told = quarantine.show_record(target, LENIENT, "4")
    assert told["decision"] == "migration 2 was rolled back"
    assert [(r["migration_id"], r["outcome"]) for r in told["retries"]] == [(2, "undone")]
    assert told["events"][-1]["kind"] == "state_rolled_back"


def test_after_a_rollback_of_all_a_run_decides_anew(shop: Database, target: verbs.Target) -> None:
    retry(shop)
    shop.psql("ALTER TABLE stock_items DISABLE TRIGGER meddle")
    undo(shop, LENIENT)
    assert {state for state, *_ in states(target).values()} == {"open"}
    with pytest.raises(StartRefused, match=r"migration 2 of shop is rolled back.*run shop"):
        quarantine.selected(target, LENIENT, Filter())
    shop.psql("UPDATE stock_items SET quantity = 44 WHERE id = 4")
    assert stage.migrate(shop, LENIENT).proof.passed
    assert {key: state for key, (state, *_) in states(target).items()} == {
        "4": "retried", "5": "open", "7": "retried", "8": "retried",
    }  # fmt: skip


def test_what_was_rolled_back_in_part_is_not_taken_by_a_retry(
    shop: Database, target: verbs.Target
) -> None:
    shop.psql("ALTER TABLE stock_items DISABLE TRIGGER meddle")
    with control.Claim(shop.engine) as claim:
        rollback.roll_back(shop.engine, LENIENT, claim, scope=Scope(companies=("3",)))
    with pytest.raises(StartRefused, match=r"rolled back in part, which a retry .*run shop"):
        quarantine.selected(target, LENIENT, Filter())


def test_a_retry_that_died_goes_on_with_what_it_was_for(
    shop: Database, target: verbs.Target
) -> None:
    shop.psql("UPDATE stock_items SET quantity = 44 WHERE id = 4")
    stage.locations(shop, LENIENT, Start(explicit=True, retry=Filter(keys=("7",))))
    with pytest.raises(StartRefused, match=r"is planned, and records are tried .*run shop"):
        quarantine.selected(target, LENIENT, Filter())
    with pytest.raises(StartRefused, match="is planned"):
        stage.locations(shop, LENIENT, Start(explicit=True, retry=Filter()))
    assert stage.migrate(shop, LENIENT).proof.passed
    assert shop.psql("SELECT key_1 FROM inventory_migration.snapshot_2") == "7"


def test_what_is_refused_again_does_not_count_against_the_threshold(database: Database) -> None:
    strict = stage.mapping(thresholds={"quarantined_percent": 30, "after_records": 1})
    stage.shop(database, items=30)
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id IN (4, 5)")
    stage.migrate(database, strict)
    assert retry(database, mapping=strict).proof.passed
    database.psql("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'BAD', NULL)")
    # One that is new does.
    with pytest.raises(MigrationRolledBack, match="1 of 3 records"):
        retry(database, mapping=strict)


def test_a_migration_that_stands_still_is_resumed_first(
    database: Database, target: verbs.Target
) -> None:
    phased = stage.mapping(
        thresholds={"quarantined_percent": 100},
        phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}],
    )
    stage.shop(database)
    with pytest.raises(NothingMigrated):
        quarantine.selected(target, phased, Filter())
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id = 4")
    stage.locations(database, phased)
    with pytest.raises(MigrationPaused):
        stage.transform(database, phased, stop_after="pilot")
    with pytest.raises(StartRefused, match=r"is paused, and records are tried .*resume shop"):
        quarantine.selected(target, phased, Filter())


def test_what_cannot_be_tried_again_is_told_all_at_once(
    shop: Database, target: verbs.Target
) -> None:
    shop.psql("UPDATE stock_items SET quantity = 44 WHERE id = 4")
    retry(shop, Filter(keys=("4",)))
    with pytest.raises(NotInQuarantine) as caught:
        quarantine.selected(target, LENIENT, Filter(keys=("4", "5")))
    assert caught.value.problems == ("record 4 is out of quarantine (migration 2: migrated)",)
    with pytest.raises(NotInQuarantine, match="no record 9 is"):
        quarantine.selected(target, LENIENT, Filter(keys=("9", "5")))
    with pytest.raises(NotInQuarantine, match="did you mean quantity_missing"):
        quarantine.selected(target, LENIENT, Filter(rule="quantity_mising"))


@pytest.mark.parametrize(
    "said", [{}, {"keys": ["4"], "everything": True}, {"rule": "x", "everything": True}]
)
def test_it_must_be_said_which_records_are_meant(said: dict[str, Any]) -> None:
    with pytest.raises(CommandUnclear, match="their keys, or --rule RULE, or --all"):
        quarantine.selection(**said)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "keys"),
    [
        ("location_column", "uuid"),
        ("allocation_json", "int"),
        ("stock_level", "int"),
        ("stock_level", "composite"),
    ],
)
def test_every_shape_tries_again_proves_it_and_takes_it_back(
    database: Database, target: verbs.Target, shape: str, keys: str
) -> None:
    mapping = test_shapes.prepared(database, shape, keys, "gross")
    stage.migrate(database, mapping)
    before = test_shapes.placed(database, shape, keys)
    assert len(before) == 28
    database.psql("UPDATE stock_items SET quantity = 7 WHERE sku = 'SKU-7'")
    found = retry(database, mapping=mapping)
    assert found.proof.differences == []
    assert found.migration is not None
    with database.engine.connect() as connection:
        resolved = stage.plan.resolve(connection, mapping)
        unbalanced = balances.balance(connection, resolved, found.migration)
        assert not connection.exec_driver_sql(
            f"SELECT * FROM ({unbalanced.replace('%', '%%')}) AS b "
            "WHERE available_after - available_before <> explained"
        ).all()
    assert len(test_shapes.placed(database, shape, keys)) == 29
    assert [state for state, *_ in states(target).values()] == ["retried"]
    undo(database, mapping, 2)
    assert test_shapes.placed(database, shape, keys) == before
    assert [state for state, *_ in states(target).values()] == ["open"]


@pytest.mark.slow
def test_a_retry_as_one_call_has_all_gates_and_says_what_came_of_it(
    shop: Database, target: verbs.Target
) -> None:
    shop.psql("UPDATE stock_items SET quantity = 44 WHERE id = 4")
    found = quarantine.retry(target, LENIENT, quarantine.selection(everything=True))
    assert found["retried"] == {"migrated": 1, "quarantined": 3}
    assert (found["migration_id"], found["state"], found["changed"]) == (2, "verified", True)
    assert verbs.validate(target, LENIENT)["passed"]
    quarantine.waive(target, "shop", ["5", "7", "8"], reason="written off")
    nothing = quarantine.retry(target, LENIENT, quarantine.selection(everything=True))
    assert (nothing["changed"], nothing["retried"]) == (False, {})
