"""An application keeps its books while it is migrated, disturbed and rolled back, for minutes.

Every movement that was acknowledged is there exactly once, and every unit of every record, with
quantity and reserved apart, is explained by the movements.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.engine import control
from inventory_migration.errors import StillBusy
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage, test_sync
from inventory_migration_tests.chaos import bank
from inventory_migration_tests.chaos.crashes import come_back, crash, durable_database
from inventory_migration_tests.chaos.faults import Disturber, Fault, schedule
from inventory_migration_tests.chaos.notes import Notes
from inventory_migration_tests.chaos.operators import PROCESSES, Crew
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.sessions import until
from inventory_migration_tests.test_stock_level import LEVELS

SEED = int(os.environ.get("SEED", "20261126"))
DURATION = float(os.environ.get("DURATION", "120"))
WRITERS = 4
RECORDS = 3_000
COMPANIES = 20
PAUSE_SECONDS = 0.004

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(DURATION + 480)]

SESSIONS = {
    "records_locked": 8,
    "locked_the_other_way": 5,
    "worker_terminated": 2,
    "worker_cancelled": 1,
    "writer_terminated": 5,
    "writer_cancelled": 4,
}
OPERATIONS = {
    "pause": 8,
    "pause_with_force": 6,
    "hand_killed": 8,
    "driver_killed": 2,
    "stop_immediate": 1,
    "postmaster_killed": 1,
}
DISTURBERS = 4

ENOUGH = 1000
"""Faults that hit, in a run of two minutes or more; a busy machine takes longer to do as many."""

BACK = 0.6
"""The share of the time after which the migration is rolled back, however far it has come."""

LONGEST = 2.5
"""How much longer than asked for a run may take, to reach what is enough."""

LIMITS = {
    "chunk": {"rows": 20, "target_ms": 40},
    # Chunks fail by the dozen here; what a mapping does about it is tested elsewhere.
    "thresholds": {
        "quarantined_percent": 100,
        "failed_attempts": 1000,
        "actions": {"failed_attempts": "pause"},
    },
}

MET = ("worker met 55P03", "worker met 40P01")
"""What locks that are held, and taken in another order, do to workers."""


@dataclass(frozen=True)
class Shape:
    """A shape under writers: its mapping, its tables, and what must be true at the end."""

    mapping: StockMapping
    tables: str
    migrated: dict[str, str]
    rolled_back: dict[str, str]
    share: float = 1.0


SHAPES = {
    "location_column": Shape(
        stage.mapping(guard=True, **LIMITS),
        "",
        {
            "records that are not at their company's default location": """
                SELECT count(*) FROM stock_items s
                LEFT JOIN locations l ON l.id = s.location_id AND l.is_default
                WHERE l.company_id IS DISTINCT FROM s.company_id""",
        },
        {
            # What came with its location, by the guard, was never anywhere else.
            "records of the beginning that kept a location": """
                SELECT count(*) FROM stock_items s JOIN opening o ON o.item_id = s.id
                WHERE s.location_id IS NOT NULL""",
            "records that hold a location which is gone": """
                SELECT count(*) FROM stock_items s LEFT JOIN locations l ON l.id = s.location_id
                WHERE s.location_id IS NOT NULL AND l.id IS NULL""",
        },
    ),
    "stock_level": Shape(
        test_sync.mapping(**LIMITS),
        LEVELS,
        {
            "levels that differ from their records": """
                SELECT count(*) FROM stock_items s FULL JOIN levels t ON t.item_id = s.id
                WHERE (s.quantity, s.reserved) IS DISTINCT FROM (t.on_hand, t.promised)""",
            # Nobody but us has ever written a level, so none is in the way of a record.
            "records that were put aside": """
                SELECT count(*) FROM inventory_migration.outcome
                WHERE outcome = 'quarantined' AND migration_id =
                      (SELECT max(migration_id) FROM inventory_migration.migration)""",
        },
        {"levels that are left": "SELECT count(*) FROM levels"},
        share=0.5,
    ),
}


@dataclass
class Run:
    """A bank, its writers, and the migration that goes back and forth under them."""

    database: Database
    shape: Shape
    notes: Notes
    crew: Crew
    writers: list[Any] = field(default_factory=list)
    turns: Counter[str] = field(default_factory=Counter)

    def open(self) -> None:
        """Let the writers begin, and the migration."""
        for number in range(WRITERS):
            process = PROCESSES.Process(
                target=bank.work,
                args=(
                    Database(self.database.name, self.database.url, self.database.server),
                    self.notes,
                    number,
                    SEED * 10 + number,
                    RECORDS,
                    COMPANIES,
                    PAUSE_SECONDS,
                ),
                daemon=True,
            )
            process.start()
            self.writers.append(process)
        self.crew.begin("migrate")
        until(self._running, "a migration at its chunks", seconds=120)

    def _running(self) -> bool:
        there = self.database.psql(
            "SELECT to_regclass('inventory_migration.migration') IS NOT NULL"
        )
        return there == "t" and "running" in self.database.psql(
            "SELECT state FROM inventory_migration.migration"
        )

    def go_on(self) -> None:
        """Turn round where the migration is through; nobody's work may have ended otherwise."""
        assert self.notes.unforeseen() == []
        assert all(writer.is_alive() for writer in self.writers), "a writer has ended"
        if self.crew.through():
            self.turns[self.crew.direction] += 1
            self.crew.begin("rollback" if self.crew.direction == "migrate" else "migrate")
        else:
            self.crew.begin(self.crew.direction)

    def turn_back(self) -> None:
        """Let an operator change their mind: back, wherever the migration is."""
        if self.crew.direction == "migrate":
            self.crew.kill("driver")
            self.crew.begin("rollback")

    def finish(self, direction: str) -> None:
        """Undisturbed, the migration reaches the end of a direction."""
        deadline = time.monotonic() + 240
        if self.crew.direction != direction:
            while not self.crew.through():
                assert time.monotonic() < deadline, f"{self.crew.direction} does not end"
                assert self.notes.unforeseen() == []
                time.sleep(0.05)
        self.crew.begin(direction)
        while not self.crew.through():
            assert time.monotonic() < deadline, f"{direction} does not end"
            assert self.notes.unforeseen() == []
            time.sleep(0.05)

    def stop_writers(self) -> None:
        """Let the application rest."""
        self.notes.say("stop")
        for writer in self.writers:
            writer.join(30)
        assert len(self.notes.read("stopped")) == WRITERS, "a writer did not end by itself"

    def do(self, fault: Fault) -> bool:
        """An operator's command, or a machine that fails; whether it happened."""
        if fault.kind in {"stop_immediate", "postmaster_killed"}:
            crash(self.database.server, fault.kind)
            come_back(self.database.server, self.database.url)
            return True
        if fault.kind == "driver_killed":
            return self.crew.kill("driver") and bool(self.crew.replace("driver") or True)
        if fault.kind == "hand_killed":
            return self.crew.kill(f"hand-{int(fault.draw * self.crew.hands)}")
        return self._pause(force=fault.kind == "pause_with_force")

    def _pause(self, *, force: bool) -> bool:
        """Pause, and see that nothing is done until somebody resumes."""
        with psycopg.connect(self.database.url) as connection:
            row = connection.execute(
                "SELECT max(migration_id) FROM inventory_migration.migration "
                "WHERE state = 'running'"
            ).fetchone()
        if row is None or row[0] is None:
            return False
        self.notes.say("wait")
        try:
            while not self._has_paused(row[0], force=force):
                time.sleep(0.05)
            lifted, before = self._lifted(row[0]), self._done(row[0])
            time.sleep(0.2)
            after = self._done(row[0])
            if self._lifted(row[0]) != lifted:
                # By an operator whose resume was on its way already.
                return False
            assert after == before, "a chunk was committed behind a pause"
        finally:
            self.notes.unsay("wait")
        return True

    def _has_paused(self, migration_id: int, *, force: bool) -> bool:
        """Give the command once; it is no less exposed than all the others."""
        try:
            control.pause(self.database.engine, migration_id, reason="chaos", force=force)
        except (sa.exc.DBAPIError, StillBusy):
            return False
        return True

    def _lifted(self, migration_id: int) -> str:
        """How often somebody has said that it should run, or go back."""
        return self.database.psql(
            "SELECT count(*) FROM inventory_migration.event WHERE kind ~ '^desired_(run|rollback)' "
            f"AND migration_id = {migration_id}"
        )

    def _done(self, migration_id: int) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database.url) as connection:
            return connection.execute(
                "SELECT number, state, xid, attempts FROM inventory_migration.chunk "
                "WHERE migration_id = %s ORDER BY 1",
                (migration_id,),
            ).fetchall()

    def wrong(self, questions: dict[str, str]) -> dict[str, str]:
        """The questions whose answer is not zero."""
        answers = {what: self.database.psql(asked) for what, asked in questions.items()}
        return {what: answer for what, answer in answers.items() if answer != "0"}


