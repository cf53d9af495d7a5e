"""What the dashboard shows of a picture: the truth first, and each figure where it is promised."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from markupsafe import Markup

from inventory_migration.dashboard import (
    companies,
    front,
    marks,
    pages,
    plots,
    problems,
    standing,
    theme,
    views,
    wording,
)
from inventory_migration_tests.documents import Document
from inventory_migration_tests.pictures import COMPANIES, listed, picture

pytestmark = pytest.mark.one_server

HOSTILE = (
    "</td></script><img src=x onerror=alert(1)>\" onload='x' **{0}** %s \x1b[31m\u202e\nnext"
    + "verylong" * 60
)

_STATES = [
    *("planned", "running", "paused", "held", "verifying", "verified", "failed", "aborted"),
    *("rolling_back", "rolled_back"),
]
_IDLE = {"driver": False, "workers": 0, "last_sign_at": None}


def everything(seen: dict[str, Any], age: float = 60.0) -> str:
    """Return all that is shown of a migration, on all its tabs, as one document."""
    gallery = views.Gallery()
    said = wording.truths(seen, age, seen["mapping"] if age > 5 else None)
    parts = [standing.truths(said), *gallery.drawn(7, seen, "head").values()]
    for tab in views.TABS:
        parts += gallery.drawn(7, seen, tab).values()
    return str(Markup("<main>{}</main>").format(Markup("\n").join(parts)))


def replaced(value: Any, text: str, keep: frozenset[str]) -> Any:
    """Return a picture in which every text has become another, but those of these names."""
    if isinstance(value, dict):
        return {
            name: inner if name in keep else replaced(inner, text, keep)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [replaced(inner, text, keep) for inner in value]
    return text if isinstance(value, str) else value


FIXED = frozenset(
    {
        *("at", "started_at", "finished_at", "desired_at", "judged_at", "reconciled_at", "since"),
        *("last_sign_at", "state", "stage", "level", "verdict", "units", "reserved", "difference"),
        *("suite", "desired"),
    }
)
"""Texts that the engine spells itself, of a few words or figures."""


def test_nothing_out_of_the_database_becomes_markup() -> None:
    plain = Document(everything(replaced(picture(), "plain", FIXED)))
    hostile = Document(everything(replaced(picture(), HOSTILE, FIXED)))
    assert hostile.tags == plain.tags
    assert "img" not in hostile.tags
    assert "alert(1)" in hostile.text
    assert not {"\x1b", "\u202e"} & set(hostile.text)
    others: list[Callable[[str], Markup]] = [
        lambda text: front.runs([replaced(listed(), text, FIXED)]),
        lambda text: front.runs([replaced(listed(state="paused", working=False), text, FIXED)]),
        lambda text: front.waiting([text], []),
        lambda text: companies.table(replaced(COMPANIES, text, FIXED), text),
        lambda text: companies.table({"total": 0, "companies": []}, text),
        lambda text: standing.truths(wording.stale(False, None, text)),
    ]
    for shown in others:
        assert Document(shown(HOSTILE)).tags == Document(shown("plain")).tags
        assert not {"\x1b", "\u202e"} & set(Document(shown(HOSTILE)).text)


def test_figures_can_be_found_by_the_ids_that_the_pages_promise() -> None:
    shown = everything(picture()) + everything(
        picture(
            state="rolling_back", stage="rolling_back", reason="asked to", desired="rollback",
            working=_IDLE, units={"snapshot": "5", "accounted": "5", "difference": "1"},
        ),
        age=1.0,
    )  # fmt: skip
    shown += str(front.runs([listed()])) + str(front.runs([])) + str(front.waiting(["a"], []))
    shown += str(companies.said(COMPANIES, ""))
    shown += str(standing.truths(wording.stale(False, 0.5, "there is none")))
    found = set(re.findall(r'data-testid="([^"]+)"', shown))
    promised = set(
        re.findall(r"`([a-z0-9<>-]+)`", (pages.__doc__ or "").partition("figure alone:")[2])
    )
    # These are plain elements, or made by a component; browsers' tests find them.
    elsewhere = {
        *(
            "as-of",
            "database",
            "read-only",
            "viewer",
            "log-out",
            "colours",
            "title",
            "truth-lost",
            "companies",
        ),
        *("companies-search", "did", "ask"),
    }
    missing = {
        name
        for name in promised - elsewhere
        if not name.startswith(("tab-", "act-", "ask-"))
        and not any(re.fullmatch(re.sub(r"<[^>]+>", "[a-z0-9_]+", name), one) for one in found)
    }
    assert missing == set()
    assert figure(everything(picture()), "records-accounted") == "12,065"
    assert figure(everything(picture()), "units-snapshot") == "2,211,269.5"


def figure(shown: str, testid: str) -> str:
    """Return the text of a figure."""
    found = re.search(f'data-testid="{testid}">([^<]*)<', shown)
    assert found is not None, testid
    return found[1]


@pytest.mark.parametrize("name", _STATES)
def test_every_state_has_a_word_a_sign_and_an_end_in_words(name: str) -> None:
    shown = everything(picture(state=name, eta=None, working=_IDLE, stage="standing"))
    state = wording.state_named(name)
    assert figure(shown, "state") == name.replace("_", " ")
    assert state.sign.strip() not in ("", "·")
    assert figure(shown, "eta") not in ("", "–", "None")


def test_a_share_is_never_rounded_up_to_what_has_not_been_reached() -> None:
    assert wording.percent(99.99) == "99.9 %"
    assert wording.percent(100 - 1e-12) == "99.9 %"
    assert wording.percent(100) == "100 %"
    assert wording.percent(0) == "0 %"
    assert wording.pages_title(picture(percent=99.99)).startswith("99 % running")


def test_old_figures_are_said_to_be_old_and_why() -> None:
    assert wording.truths(picture(), 1.0, None) == []
    (old,) = wording.truths(picture(), 75.0, "the database has not answered for 4 s")
    assert "1 min 15 s old" in old.text
    assert "has not answered for 4 s" in old.text
    assert [truth.key for truth in wording.truths(picture(), 6.0, None)] == ["stale"]
    (missing,) = wording.truths(None, 0.5, "the ledger has no migration 77")
    assert (missing.key, missing.text) == ("missing", "The ledger has no migration 77.")
    assert "Nothing is known yet" in wording.truths(None, None, "no route to host")[0].text


def test_that_nobody_works_is_said_with_what_to_do() -> None:
    (nobody,) = wording.truths(picture(working=_IDLE), 1.0, None)
    assert nobody.command == "inventory-migration run stock_items"
    back = picture(working=_IDLE, state="rolling_back", stage="rolling_back")
    assert wording.truths(back, 1.0, None)[0].command == "inventory-migration rollback stock_items"
    assert wording.truths(picture(working=_IDLE, state="paused"), 1.0, None) == []
    assert "Nothing moves" in wording.stage(picture(working=_IDLE))
    # Nobody knows whether that is still so.
    old = wording.truths(picture(working=_IDLE), 60.0, "silent")
    assert [truth.key for truth in old] == ["stale"]
    assert wording.truths(picture(working=_IDLE | {"workers": 1}), 1.0, None) == []
    assert "nobody works" in wording.pages_title(picture(working=_IDLE))
    assert "nobody is working" in Document(front.runs([listed(working=False)])).text


def test_what_keeps_workers_back_is_said_beside_the_state() -> None:
    slowed = picture()
    assert wording.restraint(slowed) == "Slowed down: 3 wait for us"
    waits = picture(eta=None, health=slowed["health"] | {"verdict": "hold"})
    assert figure(everything(waits), "restraint") == "Waits: 3 wait for us"
    assert wording.eta(waits) == "not known while it waits"
    # An old look at the server says nothing of a migration that stands.
    assert wording.restraint(waits | {"state": "paused", "working": _IDLE}) == ""


def test_a_single_unit_that_is_missing_is_loud() -> None:
    for measure in ("units", "reserved"):
        lost = picture() | {measure: {"snapshot": "5", "accounted": "4", "difference": "-0.001"}}
        assert [truth.key for truth in wording.truths(lost, 1.0, None)] == ["difference"]
    timeline = picture()["timeline"]
    assert "flat zero" in Document(plots.conservation(timeline, "0")).text
    assert "not zero" in Document(plots.conservation(timeline, "-0.001")).text
    timeline[2]["difference"] = "7"
    assert "not zero" in Document(plots.conservation(timeline, "0")).text


def test_a_forecast_has_no_more_figures_than_it_deserves() -> None:
    assert [wording.roughly(seconds) for seconds in (3, 47, 250, 5400, 50000, 400000)] == [
        *("some seconds", "45 s", "4 min", "1.5 h", "14 h", "4.6 d"),
    ]
    assert wording.eta_band(picture()) == "between 3 and 7 min"
    assert wording.eta(picture(eta=None)) == "not known yet"
    assert wording.eta(picture(eta=None, working=_IDLE)) == "nobody is working"
    assert wording.eta(picture(eta=None, stage="proving")) == "proof under way"


def test_a_line_breaks_where_nothing_moved() -> None:
    timeline = picture()["timeline"]
    drawn = str(plots.over_time("Rate", timeline, [1, 2, 3, 4, 5], unit="a second", testid="rate"))
    trace = re.search(r'class="trace" d="([^"]+)"', drawn)
    assert trace is not None
    assert trace[1].count("M") == 2
    assert "between 1 and 5 a second" in drawn
    assert "nothing measured yet" in str(
        plots.over_time("Rate", [], [], unit="a second", testid="rate")
    )


def test_what_plots_show_is_there_as_a_table_as_well() -> None:
    (table,) = Document(plots.as_table(picture()["timeline"])).tables
    assert len(table) == 6
    assert table[1][1:4] == ["500", "250", "0.041"]


def test_a_picture_is_drawn_once_however_many_look() -> None:
    gallery, first = views.Gallery(), picture()
    drawn = gallery.drawn(7, first, "overview")
    assert gallery.drawn(7, first, "overview") is drawn
    assert gallery.drawn(7, picture(), "overview") is not drawn


def test_a_detail_of_an_event_is_one_line_of_bounded_length() -> None:
    shown = everything(picture(events=[
        {"event_id": 1, "at": "", "who": "x", "kind": "y", "detail": {"list": ["z" * 5000]}}
    ]))  # fmt: skip
    assert 250 < shown.count("z") < 700


def test_a_condition_of_the_server_has_its_name_beside_its_code() -> None:
    shown = Document(str(problems.attempts(picture()))).text
    assert "55P03, lock not available" in shown
    assert "5 failed attempts in 3 chunks" in shown


def luminance(colour: str) -> float:
    """Return how bright a colour is, as WCAG reckons."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("number", [0, 1], ids=["light", "dark"])
def test_text_can_be_read_by_day_and_night(number: int) -> None:
    block = re.findall(r":root[^{]*\{([^}]+)\}", theme.CSS)[number]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})\b", block))
    texts = {"ink", "soft", "link", "good", "bad", "warn"}
    pairs = [(text, ground) for text in texts for ground in ("paper", "card", "raised")]
    pairs += [(tone, f"{tone}-bg") for tone in ("good", "bad", "warn")]
    pairs += [("ink", f"{tone}-bg") for tone in ("good", "bad", "warn", "plain")]
    pairs += [("on-strong", "strong")]
    for text, ground in pairs:
        high, low = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def test_the_look_fetches_nothing() -> None:
    assert "url(" not in theme.CSS
    assert "@import" not in theme.CSS
    assert theme.ICON.startswith("data:")


def test_figures_keep_every_digit() -> None:
    exact = "123456789012345678901234567890.123456789"
    shown = str(marks.number("units-snapshot", exact))
    assert Decimal(figure(shown, "units-snapshot").replace(",", "")) == Decimal(exact)
