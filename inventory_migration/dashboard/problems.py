"""What went wrong and was dealt with: failed attempts by kind, records in quarantine by rule."""

from __future__ import annotations

import re

import psycopg
from markupsafe import Markup

from inventory_migration.dashboard import marks, wording
from inventory_migration.dashboard.wording import Picture
from inventory_migration.report import html
from inventory_migration.report.text import grouped, printable

SAMPLES = 5
"""So many keys are shown of the records of one reason."""


def attempts(picture: Picture) -> Markup:
    """Attempts that failed and were repeated, by what they failed on."""
    found = picture["attempts"]
    rows = [
        {
            "failed on": _condition(row["error"]),
            "attempts": row["attempts"],
            "chunks": row["chunks"],
        }
        for row in found["by_error"]
    ]
    rate = found["per_minute"]
    return marks.panel(
        "Errors and retries",
        html.table(
            rows,
            numbers={"attempts", "chunks"},
            prose={"failed on"},
            cards=True,
            key="errors",
            empty="No attempt has failed.",
        ),
        testid="attempts",
        remark=f"{_counted(found['failed'], 'failed attempt')} in "
        f"{_counted(found['chunks'], 'chunk')}, {round(rate, 1) if rate else 0:g} for each minute "
        "of work; such a chunk is tried again"
        if found["failed"]
        else "A chunk that fails is tried again, smaller where that may help",
    )


def _condition(error: str | None) -> str:
    """A server's condition with its name beside its code; any other text as it is."""
    shown = printable(error or "unknown")
    try:
        name = psycopg.errors.lookup(shown).__name__
    except KeyError:
        return shown
    return f"{shown}, {re.sub('(?<!^)(?=[A-Z])', ' ', name).lower()}"


def _counted(number: int, what: str) -> str:
    return f"{grouped(number)} {what}{'' if number == 1 else 's'}"


def quarantine(picture: Picture) -> Markup:
    """Records that were put aside, by rule and reason, with some of their keys."""
    name = wording.quoted(picture["mapping"])
    rows = [
        {
            "rule": printable(row["rule"] or "refused by the server"),
            "records": row["records"],
            "reason": printable(row["reason"] or ""),
            "for example": ", ".join(printable(key) for key in (row["sample"] or [])[:SAMPLES]),
        }
        for row in picture["quarantine"]
    ]
    first = next((row["sample"][0] for row in picture["quarantine"] if row["sample"]), None)
    ways = None
    if rows:
        ways = html.join(
            [
                Markup('<h3 class="quiet">Look at them, mend the data, try them again</h3>'),
                Markup('<div class="commands">{}</div>').format(
                    html.join(
                        marks.command(line)
                        for line in (
                            f"inventory-migration quarantine list {name}",
                            f"inventory-migration quarantine show {name} "
                            f"{wording.quoted(first or 'KEY')}",
                            f"inventory-migration quarantine retry {name} --rule "
                            f"{wording.quoted(picture['quarantine'][0]['rule'] or 'RULE')}",
                        )
                    )
                ),
            ]
        )
    whole = picture["records"]["quarantined"]
    return marks.panel(
        "Quarantine by rule",
        html.table(
            rows,
            numbers={"records"},
            prose={"reason"},
            cards=True,
            key="quarantined",
            empty="No record is in quarantine.",
        ),
        ways,
        testid="quarantine",
        remark=f"{_counted(whole, 'record')} put aside until somebody decides" if whole else None,
    )
