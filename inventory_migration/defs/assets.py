"""The four steps of a migration as assets, and the application's tables as what they come from.

No rows pass through Dagster: the data stays in the database, and an asset's value is what it says
about it. What gates the steps is in `checks.py`; what the steps do is in `verbs.py` and below.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.defs import metadata, pictures
from inventory_migration.defs.failures import reported
from inventory_migration.defs.metadata import Metadata
from inventory_migration.defs.observing import observed, tell_where_to_watch
from inventory_migration.defs.options import RunOptions, StartOptions, WorkOptions
from inventory_migration.defs.resources import Database
from inventory_migration.engine import ledger, plan, summary
from inventory_migration.engine.proof import Proof
from inventory_migration.mapping import Company, StockLevel, StockMapping, TableName

logger = logging.getLogger(__name__)

OWNERS = ["team:inventory"]
LISTED = 50
"""How many rows a table of companies shows."""


def step_key(mapping: StockMapping, step: str) -> dg.AssetKey:
    """Return the key of a mapping's asset."""
    return dg.AssetKey([mapping.name, step])


def table_key(table: TableName) -> dg.AssetKey:
    """Return the key of one of the application's tables."""
    # Dagster makes identifiers of its own from keys, and refuses what would be none.
    parts = (table.schema_ or "public", table.name)
    return dg.AssetKey(["".join(c if c.isalnum() else "_" for c in part) for part in parts])


def build_tables(mappings: Sequence[StockMapping]) -> list[dg.AssetSpec]:
    """Return the tables that the mappings read, each once, as assets of the application."""
    found: dict[dg.AssetKey, dg.AssetSpec] = {}
    for mapping in mappings:
        for table in _tables(mapping):
            key = table_key(table)
            found.setdefault(
                key,
                dg.AssetSpec(
                    key,
                    description=f"The application's table `{table}`, which is not made here.",
                    group_name="application",
                    kinds={"postgres", "table"},
                    owners=OWNERS,
                    metadata={"dagster/table_name": f"{table.schema_ or 'public'}.{table.name}"},
                ),
            )
    return list(found.values())


def build_assets(mapping: StockMapping) -> list[dg.AssetsDefinition]:
    """Return the assets of one mapping, in the order in which they come about."""
    return [
        _audit_profile(mapping),
        _default_locations(mapping),
        _transformed_stock(mapping),
        _reconciliation_report(mapping),
    ]


def _tables(mapping: StockMapping) -> list[TableName]:
    tables = [mapping.source.table]
    if isinstance(mapping.company, Company):
        tables.append(mapping.company.table)
    # A table that the migration may have to make is nothing that it comes from.
    return tables if mapping.locations.add else [*tables, mapping.locations.table]


