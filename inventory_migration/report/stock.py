"""What became of the stock, as sections of the report: totals, companies, differences, records.

How the migration went is in `course.py`; all of it is said from the facts alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from markupsafe import Markup

from inventory_migration.report import html
from inventory_migration.report.html import Section, Toned
from inventory_migration.report.plots import Bar, bars
from inventory_migration.report.text import grouped

Facts = Mapping[str, Any]

FEW = 50
"""So many companies stand beside the totals; more of them come towards the end."""

MEASURES = ("units", "reserved", "available")
OUTCOMES = ("migrated", "already", "skipped", "quarantined", "gone", "pending")

_MEANING = {
    "migrated": "has a location that the migration gave it",
    "already": "was at a location of its company before",
    "skipped": "left out by the mapping",
    "quarantined": "put aside, with rule and reason",
    "gone": "deleted by the application since the snapshot",
    "pending": "not met yet",
}


def totals(facts: Facts) -> Section:
    """What there was before and is after, and whether anything of the difference is unexplained."""
    found = facts["summary"]
    changed = found["changed_by_application"]
    by_application = {
        **changed,
        "available": _spelled(Decimal(changed["units"]) - Decimal(changed["reserved"])),
    }
    rows = []
    compared = facts["totals"]
    if compared:
        before, after = compared["before"]["records"], compared["after"]["records"]
        rows.append(
            {
                "": "records",
                "before": before,
                "after": after,
                "difference": after - before,
                "by the application": after - before,
                "unexplained": Toned(0, "good"),
            }
        )
    for name in MEASURES:
        before, after = Decimal(found[name]["before"]), Decimal(found[name]["after"])
        unexplained = after - before - Decimal(by_application[name])
        rows.append(
            {
                "": name,
                "before": found[name]["before"],
                "after": found[name]["after"],
                "difference": _spelled(after - before),
                "by the application": by_application[name],
                "unexplained": Toned(
                    grouped(_spelled(unexplained)), "bad" if unexplained else "good"
                ),
            }
        )
    return html.section(
        "Before and after",
        html.table(rows, numbers={"before", "after", "difference", "by the application"}),
        html.paragraph(
            "Before is what the snapshot holds, after what the same records held when they were "
            "compared last. Available is what can be promised. What the application itself changed "
            "while the migration ran is told apart by the transaction that wrote a row last.",
            soft=True,
        ),
    )


def differences(facts: Facts) -> Section:
    """Every kind of difference between snapshot and live table."""
    found = facts["differences"]
    if found is None:
        return html.section(
            "Differences", html.paragraph("Snapshot and live table were not compared.")
        )
    rows = [
        {
            "kind": one["kind"].replace("_", " "),
            "explained": Toned("explained", "good")
            if one["explained"]
            else Toned("unexplained", "bad"),
            "records": one["records"],
            "for example": ", ".join(one["sample"][:10]),
        }
        for one in found
    ]
    return html.section(
        "Differences",
        html.table(
            rows,
            numbers={"records"},
            caption="Records that differ between snapshot and live table, by kind",
            empty="None: snapshot and live table agree in every record.",
        ),
    )


def outcomes(facts: Facts) -> Section:
    """What became of each record, and why those that were not simply migrated were not."""
    records = facts["summary"]["records"]
    there = [name for name in OUTCOMES if name != "pending" or records[name]]
    return html.section(
        "Outcomes",
        html.paragraph(
            f"Each of the {records['snapshot']:,} records of the snapshot has exactly one outcome."
            if not records["pending"]
            else f"{records['pending']:,} of {records['snapshot']:,} records are still to be met."
        ),
        html.figure(
            bars("Records by outcome", [Bar(n, records[n], f"{records[n]:,}") for n in there]),
            "Records by outcome",
        ),
        html.table(
            [
                *({"outcome": n, "records": records[n], "means": _MEANING[n]} for n in there),
                {"outcome": "snapshot", "records": records["snapshot"], "means": "all of them"},
            ],
            numbers={"records"},
        ),
        html.subheading("By rule and reason"),
        html.table(
            [
                {
                    "outcome": row["outcome"],
                    "rule": row["rule"],
                    "reason": row["reason"],
                    "records": row["records"],
                    "for example": "; ".join(row["sample"]),
                }
                for row in facts["put_aside"]
            ],
            numbers={"records"},
            prose={"reason"},
            cards=True,
            empty="Every record was simply migrated.",
        ),
        *_warnings(facts),
    )


def _warnings(facts: Facts) -> Iterator[Markup]:
    warnings = facts["summary"]["warnings"]
    if warnings:
        yield html.subheading("Warnings")
        yield html.paragraph("These were migrated all the same; the mapping only warns of them.")
        yield html.table(
            [{"rule": rule, "records": n} for rule, n in warnings.items()], numbers={"records"}
        )


def quarantine(facts: Facts) -> Section | None:
    """The records that were put aside, one by one."""
    rows = facts["quarantine"]
    if not rows:
        return None
    total = facts["listed"]["quarantine"]["total"]
    return html.section(
        "Quarantine",
        html.paragraph(
            "Each stays in its table as it was. The ledger keeps its whole row;",
            html.word(f"inventory-migration quarantine show {facts['mapping']} KEY"),
            "tells all of one.",
        ),
        html.table(
            [
                {
                    "key": row["key"],
                    "rule": row["rule"],
                    "reason": row["reason"],
                    "SQLSTATE": row["sqlstate"],
                    "state": Toned(row["state"], "warn" if row["state"] == "open" else "plain"),
                    "decision": _decision(row),
                }
                for row in rows
            ],
            prose={"reason"},
            caption=shown("records", len(rows), total),
            cards=True,
            key="quarantined-records",
        ),
    )


def _decision(row: Mapping[str, Any]) -> str:
    return ", by ".join(word for word in (row["decision"], row["decided_by"]) if word)


def conflicts(facts: Facts) -> Section | None:
    """What a rollback found changed, and whether it went back."""
    found = facts["conflicts"]
    if not found["by_kind"]:
        return None
    return html.section(
        "Conflicts of the rollback",
        html.bullets(
            [
                "touched since: undone, and what the application wrote beside the target was left "
                "alone",
                "moved since: kept as the application wanted it",
                "arrived with location: came while the guard trigger was there and is in no plan; "
                "it stays there",
            ]
        ),
        html.table(
            [{"kind": k.replace("_", " "), "records": n} for k, n in found["by_kind"].items()],
            numbers={"records"},
        ),
        html.table(
            [{**row, "kind": row["kind"].replace("_", " ")} for row in found["records"]],
            caption=shown("records", len(found["records"]), facts["listed"]["conflicts"]["total"]),
            key="conflicting-records",
        ),
    )


def companies(facts: Facts) -> Section:
    """Every company: its location, what became of its records, what it had and has."""
    rows = [_company(company, facts) for company in facts["companies"]]
    listed = facts["listed"]["companies"]
    numbers = set(rows[0]) - {"company", "key", "location"} if rows else set()
    return html.section(
        "Companies",
        html.table(
            rows,
            numbers=numbers,
            caption=shown("rows", len(rows), listed["total"])
            + "; * is a location that the migration created",
            key="by-company",
            empty="There is no company with stock, or the mapping no longer fits the tables.",
        ),
        wide=True,
        apart=len(rows) > FEW,
    )


def _company(company: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """One company; outcomes and measures that are zero everywhere have no column."""
    records = facts["summary"]["records"]
    created = "*" if company["location_created"] else ""
    row: dict[str, Any] = {
        "company": company["company_name"] or "(no such company)",
        "key": company["company_key"],
        "location": f"{company['location_key'] or ''}{created}",
        "records": company["snapshot"],
        **{name: company[name] for name in OUTCOMES[:-1] if records[name] or name == "migrated"},
    }
    if "before" not in company:
        return row | {"units": company["units"], "reserved": company["reserved"]}
    for name in MEASURES:
        for moment in ("before", "after"):
            row[f"{name} {moment}"] = company[moment][name]
    return row | {"by the application": company["changed_by_application"]}


def shown(what: str, listed: int, total: int) -> str:
    """How much of a list is there."""
    if total > listed:
        return f"The first {listed:,} of {total:,} {what}; the ledger has all of them"
    return f"All {total:,} {what}"


def _spelled(number: Decimal) -> str:
    return f"{number:f}"


def only(*sections: Section | None) -> Sequence[Section]:
    """The sections that have something to say."""
    return [section for section in sections if section is not None]
