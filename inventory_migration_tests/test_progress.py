"""The picture of a migration says what its summary and its snapshot say, in every state."""

from __future__ import annotations

import itertools
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from inventory_migration import quarantine, verbs, watching
from inventory_migration.engine import (
    control,
    course,
    ledger,
    particulars,
    phases,
    plan,
    progress,
    summary,
    undo_marks,
    undo_walk,
)
from inventory_migration.engine.undo_scope import WHOLE, Scope
from inventory_migration.engine.undo_statements import UndoStatements
from inventory_migration.errors import MigrationPaused, MigrationUnknown
from inventory_migration_tests import stage, test_purge
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.test_isolation import refusing
from inventory_migration_tests.test_retries import retry
from inventory_migration_tests.test_rollback import undo

pytestmark = pytest.mark.one_server

ROOMY = stage.mapping(
    thresholds={"quarantined_percent": 100},
    phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}],
    retention={"keep_online": "90 days"},
)
RESUMED = stage.Start(explicit=True, resume=True)


@pytest.fixture
def shop(database: Database) -> Database:
    """A shop in which some records are put aside by rules, and some by a trigger."""
    stage.shop(database, companies=3, items=30)
    database.psql("""
        UPDATE companies SET name = '<b>Shop</b> 50%_' WHERE id = 3;
        UPDATE stock_items SET quantity = NULL WHERE id IN (4, 6);
        UPDATE stock_items SET deleted_at = now() WHERE id IN (9, 12);
        UPDATE stock_items SET company_id = NULL WHERE id = 11;
    """)
    refusing(database, "NEW.id IN (7, 8)", "RAISE EXCEPTION 'item % is frozen', NEW.id")
    return database


def seen(target: verbs.Target, migration_id: int = 1) -> dict[str, Any]:
    """The picture, held against the summary and, while it is there, the snapshot."""
    found = watching.picture(target, migration_id)
    assert json.loads(json.dumps(found)) == found
    with target.reader.connect() as connection:
        migration = ledger.find(connection, migration_id=migration_id)
        assert migration is not None
        told = summary.summarize(connection, migration, mapping="shop", changed=False)
        companies = []
        if ledger.snapshot_exists(connection, migration):
            companies = summary.by_company(connection, migration)
    assert {name: found["records"][name] for name in told["records"]} == told["records"]
    assert all(count >= 0 for count in found["records"].values())
    assert found["records"]["undone"] == told["undone"]["records"]
    for measure in progress.MEASURES:
        assert found[measure]["snapshot"] == told[measure]["before"]
        assert found[measure]["difference"] == "0"
    assert (found["state"], found["reason"]) == (told["state"], told["reason"])
    if not told["archived"]:
        assert _by_rule(found) == told["quarantined"]
    if companies:
        listed = watching.companies(target, migration_id)
        assert listed["total"] == len(companies)
        for ours, theirs in zip(listed["companies"], companies, strict=True):
            assert {name: ours[name] for name in theirs} == theirs
        _adds_up(found)
    return found


def _by_rule(found: dict[str, Any]) -> dict[str, int]:
    rules: dict[str, int] = {}
    for listed in found["quarantine"]:
        rules[listed["rule"]] = rules.get(listed["rule"], 0) + listed["records"]
        assert 0 < len(listed["sample"]) <= min(listed["records"], particulars.SAMPLE)
    return rules


def _adds_up(found: dict[str, Any]) -> None:
    """What is told by phase and over time is what is told of the whole."""
    done = sum(found["records"][outcome] for outcome in summary.OUTCOMES)
    assert sum(phase["records_done"] for phase in found["phases"]) == done
    assert sum(phase["quarantined"] for phase in found["phases"]) == found["records"]["quarantined"]
    assert sum(bucket["records"] for bucket in found["timeline"]) == done
    assert {bucket["difference"] for bucket in found["timeline"]} <= {"0"}
    assert found["percent"] <= 100
    assert 0 <= found["active_seconds"] <= found["elapsed_seconds"]


def _companies_are_found(target: verbs.Target) -> None:
    """By a part of their name, or by their whole key."""

    def names(search: str, limit: int = 50) -> tuple[int, list[str]]:
        found = watching.companies(target, 1, search, limit)
        return found["total"], [company["company_name"] for company in found["companies"]]

    assert names("company") == (2, ["Company 1", "Company 2"])
    assert names("COMPANY", 1) == (2, ["Company 1"])
    assert names("%_") == (1, ["<b>Shop</b> 50%_"])
    assert names(" 3 ") == (1, ["<b>Shop</b> 50%_"])
    assert names("y_2") == (0, [])
    with pytest.raises(MigrationUnknown):
        watching.companies(target, 99)


