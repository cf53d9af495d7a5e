"""The server goes down again and again under a migration, and nothing that was told is unsaid.

Processes are killed here, not power: what the kernel has taken is still there afterwards.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from inventory_migration import verbs
from inventory_migration_tests import stage
from inventory_migration_tests.chaos import truths
from inventory_migration_tests.chaos.crashes import KINDS, come_back, crash, durable_database
from inventory_migration_tests.chaos.notes import Notes
from inventory_migration_tests.chaos.operators import Crew

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

CRASHES = 50
RECORDS = 20_000
SEED = int(os.environ.get("SEED", "20261126"))


def test_nothing_that_was_acknowledged_is_lost_in_50_crashes(
    folder: Path, binaries: Path | None, tmp_path: Path, verdict: Callable[[str], None]
) -> None:
    verdict(f"seed {SEED}; repeat with: make chaos SEED={SEED} PYTEST_ARGS='-k server_crash'")
    chosen = random.Random(SEED)  # noqa: S311 - a reproducible schedule
    schedule = [(KINDS[n % len(KINDS)], chosen.uniform(0.2, 1.5)) for n in range(CRASHES)]
    chosen.shuffle(schedule)
    mapping = stage.mapping(chunk={"rows": 20, "target_ms": 30})
    notes = Notes(tmp_path)
    crashes: Counter[tuple[str, str]] = Counter()
    began = time.monotonic()
    with durable_database(folder, binaries, "crashing") as database:
        stage.shop(database, companies=20, items=RECORDS)
        before = truths.look(database).totals
        crew = Crew(database, mapping, notes)
        crew.begin("migrate")
        try:
            for kind, delay in schedule:
                _let_work(crew, delay)
                direction = crew.direction
                while not crash(database.server, kind):
                    _let_work(crew, 0.05)
                if kind == "machine_off":
                    crew.kill_all()
                crashes[kind, direction] += 1
                _require_nothing_lost(crew, before)
                crew.begin(crew.direction)
            _finish(crew)
            seen = _require_nothing_lost(crew, before)
        finally:
            crew.kill_all()
            for (kind, direction), count in sorted(crashes.items()):
                verdict(f"{count:5} x {kind} during {direction}")
            for condition, count in sorted(notes.met().items()):
                verdict(f"{count:5} x an operator or worker met {condition}")
            verdict(f"{len(notes.chunks_done()):5} chunks acknowledged, none of them forgotten")
            verdict(f"{time.monotonic() - began:5.0f} s")
        validated = verbs.validate(verbs.open_target(database.url), mapping)
    assert seen.states[max(seen.states)] == "verified"
    assert validated["passed"], validated
    assert sum(crashes.values()) == CRASHES
    assert {kind for kind, _ in crashes} == set(KINDS)
    assert {direction for _, direction in crashes} == {"migrate", "rollback"}


def _require_nothing_lost(crew: Crew, before: truths.Totals) -> truths.Look:
    """What was acknowledged before the server went down is there once it is back."""
    told = crew.notes.chunks_done(), crew.notes.ended()
    come_back(crew.database.server, crew.database.url)
    seen = truths.look(crew.database)
    assert seen.totals == before
    assert seen.wrong == []
    assert truths.forgotten(seen, *told) == []
    assert crew.notes.unforeseen() == []
    return seen


def _let_work(crew: Crew, seconds: float) -> None:
    """Let the crew work for a while, and turn round where it has reached its end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if crew.through():
            assert crew.notes.unforeseen() == []
            crew.begin("rollback" if crew.direction == "migrate" else "migrate")
        time.sleep(0.01)


def _finish(crew: Crew) -> None:
    """Undisturbed, the migration ends verified."""
    for direction in ("rollback", "migrate") if crew.direction == "rollback" else ("migrate",):
        crew.begin(direction)
        until = time.monotonic() + 300
        while not crew.through():
            assert time.monotonic() < until, f"{direction} does not end"
            time.sleep(0.05)
        assert crew.notes.unforeseen() == []
