"""The gates: every suite of expectations as blocking checks on the asset that it judges.

One factory makes them all. A suite is one step, so that its expectations see one moment and are run
once; each expectation is a check of its own, with its own history. The verdict is kept in the
ledger, where every step that writes asks for it, since Dagster holds nobody back outside of a run.
What a suite expects is in `expectations/`, how it is judged in `quality/`.
"""

import logging
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg
import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.defs import metadata
from inventory_migration.defs.assets import step_key
from inventory_migration.defs.failures import facts, reported
from inventory_migration.defs.observing import observed
from inventory_migration.defs.resources import Database
from inventory_migration.engine import gates, ledger, plan
from inventory_migration.errors import (
    GateRefused,
    MigrationError,
    MigrationFailed,
    SuiteChanged,
)
from inventory_migration.mapping import StockMapping
from inventory_migration.quality.gate_suites import listed
from inventory_migration.quality.suites import CRITICAL, INFO
from inventory_migration.quality.verdict import ExpectationVerdict, Verdict

logger = logging.getLogger(__name__)

WHOLE_SUITE = "suite"
"""The one check of a suite whose file cannot be read while the code location is loaded."""

VERIFIED = "migration_verified"
"""The check of the last asset that no suite can do without."""

SHOWN = 10
"""How many offending rows a check's sentence names; its table has more."""


def build_checks(mapping: StockMapping) -> list[dg.AssetChecksDefinition]:
    """Return the gates of one mapping, one for each of its assets."""
    return [_gate(mapping, suite) for suite in gates.SUITES]


def expectations(mapping: StockMapping, suite: str) -> dict[str, str]:
    """Return what a suite expects, a key and a sentence each, without judging whether it can run.

    A file that has problems gives one check, which fails when it runs and lists them all: a code
    location that does not load would help nobody.
    """
    try:
        found = listed(mapping, suite)
    except (MigrationError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        logger.warning("the suite %s cannot be read: %s", suite, error)
        found = {}
    return found or {WHOLE_SUITE: f"All that the suite {suite} expects."}


def _gate(mapping: StockMapping, suite: str) -> dg.AssetChecksDefinition:
    key = step_key(mapping, suite)
    expected = expectations(mapping, suite)
    names = _names(expected)
    proves = suite == "reconciliation_report"
    described = {names[name]: sentence for name, sentence in expected.items()}
    if proves:
        described[VERIFIED] = "The migration has been proved from the data and closed as verified."

    @dg.multi_asset_check(
        name=f"{mapping.name}__{suite}__gate",
        description=f"Runs the suite {suite} on one moment of the data and keeps the verdict.",
        specs=[
            dg.AssetCheckSpec(name, asset=key, description=text, blocking=True)
            for name, text in described.items()
        ],
        # So that the UI can execute checks alone, which judges the whole suite all the same.
        can_subset=True,
    )
    def gate(
        context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]
    ) -> Iterator[dg.AssetCheckResult]:
        op, doing = context.op_execution_context, f"Judging {len(expected)} expectations"
        with observed(op, database, mapping, key, doing):
            judged, verdict = _judged(database, mapping, suite, list(expected), context.run.run_id)
        if verdict is not None and suite == "audit_profile":
            # Beside the profile that the asset shows; judged here, and once.
            told = metadata.of_findings(verdict, mapping)
            op.log_event(dg.AssetObservation(key, metadata=told))
        results = {names[name]: found for name, found in judged.items()}
        if proves:
            results[VERIFIED] = _verified(database, mapping)
        for name, found in results.items():
            if dg.AssetCheckKey(key, name) in context.selected_asset_check_keys:
                yield dg.AssetCheckResult(asset_key=key, check_name=name, **found)

    return gate


Result = dict[str, Any]
"""A check's result, but for which check it is."""


