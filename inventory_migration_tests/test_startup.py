"""What answers at once waits for nothing that it does not need, and says the same as the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import psycopg
import pytest
import sqlalchemy as sa
from dagster._core.instance.ref import InstanceRef

from inventory_migration import plain, verbs, watching
from inventory_migration.defs.history import kept
from inventory_migration.engine import control, ledger
from inventory_migration_tests.commands import PROJECT, answer, im, sentence
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.receivers import Receiver
from inventory_migration_tests.test_layers import COSTLY
from inventory_migration_tests.test_steering import half_done

DEAR = {*COSTLY, "sqlalchemy", "pydantic", "yaml"}
SCRIPT = f"""
import contextlib, sys
from inventory_migration.cli import app
with contextlib.suppress(SystemExit):
    app(sys.argv[1:])
print(sorted({{*{sorted(DEAR)}}} & sys.modules.keys()), file=sys.stderr)
"""


@pytest.fixture
def under_way(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A migration with a phase behind it, in the midst of the next one."""
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    half_done(database)
    with database.engine.begin() as connection:
        control.desire(connection, 1, "run")
        ledger.set_state(connection, 1, "running")
    return database


def at_once(*words: str) -> str:
    """Call a command as a program of its own, and expect that it imports nothing dear."""
    command = [sys.executable, "-c", SCRIPT, *words]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert ended.stderr.splitlines()[-1] == "[]"
    return ended.stdout


def test_status_and_pause_import_nothing_dear(under_way: Database) -> None:
    assert "running, left" in at_once("status")
    target = verbs.open_target(under_way.url)
    with control.Claim(under_way.engine) as claim:
        claim.take("public.stock_items.location_id")
        [told] = json.loads(at_once("status", "shop", "--json"))
        # Whoever asks by way of SQLAlchemy is told the same.
        [listed] = watching.glance(target)
        assert told["working"]
        assert told["eta"] is None
        moving = {"elapsed_seconds": 0, "rate": 0}
        assert told | moving == listed | moving
    paused = json.loads(at_once("pause", "shop", "--reason", "lunch", "--json"))
    assert (paused["state"], paused["reason"], paused["changed"]) == ("paused", "lunch", True)
    assert "already" in at_once("pause", "shop")
    with target.reader.connect() as connection:
        assert control.desired_state(connection, 1) == "pause"


@pytest.mark.usefixtures("under_way")
def test_whoever_is_to_be_told_of_a_pause_is_told(told: Receiver) -> None:
    im("pause", "shop")
    assert told.events == ["paused"]


def test_an_older_ledger_is_read_by_nobody_and_brought_up_to_date_by_a_pause(
    under_way: Database,
) -> None:
    set_version = "UPDATE inventory_migration.version SET version = {}"
    under_way.psql(set_version.format(ledger.VERSION - 1))
    older = sentence(im("status", code=2))
    assert f"version {ledger.VERSION - 1}" in older
    assert answer("pause", "shop")["state"] == "paused"
    assert answer("status")[0]["state"] == "paused"
    under_way.psql(set_version.format(ledger.VERSION + 1))
    for words in (["status"], ["pause", "shop"]):
        assert f"version {ledger.VERSION + 1}" in sentence(im(*words, code=2))


def test_a_plain_connection_lets_no_default_decide(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_ON_BEHALF_OF", "ann")
    monkeypatch.setenv(
        "PGOPTIONS", "-c default_transaction_isolation=serializable -c statement_timeout=7s"
    )
    target = plain.open_target(database.url)
    asked = "SELECT current_setting('transaction_isolation'), session_user || '' AS name, 1 AS name"
    with target.engine.connect() as connection:
        [row] = plain.ask(connection, asked)
        assert row[0] == "read committed"
        assert ledger.who(connection).endswith(" by inventory-migration for ann")
    with (
        target.reader.connect() as connection,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        plain.execute(connection, "CREATE TABLE never (id int)")


def test_what_no_suite_uses_is_loaded_once_somebody_does() -> None:
    script = """
import gc, sys
from inventory_migration.cli import start
start.start_lightly()
assert gc.get_threshold() == start.THRESHOLDS
from scipy import stats
import altair
print("scipy.optimize" in sys.modules, "altair.vegalite" in sys.modules)
print(stats.norm.cdf(0), altair.Chart.__name__)
print("scipy.optimize" in sys.modules, "altair.vegalite" in sys.modules)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["False", "False", "0.5", "Chart", "True", "True"]


def test_dagster_reads_the_history_that_was_written_by_kept_connections(tmp_path: Path) -> None:
    reference = InstanceRef.from_dir(str(tmp_path), overrides={"telemetry": {"enabled": False}})
    written = kept(reference)
    assert written.storage_data != reference.storage_data

    @dg.asset
    def stock() -> None:
        """Nothing but what is told of it."""

    @dg.asset_check(asset=stock)
    def counted() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    job = dg.Definitions(
        [stock], asset_checks=[counted], jobs=[dg.define_asset_job("move")]
    ).resolve_job_def("move")
    with dg.DagsterInstance.from_ref(written) as instance:
        run_id = job.execute_in_process(instance=instance).run_id
        # Whoever looks meanwhile sees what has happened so far.
        with dg.DagsterInstance.from_ref(reference) as other:
            assert events(other, run_id) == events(instance, run_id)
    with dg.DagsterInstance.from_ref(reference) as other:
        told = events(other, run_id)
        assert told[-1] == "PIPELINE_SUCCESS"
        assert {"ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION"} <= {*told}
        assert other.get_latest_materialization_event(dg.AssetKey("stock")) is not None
    assert not [*tmp_path.glob("history/runs/*-wal")]


def test_a_history_that_lies_elsewhere_stays_there(tmp_path: Path) -> None:
    url = "postgresql+psycopg2://ann@127.0.0.1/dagster"
    overrides = {"storage": {"postgres": {"postgres_url": url}}}
    reference = InstanceRef.from_dir(str(tmp_path), overrides=overrides)
    assert kept(reference) == reference


def events(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """What happened in a run, in its order."""
    told = [one.dagster_event for one in instance.all_logs(run_id)]
    return [event.event_type_value for event in told if event is not None]


def test_a_statement_means_the_same_on_both_kinds_of_connection(database: Database) -> None:
    statement = "SELECT :text::text AS text, '1:2 %' AS literal, :none::int AS nothing"
    given = {"text": "a:b %(c)s %", "none": None}
    with plain.PlainEngine(database.url).begin() as one, database.engine.begin() as other:
        for connection in (one, other):
            [row] = plain.ask(connection, statement, given)
            assert row._asdict() == {"text": given["text"], "literal": "1:2 %", "nothing": None}
        plain.execute(one, "CREATE TABLE kept (id int)")
    insert = "INSERT INTO kept VALUES (:id), (2)"
    with plain.PlainEngine(database.url).connect() as one:
        assert plain.execute(one, insert, {"id": 1}) == 2
    with (
        pytest.raises(psycopg.errors.InvalidTextRepresentation),
        plain.PlainEngine(database.url).begin() as one,
    ):
        plain.execute(one, insert, {"id": "x"})
    with database.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM kept")).scalar_one() == 0