@pytest.mark.parametrize("name", SHAPES)
def test_every_movement_counts_once_whatever_happens_meanwhile(
    folder: Path,
    binaries: Path | None,
    tmp_path: Path,
    verdict: Callable[[str], None],
    name: str,
) -> None:
    shape, seconds = SHAPES[name], DURATION * SHAPES[name].share
    verdict(
        f"seed {SEED}, {seconds:.0f} s; repeat with: "
        f"make chaos SEED={SEED} DURATION={DURATION:g} PYTEST_ARGS='-k {name}'"
    )
    notes = Notes(tmp_path)
    enough = ENOUGH if seconds >= 120 else 0
    disturbed = schedule(SEED, seconds * LONGEST, 0.04, SESSIONS)
    with durable_database(folder, binaries, f"bank_{name}", deadlock_timeout="10ms") as database:
        stage.shop(database, companies=COMPANIES, items=RECORDS)
        database.psql(shape.tables + bank.BOOKS)
        run = Run(database, shape, notes, Crew(database, shape.mapping, notes))
        disturbers = [
            Disturber(database, notes, disturbed[n::DISTURBERS]) for n in range(DISTURBERS)
        ]
        try:
            run.open()
            for disturber in disturbers:
                disturber.start()
            _operate(run, schedule(SEED + 1, seconds * LONGEST, 2.0, OPERATIONS), seconds, enough)
            for disturber in disturbers:
                disturber.stop.set()
                disturber.join(30)
                assert disturber.failed == []
            # The verdict is reached while the application still writes.
            run.finish("migrate")
            run.stop_writers()
            assert run.wrong(shape.migrated) == {}
            validated = verbs.validate(verbs.open_target(database.url), shape.mapping)
            assert validated["passed"], validated
            assert bank.audit(database, notes).wrong == []
            run.finish("rollback")
            assert run.wrong(shape.rolled_back) == {}
            books = bank.audit(database, notes)
        finally:
            for disturber in disturbers:
                disturber.stop.set()
            run.crew.kill_all()
            for writer in run.writers:
                writer.kill()
            hits = _hits(notes)
            for kind, count in sorted(hits.items()):
                verdict(f"{count:6} x {kind}")
            verdict(f"{hits.total():6} faults that hit")
            verdict(f"{dict(run.turns)} in full under fire")
            verdict(f"{len(notes.read('booked')):6} movements acknowledged")
            verdict(f"{len(notes.read('doubtful')):6} in doubt, their COMMIT unanswered")
        assert books.wrong == []
        assert bank.unacknowledged(database, notes) == []
        assert set(books.movements) == set(bank.KINDS)
        verdict(f"every unit explained: {dict(sorted(books.movements.items()))}")
    if enough:
        assert hits.keys() >= {*SESSIONS, *MET} - {"records_locked", "locked_the_other_way"}, hits
    assert hits.total() >= enough


def _operate(run: Run, faults: list[Fault], seconds: float, enough: int) -> None:
    """Give commands and let machines fail as the schedule says, and look at the books often."""
    began = time.monotonic()
    looked = began
    turned = False
    for fault in faults:
        if not turned and time.monotonic() > began + seconds * BACK:
            run.turn_back()
            turned = True
        while time.monotonic() < began + fault.at:
            run.go_on()
            time.sleep(0.05)
        if run.do(fault):
            run.notes.write("hit", fault.kind)
        if time.monotonic() - looked > 5:
            assert bank.audit(run.database, run.notes).wrong == []
            looked = time.monotonic()
        if time.monotonic() > began + seconds and _hits(run.notes).total() >= enough:
            return


def _hits(notes: Notes) -> Counter[str]:
    """Faults that have hit somebody: done to a session or process, or met by one.

    That a connection was lost is the same fault again, and is not counted.
    """
    found = Counter(words[0] for words in notes.read("hit"))
    for met, count in notes.met().items():
        who, _, state = met.partition("_")
        if state in {"55P03", "40P01"} and who in {"writer", "worker"}:
            found[f"{who} met {state}"] += count
    return found
