"""A migration's page: its head, its tabs, and the address that brings a viewer back to them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa
from markupsafe import Markup
from nicegui import run

from inventory_migration import watching
from inventory_migration.dashboard import companies, views, wording
from inventory_migration.dashboard.context import Context
from inventory_migration.dashboard.controls import Controls
from inventory_migration.dashboard.elements import Live, Tag
from inventory_migration.dashboard.frame import Frame
from inventory_migration.database import explain
from inventory_migration.errors import MigrationError

_ARROWS = """(event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1, Home: -99, End: 99 }[event.key];
  if (!step) return;
  event.preventDefault();
  const tabs = [...event.currentTarget.querySelectorAll("[role=tab]")];
  const here = tabs.indexOf(document.activeElement);
  const next = Math.abs(step) > 1 ? (step > 0 ? tabs.length - 1 : 0)
                                  : (here + step + tabs.length) % tabs.length;
  tabs[next].focus();
  tabs[next].click();
}"""
"""Arrows go from tab to tab, as a keyboard expects."""


class MigrationPage:
    """One viewer's page of a migration."""

    def __init__(
        self, app: Context, gallery: views.Gallery, migration_id: int, *, tab: str, search: str
    ) -> None:
        """Build the page, with nothing in it yet.

        Args:
            app: The dashboard.
            gallery: Where what is drawn is shared among viewers.
            migration_id: Whose page.
            tab: Which tab is open; the first one where there is none of that name.
            search: What is looked for among the companies.
        """
        self._app, self._gallery, self._migration_id = app, gallery, migration_id
        self._tab = tab if tab in views.TABS else next(iter(views.TABS))
        self._search = search[:200]
        self._frame = Frame(app, crumb=f"migration {migration_id}")
        with self._frame.sheet:
            self._missing = Live()
            self._whole = Tag("div")
        with self._whole:
            with Tag("div", classes="titled"):
                with Tag("div", classes="name"):
                    self._title = Tag("h1", "", data_testid="title")
                    self._head = Live()
                with Tag("div", classes="acts"):
                    self._controls = Controls(app, migration_id)
            self._news = Live("did")
            self._news.props.update({"role": "status"})
            self._progress, self._tiles = Live(), Live()
            self._tabs = dict(self._bar())
            self._panels = {name: self._panel(name) for name in views.TABS}
        self._whole.set_visibility(False)
        self._select(self._tab)

    def _bar(self) -> list[tuple[str, Tag]]:
        bar = Tag("div", classes="tabs", role="tablist", aria_label="Parts of this page")
        bar.on("keydown", js_handler=_ARROWS)
        made = []
        with bar:
            for name, tab in views.TABS.items():
                button = Tag(
                    "button", tab.title, "tab", type="button", role="tab", id=f"tab-{name}",
                    data_testid=f"tab-{name}", aria_controls=f"panel-{name}",
                )  # fmt: skip
                button.on("click", lambda name=name: self._open(name), args=[])
                made.append((name, button))
        return made

    def _panel(self, name: str) -> tuple[Tag, dict[str, Live]]:
        tab = views.TABS[name]
        panel = Tag(
            "div", classes="panels", role="tabpanel", id=f"panel-{name}",
            aria_labelledby=f"tab-{name}",
        )  # fmt: skip
        with panel:
            if name == "companies":
                self._build_companies()
                return panel, {}
            lives = {view: Live("whole" if view in tab.whole else "") for view in tab.views}
        return panel, lives

    def _build_companies(self) -> None:
        with Tag(
            "section", classes="panel whole", data_testid="companies", aria_labelledby="h-companies"
        ):
            with Tag("header"):
                Tag("h2", "Companies", id="h-companies")
            with Tag("div", classes="find"):
                with Tag("label", classes="field"):
                    Tag("span", "Part of a name, or a key")
                    field = Tag(
                        "input", "", "input", type="search", autocomplete="off",
                        data_testid="companies-search",
                    )  # fmt: skip
                    # As the attribute: the property would undo what is typed, each time that
                    # anything on the page changes.
                    field.attribute("^value", self._search)
                field.on(
                    "input",
                    self._look_for,
                    throttle=0.4,
                    leading_events=False,
                    js_handler="(event) => emit(event.target.value)",
                )
                again = Tag("button", "Ask again", "button small", type="button")
                again.on("click", self.find, args=[])
                self._companies_said = Live("soft")
                self._companies_said.props.update({"role": "status"})
            self._companies = Live()

    async def _open(self, name: str) -> None:
        self._select(name)
        self.tick()
        await self.find()

    def _select(self, name: str) -> None:
        self._tab = name
        for other, button in self._tabs.items():
            chosen = other == name
            button.attribute("aria-selected", "true" if chosen else "false")
            button.attribute("tabindex", "0" if chosen else "-1")
            self._panels[other][0].set_visibility(chosen)
        self._address()

    def _address(self) -> None:
        said: dict[str, str] = {}
        if self._tab != next(iter(views.TABS)):
            said["tab"] = self._tab
        if self._search and self._tab == "companies":
            said["search"] = self._search
        query = f"?{urlencode(said)}" if said else ""
        self._frame.pulse.go(f"/migrations/{self._migration_id}{query}")

    async def _look_for(self, event: Any) -> None:
        self._search = str(event.args)[:200]
        self._address()
        await self.find()

    async def find(self) -> None:
        """Ask for the companies, where they are shown."""
        if self._tab != "companies":
            return
        search = self._search
        try:
            found = await asyncio.wait_for(
                _ASKED.companies(self._app, self._migration_id, search), _PATIENCE
            )
        except (MigrationError, sa.exc.DBAPIError, TimeoutError) as error:
            self._companies_said.show(Markup("{}").format(_why(self._app, error)))
            return
        if search == self._search:
            self._companies.show(companies.table(found, search))
            self._companies_said.show(companies.said(found, search))

    def tick(self) -> None:
        """Show what the poller has seen last."""
        seen = self._app.poller.latest(self._migration_id)
        picture = seen.picture
        said = wording.truths(picture, seen.age_seconds, seen.error)
        name = f"Migration {self._migration_id}"
        if picture is None:
            self._missing.show(Markup("<h1>{}</h1>").format(name))
            self._frame.tick(said, seen.age_seconds, title=name)
            return
        self._missing.show(Markup(""))
        self._whole.set_visibility(True)
        self._title.text = f"{picture['mapping']}, migration {self._migration_id}"
        self._controls.tick(picture)
        self._news.show(self._controls.news(picture))
        drawn = self._drawn(picture, "head")
        self._head.show(drawn["head"])
        self._progress.show(drawn["progress"])
        self._tiles.show(drawn["tiles"])
        lives = self._panels[self._tab][1]
        for view, markup in self._drawn(picture, self._tab).items():
            lives[view].show(markup)
        self._frame.tick(
            said,
            seen.age_seconds,
            title=wording.pages_title(picture),
            announced=f"{name} is {wording.state(picture).word}",
        )

    def _drawn(self, picture: Mapping[str, Any], part: str) -> Mapping[str, Markup]:
        return self._gallery.drawn(self._migration_id, picture, part)


