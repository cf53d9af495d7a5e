"""What viewers see of one migration: the same, where they left it, as text, and only from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from inventory_migration_tests.dashboard.served import Served
from inventory_migration_tests.dashboard.shown import MARKUP, REASON
from inventory_migration_tests.dashboard.viewer import viewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.one_server]

TABS = ("overview", "problems", "companies", "server", "trail")
ACTS = ("pause", "resume", "abort", "rollback")


def test_a_reload_keeps_its_place_and_another_viewer_sees_the_same(
    chromium: Browser, served: Served
) -> None:
    with viewer(chromium, served.url) as one, viewer(chromium, served.url) as another:
        one.open("/migrations/1").tab("companies")
        one.find("companies-search").fill("Company 12")
        one.wait(lambda: one.find("companies").locator("tbody tr").count() == 1, "one company")
        row = one.find("companies").locator("tbody tr").inner_text()
        one.page.reload()
        one.wait(lambda: one.find("companies").locator("tbody tr").count() == 1, "it again")
        assert one.find("companies-search").input_value() == "Company 12"
        # An address can be handed on.
        another.open(one.page.url.removeprefix(served.url))
        another.wait(lambda: another.find("companies").locator("tbody tr").count() == 1, "it too")
        assert another.find("companies").locator("tbody tr").inner_text() == row
        for each in (one, another):
            each.tab("overview")
        names = ["state", "reason", "percent", "records-accounted", "units-accounted"]
        assert one.texts(*names) == another.texts(*names)
        assert None not in one.texts(*names).values()


def test_names_and_reasons_with_markup_are_text_and_everything_comes_from_the_dashboard(
    chromium: Browser, served: Served
) -> None:
    with viewer(chromium, served.url) as one:
        one.open("/migrations/1")
        assert one.text("reason") == REASON
        for tab in TABS:
            one.tab(tab)
            one.page.wait_for_timeout(300)
            if tab == "companies":
                one.wait(lambda: MARKUP in one.page.inner_text("main, body"), "a name as text")
            if tab == "trail":
                assert f"reason: {REASON}" in one.text("events")
        one.open("/")
        one.wait(lambda: one.shows("run-1"), "the list")
        assert one.page.evaluate("window.caught") is None
        assert one.page.locator("img[src='x']").count() == 0
        assert len(one.asked) > 10
        assert one.elsewhere() == []
        assert one.complaints == []