def test_its_numbers_are_those_of_the_summary_from_plan_to_purge(
    shop: Database, target: verbs.Target, tmp_path: Path
) -> None:
    with pytest.raises(MigrationUnknown):
        watching.picture(target, 1)
    stage.locations(shop, ROOMY)
    assert seen(target)["stage"] == "preparing"
    with pytest.raises(MigrationPaused):
        stage.transform(shop, ROOMY, stop_after="pilot")
    paused = seen(target)
    assert (paused["stage"], paused["eta"], paused["desired"]) == ("standing", None, "pause")
    assert 0 < paused["percent"] < 99
    stage.transform(shop, ROOMY, start=RESUMED)
    moved = seen(target)
    assert (moved["stage"], moved["percent"]) == ("proving", 99.0)
    assert moved["attempts"]["failed"] > 0
    assert {error["error"] for error in moved["attempts"]["by_error"]} == {"P0001"}
    # The sweep takes up again what has an outcome already, and what is new.
    shop.psql("""
        UPDATE stock_items SET location_id = NULL WHERE id IN (1, 2, 3);
        DELETE FROM stock_items WHERE id IN (20, 21);
        INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'late', 1000);
    """)
    stage.pass_gate(shop.engine, ROOMY, "transformed_stock")
    stage.close(shop, ROOMY)
    verified = seen(target)
    assert (verified["stage"], verified["percent"], verified["eta"]) == ("finished", 100.0, None)
    assert [phase["name"] for phase in verified["phases"]] == ["pilot", "rest", "sweep"]
    # Of the 41 and more units that were deleted nothing is left to account for.
    assert verified["units"]["accounted"] == verified["units"]["snapshot"]
    assert all(phase["records"] == phase["records_done"] for phase in verified["phases"])
    _companies_are_found(target)
    shop.psql("UPDATE stock_items SET quantity = 44 WHERE id = 4")
    retry(shop, mapping=ROOMY)
    assert seen(target, 2)["records"]["migrated"] == 1
    assert seen(target)["records"] == verified["records"]
    undo(shop, ROOMY, migration_id=2)
    undone = seen(target, 2)
    assert (undone["stage"], undone["percent"]) == ("finished", 100.0)
    before = seen(target)
    quarantine.waive(target, "shop", ["4", "6", "7", "8", "11"], reason="lost")
    test_purge.age(shop)
    assert test_purge.purge(shop, tmp_path, ROOMY)
    purged = seen(target)
    for name in ("records", "state", "percent", "started_at", "finished_at"):
        assert purged[name] == before[name]
    assert [listed["percent"] for listed in watching.glance(target)] == [100.0, 100.0]


def test_its_numbers_are_those_of_the_summary_where_a_part_goes_back_and_on_again(
    shop: Database, target: verbs.Target
) -> None:
    stage.locations(shop, ROOMY)
    with pytest.raises(MigrationPaused):
        stage.transform(shop, ROOMY, stop_after="pilot")
    undo(shop, ROOMY, scope=Scope(companies=("1",)))
    assert seen(target)["records"]["undone"] > 0
    assert seen(target)["phases"][0]["records_undone"] > 0
    stage.locations(shop, ROOMY, RESUMED)
    assert seen(target)["records"]["undone"] == 0
    stage.transform(shop, ROOMY, start=RESUMED)
    assert seen(target)["percent"] == 99.0
    stage.close(shop, ROOMY)
    undo(shop, ROOMY, scope=Scope(companies=("2",)))
    assert seen(target)["state"] == "verified"
    undo(shop, ROOMY)
    undone = seen(target)
    assert undone["records"]["undone"] > 10
    assert (undone["stage"], undone["percent"]) == ("finished", 100.0)


