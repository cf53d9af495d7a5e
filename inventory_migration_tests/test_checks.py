"""The gates: a planted violation of each suite stops what comes after it, a warning does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from inventory_migration import project, verbs
from inventory_migration.defs import metadata
from inventory_migration.defs.build import build_definitions
from inventory_migration.demo import create_demo
from inventory_migration.engine import reconcile
from inventory_migration.mapping import named_mapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.dagster_runs import (
    STEPS,
    checks,
    dagster,
    dump,
    environment,
    execute,
    failure,
    job_execute,
    materialized,
)

pytestmark = [pytest.mark.slow, pytest.mark.one_server]

GATES = """
    SELECT suite || ' ' || COALESCE(passed::text, 'unjudged')
    FROM inventory_migration.gate g
    WHERE gate_id = (SELECT max(gate_id) FROM inventory_migration.gate WHERE suite = g.suite)
    ORDER BY gate_id
"""

AMBIGUOUS = """
    CREATE TABLE locations (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        company_id bigint NOT NULL, name text, code text, is_default boolean NOT NULL);
    INSERT INTO locations (company_id, name, code, is_default)
    VALUES (2, 'North', 'N', true), (2, 'South', 'S', true);
"""

# What the application does to the data just before each suite judges it: the expectation that
# must see it, what it must say, and which rows it must name.
PLANTED = {
    "audit_profile": (AMBIGUOUS, "default_location_unambiguous", "1 row", ["2, Company 2"]),
    "default_locations": (
        "DELETE FROM locations WHERE company_id = 3",
        "default_location_present",
        "1 of 3 rows",
        ["3, Company 3"],
    ),
    "transformed_stock": (
        "UPDATE stock_items SET location_id = NULL WHERE id IN (11, 12)",
        "location_present",
        "2 of 30 rows",
        ["11", "12"],
    ),
    "reconciliation_report": (
        "UPDATE stock_items SET location_id = (SELECT id FROM locations WHERE company_id = 1) "
        "WHERE id = 2",
        "differences_explained",
        "1 row",
        ["2"],
    ),
}


def plant(monkeypatch: pytest.MonkeyPatch, database: Database, suite: str, sql: str) -> list[str]:
    """Execute SQL just before a suite judges; returns the suites judged, as they are judged."""
    judged: list[str] = []
    judge = verbs.judge

    def judge_after(target: verbs.Target, mapping: Any, judging: str, **options: Any) -> Any:
        if judging == suite:
            database.psql(sql)
        judged.append(judging)
        return judge(target, mapping, judging, **options)

    monkeypatch.setattr(verbs, "judge", judge_after)
    return judged


@pytest.mark.parametrize("suite", STEPS)
def test_a_violation_stops_what_comes_after_it(
    database: Database, monkeypatch: pytest.MonkeyPatch, suite: str
) -> None:
    stage.shop(database)
    sql, name, observed, keys = PLANTED[suite]
    judged = plant(monkeypatch, database, suite, sql)
    result = execute(database)

    reached = STEPS[: STEPS.index(suite) + 1]
    assert not result.success
    assert materialized(result) == [*reached]
    assert judged == [*reached]  # each suite once
    # What the last gate may take over lies there from the only phase's proof on, unjudged.
    kept = ["reconciliation_report unjudged"] if suite == "transformed_stock" else []
    assert database.psql(GATES).splitlines() == [
        *(f"{earlier} true" for earlier in reached[:-1]),
        *kept,
        f"{suite} false",
    ]

    failed = {n: c for n, c in checks(result, suite).items() if not c.passed}
    assert name in failed
    found = failed[name]
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert found.blocking
    assert f"Observed {observed}" in (found.description or "")
    assert found.metadata["observed"].value == observed
    assert [record.data["key"] for record in found.metadata["sample"].value.records] == keys
    assert all(key in (found.description or "") for key in keys)


def test_after_a_refused_gate_a_single_step_is_refused_too(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)
    plant(monkeypatch, database, "default_locations", PLANTED["default_locations"][0])
    assert not execute(database).success
    before = dump(database)
    alone = execute(database, only=["transformed_stock"])
    assert "the gate default_locations refused" in failure(alone)
    assert dump(database) == before


def test_a_warning_is_seen_and_stops_nothing(database: Database) -> None:
    stage.shop(database)
    database.psql("UPDATE stock_items SET quantity = -5 WHERE id = 4")
    result = execute(database)
    assert result.success
    assert materialized(result) == [*STEPS]
    found = checks(result, "audit_profile")["quantity_not_negative"]
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert [record.data["key"] for record in found.metadata["sample"].value.records] == ["4"]
    assert sum(not c.passed for c in result.get_asset_check_evaluations()) == 1
    observed = [
        event.asset_observation_data.asset_observation
        for event in result.all_events
        if event.event_type_value == "ASSET_OBSERVATION"
    ]
    told = [o for o in observed if "findings" in o.metadata]
    assert [o.asset_key.path[-1] for o in told] == ["audit_profile"]
    assert told[0].metadata["findings_warning"].value == 1
    text = told[0].metadata["findings"].value
    assert text.startswith("## Findings")
    assert "### quantity-not-negative" in text
    assert "For example: 4" in text


def test_a_page_too_long_for_the_ui_is_cut_where_nothing_is_torn() -> None:
    sql = "```sql\nSELECT 1\n\nFROM t\n```"
    whole = "\n\n".join(["## Page", *[f"### Part {n}\n\n{sql}" for n in range(2_000)]])
    cut = str(metadata.markdown(whole, "inventory-migration audit shop").value)
    assert len(cut) < metadata.LONGEST + 200
    assert cut.startswith("## Page\n\n### Part 0")
    assert cut.endswith("There is more: `inventory-migration audit shop` writes all of it.\n")
    assert cut.count("```sql") == cut.count("FROM t\n```")
    assert metadata.markdown("short", "x").value == "short"


def test_a_rule_that_fails_makes_its_expectation_critical(database: Database) -> None:
    stage.shop(database)
    database.psql("UPDATE stock_items SET quantity = -5 WHERE id = 4")
    result = execute(database, mapping=stage.mapping(rules={"negative_quantity": "fail"}))
    assert not result.success
    found = checks(result, "audit_profile")["quantity_not_negative"]
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert materialized(result) == ["audit_profile"]


@pytest.fixture
def own_suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of expectations of the user's own."""
    monkeypatch.setenv("INVENTORY_EXPECTATIONS", str(tmp_path))
    return tmp_path


