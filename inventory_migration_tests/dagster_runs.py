"""Running the definitions on a test's database: in this process, or as a user's shell would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from inventory_migration.defs.build import build_definitions
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database

PROJECT = Path(__file__).resolve().parent.parent
STEPS = ("audit_profile", "default_locations", "transformed_stock", "reconciliation_report")

SLOW = """
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(0.15 + 0.01 * (NEW.id % 30)); RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION slow();
"""
"""Makes an application on which moving 30 items takes some four seconds with two workers.

A chunk takes the longer the later it is, so that there is a middle for any number of workers.
"""

CLAIMS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"

ROWS_OF_OTHERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'
"""


def execute(
    database: Database,
    job: str = "migrate_shop",
    *,
    mapping: StockMapping = stage.MAPPING,
    only: Sequence[str] | None = None,
    instance: dg.DagsterInstance | None = None,
    **options: Any,
) -> dg.ExecuteInProcessResult:
    """Execute a job on a database in this process.

    Args:
        database: The application's.
        job: The job's name.
        mapping: What moves.
        only: The steps to execute; None stands for all.
        instance: Where Dagster keeps the run; by default nowhere.
        options: The job's configuration.
    """
    definitions = build_definitions([mapping], database_url=database.url)
    return definitions.resolve_job_def(job).execute_in_process(
        run_config=options,
        asset_selection=[dg.AssetKey([mapping.name, step]) for step in only] if only else None,
        instance=instance,
        raise_on_error=False,
    )


def materialized(result: dg.ExecuteInProcessResult) -> list[str]:
    """Return the steps whose asset the run has materialized, in order."""
    return [
        event.asset_key.path[-1]
        for event in result.all_events
        if event.is_step_materialization and event.asset_key
    ]


def checks(result: dg.ExecuteInProcessResult, step: str) -> dict[str, dg.AssetCheckEvaluation]:
    """Return what came of a step's checks, by name."""
    return {
        found.check_name: found
        for found in result.get_asset_check_evaluations()
        if found.asset_key.path[-1] == step
    }


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Return what the first failed step says to its reader."""
    for event in result.all_events:
        if event.is_step_failure:
            said = event.step_failure_data.user_failure_data
            return str(said.description) if said else str(event.step_failure_data.error)
    return ""


def dump(database: Database, *, schema: str | None = "public") -> str:
    """Return a schema, or the whole database, with all its rows, as pg_dump writes them."""
    only = [f"--schema={schema}"] if schema else []
    ended = subprocess.run(
        [database.server.binaries / "pg_dump", *only, database.url],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    # Newer ones protect a dump with a random key.
    lines = ended.stdout.splitlines()
    return "\n".join(line for line in lines if not line.startswith(("\\restrict", "\\unrestrict")))


def environment(database: Database, home: Path, mapping: StockMapping) -> dict[str, str]:
    """Return the environment of a shell in which a mapping's jobs run on a database."""
    mappings = home / "mappings"
    mappings.mkdir(parents=True, exist_ok=True)
    (mappings / f"{mapping.name}.yaml").write_text(
        yaml.safe_dump(mapping.model_dump(mode="json", by_alias=True, exclude_none=True))
    )
    configuration = home / "dagster.yaml"
    if not configuration.exists():
        configuration.write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    return {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "INVENTORY_DATABASE_URL": database.url,
        "INVENTORY_MAPPINGS": str(mappings),
        "PYTHONPATH": str(PROJECT),
    }


def dagster(
    module: str, *arguments: str, environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start one of Dagster's programs in the project, in a session of its own."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=dict(environment),
            cwd=PROJECT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Under a shell that ignores it for its background jobs, Dagster would ignore SIGTERM.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def job_execute(job: str) -> tuple[str, ...]:
    """Return the arguments that execute a job."""
    return ("dagster", "job", "execute", "-m", "inventory_migration.definitions", "-j", job)
