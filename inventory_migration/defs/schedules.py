"""What runs by itself, once somebody switches it on: the rerun for what is new, and the monitoring.

Both are off by default: when a migration may write is for people to decide.
"""

import dagster as dg

from inventory_migration.defs.jobs import Jobs
from inventory_migration.mapping import StockMapping


def build_schedules(mapping: StockMapping, jobs: Jobs) -> list[dg.ScheduleDefinition]:
    """Return the schedules of one mapping, both stopped."""
    return [
        dg.ScheduleDefinition(
            name=f"rerun_{mapping.name}",
            job=jobs.migrate,
            cron_schedule="0 3 * * *",
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description=f"Every night, move what the application added to {mapping.name} since; "
            "with nothing new it changes nothing. A pause or a rollback stands against it.",
            tags={"mapping": mapping.name},
        ),
        dg.ScheduleDefinition(
            name=f"monitor_{mapping.name}",
            job=jobs.monitor,
            cron_schedule="0 * * * *",
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description=f"Every hour, look whether the stock of {mapping.name} still is where it "
            "belongs, and how far it has drifted; keeps what it finds and changes no stock.",
            tags={"mapping": mapping.name},
        ),
    ]
