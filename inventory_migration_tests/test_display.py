"""What a command shows of itself while it works, and that it works whatever becomes of that."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

import pytest

from inventory_migration.cli import progress
from inventory_migration.cli.picture import Drawing
from inventory_migration.logs import Logging
from inventory_migration_tests.sessions import until
from inventory_migration_tests.terminals import Screen

pytestmark = pytest.mark.one_server

logger = logging.getLogger("inventory_migration.test")


def on_stderr(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A terminal in the place of stderr, on which a display waits for nothing."""
    made = Screen(columns=120)
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setattr(progress, "PAINT_SECONDS", 0.01)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "10")
    return made


def test_what_a_command_does_is_shown_and_its_warnings_stay_above(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = on_stderr(monkeypatch)
    logged = Logging(interactive=progress.handler())
    try:
        with progress.shown(None, str, "starting"):
            until(lambda: terminal.shows()[-1].startswith("starting ("), "the display")
            logger.info("profiling stock_items")
            until(lambda: terminal.shows()[-1].startswith("profiling stock_items ("), "the message")
            logger.warning("connection lost, \x1b[2J attempt 1")
            until(lambda: "warning: connection lost" in terminal.shows()[0], "the warning")
            assert terminal.shows()[0].endswith(r"\x1b[2J attempt 1")
            assert terminal.shows()[-1].startswith("profiling")
            logger.info("chunk 7", extra={"chunk": 7, "migration_id": 1})
            until(lambda: terminal.shows()[-1].startswith("at work ("), "no line for each chunk")
        assert [line.split("  ")[-1] for line in terminal.shows()] == [
            r"warning: connection lost, \x1b[2J attempt 1"
        ]
    finally:
        logged.close()
    assert sys.stderr is terminal
    assert progress.ProgressHandler.display is None
    assert "display" not in {thread.name for thread in threading.enumerate()}


def test_a_display_that_fails_says_so_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = on_stderr(monkeypatch)

    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(Drawing, "lines", broken)
    logged = Logging(interactive=progress.handler())
    try:
        with progress.shown(None, str, "starting"):
            until(lambda: "no longer shown" in " ".join(terminal.shows()), "the warning")
            logger.warning("a warning after it")
        assert "a warning after it" in terminal.shows()[-1]
    finally:
        logged.close()
