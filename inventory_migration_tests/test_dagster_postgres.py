"""Dagster's storage in PostgreSQL: a job, a tick of a schedule, and launches through the UI."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import psycopg
import pytest
import yaml
from dagster._core.scheduler.instigation import ScheduleInstigatorData

from inventory_migration.database import quoted
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.dagster_runs import (
    CLAIMS,
    PROJECT,
    ROWS_OF_OTHERS,
    SLOW,
    dagster,
    dump,
    environment,
    job_execute,
)

pytestmark = pytest.mark.one_server

TEMPLATE = PROJECT / "deploy" / "dagster.postgres.yaml"
LOCATION = {
    "repositoryLocationName": "inventory_migration",
    "repositoryName": "__repository__",
}

LAUNCH = """
    mutation ($parameters: ExecutionParams!) {
      launchRun(executionParams: $parameters) {
        __typename
        ... on LaunchRunSuccess { run { runId } }
        ... on PythonError { message }
        ... on RunConfigValidationInvalid { errors { message } }
      }
    }
"""
RUN = """
    query ($id: ID!) {
      runOrError(runId: $id) { ... on Run { status } }
      logsForRun(runId: $id) {
        ... on EventConnection {
          events { ... on ExecutionStepFailureEvent { stepKey failureMetadata { description } } }
        }
      }
    }
"""
START_SCHEDULE = """
    mutation ($schedule: ScheduleSelector!) {
      startSchedule(scheduleSelector: $schedule) {
        __typename
        ... on PythonError { message }
      }
    }
"""
TICKS = """
    query ($schedule: InstigationSelector!) {
      instigationStateOrError(instigationSelector: $schedule) {
        ... on InstigationState { ticks { status runIds error { message } } }
      }
    }
"""
TERMINATE = """
    mutation ($id: String!) {
      terminateRun(runId: $id, terminatePolicy: SAFE_TERMINATE) { __typename }
    }
