"""One run of a hundred thousand records, from its start to its rollback, as its page shows it.

All of it is one test: a run takes half a minute by itself, and each step stands on the one before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from inventory_migration.demo import create_demo
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.dashboard import figures
from inventory_migration_tests.dashboard.served import dashboard, ended, started
from inventory_migration_tests.dashboard.viewer import Viewer, viewer, whole

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.one_server, pytest.mark.timeout(600)]

RECORDS = 100_000
RATE = 8_000
OUTCOMES = ("migrated", "already", "skipped", "quarantined", "gone", "pending")
LAG = 15.0
"""By how many seconds figures may be behind the ledger: what costs more is added up less often."""


@dataclass
class Watched:
    """What a page and the ledger said during a run, at the same moments."""

    database: Database
    seen: list[dict[str, Any]] = field(default_factory=list)
    ledger: list[tuple[float, int]] = field(default_factory=list)

    def look(self, one: Viewer) -> dict[str, Any]:
        """Read the page's figures, all at one moment, and the ledger's before and after."""
        self.ledger.append((time.monotonic(), figures.accounted(self.database)))
        names = ["state", "percent", "records-total", *(f"records-{name}" for name in OUTCOMES)]
        shown = one.texts(*names)
        seen: dict[str, Any] = {"at": time.monotonic(), "accounted": 0, **shown}
        if shown["records-total"] is not None:
            seen |= {name: whole(shown[f"records-{name}"] or "") for name in OUTCOMES}
            seen["snapshot"] = whole(shown["records-total"])
            seen["accounted"] = seen["snapshot"] - seen["pending"]
            self.seen.append(seen)
        self.ledger.append((time.monotonic(), figures.accounted(self.database)))
        return seen

    def judge(self) -> None:
        """Each look was at something that the ledger had said at most a moment before."""
        for seen in self.seen:
            settled = [done for at, done in self.ledger if at <= seen["at"] - LAG]
            now = next(done for at, done in self.ledger if at >= seen["at"])
            assert (settled or [0])[-1] <= seen["accounted"] <= now, seen
            assert seen["accounted"] == sum(seen[name] for name in OUTCOMES if name != "pending")
            assert seen["snapshot"] in {0, RECORDS}, seen
            assert seen["percent"] != "100 %" or seen["state"] == "verified", seen
        steps = [seen["accounted"] for seen in self.seen]
        assert steps == sorted(steps)
        assert len(set(steps)) > 5, steps


def test_a_run_is_watched_paused_resumed_and_rolled_back_on_its_page(
    chromium: Browser, database: Database, tmp_path: Path
) -> None:
    create_demo(database.engine, companies=200, items=RECORDS, dirty=0.005)
    log = tmp_path / "run.log"
    command = ("run", "stock_items", "--json", f"--max-rows-per-second={RATE}")
    with (
        dashboard(database, tmp_path) as served,
        viewer(chromium, served.url) as one,
        started(database, log, *command) as run,
    ):
        watched = Watched(database)
        _from_the_front(one)
        one.wait(lambda: watched.look(one)["accounted"] > 0.2 * RECORDS, "a fifth", 120)

        one.act("pause")
        assert ended(run, log) == 4
        stood = figures.figures(database)
        one.wait(lambda: watched.look(one)["state"] == "paused", "the pause")
        assert 0.2 * RECORDS < figures.accounted(database) < RECORDS
        _agrees(one, stood)
        assert "dashboard for" in one.text("desired")
        # Nothing commits behind a pause.
        assert figures.figures(database) == {**stood, "events": figures.figures(database)["events"]}

        one.act("resume")
        one.wait(lambda: watched.look(one)["state"] == "verified", "the end", 180)
        assert not one.shows("started")
        watched.judge()
        assert one.text("percent") == "100 %"
        _agrees(one, figures.figures(database))
        _said_who(database, "desired_pause", "asked_resume")

        _roll_back(one, database)
        assert one.elsewhere() == []
        assert one.complaints == []


def _from_the_front(one: Viewer) -> None:
    """Wait on the list until the run is in it, and follow it."""
    one.open("/")
    assert one.shows("no-runs")
    one.wait(lambda: one.shows("run-1"), "the run in the list", 120)
    one.find("run-1").get_by_role("link").first.click()
    one.find("title").wait_for()


def _agrees(one: Viewer, ledger: dict[str, Any]) -> None:
    """Every figure on the page is the ledger's."""
    one.page.reload()
    one.wait(lambda: one.texts("state")["state"] == _word(ledger["state"]), "its state")
    expected = {f"records-{name}": ledger["records"].get(name, 0) for name in OUTCOMES}
    expected |= {"records-total": ledger["snapshot"]}
    for name in ("units", "reserved"):
        expected[f"{name}-snapshot"] = int(ledger[name])
        expected[f"{name}-accounted"] = int(ledger[f"{name}_accounted"])
        expected[f"{name}-off"] = 0
    for number, phase in enumerate(ledger["phases"], start=1):
        expected[f"phase-{number}-done"] = phase["records_done"]
    one.wait(lambda: _numbers(one, expected) == expected, f"{expected}")
    assert _numbers(one, expected) == expected
    rules = one.tab("problems").find("quarantine").locator("tbody tr")
    shown = [row.split("\t")[:2] for row in rules.all_inner_texts()]
    assert {rule: int(records) for rule, records in shown} == ledger["quarantine"]
    kinds = one.tab("trail").find("events").locator("tbody tr td:nth-child(2)").all_inner_texts()
    assert [kind.replace(" ", "_") for kind in kinds] == ledger["events"]
    one.tab("overview")


def _numbers(one: Viewer, names: dict[str, int]) -> dict[str, int | None]:
    return {name: None if text is None else whole(text) for name, text in one.texts(*names).items()}


def _word(state: str) -> str:
    return state.replace("_", " ")


def _said_who(database: Database, *kinds: str) -> None:
    """What was pressed is in the trail, with who did it."""
    for kind in kinds:
        assert any("dashboard" in who for who in figures.events(database, kind)), kind


def _roll_back(one: Viewer, database: Database) -> None:
    """A wrong name does nothing; the right one puts every record back."""
    before = figures.figures(database)
    one.act("rollback", typed="stock_item")
    one.wait(lambda: "Nothing was done" in (one.texts("ask-error")["ask-error"] or ""), "a refusal")
    assert figures.figures(database) == before
    one.page.keyboard.press("Escape")
    one.act("rollback", typed="stock_items")
    one.wait(lambda: one.text("state") == "rolled back", "the rollback", 180)
    written = before["records"]["migrated"]
    assert one.number("records-undone") == one.number("records-written") == written
    assert database.psql("SELECT count(location_id) FROM stock_items") == "0"
