"""All definitions, put together from the mappings that are known.

Nothing here connects to a database. A mapping that cannot be read is left out and named: in the
log, and in the definitions' metadata. The parts are in the modules beside this one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import dagster as dg

import inventory_migration
from inventory_migration import project
from inventory_migration.defs.assets import build_assets, build_tables
from inventory_migration.defs.checks import build_checks
from inventory_migration.defs.console import KEY, console
from inventory_migration.defs.jobs import build_jobs
from inventory_migration.defs.resources import Database, DatabaseResource, given
from inventory_migration.defs.schedules import build_schedules
from inventory_migration.defs.sensors import note_failed_runs, watch_migrations
from inventory_migration.errors import MigrationError
from inventory_migration.mapping import StockMapping, load_mapping

logger = logging.getLogger(__name__)


def build_definitions(
    mappings: Sequence[StockMapping] | None = None,
    *,
    database_url: str | None = None,
    resource_overrides: Mapping[str, object] | None = None,
    log_level: int = logging.DEBUG,
) -> dg.Definitions:
    """Return the assets, checks, jobs, schedules and sensors of the mappings.

    Args:
        mappings: What can be migrated; by default all mappings of environment, project and package.
        database_url: Any libpq URL; by default what the environment of each run says. It is not
            stored with the runs.
        resource_overrides: Resources by name that replace those made here.
        log_level: From which level on runs of the migration log to stderr; what they store is
            stored whatever the level.
    """
    problems: list[str] = []
    if mappings is None:
        mappings, problems = known_mappings()
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = [*build_tables(mappings)]
    checks, jobs, schedules = [], [], []
    for mapping in mappings:
        assets += build_assets(mapping)
        checks += build_checks(mapping)
        made = build_jobs(mapping)
        jobs += made.all()
        schedules += build_schedules(mapping, made)
    database = DatabaseResource() if database_url is None else given(lambda: Database(database_url))
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=jobs,
        schedules=schedules,
        sensors=[note_failed_runs, watch_migrations],
        resources={"database": database, **(resource_overrides or {})},
        loggers={KEY: console(log_level)},
        # One process for all steps: it is what holds the claim from the first to the last.
        executor=dg.in_process_executor,
        metadata={
            "version": inventory_migration.__version__,
            "mappings": ", ".join(mapping.name for mapping in mappings) or "none",
            **({"problems": dg.MetadataValue.md(_listed(problems))} if problems else {}),
        },
    )


def known_mappings() -> tuple[list[StockMapping], list[str]]:
    """Return the mappings that can be read, and a sentence about each that cannot."""
    try:
        files = project.listing("mappings", ".yaml")
    except MigrationError as error:
        return [], [_told(str(error))]
    problems, read = [], []
    for stem, path in files.items():
        try:
            read.append((stem, path, load_mapping(path)))
        except MigrationError as error:
            problems.append(_told(f"mapping {stem} was left out: {error}"))
    found: dict[str, StockMapping] = {}
    # Of two files that use a name, the one that is called so wins.
    for stem, path, mapping in sorted(read, key=lambda one: (one[0] != one[2].name, one[0])):
        if mapping.name in found:
            problems.append(
                _told(
                    f"mapping {stem} was left out: {path} uses the name {mapping.name}, which "
                    "another file has; give it a name of its own"
                )
            )
        else:
            found[mapping.name] = mapping
    return [found[name] for name in sorted(found)], problems


def _told(problem: str) -> str:
    logger.warning("%s", problem)
    return problem


def _listed(problems: Sequence[str]) -> str:
    return "\n".join(f"- {problem}" for problem in problems)