def stricter(folder: Path, suite: str) -> None:
    """Write a suite that expects what no inventory of the tests has."""
    raw = json.loads(project.find("expectations", f"{suite}.json").read_text())
    raw["expectations"].append(
        {
            "type": "unexpected_rows_expectation",
            "kwargs": {"unexpected_rows_query": "SELECT '1' AS key_text FROM {batch} AS b LIMIT 1"},
            "meta": {
                "key": "no rows at all!",
                "why": "Here it does.",
                "effect": "Refuses.",
                "advice": "None.",
            },
            "description": "There is nothing.",
        }
    )
    (folder / f"{suite}.json").write_text(json.dumps(raw))


def test_a_suite_of_the_users_own_gates_as_well(database: Database, own_suites: Path) -> None:
    stage.shop(database)
    stricter(own_suites, "default_locations")
    result = execute(database)
    assert not result.success
    assert materialized(result) == ["audit_profile", "default_locations"]
    assert not checks(result, "default_locations")["no_rows_at_all_"].passed


def test_a_suite_with_a_mistake_fails_its_check_and_says_where(
    database: Database, own_suites: Path
) -> None:
    stage.shop(database)
    raw = json.loads(project.find("expectations", "audit_profile.json").read_text())
    raw["expectations"][0]["type"] = "expect_table_row_count_to_eqal"
    (own_suites / "audit_profile.json").write_text(json.dumps(raw))
    result = execute(database)
    assert not result.success
    assert materialized(result) == ["audit_profile"]
    found = checks(result, "audit_profile")
    assert not any(check.passed for check in found.values())
    assert "did you mean expect_table_row_count_to_equal?" in (found["row_count"].description or "")
    assert database.psql(GATES) == "audit_profile unjudged"


def test_a_suite_that_is_no_json_leaves_one_check_which_fails(
    database: Database, own_suites: Path
) -> None:
    stage.shop(database)
    (own_suites / "audit_profile.json").write_text("{")
    result = execute(database)
    assert not result.success
    assert materialized(result) == ["audit_profile"]
    found = checks(result, "audit_profile")
    assert list(found) == ["suite"]
    assert "is not JSON: line 1" in (found["suite"].description or "")


def test_a_suite_that_changed_after_it_was_loaded_opens_nothing(
    database: Database, own_suites: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)
    judge = verbs.judge

    def judge_another(*arguments: Any, **options: Any) -> Any:
        stricter(own_suites, "audit_profile")
        return judge(*arguments, **options)

    monkeypatch.setattr(verbs, "judge", judge_another)
    result = execute(database)
    assert not result.success
    assert materialized(result) == ["audit_profile"]
    found = checks(result, "audit_profile")["row_count"]
    assert "reload the code location" in (found.description or "")
    assert database.psql(GATES) == "audit_profile unjudged"


