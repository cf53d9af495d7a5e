"""The steps as assets: what they show, and what keeps them from writing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.defs import metadata
from inventory_migration.engine.control import Claim
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.dagster_runs import (
    CLAIMS,
    ROWS_OF_OTHERS,
    SLOW,
    STEPS,
    dump,
    execute,
    failure,
    materialized,
)

pytestmark = [pytest.mark.slow, pytest.mark.one_server]

STATE = "SELECT state FROM inventory_migration.migration ORDER BY migration_id DESC LIMIT 1"
LOCATED = "SELECT count(*) FROM stock_items WHERE location_id IS NOT NULL"


def plain(result: dg.ExecuteInProcessResult, step: str) -> dict[str, Any]:
    """Return the metadata of a step's asset as plain values."""
    events = result.asset_materializations_for_node(f"shop__{step}")
    return {name: found.value for name, found in events[0].metadata.items()}


def test_each_step_says_in_numbers_what_it_did(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_DASHBOARD_URL", "http://stock.example:8642")
    stage.shop(database)
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id = 7")
    lenient = stage.mapping(thresholds={"action": "continue"})
    with dg.DagsterInstance.ephemeral() as instance:
        result = execute(database, mapping=lenient, instance=instance)
        logged = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert result.success
    assert "Watch it on http://stock.example:8642/" in logged
    assert materialized(result) == list(STEPS)

    profile = plain(result, "audit_profile")
    assert profile["dagster/row_count"] == 30
    assert profile["quantity_missing"] == 1
    assert profile["units"] == 465 - 7
    assert profile["profile"].startswith("## Profile of public.stock")
    columns = {c.name: c for c in profile["dagster/column_schema"].columns}
    assert columns["quantity"].type == "integer"
    assert columns["quantity"].description == "units in stock"
    assert columns["id"].constraints.unique

    locations = plain(result, "default_locations")
    assert locations["dagster/row_count"] == locations["locations_created"] == 3
    assert locations["dagster/table_name"].endswith(".public.locations")
    assert [r.data["company"] for r in locations["locations"].records] == [
        "Company 1",
        "Company 2",
        "Company 3",
    ]

    stock = plain(result, "transformed_stock")
    assert (stock["rows_total"], stock["rows_migrated"], stock["quarantined"]) == (30, 29, 1)
    assert stock["dagster/table_name"].endswith(".public.stock_items")
    assert stock["records_per_second"] > 0
    assert "location_id" in {c.name for c in stock["dagster/column_schema"].columns}

    report = plain(result, "reconciliation_report")
    assert report["state"] == "verified"
    assert report["units_before"] == report["units_after"] == 465 - 7
    assert report["available_before"] == report["available_after"]
    assert report["differences"] == "none"
    assert Path(report["report_markdown"]).read_text() == report["report"]
    assert Path(report["report_html"]).read_text().startswith("<!DOCTYPE html>")
    assert Path(report["report_json"]).stat().st_size > 100


def test_units_are_plotted_only_where_that_loses_nothing() -> None:
    for exact in ("0.5", "9007199254740993", "-9007199254740993"):
        assert metadata.number(exact) == dg.MetadataValue.text(exact)
    assert metadata.number("-3650509") == dg.MetadataValue.int(-3650509)


def test_a_rerun_changes_nothing_and_says_so(database: Database) -> None:
    stage.shop(database)
    assert execute(database).success
    before = dump(database), database.psql("SELECT count(*) FROM inventory_migration.migration")
    again = execute(database)
    assert again.success
    assert materialized(again) == list(STEPS)
    assert plain(again, "transformed_stock")["records_per_second"] == 0
    assert "nothing to do" in plain(again, "reconciliation_report")["summary"]
    assert (
        dump(database),
        database.psql("SELECT count(*) FROM inventory_migration.migration"),
    ) == before


def test_an_empty_inventory_is_legal(database: Database) -> None:
    stage.shop(database, companies=0, items=0)
    result = execute(database)
    assert result.success
    assert plain(result, "transformed_stock")["rows_total"] == 0


def test_the_claim_is_held_from_the_first_step_to_the_last(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)
    held = []
    judge = verbs.judge

    def watched(target: verbs.Target, mapping: Any, suite: str, **options: Any) -> Any:
        with target.reader.connect() as connection:
            query = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
            held.append(connection.execute(sa.text(query)).scalars().all())
        return judge(target, mapping, suite, **options)

    monkeypatch.setattr(verbs, "judge", watched)
    assert execute(database).success
    # The same session through all four gates, and nobody's when the run has ended.
    assert len(held) == 4
    assert len({*map(tuple, held)}) == 1
    assert len(held[0]) == 1
    assert database.psql(CLAIMS) == "0"


def test_of_two_starts_at_once_one_works_and_the_other_says_so(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)
    judge, first_is_at_work, second_has_ended = verbs.judge, threading.Event(), threading.Event()

    def waiting(*arguments: Any, **options: Any) -> Any:
        first_is_at_work.set()
        assert second_has_ended.wait(60)
        return judge(*arguments, **options)

    monkeypatch.setattr(verbs, "judge", waiting)
    results: list[dg.ExecuteInProcessResult] = []
    first = threading.Thread(target=lambda: results.append(execute(database)))
    first.start()
    assert first_is_at_work.wait(60)
    second = execute(database)
    second_has_ended.set()
    first.join()
    assert not second.success
    assert materialized(second) == []
    assert "another process is migrating public.stock_items.location_id" in failure(second)
    assert results[0].success
    assert database.psql(LOCATED) == "30"


def test_a_single_step_without_its_gate_is_refused_and_writes_nothing(database: Database) -> None:
    stage.shop(database)
    before = dump(database)
    for step, why in (
        ("default_locations", "the gate audit_profile never ran"),
        ("transformed_stock", "the gate default_locations never ran"),
        ("reconciliation_report", "the gate transformed_stock never ran"),
    ):
        result = execute(database, only=[step])
        assert not result.success
        assert materialized(result) == []
        assert why in failure(result)
    assert dump(database) == before


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("UPDATE inventory_migration.gate SET passed = false", "refused"),
        (
            "UPDATE inventory_migration.gate SET judged_at = judged_at - interval '2 days'",
            "is older than 1440 minutes",
        ),
        (
            "DELETE FROM locations; INSERT INTO locations (company_id, name, code, is_default) "
            "SELECT id, 'Other', 'OTHER', true FROM companies",
            "is stale",
        ),
    ],
    ids=["refused", "old", "stale"],
)
def test_a_single_step_after_a_gate_that_no_longer_holds_is_refused(
    database: Database, what: str, why: str
) -> None:
    stage.shop(database)
    assert execute(database, only=["audit_profile", "default_locations"]).success
    database.psql(what)
    before = dump(database)
    result = execute(database, only=["transformed_stock"])
    assert not result.success
    assert f"the gate default_locations {why}" in failure(result)
    assert dump(database) == before