def _judged(
    database: Database, mapping: StockMapping, suite: str, expected: list[str], run_id: str
) -> tuple[dict[str, Result], Verdict | None]:
    """Judge a suite, once: what came of each expectation, and the verdict where there is one."""
    try:
        with reported(database, mapping):
            # The last step of the same run has judged already, for its report.
            verdict = verbs.verdict_of_run(database.target, mapping, suite, run_id)
            if verdict is None:
                verdict = verbs.judge(database.target, mapping, suite, run_id=run_id)
        if expected != [WHOLE_SUITE] and {e.key for e in verdict.expectations} != {*expected}:
            raise SuiteChanged(suite=suite)
    except dg.Failure as failure:
        found = _refusal(failure.description or "", failure.metadata)
    except MigrationError as error:
        database.error = error
        found = _refusal(str(error), facts(error))
    except Exception as error:  # whatever it is, nothing is known, so that the gate stays shut
        why = f"could not be judged: {type(error).__name__}: {error}"
        database.error = GateRefused(mapping=mapping.name, gate=suite, why=why)
        trace = "".join(traceback.format_exception(error))
        found = _refusal(str(database.error), {"error": dg.MetadataValue.text(trace)})
    else:
        if not verdict.passed:
            why = f"refused: {verdict.summary()}"
            database.error = GateRefused(mapping=mapping.name, gate=suite, why=why)
        if expected == [WHOLE_SUITE]:
            return {WHOLE_SUITE: _whole(verdict)}, verdict
        return {e.key: _result(e) for e in verdict.expectations}, verdict
    _shut(database, mapping, suite, run_id)
    return dict.fromkeys(expected, found), None


def _shut(database: Database, mapping: StockMapping, suite: str, run_id: str) -> None:
    """Let no earlier verdict open a gate that could not be judged now."""
    try:
        resolved = plan.read_mapping(database.target.reader, mapping)
        with database.target.engine.begin() as connection:
            if ledger.installed(connection):
                gates.open_gate(connection, resolved, suite, run_id=run_id)
    except (MigrationError, sa.exc.DBAPIError) as error:
        # What kept the suite from being judged may well keep the ledger from being written.
        logger.warning("%s: the gate %s could not be shut: %s", mapping.name, suite, error)


def _verified(database: Database, mapping: StockMapping) -> Result:
    """Whether the migration was closed as verified, which no suite of a user's own can waive."""
    with database.target.reader.connect() as connection:
        migration = ledger.current(connection, mapping.name)
    if migration is None:
        return {"passed": True, "description": "Nothing has been migrated."}
    passed = migration.state == "verified"
    if not passed and database.error is None:
        database.error = MigrationFailed(
            mapping=mapping.name,
            migration_id=migration.migration_id,
            reason=migration.reason or f"it is {migration.state}",
        )
    return {
        "passed": passed,
        "severity": dg.AssetCheckSeverity.ERROR,
        "description": f"Migration {migration.migration_id} is {migration.state}"
        + (f": {migration.reason}" if migration.reason else "."),
        "metadata": {"migration_id": migration.migration_id, "state": migration.state},
    }


def _result(found: ExpectationVerdict) -> Result:
    weight = found.weight or found.severity
    return {
        # What is only worth knowing is told, and no failure in anybody's list of checks.
        "passed": found.success or weight == INFO,
        "severity": dg.AssetCheckSeverity.ERROR
        if weight == CRITICAL
        else dg.AssetCheckSeverity.WARN,
        "description": _sentence(found),
        "metadata": metadata.of_expectation(found),
    }


def _whole(verdict: Verdict) -> Result:
    worst = verdict.severity or CRITICAL
    return {
        "passed": verdict.severity is None,
        "severity": dg.AssetCheckSeverity.ERROR
        if worst == CRITICAL
        else dg.AssetCheckSeverity.WARN,
        "description": verdict.summary(),
        "metadata": {"verdict": dg.MetadataValue.json(verdict.to_json())},
    }


def _refusal(said: str, about: Mapping[str, Any]) -> Result:
    return {
        "passed": False,
        "severity": dg.AssetCheckSeverity.ERROR,
        "description": said,
        "metadata": about,
    }


def _sentence(found: ExpectationVerdict) -> str:
    """What was observed and, where it is not as expected, some of the rows and why it matters."""
    if found.error:
        return f"Could not run: {found.error}"
    said = f"Observed {found.observed or 'nothing'}"
    if found.success:
        return f"{said}."
    # Where rows are counted, the check's own description says better what they should be.
    if found.expected and found.unexpected_count is None:
        said += f", expected {found.expected}"
    if found.sample:
        said += f"; for example {'; '.join(found.sample[:SHOWN])}"
    loosened = f" Loosened by the mapping: {found.loosened}" if found.loosened else ""
    return f"{said}. {found.why}{loosened}".rstrip()


def _names(keys: Iterable[str]) -> dict[str, str]:
    """Give each expectation a name that Dagster takes, and no two the same."""
    found: dict[str, str] = {}
    for key in keys:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", key)
        name, number = plain, 2
        while name in {*found.values(), VERIFIED}:
            name, number = f"{plain}_{number}", number + 1
        found[key] = name
    return found
