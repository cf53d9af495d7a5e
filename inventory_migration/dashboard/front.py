"""The list in front: every migration that the ledger knows, and mappings without one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from inventory_migration.dashboard import marks, wording
from inventory_migration.report import html
from inventory_migration.report.text import grouped, printable

SHOWN = 50
"""So many migrations are listed; older ones are in `inventory-migration status`."""


def runs(listed: Sequence[Mapping[str, Any]]) -> Markup:
    """A row for each migration, newest first."""
    if not listed:
        return Markup('<p class="soft" data-testid="no-runs">{}</p>').format(
            "No migration yet in this database."
        )
    more = len(listed) - SHOWN
    return html.join(
        [
            Markup('<ul class="runs" data-testid="runs">{}</ul>').format(
                html.join(_run(found) for found in listed[:SHOWN])
            ),
            html.paragraph(f"{more} older ones are in", html.word("inventory-migration status"))
            if more > 0
            else None,
        ]
    )


def _run(found: Mapping[str, Any]) -> Markup:
    number = found["migration_id"]
    percent = found["percent"] or 0.0
    reached = wording.percent(found["percent"])
    driven = found["state"] in wording.DRIVEN
    back = found["state"] in ("rolling_back", "rolled_back")
    if driven and not found["working"]:
        who = marks.badge("nobody is working", "bad", f"run-{number}-working")
    elif driven:
        who = Markup('<span class="soft" data-testid="run-{}-working">{}</span>').format(
            number, "at work"
        )
    else:
        who = Markup('<span class="soft reason">{}</span>').format(_cut(found["reason"]))
    return Markup(
        '<li class="run" data-testid="run-{number}">'
        '<div><a href="/migrations/{number}">{mapping}</a>'
        '<div class="soft">migration {number}, {began}</div></div>'
        "<div>{chip}<div>{who}</div></div>"
        '<div><div class="reached"><span data-testid="run-{number}-percent">{reached}</span>{bar}'
        '</div><div class="soft">{done}</div></div>'
        '<div class="soft">{pace}</div></li>'
    ).format(
        number=number,
        mapping=printable(found["mapping"]),
        began=Markup("began {}").format(marks.moment(found["started_at"])),
        chip=marks.chip(wording.state_named(found["state"]), f"run-{number}-state"),
        who=who,
        reached=reached,
        bar=marks.bar(
            [("undone" if back else "migrated", percent / 100, "done")],
            label=f"Migration {number}",
            value=percent,
            words=reached,
        ),
        done=_done(found, back),
        pace=_pace(found),
    )


def _done(found: Mapping[str, Any], back: bool) -> Markup:
    whole = found["records"]
    if not whole:
        return Markup("no snapshot yet")
    if back:
        return Markup("back, of {} records").format(grouped(whole))
    aside = f", {grouped(found['quarantined'])} quarantined" if found["quarantined"] else ""
    done = marks.number(f"run-{found['migration_id']}-done", found["records_done"])
    return Markup("{} of {} records{}").format(done, grouped(whole), aside)


def _pace(found: Mapping[str, Any]) -> Markup:
    if found["working"]:
        eta = found["eta"]
        left = f"{wording.roughly(eta['seconds'])} left" if eta else "end not known yet"
        return Markup("{} records per second<br>{}").format(
            wording.rate((found["rate"] or {}).get("now")), left
        )
    if found["finished_at"] and found["state"] != "rolled_back":
        return Markup("ended {}<br>took {}").format(
            marks.moment(found["finished_at"]), wording.lasting(found["elapsed_seconds"])
        )
    return Markup("")


def _cut(reason: object) -> str:
    shown = printable(reason)
    return shown if len(shown) <= 90 else shown[:89] + "…"


def waiting(mappings: Iterable[str], listed: Sequence[Mapping[str, Any]]) -> Markup:
    """Mappings that are known and have no migration in this database, with how to begin one."""
    have = {found["mapping"] for found in listed}
    rows = [
        {
            "mapping": html.strong(name),
            "look first": marks.command(f"inventory-migration test {wording.quoted(name)}"),
            "begin": marks.command(f"inventory-migration run {wording.quoted(name)}"),
        }
        for name in sorted(set(mappings) - have)
    ]
    if not rows:
        return Markup("")
    return marks.panel(
        "Mappings without a migration",
        html.table(rows, cards=True, key="mappings"),
        testid="waiting",
        remark="What the files at hand would move",
    )
