"""What a person at a terminal sees of a migration: at any size, on any terminal, on one line."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from inventory_migration.cli.picture import Drawing
from inventory_migration.cli.wording import Look, line

pytestmark = pytest.mark.one_server

MARKED_UP = "a\x1b[2Jb[red]c[/red]\x07"


def phase(number: int, name: str, records: int, done: int, **others: Any) -> dict[str, Any]:
    """One phase of a picture."""
    return {"number": number, "name": name, "companies": 1, "records": records,
            "records_done": done, "records_undone": 0, "quarantined": 0, "failed_attempts": 0,
            "chunks": 1, "chunks_done": 0, "started_at": None, "finished_at": None,
            "reconciled_at": None, **others}  # fmt: skip


def picture(**others: Any) -> dict[str, Any]:
    """A picture in the middle of a migration that has a bit of everything."""
    at = "2026-11-27T14:32:05+00:00"
    gate = {"judged_at": at, "expectations": 9, "failed": []}
    return {
        "migration_id": 3, "mapping": "stock_items", "state": "running", "reason": None,
        "desired": "run", "desired_by": "ann", "desired_at": at, "at": at,
        "started_at": "2026-11-27T14:30:12+00:00", "finished_at": None,
        "elapsed_seconds": 113.0, "active_seconds": 100.4,
        "started_by": "ann by inventory-migration", "run_ids": ["one"], "stage": "moving",
        "working": {"driver": True, "workers": 2, "last_sign_at": "2026-11-27T14:32:04+00:00"},
        "records": {"snapshot": 100_000, "migrated": 5390, "already": 0, "skipped": 3,
                    "quarantined": 7, "gone": 0, "pending": 94_600, "undone": 0},
        "units": {"snapshot": "1234567.5", "accounted": "66000", "difference": "0"},
        "reserved": {"snapshot": "1", "accounted": "1", "difference": "0"},
        "percent": 5.4, "rate": {"now": 1234.4, "average": 1100.2},
        "eta": {"seconds": 86.0, "low": 70.0, "high": 110.0, "at": "2026-11-27T14:33:31+00:00"},
        "phases": [phase(1, "pilot", 1200, 1200, reconciled_at=at),
                   phase(2, "early", 10_000, 4200), phase(3, "rest", 88_800, 0)],
        "attempts": {"failed": 3, "chunks": 2, "per_minute": 1.6,
                     "by_error": [{"error": "deadlock detected", "attempts": 3, "chunks": 2}]},
        "quarantine": [{"rule": "quantity_missing", "reason": "none", "records": 7,
                        "sample": ["17", "99"]}],
        "timeline": [],
        "health": {"verdict": "slow", "reasons": [{"level": "slow", "text": "replication lags"}],
                   "observed": {}, "since": at, "at": at},
        "gates": [{"suite": "audit_profile", "passed": True, **gate},
                  {"suite": "default_locations", "passed": True, **gate}],
        "events": [{"event_id": n, "at": at, "who": "ann by inventory-migration",
                    "kind": f"event_{n}", "detail": {"reason": "why"}} for n in range(30, 0, -1)],
        **others,
    }  # fmt: skip


def screen(encoding: str = "utf-8", **options: Any) -> Console:
    """A console on a terminal, which keeps what it is given."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return Console(file=stream, force_terminal=True, color_system="truecolor", **options)


def drawn(look: Look, width: int = 79, height: int = 23, **options: Any) -> list[str]:
    """The lines of a look, as text."""
    return [one.plain for one in Drawing(screen(**options)).lines(look, width=width, height=height)]


ESSENTIAL = ["Migration 3 of stock_items:", "5.4 %"]


@pytest.mark.parametrize(
    ("width", "height", "told"),
    [
        (79, 23, ["running, moving stock", "pilot", "early", "rest", "42.0 %", "4,200 of  10,000",
                  "checked", "about 1 min 26 s (1 min 10 s to 1 min 50 s)", "1,234 records per",
                  "7 quarantined", "66,000 of 1,234,567.5 accounted for, difference 0",
                  "slowed down: replication lags", "3 attempts, 1.6 per minute: deadlock",
                  "quantity_missing 7 (such as 17, 99)", "2 passed", "2 in a transaction",
                  "Last events", "event 30: why  ann"]),
        (119, 49, ["by ann, 1 min 40 s of work", "event 30", "event 5"]),
        (39, 23, ["moving stock", "pilot", "early", "rest", "42.0 %", "about 1 min 26 s"]),
        (39, 10, ["moving stock", "about 1 min 26 s"]),
        (20, 6, []),
        (300, 100, ["event 1:"]),
    ],
)  # fmt: skip
def test_it_fits_every_terminal_and_leaves_out_what_matters_least(
    width: int, height: int, told: list[str]
) -> None:
    lines = drawn(Look(picture()), width, height)
    assert len(lines) <= height
    assert max(len(one) for one in lines) <= width
    shown = " ".join(" ".join(lines).split())
    missing = [one for one in [*ESSENTIAL, *told] if " ".join(one.split()) not in shown]
    assert missing == [], "\n".join(lines)


