"""What is noticed by itself: migrations that need somebody, each told once with what to do next."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from inventory_migration import steering, verbs
from inventory_migration.defs.build import build_definitions
from inventory_migration.embedded import project_server
from inventory_migration.engine.control import Claim
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.dagster_runs import dagster, environment

pytestmark = [pytest.mark.slow, pytest.mark.one_server]

STOCK = dg.AssetKey(["shop", "transformed_stock"])
PHASES = stage.mapping(phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}])
LONG_AGO = """
    ALTER TABLE inventory_migration.event DISABLE TRIGGER USER;
    UPDATE inventory_migration.event SET at = at - interval '10 minutes';
    UPDATE inventory_migration.health SET since = since - interval '10 minutes',
                                          at = at - interval '10 minutes';
"""

# As it is once somebody has switched it on.
RUNNING = """
import dagster as dg
from inventory_migration.defs import sensors
sensors.watch_migrations._default_status = dg.DefaultSensorStatus.RUNNING
from inventory_migration.definitions import defs
"""

Look = Callable[[], SensorExecutionData]


def looking(url: str | None, cursor: str | None = None) -> Look:
    """Return a look of the sensor at a database, each from where the last one has left off."""
    definitions = build_definitions([stage.MAPPING], database_url=url)
    repository = definitions.get_repository_def()
    sensor = repository.get_sensor_def("watch_migrations")

    def look() -> SensorExecutionData:
        nonlocal cursor
        with (
            dg.DagsterInstance.ephemeral() as instance,
            dg.build_sensor_context(
                instance,
                cursor=cursor,
                repository_def=repository,
                resources=definitions.resources,
            ) as context,
        ):
            found = sensor.evaluate_tick(context)
        cursor = found.cursor or cursor
        return found

    return look


def told(found: SensorExecutionData) -> list[tuple[Any, ...]]:
    """Return what was told: kind, reason and next command of each."""
    seen = []
    for event in found.asset_events:
        assert isinstance(event, dg.AssetObservation)
        assert event.asset_key == STOCK
        names = ("attention", "reason", "next_command")
        seen.append(tuple(event.metadata[name].value for name in names))
    return seen


def test_a_pause_is_told_once_with_who_why_and_what_to_do_next(database: Database) -> None:
    look = looking(database.url)
    assert look().skip_message == "nothing was ever migrated in this database"
    stage.shop(database)
    stage.locations(database, PHASES)
    under_way = look()
    assert told(under_way) == []
    assert under_way.skip_message == "nothing new: migration 1 of shop is planned"

    steering.pause(verbs.open_target(database.url), "shop", reason="lunch")
    paused = look()
    assert told(paused) == [("paused", "lunch", "inventory-migration resume shop")]
    (event,) = paused.asset_events
    assert event.metadata["who"].value not in {"", "nobody"}
    assert str(event.metadata["report_html"].value).endswith("shop-1.html")
    assert paused.skip_message is not None
    assert paused.skip_message.startswith("told: Migration 1 of shop is paused: lunch (")
    assert told(look()) == []
    assert look().skip_message == "nothing new: migration 1 of shop is paused"

    database.psql("""
        UPDATE inventory_migration.migration SET state = 'running';
        UPDATE inventory_migration.control SET desired = 'run';
    """)
    assert told(look()) == []
    steering.pause(verbs.open_target(database.url), "shop", reason="tea")
    assert [reason for _, reason, _ in told(look())] == ["tea"]


def test_one_that_is_left_alone_or_kept_waiting_or_over_a_threshold_is_told(
    database: Database,
) -> None:
    stage.shop(database)
    stage.locations(database, PHASES)
    database.psql("UPDATE inventory_migration.migration SET state = 'running'")
    look = looking(database.url)
    assert told(look()) == []
    database.psql("""
        INSERT INTO inventory_migration.health (migration_id, verdict, reasons)
        VALUES (1, 'hold', '[{"measure": "window", "level": "hold", "text": "closed"}]');
        INSERT INTO inventory_migration.event (migration_id, who, kind, detail) VALUES
            (1, 'ann', 'threshold', '{"trigger": "quarantined", "where": "phase pilot",
                                      "reason": "9 of 10 records", "action": "continue"}');
    """)
    assert told(look()) == [
        ("threshold", "9 of 10 records; it goes on", "inventory-migration quarantine list shop")
    ]
    database.psql(LONG_AGO)
    alone = look()
    assert told(alone) == [
        (
            "left_alone",
            "it is running, and nobody works on it",
            "inventory-migration run shop",
        )
    ]
    with Claim(database.engine) as claim:
        claim.take("public.stock_items.location_id")
        assert told(look()) == [("waiting", "closed", "inventory-migration status shop")]
        assert told(look()) == []


def test_a_database_that_is_away_is_a_reason_to_skip_without_its_password() -> None:
    found = looking("postgresql://shop:s3cret-pa55@127.0.0.1:1/shop")()
    assert told(found) == []
    assert "Can not reach the database (host 127.0.0.1:1" in str(found.skip_message)
    assert "s3cret" not in str(found.skip_message)


def test_looking_starts_no_server_and_survives_a_cursor_of_somebody_else(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INVENTORY_DATABASE_URL", raising=False)
    assert looking(None)().skip_message == "the embedded server does not run"
    assert project_server().status() is None
    stage.shop(database)
    stage.locations(database)
    for cursor in ("[1]", "somebody", '{"told": 1, "event": "x"}'):
        found = looking(database.url, cursor)()
        assert found.skip_message == "nothing new: migration 1 of shop is planned"


def test_a_daemon_shows_a_pause_on_the_asset(database: Database, tmp_path: Path) -> None:
    stage.shop(database)
    stage.locations(database, PHASES)
    steering.pause(verbs.open_target(database.url), "shop", reason="lunch")
    home = tmp_path / "home"
    shell = environment(database, home, stage.MAPPING)
    code = tmp_path / "code.py"
    code.write_text(RUNNING)
    arguments = ("run", "-f", str(code))
    daemon = dagster("dagster._daemon", *arguments, environment=shell, log=tmp_path / "daemon")
    try:
        with dg.DagsterInstance.from_config(str(home)) as instance:
            deadline = time.monotonic() + 120
            while not (seen := instance.fetch_observations(STOCK, limit=5).records):
                assert daemon.poll() is None, (tmp_path / "daemon").read_text()
                assert time.monotonic() < deadline, (tmp_path / "daemon").read_text()
                time.sleep(0.25)
    finally:
        os.killpg(daemon.pid, signal.SIGTERM)
        daemon.wait(30)
    (observed,) = [record.asset_observation for record in seen]
    assert observed is not None
    assert observed.metadata["attention"].value == "paused"
    assert "lunch" in (observed.description or "")
