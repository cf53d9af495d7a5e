"""The size of transactions, against a server that is only modelled: no clock, no database."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory_migration.engine.controller import (
    CUT,
    DEAD_BAND,
    GROWTH,
    MOST_CHUNKS,
    SAMPLES,
    Change,
    Controller,
    Goal,
    Took,
)

pytestmark = pytest.mark.one_server

MEGABYTE = 1024**2
ONLINE = Goal(0.5, 16 * MEGABYTE)
WINDOW = Goal(5.0, 160 * MEGABYTE)


@dataclass
class Server:
    """A model of one: what a transaction takes there, in time that nobody waits for.

    Attributes:
        per_chunk: Seconds.
        fixed: Seconds of a transaction of any size.
        wal: Bytes of a chunk.
        noise: By which share a transaction is off, at most.
        spike: Seconds that come on top of the next transaction.
        wait: Seconds that its locks wait for somebody else.
    """

    controller: Controller
    per_chunk: float = 0.02
    fixed: float = 0.005
    wal: float = 0.3 * MEGABYTE
    noise: float = 0.08
    spike: float = 0.0
    wait: float = 0.0
    dice: random.Random = field(default_factory=lambda: random.Random(20261127))  # noqa: S311

    def work(
        self, transactions: int, meanwhile: Callable[[int], None] = lambda _: None
    ) -> list[int]:
        """Work for some transactions; returns how many chunks each took."""
        sizes = []
        for number in range(transactions):
            meanwhile(number)
            sizes.append(self.controller.limit)
            self.one()
        return sizes

    def one(self) -> tuple[float, Change | None]:
        """One transaction of all that it may take."""
        chunks, cuts = self.controller.limit, self.controller.cuts
        off = 1 + self.dice.uniform(-self.noise, self.noise)
        worked = (self.fixed + self.per_chunk * chunks) * off
        seconds, self.spike = worked + self.spike + self.wait, 0.0
        took = Took(chunks, seconds, worked * 0.3 + self.wait, int(self.wal * chunks * off), cuts)
        return seconds, self.controller.took(took)


def near(size: int, wanted: float) -> bool:
    return wanted * (1 - 2 * DEAD_BAND) - 1 <= size <= wanted * (1 + DEAD_BAND) + 1


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("goal", "per_chunk", "fits"),
    [(ONLINE, 0.02, 25), (ONLINE, 0.2, 2.5), (ONLINE, 0.012, 41), (WINDOW, 0.02, 250)],
    ids=["online", "slow", "fast", "window"],
)
def test_the_goal_is_reached_soon_and_kept(
    goal: Goal, per_chunk: float, fits: float, seed: int
) -> None:
    server = Server(Controller(goal), per_chunk, dice=random.Random(seed))  # noqa: S311
    sizes = server.work(60)
    assert near(sizes[15 if goal is ONLINE else 20], fits)
    assert all(near(size, fits) for size in sizes[20:])
    # Within the dead band it does not follow the noise.
    assert len(set(sizes[25:])) <= 3


def test_without_noise_nothing_changes_any_more() -> None:
    server = Server(Controller(ONLINE), noise=0.0)
    server.work(20)
    assert all(server.one()[1] is None for _ in range(200))


def test_wal_bounds_a_transaction_where_time_does_not() -> None:
    server = Server(Controller(ONLINE), per_chunk=0.001, wal=2 * MEGABYTE)
    assert near(server.work(30)[-1], 8)
    server.wal = 0.5 * MEGABYTE
    assert near(server.work(30)[-1], 32)


def test_a_server_that_slows_down_is_followed_down_and_up_again() -> None:
    server = Server(Controller(ONLINE))
    server.work(20)
    server.per_chunk *= 3
    assert near(server.work(12)[-1], 25 / 3)
    server.per_chunk /= 3
    assert near(server.work(15)[-1], 25)


def test_back_pressure_of_all_that_are_at_work_ends_in_a_rest_and_not_at_the_floor() -> None:
    server = Server(Controller(ONLINE))
    queue = [0.0]

    def congest(_: int) -> None:
        # What does not fit into a second is in the way of what comes next.
        queue.append(max(0.0, queue[-1] + server.controller.limit / 40 - 0.5))
        server.per_chunk = 0.02 * (1 + min(2.0, queue[-1]))

    assert all(5 < size < 40 for size in server.work(300, congest)[30:])


def test_one_stall_cuts_to_a_tenth_and_it_comes_back() -> None:
    server = Server(Controller(ONLINE))
    server.work(20)
    before = server.controller.limit
    server.spike = 10.0
    change = server.one()[1]
    assert change is not None
    assert (change.kind, change.before) == ("cut", before)
    assert change.after == before // CUT
    assert "10." in change.reason
    assert near(server.work(20)[-1], 25)


def test_a_failure_takes_half_and_others_of_the_same_time_do_not_cut_again() -> None:
    server = Server(Controller(ONLINE))
    server.work(20)
    before, cuts = server.controller.limit, server.controller.cuts
    change = server.controller.failed(cuts, "canceling statement due to lock timeout")
    assert change == Change("cut", before, before // 2, "canceling statement due to lock timeout")
    assert server.controller.failed(cuts, "the same") is None
    assert server.controller.took(Took(before, 60.0, cuts=cuts)) is None
    assert server.controller.limit == before // 2
    assert server.work(SAMPLES - 1)[-1] == before // 2
    assert near(server.work(15)[-1], 25)


def test_what_the_application_holds_up_makes_no_transaction_smaller() -> None:
    server = Server(Controller(ONLINE))
    server.work(20)
    before = server.controller.limit
    for _ in range(10):
        server.wait = server.dice.choice([0.0, 0.04, 0.4])
        server.one()
    assert server.controller.limit >= before * (1 - DEAD_BAND) - 1


def test_transactions_that_lock_as_they_write_make_no_wait_of_the_locks_of_others() -> None:
    server = Server(Controller(ONLINE), noise=0.0)
    for _ in range(20):
        server.one()
        chunks = server.controller.limit
        server.controller.took(Took(chunks, server.fixed + 0.02 * chunks))
    assert near(server.controller.limit, 25)


def test_more_workers_do_not_climb_over_what_was_tried() -> None:
    controller = Controller(ONLINE)
    for _ in range(SAMPLES):
        controller.took(Took(1, 0.001))
    eight = [controller.limit] * 8
    grown = [controller.took(Took(chunks, 0.001 * chunks)) for chunks in eight]
    assert max(change.after for change in grown if change) <= 2


def test_a_chunk_that_is_too_much_by_itself_is_told_once() -> None:
    server = Server(Controller(ONLINE), per_chunk=4.0)
    told = [server.one()[1] for _ in range(30)]
    assert [change.kind for change in told if change] == ["pinned"]
    assert server.controller.limit == 1
    assert "a chunk takes" in next(change.reason for change in told if change)


TAKES = st.builds(
    Took,
    chunks=st.integers(1, MOST_CHUNKS),
    seconds=st.floats(0, 1e4),
    locking=st.floats(0, 1e4),
    wal_bytes=st.integers(0, 2**50),
    cuts=st.integers(0, 3),
)
HAPPENS = st.one_of(TAKES, st.integers(0, 3))


@given(st.sampled_from([ONLINE, WINDOW, Goal(0.01, 1)]), st.lists(HAPPENS, max_size=60))
def test_whatever_happens_it_keeps_its_bounds(goal: Goal, happens: list[Took | int]) -> None:
    controller, since_cut = Controller(goal), 0
    for one in happens:
        before, cuts = controller.limit, controller.cuts
        if isinstance(one, Took):
            change = controller.took(one)
        else:
            change = controller.failed(one, "a deadlock")
        since_cut = 0 if controller.cuts > cuts else since_cut + isinstance(one, Took)
        assert 1 <= controller.limit <= MOST_CHUNKS
        assert controller.limit <= (before + 1) * GROWTH
        assert controller.cuts <= cuts + 1
        if controller.limit > before:
            assert since_cut >= SAMPLES
            assert isinstance(one, Took)
            assert one.chunks >= before
        if change is None:
            assert controller.limit == before
        else:
            assert (change.before, change.after) == (before, controller.limit)
            assert (change.kind == "grown") == (controller.limit > before)
