"""A migration's picture as Dagster shows it: a sentence, numbers to plot, links.

What a picture holds is said in `watching.py`; when one is shown in `observing.py` and `sensors.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from inventory_migration import project
from inventory_migration.defs.metadata import ROWS, Metadata, number
from inventory_migration.engine.summary import OUTCOMES
from inventory_migration.report.text import duration, grouped, printable


def of_picture(picture: Mapping[str, Any]) -> Metadata:
    """Where a migration stands: numbers with the same names every time."""
    records, attempts, eta = picture["records"], picture["attempts"], picture["eta"]
    # A run's page shows the first of them, and the rest only where somebody asks.
    found: Metadata = {
        "progress": dg.MetadataValue.text(sentence(picture)),
        **links(picture["mapping"], picture["migration_id"]),
        "percent": dg.MetadataValue.float(float(picture["percent"])),
        "records_done": dg.MetadataValue.int(sum(records[outcome] for outcome in OUTCOMES)),
        "rows_total": dg.MetadataValue.int(records["snapshot"]),
        "records_per_second": dg.MetadataValue.float(float(picture["rate"]["now"])),
    }
    if eta is not None:
        for name in ("seconds", "low", "high"):
            key = "eta_seconds" if name == "seconds" else f"eta_seconds_{name}"
            found[key] = dg.MetadataValue.float(float(eta[name]))
    if restrained := _restrained(picture):
        found["held_back_by"] = dg.MetadataValue.text(restrained)
    if phase := _phase(picture):
        found["phase"] = dg.MetadataValue.text(phase["name"])
    return {
        **found,
        **{key: dg.MetadataValue.int(records[outcome]) for outcome, key in ROWS.items()},
        "records_undone": dg.MetadataValue.int(records["undone"]),
        "workers": dg.MetadataValue.int(picture["working"]["workers"]),
        "failed_attempts": dg.MetadataValue.int(attempts["failed"]),
        **{
            f"{measure}_difference": number(picture[measure]["difference"])
            for measure in ("units", "reserved")
        },
        "active_seconds": dg.MetadataValue.float(float(picture["active_seconds"])),
        "migration_id": dg.MetadataValue.int(picture["migration_id"]),
        "state": dg.MetadataValue.text(picture["state"]),
        "stage": dg.MetadataValue.text(picture["stage"]),
    }


def links(mapping: str, migration_id: int | None) -> Metadata:
    """Where a migration is watched, and where its report is or will be."""
    found: Metadata = {}
    if page := project.dashboard_url(migration_id):
        found["dashboard_url"] = dg.MetadataValue.url(page)
    if migration_id is not None:
        report = project.report_file(mapping, migration_id)
        found["report_html"] = dg.MetadataValue.path(report)
        if page := project.report_url(report.name):
            found["report_url"] = dg.MetadataValue.url(page)
    return found


def sentence(picture: Mapping[str, Any]) -> str:
    """What goes on, or why nothing does, in a line."""
    return "; ".join(_clauses(picture)) + "."


def _clauses(picture: Mapping[str, Any]) -> Iterator[str]:
    state, stage, working = picture["state"], picture["stage"], picture["working"]
    phase, restrained = _phase(picture), _restrained(picture)
    if picture["desired"] in {"pause", "abort"} and state in {"planned", "running", "verifying"}:
        asked = "pause" if picture["desired"] == "pause" else "end for good"
        why = f" ({printable(said)})" if (said := picture.get("desired_reason")) else ""
        yield f"About to {asked}{why}, as {printable(picture['desired_by'])} asked"
        yield f"{working['workers']} transactions under way are waited for"
    elif stage == "standing":
        reason = f": {printable(picture['reason'])}" if picture["reason"] else ""
        yield f"Migration {picture['migration_id']} is {state}{reason}"
    elif restrained and picture["health"]["verdict"] == "hold":
        yield f"Waiting, since {restrained}"
    elif stage == "moving" and phase:
        yield f"Phase {phase['name']}"
    else:
        yield _STAGES.get(stage, stage.replace("_", " ").capitalize())
    yield from _figures(picture)
    if restrained and picture["health"]["verdict"] == "slow":
        yield f"slowed down, since {restrained}"


_STAGES = {
    "preparing": "Preparing: the snapshot is written",
    "moving": "Moving",
    "proving": "Proving",
    "finished": "Finished",
    "rolling_back": "Rolling back",
}


def _figures(picture: Mapping[str, Any]) -> Iterator[str]:
    """How far it is, in clauses."""
    records, rate, eta = picture["records"], picture["rate"]["now"], picture["eta"]
    if not records["snapshot"]:
        return
    if picture["stage"] == "rolling_back":
        yield f"{grouped(records['undone'])} records are back ({picture['percent']:.1f} %)"
    else:
        done = sum(records[outcome] for outcome in OUTCOMES)
        yield (
            f"{grouped(done)} of {grouped(records['snapshot'])} records "
            f"({picture['percent']:.1f} %)"
        )
    if rate:
        yield f"{rate:,.0f} per second"
    if eta is not None:
        yield f"about {_roughly(eta['seconds'])} left"
    if records["quarantined"]:
        yield f"{grouped(records['quarantined'])} quarantined"
    if picture["units"]["difference"] != "0":
        yield f"units differ by {picture['units']['difference']}"


def _roughly(seconds: float) -> str:
    """A stretch of time that nobody knows to the second."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return duration(60.0 * round(seconds / 60)).removesuffix(" 0 s")


def _phase(picture: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The phase that is worked on, or comes next."""
    return next((phase for phase in picture["phases"] if phase["reconciled_at"] is None), None)


def _restrained(picture: Mapping[str, Any]) -> str | None:
    """What holds those who work back, in a clause; None where nothing does."""
    health = picture["health"]
    if health is None or health["verdict"] == "well" or not picture["working"]["driver"]:
        return None
    return "; ".join(printable(reason["text"]) for reason in health["reasons"])
