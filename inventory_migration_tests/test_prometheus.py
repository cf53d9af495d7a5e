"""What ships for monitoring, in a real Prometheus that scrapes a real run: all questions are asked.

Alerts are tried on made-up figures in `alerts.test.yml`; here they load, and what they and the
dashboard ask for is there while a migration runs.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from inventory_migration import watching
from inventory_migration.metrics import reading
from inventory_migration_tests import stage
from inventory_migration_tests.commands import im, mapping_file, program
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.dagster_runs import SLOW
from inventory_migration_tests.test_alerts import ALERTS, MONITORING, RULES, asked
from inventory_migration_tests.test_grafana import queries
from inventory_migration_tests.test_metrics import served

PROMETHEUS = shutil.which("prometheus")

pytestmark = [
    pytest.mark.one_server,
    pytest.mark.skipif(
        PROMETHEUS is None, reason="Prometheus is not there: apt-get install prometheus"
    ),
]

NOT_HERE = {
    "inventory_migration_health_replica_lag_seconds",
    "inventory_migration_health_replica_lag_bytes",
    "inventory_migration_health_slot_lag_bytes",
    "inventory_migration_health_wal_bytes_per_second",
    "inventory_migration_attempts_by_error",
}
"""Figures of replicas and slots, of a second look at the server, and of chunks that fail."""


class Prometheus:
    """A Prometheus that runs; what it answers to its API."""

    def __init__(self, address: str) -> None:
        self._address = address

    def get(self, path: str, **parameters: str) -> Any:
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=60) as response:
            found = json.load(response)
        assert found["status"] == "success", found
        return found["data"]

    def query(self, query: str) -> list[dict[str, Any]]:
        """What it answers now."""
        found: list[dict[str, Any]] = self.get("query", query=query)["result"]
        return found

    def ever(self, query: str, since: float) -> list[dict[str, Any]]:
        """What it would have answered, second by second, and now."""
        end = f"{time.time() + 1:.3f}"
        found: list[dict[str, Any]] = self.get(
            "query_range", query=query, start=f"{since:.3f}", end=end, step="1"
        )["result"]
        return found

    def until(self, query: str, running: subprocess.Popen[str] | None = None) -> None:
        """Wait until it has an answer, while a program runs."""
        deadline = time.monotonic() + 120
        while not self.query(query):
            assert running is None or running.poll() is None, running.communicate()
            assert time.monotonic() < deadline, query
            time.sleep(0.1)


@contextmanager
def prometheus(folder: Path, exporter: str) -> Iterator[Prometheus]:
    """A Prometheus with the configuration that ships, which scrapes this exporter every second."""
    shipped = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    (job, _) = shipped["scrape_configs"]
    job["static_configs"] = [{"targets": [exporter.removeprefix("http://")]}]
    shipped["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump({**shipped, "scrape_configs": [job]}))
    shutil.copy(MONITORING / "alerts.yml", folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (folder / "log").open("wb") as log, subprocess.Popen(
        [str(PROMETHEUS), f"--config.file={folder}/prometheus.yml",
         f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"],
        stdout=log, stderr=log,
    ) as running:  # fmt: skip
        try:
            found = Prometheus(address)
            deadline = time.monotonic() + 120
            while True:
                try:
                    found.query("vector(1)")
                    break
                except OSError:
                    assert running.poll() is None, (folder / "log").read_text()
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            yield found
        finally:
            running.kill()


def rules_in(found: Prometheus) -> dict[str, str]:
    """The rules that it has loaded, each with its health."""
    groups = found.get("rules")["groups"]
    return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}


@pytest.mark.slow
def test_everything_that_is_asked_of_a_run_has_an_answer(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    monkeypatch.setenv("INVENTORY_HOME", str(tmp_path))
    path = mapping_file(
        tmp_path,
        name="stock_items",
        phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}],
        thresholds={"quarantined_percent": 50},
        health={"look_seconds": 1, "wal_megabytes_per_second": {"slow": 999, "hold": 9999}},
    )
    # However slow this machine is, each second of the run is seen.
    monkeypatch.setattr(watching, "DUTY", 1.0)
    stage.shop(database)
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id = 5;" + SLOW)
    target = reading.hurried(database.url)
    reader = reading.Reader(lambda: reading.read(target))
    with served(reader.latest) as exporter, prometheus(tmp_path, exporter) as found:
        began = time.time()
        with program("run", "--mapping", str(path)) as running:
            found.until('inventory_migration_state{state="running"} == 1', running)
            found.until("inventory_migration_driver_working == 1", running)
            running.communicate(timeout=120)
        assert running.returncode == 0
        im("monitor", "--mapping", path)
        found.until("inventory_migration_monitor_passed == 1")
        for name in ("migrated", "quarantined"):
            (one,) = found.query(f'inventory_migration_records{{outcome="{name}"}}')
            assert int(one["value"][1]) == stage.outcomes(database)[name]
        for title, query in queries():
            if not {name for name, _ in asked(query)} & NOT_HERE:
                assert found.ever(query, began), (title, query)
        # What an alert compares is there, though it does not fire.
        for rule in ALERTS:
            for name in {name for name, _ in asked(rule["expr"])} - NOT_HERE:
                assert found.ever(name, began), rule["alert"]
        wanted = {rule.get("alert") or rule["record"] for group in RULES["groups"]
                  for rule in group["rules"]}  # fmt: skip
        assert rules_in(found) == dict.fromkeys(wanted, "ok")
        assert found.ever('ALERTS{alertstate="firing"}', began) == []


def test_questions_have_no_mistake_and_an_exporter_that_is_gone_is_told(tmp_path: Path) -> None:
    with prometheus(tmp_path, "http://127.0.0.1:1") as found:
        for title, query in [*queries(), *((r["alert"], r["expr"]) for r in ALERTS)]:
            try:
                found.query(query)
            except urllib.error.HTTPError as error:
                pytest.fail(f"{title}: {error.read().decode()}")
        found.until('up{job="inventory-migration"} == 0')
        found.until('ALERTS{alertname="InventoryMigrationExporterDown"}')
        with pytest.raises(urllib.error.HTTPError):
            found.query("sum(")
