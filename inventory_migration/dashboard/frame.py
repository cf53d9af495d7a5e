"""What every page has around its contents: name, place, colours, and how new the figures are."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from nicegui import context

from inventory_migration.dashboard import marks, standing, theme, wording
from inventory_migration.dashboard.context import Context
from inventory_migration.dashboard.elements import Colours, Live, Pulse, Tag
from inventory_migration.dashboard.login import LOGOUT
from inventory_migration.dashboard.wording import Truth
from inventory_migration.database import describe
from inventory_migration.report import html


class Frame:
    """The page around its contents.

    Attributes:
        sheet: Where contents go.
        pulse: What tells the browser that the dashboard is there.
    """

    def __init__(self, app: Context, *, crumb: str = "") -> None:
        """Build it for the page at hand.

        Args:
            app: The dashboard.
            crumb: What the page is, behind the list that it comes from; empty in front.
        """
        theme.dress()
        self.pulse = Pulse()
        self._head(app)
        # The framework's own element around this is the page's main landmark.
        with Tag("div", classes="sheet", id="figures", tabindex="-1"):
            if crumb:
                with Tag("nav", classes="crumbs", aria_label="Where you are"):
                    Tag("a", "All migrations", href="/")
                    Tag("span", f" / {crumb}", "soft")
            self._truths = Live()
            self.sheet = Tag("div", classes="contents")
            # Only what changes the state is read out, not each figure.
            self._announced = Live("unseen")
            self._announced.props.update({"role": "status", "aria-live": "polite"})
        with context.client.layout, Tag("footer", classes="sheet foot"):
            self._as_of = Live()

    def _head(self, app: Context) -> None:
        """What is above the page's main landmark: name, place, who looks, colours."""
        viewer = app.viewer()
        with context.client.layout:
            skip = Tag("a", "Skip to the figures", "skip", href="#figures")
            with Tag("header", classes="top") as top:
                Tag("a", "inventory-migration", "brand", href="/")
                Tag("span", describe(app.target.engine), "where", data_testid="database")
                if viewer.read_only:
                    Tag("span", "read only", "readonly", data_testid="read-only")
                Colours()
                if app.access.asks:
                    with Tag("form", classes="leave", method="post", action=LOGOUT):
                        Tag("span", viewer.name, "soft", data_testid="viewer")
                        Tag(
                            "button", "Log out", "button small", type="submit",
                            data_testid="log-out",
                        )  # fmt: skip
        top.move(target_index=0)
        skip.move(target_index=0)

    def tick(
        self, truths: Sequence[Truth], age: float | None, *, title: str, announced: str = ""
    ) -> None:
        """Say what has to be said, and how new the figures are.

        Args:
            truths: What is at the top.
            age: How old the figures are.
            title: What the browser's tab is called.
            announced: What is read out to those who do not see it, once it changes.
        """
        self._truths.show(standing.truths(truths))
        old = any(truth.key == "stale" for truth in truths)
        self.sheet.classes(add="stale" if old else "", remove="" if old else "stale")
        self._as_of.show(
            Markup("Figures are {} old. Moments are in the time zone of this browser.").format(
                marks.figure("as-of", wording.lasting(age))
            )
            if age is not None
            else Markup("")
        )
        self._announced.show(
            html.text(". ".join([announced, *(truth.title for truth in truths)]).strip(". "))
        )
        self.pulse.beat(f"{'! ' if truths else ''}{title}")