def _audit_profile(mapping: StockMapping) -> dg.AssetsDefinition:
    @dg.asset(
        key=step_key(mapping, "audit_profile"),
        deps=[table_key(table) for table in _tables(mapping)],
        description=f"""The inventory as it stands: counts, defects, and what the rules would do.

Profiles `{mapping.source.table}` by company and column: nulls, duplicates, type inconsistencies,
orphans, and the outcome that each record would have. Reads only; apart from the ledger nothing is
written. Its checks decide whether a migration may begin at all.""",
        kinds={"postgres", "pandas"},
        group_name=mapping.name,
        owners=OWNERS,
        tags=_tags(mapping),
        code_version=_version(mapping),
    )
    def audit_profile(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult[None]:
        tell_where_to_watch(context)
        profiling = f"Profiling {mapping.source.table}"
        with (
            reported(database, mapping),
            observed(
                context.op_execution_context,
                database,
                mapping,
                step_key(mapping, "audit_profile"),
                profiling,
            ),
        ):
            database.tell(mapping)
            found = verbs.audit_profile(
                database.target, mapping, database.claim, run_id=context.run.run_id
            )
            resolved = plan.read_mapping(database.target.reader, mapping)
            return dg.MaterializeResult(
                metadata={
                    "dagster/row_count": int(found.totals["records"]),
                    **metadata.of_table(
                        resolved.source,
                        database=_database_name(database),
                        notes=metadata.stock_columns(resolved),
                    ),
                    **_figures(found.metadata()),
                    "profile": metadata.markdown(
                        found.to_markdown(), f"inventory-migration audit {mapping.name}"
                    ),
                }
            )

    return audit_profile


def _default_locations(mapping: StockMapping) -> dg.AssetsDefinition:
    creates = mapping.locations.create is not None

    @dg.asset(
        key=step_key(mapping, "default_locations"),
        deps=[step_key(mapping, "audit_profile")],
        description=f"""One default location for every company, also for those without stock.

Adopts the default location that a company has{
            " and creates those that are missing"
            if creates
            else ", and refuses where one is missing"
        }, in one transaction that keeps a second creator out. Adds
{_added(mapping)} where the mapping says so. A rollback takes away the
locations that it created and nobody uses.""",
        kinds={"postgres", "table"},
        group_name=mapping.name,
        owners=OWNERS,
        tags=_tags(mapping),
        code_version=_version(mapping),
    )
    def default_locations(
        context: dg.AssetExecutionContext,
        config: StartOptions,
        database: dg.ResourceParam[Database],
    ) -> dg.MaterializeResult[None]:
        key, giving = step_key(mapping, "default_locations"), "Giving companies their locations"
        with (
            reported(database, mapping),
            observed(context.op_execution_context, database, mapping, key, giving),
        ):
            database.tell(mapping)
            done = verbs.default_locations(
                database.target, mapping, database.claim, config.start(context.run.run_id)
            )
            resolved = plan.read_mapping(database.target.reader, mapping)
            given, rows = _locations_given(database, done["migration_id"])
            described = (
                metadata.of_table(
                    resolved.locations,
                    database=_database_name(database),
                    notes=metadata.location_columns(resolved),
                )
                if resolved.locations
                else {}
            )
            return dg.MaterializeResult(
                metadata={
                    "dagster/row_count": given,
                    **described,
                    "companies": done["companies"] or given,
                    "locations_created": done["locations_created"],
                    "locations_adopted": done["locations_adopted"],
                    "locations": metadata.table(["company", "location", "created"], rows),
                    **pictures.links(mapping.name, done["migration_id"]),
                }
            )

    return default_locations


def _transformed_stock(mapping: StockMapping) -> dg.AssetsDefinition:
    key = step_key(mapping, "transformed_stock")

    @dg.asset(
        key=key,
        deps=[step_key(mapping, "default_locations")],
        description=f"""Every stock record at the default location of its company.

Writes the snapshot, which is work list, backup and baseline in one, and then moves
`{mapping.source.table}` chunk by chunk while the application stays online. Each record gets exactly
one outcome: migrated, already, skipped, quarantined or gone. Refused unless the checks of
`default_locations` passed, on what is there now. Interrupted, it is left paused; a rollback puts
every column back.""",
        kinds={"postgres", "table"},
        group_name=mapping.name,
        owners=OWNERS,
        tags=_tags(mapping),
        code_version=_version(mapping),
    )
    def transformed_stock(
        context: dg.AssetExecutionContext, config: RunOptions, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult[None]:
        moving = f"Moving {mapping.source.table}"
        with (
            reported(database, mapping),
            observed(context.op_execution_context, database, mapping, key, moving, at_once=True),
        ):
            before, began = _processed(database, mapping), time.monotonic()
            database.tell(mapping)
            done = verbs.transformed_stock(
                database.target,
                mapping,
                database.claim,
                config.start(context.run.run_id),
                stop_after=config.stop_after,
                workers=config.workers,
            )
            seconds = time.monotonic() - began
            resolved = plan.read_mapping(database.target.reader, mapping)
            rows = max(0, _sum_of_outcomes(done) - before.get(done["migration_id"], 0))
            return dg.MaterializeResult(
                metadata={
                    "dagster/row_count": done["records"]["snapshot"],
                    **metadata.of_table(
                        resolved.source,
                        database=_database_name(database),
                        notes=metadata.stock_columns(resolved),
                    ),
                    **metadata.of_summary(done),
                    "records_per_second": round(rows / seconds, 1) if seconds > 0 else 0.0,
                    "elapsed_seconds": round(seconds, 3),
                    **pictures.links(mapping.name, done["migration_id"]),
                }
            )

    return transformed_stock


def _reconciliation_report(mapping: StockMapping) -> dg.AssetsDefinition:
    @dg.asset(
        key=step_key(mapping, "reconciliation_report"),
        deps=[step_key(mapping, "transformed_stock")],
        description="""The proof that not one unit was lost, and the report to sign.

Sweeps up what the application added meanwhile, compares snapshot and live table in both directions,
closes the migration as verified, or as failed with every difference that nobody accounts for, and
writes the report. It holds as of its moment.""",
        kinds={"postgres", "report"},
        group_name=mapping.name,
        owners=OWNERS,
        tags=_tags(mapping),
        code_version=_version(mapping),
    )
    def reconciliation_report(
        context: dg.AssetExecutionContext, config: WorkOptions, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult[None]:
        from inventory_migration.report.documents import write_sealed

        key = step_key(mapping, "reconciliation_report")
        with (
            reported(database, mapping),
            observed(context.op_execution_context, database, mapping, key, "Proving"),
        ):
            database.tell(mapping)
            done, proved = verbs.reconciliation_report(
                database.target,
                mapping,
                database.claim,
                config.start(context.run.run_id),
                workers=config.workers,
            )
            # Judged before the report is written, which tells the verdict; the gate tells it too.
            _judge_ahead(database, mapping, context.run.run_id)
            written, done["seal"] = write_sealed(database.target, mapping, just_moved=True)
            done["report"] = written
            database.summary = done
            found: Metadata = {
                "dagster/row_count": done["records"]["snapshot"],
                **metadata.of_summary(done),
                "as_of": dg.MetadataValue.timestamp(proved.as_of),
                "differences": _differences(proved),
                **pictures.links(mapping.name, done["migration_id"]),
            }
            for form, path in written.items():
                if path:
                    found[f"report_{form}"] = dg.MetadataValue.path(path)
            if path := written["markdown"]:
                found["report"] = dg.MetadataValue.md(_read(path))
            return dg.MaterializeResult(metadata=found)

    return reconciliation_report


def _judge_ahead(database: Database, mapping: StockMapping, run_id: str) -> None:
    """Judge the suite of the last gate; whatever keeps it from being judged, the gate will say."""
    try:
        verbs.judge(database.target, mapping, "reconciliation_report", run_id=run_id)
    except Exception as error:  # of the suite or of the server: no part of what was migrated
        logger.warning("reconciliation_report could not be judged yet: %s", error)


def _added(mapping: StockMapping) -> str:
    """What the target may need that is not there yet."""
    target = mapping.target
    if isinstance(target, StockLevel):
        return f"the table `{target.table}`"
    return f"the nullable column `{target.columns[0]}`"


def _tags(mapping: StockMapping) -> dict[str, str]:
    return {"mapping": mapping.name, "shape": mapping.target.shape}


def _version(mapping: StockMapping) -> str:
    """What was made under another version of the mapping shows as out of sync."""
    return mapping.hash[:12]


def _processed(database: Database, mapping: StockMapping) -> dict[int | None, int]:
    """How many records have an outcome already: a resumed migration is not to count them."""
    with database.target.reader.connect() as connection:
        migration = ledger.current(connection, mapping.name)
        if migration is None:
            return {}
        done = summary.summarize(connection, migration, mapping=mapping.name, changed=False)
    return {migration.migration_id: _sum_of_outcomes(done)}


def _sum_of_outcomes(done: Mapping[str, Any]) -> int:
    return sum(int(done["records"][outcome]) for outcome in summary.OUTCOMES)


def _locations_given(
    database: Database, migration_id: int | None
) -> tuple[int, list[tuple[object, ...]]]:
    """How many companies a migration gave a location, and the first of them."""
    given = ledger.company_location
    ours = given.c.migration_id == migration_id
    with database.target.reader.connect() as connection:
        if not ledger.installed(connection):
            return 0, []
        count = connection.execute(
            sa.select(sa.func.count()).select_from(given).where(ours)
        ).scalar_one()
        rows = connection.execute(
            sa.select(given.c.company_name, given.c.location_key, given.c.created)
            .where(ours)
            .order_by(given.c.created.desc(), given.c.company_name)
            .limit(LISTED)
        )
        return count, [
            (row.company_name, row.location_key, "yes" if row.created else "no") for row in rows
        ]


def _differences(proved: Proof) -> dg.MetadataValue[Any]:
    if not proved.differences:
        return dg.MetadataValue.text("none")
    return metadata.table(
        ["kind", "explained", "records", "sample"],
        [
            [d.kind, "yes" if d.explained else "no", d.records, ", ".join(d.sample)]
            for d in proved.differences
        ],
    )


def _figures(found: Mapping[str, int | float | str]) -> Metadata:
    """A profile's figures, its exact sums as numbers where they are whole."""
    return {
        name: metadata.number(value) if isinstance(value, str) else value
        for name, value in found.items()
    }


def _database_name(database: Database) -> str | None:
    return database.target.parameters.get("dbname")


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")
