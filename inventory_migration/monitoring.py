"""Watching stock after the move: is everything where it belongs, and how far have numbers drifted.

A look reads only, apart from the note that it leaves in the ledger where there is one. What is
expected is in `expectations/steady_state.json`; a proof against the snapshot is `verbs.validate`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.catalog import ResolvedMapping, resolve
from inventory_migration.database import escaped
from inventory_migration.engine import ledger, notifications, observations, steady
from inventory_migration.engine.observations import MEASURES, Earlier, Totals
from inventory_migration.engine.summary import exact
from inventory_migration.mapping import StockMapping
from inventory_migration.notifications import delivering

if TYPE_CHECKING:
    from inventory_migration.quality.verdict import Verdict
    from inventory_migration.verbs import Target

logger = logging.getLogger(__name__)

SUITE = "steady_state"

_SHOWN = 3


def monitor(
    target: Target,
    mapping: StockMapping,
    *,
    run_id: str | None = None,
    accept: str | None = None,
) -> dict[str, Any]:
    """Look at migrated stock as it is today, compare it with the last look, and keep what is found.

    Args:
        target: The database.
        mapping: The mapping whose stock is looked at.
        run_id: The Dagster run that looks, kept with what it finds.
        accept: Why the numbers are as they are meant to be, however far they have drifted: later
            looks are compared with them.

    Raises:
        MappingInvalid: The mapping does not fit the database, so that nothing can be said by it.
    """
    with delivering(target.engine, mapping):
        return _monitor(target, mapping, run_id=run_id, accept=accept)


def _monitor(
    target: Target, mapping: StockMapping, *, run_id: str | None, accept: str | None
) -> dict[str, Any]:
    ledger.bring_up_to_date(target.engine)
    with verbs.one_moment(target) as (connection, _):
        resolved = resolve(connection, mapping)
        kept = ledger.installed(connection)
        unjudged = _not_yet(connection, resolved) if kept else None
        totals = observations.read_totals(connection, resolved)
    number, compared = None, None
    if kept:
        with target.engine.begin() as connection:
            notifications.subscribe(connection, mapping)
            number = observations.keep(
                connection, mapping.name, totals, kind="monitored", run_id=run_id
            )
            compared = observations.earlier(
                connection, mapping.name, mapping.monitor.since, before=number
            )
    verdict = None
    if unjudged is None:
        verdict = _judge(target, mapping, number, compared, accepted=accept is not None)
    found = _told(resolved, totals, compared, verdict, unjudged)
    if number is not None:
        with target.engine.begin() as connection:
            if compared is not None:
                found["drift"]["by_company"] = _companies(connection, number, compared)
            observations.conclude(
                connection,
                mapping.name,
                number,
                mapping.monitor,
                passed=found["passed"],
                findings=found["findings"],
                found={name: found[name] for name in ("failed", "warnings", "drift", "not_judged")},
                accepted=accept,
            )
            if found["passed"] is False:
                ledger.note(
                    connection,
                    "monitoring_failed",
                    mapping=mapping.name,
                    observation_id=number,
                    reason="; ".join(clauses(found["failed"])),
                )
    logger.info("monitored %s: %d findings", mapping.name, found["findings"])
    return {**found, "accepted": accept, "kept": number is not None}


def sentence(found: Mapping[str, Any]) -> str:
    """What came of a look, in a sentence."""
    if found["not_judged"]:
        return f"Not judged: {found['not_judged']}."
    warned = f" {len(found['warnings'])} warnings." if found["warnings"] else ""
    if found["passed"]:
        return f"All stock is where it belongs.{warned}"
    return f"Something is wrong: {'; '.join(clauses(found['failed']))}.{warned}"


def clauses(failed: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong, a clause for each expectation, with some of the rows."""
    found = []
    for one in failed:
        said = one["error"] or f"observed {one['observed']}"
        shown = examples(one)[:_SHOWN]
        found.append(f"{one['key']}: {said}" + (f" (such as {'; '.join(shown)})" if shown else ""))
    return found


def examples(failed: Mapping[str, Any]) -> list[str]:
    """Some of the rows that are not as expected, each with what else is known of it."""
    details = failed["details"] or [""] * len(failed["sample"])
    return [
        f"{name} ({detail})" if detail else name
        for name, detail in zip(failed["sample"], details, strict=True)
    ]


