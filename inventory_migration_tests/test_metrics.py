"""The figures for Prometheus: as the ledger has them, within bounded time, and nothing secret."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from inventory_migration import verbs, watching
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import latest, ledger
from inventory_migration.engine.ledger.installation import TRANSITIONS
from inventory_migration.metrics import exposition, reading, samples, serving
from inventory_migration.metrics.catalogue import METRICS, PREFIX
from inventory_migration.metrics.samples import Sample
from inventory_migration_tests import stage
from inventory_migration_tests.commands import answer, im, program, sentence
from inventory_migration_tests.conftest import Database, made_database

PROMTOOL = shutil.which("promtool")
WITHOUT_PROMTOOL = "promtool is not there: apt-get install prometheus"

LENIENT = stage.mapping(
    thresholds={"quarantined_percent": 50}, phases=[{"name": "pilot", "companies": 1},
                                                    {"name": "rest"}],
)  # fmt: skip

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def figures(text: str) -> Figures:
    """What a scrape says: values by name, without the prefix, and labels."""
    return {
        (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Figures, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


@pytest.fixture(scope="module")
def migrated(server: EmbeddedServer) -> Iterator[Database]:
    """The shop after its move; of 30 records two are in quarantine and one is skipped."""
    with made_database(server) as database:
        stage.shop(database)
        database.psql("""
            UPDATE stock_items SET quantity = NULL WHERE id IN (5, 6);
            UPDATE stock_items SET deleted_at = now() WHERE id = 7;
            UPDATE companies SET name = 'Acme "&<b>' WHERE id = 1;
        """)
        stage.migrate(database, LENIENT)
        yield database


@pytest.fixture
def scraped(migrated: Database, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", migrated.url)
    return im("metrics").stdout


def test_figures_are_those_of_the_ledger(migrated: Database, scraped: str) -> None:
    found = figures(scraped)
    one = {"mapping": "shop", "migration_id": "1"}
    outcomes = {
        outcome: int(value(found, "records", outcome=outcome, **one))
        for outcome in ("migrated", "already", "skipped", "quarantined", "gone", "pending")
    }
    assert {name: n for name, n in outcomes.items() if n} == stage.outcomes(migrated)
    assert sum(outcomes.values()) == value(found, "snapshot_records", **one) == 30
    units = migrated.psql("SELECT sum(quantity) FROM inventory_migration.snapshot_1")
    assert value(found, "snapshot_units", **one) == float(units)
    assert value(found, "accounted_units", **one) == float(units)
    assert value(found, "difference_units", **one) == 0
    assert value(found, "progress_ratio", **one) == 1
    assert value(found, "quarantined_records", rule="quantity_missing", **one) == 2
    assert value(found, "quarantine_limit_ratio", **one) == 0.5
    assert value(found, "phase_done_records", phase="pilot", **one) == 10
    assert value(found, "driver_working", **one) == value(found, "workers", **one) == 0
    assert value(found, "migrations", mapping="shop", state="verified") == 1
    assert value(found, "gate_passed", mapping="shop", gate="audit_profile") == 1
    states = {dict(labels)["state"]: n for (name, labels), n in found.items() if name == "state"}
    assert states.keys() == TRANSITIONS["migration"].keys() | {"rolled_back"}
    assert [state for state, n in states.items() if n] == ["verified"]
    success = value(found, "last_success_timestamp_seconds", mapping="shop")
    assert 0 <= time.time() - success < 600
    assert value(found, "up") == 1


def test_every_figure_has_the_name_the_meaning_and_the_labels_of_the_catalogue(
    scraped: str,
) -> None:
    known = {metric.full_name: metric for metric in METRICS.values()}
    shown = set()
    for family in text_string_to_metric_families(scraped):
        for sample in family.samples:
            metric = known[sample.name]
            assert set(metric.labels) == sample.labels.keys(), sample
            assert family.documentation == metric.meaning
            assert family.type == metric.kind
            shown.add(sample.name)
    assert len(shown) > 30


def test_no_figure_names_a_company_a_record_or_a_person(migrated: Database, scraped: str) -> None:
    assert "Acme" not in scraped
    assert "SKU-" not in scraped
    for text in migrated.psql("SELECT DISTINCT who FROM inventory_migration.event").splitlines():
        assert text not in scraped


@pytest.mark.skipif(PROMTOOL is None, reason=WITHOUT_PROMTOOL)
def test_promtool_has_nothing_to_say_about_the_figures(scraped: str) -> None:
    whole = scraped + exposition.text(_everything())
    assert figures(whole).keys() > figures(scraped).keys()
    for text in (scraped, exposition.text(_everything())):
        checked = subprocess.run(
            [str(PROMTOOL), "check", "metrics"], input=text, capture_output=True, text=True
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_as_json_they_are_the_same(scraped: str) -> None:
    listed = answer("metrics")["metrics"]
    assert {entry["name"] for entry in listed} == {PREFIX + name for name, _ in figures(scraped)}
    assert {"name", "labels", "value"} == listed[0].keys()


@pytest.mark.one_server
def test_nothing_migrated_yet_is_no_error(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    assert {name for name, _ in figures(im("metrics").stdout)} == {
        *("up", "scrape_duration_seconds", "observed_timestamp_seconds", "build_info")
    }
    stage.shop(database)
    stage.pass_gate(database.engine, stage.MAPPING, "audit_profile")
    found = figures(im("metrics").stdout)
    assert value(found, "gate_passed", mapping="shop", gate="audit_profile") == 1
    assert value(found, "migrations", mapping="shop", state="verified") == 0


@pytest.mark.one_server
def test_the_last_migration_of_each_mapping_is_shown_and_every_active_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    with database.engine.begin() as connection:
        ledger.install(connection)
    database.psql("""
        INSERT INTO inventory_migration.migration
               (mapping, mapping_hash, definition, target, source_oid, started_by, state)
        SELECT mapping, '', '{}', mapping || n, 0, 'x', state
        FROM (VALUES (1, 'shop', 'verified'), (2, 'shop', 'verified'), (3, 'other', 'paused'),
                     (4, 'other', 'aborted'), (5, 'other', 'rolled_back')) AS v (n, mapping, state)
    """)
    found = figures(im("metrics").stdout)
    shown = {dict(labels)["migration_id"] for name, labels in found if name == "state"}
    assert shown == {"2", "3", "5"}
    assert value(found, "migrations", mapping="shop", state="verified") == 2
    with database.engine.connect() as connection:
        ids = {one.migration_id for one in latest.of_interest(connection, "other")}
    assert ids == {3, 5}


# Pictures of which a real run has not all at once.
PICTURE: dict[str, Any] = {
    "migration_id": 4,
    "mapping": "shop",
    "state": "running",
    "desired": "pause",
    "started_at": "2026-11-27T10:00:00+00:00",
    "finished_at": None,
    "active_seconds": 12.5,
    "working": {"driver": True, "workers": 3, "last_sign_at": "2026-11-27T10:00:12+00:00"},
    "records": {"snapshot": 10, "migrated": 3, "already": 1, "skipped": 1, "quarantined": 2,
                "gone": 0, "pending": 3, "undone": 0},
    "units": {"snapshot": "12345678901234567890.10", "accounted": "12345678901234567890.05",
              "difference": "-0.05"},
    "reserved": {"snapshot": "0", "accounted": "0", "difference": "0"},
    "percent": 70.0,
    "rate": {"now": 120.0, "average": 99.5},
    "eta": {"seconds": 40.0, "low": 30.0, "high": 55.0, "at": "2026-11-27T10:01:00+00:00"},
    "phases": [{"name": "rest", "records": 10, "records_done": 7}],
    "attempts": {
        "failed": 9,
        "by_error": [
            {"error": "40P01", "attempts": 4, "chunks": 1},
            {"error": None, "attempts": 2, "chunks": 1},
            {"error": "the server's own words", "attempts": 2, "chunks": 1},
            {"error": "and others of them", "attempts": 1, "chunks": 1},
        ],
    },
    "quarantine": [
        {"rule": "quantity_missing", "reason": "a", "records": 1},
        {"rule": "quantity_missing", "reason": "b", "records": 1},
        {"rule": None, "reason": "c", "records": 1},
    ],
    "health": {
        "verdict": "slow",
        "at": "2026-11-27T10:00:10+00:00",
        "observed": {
            "measures": [
                {"measure": "replica_lag_megabytes", "value": 2.0, "slow": 64, "hold": None},
                {"measure": "replica_lag_seconds", "value": None, "slow": 5, "hold": 60},
                {"measure": "of_a_later_version", "value": 1.0, "slow": 5, "hold": 60},
            ]
        },
    },
}  # fmt: skip

STANDING: dict[str, Any] = {
    "mapping": "shop",
    "migrations": {"verified": 2},
    "gates": [{"suite": "audit_profile", "passed": False, "judged_at": "2026-11-27T10:00:00Z"}],
    "last_success_at": "2026-11-27T10:00:00+00:00",
    "look": {
        "at": "2026-11-27T10:00:00+00:00",
        "passed": False,
        "findings": 3,
        "records": 10,
        "units": "12.5",
        "reserved": "0",
        "companies": 2,
        "locations": 3,
        "drift": {
            "records": {"change": "-1", "percent": -9.09},
            "units": {"change": "12.5", "percent": None},
        },
    },
}


def _everything() -> list[Sample]:
    limits = latest.OfInterest(4, "shop", 1.0)
    return [
        *samples.of_exporter(seconds=0.1, observed_at=reading.datetime.now(reading.UTC)),
        *samples.of_migration({**PICTURE, "finished_at": PICTURE["started_at"]}),
        *samples.of_limits(limits),
        *samples.of_mapping(STANDING),
    ]


@pytest.mark.one_server
def test_a_picture_becomes_figures_in_base_units_with_labels_of_few_values() -> None:
    found = figures(exposition.text(_everything()))
    one = {"mapping": "shop", "migration_id": "4"}
    assert value(found, "failed_attempts_total", **one) == 9
    by_error = {
        dict(labels)["error"]: n for (name, labels), n in found.items()
        if name == "attempts_by_error"
    }  # fmt: skip
    assert by_error == {"40P01": 4, "none": 2, "other": 3}
    assert value(found, "quarantined_records", rule="quantity_missing", **one) == 2
    assert value(found, "quarantined_records", rule="none", **one) == 1
    # The difference is taken before anything becomes a float, which could not hold it.
    assert value(found, "difference_units", **one) == -0.05
    assert value(found, "health_replica_lag_bytes", **one) == 2 * 1024**2
    assert value(found, "health_limit_replica_lag_bytes", level="slow", **one) == 64 * 1024**2
    assert ("health_replica_lag_seconds", frozenset(one.items())) not in found
    assert value(found, "health_verdict", verdict="slow", **one) == 1
    assert value(found, "health_verdict", verdict="well", **one) == 0
    assert value(found, "desired", desired="pause", **one) == 1
    assert value(found, "eta_seconds", bound="high", **one) == 55
    assert value(found, "progress_ratio", **one) == 0.7
    assert value(found, "gate_passed", gate="audit_profile", mapping="shop") == 0
    assert value(found, "monitor_passed", mapping="shop") == 0
    assert value(found, "monitor_stock", mapping="shop", measure="units") == 12.5
    assert value(found, "monitor_drift", mapping="shop", measure="records") == -1
    assert value(found, "monitor_drift_ratio", mapping="shop", measure="records") == -0.0909
    ended = samples.of_migration({**PICTURE, "state": "verified"})
    assert [sample for sample in ended if sample.name.startswith("health_")] == []


@contextmanager
def served(ask: Any) -> Iterator[str]:
    """An exporter that runs; its address without a path."""
    server = serving.exporter(ask, host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def get(url: str, **headers: str) -> str:
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return str(response.read().decode())


@pytest.mark.one_server
def test_the_exporter_answers_two_addresses_and_nothing_but_get(
    migrated: Database, scraped: str
) -> None:
    target = reading.hurried(migrated.url)
    with served(reading.Reader(lambda: reading.read(target)).latest) as url:
        assert figures(get(f"{url}/metrics")).keys() == figures(scraped).keys()
        newer = get(f"{url}/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert newer.endswith("# EOF\n")
        assert get(f"{url}/-/healthy") == "OK\n"
        assert 'href="metrics"' in get(f"{url}/")
        for path, method, code in (
            ("/metrics/", "GET", 404), ("/../etc/passwd", "GET", 404), ("/metrics", "POST", 405),
            ("/-/healthy", "DELETE", 405),
        ):  # fmt: skip
            request = urllib.request.Request(url + path, method=method)
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=30)
            assert refused.value.code == code, path
            refused.value.close()


@pytest.mark.one_server
def test_a_database_that_stalls_is_told_within_seconds_and_so_is_its_return(
    migrated: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FAILED_SECONDS", 0.1)
    monkeypatch.setattr(reading, "CONNECT_SECONDS", 2)
    # A server that takes connections and says nothing, as one does whose processes stand still.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        stalled = reading.hurried(f"postgresql://ann@127.0.0.1:{silent.getsockname()[1]}/shop")
        targets = [stalled]
        reader = reading.Reader(lambda: reading.read(targets[0]), seconds=0.5)
        began = time.monotonic()
        with served(reader.latest) as url:
            assert figures(get(f"{url}/metrics")).keys() == {
                (name, labels)
                for name, labels in figures(exposition.text(samples.without_database(seconds=0)))
            }
            assert value(figures(get(f"{url}/metrics")), "up") == 0
            assert time.monotonic() - began < 2
            targets[0] = reading.hurried(migrated.url)
            deadline = time.monotonic() + 60
            while value(figures(get(f"{url}/metrics")), "up") == 0:
                assert time.monotonic() < deadline
    told = [r.getMessage() for r in caplog.records if r.name.startswith("inventory_migration")]
    assert len([line for line in told if line.startswith("no figures: ")]) == 1


@pytest.mark.one_server
def test_statements_that_wait_are_given_up(migrated: Database) -> None:
    target = reading.hurried(migrated.url)
    with migrated.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE inventory_migration.chunk")
        began = time.monotonic()
        reader = reading.Reader(lambda: reading.read(target))
        assert [sample.value for sample in reader.latest() if sample.name == "up"] == [0]
        assert time.monotonic() - began < reading.ANSWER_SECONDS


@pytest.mark.one_server
def test_many_scrapers_cost_one_reading_and_readings_a_bounded_share_of_time() -> None:
    asked = []

    def ask() -> list[Sample]:
        asked.append(time.monotonic())
        time.sleep(0.03)
        return [Sample("up", 1)]

    reader = reading.Reader(ask)
    threads = [threading.Thread(target=reader.latest) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(100):
        reader.latest()
    assert len(asked) == 1
    assert reader.age_allowed >= 0.03 / watching.DUTY


@pytest.mark.one_server
def test_an_error_that_nobody_foresaw_leaves_the_exporter_alive() -> None:
    def ask() -> list[Sample]:
        raise RuntimeError("never shown: postgresql://ann:s3cr3t-pa@host/")

    reader = reading.Reader(ask)
    assert [sample.value for sample in reader.latest() if sample.name == "up"] == [0]


@pytest.mark.one_server
def test_it_serves_on_the_loopback_though_the_database_is_away_until_it_is_told_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = "postgresql://ann@127.0.0.1:1/shop"
    monkeypatch.setenv("INVENTORY_DATABASE_URL", away)
    with program("metrics", "--port", "0") as running:
        assert running.stderr is not None
        said = running.stderr.readline()
        url = re.search(r"http://127\.0\.0\.1:(\d+)/metrics", said)
        assert url, said
        assert value(figures(get(url[0])), "up") == 0
        taken = sentence(im("metrics", "--port", url[1], code=2))
        assert f"127.0.0.1, port {url[1]}" in taken
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
    assert sentence(im("metrics", code=2)).startswith("Error: ")
    assert "--port" in sentence(im("metrics", "--host", "0.0.0.0", code=2))


def test_reading_only_reads(migrated: Database) -> None:
    target = reading.hurried(migrated.url)
    assert isinstance(target, verbs.Target)
    with target.reader.connect() as connection:
        assert connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on"
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "4s"


def test_a_role_that_only_reads_the_ledger_has_all_figures(
    migrated: Database, scraped: str
) -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "metrics.md").read_text()
    grants = page.partition("```sql\n")[2].partition("```")[0]
    role = f"watcher_of_{migrated.name}"
    migrated.psql(f"CREATE ROLE {role} LOGIN; {grants.replace('watcher', role)}")
    try:
        found = reading.read(reading.hurried(f"{migrated.url}&user={role}"))
        assert figures(exposition.text(found)).keys() == figures(scraped).keys()
    finally:
        migrated.psql(f"DROP OWNED BY {role}; DROP ROLE {role}")
