"""The lines at a terminal's end: painted in place, below everything else, without flicker."""

from __future__ import annotations

import io
import sys

import pytest
from rich.text import Text

from inventory_migration.cli.region import Region, below
from inventory_migration_tests.terminals import Screen

pytestmark = pytest.mark.one_server


def texts(*lines: str) -> list[Text]:
    return [Text(line, style="bold red") for line in lines]


def test_lines_are_painted_over_in_one_write_and_none_is_erased_before() -> None:
    terminal = Screen()
    region = Region(terminal.console, terminal)
    region.paint(texts("one", "two", "three"))
    region.paint(texts("ONE", "2"))
    assert terminal.shows() == ["ONE", "2"]
    assert len(terminal.frames) == 2
    frame = terminal.frames[1]
    assert frame.startswith("\x1b[?2026h")
    assert frame.endswith("\x1b[?2026l")
    before_the_text = frame[: frame.index("ONE")]
    assert not any(erased in before_the_text for erased in ("\x1b[K", "\x1b[J", "\x1b[2K"))


def test_what_has_not_changed_is_not_written_again() -> None:
    terminal = Screen()
    region = Region(terminal.console, terminal)
    for _ in range(3):
        region.paint(texts("one", "two"))
    assert len(terminal.frames) == 1


def test_what_others_print_goes_above_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Screen()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    terminal.write("before\n")
    with below(terminal, terminal.console) as region:
        region.paint(texts("one", "two"))
        print("a warning", file=sys.stderr)
        assert terminal.shows() == ["before", "a warning", "one", "two"]
        print("part of a line, ", end="")
        assert terminal.shows()[-1] == "two"
        print("and its rest")
        print("without an end", end="")
    assert sys.stdout is terminal
    assert terminal.shows() == ["before", "a warning", "part of a line, and its rest",
                                "without an end"]  # fmt: skip


def test_a_stream_that_is_no_terminal_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, file = Screen(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setattr(sys, "stderr", terminal)
    with below(terminal, terminal.console) as region:
        region.paint(texts("one"))
        print("an answer")
    assert file.getvalue() == "an answer\n"
    assert terminal.shows() == [""]


def test_the_last_lines_stay_where_that_is_asked_for() -> None:
    terminal = Screen()
    with below(terminal, terminal.console, keep=True) as region:
        region.paint(texts("one", "two"))
    terminal.write("next")
    assert terminal.shows() == ["one", "two", "next"]


def test_more_lines_than_the_terminal_has_are_cut_and_nothing_scrolls() -> None:
    terminal = Screen(columns=10, lines=4)
    region = Region(terminal.console, terminal)
    for word in ("one", "two"):
        region.paint(texts(*(f"{word} {number} and on and on" for number in range(9))))
    assert terminal.shows() == ["two 0 an…", "two 1 an…", "two 2 an…"]


def test_a_narrower_terminal_is_painted_anew_with_what_was_said() -> None:
    terminal = Screen(columns=40, lines=10)
    region = Region(terminal.console, terminal)
    region.say("a warning")
    region.paint(texts("a line that is longer than twenty", "two"))
    terminal.resize(20, 10)
    region.paint(texts("shorter", "two"))
    assert terminal.shows() == ["a warning", "shorter", "two"]
    terminal.resize(60, 10)
    region.paint(texts("wider again than twenty columns", "two"))
    assert terminal.shows() == ["a warning", "wider again than twenty columns", "two"]