def test_bars_grow_with_what_is_done_and_are_never_full_before_all_of_it_is() -> None:
    phases = [phase(1, "one", 1000, 999), phase(2, "two", 0, 0), phase(3, "three", 8, 4)]
    lines = drawn(Look(picture(phases=phases, percent=99.97)))
    bars = {one.split()[0]: one for one in lines if "█" in one or "░" in one}
    assert "99.9 %" in bars["all"]
    assert "99.9 %" in bars["one"]
    assert "░" in bars["all"]
    assert "░" in bars["one"]
    assert "100.0 %" in bars["two"]
    assert "░" not in bars["two"]
    half = bars["three"]
    assert half.count("█") == half.count("░") > 10


def test_of_many_phases_the_one_under_way_is_among_those_shown() -> None:
    at = "2026-11-27T14:32:05+00:00"
    phases = [phase(n, f"wave-{n}", 10, 10, reconciled_at=at if n < 40 else None)
              for n in range(1, 61)]  # fmt: skip
    lines = "\n".join(drawn(Look(picture(phases=phases))))
    assert "wave-40 " in lines
    assert "and 53 more phases" in lines


def test_nothing_of_the_database_is_taken_for_a_command_or_for_markup() -> None:
    found = picture(
        mapping=MARKED_UP,
        state="paused",
        stage="standing",
        reason=MARKED_UP,
        phases=[phase(1, MARKED_UP, 10, 1)],
        quarantine=[{"rule": MARKED_UP, "reason": MARKED_UP, "records": 1, "sample": [MARKED_UP]}],
        attempts={"failed": 1, "chunks": 1, "per_minute": 0.0,
                  "by_error": [{"error": MARKED_UP, "attempts": 1, "chunks": 1}]},
        events=[{"event_id": 1, "at": picture()["at"], "who": MARKED_UP, "kind": MARKED_UP,
                 "detail": {MARKED_UP: MARKED_UP}}],
    )  # fmt: skip
    for text in (*drawn(Look(found, message=MARKED_UP, also=[MARKED_UP]), 119, 49),
                 line(Look(found))):  # fmt: skip
        assert text.isprintable(), text
    whole = "\n".join(drawn(Look(found), 119, 49))
    assert whole.count(r"a\x1b[2Jb[red]c[/red]\x07") >= 5


def test_a_terminal_without_colours_or_without_blocks_is_told_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    coloured = drawn(Look(picture()))
    assert [one.replace("█", "#").replace("░", ".") for one in coloured] == drawn(
        Look(picture()), encoding="ascii"
    )
    monkeypatch.setenv("NO_COLOR", "1")
    console = screen()
    with console.capture() as captured:
        for one in Drawing(console).lines(Look(picture()), width=79, height=23):
            console.print(one)
    assert "\x1b[3" not in captured.get()
    assert drawn(Look(picture())) == coloured


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ({"state": "paused", "stage": "standing", "reason": "lunch"},
         ["paused", "lunch", "It stands until 'inventory-migration resume stock_items'."]),
        ({"working": {"driver": False, "workers": 0, "last_sign_at": None}},
         ["Nobody works on it: 'inventory-migration run stock_items' takes it up."]),
        ({"state": "rolling_back", "stage": "rolling_back", "percent": 40.0,
          "working": {"driver": False, "workers": 0, "last_sign_at": None},
          "phases": [phase(1, "pilot", 1200, 1000, records_undone=400)],
          "records": {**picture()["records"], "undone": 400}},
         ["rolling back, putting it back", "40.0 %", "400", "undone",
          "'inventory-migration rollback stock_items' takes it up."]),
        ({"working": {"driver": True, "workers": 0, "last_sign_at": "2026-11-27T14:32:04+00:00"}},
         ["running"]),
        ({"state": "verifying", "stage": "proving", "percent": 99.9},
         ["verifying, proving that no unit was lost", "99.9 %"]),
        ({"desired": "pause"}, ["running"]),
    ],
)  # fmt: skip
def test_what_somebody_ought_to_know_is_said_in_words(
    others: dict[str, Any], told: list[str]
) -> None:
    look = Look(picture(**others))
    for shown in ("\n".join(drawn(look)), line(look)):
        assert [one for one in told if one not in shown] == []
    whole = "\n".join(drawn(look))
    if others.get("desired"):
        assert "to pause, by ann" in whole
    if (others.get("working") or {}).get("driver"):
        assert "a command works; last sign of life 1.0 s ago" in whole
    if others.get("stage") == "rolling_back":
        assert "400 of 1,000" in whole
        assert "accounted" not in whole


def test_an_old_picture_says_how_old_it_is_and_no_picture_says_so() -> None:
    look = Look(picture(), age_seconds=12.4, error="the server is away")
    said = "What is shown is 12.4 s old: the server is away"
    assert said in "\n".join(drawn(look, 79, 5))
    assert said in line(look)
    assert drawn(Look(error="the server is away"))[-1].endswith("yet: the server is away")
    assert drawn(Look(message="profiling stock_items")) == ["profiling stock_items"]
