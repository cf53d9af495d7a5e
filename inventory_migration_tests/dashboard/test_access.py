"""Who comes in and who may act, as browsers meet it, and as those who do without their buttons."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from inventory_migration_tests.conftest import Database
from inventory_migration_tests.dashboard import figures
from inventory_migration_tests.dashboard.served import Served, dashboard
from inventory_migration_tests.dashboard.viewer import Viewer, viewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.one_server]

ACTS = ("act-pause", "act-resume", "act-abort", "act-rollback")
ANN, BOB = "ann-6c1f0e9b27d84a35", "bob-9d04b7e2f1a86c53"


@pytest.fixture(scope="module")
def asking(
    chromium: Browser,  # noqa: ARG001 - without one there is nothing to serve for
    half_done: Database,
    shop_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    """A dashboard that asks who one is: Ann may act, Bob may look."""
    folder = tmp_path_factory.mktemp("asking")
    tokens = folder / "tokens"
    tokens.write_text(f"ann: {ANN}\nbob: {BOB} read-only\n")
    tokens.chmod(0o600)
    words = ("--mapping", str(shop_file), "--token-file", str(tokens))
    with dashboard(half_done, folder, *words) as made:
        yield made


def log_in(one: Viewer, token: str) -> None:
    """Give a token on the page that asks for it."""
    one.page.get_by_label("token").fill(token)
    one.page.keyboard.press("Enter")


def test_a_token_lets_in_and_its_cookie_is_out_of_reach(chromium: Browser, asking: Served) -> None:
    with viewer(chromium, asking.url) as one:
        one.open("/migrations/1?tab=trail")
        assert "shop" not in one.page.inner_text("body")
        log_in(one, "bob-0000000000000000")
        one.wait(lambda: one.page.get_by_role("alert").count(), "a refusal")
        assert one.page.context.cookies() == []

        log_in(one, ANN)
        one.find("events").wait_for()
        assert one.page.url.endswith("/migrations/1?tab=trail")
        cookies = one.page.context.cookies()
        assert cookies
        for cookie in cookies:
            assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict"), cookie
        # A page's script sees none of them, and no address has the token.
        assert one.page.evaluate("document.cookie") == ""
        assert not any(ANN in url for url in one.asked)

        one.page.get_by_role("button", name="Log out").click()
        one.page.get_by_label("token").wait_for()
        one.open("/migrations/1")
        assert one.page.get_by_label("token").is_visible()
        assert one.elsewhere() == []


def test_a_dashboard_for_looking_offers_nothing_to_anybody(
    chromium: Browser, half_done: Database, tmp_path: Path
) -> None:
    before = figures.figures(half_done)
    with (
        dashboard(half_done, tmp_path, "--read-only") as served,
        viewer(chromium, served.url) as one,
    ):
        one.open("/migrations/1")
        one.find("read-only").wait_for()
        assert one.text("state") == "paused"
        _press_what_is_hidden(one)
    assert figures.figures(half_done) == before


def test_who_may_only_look_sees_no_buttons_and_nothing_made_by_hand_acts(
    chromium: Browser, asking: Served, half_done: Database
) -> None:
    with viewer(chromium, asking.url) as ann, viewer(chromium, asking.url) as bob:
        for one, token in ((ann, ANN), (bob, BOB)):
            one.open("/migrations/1")
            log_in(one, token)
            one.find("state").wait_for()
        for name in ("act-resume", "act-abort", "act-rollback"):
            ann.find(name).wait_for()
        assert not ann.shows("act-pause")
        before = figures.figures(half_done)
        _press_what_is_hidden(bob)

        # What Ann's browser sent, sent by Bob's: as his own, and as if he were she.
        ann.act("abort", typed="ship")
        ann.find("ask-error").wait_for()
        pressed, confirmed = ann.events_sent()[-2:]
        confirmed["args"] = [json.dumps({"reason": "", "name": "shop"})]
        for named in (bob.page.evaluate("window.clientId"), confirmed["client_id"]):
            for message in (pressed, confirmed):
                bob.page.evaluate(_SEND, {**message, "client_id": named})
            bob.page.wait_for_timeout(1000)
            bob.open("/migrations/1").find("state").wait_for()
        assert figures.figures(half_done) == before

        # The same, sent by her own browser, is what it takes.
        ann.page.evaluate(_SEND, confirmed)
        ann.wait(lambda: ann.text("state") == "aborted", "the end")
        assert any("ann at 127.0.0.1" in who for who in figures.events(half_done, "desired_abort"))


def _press_what_is_hidden(one: Viewer) -> None:
    """Press the buttons and fill the form, as whoever opens a browser's tools does."""
    for name in ACTS:
        assert not one.shows(name)
        one.page.evaluate(_UNCOVER, name)
        one.find(name).click()
    one.page.wait_for_timeout(500)
    one.page.evaluate("document.querySelector('[data-testid=ask]').showModal()")
    if one.shows("ask-name"):
        one.find("ask-name").fill("shop")
    one.find("ask-confirm").dispatch_event("click")
    one.page.wait_for_timeout(500)


_UNCOVER = (
    """name => document.querySelector(`[data-testid="${name}"]`).classList.remove("hidden")"""
)

_SEND = """message => { window.socket.emit("event", message); }"""
