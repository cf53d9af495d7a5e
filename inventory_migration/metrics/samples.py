"""What the ledger says as samples of the metrics: pictures of migrations in, values out.

Nothing is asked of a database here. Which metrics there are is in `catalogue.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from inventory_migration import __version__
from inventory_migration.engine import ledger
from inventory_migration.engine.latest import OfInterest
from inventory_migration.engine.summary import OUTCOMES
from inventory_migration.metrics.catalogue import METRICS, in_base_unit

DESIRED = ("run", "pause", "abort", "rollback")
STATES = (*ledger.ACTIVE, "verified", "aborted", "rolled_back")
VERDICTS = ("well", "slow", "hold")


@dataclass(frozen=True)
class Sample:
    """A value of a metric.

    Attributes:
        name: The metric, without the common prefix.
        value: Its value.
        labels: The values of its labels, in their order.
    """

    name: str
    value: float
    labels: tuple[str, ...] = ()


def of_exporter(*, seconds: float, observed_at: datetime) -> Iterator[Sample]:
    """How reading the figures went, where it did."""
    yield Sample("up", 1)
    yield Sample("scrape_duration_seconds", seconds)
    yield Sample("observed_timestamp_seconds", observed_at.timestamp())
    yield Sample("build_info", 1, (__version__,))


def without_database(*, seconds: float) -> Iterator[Sample]:
    """That the database did not answer, which is all that is known."""
    yield Sample("up", 0)
    yield Sample("scrape_duration_seconds", seconds)
    yield Sample("build_info", 1, (__version__,))


def of_migration(picture: Mapping[str, Any]) -> Iterator[Sample]:
    """A migration's figures, from a picture as `watching.picture` paints it."""
    one = (str(picture["mapping"]), str(picture["migration_id"]))
    for name, value in _figures(picture):
        if value is not None:
            yield Sample(name, float(value), one)
    for name, label, value in _labelled(picture):
        if value is not None:
            yield Sample(name, float(value), (*one, label))


def of_limits(found: OfInterest) -> Iterator[Sample]:
    """What a migration is allowed."""
    if found.quarantined_percent is not None:
        yield Sample(
            "quarantine_limit_ratio",
            found.quarantined_percent / 100,
            (found.mapping, str(found.migration_id)),
        )


def of_mapping(standing: Mapping[str, Any]) -> Iterator[Sample]:
    """What is last of a mapping, as `latest.of_mappings` finds it."""
    name = str(standing["mapping"])
    for state in STATES:
        yield Sample("migrations", standing["migrations"].get(state, 0), (name, state))
    if standing["last_success_at"]:
        yield Sample(
            "last_success_timestamp_seconds", _moment(standing["last_success_at"]), (name,)
        )
    for gate in standing["gates"]:
        label = (name, gate["suite"])
        yield Sample("gate_passed", float(gate["passed"]), label)
        yield Sample("gate_judged_timestamp_seconds", _moment(gate["judged_at"]), label)
    look = standing["look"]
    if look is None:
        return
    yield Sample("monitor_timestamp_seconds", _moment(look["at"]), (name,))
    yield Sample("monitor_findings", look["findings"], (name,))
    # While a migration is under way nothing is expected of stock, so that nothing passes or fails.
    if look["passed"] is not None:
        yield Sample("monitor_passed", float(look["passed"]), (name,))
    for measure in ("records", "units", "reserved", "companies", "locations"):
        yield Sample("monitor_stock", float(look[measure]), (name, measure))
    for measure, drift in look["drift"].items():
        yield Sample("monitor_drift", float(Decimal(drift["change"])), (name, measure))
        if drift["percent"] is not None:
            yield Sample("monitor_drift_ratio", drift["percent"] / 100, (name, measure))


def _figures(picture: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The figures of which a migration has one each; None where it is not known."""
    records, working = picture["records"], picture["working"]
    health, rate = _health(picture), picture["rate"]
    yield "started_timestamp_seconds", _perhaps(picture["started_at"])
    yield "finished_timestamp_seconds", _perhaps(picture["finished_at"])
    yield "active_seconds", picture["active_seconds"]
    yield "driver_working", working["driver"]
    yield "workers", working["workers"]
    yield "last_sign_timestamp_seconds", _perhaps(working["last_sign_at"])
    yield "progress_ratio", None if picture["percent"] is None else picture["percent"] / 100
    yield "snapshot_records", records["snapshot"]
    yield "undone_records", records["undone"]
    for kind, said in (("units", picture["units"]), ("reserved_units", picture["reserved"])):
        for part in ("snapshot", "accounted", "difference"):
            # Exact to the last digit where it is computed; a figure of a monitoring is a float.
            yield f"{part}_{kind}", Decimal(said[part])
    yield "records_per_second", rate["now"]
    yield "average_records_per_second", rate["average"]
    yield "failed_attempts_total", picture["attempts"]["failed"]
    yield "health_timestamp_seconds", _perhaps(health.get("at"))
    for measure in _measures(health):
        name, factor = in_base_unit(measure["measure"])
        yield f"health_{name}", None if measure["value"] is None else measure["value"] * factor


def _labelled(picture: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """The figures of which a migration has several, each with the label that tells it apart."""
    health, eta = _health(picture), picture["eta"] or {}
    yield from _one_hot("state", STATES, picture["state"])
    yield from _one_hot("desired", DESIRED, picture["desired"])
    for outcome in (*OUTCOMES, "pending"):
        yield "records", outcome, picture["records"][outcome]
    for phase in picture["phases"]:
        yield "phase_records", phase["name"], phase["records"]
        yield "phase_done_records", phase["name"], phase["records_done"]
    for bound, key in (("expected", "seconds"), ("low", "low"), ("high", "high")):
        yield "eta_seconds", bound, eta.get(key)
    for error, attempts in _summed(
        (_kind(found["error"]), found["attempts"]) for found in picture["attempts"]["by_error"]
    ).items():
        yield "attempts_by_error", error, attempts
    for rule, records in _summed(
        (found["rule"] or "none", found["records"]) for found in picture["quarantine"]
    ).items():
        yield "quarantined_records", rule, records
    if health:
        yield from _one_hot("health_verdict", VERDICTS, health["verdict"])
    for measure in _measures(health):
        name, factor = in_base_unit(measure["measure"])
        for level in ("slow", "hold"):
            limit = measure[level]
            yield f"health_limit_{name}", level, None if limit is None else limit * factor


def _one_hot(name: str, known: Iterable[str], now: str | None) -> Iterator[tuple[str, str, bool]]:
    for value in known:
        yield name, value, value == now


def _health(picture: Mapping[str, Any]) -> Mapping[str, Any]:
    """The last look at the server, while there is a migration for which it is looked at."""
    return picture["health"] or {} if picture["state"] in ledger.ACTIVE else {}


def _measures(health: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The measures of a look that are known to this version of the tool."""
    for measure in (health.get("observed") or {}).get("measures", ()):
        if f"health_{in_base_unit(measure['measure'])[0]}" in METRICS:
            yield measure


def _summed(found: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for label, value in found:
        sums[label] = sums.get(label, 0) + value
    return sums


def _kind(error: str | None) -> str:
    """An error's SQLSTATE as a label, of which there is a bounded number."""
    if error is None:
        return "none"
    return error if re.fullmatch(r"[0-9A-Z]{5}", error) else "other"


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _perhaps(text: str | None) -> float | None:
    return None if text is None else _moment(text)
