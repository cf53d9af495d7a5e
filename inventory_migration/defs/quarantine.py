"""The job `retry_quarantine_<mapping>`: records in quarantine, tried again in a migration.

What is selected and how it moves belongs in `quarantine.py` and below.
"""

import dagster as dg

from inventory_migration import inquiries, quarantine
from inventory_migration.defs import metadata
from inventory_migration.defs.assets import step_key
from inventory_migration.defs.failures import reported
from inventory_migration.defs.observing import observed
from inventory_migration.defs.options import RetryOptions
from inventory_migration.defs.resources import Database
from inventory_migration.engine.quarantine import Filter
from inventory_migration.errors import CommandUnclear
from inventory_migration.mapping import StockMapping


def build_retry(mapping: StockMapping) -> dg.JobDefinition:
    """Return the job of one mapping."""
    tags = {"mapping": mapping.name}
    description = (
        f"Try records in quarantine of {mapping.name} again, in a migration of their own with all "
        "its gates and proofs. What goes is out of quarantine; what does not stays in it, with the "
        "reason as it is now."
    )

    @dg.op(name=f"retry_quarantine_{mapping.name}_now", description=description, tags=tags)
    def retry(
        context: dg.OpExecutionContext,
        config: RetryOptions,
        database: dg.ResourceParam[Database],
    ) -> None:
        with reported(database, mapping):
            wanted, records = quarantine.selected(database.target, mapping, _selection(config))
            if records:
                inquiries.is_startable(
                    database.target,
                    mapping,
                    resume=False,
                    write_stop=config.write_stop,
                    as_superuser=config.as_superuser,
                )
            key = step_key(mapping, "transformed_stock")
            with observed(context, database, mapping, key, "Trying the quarantine again"):
                found = quarantine.retry(
                    database.target,
                    mapping,
                    wanted,
                    workers=config.workers,
                    maintenance_window=config.maintenance_window,
                    as_superuser=config.as_superuser,
                    write_stop=config.write_stop,
                    run_id=context.run_id,
                )
            said = {
                **metadata.of_summary(found),
                "retried": records,
                **{f"retried_{outcome}": count for outcome, count in found["retried"].items()},
            }
            context.log_event(
                dg.AssetObservation(
                    key,
                    description=f"{records} records of the quarantine were tried again.",
                    metadata=said,
                )
            )
            context.add_output_metadata(said)

    @dg.job(name=f"retry_quarantine_{mapping.name}", description=description, tags=tags)
    def job() -> None:
        retry()

    return job


def _selection(config: RetryOptions) -> Filter:
    """The records that a run is about, said in the words of its configuration."""
    said = sum([bool(config.keys), config.rule is not None, config.everything])
    if said != 1:
        raise CommandUnclear(
            "say which records to try again in the configuration of the job's step: their keys, or "
            "rule, or everything" + (", and only one of these" if said else "")
        )
    return quarantine.selection(config.keys, rule=config.rule, everything=config.everything)
