"""A viewer: one page of a real browser, with all that it asked for and all that it complained of.

How a figure is read and a button is pressed belongs here; what the figures must be does not.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from inventory_migration_tests import browser as installed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

PATIENCE = 30.0
"""How many seconds a page may take for what it does by itself; a loaded machine is slow."""

WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")


@contextmanager
def launched() -> Iterator[Browser]:
    """The system's Chromium; without one the test skips and says what to install."""
    if installed.PROGRAM is None:
        pytest.skip("no browser here; install chromium (apt-get install chromium)")
    # Here, since whoever only collects the tests has no use for it.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=installed.PROGRAM,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
        )
        try:
            yield made
        finally:
            made.close()


@dataclass
class Viewer:
    """Somebody who looks at the dashboard."""

    page: Page
    origin: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    frames_sent: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Write down from now on what the page asks for, and what goes wrong in it."""
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", self._listen)
        self.page.on(
            "console",
            lambda message: (
                self.complaints.append(message.text) if message.type == "error" else None
            ),
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _listen(self, socket: Any) -> None:
        self.asked.append(socket.url)
        socket.on("framesent", lambda payload: self.frames_sent.append(str(payload)))

    def open(self, path: str = "/") -> Viewer:
        """Go to a page of the dashboard."""
        self.page.goto(self.origin + path)
        return self

    def elsewhere(self) -> list[str]:
        """What was asked of anybody but the dashboard itself."""
        ours = urlsplit(self.origin).netloc
        return [
            url
            for url in self.asked
            if urlsplit(url).scheme not in {"data", "blob"} and urlsplit(url).netloc != ours
        ]

    def events_sent(self) -> list[dict[str, Any]]:
        """What the page has told the dashboard that its viewer did, the oldest first."""
        return [
            json.loads(frame.removeprefix("42"))[1]
            for frame in self.frames_sent
            if frame.startswith('42["event"')
        ]

    def find(self, name: str) -> Locator:
        """What carries a test id."""
        return self.page.get_by_test_id(name)

    def shows(self, name: str) -> bool:
        """Whether what carries a test id can be seen at this moment."""
        return self.find(name).first.is_visible()

    def text(self, name: str) -> str:
        """The text of what carries a test id, once it is there."""
        return (self.find(name).first.text_content() or "").strip()

    def texts(self, *names: str) -> dict[str, str | None]:
        """The texts of several, all as of one moment; None for what is not there."""
        found: dict[str, str | None] = self.page.evaluate(_TEXTS, list(names))
        return found

    def number(self, name: str) -> int:
        """The whole number that carries a test id."""
        return whole(self.text(name))

    def tab(self, name: str) -> Viewer:
        """Open one of the tabs of a migration's page."""
        self.find(f"tab-{name}").click()
        self.wait(
            lambda: self.find(f"tab-{name}").get_attribute("aria-selected") == "true", f"tab {name}"
        )
        return self

    def act(self, name: str, *, typed: str | None = None) -> None:
        """Press a button and confirm what it asks, with a name typed where one is asked for."""
        self.find(f"act-{name}").click()
        self.find("ask").wait_for()
        if typed is not None:
            self.find("ask-name").fill(typed)
        self.find("ask-confirm").click()

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
        """Wait until the page shows what it is to show by itself."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                shown = self.page.inner_text("body")[:3000]
                pytest.fail(f"waited in vain for {what}; the page:\n{shown}", pytrace=True)
            # Events of the page arrive only while the driver is spoken to.
            self.page.wait_for_timeout(50)


_TEXTS = """names => Object.fromEntries(names.map(name => {
  const found = document.querySelector(`[data-testid="${name}"]`);
  return [name, found && found.textContent.trim()];
}))"""


def whole(text: str) -> int:
    """A whole number with separators between its thousands, and nothing else."""
    found = re.fullmatch(r"-?\d+(?:[\s,.'\u2009\u202f\u00a0]\d{3})*", text)
    assert found is not None, f"no whole number: {text!r}"
    return int(re.sub(r"[^\d-]", "", text))


@contextmanager
def viewer(
    chromium: Browser, origin: str, *, width: int = 1280, scheme: str = "light", **options: Any
) -> Iterator[Viewer]:
    """Somebody with a browser of their own: nobody else's cookies, and a width and a scheme."""
    context: BrowserContext = chromium.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        reduced_motion="reduce",
        **options,
    )
    context.set_default_timeout(PATIENCE * 1000)
    try:
        yield Viewer(context.new_page(), origin)
    finally:
        context.close()
