"""When workers may go and how fast: windows by several clocks, a limit of records, waiting."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory_migration import steering
from inventory_migration.engine import control, ledger, plan
from inventory_migration.engine.controller import Goal
from inventory_migration.engine.pacing import Pacing, RateLimit, goal_of
from inventory_migration.engine.phases import set_running
from inventory_migration.engine.plan import Start
from inventory_migration.engine.snapshot import write_snapshot
from inventory_migration.engine.worker import work_phase
from inventory_migration.errors import MigrationAborted, MigrationPaused
from inventory_migration.mapping import Window
from inventory_migration.mapping.health import opens_at
from inventory_migration.verbs import open_target
from inventory_migration_tests import stage
from inventory_migration_tests.commands import answer, im, mapping_file, program
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.sessions import until

pytestmark = pytest.mark.one_server


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(1, 500)),
        st.tuples(st.just("settle"), st.floats(0, 1)),
        st.tuples(st.just("wait"), st.floats(0, 20)),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(rate=st.integers(1, 1000), steps=STEPS)
def test_in_no_stretch_of_time_more_records_begin_to_move_than_fit_into_it(
    rate: int, steps: list[tuple[str, Any]]
) -> None:
    clock = Clock()
    limit = RateLimit(rate, clock)
    begun: list[list[float]] = []
    open_turns: list[tuple[int, tuple[float, float], int]] = []
    for step, size in steps:
        if step == "wait":
            clock.now += size
        elif step == "reserve":
            reserved = limit.reserve(size)
            assert reserved[0] >= clock.now
            open_turns.append((len(begun), reserved, size))
            begun.append([reserved[0], size])
        elif open_turns:
            number, reserved, rows = open_turns.pop(int(size * (len(open_turns) - 1)))
            begun[number][1] = int(rows * size)
            limit.settle(reserved, int(rows * size))
    for first, last in combinations(range(len(begun)), 2):
        moved = sum(rows for _, rows in begun[first:last])
        assert moved <= rate * (begun[last][0] - begun[first][0]) + 1e-6


@settings(deadline=None)
@given(rate=st.integers(1, 1000), sizes=st.lists(st.integers(1, 500), min_size=1, max_size=30))
def test_the_limit_is_reached_where_there_is_enough_to_move(rate: int, sizes: list[int]) -> None:
    clock = Clock()
    limit = RateLimit(rate, clock)
    for size in sizes:
        clock.now = limit.reserve(size)[0]
    assert clock.now - 1000 == pytest.approx(sum(sizes[:-1]) / rate)


def test_what_was_reserved_and_did_not_move_is_given_back() -> None:
    clock = Clock()
    limit = RateLimit(10, clock)
    limit.settle(limit.reserve(1000), 10)
    assert limit.reserve(1)[0] == clock.now + 1


ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC, microsecond=0)
)
TIMES = st.times().map(lambda value: f"{value:%H:%M}")
DAYS = st.lists(
    st.sampled_from(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]), min_size=1, unique=True
)
WINDOWS = st.builds(
    lambda days, opens, closes, zone: Window.model_validate(
        {"days": days, "from": opens, "to": closes, "time_zone": zone}
    ),
    DAYS,
    TIMES,
    TIMES,
    st.sampled_from(ZONES),
)

BY_THE_SERVER = """
    SELECT CASE WHEN opens < closes
                THEN today = ANY(days) AND clock >= opens AND clock < closes
                ELSE today = ANY(days) AND clock >= opens
                  OR yesterday = ANY(days) AND clock < closes END
    FROM (SELECT %(days)s::text[] AS days, %(opens)s::time AS opens, %(closes)s::time AS closes,
                 wall::time AS clock, to_char(wall, 'dy') AS today,
                 to_char(wall - interval '1 day', 'dy') AS yesterday
          FROM (SELECT %(moment)s::timestamptz AT TIME ZONE %(zone)s AS wall) AS w) AS v
"""


@pytest.fixture(scope="module")
def calendar(server: Any) -> Iterator[psycopg.Connection]:
    """The server's own idea of time zones."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        yield connection


