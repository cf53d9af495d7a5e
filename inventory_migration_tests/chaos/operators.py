"""Processes that migrate, as operators and their machines would, while a test does them harm.

A driver gives the commands of an operator: run, resume where it is told to, rollback; and repeats
them until they are through. A hand is a process on another machine that works chunks off. Both
write down outside of the database what the engine has acknowledged. What harm is done to them, and
what must hold all the same, belongs elsewhere.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any

import psycopg
import sqlalchemy as sa

from inventory_migration.engine import control, ledger, plan, rollback
from inventory_migration.engine.failures import Action, action_for, sqlstate
from inventory_migration.engine.pacing import Pacing
from inventory_migration.engine.plan import Start
from inventory_migration.engine.worker import work_phase
from inventory_migration.errors import (
    MigrationBusy,
    MigrationError,
    MigrationHeld,
    MigrationPaused,
    RetriesExhausted,
    ServerRestarted,
)
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.chaos.notes import Notes
from inventory_migration_tests.conftest import Database

# Started once, with all modules loaded: a process then begins in some hundredths of a second.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])

HANDS_NAME = "hand"


class _Acknowledged(logging.Handler):
    """Writes down each chunk as the engine tells that it is done, which is behind its COMMIT.

    And what a worker has met that it mends by itself.
    """

    def __init__(self, notes: Notes) -> None:
        super().__init__()
        self.notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.startswith("chunk %d done"):
            self.notes.write("chunk", record.migration_id, record.chunk)
        elif record.msg == "%s, %s again" and isinstance(record.args, tuple):
            said = str(record.args[0])
            known = (state for words, state in _SAID.items() if words in said)
            self.notes.write("met", f"worker_{next(known, 'other')}", said)


_SAID = {"lock timeout": "55P03", "deadlock": "40P01", "serialize": "40001", "cancel": "57014"}


@dataclass
class Crew:
    """The processes at work on one migration, which can be replaced one by one."""

    database: Database
    mapping: StockMapping
    notes: Notes
    hands: int = 2
    start: dict[str, Any] = field(default_factory=dict)
    processes: dict[str, BaseProcess] = field(default_factory=dict)
    direction: str = "migrate"

    def begin(self, direction: str) -> None:
        """Let the driver go into a direction, and hands help."""
        self.direction = direction
        self.replace("driver")
        for number in range(self.hands):
            self.replace(f"{HANDS_NAME}-{number}")

    def replace(self, name: str) -> None:
        """Start a process, in the place of one that has ended."""
        there = self.processes.get(name)
        if there is not None and there.is_alive():
            return
        shown = Database(self.database.name, self.database.url, self.database.server)
        known = (shown, self.mapping, self.notes)
        process = (
            PROCESSES.Process(target=drive, args=(*known, self.direction, self.start), name=name)
            if name == "driver"
            else PROCESSES.Process(target=lend_a_hand, args=known, name=name)
        )
        process.daemon = True
        process.start()
        self.processes[name] = process

    def kill(self, name: str) -> bool:
        """Kill a process without a word; whether there was one."""
        process = self.processes.get(name)
        if process is None or not process.is_alive():
            return False
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        return True

    def kill_all(self) -> int:
        """Kill all processes, as if their machines were switched off."""
        return sum([self.kill(name) for name in list(self.processes)])

    def through(self) -> bool:
        """Whether the driver has reached its end."""
        return not self.processes["driver"].is_alive()


def drive(
    database: Database,
    mapping: StockMapping,
    notes: Notes,
    direction: str,
    start: dict[str, Any],
) -> None:
    """Give the commands of an operator until the migration is verified, or rolled back."""
    _listen(notes)
    command = _migrate if direction == "migrate" else _roll_back
    resume = False
    while True:
        # Who was told that it is paused or held resumes, but not what somebody has just paused.
        while resume and notes.said("wait"):
            time.sleep(0.02)
        try:
            migration_id, state = command(database, mapping, {**start, "resume": resume})
            notes.write("ended", migration_id, state)
            return
        except MigrationError as error:
            notes.write("met", type(error).__name__, error)
            resume = isinstance(error, MigrationHeld | MigrationPaused)
            if not _worth_repeating(error):
                notes.write("unforeseen", direction, type(error).__name__, error)
                return
        except (sa.exc.DBAPIError, psycopg.Error) as error:
            state = sqlstate(error)
            notes.write("met", f"SQLSTATE_{state}", error)
            if action_for(state) not in {Action.RECONNECT, Action.RETRY, Action.SHRINK}:
                notes.write("unforeseen", direction, state, error)
                return
        except Exception as error:
            notes.write("unforeseen", direction, type(error).__name__, error)
            raise
        time.sleep(0.05)


def _migrate(database: Database, mapping: StockMapping, start: dict[str, Any]) -> tuple[int, str]:
    one = Start(**{"explicit": True, **start})
    stage.locations(database, mapping, one)
    stage.transform(database, mapping, start=one, workers=2)
    found = stage.close(database, mapping, one)
    assert found.migration is not None
    with database.engine.connect() as connection:
        ended = ledger.find(connection, migration_id=found.migration.migration_id)
    assert ended is not None
    if not found.proof.passed:
        raise AssertionError(f"the proof found {found.proof.unexplained}")
    return ended.migration_id, ended.state


def _roll_back(database: Database, mapping: StockMapping, _: dict[str, Any]) -> tuple[int, str]:
    with control.Claim(database.engine) as claim:
        rollback.roll_back(database.engine, mapping, claim)
    with database.engine.connect() as connection:
        # A command that is repeated finds nothing left to undo: the last one is what it undid.
        ended = ledger.find(connection, mapping=mapping.name)
    assert ended is not None
    return ended.migration_id, ended.state


def _worth_repeating(error: MigrationError) -> bool:
    """Whether the condition's own words tell an operator to give the command again."""
    return error.retryable or isinstance(error, MigrationHeld | MigrationPaused | MigrationBusy)


def lend_a_hand(database: Database, mapping: StockMapping, notes: Notes) -> None:
    """Work chunks off, whatever migration of the mapping is running, until killed."""
    _listen(notes)
    while True:
        try:
            with database.engine.connect() as connection:
                if not ledger.installed(connection):
                    time.sleep(0.1)
                    continue
                found = ledger.find(connection, mapping=mapping.name, states=("running",))
                phase = connection.execute(_PHASE, {"id": found and found.migration_id}).scalar()
            if found is None or phase is None:
                time.sleep(0.02)
                continue
            resolved = plan.read_mapping(database.engine, mapping)
            pacing = Pacing(database.engine, mapping, found, Start(explicit=True))
            with closing(pacing):
                work_phase(database.engine, resolved, found, phase, pacing, workers=1)
            time.sleep(0.02)
        except (sa.exc.DBAPIError, psycopg.Error, ServerRestarted, RetriesExhausted) as error:
            # The driver, which meets the same, decides; a hand waits until it has.
            notes.write("met", f"hand_{sqlstate(error) or type(error).__name__}", error)
            time.sleep(0.05)
        except Exception as error:
            notes.write("unforeseen", "hand", type(error).__name__, error)
            raise


def _listen(notes: Notes) -> None:
    logging.getLogger("inventory_migration").setLevel(logging.INFO)
    logging.getLogger("inventory_migration.engine.worker").addHandler(_Acknowledged(notes))


_PHASE = sa.text(f"""
    SELECT min(number) FROM {ledger.SCHEMA}.phase
    WHERE migration_id = :id AND reconciled_at IS NULL
""")
