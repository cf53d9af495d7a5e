"""How a migration went, as sections of the report: gates, phases, time, triggers, the trail.

What became of the stock is in `stock.py`; all of it is said from the facts alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from heapq import nsmallest
from statistics import median
from typing import Any, NamedTuple

from markupsafe import Markup

from inventory_migration.report import html, plots
from inventory_migration.report.html import Section, Toned
from inventory_migration.report.plots import Bar
from inventory_migration.report.text import duration, when

Facts = Mapping[str, Any]

MOST_CHUNKS = 200
"""Of more chunks only those that failed, and the slowest, have a row; JSON has the others."""

_SLOWEST = 20
_MOST_WORDS = 1000


def gates(facts: Facts) -> Section:
    """The gates, each with what came of every expectation."""
    return html.section(
        "Gates",
        html.paragraph(
            "Nothing was written behind a gate that refused. What is critical refuses; what only "
            "warns is migrated, or put aside, as the mapping says."
        ),
        html.table([_gate(gate) for gate in facts["gates"]], numbers={"expectations", "met"}),
        *(_expectations(gate) for gate in facts["gates"]),
    )


def _gate(gate: Mapping[str, Any]) -> dict[str, Any]:
    refusing = [e for e in gate["failed"] if e["severity"] == "critical" or e["error"]]
    return {
        "gate": gate["suite"],
        "verdict": Toned("passed", "good") if gate["passed"] else Toned("refused", "bad"),
        "judged": when(gate["judged_at"]),
        "expectations": gate["expectations"],
        "met": gate["expectations"] - len(gate["failed"]),
        "warnings": Toned(len(gate["failed"]) - len(refusing) or None, "warn"),
        "critical": Toned(len(refusing) or None, "bad"),
    }


def _expectations(gate: Mapping[str, Any]) -> Markup:
    rows = [_expectation(one) for one in sorted(gate["results"], key=lambda e: bool(e["success"]))]
    return html.details(
        f"{gate['suite']}: {len(rows)} expectations",
        html.table(rows, prose={"why"}, cards=True, empty="It had none."),
        opened=bool(gate["failed"]),
    )


def _expectation(one: Mapping[str, Any]) -> dict[str, Any]:
    critical = one["severity"] == "critical" or one["error"]
    return {
        "expectation": one["key"],
        "result": Toned("met", "good")
        if one["success"]
        else Toned(one["severity"], "bad" if critical else "warn"),
        "observed": one["error"] or one["observed"],
        "expected": one["expected"],
        "for example": "; ".join(str(key) for key in (one["sample"] or [])[:5]),
        "why": one["why"],
    }


def phases(facts: Facts) -> Section:
    """The phases and how long they took, with plots, failed attempts and chunks."""
    rows = [
        {
            "phase": phase["name"],
            "companies": phase["companies"],
            "records": phase["records"],
            "chunks": f"{phase['chunks_written']:,} of {phase['chunks']:,}",
            "failed attempts": phase["failed_attempts"],
            "took": duration(phase["elapsed_seconds"]),
            "records/s": _rate(phase["records"], phase["elapsed_seconds"]),
            "began": when(phase["started_at"]),
            "reconciled": when(phase["reconciled_at"]) or "no",
        }
        for phase in facts["phases"]
    ]
    return html.section(
        "Phases and time",
        html.table(
            rows, numbers={"companies", "records", "chunks", "failed attempts", "took", "records/s"}
        ),
        *_plots(facts),
        *_attempts(facts),
        *_chunks(facts),
    )


def _plots(facts: Facts) -> Iterator[Markup]:
    by_phase = [
        Bar(phase["name"], phase["records"], f"{phase['records']:,}") for phase in facts["phases"]
    ]
    figures = [
        html.figure(plots.bars("Records by phase", by_phase), "Records by phase"),
        *_over_time(facts["chunks"]),
    ]
    yield Markup('<div class="plots">{}</div>').format(html.join(figures))


class _Timed(NamedTuple):
    """What a plot needs of a chunk."""

    started_at: str
    number: int
    records: int
    seconds: float

    @property
    def milliseconds(self) -> float:
        return float(self.seconds) * 1000


def _over_time(chunks: Sequence[Mapping[str, Any]]) -> Iterator[Markup]:
    timed = sorted(
        _Timed(chunk["started_at"], chunk["number"], chunk["records"], chunk["elapsed_seconds"])
        for chunk in chunks
        if chunk["elapsed_seconds"] and chunk["started_at"]
    )
    if len(timed) < 2:
        return
    groups = plots.together(timed)
    ends = (when(timed[0].started_at)[11:], when(timed[-1].started_at)[11:])
    grouped = (
        "" if len(timed) == len(groups) else f", {len(timed):,} chunks in {len(groups)} groups"
    )
    longest = [max(chunk.milliseconds for chunk in group) for group in groups]
    middle = [median(chunk.milliseconds for chunk in group) for group in groups]
    rates = [
        sum(chunk.records for chunk in group) / sum(chunk.seconds for chunk in group)
        for group in groups
    ]
    across = middle if grouped else []
    yield html.figure(
        plots.columns(
            "How long each chunk took, in milliseconds",
            longest,
            line=across,
            ends=ends,
            said=f"In the order in which they began{grouped}: {min(longest):,.0f} to "
            f"{max(longest):,.0f} ms, half of all within "
            f"{median(chunk.milliseconds for chunk in timed):,.0f} ms.",
        ),
        f"Milliseconds for a chunk, in the order in which they began{grouped}"
        + ("; columns: the longest of a group, line: its median" if across else ""),
    )
    yield html.figure(
        plots.columns(
            "Records per second within a chunk",
            rates,
            ends=ends,
            said=f"In the order in which they began{grouped}: {min(rates):,.0f} to "
            f"{max(rates):,.0f} records per second of each worker.",
        ),
        f"Records per second of a worker, in the same order{grouped}; rests between chunks not "
        "counted",
    )


def _attempts(facts: Facts) -> Iterator[Markup]:
    yield html.subheading("Failed attempts")
    yield html.paragraph(
        "A chunk that fails is undone as a whole and tried again; what it failed on is an "
        "SQLSTATE, such as 40P01 for a deadlock or 55P03 for a lock that was not there in time."
    )
    yield html.table(
        [
            {"failed on": e["error"], "attempts": e["attempts"], "chunks": e["chunks"]}
            for e in facts["attempts"]["by_error"]
        ],
        numbers={"attempts", "chunks"},
        empty="None: each chunk succeeded at once.",
    )


def _chunks(facts: Facts) -> Iterator[Markup]:
    chunks = facts["chunks"]
    total = facts["listed"]["chunks"]["total"]
    said = f"All {total:,} chunks"
    if len(chunks) > MOST_CHUNKS:
        slowest = nsmallest(_SLOWEST, chunks, key=lambda c: -(c["elapsed_seconds"] or 0))
        few = {chunk["number"] for chunk in slowest}
        failed = [chunk["number"] for chunk in chunks if chunk["attempts"]]
        few |= set(failed[: MOST_CHUNKS - _SLOWEST])
        chunks = [chunk for chunk in chunks if chunk["number"] in few]
        said = (
            f"{len(chunks):,} of {total:,} chunks: the slowest, and those that failed at first; "
            "the JSON form has the others"
        )
    yield html.details(
        said,
        html.table(
            [
                {
                    "chunk": chunk["number"],
                    "phase": chunk["phase"],
                    "state": chunk["state"],
                    "records": chunk["records"],
                    "migrated": chunk["migrated"],
                    "put aside": chunk["records"] - chunk["migrated"]
                    if chunk["state"] != "pending"
                    else None,
                    "units before": chunk["units"]["before"],
                    "units after": chunk["units"]["after"],
                    "reserved before": chunk["reserved"]["before"],
                    "reserved after": chunk["reserved"]["after"],
                    "took": duration(chunk["elapsed_seconds"]),
                    "failed attempts": chunk["attempts"] or None,
                    "failed on": chunk["last_error"],
                }
                for chunk in chunks
            ],
            numbers={
                *("chunk", "records", "migrated", "put aside", "units before", "units after"),
                *("reserved before", "reserved after", "took", "failed attempts"),
            },
            key="chunks",
        ),
    )


def application(facts: Facts) -> Section | None:
    """What our writes set off in the application."""
    if not facts["triggers"] and not facts["publications"]:
        return None
    return html.section(
        "What the writes set off in the application",
        html.table(
            [
                {
                    "trigger": trigger["name"],
                    "on": trigger["table"],
                    "changes": ", ".join(trigger["columns_changed"]),
                    "writes to": ", ".join(trigger["tables_written"]),
                    "read in full": Toned("yes", "good")
                    if trigger["understood"]
                    else Toned("no", "warn"),
                }
                for trigger in facts["triggers"]
            ],
            empty="No trigger.",
        ),
        html.paragraph(f"Publications: {', '.join(facts['publications'])}.")
        if facts["publications"]
        else None,
    )


def events(facts: Facts) -> Section:
    """Who did what, when and why."""
    return html.section(
        "Events",
        html.table(
            [
                {
                    "when": when(event["at"]),
                    "who": event["who"],
                    "what": event["kind"].replace("_", " "),
                    "detail": _words(event["detail"]),
                }
                for event in facts["events"]
            ],
            prose={"detail"},
            cards=True,
            key="trail",
        ),
    )


def _words(value: Any) -> str:
    """A value of an event in words."""
    if isinstance(value, Mapping):
        said = ", ".join(f"{key}: {_words(one)}" for key, one in value.items())
    elif isinstance(value, list):
        said = ", ".join(_words(one) for one in value)
    else:
        said = "" if value is None else str(value)
    return said if len(said) <= _MOST_WORDS else said[: _MOST_WORDS - 1] + "…"


def _rate(records: int, seconds: float | None) -> str:
    return f"{records / seconds:,.0f}" if seconds else ""