@settings(deadline=None)
@given(window=WINDOWS, moment=MOMENTS)
def test_a_window_is_open_when_the_servers_calendar_says_so(
    calendar: psycopg.Connection, window: Window, moment: datetime
) -> None:
    asked = {
        "days": list(window.days),
        "opens": window.from_,
        "closes": window.to,
        "zone": window.time_zone,
        "moment": moment,
    }
    row = calendar.execute(BY_THE_SERVER, asked).fetchone()
    assert row is not None
    assert window.is_open(moment) == row[0]


@settings(max_examples=50, deadline=None)
@given(windows=st.lists(WINDOWS, min_size=1, max_size=3), moment=MOMENTS)
def test_an_opening_is_told_to_the_minute(windows: list[Window], moment: datetime) -> None:
    found = opens_at(windows, moment)
    assert found is not None
    assert found >= moment
    assert any(window.is_open(found) for window in windows)
    before = found - timedelta(seconds=1)
    assert found == moment or not any(window.is_open(before) for window in windows)


def window(**says: Any) -> Window:
    return Window.model_validate({"time_zone": "Europe/Berlin", **says})


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_opens() -> None:
    friday = window(days=["fri"], **{"from": "22:00", "to": "05:00"})
    assert friday.is_open(datetime(2026, 11, 28, 3, 59, tzinfo=UTC))  # Saturday, 04:59
    assert not friday.is_open(datetime(2026, 11, 28, 4, 0, tzinfo=UTC))
    assert not friday.is_open(datetime(2026, 11, 28, 21, 30, tzinfo=UTC))
    assert not friday.is_open(datetime(2026, 11, 27, 3, 0, tzinfo=UTC))  # Friday, 04:00


def test_where_clocks_are_put_forward_a_window_opens_with_the_first_minute_there_is() -> None:
    spring = window(**{"from": "02:30", "to": "04:00"})
    opens = opens_at([spring], datetime(2026, 3, 29, 0, 30, tzinfo=UTC))
    assert opens == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)  # 03:00, right after 01:59
    swallowed = window(days=["sun"], **{"from": "02:15", "to": "02:45"})
    opens = opens_at([swallowed], datetime(2026, 3, 29, 0, 0, tzinfo=UTC))
    assert opens == datetime(2026, 4, 5, 0, 15, tzinfo=UTC)


def test_where_clocks_are_put_back_an_hour_counts_twice() -> None:
    autumn = window(**{"from": "02:00", "to": "03:00"})
    begin = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)
    open_minutes = sum(autumn.is_open(begin + timedelta(minutes=n)) for n in range(300))
    assert open_minutes == 120


def closed(hours: int = 3) -> dict[str, Any]:
    """A window that opens so many hours from now, for an hour."""
    opens = datetime.now(UTC) + timedelta(hours=hours)
    closes = opens + timedelta(hours=1)
    return {"window": {"from": f"{opens:%H:%M}", "to": f"{closes:%H:%M}"}}


@contextmanager
def working(database: Database, **options: Any) -> Iterator[Callable[[], BaseException | None]]:
    """A migration under way in a thread; gives what waits for its end, and returns its error."""
    ended: list[BaseException | None] = []

    def work() -> None:
        try:
            stage.transform(database, **options)
            ended.append(None)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()

    def end(seconds: float = 20) -> BaseException | None:
        thread.join(seconds)
        assert ended, f"still at work after {seconds} s"
        return ended[0]

    try:
        yield end
    finally:
        if thread.is_alive():
            control.pause(database.engine, 1, reason="the test is over")
            thread.join(20)


def migrated(database: Database) -> int:
    return int(database.psql("SELECT count(location_id) FROM stock_items"))


def health_events(database: Database) -> list[str]:
    told = database.psql(
        "SELECT kind FROM inventory_migration.event WHERE kind ~ '^health_' ORDER BY event_id"
    )
    return told.splitlines()


def status(database: Database) -> Any:
    return answer("status", "--database-url", database.url)[0]


