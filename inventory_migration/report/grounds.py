"""Why a report may be believed, as sections of it: what the verdict rests on, references, the seal.

What the verdict is about is in `stock.py` and `course.py`; all of it is said from the facts alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from inventory_migration.report import html
from inventory_migration.report.html import Section, Toned
from inventory_migration.report.seal import CHECKED

Facts = Mapping[str, Any]

ROLES = ("Carried out by", "Checked by", "Accepted by")


def basis(facts: Facts) -> Section:
    """What the verdict was concluded from, and what it says nothing about."""
    return html.section(
        "What the verdict rests on",
        html.bullets(facts["rests_on"])
        or html.paragraph("The state alone: it was not compared with the live tables."),
        html.subheading("What was not checked"),
        html.bullets(facts["not_checked"]),
    )


def references(facts: Facts) -> Section:
    """Every foreign key in or out of the touched tables, before and now."""
    found = facts["references"]
    if found is None:
        return html.section("References", html.paragraph("Foreign keys could not be counted."))
    return html.section(
        "References",
        html.paragraph(
            "Rows that refer to another, and orphans: rows whose other one is not there. A "
            "foreign key that was not there at one of the two moments has no numbers for it."
        ),
        html.table(
            [
                {
                    "foreign key": key["name"],
                    "references before": key["rows_before"],
                    "references now": key["rows_after"],
                    "orphans before": key["orphans_before"],
                    "orphans now": key["orphans_after"],
                    "": Toned("unchanged", "good")
                    if key["unchanged"]
                    else Toned("changed", "warn"),
                }
                for key in found
            ],
            numbers={"references before", "references now", "orphans before", "orphans now"},
            empty="No foreign key leads into or out of the tables that were written.",
        ),
    )


def sample(facts: Facts) -> Section | None:
    """Some records row by row, with a place for the initials of whoever has checked them.

    Lists of the sample are tables, with what is before and after beside each other; what is said
    of it otherwise stands above them.
    """
    found = facts["sample"]
    if not found:
        return None
    lists = {name: rows for name, rows in found.items() if rows and _is_table(rows)}
    said = {name.replace("_", " "): _said(v) for name, v in found.items() if name not in lists}
    return html.section(
        "Sample",
        html.paragraph(
            "Records of every kind, drawn at random, before and after. Look each up in the "
            "application, compare, and initial it."
        ),
        html.pairs(said) if said else None,
        *(_sampled(name, rows) for name, rows in lists.items()),
        wide=True,
    )


def _sampled(name: str, rows: Sequence[Mapping[str, Any]]) -> Markup:
    flat = [dict(_flat(row)) for row in rows]
    # What no record has, such as a rule, needs no column.
    columns = list(
        dict.fromkeys(c for row in flat for c, value in row.items() if value not in (None, ""))
    )
    by_hand = ["checked by"] if "key" in columns else []
    return html.table(
        flat,
        [*columns, *by_hand],
        boxes=by_hand,
        caption=f"{name.replace('_', ' ').capitalize()}: {len(rows):,}",
        key=f"sample-{name}",
    )


def _flat(row: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    """A row with what is within its parts beside the rest: `before` `units` as `before units`."""
    for name, value in row.items():
        column = f"{above} {name}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, column)
        elif isinstance(value, bool):
            yield column, Toned("yes", "good") if value else Toned("no", "bad")
        else:
            yield column, "" if value == [] else _said(value)


def _said(value: object) -> object:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_said(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(str(_said(one)) for one in value) or "none"
    return value


def _is_table(rows: object) -> bool:
    return isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows)


def seal(facts: Facts) -> Section:
    """The hashes of report and rows, what they prove and what they can not."""
    found = facts["seal"]
    snapshot, live = found["snapshot"], found["live"]
    told: dict[str, object] = {
        "report": html.word(found["report"]),
        "SHA-256 of its content": html.word(found["sha256"]),
        "kept in the ledger": html.badge("yes", "good")
        if found["kept"]
        else html.badge(f"Not sealed: {found['reason']}", "bad"),
        "sealed by": found["by"],
        "snapshot": _snapshot(snapshot),
    }
    if snapshot["sha256"]:
        told["SHA-256 of the snapshot"] = html.word(snapshot["sha256"])
    if live:
        told["live records"] = f"{live['records']:,}, " + (
            "each hashed" if live["each_row"] else "hashed in blocks"
        )
        told["SHA-256 of the live records"] = html.word(live["sha256"])
    return html.section(
        "Seal",
        html.pairs(told),
        *_changed(snapshot["changed"]),
        html.paragraph(
            html.word("inventory-migration verify-report FILE"),
            "tells whether this document is as it was written, and what in the database has been "
            "changed since.",
        ),
        html.subheading("What this proves"),
        html.bullets(found["proves"]),
        html.subheading("What it can not prove"),
        html.bullets(found["cannot_prove"]),
    )


def _snapshot(snapshot: Mapping[str, Any]) -> Markup:
    if not snapshot["sealed"]:
        return html.badge("not sealed, as an earlier version has written it", "warn")
    told = {
        None: html.badge("not here to be compared", "warn"),
        True: html.badge("as it was written", "good"),
        False: html.badge("changed since it was written", "bad"),
    }[snapshot["intact"]]
    return html.join([f"{snapshot['records']:,} records", told, *_checked(snapshot)])


def _checked(snapshot: Mapping[str, Any]) -> Iterator[str]:
    if how := snapshot.get("checked"):
        yield f"({CHECKED[how]})"


def _changed(changed: Mapping[str, Any]) -> Iterator[Markup]:
    if not changed["rows"]:
        return
    yield html.table(
        [
            {name: row.get(name) for name in ("position", "through", "chunk", "key")}
            for row in changed["shown"]
        ],
        caption=f"Rows of the snapshot that were changed: {changed['rows']:,}",
    )


def signatures() -> Section:
    """Where to sign, at the end of what is printed."""
    return html.section("Signatures", html.signatures(ROLES), apart=True)