_PATIENCE = 20.0
_FRESH_SECONDS = 3.0


class _Asked:
    """The companies that were asked for last; one question at a time, however many viewers ask."""

    def __init__(self) -> None:
        self._lock: asyncio.Lock | None = None
        self._known: dict[tuple[int, str], tuple[float, dict[str, Any]]] = {}
        self._rests_until = 0.0

    async def companies(self, app: Context, migration_id: int, search: str) -> dict[str, Any]:
        """What the ledger says of the companies that a search fits, some seconds old at most."""
        self._lock = self._lock or asyncio.Lock()
        key = (migration_id, search.strip())
        async with self._lock:
            at, known = self._known.get(key, (0.0, {}))
            if known and time.monotonic() - at < _FRESH_SECONDS:
                return known
            await asyncio.sleep(max(0.0, self._rests_until - time.monotonic()))
            began = time.monotonic()
            found: dict[str, Any] | None = await run.io_bound(
                watching.companies, app.target, migration_id, search, companies.LIMIT
            )
            if found is None:
                # The dashboard is ending.
                return {"total": 0, "companies": []}
            now = time.monotonic()
            fresh = {k: v for k, v in self._known.items() if now - v[0] < _FRESH_SECONDS}
            self._known = {**fresh, key: (now, found)}
            # What takes long is not asked again at once: it looks at the whole snapshot.
            self._rests_until = now + min(10.0, 4 * (now - began))
            return found


_ASKED = _Asked()


def _why(app: Context, error: Exception) -> str:
    if isinstance(error, sa.exc.DBAPIError):
        error = explain(error, app.target.engine)
    return str(error) or "The database does not answer; ask again later."