def test_outside_of_its_window_a_migration_waits_and_status_says_until_when(
    database: Database,
) -> None:
    stage.shop(database)
    nightly = stage.mapping(health=closed())
    stage.locations(database, nightly)
    with working(database, mapping=nightly) as end:
        until(lambda: health_events(database), "a hold")
        time.sleep(0.5)
        assert migrated(database) == 0
        assert health_events(database) == ["health_hold"]
        found = status(database)
        assert (found["state"], found["working"]) == ("running", True)
        assert found["health"]["verdict"] == "hold"
        (reason,) = found["health"]["reasons"]
        assert reason["measure"] == "window"
        assert str(nightly.health.window[0]) in reason["text"]
        opens = opens_at(list(nightly.health.window), datetime.now(UTC))
        assert opens is not None
        assert opens.isoformat(" ", "minutes") in reason["text"]
        shown = im("status", "--database-url", database.url).stdout
        assert "waits since" in shown
        assert "outside of the window" in shown
        open_transactions = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
        )
        assert database.psql(open_transactions) == "0"
        began = time.monotonic()
        steering.pause(open_target(database.url), "shop", reason="lunch")
        assert time.monotonic() - began < 1
        error = end(2)
        assert isinstance(error, MigrationPaused)
        assert error.reason == "lunch"
    assert migrated(database) == 0


def test_a_migration_that_waits_can_be_aborted(database: Database) -> None:
    stage.shop(database)
    nightly = stage.mapping(health=closed())
    stage.locations(database, nightly)
    with working(database, mapping=nightly) as end:
        until(lambda: health_events(database), "a hold")
        steering.abort(open_target(database.url), "shop")
        assert isinstance(end(2), MigrationAborted)


def test_a_window_is_lifted_by_whoever_starts(database: Database) -> None:
    stage.shop(database)
    nightly = stage.mapping(health=closed())
    stage.locations(database, nightly)
    stage.transform(database, nightly, start=Start(explicit=True, no_window=True))
    assert stage.outcomes(database) == {"migrated": 30}
    assert health_events(database) == []


def test_a_maintenance_window_makes_transactions_longer_and_opens_no_hours(
    database: Database,
) -> None:
    declared = Start(maintenance_window=True)
    assert goal_of(stage.MAPPING, Start()) == Goal(0.5, 16 * 1024**2)
    assert goal_of(stage.MAPPING, declared) == Goal(5.0, 160 * 1024**2)
    patient = stage.mapping(chunk={"rows": 5, "target_ms": 60_000})
    assert goal_of(patient, declared) == goal_of(patient, Start())
    nightly = stage.mapping(health=closed())
    _, migration = planned(database, nightly)
    with closing(Pacing(database.engine, nightly, migration, declared)) as pacing:
        assert pacing.tend()
        assert pacing.holding is not None
        assert pacing.holding.kinds == {("window", "hold")}


def test_nobody_takes_all_that_is_left_of_a_phase(database: Database) -> None:
    _, migration = planned(database, stage.MAPPING)
    stop, taken = threading.Event(), [0]
    with closing(Pacing(database.engine, stage.MAPPING, migration, Start())) as pacing:
        for _ in range(30):
            quick = pacing.admit(stop)
            assert quick is not None
            quick.done, quick.seconds = quick.chunks, 0.0001
            pacing.finish(quick, stop)
        # Where pages are met again, what is under way is half of a pass at most.
        pacing.begin_phase(2000, 2, of_pass=128)
        part = pacing.admit(stop)
        assert part is not None
        assert part.chunks == 32
        pacing.finish(part, stop)
        pacing.begin_phase(80, 2)
        one, other = pacing.admit(stop), pacing.admit(stop)
        assert one is not None
        assert other is not None
        assert (one.chunks, other.chunks) == (20, 15)
        # One that failed leaves its part to the others.
        for failed in (one, other):
            pacing.finish(failed, stop)
        while sum(taken) < 80:
            turn = pacing.admit(stop)
            assert turn is not None
            turn.done = turn.chunks
            taken.append(turn.done)
            pacing.finish(turn, stop)
    assert taken[1:4] == [20, 15, 11]
    assert taken[-4:] == [1, 1, 1, 1]


def test_work_begins_when_the_window_opens_and_waits_until_then(database: Database) -> None:
    nightly = stage.mapping(health={"window": {"from": "22:00", "to": "05:00"}})
    resolved, migration = planned(database, nightly)
    now = datetime(2026, 11, 26, 21, 59, 59, tzinfo=UTC)
    restrained = Pacing(
        database.engine, nightly, migration, Start(), calendar=lambda: now
    )  # fmt: skip
    thread = threading.Thread(
        target=work_phase,
        args=(database.engine, resolved, migration, 1, restrained),
        kwargs={"workers": 2},
    )
    thread.start()
    until(lambda: health_events(database), "a hold")
    time.sleep(0.3)
    assert migrated(database) == 0
    now = datetime(2026, 11, 26, 22, 0, tzinfo=UTC)
    thread.join(20)
    assert migrated(database) == 30
    assert health_events(database) == ["health_hold", "health_well"]
    restrained.close()


