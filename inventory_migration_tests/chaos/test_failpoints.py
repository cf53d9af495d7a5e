"""Whatever goes wrong at whichever statement or COMMIT, the end is as if nothing had."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from inventory_migration.embedded import EmbeddedServer
from inventory_migration_tests.chaos import cases
from inventory_migration_tests.chaos.cases import Bench, Failure, Scenario
from inventory_migration_tests.chaos.failpoints import POSSIBLE, Failpoint, Harm, Side
from inventory_migration_tests.chaos.shops import SHOPS

SEED = os.environ.get("SEED", "20261126")
DEEP = os.environ.get("DEEP") == "1"
EVERY = int(os.environ.get("EVERY", "1"))
"""Of the failures, one in so many: all of them take half an hour."""

PARTS = {Scenario.MIGRATE: 8, Scenario.RESUME: 5, Scenario.ROLLBACK: 2}
DRAWN = 200

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7200 if DEEP else 900)]


@pytest.fixture(scope="session")
def bench(server: EmbeddedServer) -> Iterator[Bench]:
    made = Bench(server)
    yield made
    made.close()


def parts(*harms: Harm) -> list[pytest.param]:
    """Every harm, scenario and shape, in parts that several processes can take."""
    return [
        pytest.param(
            harm, scenario, shape, part, id=f"{harm.value}-{scenario.value}-{shape}-{part}"
        )
        for harm in harms
        for scenario in Scenario
        if not (harm is Harm.PAUSE and scenario is Scenario.ROLLBACK)
        for shape in SHOPS
        for part in range(PARTS[scenario])
    ]


def play_all(
    bench: Bench,
    harm: Harm,
    scenario: Scenario,
    shape: str,
    part: int,
    wanted: Callable[[list[Failpoint]], list[Failpoint]],
    note: Callable[[str, object], None],
) -> None:
    """Play every case of a part, and list all that end otherwise than they should."""
    known = bench.undisturbed(shape, scenario).failpoints
    chosen = [p for p in wanted(known) if p.side in POSSIBLE[harm]][part :: PARTS[scenario]]
    failed = []
    for number, point in enumerate(chosen):
        failure = Failure(harm, point.number)
        try:
            # What is given once more costs half as much again: not everywhere.
            again = DEEP or number % 4 == 0
            assert cases.play(bench, shape, scenario, failure, again=again), "never reached"
        except AssertionError as error:
            failed.append(f"{point.number} ({point.side.value}: {point.statement}): {error}")
    note("cases", len(chosen))
    if part == 0:
        note("failpoints", f"{scenario.value} {shape} {len(known)}")
        # Behind the last one nothing is touched, and nothing is different.
        assert not cases.play(bench, shape, scenario, Failure(harm, len(known) + 50))
    assert not failed, "\n".join([f"{len(failed)} of {len(chosen)} failpoints:", *failed])


def one_of_each_stretch(known: list[Failpoint]) -> list[Failpoint]:
    """All that may leave something behind, and one of the reads of each transaction before it."""
    stretches: dict[int, list[Failpoint]] = {}
    for point in known:
        if point.stretch is not None:
            stretches.setdefault(point.stretch, []).append(point)
    read = {cases.drawn(f"{SEED}-{n}").choice(points) for n, points in stretches.items()}
    return [point for point in known if point.stretch is None or point in read]


def one_in(points: list[Failpoint], of: str) -> list[Failpoint]:
    """One in `EVERY` of them, which the seed draws."""
    first = cases.drawn(f"{SEED}-{of}").randrange(max(1, min(EVERY, len(points))))
    return points[first::EVERY]


def both_sides_of_commits(known: list[Failpoint]) -> list[Failpoint]:
    """Before a COMMIT is sent, and after it was acknowledged."""
    return [point for point in known if point.side in {Side.BEFORE, Side.AFTER}]


@pytest.mark.parametrize(("harm", "scenario", "shape", "part"), parts(Harm.EXCEPTION))
def test_an_exception_anywhere(
    bench: Bench,
    harm: Harm,
    scenario: Scenario,
    shape: str,
    part: int,
    record_property: Callable[[str, object], None],
) -> None:
    def wanted(known: list[Failpoint]) -> list[Failpoint]:
        return one_in(one_of_each_stretch(known), of=f"{shape}-{scenario}")

    play_all(bench, harm, scenario, shape, part, wanted, record_property)


@pytest.mark.parametrize(("harm", "scenario", "shape", "part"), parts(Harm.KILL))
def test_a_kill_at_both_sides_of_each_commit(
    bench: Bench,
    harm: Harm,
    scenario: Scenario,
    shape: str,
    part: int,
    record_property: Callable[[str, object], None],
) -> None:
    def wanted(known: list[Failpoint]) -> list[Failpoint]:
        return one_in(both_sides_of_commits(known), of=f"{shape}-{scenario}")

    play_all(bench, harm, scenario, shape, part, wanted, record_property)


@pytest.mark.parametrize("number", range(0, DRAWN, EVERY))
def test_two_drawn_failures_one_after_the_other(
    bench: Bench, number: int, record_property: Callable[[str, object], None]
) -> None:
    chosen = cases.drawn(f"{SEED}-{number}")
    shape, scenario = chosen.choice([*SHOPS]), chosen.choice([*Scenario])
    harms = [h for h in Harm if h is not Harm.PAUSE or scenario is not Scenario.ROLLBACK]
    known = bench.undisturbed(shape, scenario).failpoints
    failures = []
    for at_hand in (harms, [harm for harm in harms if harm is not Harm.KILL]):
        harm = chosen.choice(at_hand)
        points = [p for p in one_of_each_stretch(known) if p.side in POSSIBLE[harm]]
        failures.append(Failure(harm, chosen.choice(points).number))
    record_property("cases", 1)
    told = [(f.harm.value, f.at, known[f.at - 1].statement) for f in failures]
    try:
        assert cases.play(bench, shape, scenario, *failures)
    except AssertionError as error:
        raise AssertionError(f"{scenario.value} of {shape}, {told}: {error}") from error


@pytest.mark.skipif(not DEEP, reason="every harm at every failpoint takes hours; DEEP=1")
@pytest.mark.parametrize(("harm", "scenario", "shape", "part"), parts(*Harm))
def test_every_harm_at_every_failpoint(
    bench: Bench,
    harm: Harm,
    scenario: Scenario,
    shape: str,
    part: int,
    record_property: Callable[[str, object], None],
) -> None:
    play_all(bench, harm, scenario, shape, part, lambda known: known, record_property)
