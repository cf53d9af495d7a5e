"""Pages for everybody: judged by axe in light and dark, wide and narrow, and used by keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from inventory_migration_tests.dashboard.served import Served
from inventory_migration_tests.dashboard.test_viewers import TABS
from inventory_migration_tests.dashboard.viewer import SCHEMES, WIDTHS, Viewer, viewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.one_server]

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
"""What axe judges: contrast, names of controls, order of headings, landmarks and so on."""


def judged(one: Viewer) -> list[str]:
    """What axe finds wrong with a page as it is now, and whether one has to scroll sideways."""
    # Here, since whoever only collects the tests has no use for its half a megabyte of script.
    from axe_playwright_python.sync_playwright import Axe

    found: list[dict[str, Any]] = Axe().run(one.page, options=RULES).response["violations"]
    wide = one.page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return [
        f"{rule['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for rule in found
        for node in rule["nodes"]
    ] + [f"{wide} pixels stick out"] * (wide > 0)


# What is too pale is so at any width, and what is too wide in any colours.
@pytest.mark.parametrize(("width", "scheme"), [*zip(WIDTHS, SCHEMES, strict=True)])
def test_no_page_has_anything_that_axe_objects_to(
    chromium: Browser, served: Served, width: int, scheme: str
) -> None:
    wrong: dict[str, list[str]] = {}
    with viewer(chromium, served.url, width=width, scheme=scheme) as one:
        one.open("/").find("run-1").wait_for()
        wrong["front"] = judged(one)
        # Were it too pale, it would be said.
        one.page.evaluate("document.querySelector('[data-testid=run-1]').style.opacity = 0.3")
        assert any(found.startswith("color-contrast") for found in judged(one))
        one.open("/migrations/1")
        for tab in TABS:
            one.tab(tab)
            one.page.wait_for_timeout(200)
            wrong[tab] = judged(one)
        one.tab("overview")
        one.find("act-abort").click()
        one.find("ask").wait_for()
        wrong["question"] = judged(one)
    assert {name: found for name, found in wrong.items() if found} == {}


def test_everything_is_reached_and_answered_with_the_keyboard_alone(
    chromium: Browser, served: Served
) -> None:
    with viewer(chromium, served.url) as one:
        one.open("/migrations/1").find("act-abort").wait_for()
        reached = _tabbed(one, 25)
        acts = [name for name in dict.fromkeys(reached) if name and name.startswith("act-")]
        assert acts == ["act-resume", "act-abort", "act-rollback"]
        one.find("act-abort").focus()
        one.page.keyboard.press("Enter")
        one.find("ask").wait_for()
        # Of a dialog, Tab leads nowhere else.
        inside = set(_tabbed(one, 8)) - {None}
        assert inside
        assert all(name.startswith("ask-") for name in inside if name), inside
        one.page.keyboard.press("Escape")
        one.find("ask").wait_for(state="hidden")
        assert _focused(one) == "act-abort"
        # Arrows go from tab to tab.
        one.find("tab-overview").focus()
        one.page.keyboard.press("ArrowRight")
        one.wait(lambda: one.shows("quarantine"), "the next tab")
        assert _focused(one) == "tab-problems"


def test_a_change_of_state_is_announced(chromium: Browser, served: Served) -> None:
    with viewer(chromium, served.url) as one:
        one.open("/migrations/1").find("state").wait_for()
        told = "[aria-live=polite], [role=status]"
        one.wait(
            lambda: any("paused" in text for text in one.page.locator(told).all_text_contents()),
            "its state in a live region",
        )
        assert "paused" in one.page.title()


def _tabbed(one: Viewer, times: int) -> list[str | None]:
    """What Tab leads to, each shown as focused; test ids in their order."""
    found = []
    for _ in range(times):
        one.page.keyboard.press("Tab")
        marked = one.page.evaluate(_MARKED)
        assert marked, one.page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        found.append(_focused(one))
    return found


def _focused(one: Viewer) -> str | None:
    found: str | None = one.page.evaluate("document.activeElement.getAttribute('data-testid')")
    return found


_MARKED = """() => {
  const style = getComputedStyle(document.activeElement);
  return document.activeElement === document.body
    || (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2)
    || style.boxShadow !== "none";
}"""