def test_a_single_step_under_another_version_of_the_mapping_is_refused(database: Database) -> None:
    stage.shop(database)
    assert execute(database, only=["audit_profile", "default_locations"]).success
    before = dump(database)
    result = execute(database, only=["transformed_stock"], mapping=stage.mapping(chunk={"rows": 6}))
    assert "judged another version of the mapping" in failure(result)
    assert dump(database) == before


def test_steps_one_by_one_do_what_a_run_does(database: Database) -> None:
    stage.shop(database)
    for step in STEPS:
        assert execute(database, only=[step]).success, step
    assert database.psql(STATE) == "verified"
    assert database.psql(LOCATED) == "30"


def test_a_mistake_in_the_mapping_is_a_sentence_and_no_traceback(database: Database) -> None:
    stage.shop(database)
    wrong = stage.mapping(source={**stage.DEFINITION["source"], "quantity": "quantety"})
    result = execute(database, mapping=wrong)
    assert not result.success
    assert "quantety" in failure(result)
    event = next(e for e in result.all_events if e.is_step_failure)
    assert event.step_failure_data.user_failure_data.metadata["condition"].value == "MappingInvalid"
    error = event.step_failure_data.error
    assert error.cause is None
    assert error.context is None
    assert not any("verbs.py" in frame for frame in error.stack)


def test_a_server_that_does_not_answer_is_a_sentence_without_the_password() -> None:
    nowhere = Database("gone", "postgresql://shop:s3cret@127.0.0.1:1/shop", None)  # type: ignore[arg-type]
    result = execute(nowhere)
    assert not result.success
    assert "Can not reach the database (host 127.0.0.1:1, database shop)" in failure(result)
    assert "s3cret" not in repr(result.all_events)


@contextmanager
def interrupted_when(database: Database, query: str, wanted: str) -> Iterator[list[float]]:
    """Interrupt this process, as Ctrl-C does, once a query gives an answer; yields when it did."""
    at: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            try:
                found = database.psql(query)
            except AssertionError:
                continue  # the ledger is not there yet
            if found == wanted:
                at.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGINT)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield at
    finally:
        over.set()
        thread.join()


def test_an_interrupt_leaves_the_migration_paused_and_nothing_behind(database: Database) -> None:
    stage.shop(database)
    database.psql(SLOW)
    some = "SELECT count(*) > 0 FROM inventory_migration.chunk WHERE state = 'done'"
    with interrupted_when(database, some, "t") as at:
        result = execute(database)
    assert time.monotonic() - at[0] < 5
    assert not result.success
    assert materialized(result) == ["audit_profile", "default_locations"]
    assert database.psql(STATE) == "paused"
    assert database.psql(CLAIMS) == "0"
    assert database.psql(ROWS_OF_OTHERS) == "0"
    assert int(database.psql(LOCATED)) in range(5, 30)


def test_an_interrupt_of_a_gate_leaves_the_migration_paused_too(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)
    judge = verbs.judge

    def interrupted(target: verbs.Target, mapping: Any, suite: str, **options: Any) -> Any:
        if suite == "transformed_stock":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        return judge(target, mapping, suite, **options)

    monkeypatch.setattr(verbs, "judge", interrupted)
    assert not execute(database).success
    assert database.psql(STATE) == "paused"
    assert database.psql(CLAIMS) == "0"


def test_an_interrupt_pauses_nothing_that_another_process_drives(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)
    assert execute(database, only=["audit_profile", "default_locations"]).success
    profile = verbs.audit_profile

    def interrupted(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
        return profile(*arguments, **options)

    monkeypatch.setattr(verbs, "audit_profile", interrupted)
    with Claim(database.engine) as claim:
        claim.take("public.stock_items.location_id")
        assert not execute(database).success
    assert database.psql(STATE) == "planned"