def test_of_a_rollback_is_told_how_much_is_undone_and_when_it_ends(
    database: Database, target: verbs.Target
) -> None:
    stage.shop(database, items=60)
    migration = stage.migrate(database).migration
    assert migration is not None
    with control.exclusive(database.engine, 1) as connection:
        undo_marks.begin(connection, migration, WHOLE, reason="asked to")
        control.desire(connection, 1, "rollback")
    resolved = plan.read_mapping(database.engine, stage.MAPPING)
    begun = seen(target)
    assert (begun["stage"], begun["percent"], begun["eta"]) == ("rolling_back", 0.0, None)
    with database.engine.begin() as connection:
        undo_walk.undo_some(connection, UndoStatements(resolved, migration), 5, apart=False)
    database.psql("""
        ALTER TABLE inventory_migration.event DISABLE TRIGGER append_only;
        UPDATE inventory_migration.event SET at = at - interval '25 s'
        WHERE kind = 'state_rolling_back';
    """)
    with control.Claim(database.engine) as claim:
        claim.take(migration.target)
        found = seen(target)
    assert found["records"]["undone"] == 25
    assert found["percent"] == 41.6
    assert found["working"]["driver"]
    assert 30 < found["eta"]["low"] < found["eta"]["seconds"] < found["eta"]["high"] < 60
    assert sum(phase["records_undone"] for phase in found["phases"]) == 25
    undo(database)
    assert seen(target)["percent"] == 100.0


@pytest.mark.parametrize("state", ["held", "failed", "aborted"])
def test_what_stands_is_told_as_standing(
    database: Database, target: verbs.Target, state: str
) -> None:
    stage.shop(database)
    migration = stage.locations(database)
    assert migration is not None
    phases.set_running(database.engine, migration)
    with database.engine.begin() as connection:
        ledger.set_state(connection, migration.migration_id, state, reason="a disk is full")
    with control.Claim(database.engine) as claim:
        claim.take(migration.target)
        found = seen(target)
    assert found["stage"] == ("finished" if state == "aborted" else "standing")
    assert found["working"] == {
        "driver": False, "workers": 0, "last_sign_at": found["events"][0]["at"],
    }  # fmt: skip
    assert found["events"][0]["kind"] == f"state_{state}"
    assert found["reason"] == "a disk is full"


@pytest.mark.parametrize("span", [0, 0.5, 119.9, 120, 7_300, 90_000, 40 * 86_400, 4_000 * 86_400])
def test_any_span_of_time_fits_into_the_buckets(span: float) -> None:
    width = course.bucket_seconds(span)
    assert span // width + 1 <= course.BUCKETS
    assert width == 1 or span // (width / 3) + 1 > course.BUCKETS / 3


def test_the_course_has_few_buckets_and_leaves_out_the_time_in_between(
    database: Database, target: verbs.Target
) -> None:
    stage.shop(database)
    stage.locations(database)
    # Two chunks in a transaction every 40 s, with a night in between.
    database.psql("""
        INSERT INTO inventory_migration.phase (migration_id, number, name) VALUES (1, 1, 'rest');
        INSERT INTO inventory_migration.chunk
            (migration_id, number, phase, state, records, migrated, units_before, units_after,
             reserved_before, reserved_after, xid, started_at, finished_at)
        SELECT 1, n + 1, 1, 'done', 10, 10, n, n, 0, 0, (n / 2)::text, began,
               began + interval '15 s'
        FROM (SELECT n, '2026-01-01 20:00Z'::timestamptz + (n / 2 * 2) * interval '20 s'
                        + CASE WHEN n < 300 THEN interval '0' ELSE interval '9 h' END AS began
              FROM generate_series(0, 599) AS n) AS g;
        UPDATE inventory_migration.chunk SET units_after = 8 WHERE number = 8;
    """)
    found = watching.picture(target, 1)
    timeline = found["timeline"]
    assert 4 < len(timeline) <= course.BUCKETS
    assert sum(bucket["chunks"] for bucket in timeline) == 600
    assert sum(bucket["records"] for bucket in timeline) == 6000
    assert {bucket["seconds_median"] for bucket in timeline} == {15.0}
    assert {bucket["records_per_chunk"] for bucket in timeline} == {10.0}
    assert [bucket["difference"] for bucket in timeline if bucket["difference"] != "0"] == ["1"]
    assert found["units"]["difference"] == "1"
    times = [datetime.fromisoformat(bucket["at"]) for bucket in timeline]
    longest = max(b - a for a, b in itertools.pairwise(times)).total_seconds()
    assert 8.5 * 3600 < longest < 9.5 * 3600


def test_what_people_write_into_a_reason_shows_no_password(
    database: Database, target: verbs.Target
) -> None:
    stage.shop(database)
    stage.locations(database)
    secret = "postgresql://ann:s3cr3t-pa55@db.example/shop"
    control.pause(database.engine, 1, reason=f"moved to {secret}")
    told = json.dumps([watching.picture(target, 1), watching.glance(target)])
    assert told.count("ann:***@db.example") >= 5
    assert "s3cr3t" not in told
