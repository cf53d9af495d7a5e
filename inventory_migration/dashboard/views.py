"""What each tab of a migration's page shows, drawn once for all who look at it.

A picture is drawn when the first viewer of a tab asks for it, and shared until there is a newer
one: what a hundred viewers cost is sending, not drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from inventory_migration import project
from inventory_migration.dashboard import (
    accounts,
    judgements,
    marks,
    plots,
    problems,
    standing,
    trail,
    wording,
)
from inventory_migration.dashboard.wording import Picture
from inventory_migration.report import html
from inventory_migration.report.plots import together
from inventory_migration.report.text import printable

_RATES = 40
"""At most so many different rates are in their plot."""

View = Callable[[Picture], Markup]

HEAD: Mapping[str, View] = {
    "head": standing.head,
    "progress": standing.progress,
    "tiles": standing.tiles,
}
"""What is above the tabs."""


def plotted(picture: Picture) -> Markup:
    """How it went over time: the line that must stay flat, and pace, chunks and workers."""
    timeline = picture["timeline"]
    whole = 0.5 * max((point["seconds"] for point in timeline), default=0.0)

    def values(name: str) -> list[float | None]:
        return [point[name] for point in timeline]

    # The last stretch of time may be a short one, which says little of a pace.
    paced = [point for point in timeline if point["seconds"] >= whole]
    rates: list[float | None] = []
    for group in together(paced, _RATES):
        # A chunk ends in one stretch or the next: over several of them the rate is the rate.
        seconds = sum(point["seconds"] for point in group)
        rates += [sum(point["records"] for point in group) / seconds] * len(group)

    return marks.panel(
        "Over time",
        Markup('<div class="plots">{}</div>').format(
            html.join(
                [
                    plots.conservation(timeline, str(picture["units"]["difference"] or "0")),
                    plots.over_time(
                        "Rate", paced, rates,
                        unit="records per second", testid="rate",
                    ),
                    plots.over_time(
                        "Chunk time, middle and longest", timeline, values("seconds_median"),
                        unit="s", testid="chunk-seconds", most=values("seconds_max"),
                    ),
                    plots.over_time(
                        "Chunk size", timeline, values("records_per_chunk"),
                        unit="records", testid="chunk-records",
                    ),
                    plots.over_time(
                        "Workers", paced, [point["workers"] for point in paced],
                        unit="at work", testid="timeline-workers",
                    ),
                ]
            )
        ),
        html.details("The same as a table", plots.as_table(timeline)),
        testid="over-time",
        remark="Stretches of time in which chunks ended; lines break where nothing moved",
    )  # fmt: skip


def about(picture: Picture) -> Markup:
    """Who began it, when, and the runs that it spans."""
    rows = {
        "began": Markup("{} by {}").format(
            marks.moment(picture["started_at"]), printable(picture["started_by"])
        ),
        "ended": marks.moment(wording.ended_at(picture), empty="not yet"),
        "last sign of work": marks.moment(picture["working"]["last_sign_at"], empty="none"),
        "Dagster runs": _runs(picture["run_ids"]),
    }
    return marks.panel(
        "This migration",
        Markup('<div class="body">{}</div>').format(html.pairs(rows)),
        testid="about",
    )


def _runs(run_ids: Sequence[str]) -> Markup:
    """The runs that it spans, linked where the environment says what serves Dagster's pages."""
    if not run_ids:
        return Markup("none")
    shown = []
    for run_id in run_ids:
        url = project.dagster_run_url(run_id)
        name = html.text(run_id)
        shown.append(Markup('<a href="{}">{}</a>').format(url, name) if url else name)
    return Markup("<br>").join(shown)


@dataclass(frozen=True)
class Tab:
    """A tab of a migration's page.

    Attributes:
        title: What is written on it.
        views: Its panels, by name.
        whole: Those that take the whole width.
    """

    title: str
    views: Mapping[str, View]
    whole: frozenset[str] = frozenset()


TABS: Mapping[str, Tab] = {
    "overview": Tab(
        "Overview",
        {
            "phases": accounts.phases,
            "over-time": plotted,
            "outcomes": accounts.outcomes,
            "side": lambda picture: html.join([accounts.totals(picture), about(picture)]),
            "latest-events": trail.latest,
        },
        whole=frozenset({"phases", "over-time", "latest-events"}),
    ),
    "problems": Tab(
        "Quarantine and retries",
        {"quarantine": problems.quarantine, "attempts": problems.attempts},
        whole=frozenset({"quarantine", "attempts"}),
    ),
    "companies": Tab("Companies", {}),
    "server": Tab(
        "Health and gates",
        {"health": judgements.health, "gates": judgements.gates},
        whole=frozenset({"health", "gates"}),
    ),
    "trail": Tab("Audit trail", {"events": trail.events}, whole=frozenset({"events"})),
}
"""The tabs of a migration's page, by the name that they have in its address."""


@dataclass
class Gallery:
    """Pictures as they were drawn last, for all viewers of a process."""

    _drawn: dict[int, tuple[Picture, dict[str, dict[str, Markup]]]] = field(default_factory=dict)

    def drawn(self, migration_id: int, picture: Picture, part: str) -> Mapping[str, Markup]:
        """The views of a tab, or of the head, drawn at most once for each picture.

        Args:
            migration_id: Whose.
            picture: The newest one.
            part: The tab's name, or `head`.
        """
        known = self._drawn.get(migration_id)
        if known is None or known[0] is not picture:
            known = (picture, {})
            self._drawn[migration_id] = known
        parts = known[1]
        if part not in parts:
            views = HEAD if part == "head" else TABS[part].views
            parts[part] = {name: view(picture) for name, view in views.items()}
        return parts[part]

    def forget(self, migration_id: int) -> None:
        """Nobody looks at it any more."""
        self._drawn.pop(migration_id, None)