def judge_alone(database: Database, suite: str, *only: str) -> dg.ExecuteInProcessResult:
    """Execute some checks of an asset and not the asset, as the UI's button does."""
    definitions = build_definitions([stage.MAPPING], database_url=database.url)
    keys = {dg.AssetCheckKey(dg.AssetKey(["shop", suite]), name) for name in only}
    job = definitions.resolve_implicit_global_asset_job_def()
    return job.get_subset(asset_check_selection=keys).execute_in_process(raise_on_error=False)


def test_checks_alone_judge_the_whole_suite_and_open_an_old_gate(database: Database) -> None:
    stage.shop(database)
    assert execute(database, only=["audit_profile", "default_locations"]).success
    database.psql("UPDATE inventory_migration.gate SET judged_at = judged_at - interval '9 days'")
    assert not execute(database, only=["transformed_stock"]).success
    result = judge_alone(database, "default_locations", "row_count")
    assert result.success
    assert list(checks(result, "default_locations")) == ["row_count"]
    kept = (
        "SELECT jsonb_array_length(verdict -> 'expectations') FROM inventory_migration.gate "
        "ORDER BY gate_id DESC LIMIT 1"
    )
    assert int(database.psql(kept)) > 1
    assert execute(database, only=["transformed_stock"]).success


def test_an_error_nobody_foresaw_fails_the_check_and_shuts_a_gate_that_was_open(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)
    assert execute(database, only=["audit_profile"]).success
    assert database.psql(GATES) == "audit_profile true"

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(verbs, "judge", broken)
    result = judge_alone(database, "audit_profile", "row_count")
    assert not result.success
    found = checks(result, "audit_profile")["row_count"]
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert "could not be judged: RuntimeError: out of luck" in (found.description or "")
    assert "Traceback" in found.metadata["error"].value
    assert database.psql(GATES) == "audit_profile unjudged"
    assert "audit_profile has not judged" in failure(execute(database, only=["default_locations"]))


def test_a_report_that_proves_nothing_fails_whatever_the_users_suite_says(
    database: Database, own_suites: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)
    lenient = json.loads(project.find("expectations", "reconciliation_report.json").read_text())
    lenient["expectations"] = lenient["expectations"][:1]
    (own_suites / "reconciliation_report.json").write_text(json.dumps(lenient))
    close = reconcile._close

    def close_after_a_theft(*arguments: Any) -> Any:
        database.psql(PLANTED["reconciliation_report"][0])
        return close(*arguments)

    # As where somebody has written before, so that all is swept and proved first.
    monkeypatch.setattr(reconcile, "_close_unswept", lambda *_: None)
    monkeypatch.setattr(reconcile, "_close", close_after_a_theft)
    result = execute(database)
    assert not result.success
    found = checks(result, "reconciliation_report")
    assert found["row_count"].passed
    assert not found["migration_verified"].passed
    assert "location foreign: 1 (such as 2)" in (found["migration_verified"].description or "")
    assert database.psql("SELECT state FROM inventory_migration.migration") == "failed"


def test_broken_data_ends_a_shell_with_1_and_changes_nothing(
    database: Database, tmp_path: Path
) -> None:
    create_demo(database.engine, companies=5, items=300, broken=True)
    before = dump(database)
    mapping = named_mapping("stock_items")
    shell = environment(database, tmp_path / "home", mapping)
    log = tmp_path / "log"
    run = dagster(*job_execute("migrate_stock_items"), environment=shell, log=log)
    assert run.wait(120) == 1
    assert dump(database) == before
    said = log.read_text()
    assert "Asset check 'default_location_unambiguous'" in said
    assert "default_location_of_a_company" in said
    assert "Stack Trace:" not in said  # Dagster's own frames would bury the sentence
    assert "Materialized value stock_items default_locations" not in said


def test_dirty_data_is_migrated_but_for_what_is_put_aside(database: Database) -> None:
    planted = create_demo(database.engine, companies=5, items=2000, dirty=0.005).defects
    mapping = named_mapping("stock_items")
    result = execute(database, "migrate_stock_items", mapping=mapping)
    assert result.success
    warned = {n for n, c in checks(result, "audit_profile").items() if not c.passed}
    assert {"quantity_not_negative", "quantity_present", "company_exists"} <= warned
    quarantined = sum(planted[d] for d in ("quantity_missing", "company_unknown", "company_null"))
    put_aside = "SELECT count(*) FROM inventory_migration.outcome WHERE outcome = 'quarantined'"
    assert database.psql(put_aside) == str(quarantined)
    assert database.psql("SELECT state FROM inventory_migration.migration") == "verified"