def _not_yet(connection: sa.Connection, resolved: ResolvedMapping) -> str | None:
    """Why stock is not in the state after the move, so that nothing is expected of it."""
    active = ledger.find(connection, target=resolved.target, states=ledger.ACTIVE)
    if active is not None:
        return f"migration {active.migration_id} is {active.state.replace('_', ' ')}"
    name = resolved.mapping.name
    last = ledger.find(connection, mapping=name)
    verified = ledger.find(connection, mapping=name, states=("verified",))
    if last is not None and last.state == "rolled_back" and verified is None:
        return f"migration {last.migration_id} was rolled back"
    return None


def _judge(
    target: Target,
    mapping: StockMapping,
    number: int | None,
    compared: Earlier | None,
    *,
    accepted: bool,
) -> Verdict:
    from inventory_migration.quality import judging, suites
    from inventory_migration.quality.gate_suites import severity_of

    with verbs.one_moment(target) as (connection, snapshot):
        resolved = resolve(connection, mapping)
        left_out = steady.without_meaning(connection, resolved)
        if compared is None or accepted or not mapping.monitor.bounds:
            left_out.add("drift-within-bounds")
        if compared is None or accepted:
            left_out.add("not-emptied")
        rows = connection.execute(
            sa.text(f"SELECT count(*) FROM {escaped(resolved.source.sql)}")  # noqa: S608 - quoted
        ).scalar_one()
        suite = suites.load_suite(
            SUITE,
            severities={
                rule: severity_of(action) for rule, action in mapping.rules.actions().items()
            },
            relations={
                "companies": steady.companies(resolved),
                "levels_astray": steady.levels_astray(resolved),
                "drift": observations.drift(mapping.monitor, number, compared),
            },
            without=left_out,
        )
        return judging.judge(
            suite,
            batch=steady.records(connection, resolved),
            parameters={
                "expected_rows": rows,
                "least_rows": 1 if compared is not None and compared.records else 0,
            },
            connection_parameters=target.parameters,
            snapshot=snapshot,
        )


def _told(
    resolved: ResolvedMapping,
    totals: Totals,
    compared: Earlier | None,
    verdict: Verdict | None,
    unjudged: str | None,
) -> dict[str, Any]:
    records, units, reserved = totals.sums
    failed = [e for e in verdict.failed if e.weight == "critical"] if verdict else []
    warned = [e for e in verdict.failed if e.weight != "critical"] if verdict else []
    return {
        "mapping": resolved.mapping.name,
        "passed": verdict.passed if verdict else None,
        "not_judged": unjudged,
        "records": records,
        "put_aside": totals.put_aside,
        "units": exact(units),
        "reserved": exact(reserved),
        "available": exact(units if resolved.mapping.quantity_basis == "net" else units - reserved),
        "companies": totals.companies,
        "locations": totals.locations,
        "findings": sum(_weight(e) for e in failed),
        "expectations": {
            e.key: (0 if e.success else _weight(e))
            for e in (verdict.expectations if verdict else ())
        },
        "failed": [_finding(e) for e in failed],
        "warnings": [_finding(e) for e in warned],
        "drift": _drift(dict(zip(MEASURES, totals.sums, strict=True)), compared),
    }


def _weight(found: Any) -> int:
    """How many rows are not as expected; one where it is not about rows."""
    return found.unexpected_count or 1


def _finding(found: Any) -> dict[str, Any]:
    return {
        name: asdict(found)[name]
        for name in ("key", "observed", "expected", "sample", "details", "why", "error")
    }


def _drift(now: Mapping[str, Any], compared: Earlier | None) -> dict[str, Any]:
    if compared is None:
        return {"since": None, "kind": None, **dict.fromkeys(MEASURES), "by_company": []}
    told: dict[str, Any] = {
        "since": compared.at.isoformat(),
        "kind": compared.kind,
        "by_company": [],
    }
    for name in MEASURES:
        before = getattr(compared, name)
        change = now[name] - before
        told[name] = {
            "earlier": exact(before),
            "now": exact(now[name]),
            "change": exact(change),
            "percent": round(float(100 * change / before), 2) if before else None,
        }
    return told


def _companies(connection: sa.Connection, number: int, compared: Earlier) -> list[dict[str, Any]]:
    return [
        {
            "company_key": one["company_key"],
            "units_earlier": exact(one["units_earlier"]),
            "units": exact(one["units"]),
        }
        for one in observations.most_changed(connection, number, compared)
    ]
