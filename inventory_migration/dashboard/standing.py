"""The head of a migration's page: what has to be known first, where it stands, when it ends."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from inventory_migration.dashboard import marks, wording
from inventory_migration.dashboard.wording import Picture, Truth
from inventory_migration.report import html
from inventory_migration.report.text import grouped, printable

_SHARES = ("migrated", "already", "skipped", "quarantined", "gone")


def truths(said: Sequence[Truth]) -> Markup:
    """What is above everything else; nothing where all is as it should be."""
    return html.join(
        marks.notice(f"truth-{truth.key}", truth.tone, truth.title, truth.text, truth.command)
        for truth in said
    )


def head(picture: Picture) -> Markup:
    """State with its reason, and whether somebody works on it."""
    reason = printable(picture.get("reason") or "")
    restraint = wording.restraint(picture)
    wanted = ""
    if picture.get("desired") not in (None, "run"):
        wanted = Markup('<p class="soft" data-testid="desired">{} asked for by {}, {}</p>').format(
            printable(picture["desired"]).capitalize(),
            printable(picture.get("desired_by") or "nobody known"),
            marks.moment(picture.get("desired_at")),
        )
    return Markup(
        '<p class="standing">{chip} <span class="soft" data-testid="working">{who}</span></p>'
        '<p class="why"><span class="soft" data-testid="stage">{stage}</span>{reason}{held}</p>'
        "{wanted}"
    ).format(
        chip=marks.chip(wording.state(picture), "state"),
        who=wording.who_works(picture),
        stage=wording.stage(picture),
        reason=Markup(
            '<span class="reason">Reason: <span data-testid="reason">{}</span></span>'
        ).format(reason)
        if reason
        else "",
        held=Markup('<span class="reason" data-testid="restraint">{}</span>').format(restraint)
        if restraint
        else "",
        wanted=wanted,
    )


def progress(picture: Picture) -> Markup:
    """How far it is, large: percent, a bar of the outcomes, when it ends."""
    records = picture["records"]
    whole = records["snapshot"]
    back = picture["stage"] == "rolling_back" or picture["state"] == "rolled_back"
    reached = wording.percent(picture["percent"])
    if back:
        done = records["undone"]
        said = Markup("{} of {} records are back where they were").format(
            marks.number("records-undone", done),
            marks.number("records-written", records["migrated"]),
        )
        shares = [("undone", (picture["percent"] or 0) / 100, "undone")]
    else:
        done = sum(records[name] for name in _SHARES)
        said = Markup("{} of {} records accounted for").format(
            marks.number("records-accounted", done), marks.number("records-snapshot", whole)
        )
        shares = [(name, records[name] / whole if whole else 0.0, name) for name in _SHARES]
    words = f"{reached}, {done:,} records"
    band = wording.eta_band(picture)
    return Markup(
        '<div class="progress"><p class="big">{percent}</p>'
        '<div class="course">{bar}<p><span>{said}</span><span class="ends-at">{ends}</span></p>'
        '<p class="soft band" data-testid="eta-band">{band}</p></div></div>'
    ).format(
        percent=marks.figure("percent", reached),
        bar=marks.bar(
            shares,
            label="Records undone" if back else "Records accounted for",
            value=picture["percent"] or 0.0,
            words=words,
        ),
        said=said,
        ends=_ends(picture),
        band=band or _why_less_than_all(picture),
    )


def _ends(picture: Picture) -> Markup:
    found = picture.get("eta")
    at = found.get("at") if found else None
    ended = wording.ended_at(picture)
    if ended:
        return Markup('<span data-testid="eta">{}</span> at {}').format(
            wording.eta(picture), marks.moment(ended)
        )
    left = Markup('<span data-testid="eta">{}</span>').format(wording.eta(picture))
    if found is None:
        return Markup("Time left: {}").format(left)
    ends = Markup(", ends at {}").format(marks.moment(at)) if at else ""
    return Markup("Time left: {}{}").format(left, ends)


def _why_less_than_all(picture: Picture) -> str:
    if picture["stage"] == "proving":
        return "It is complete when the proof has passed, not before"
    return ""


def tiles(picture: Picture) -> Markup:
    """The few figures that matter most."""
    pace, records = picture["rate"], picture["records"]
    units = picture["units"]
    moving = picture["stage"] == "moving"
    share = (
        f"{100 * records['quarantined'] / records['snapshot']:.2f} % of all"
        if records["snapshot"]
        else "none"
    )
    apart = not wording.nothing(str(units["difference"] or 0))
    return marks.tiles(
        [
            marks.tile(
                "Records per second",
                marks.figure("rate-now", wording.rate(pace["now"]) if moving else "–"),
                Markup("average {}").format(
                    marks.figure("rate-average", wording.rate(pace["average"]))
                ),
            ),
            marks.tile(
                "At work",
                marks.figure("active", wording.lasting(picture["active_seconds"])),
                Markup("of {} in all").format(
                    marks.figure("elapsed", wording.lasting(picture["elapsed_seconds"]))
                ),
            ),
            marks.tile(
                "Workers in a chunk",
                marks.number("workers", picture["working"]["workers"]),
                "at this moment",
            ),
            marks.tile(
                "Quarantined",
                marks.number("tile-quarantined", records["quarantined"]),
                share,
                tone="warn" if records["quarantined"] else None,
            ),
            marks.tile(
                "Failed attempts",
                marks.number("attempts-failed", picture["attempts"]["failed"]),
                Markup("{} a minute").format(
                    marks.figure("attempts-per-minute", _each(picture["attempts"]["per_minute"]))
                ),
                tone="warn" if picture["attempts"]["failed"] else None,
            ),
            marks.tile(
                "Difference in units",
                marks.number("units-difference", units["difference"] or "0"),
                "not accounted for: stop" if apart else "all accounted for",
                tone="bad" if apart else "good",
            ),
        ]
    )


def _each(value: float | None) -> str:
    return grouped(round(value or 0, 1)) if value else "0"
