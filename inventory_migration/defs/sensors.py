"""What notices by itself: runs that failed, for the trail that the ledger keeps."""

import dagster as dg
import sqlalchemy as sa

from inventory_migration.defs.resources import Database
from inventory_migration.engine import ledger


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
