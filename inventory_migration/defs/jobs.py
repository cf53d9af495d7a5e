"""The verbs as jobs of one mapping, from a dry run to the rollback.

Only what Dagster needs to call a verb and to show what it said. `migrate_` is the four assets with
their checks; the others are single steps, of which `pause_`, `retry_quarantine_`, `rollback_` and
`abort_` write.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from inventory_migration import inquiries, steering, verbs
from inventory_migration.defs import metadata
from inventory_migration.defs.acceptance import build_acceptance
from inventory_migration.defs.assets import step_key
from inventory_migration.defs.console import KEY
from inventory_migration.defs.failures import reported
from inventory_migration.defs.monitor import build_monitor
from inventory_migration.defs.observing import observed
from inventory_migration.defs.options import (
    RollbackOptions,
    RunOptions,
    StartOptions,
    SteerOptions,
    WorkOptions,
)
from inventory_migration.defs.quarantine import build_retry
from inventory_migration.defs.resources import Database
from inventory_migration.engine import gates
from inventory_migration.errors import GateRefused, ValidationFailed
from inventory_migration.mapping import StockMapping

Job = dg.JobDefinition


@dataclass(frozen=True)
class Jobs:
    """The jobs of one mapping."""

    migrate: Any
    validate: Job
    dry_run: Job
    rollback: Job
    pause: Job
    abort: Job
    monitor: Job
    acceptance: Job
    retry_quarantine: Job

    def all(self) -> list[Any]:
        """Return them in the order in which they are used."""
        return [
            self.dry_run,
            self.migrate,
            self.pause,
            self.retry_quarantine,
            self.validate,
            self.acceptance,
            self.monitor,
            self.rollback,
            self.abort,
        ]


def build_jobs(mapping: StockMapping) -> Jobs:
    """Return the jobs of one mapping."""
    return Jobs(
        migrate=_migrate(mapping),
        validate=_validate(mapping),
        dry_run=_dry_run(mapping),
        rollback=_rollback(mapping),
        pause=_pause(mapping),
        abort=_abort(mapping),
        monitor=build_monitor(mapping),
        acceptance=build_acceptance(mapping),
        retry_quarantine=build_retry(mapping),
    )


def _migrate(mapping: StockMapping) -> Any:
    @dg.config_mapping
    def options_of_each_step(options: RunOptions) -> dg.RunConfig:
        """Give each step of the run the options that it has a use for."""
        chosen = options.model_dump()
        return dg.RunConfig(
            ops={
                f"{mapping.name}__{step}": kind(
                    **{name: chosen[name] for name in kind.model_fields}
                )
                for step, kind in (
                    ("default_locations", StartOptions),
                    ("transformed_stock", RunOptions),
                    ("reconciliation_report", WorkOptions),
                )
            },
            loggers={KEY: {}},
        )

    return dg.define_asset_job(
        f"migrate_{mapping.name}",
        selection=dg.AssetSelection.assets(*(step_key(mapping, step) for step in gates.SUITES)),
        config=options_of_each_step,
        description=f"Move all stock of {mapping.name} to each company's default location, gated "
        "and proved. Run again, it moves what is new, and changes nothing where nothing is.",
        tags={"mapping": mapping.name},
    )


def _validate(mapping: StockMapping) -> Job:
    description = (
        f"Prove once more, from the data as it is now, that the stock of {mapping.name} is where "
        "it belongs and that no unit was lost. Writes nothing; fails on any difference that "
        "nobody accounts for."
    )

    @dg.op(
        name=f"validate_{mapping.name}_now",
        description=description,
        tags=_tags(mapping),
        out=dg.Out(dg.Nothing),
    )
    def validate(
        context: dg.OpExecutionContext, database: dg.ResourceParam[Database]
    ) -> Iterator[dg.AssetObservation | dg.Output[None]]:
        with reported(database, mapping):
            key = step_key(mapping, "reconciliation_report")
            with observed(context, database, mapping, key, "Validating"):
                found = verbs.validate(database.target, mapping)
            said = _validation(found)
            # What is only logged would be lost with a step that fails.
            yield dg.AssetObservation(
                key,
                description="Validated: "
                + ("no difference." if found["passed"] else "there are differences."),
                metadata=said,
            )
            if not found["passed"]:
                raise ValidationFailed(mapping=mapping.name, differences=_differences(found))
            yield dg.Output(None, metadata=said)

    return _single(f"validate_{mapping.name}", validate, description, mapping)


def _dry_run(mapping: StockMapping) -> Job:
    description = (
        f"Say what migrate_{mapping.name} would do to the inventory as it is now, and whether its "
        "first gate would let it. Writes nothing; fails where the gate would refuse."
    )

    @dg.op(name=f"dry_run_{mapping.name}_now", description=description, tags=_tags(mapping))
    def dry_run(context: dg.OpExecutionContext, database: dg.ResourceParam[Database]) -> None:
        with reported(database, mapping):
            found = verbs.test(database.target, mapping)
            context.add_output_metadata({"prediction": dg.MetadataValue.json(_plain(found))})
            gate = found["gate"]
            if not gate["passed"]:
                named = "; ".join(f"{e['key']}: {e['observed']}" for e in gate["failed"])
                raise GateRefused(
                    mapping=mapping.name, gate="audit_profile", why=f"would refuse ({named})"
                )

    return _single(f"dry_run_{mapping.name}", dry_run, description, mapping)


def _rollback(mapping: StockMapping) -> Job:
    description = (
        f"Undo what migrations wrote to the stock of {mapping.name}: every column back to what it "
        "was. A record that the application moved since is kept and listed."
    )

    @dg.op(name=f"roll_back_{mapping.name}", description=description, tags=_tags(mapping))
    def roll_back(
        context: dg.OpExecutionContext,
        config: RollbackOptions,
        database: dg.ResourceParam[Database],
    ) -> None:
        with reported(database, mapping):
            if config.dry_run:
                found = inquiries.foretell_rollback(
                    database.target,
                    mapping,
                    migration_id=config.migration_id,
                    scope=config.scope(),
                )
                context.add_output_metadata(_undone(found))
                return
            key = step_key(mapping, "transformed_stock")
            with observed(context, database, mapping, key, "Rolling back"):
                found = verbs.roll_back(
                    database.target,
                    mapping,
                    migration_id=config.migration_id,
                    scope=config.scope(),
                    reason=config.reason,
                    workers=config.workers,
                )
            said = {**metadata.of_summary(found), **_undone(found)}
            context.log_event(
                dg.AssetObservation(
                    key,
                    description=f"Rolled back: {found['undone']['records']} records are back.",
                    metadata=said,
                )
            )
            context.add_output_metadata(said)

    return _single(f"rollback_{mapping.name}", roll_back, description, mapping)


def _pause(mapping: StockMapping) -> Job:
    description = (
        f"Pause the migration of {mapping.name}, wherever it runs: once this has succeeded, "
        f"nothing more commits until migrate_{mapping.name} is started with `resume`."
    )

    @dg.op(name=f"pause_{mapping.name}_now", description=description, tags=_tags(mapping))
    def pause(
        context: dg.OpExecutionContext,
        config: SteerOptions,
        database: dg.ResourceParam[Database],
    ) -> None:
        _steer(steering.pause, context, config, database, mapping)

    return _single(f"pause_{mapping.name}", pause, description, mapping)


def _abort(mapping: StockMapping) -> Job:
    description = (
        f"End the migration of {mapping.name} for good and leave what it moved where it is. A "
        "rollback still takes that back; only an explicit run begins another migration."
    )

    @dg.op(name=f"abort_{mapping.name}_now", description=description, tags=_tags(mapping))
    def abort(
        context: dg.OpExecutionContext,
        config: SteerOptions,
        database: dg.ResourceParam[Database],
    ) -> None:
        _steer(steering.abort, context, config, database, mapping)

    return _single(f"abort_{mapping.name}", abort, description, mapping)


def _steer(
    ask: Callable[..., dict[str, Any]],
    context: dg.OpExecutionContext,
    config: SteerOptions,
    database: Database,
    mapping: StockMapping,
) -> None:
    with reported(database, mapping):
        found = ask(
            database.target,
            mapping.name,
            reason=config.reason,
            force=config.force,
            seconds=config.wait_seconds,
            tell=context.log.info,
        )
        context.add_output_metadata({"changed": found["changed"], **metadata.of_summary(found)})


def _single(name: str, step: dg.OpDefinition, description: str, mapping: StockMapping) -> Job:
    @dg.job(name=name, description=description, tags=_tags(mapping))
    def single() -> None:
        step()

    return single


def _tags(mapping: StockMapping) -> dict[str, str]:
    return {"mapping": mapping.name}


def _validation(found: Mapping[str, Any]) -> metadata.Metadata:
    return {
        "passed": found["passed"],
        "as_of": dg.MetadataValue.text(found["as_of"]),
        "differences_unexplained": sum(
            d["records"] for d in found["differences"] if not d["explained"]
        ),
        "differences_explained": sum(d["records"] for d in found["differences"] if d["explained"]),
        "differences": metadata.table(
            ["kind", "explained", "records", "sample"],
            [
                [d["kind"], "yes" if d["explained"] else "no", d["records"], ", ".join(d["sample"])]
                for d in found["differences"]
            ],
        ),
        "expectations_failed": dg.MetadataValue.json(
            {suite: [e["key"] for e in gate["failed"]] for suite, gate in found["gates"].items()}
        ),
    }


def _undone(found: Mapping[str, Any]) -> metadata.Metadata:
    """What a rollback did or would do, and what it leaves where it is."""
    conflicts = ["key", "kind", "column", "written", "found", "reason"]
    return {
        "records_undone": found["undone"]["records"],
        "records_kept": found["undone"]["kept"],
        "locations_removed": found["undone"]["locations"],
        "conflicts": metadata.table(
            conflicts, [[c[name] for name in conflicts] for c in found["conflicts"]]
        ),
        "locations_kept": metadata.table(
            ["location", "company", "referred by"],
            [
                [kept["location_key"], kept["company_key"], "; ".join(kept["referred_by"])]
                for kept in found["locations_kept"]
            ],
        ),
    }


def _differences(found: Mapping[str, Any]) -> list[str]:
    """What a validation found wrong, a clause each."""
    unexplained = [
        f"{d['kind'].replace('_', ' ')}: {d['records']} (such as {', '.join(d['sample'][:3])})"
        for d in found["differences"]
        if not d["explained"]
    ]
    failed = [
        f"{suite}: {e['key']}, observed {e['observed']}"
        for suite, gate in found["gates"].items()
        for e in gate["failed"]
    ]
    return [*unexplained, *failed]


def _plain(found: Mapping[str, Any]) -> Any:
    """A prediction as plain JSON values."""
    return json.loads(json.dumps(found, default=str))
