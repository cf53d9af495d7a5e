"""What a step shows while it works: by time, from the ledger, and at nobody's cost but its own."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log import SqliteEventLogStorage

from inventory_migration import steering, verbs
from inventory_migration.defs import observing
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.dagster_runs import SLOW, execute, failure

pytestmark = [pytest.mark.slow, pytest.mark.one_server]

STOCK = "transformed_stock"


class Reluctant(SqliteEventLogStorage):
    """A storage that takes its time over observations, or none at all."""

    seconds = 0.0
    broken = False

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> Reluctant:
        """Be made by an instance."""
        return cls(inst_data=inst_data, **config_value)

    def store_event(self, event: Any) -> None:
        """Store an event; an observation late, or never."""
        stored = event.dagster_event
        if stored and stored.is_asset_observation and stored.asset_key.path[-1] == STOCK:
            # Who sleeps in here may still do so when another test has begun.
            broken = self.broken
            time.sleep(self.seconds)
            if broken:
                raise OSError("no space left on device")
        super().store_event(event)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> float:
    """Observe twice a second."""
    monkeypatch.setattr(observing, "OBSERVATION_SECONDS", 0.5)
    return 0.5


def observations(instance: dg.DagsterInstance, step: str) -> list[dg.AssetObservation]:
    """Return what was observed of a step's asset, in order."""
    found = instance.fetch_observations(dg.AssetKey(["shop", step]), limit=1000, ascending=True)
    return [record.asset_observation for record in found.records if record.asset_observation]


def values(found: list[dg.AssetObservation], name: str) -> list[Any]:
    """Return one figure of all observations that have it."""
    return [one.metadata[name].value for one in found if name in one.metadata]


def test_progress_shows_on_the_asset_by_time_and_links_to_where_it_is_watched(
    database: Database, often: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_DASHBOARD_URL", "http://stock.example:8642")
    monkeypatch.setenv("INVENTORY_REPORT_URL", "http://stock.example/reports")
    stage.shop(database, items=30)
    stage.locations(database)
    database.psql(SLOW)
    began = time.monotonic()
    with dg.DagsterInstance.ephemeral() as instance:
        result = execute(database, only=[STOCK], instance=instance)
        run = instance.get_run_by_id(result.run_id)
        seen = observations(instance, "transformed_stock")
    seconds = time.monotonic() - began
    assert result.success
    assert run is not None
    assert (run.tags["migration_id"], run.tags["dashboard_url"]) == (
        "1",
        "http://stock.example:8642/migrations/1",
    )

    assert 3 <= len(seen) <= seconds / often + 2
    done = values(seen, "records_done")
    assert done == sorted(done)
    assert {*done} - {0, 30}
    assert {*values(seen, "rows_total")} <= {0, 30}
    assert {*values(seen, "units_difference")} == {0}
    assert max(values(seen, "workers")) >= 1
    assert max(values(seen, "records_per_second")) > 0
    assert all(percent < 100 for percent in values(seen, "percent"))
    assert any(" of 30 records (" in (one.description or "") for one in seen)
    moved = next(
        event.step_materialization_data.materialization.metadata
        for event in result.all_events
        if event.is_step_materialization and event.asset_key.path[-1] == "transformed_stock"
    )
    shown = [one.metadata for one in seen if "percent" in one.metadata]
    for metadata in (shown[-1], moved):
        assert metadata["dashboard_url"].value == "http://stock.example:8642/migrations/1"
        assert metadata["report_url"].value == "http://stock.example/reports/shop-1.html"
        assert Path(metadata["report_html"].value).name == "shop-1.html"


@pytest.mark.usefixtures("often")
def test_what_is_held_back_says_by_what(database: Database) -> None:
    stage.shop(database)
    nights = stage.mapping(
        health={"window": [{"from": "03:00", "to": "03:01", "time_zone": "UTC"}], "look_seconds": 1}
    )
    stage.locations(database, nights)
    with dg.DagsterInstance.ephemeral() as instance:

        def pause_once_it_is_seen() -> None:
            until = time.monotonic() + 60
            while time.monotonic() < until:
                if any("held_back_by" in o.metadata for o in observations(instance, STOCK)):
                    steering.pause(verbs.open_target(database.url), "shop", reason="enough")
                    return
                time.sleep(0.1)

        thread = threading.Thread(target=pause_once_it_is_seen)
        thread.start()
        result = execute(database, only=[STOCK], mapping=nights, instance=instance)
        thread.join()
        seen = observations(instance, STOCK)
    assert "is paused (enough)" in failure(result)
    assert any(
        (one.description or "").startswith("Waiting, since outside of the window (") for one in seen
    )
    assert "outside of the window" in values(seen, "held_back_by")[0]
    # What it stands at is the last that is said.
    assert (seen[-1].description or "").startswith("Migration 1 is paused: enough; 0 of 30 records")
    assert seen[-1].metadata["state"].value == "paused"


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(("seconds", "broken"), [(8.0, False), (0.0, True)])
def test_a_storage_that_is_slow_or_broken_neither_slows_nor_fails_a_migration(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seconds: float,
    broken: bool,
) -> None:
    monkeypatch.setattr(Reluctant, "seconds", seconds)
    monkeypatch.setattr(Reluctant, "broken", broken)
    stage.shop(database, items=15)
    stage.locations(database)
    database.psql(SLOW)
    storage = {"module": __name__, "class": "Reluctant", "config": {"base_dir": str(tmp_path)}}
    reference = InstanceRef.from_dir(str(tmp_path), overrides={"event_log_storage": storage})
    caplog.set_level(logging.WARNING, logger="inventory_migration")
    with dg.DagsterInstance.from_ref(reference) as instance:
        result = execute(database, only=[STOCK], instance=instance)
    assert result.success
    (moved,) = result.asset_materializations_for_node("shop__transformed_stock")
    span = "SELECT extract(epoch FROM max(finished_at) - min(started_at)) FROM inventory_migration"
    working = float(database.psql(f"{span}.chunk"))
    assert moved.metadata["rows_migrated"].value == 15
    # One observation alone would take longer than all that comes before and behind the chunks.
    assert float(moved.metadata["elapsed_seconds"].value) < working + 6
    told = [line for line in caplog.messages if "Moving stock_items: not shown" in line]
    assert len(told) == (1 if broken else 0)
