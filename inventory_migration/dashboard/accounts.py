"""Records and units accounted for, by outcome and by phase, against the snapshot."""

from __future__ import annotations

from markupsafe import Markup

from inventory_migration.dashboard import marks, wording
from inventory_migration.dashboard.wording import Picture
from inventory_migration.report import html
from inventory_migration.report.html import Tone
from inventory_migration.report.text import printable


def phases(picture: Picture) -> Markup:
    """How far each phase is, in the order in which they go."""
    rows = []
    back = picture["stage"] == "rolling_back" or picture["state"] == "rolled_back"
    for phase in picture["phases"]:
        whole = phase["records"]
        done = phase["records_undone"] if back else phase["records_done"]
        share = done / whole if whole else 1.0 if phase["reconciled_at"] else 0.0
        word, tone = _phase_back(phase) if back else _phase_state(phase)
        rows.append(
            {
                "phase": printable(phase["name"]),
                "progress": marks.bar(
                    [("undone" if back else "done", share, "done")],
                    label=f"Phase {phase['name']}",
                    value=100 * share,
                    words=f"{done:,} of {whole:,} records",
                ),
                ("back" if back else "done"): marks.number(f"phase-{phase['number']}-done", done),
                "records": phase["records"],
                "companies": phase["companies"],
                "chunks": f"{phase['chunks_done']:,} / {phase['chunks']:,}",
                "quarantined": phase["quarantined"],
                "failed attempts": phase["failed_attempts"],
                "state": marks.badge(word, tone, f"phase-{phase['number']}-state"),
            }
        )
    return marks.panel(
        "Phases",
        html.table(
            rows,
            numbers={
                "done",
                "back",
                "records",
                "companies",
                "chunks",
                "quarantined",
                "failed attempts",
            },
            cards=True,
            key="phases-in-order",
            empty="Phases are known when the snapshot has been taken.",
        ),
        testid="phases",
        remark="Each is reconciled before the next begins",
    )


def _phase_state(phase: wording.Picture) -> tuple[str, Tone]:
    if phase["reconciled_at"]:
        return "reconciled", "good"
    if phase["chunks"] and phase["chunks_done"] >= phase["chunks"]:
        return "done, not reconciled", "plain"
    if phase["chunks_done"]:
        return "under way", "plain"
    return "to come", "plain"


def _phase_back(phase: wording.Picture) -> tuple[str, Tone]:
    if phase["records_undone"] >= phase["records"]:
        return "back", "good"
    return ("going back", "plain") if phase["records_undone"] else ("to come", "plain")


def outcomes(picture: Picture) -> Markup:
    """Every record of the snapshot has exactly one outcome; together they are the snapshot."""
    records = picture["records"]
    whole = records["snapshot"]
    rows = [
        {
            "outcome": _named(
                Markup('<span class="key s-{}"></span> {}').format(name, word), meaning
            ),
            "records": marks.number(f"records-{name}", records[name]),
            "share": f"{100 * records[name] / whole:.2f} %" if whole else "–",
        }
        for name, (word, meaning) in wording.OUTCOMES.items()
    ]
    rows.append(
        {
            "outcome": _named(html.strong("snapshot"), "all that were there when it was taken"),
            "records": marks.number("records-total", whole),
            "share": "",
        }
    )
    if records["undone"]:
        rows.insert(
            1,
            {
                "outcome": _named(html.strong("put back"), "of those that were migrated"),
                "records": marks.number("records-put-back", records["undone"]),
                "share": f"{100 * records['undone'] / whole:.2f} %" if whole else "–",
            },
        )
    return marks.panel(
        "Records by outcome",
        html.table(rows, numbers={"records", "share"}, key="outcomes"),
        testid="outcomes",
    )


def _named(name: Markup, meaning: str) -> Markup:
    return Markup('{}<div class="soft">{}</div>').format(name, meaning)


def totals(picture: Picture) -> Markup:
    """Units and reserved: what was there, what is accounted for, and the difference."""
    rows = []
    for name, what in (("units", "units"), ("reserved", "reserved")):
        found = picture[name]
        flat = wording.nothing(str(found["difference"] or 0))
        rows.append(
            {
                "of": what,
                "in the snapshot": marks.number(f"{name}-snapshot", found["snapshot"] or "0"),
                "accounted for": marks.number(f"{name}-accounted", found["accounted"] or "0"),
                "difference": Markup("{} {}").format(
                    marks.number(f"{name}-off", found["difference"] or "0"),
                    marks.badge("zero" if flat else "not zero", "good" if flat else "bad"),
                ),
            }
        )
    return marks.panel(
        "Units accounted for",
        html.table(
            rows,
            numbers={"in the snapshot", "accounted for", "difference"},
            key="totals",
            cards=True,
        ),
        testid="totals",
        remark="What chunks have read back is held against what the snapshot has of them",
    )
