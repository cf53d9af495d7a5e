"""A case: a shop, one or two failures on the way, and an operator who gives the command again.

Every case works in a copy of a prepared database, under one name for each test process, so that
engines and their compiled statements serve all of them.
"""

from __future__ import annotations

import enum
import os
import random
import threading
import time
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn
from unittest.mock import patch

import psycopg
import sqlalchemy as sa

from inventory_migration import steering
from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import create_engine, quoted
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import (
    control,
    controller,
    gates,
    ledger,
    phases,
    plan,
    reconcile,
    rollback,
)
from inventory_migration.engine.plan import Start
from inventory_migration.errors import (
    MigrationBusy,
    MigrationError,
    MigrationHeld,
    MigrationPaused,
)
from inventory_migration.mapping import StockLevel
from inventory_migration.verbs import Target
from inventory_migration_tests.chaos.failpoints import Failpoint, Harm, InjectedError, Side, Wire
from inventory_migration_tests.chaos.invariants import Observer
from inventory_migration_tests.chaos.shops import SHOPS, content
from inventory_migration_tests.conftest import run_psql

COMMANDS = 8
"""How often an operator gives a command before they give up."""


class Scenario(enum.Enum):
    """What is done when the failure comes."""

    MIGRATE = "migrate"
    RESUME = "resume"
    ROLLBACK = "rollback"


@dataclass(frozen=True)
class Failure:
    """A harm at a failpoint."""

    harm: Harm
    at: int


@dataclass(frozen=True)
class Undisturbed:
    """A scenario without any failure: what it passes, and what it leaves behind."""

    failpoints: list[Failpoint]
    content: dict[str, list[Any]]


