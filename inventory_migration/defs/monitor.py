"""The job `monitor_<mapping>`: one look at migrated stock, as Dagster runs and plots it.

Each look is an observation of the asset `transformed_stock`, whose numbers have the same names
every time. What is looked at and expected belongs in `monitoring.py` and its suite.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from inventory_migration import monitoring
from inventory_migration.defs import metadata
from inventory_migration.defs.assets import step_key
from inventory_migration.defs.failures import reported
from inventory_migration.defs.options import MonitorOptions
from inventory_migration.defs.resources import Database
from inventory_migration.errors import MonitoringFailed
from inventory_migration.mapping import StockMapping


def build_monitor(mapping: StockMapping) -> dg.JobDefinition:
    """Return the job of one mapping."""
    tags = {"mapping": mapping.name}
    description = (
        f"Look whether the stock of {mapping.name} still is where it belongs, and how far records, "
        "units and reserved have drifted. Changes no stock; fails where something is wrong."
    )

    @dg.op(
        name=f"monitor_{mapping.name}_now",
        description=description,
        tags=tags,
        out=dg.Out(dg.Nothing),
    )
    def monitor(
        context: dg.OpExecutionContext,
        config: MonitorOptions,
        database: dg.ResourceParam[Database],
    ) -> Iterator[dg.AssetObservation | dg.Output[None]]:
        with reported(database, mapping):
            found = monitoring.monitor(
                database.target, mapping, run_id=context.run_id, accept=config.accept
            )
            said = of_look(found)
            # What is only logged would be lost with a step that fails.
            yield dg.AssetObservation(
                step_key(mapping, "transformed_stock"),
                description=monitoring.sentence(found),
                metadata=said,
            )
            if found["passed"] is False:
                raise MonitoringFailed(
                    mapping=mapping.name, findings=monitoring.clauses(found["failed"])
                )
            yield dg.Output(None, metadata=said)

    @dg.job(name=f"monitor_{mapping.name}", description=description, tags=tags)
    def job() -> None:
        monitor()

    return job


def of_look(found: Mapping[str, Any]) -> metadata.Metadata:
    """What a look found: numbers to plot, each expectation's count, and what is wrong."""
    drift = found["drift"]
    said: metadata.Metadata = {
        **{name: found[name] for name in ("records", "put_aside", "companies", "locations")},
        **{name: metadata.number(found[name]) for name in ("units", "reserved", "available")},
        "findings": found["findings"],
        "verdict": dg.MetadataValue.text(monitoring.sentence(found)),
        **{f"found_{key.replace('-', '_')}": n for key, n in found["expectations"].items()},
    }
    if drift["since"] is not None:
        for name in ("records", "units", "reserved"):
            said[f"drift_{name}"] = metadata.number(drift[name]["change"])
            if drift[name]["percent"] is not None:
                said[f"drift_{name}_percent"] = dg.MetadataValue.float(drift[name]["percent"])
        said["drift_since"] = dg.MetadataValue.text(f"{drift['since']} ({drift['kind']})")
        said["drift_by_company"] = metadata.table(
            ["company", "units earlier", "units"],
            [[c["company_key"], c["units_earlier"], c["units"]] for c in drift["by_company"]],
        )
    wrong = [*found["failed"], *found["warnings"]]
    if wrong:
        said["wrong"] = metadata.table(
            ["expectation", "observed", "for example", "why"],
            [[e["key"], e["observed"], "; ".join(monitoring.examples(e)), e["why"]] for e in wrong],
        )
    return said
