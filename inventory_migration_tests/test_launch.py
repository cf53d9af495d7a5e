"""Running a job from a shell's own process: what comes back, and what is kept of it."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from inventory_migration import verbs
from inventory_migration.defs.launch import Launched, migrate
from inventory_migration.engine.control import Claim
from inventory_migration.errors import (
    GateRefused,
    MappingInvalid,
    MigrationBusy,
    MigrationPaused,
    RunFailed,
)
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.dagster_runs import CLAIMS, SLOW

pytestmark = [pytest.mark.slow, pytest.mark.one_server]

PHASES = stage.mapping(phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Dagster's instance of one test."""
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


def launched(database: Database, **options: Any) -> Launched:
    """Run the shop's job."""
    return migrate(PHASES, database_url=database.url, options=options)


def stored(home: Path) -> Iterator[bytes]:
    """Yield all that Dagster has on disk, snapshots unpacked."""
    for path in home.rglob("*"):
        if path.is_file():
            yield path.read_bytes()
    with sqlite3.connect(home / "history" / "runs.db") as runs:
        for (body,) in runs.execute("SELECT snapshot_body FROM snapshots"):
            yield zlib.decompress(body)


def test_a_run_gives_back_its_summary_and_is_kept_without_the_url(
    database: Database, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stage.shop(database)
    secret = "s3cret-pa55word"
    done = migrate(
        PHASES,
        database_url=database.url + f"&password={secret}",
        options={"explicit": True, "workers": 1},
        known=[PHASES, stage.mapping(name="other")],
    )
    assert done.success
    assert done.error is None
    assert done.summary is not None
    assert (done.summary["state"], done.summary["changed"]) == ("verified", True)
    assert done.summary["records"]["migrated"] == 30
    assert Path(done.summary["report"]["markdown"]).is_file()
    # The terminal is the caller's.
    assert capfd.readouterr() == ("", "")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        run = instance.get_run_by_id(done.run_id)
        assert run is not None
        assert (run.job_name, run.status) == ("migrate_shop", dg.DagsterRunStatus.SUCCESS)
        assert len(instance.all_logs(done.run_id)) > 50
    found = [*stored(home)]
    assert any(b"migrate_shop" in content for content in found)
    assert not any(secret.encode() in content for content in found)


def test_a_refused_gate_comes_back_as_itself(database: Database) -> None:
    stage.shop(database)
    database.psql("UPDATE stock_items SET quantity = -5 WHERE id = 4")
    strict = stage.mapping(rules={"negative_quantity": "fail"})
    done = migrate(strict, database_url=database.url)
    assert not done.success
    assert isinstance(done.error, GateRefused)
    assert done.error.gate == "audit_profile"
    assert "quantity-not-negative" in str(done.error)
    assert "for example 4" in str(done.error)
    assert done.summary is None


def test_conditions_come_back_as_themselves(database: Database) -> None:
    stage.shop(database)
    assert isinstance(launched(database, stop_after="no_phase").error, MappingInvalid)
    with Claim(database.engine) as claim:
        claim.take("public.stock_items.location_id")
        assert isinstance(launched(database, explicit=True).error, MigrationBusy)
    paused = launched(database, stop_after="pilot").error
    assert isinstance(paused, MigrationPaused)
    assert paused.reason == "stopped after phase pilot"


def test_an_error_nobody_foresaw_names_run_and_step(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(verbs, "default_locations", broken)
    done = launched(database)
    assert isinstance(done.error, RunFailed)
    assert done.error.step == "shop__default_locations"
    assert "RuntimeError: out of luck" in str(done.error)
    assert done.run_id in str(done.error)


def test_ctrl_c_comes_back_as_a_pause(database: Database) -> None:
    stage.shop(database)
    database.psql(SLOW)
    over = threading.Event()

    def interrupt() -> None:
        some = "SELECT count(*) > 0 FROM inventory_migration.chunk WHERE state = 'done'"
        while not over.wait(0.05):
            try:
                if database.psql(some) == "t":
                    os.kill(os.getpid(), signal.SIGINT)
                    return
            except AssertionError:
                continue  # the ledger is not there yet

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        done = launched(database)
    finally:
        over.set()
        thread.join()
    assert isinstance(done.error, MigrationPaused)
    assert done.error.exit_code == 4
    assert database.psql("SELECT state FROM inventory_migration.migration") == "paused"
    assert database.psql(CLAIMS) == "0"


def test_ctrl_c_before_there_is_a_migration_is_a_ctrl_c(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)

    def interrupted(*_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    monkeypatch.setattr(verbs, "audit_profile", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launched(database)
    assert database.psql(CLAIMS) == "0"