@dataclass
class Bench:
    """The database of one test process, and what it is copied from.

    Attributes:
        server: Where it is.
    """

    server: EmbeddedServer
    _made: set[str] = field(default_factory=set)
    _known: dict[tuple[str, Scenario], Undisturbed] = field(default_factory=dict)
    _resolved: dict[str, ResolvedMapping] = field(default_factory=dict)

    @cached_property
    def name(self) -> str:
        """The database that every case works in."""
        return f"case_{os.getpid()}"

    @cached_property
    def url(self) -> str:
        """How to connect to it."""
        return self.server.url.replace("/inventory?", f"/{self.name}?")

    @cached_property
    def admin(self) -> psycopg.Connection:
        """A session elsewhere, to copy and drop by."""
        return psycopg.connect(self.server.url, autocommit=True)

    @cached_property
    def wire(self) -> Wire:
        """The engine that failures happen to."""
        return Wire(create_engine(self.url))

    @cached_property
    def fresh(self) -> Wire:
        """The engine of whoever gives the command again."""
        return Wire(create_engine(self.url))

    @cached_property
    def plain(self) -> sa.Engine:
        """An engine that nobody watches."""
        return create_engine(self.url)

    def close(self) -> None:
        """Leave nothing behind."""
        for name in [self.name, *self._made]:
            self.admin.execute(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")
        self.admin.close()

    def prepare(self, shape: str, scenario: Scenario) -> None:
        """Put the database where a scenario begins."""
        template = f"{self.name}_{shape}_{scenario.value}"
        if template not in self._made:
            self._build(shape, scenario)
            self.admin.execute(_ALONE, [self.name])
            self.admin.execute(f"ALTER DATABASE {quoted(self.name)} RENAME TO {quoted(template)}")
            self._made.add(template)
        self.admin.execute(f"DROP DATABASE IF EXISTS {quoted(self.name)} WITH (FORCE)")
        # What is small is copied faster as files than through the log.
        by_files = " STRATEGY file_copy" if self.admin.info.server_version >= 150_000 else ""
        self.admin.execute(
            f"CREATE DATABASE {quoted(self.name)} TEMPLATE {quoted(template)}{by_files}"
        )

    def _build(self, shape: str, scenario: Scenario) -> None:
        shop = SHOPS[shape]
        if scenario is Scenario.MIGRATE:
            self.admin.execute(f"DROP DATABASE IF EXISTS {quoted(self.name)} WITH (FORCE)")
            self.admin.execute(f"CREATE DATABASE {quoted(self.name)} TEMPLATE template0")
            run_psql(self.server, self.url, shop.sql)
            return
        commits = [
            point.number
            for point in self.undisturbed(shape, Scenario.MIGRATE).failpoints
            if point.side is Side.AFTER
        ]
        self.prepare(shape, Scenario.MIGRATE)
        if scenario is Scenario.RESUME:
            found: list[str] = []
            failure = Failure(Harm.KILL, commits[len(commits) // 2])
            assert in_a_child(self, shape, Scenario.MIGRATE, failure, found)
            assert found == []
            with psycopg.connect(self.url) as connection:
                states = connection.execute(_CHUNK_STATES).fetchall()
            assert len(states) == 2, f"not in the middle: {states}"
        else:
            migrate(self, self.wire, shape)

    def undisturbed(self, shape: str, scenario: Scenario) -> Undisturbed:
        """What a scenario is without failures; found out once."""
        known = self._known.get((shape, scenario))
        if known is None:
            self.prepare(shape, scenario)
            found: list[str] = []
            observer = Observer(self.url, SHOPS[shape], found.append)
            self.wire.committed = observer.look
            self.wire.disarm()
            give_command(self, self.wire, shape, scenario)
            passed = [*self.wire.passed]
            assert found == []
            assert observer.looks > 0
            observer.close()
            known = Undisturbed(passed, self.content(shape))
            self._known[shape, scenario] = known
        return known

    def content(self, shape: str, *, ledger: bool = True) -> dict[str, list[Any]]:
        """What must be equal in the end."""
        with psycopg.connect(self.url) as connection:
            return content(connection, SHOPS[shape], ledger=ledger)

    def pass_gate(self, shape: str, suite: str) -> None:
        """Let the next step write, as a passing suite would; by a session that nobody watches."""
        mapping = SHOPS[shape].mapping
        if shape not in self._resolved:
            self._resolved[shape] = plan.read_mapping(self.plain, mapping)
        resolved = self._resolved[shape]
        with self.plain.begin() as connection:
            ledger.install(connection)
            judged = gates.fingerprint(connection, resolved, suite)
            gates.record(connection, resolved, suite, passed=True, judged=judged, verdict={})


def migrate(bench: Bench, wire: Wire, shape: str, *, resume: bool = False) -> bool:
    """All steps of a run, or of a resume; returns whether anything changed."""
    engine, mapping = wire.engine, SHOPS[shape].mapping
    start = Start(explicit=True, resume=resume, write_stop=isinstance(mapping.target, StockLevel))
    bench.pass_gate(shape, "audit_profile")
    # Statements are numbered: how many transactions there are must not follow from the clock.
    with control.Claim(engine) as claim, patch.object(controller, "GROWTH", 1.0):
        plan.prepare_locations(engine, mapping, claim, start)
        bench.pass_gate(shape, "default_locations")
        phases.transform_stock(engine, mapping, claim, start, workers=1)
        bench.pass_gate(shape, "transformed_stock")
        found = reconcile.reconcile(engine, mapping, claim, start, workers=1)
    if not found.proof.passed:
        raise AssertionError(f"the proof found {found.proof.unexplained}")
    return found.changed


def roll_back(wire: Wire, shape: str) -> bool:
    """A rollback; returns whether there was anything to undo."""
    with control.Claim(wire.engine) as claim:
        return bool(rollback.roll_back(wire.engine, SHOPS[shape].mapping, claim, workers=1))


def give_command(
    bench: Bench, wire: Wire, shape: str, scenario: Scenario, *, resume: bool = False
) -> bool:
    """Give a scenario's command; returns whether it changed anything."""
    if scenario is Scenario.ROLLBACK:
        return roll_back(wire, shape)
    return migrate(bench, wire, shape, resume=resume)


def play(
    bench: Bench, shape: str, scenario: Scenario, *failures: Failure, again: bool = True
) -> bool:
    """Play a case through: each failure hits one command after another, and then all ends well.

    Args:
        bench: Where.
        shape: Whose shop.
        scenario: What is done when the first failure comes.
        failures: What hits the first command, the second, and so on.
        again: Whether to give the command once more in the end, which must change nothing.

    Returns:
        Whether the first failpoint was reached at all.
    """
    expected = bench.undisturbed(shape, scenario)
    bench.prepare(shape, scenario)
    found: list[str] = []
    first, *later = failures
    if first.harm is Harm.KILL:
        touched = in_a_child(bench, shape, scenario, first, found)
        error: Exception | None = None
    else:
        touched, error = in_process(bench, bench.wire, shape, scenario, first, found)
    _finish(bench, shape, scenario, later, found, error)
    assert found == []
    now = bench.content(shape)
    for name, rows in expected.content.items():
        assert now[name] == rows, name
    if again:
        bench.fresh.committed = lambda: None
        assert not give_command(bench, bench.fresh, shape, scenario)
        assert bench.content(shape) == now
    _no_lock_left(bench)
    return touched


def in_process(
    bench: Bench,
    wire: Wire,
    shape: str,
    scenario: Scenario,
    failure: Failure | None,
    found: list[str],
    *,
    resume: bool = False,
) -> tuple[bool, Exception | None]:
    """Give a command that a failure hits; returns whether it did, and what the operator saw."""
    observer = Observer(bench.url, SHOPS[shape], found.append)
    asked: list[threading.Thread] = []

    def pause() -> None:
        thread = threading.Thread(target=_pause, args=(bench, shape, observer, found))
        thread.start()
        asked.append(thread)

    wire.committed, wire.pause = observer.look, pause
    if failure is None:
        wire.disarm()
    else:
        wire.arm(failure.at, failure.harm)
    error = None
    try:
        give_command(bench, wire, shape, scenario, resume=resume)
    except (MigrationError, sa.exc.DBAPIError, InjectedError) as raised:
        error = raised
    finally:
        for thread in asked:
            thread.join()
        observer.look()
        observer.close()
    touched = wire.touched
    wire.disarm()
    return touched, error


def _pause(bench: Bench, shape: str, observer: Observer, found: list[str]) -> None:
    target = Target(
        engine=bench.plain, reader=create_engine(bench.url, read_only=True), parameters={}
    )
    try:
        answered = steering.pause(target, SHOPS[shape].mapping.name)
    except MigrationError as error:
        found.append(f"pause was refused: {error}")
        return
    if answered["changed"]:
        observer.pause_returned()


def in_a_child(
    bench: Bench, shape: str, scenario: Scenario, failure: Failure, found: list[str]
) -> bool:
    """Give a command in a process of its own; returns whether it was killed on the way."""
    theirs, ours = os.pipe()
    with warnings.catch_warnings():
        # Threads of the test's runner are none of the child's business.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _child(bench, shape, scenario, failure, ours)
    os.close(ours)
    with os.fdopen(theirs) as told:
        found += told.read().splitlines()
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def _child(
    bench: Bench, shape: str, scenario: Scenario, failure: Failure, answers: int
) -> NoReturn:
    def tell(sentence: str) -> None:
        os.write(answers, f"{sentence}\n".replace("\n", " ").encode() + b"\n")

    try:
        observer = Observer(bench.url, SHOPS[shape], tell)
        bench.wire.committed = observer.look
        bench.wire.arm(failure.at, failure.harm)
        give_command(bench, bench.wire, shape, scenario)
    except BaseException as error:
        tell(f"the process ended by {type(error).__name__}: {error}")
    finally:
        os._exit(0)


def _finish(
    bench: Bench,
    shape: str,
    scenario: Scenario,
    failures: list[Failure],
    found: list[str],
    error: Exception | None,
) -> None:
    """Give the command again until it is through, with what its answers tell an operator to do."""
    failures, told = [*failures], [error]
    for _ in range(COMMANDS):
        failure = failures.pop(0) if failures else None
        resume = isinstance(told[-1], MigrationPaused | MigrationHeld)
        hit, error = in_process(bench, bench.fresh, shape, scenario, failure, found, resume=resume)
        told.append(error)
        if error is None and not failures:
            return
        if not (hit or isinstance(error, MigrationPaused | MigrationHeld | MigrationBusy)):
            break
        # A server needs a moment to notice that a process was killed.
        time.sleep(0.05 if isinstance(error, MigrationBusy) else 0)
    raise AssertionError(f"not through after {told}") from told[-1]


def _no_lock_left(bench: Bench) -> None:
    deadline = time.monotonic() + 10
    while left := bench.admin.execute(_LOCKS, [bench.name]).fetchall():
        assert time.monotonic() < deadline, f"locks are left behind: {left}"
        time.sleep(0.01)


def drawn(seed: str) -> random.Random:
    """What a seed stands for."""
    return random.Random(seed)  # noqa: S311 - a reproducible schedule


_ALONE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"

_CHUNK_STATES = """
    SELECT DISTINCT state FROM inventory_migration.chunk WHERE state IN ('pending', 'done')
"""

_LOCKS = """
    SELECT l.locktype, l.mode, a.application_name, a.query
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    JOIN pg_database d ON d.oid = l.database
    WHERE d.datname = %s AND a.backend_type = 'client backend'
"""
