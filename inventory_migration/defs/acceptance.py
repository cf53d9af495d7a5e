"""The job `acceptance_<mapping>`: whether the application still works, as Dagster shows it.

What came of it is an observation of the asset `transformed_stock`. What is tried and asked belongs
in `acceptance.py` and below.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from inventory_migration import acceptance
from inventory_migration.defs import metadata
from inventory_migration.defs.assets import step_key
from inventory_migration.defs.failures import reported
from inventory_migration.defs.options import AcceptanceOptions
from inventory_migration.defs.resources import Database
from inventory_migration.errors import AcceptanceFailed, CommandUnclear
from inventory_migration.mapping import StockMapping


def build_acceptance(mapping: StockMapping) -> dg.JobDefinition:
    """Return the job of one mapping."""
    tags = {"mapping": mapping.name}
    description = (
        f"Try the operations that the mapping {mapping.name} names in a transaction that is rolled "
        "back, and ask its queries as before and after the move. Keeps nothing but the result; "
        "fails where something does not work as expected."
    )

    @dg.op(
        name=f"acceptance_{mapping.name}_now",
        description=description,
        tags=tags,
        out=dg.Out(dg.Nothing),
    )
    def accept(
        config: AcceptanceOptions, database: dg.ResourceParam[Database]
    ) -> Iterator[dg.AssetObservation | dg.Output[None]]:
        with reported(database, mapping):
            is_demo = acceptance.is_ready(
                database.target, mapping, as_superuser=config.as_superuser
            )
            if mapping.acceptance.operations and not (is_demo or config.yes):
                raise CommandUnclear(_question(mapping))
            found = acceptance.accept(database.target, mapping)
            said = of_acceptance(found)
            # What is only logged would be lost with a step that fails.
            yield dg.AssetObservation(
                step_key(mapping, "transformed_stock"), description=_sentence(found), metadata=said
            )
            grave = {"critical", config.fail_on}
            if wrong := [f for f in found["findings"] if f["severity"] in grave]:
                raise AcceptanceFailed(
                    mapping=mapping.name, findings=[f"{f['subject']}: {f['said']}" for f in wrong]
                )
            yield dg.Output(None, metadata=said)

    @dg.job(name=f"acceptance_{mapping.name}", description=description, tags=tags)
    def job() -> None:
        accept()

    return job


def of_acceptance(found: Mapping[str, Any]) -> metadata.Metadata:
    """What came of each operation and query, counted and one by one."""
    trials, queries = found["operations"], found["queries"]
    record = found["record"] or {}
    return {
        "passed": found["passed"],
        "as_of": dg.MetadataValue.text(found["as_of"]),
        "migration_id": dg.MetadataValue.int(found["migration_id"]),
        "operations_failed": sum(not trial["passed"] for trial in trials),
        "queries_failed": sum(not query["passed"] for query in queries),
        "queries_slower": sum(query["slower"] for query in queries),
        "elapsed_seconds": found["elapsed_seconds"],
        **({"record": dg.MetadataValue.text(record["key"])} if record else {}),
        "operations": metadata.table(
            ["operation", "result", "error"],
            [
                [
                    trial["name"],
                    "ok" if trial["passed"] else "failed" if trial["error"] else "differs",
                    (trial["error"] or {}).get("message"),
                ]
                for trial in trials
            ],
        ),
        "queries": metadata.table(
            ["query", "answers", "before ms", "after ms"],
            [
                [
                    query["name"],
                    _answers(query),
                    query["milliseconds"]["before"],
                    query["milliseconds"]["after"],
                ]
                for query in queries
            ],
        ),
        "wrong": metadata.table(
            ["severity", "of", "what"],
            [[f["severity"], f["subject"], f["said"]] for f in found["findings"]],
        ),
    }


def _answers(query: Mapping[str, Any]) -> str:
    if not query["passed"]:
        return "failed" if query["error"] else "differ"
    return "same" if query["rows"] else "not compared"


def _sentence(found: Mapping[str, Any]) -> str:
    tried = f"{len(found['operations'])} operations tried, {len(found['queries'])} queries asked"
    return f"{tried}: " + ("all as expected." if found["passed"] else "not all is as expected.")


def _question(mapping: StockMapping) -> str:
    wanted = mapping.acceptance.operations
    return (
        f"this executes {len(wanted)} operations ({', '.join(wanted)}) on a record of "
        f"{mapping.source.table}, in a transaction that is rolled back; nothing was tried; to "
        "agree, launch the job with 'yes: true' in the configuration of its step"
    )
