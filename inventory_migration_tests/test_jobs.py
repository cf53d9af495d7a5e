"""The jobs: options reach the steps, looking writes nothing, schedules and the sensor do theirs."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from inventory_migration.defs.build import build_definitions
from inventory_migration.defs.resources import DatabaseResource
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.dagster_runs import (
    CLAIMS,
    ROWS_OF_OTHERS,
    SLOW,
    dagster,
    dump,
    environment,
    execute,
    failure,
    job_execute,
    materialized,
)
from inventory_migration_tests.receivers import Receiver

pytestmark = [pytest.mark.slow, pytest.mark.one_server]

STATE = "SELECT state FROM inventory_migration.migration ORDER BY migration_id DESC LIMIT 1"
LOCATED = "SELECT count(*) FROM stock_items WHERE location_id IS NOT NULL"
PHASES = stage.mapping(phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}])


def outputs(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """Return the metadata of the one step of a job, as plain values."""
    events = [e for e in result.all_events if e.is_successful_output]
    return {name: found.value for name, found in events[0].step_output_data.metadata.items()}


def everything(database: Database) -> str:
    """Return the application and the ledger, as they are dumped."""
    return dump(database) + dump(database, schema="inventory_migration")


def test_a_run_stops_after_a_phase_and_only_a_resume_goes_on(database: Database) -> None:
    stage.shop(database)
    stopped = execute(database, mapping=PHASES, stop_after="pilot")
    assert not stopped.success
    assert "stopped after phase pilot" in failure(stopped)
    assert (database.psql(STATE), database.psql(LOCATED)) == ("paused", "10")

    refused = execute(database, mapping=PHASES)
    assert "go on with 'inventory-migration resume shop'" in failure(refused)
    assert database.psql(LOCATED) == "10"

    assert execute(database, mapping=PHASES, resume=True, workers=1).success
    assert (database.psql(STATE), database.psql(LOCATED)) == ("verified", "30")
    run_ids = database.psql("SELECT cardinality(run_ids) FROM inventory_migration.migration")
    assert run_ids == "2"


def test_a_phase_that_does_not_exist_is_refused(database: Database) -> None:
    stage.shop(database)
    result = execute(database, mapping=PHASES, stop_after="pillot")
    assert "there is no phase pillot; phases: pilot, rest" in failure(result)


def test_a_rollback_stands_against_every_start_but_an_explicit_one(database: Database) -> None:
    stage.shop(database)
    before = database.psql("SELECT * FROM stock_items ORDER BY id")
    assert execute(database).success
    foretold = execute(database, "rollback_shop", **config(dry_run=True))
    assert outputs(foretold)["records_undone"] == 30
    assert database.psql(LOCATED) == "30"
    undone = execute(database, "rollback_shop", **config(reason="wrong day"))
    assert undone.success
    assert outputs(undone)["records_undone"] == 30
    assert (
        database.psql(
            "ALTER TABLE stock_items DROP location_id; SELECT * FROM stock_items ORDER BY id"
        )
        == before
    )
    assert "wrong day" in database.psql("SELECT reason FROM inventory_migration.migration")

    refused = execute(database)
    assert "only an explicit run follows that" in failure(refused)
    assert execute(database, explicit=True).success
    assert database.psql(LOCATED) == "30"


def test_a_migration_is_paused_and_ended_from_dagster(database: Database, told: Receiver) -> None:
    stage.shop(database)
    assert not execute(database, mapping=PHASES, stop_after="pilot").success
    database.psql("""
        UPDATE inventory_migration.migration SET state = 'running';
        UPDATE inventory_migration.control SET desired = 'run';
    """)
    paused = execute(database, "pause_shop", **config("pause_shop_now", reason="lunch"))
    assert outputs(paused)["changed"] is True
    assert database.psql(f"{STATE}; SELECT reason FROM inventory_migration.migration") == (
        "paused\nlunch"
    )
    assert "is paused (lunch)" in failure(execute(database, mapping=PHASES))
    ended = execute(database, "abort_shop", **config("abort_shop_now", reason="wrong mapping"))
    assert outputs(ended)["changed"] is True
    assert database.psql(STATE) == "aborted"
    assert "only an explicit run follows that" in failure(execute(database, mapping=PHASES))
    assert outputs(execute(database, "abort_shop"))["changed"] is False
    assert told.events == ["started", "phase_done", "paused", "paused", "aborted"]
    assert [got.said["reason"] for got in told.got[3:]] == ["lunch", "wrong mapping"]


def test_a_rollback_by_id_undoes_that_migration_alone(database: Database, told: Receiver) -> None:
    stage.shop(database)
    assert execute(database).success
    database.psql("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'NEW', 5)")
    assert execute(database).success
    assert execute(database, "rollback_shop", **config(migration_id=2)).success
    assert database.psql(LOCATED) == "30"
    unknown = execute(database, "rollback_shop", **config(migration_id=7))
    assert "shop has no migration 7" in failure(unknown)
    assert [(got.said["event"], got.said["migration_id"]) for got in told.got] == [
        *(("started", 1), ("phase_done", 1), ("finished", 1)),
        *(("started", 2), ("phase_done", 2), ("finished", 2), ("rolled_back", 2)),
    ]


def test_a_validation_writes_nothing_and_sees_a_difference(database: Database) -> None:
    stage.shop(database)
    assert execute(database).success
    before = everything(database)
    with dg.DagsterInstance.ephemeral() as instance:
        passed = execute(database, "validate_shop", instance=instance)
        assert passed.success
        assert outputs(passed)["passed"] is True
        assert instance.get_asset_keys() == [dg.AssetKey(["shop", "reconciliation_report"])]
        assert materialized(passed) == []
    assert everything(database) == before

    database.psql(
        "UPDATE stock_items SET location_id = (SELECT id FROM locations WHERE company_id = 1) "
        "WHERE id = 2"
    )
    before = everything(database)
    failed = execute(database, "validate_shop")
    assert not failed.success
    assert "location foreign: 1 (such as 2)" in failure(failed)
    (seen,) = [e for e in failed.all_events if e.event_type_value == "ASSET_OBSERVATION"]
    found = seen.event_specific_data.asset_observation
    assert found.metadata["differences_unexplained"].value == 1
    assert everything(database) == before


def test_a_dry_run_predicts_and_writes_nothing_at_all(database: Database) -> None:
    stage.shop(database)
    before = dump(database)
    with dg.DagsterInstance.ephemeral() as instance:
        result = execute(database, "dry_run_shop", instance=instance)
        assert instance.get_asset_keys() == []
    assert result.success
    prediction = outputs(result)["prediction"]
    assert prediction["records"]["migrated"] == 30
    assert prediction["gate"]["passed"] is True
    assert dump(database) == before
    assert database.psql("SELECT to_regnamespace('inventory_migration') IS NULL") == "t"


def test_the_database_can_be_a_variable_of_the_users_choice(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)
    monkeypatch.setenv("SHOP_URL", database.url)
    resource = DatabaseResource(url=dg.EnvVar("SHOP_URL"))
    definitions = build_definitions([stage.MAPPING], resource_overrides={"database": resource})
    assert definitions.resolve_job_def("dry_run_shop").execute_in_process().success


def test_a_dry_run_fails_where_the_gate_would_refuse(database: Database) -> None:
    stage.shop(database)
    database.psql("UPDATE stock_items SET quantity = -5 WHERE id = 4")
    strict = stage.mapping(rules={"negative_quantity": "fail"})
    result = execute(database, "dry_run_shop", mapping=strict)
    assert "the gate audit_profile would refuse (quantity-not-negative: 1 of 30 rows)" in failure(
        result
    )


@pytest.mark.parametrize(
    ("schedule", "job"), [("rerun_shop", "migrate_shop"), ("monitor_shop", "monitor_shop")]
)
def test_a_tick_asks_for_a_run_that_works(database: Database, schedule: str, job: str) -> None:
    stage.shop(database)
    assert execute(database).success
    database.psql("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'NEW', 5)")
    definitions = build_definitions([stage.MAPPING], database_url=database.url)
    repository = definitions.get_repository_def()
    made = repository.get_schedule_def(schedule)
    with dg.DagsterInstance.ephemeral() as instance:
        moment = datetime(2026, 11, 23, 3, tzinfo=UTC)
        with dg.build_schedule_context(
            instance, scheduled_execution_time=moment, repository_def=repository
        ) as context:
            tick = made.evaluate_tick(context)
        (request,) = tick.run_requests or []
        assert made.job_name == job
        result = execute(database, job, instance=instance, **request.run_config)
    # The rerun takes what is new; the monitoring only says that there is something.
    assert result.success == (job == "migrate_shop")
    assert database.psql(LOCATED) == ("31" if job == "migrate_shop" else "30")


def test_a_failed_run_is_noted_in_the_ledger(database: Database) -> None:
    stage.shop(database)
    definitions = build_definitions([stage.MAPPING], database_url=database.url)
    sensor = definitions.get_repository_def().get_sensor_def("note_failed_runs")

    def evaluate(result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance) -> None:
        with dg.build_run_status_sensor_context(
            sensor_name="note_failed_runs",
            dagster_instance=instance,
            dagster_run=result.dagster_run,
            dagster_event=result.get_run_failure_event(),
            resources=definitions.resources,
        ).for_run_failure() as context:
            sensor(context)

    with dg.DagsterInstance.ephemeral() as instance:
        # Nothing was ever written, so that nothing is now.
        evaluate(execute(database, only=["transformed_stock"], instance=instance), instance)
        assert database.psql("SELECT to_regnamespace('inventory_migration') IS NULL") == "t"
        stopped = execute(database, mapping=PHASES, stop_after="pilot", instance=instance)
        evaluate(stopped, instance)
    noted = database.psql(
        "SELECT migration_id, detail ->> 'job', detail ->> 'run_id', detail ->> 'said' "
        "FROM inventory_migration.event WHERE kind = 'run_failed'"
    )
    assert noted.startswith(f"1|migrate_shop|{stopped.run_id}|migration 1 of shop is paused")


def test_a_terminated_shell_leaves_the_migration_paused_and_no_lock(
    database: Database, tmp_path: Path
) -> None:
    stage.shop(database)
    database.psql(SLOW)
    shell = environment(database, tmp_path / "home", stage.MAPPING)
    run = dagster(*job_execute("migrate_shop"), environment=shell, log=tmp_path / "log")
    deadline = time.monotonic() + 120
    while database.psql("SELECT to_regclass('inventory_migration.chunk') IS NOT NULL") == "f" or (
        database.psql("SELECT count(*) FROM inventory_migration.chunk WHERE state = 'done'") == "0"
    ):
        assert run.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(run.pid, signal.SIGTERM)
    assert run.wait(120) == 1
    assert database.psql(STATE) == "paused"
    assert (database.psql(CLAIMS), database.psql(ROWS_OF_OTHERS)) == ("0", "0")
    assert int(database.psql(LOCATED)) in range(5, 30)


def config(step: str = "roll_back_shop", **options: Any) -> dict[str, Any]:
    """Return the configuration of a job's only step."""
    return {"ops": {step: {"config": options}}}
