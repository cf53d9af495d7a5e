"""What notices by itself: runs that failed, and migrations that need somebody.

Both are off by default. What needs somebody is said in `engine/attention.py`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import sqlalchemy as sa

from inventory_migration.database import explain
from inventory_migration.defs import pictures
from inventory_migration.defs.resources import Database
from inventory_migration.engine import attention, ledger
from inventory_migration.engine.attention import Matter
from inventory_migration.errors import MigrationError
from inventory_migration.logs import hide_passwords

LOOK_SECONDS = 30
"""How often migrations are looked at, in statements that take milliseconds."""


@dg.run_failure_sensor(
    name="note_failed_runs",
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Notes each failed run in the ledger, with its job and what it said, so that the "
    "trail also has what never got as far as the database.",
)
def note_failed_runs(
    context: dg.RunFailureSensorContext, database: dg.ResourceParam[Database]
) -> None:
    """Append `run_failed` to the ledger's trail."""
    run = context.dagster_run
    with database.target.engine.begin() as connection:
        # A run that failed before anything was written is no reason to write a ledger.
        if not ledger.installed(connection):
            return
        migration_id = connection.execute(
            sa.select(ledger.migration.c.migration_id).where(
                sa.literal(run.run_id) == sa.any_(ledger.migration.c.run_ids)
            )
        ).scalar()
        ledger.note(
            connection,
            "run_failed",
            migration_id=migration_id,
            job=run.job_name,
            run_id=run.run_id,
            said=_said(context),
        )


def _said(context: dg.RunFailureSensorContext) -> str:
    for event in context.get_step_failure_events():
        failed = event.step_failure_data
        if failed.user_failure_data and failed.user_failure_data.description:
            return str(failed.user_failure_data.description)
    return str(context.failure_event.message)


@dg.sensor(
    name="watch_migrations",
    minimum_interval_seconds=LOOK_SECONDS,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Shows on the asset transformed_stock, once each, that a migration was paused, is "
    "held or has failed, waits for long, is worked on by nobody, or is over a threshold: with the "
    "reason, who did it, and what to do next.",
)
def watch_migrations(
    context: dg.SensorEvaluationContext, database: dg.ResourceParam[Database]
) -> dg.SensorResult:
    """Observe what needs somebody, and say in the tick why there is nothing where there is not."""
    if database.embedded_rests:
        return dg.SensorResult(skip_reason="the embedded server does not run")
    told, after = _read(context.cursor)
    try:
        with _looking(database) as connection:
            if not ledger.installed(connection):
                return dg.SensorResult(skip_reason="nothing was ever migrated in this database")
            newest = attention.newest_event(connection)
            found = attention.matters(connection, after=newest if after is None else after)
            under_way = attention.under_way(connection)
    except MigrationError as error:
        return dg.SensorResult(skip_reason=hide_passwords(str(error)))
    except sa.exc.DBAPIError as error:
        why = str(explain(error, database.target.reader))
        return dg.SensorResult(skip_reason=hide_passwords(why))
    new = [matter for matter in found if matter.key not in told]
    # What was told and stands no more is forgotten, so that the cursor does not grow.
    cursor = json.dumps({"event": newest, "told": sorted(matter.key for matter in found)})
    if new:
        said = "told: " + "; ".join(matter.sentence for matter in new)
    elif under_way:
        said = "nothing new: " + "; ".join(under_way)
    else:
        said = "no migration is under way"
    return dg.SensorResult(
        asset_events=[_observation(matter) for matter in new], cursor=cursor, skip_reason=said
    )


def _read(cursor: str | None) -> tuple[set[str], int | None]:
    """What was told, and up to which event; nothing where the cursor is none of ours."""
    try:
        kept: Any = json.loads(cursor or "")
        return {str(key) for key in kept["told"]}, int(kept["event"])
    except (ValueError, TypeError, LookupError):
        return set(), None


@contextmanager
def _looking(database: Database) -> Iterator[sa.Connection]:
    """A session for one look, given back at once: the next is a while away."""
    reader = database.target.reader
    try:
        with reader.connect() as connection:
            connection.execute(sa.text("SET LOCAL statement_timeout = '10s'"))
            connection.execute(sa.text("SET LOCAL lock_timeout = '2s'"))
            yield connection
    finally:
        reader.dispose()


def _observation(matter: Matter) -> dg.AssetObservation:
    return dg.AssetObservation(
        dg.AssetKey([matter.mapping, "transformed_stock"]),
        description=f"{matter.sentence}.",
        metadata={
            "migration_id": dg.MetadataValue.int(matter.migration_id),
            "attention": dg.MetadataValue.text(matter.kind),
            "reason": dg.MetadataValue.text(matter.reason),
            "who": dg.MetadataValue.text(matter.who or "nobody"),
            "since": dg.MetadataValue.text(matter.at),
            "next_command": dg.MetadataValue.text(f"inventory-migration {matter.command}"),
            **pictures.links(matter.mapping, matter.migration_id),
        },
    )