"""


Answer = TypeVar("Answer")


def until(found: Callable[[], Answer | None], seconds: float = 120) -> Answer:
    """Ask again and again, until there is an answer."""
    deadline = time.monotonic() + seconds
    while (answer := found()) is None:
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.2)
    return answer


class Ui:
    """The webserver, as a browser talks to it."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, query: str, **variables: Any) -> Any:
        """Return the data of a GraphQL query."""
        question = json.dumps({"query": query, "variables": variables})
        answer = json.loads(self._answer("POST", "/graphql", question))
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def is_up(self) -> bool | None:
        """Return whether it serves, None where it does not yet."""
        try:
            return bool(self._answer("GET", "/server_info"))
        except OSError:
            return None

    def _answer(self, method: str, path: str, body: str | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            return connection.getresponse().read()
        finally:
            connection.close()

    def launch(self, job: str, assets: list[list[str]] | None = None) -> str:
        """Launch a run, or only some assets of it, and return its id."""
        selector: dict[str, Any] = {**LOCATION, "jobName": job}
        if assets:
            selector["assetSelection"] = [{"path": path} for path in assets]
        answer = self.ask(LAUNCH, parameters={"selector": selector, "runConfigData": "{}"})
        assert answer["launchRun"]["__typename"] == "LaunchRunSuccess", answer
        return str(answer["launchRun"]["run"]["runId"])

    def end_of(self, run_id: str) -> tuple[str, list[str]]:
        """Wait for a run's end; return its status, and what its failed steps said."""

        def ended() -> tuple[str, list[str]] | None:
            answer = self.ask(RUN, id=run_id)
            status = answer["runOrError"]["status"]
            if status not in {"SUCCESS", "FAILURE", "CANCELED"}:
                return None
            found = [e for e in answer["logsForRun"]["events"] if e.get("failureMetadata")]
            return status, [e["failureMetadata"]["description"] for e in found]

        return until(ended)


@pytest.fixture
def home(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A DAGSTER_HOME with the template, and a database of Dagster's own."""
    name = f"{database.name}_dagster"
    url = database.url.replace(f"/{database.name}?", f"/{name}?")
    monkeypatch.setenv("DAGSTER_PG_URL", url.replace("postgresql://", "postgresql+psycopg2://"))
    shutil.copy(TEMPLATE, tmp_path / "dagster.yaml")
    with psycopg.connect(database.server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {quoted(name)} TEMPLATE template0")
        yield tmp_path
        connection.execute(f"DROP DATABASE {quoted(name)} WITH (FORCE)")


@contextmanager
def served(*commands: tuple[str, ...], shell: dict[str, str], log: Path) -> Iterator[None]:
    """Run services of Dagster's, and take them and all that they started down again."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            path = log.with_suffix(f".{len(started)}.log")
            started.append(dagster(*command, environment=shell, log=path))
        yield
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGTERM)
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(20)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def make_due(home: Path) -> None:
    """Let a schedule that was just started have been started two hours ago."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        (state,) = instance.all_instigator_state()
        data = ScheduleInstigatorData("0 * * * *", start_timestamp=time.time() - 7200)
        instance.update_instigator_state(state.with_data(data))


def test_the_template_names_the_driver_and_sends_nothing_home() -> None:
    text = TEMPLATE.read_text()
    assert "DAGSTER_PG_URL=postgresql+psycopg2://" in text
    settings = yaml.safe_load(text)
    assert settings["storage"]["postgres"]["postgres_url"] == {"env": "DAGSTER_PG_URL"}
    assert settings["telemetry"] == {"enabled": False}


@pytest.mark.slow
def test_runs_ticks_and_the_ui_work_with_postgresql_as_storage(
    database: Database, home: Path, tmp_path: Path
) -> None:
    stage.shop(database)
    database.psql("UPDATE stock_items SET quantity = -5 WHERE id = 4")
    shell = environment(database, home, stage.MAPPING)
    port = free_port()
    ui = Ui(port)
    webserver = ("dagster_webserver", "--host", "127.0.0.1", "--port", str(port))
    with served(webserver, shell=shell, log=tmp_path / "webserver"):
        # A job in a shell, while the webserver starts.
        run = dagster(*job_execute("migrate_shop"), environment=shell, log=tmp_path / "job.log")
        assert run.wait(120) == 0, (tmp_path / "job.log").read_text()[-3000:]
        # A mere warning is seen, and ends 0 all the same.
        said = (tmp_path / "job.log").read_text()
        assert "'quantity_not_negative' on 'shop/audit_profile' did not pass" in said
        until(ui.is_up)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            (record,) = instance.get_run_records()
            assert record.dagster_run.status == dg.DagsterRunStatus.SUCCESS
        assert not (home / "history").exists()

        # A tick, by the daemon.
        schedule = {**LOCATION, "scheduleName": "monitor_shop"}
        answer = ui.ask(START_SCHEDULE, schedule=schedule)
        assert answer["startSchedule"]["__typename"] == "ScheduleStateResult", answer
        make_due(home)
        with served(("dagster._daemon", "run"), shell=shell, log=tmp_path / "daemon"):
            named = {**LOCATION, "name": "monitor_shop"}

            def ticked() -> dict[str, Any] | None:
                state = ui.ask(TICKS, schedule=named)["instigationStateOrError"]
                ended = [tick for tick in state["ticks"] if tick["status"] != "STARTED"]
                return ended[0] if ended else None

            # Meanwhile a single asset, past a gate that does not hold any more.
            database.psql("UPDATE inventory_migration.gate SET passed = false")
            before = dump(database)
            alone = ui.launch("__ASSET_JOB", [["shop", "transformed_stock"]])
            status, why = ui.end_of(alone)
            assert status == "FAILURE"
            assert "the gate default_locations refused" in why[0]
            assert dump(database) == before

            tick = until(ticked)
            assert tick["status"] == "SUCCESS", tick
            assert ui.end_of(tick["runIds"][0]) == ("SUCCESS", [])

            # Launched and terminated in the UI; what is launched there, the daemon starts.
            database.psql(
                "INSERT INTO stock_items (company_id, sku, quantity) "
                "SELECT 1 + n % 3, 'NEW-' || n, n FROM generate_series(1, 60) n;" + SLOW
            )
            run_id = ui.launch("migrate_shop")
            some = (
                "SELECT count(*) > 0 FROM inventory_migration.chunk "
                "WHERE migration_id = 2 AND state = 'done'"
            )
            until(lambda: True if database.psql(some) == "t" else None)
            terminated = ui.ask(TERMINATE, id=run_id)["terminateRun"]["__typename"]
            assert terminated == "TerminateRunSuccess"
            status, _ = ui.end_of(run_id)
            assert status == "CANCELED"
            state = "SELECT state FROM inventory_migration.migration WHERE migration_id = 2"
            assert database.psql(state) == "paused"
            assert (database.psql(CLAIMS), database.psql(ROWS_OF_OTHERS)) == ("0", "0")