def planned(database: Database, mapping: Any) -> tuple[Any, ledger.Migration]:
    """A migration whose chunks are there to be worked off."""
    stage.shop(database)
    migration = stage.locations(database, mapping)
    assert migration is not None
    resolved = plan.read_mapping(database.engine, mapping)
    write_snapshot(database.engine, resolved, migration)
    set_running(database.engine, migration)
    return resolved, migration


TOOK = """
    SELECT extract(epoch FROM max(started_at) - min(started_at)) FROM inventory_migration.chunk
"""


@pytest.mark.slow
@pytest.mark.parametrize("says", ["mapping", "start"])
def test_all_workers_together_stay_under_the_limit_of_records(
    database: Database, says: str
) -> None:
    stage.shop(database, items=60)
    limited = stage.mapping(health={"max_rows_per_second": 20 if says == "mapping" else 1})
    stage.locations(database, limited)
    start = Start(explicit=True, max_rows_per_second=20 if says == "start" else None)
    with working(database, mapping=limited, start=start, workers=4) as end:
        until(lambda: migrated(database) > 5, "the first chunks")
        found = status(database)
        assert found["health"]["max_rows_per_second"] == 20
        assert found["health"]["verdict"] == "well"
        assert (
            "at most 20 records per second" in im("status", "--database-url", database.url).stdout
        )
        assert end() is None
    # The last of 12 chunks begins 55 records after the first, whoever takes it.
    assert 2.4 < float(database.psql(TOOK)) < 10
    assert stage.outcomes(database) == {"migrated": 60}


def test_a_limit_below_a_chunk_holds_on_average_and_a_pause_does_not_wait_for_it(
    database: Database,
) -> None:
    stage.shop(database)
    slow = stage.mapping(health={"max_rows_per_second": 1})
    stage.locations(database, slow)
    with working(database, mapping=slow) as end:
        until(lambda: migrated(database), "the first chunk")
        began = time.monotonic()
        steering.pause(open_target(database.url), "shop")
        assert time.monotonic() - began < 1
        assert isinstance(end(2), MigrationPaused)
    assert migrated(database) == 5


def test_a_failed_claim_of_a_turn_costs_no_records(database: Database) -> None:
    fast = stage.mapping(health={"max_rows_per_second": 5000}, chunk={"rows": 5})
    stage.shop(database, items=0)
    stage.locations(database, fast)
    began = time.monotonic()
    stage.transform(database, fast)
    assert time.monotonic() - began < 5


@pytest.mark.slow
@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_command_that_waits_for_its_window_ends_paused_within_seconds(
    database: Database, tmp_path: Path, ended_by: signal.Signals
) -> None:
    stage.shop(database)
    file = mapping_file(tmp_path, health=closed())
    process = program("run", "--mapping", str(file), "--database-url", database.url, "--json")
    try:
        ledger_there = "SELECT to_regclass('inventory_migration.event') IS NOT NULL"
        until(lambda: database.psql(ledger_there) == "t", "a ledger", 60)
        until(lambda: health_events(database), "a hold", 60)
        process.send_signal(ended_by)
        told, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 4, errors
    assert json.loads(told)["error"]["kind"] == "MigrationPaused"
    assert migrated(database) == 0
    done = answer("resume", "--mapping", file, "--database-url", database.url, "--no-window",
                  "--window", "--max-rows-per-second", "1000")  # fmt: skip
    assert done["state"] == "verified"


def test_dagster_has_the_same_options() -> None:
    from inventory_migration.defs.options import RunOptions

    options = RunOptions(
        max_rows_per_second=7, maintenance_window=True, no_window=True, resume=True, workers=3
    )
    assert options.start("run") == Start(
        run_id="run",
        resume=True,
        max_rows_per_second=7,
        maintenance_window=True,
        no_window=True,
    )
