"""What is foretold of migrations that never were, held against how they end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory_migration.engine import forecast
from inventory_migration_tests.histories import PREPARING, History, Pause, moment

pytestmark = pytest.mark.one_server

HISTORIES = st.builds(
    History,
    records=st.integers(1, 3_000_000),
    rate=st.floats(200, 20_000),
    workers=st.integers(1, 4),
    rows=st.sampled_from([1_000, 5_000, 20_000]),
    most=st.integers(1, 20),
    noise=st.floats(0, 0.6),
    slower=st.floats(0.3, 4),
    pauses=st.lists(
        st.builds(Pause, st.floats(0, 60), st.floats(5, 100_000), st.booleans()), max_size=2
    ).map(tuple),
    tail=st.floats(0.1, 100),
    seed=st.integers(0, 1_000),
).map(History.play)


@settings(max_examples=30, deadline=None)
@given(HISTORIES, st.floats(0, 1.2))
def test_nothing_is_foretold_that_can_not_be(history: History, share: float) -> None:
    now = share * history.ends
    found = history.picture(now)
    assert 0 <= found["percent"] <= (100 if now >= history.ends else 99)
    assert 0 <= found["active_seconds"] <= found["elapsed_seconds"] + 0.001
    eta = found["eta"]
    if eta is not None:
        assert 0 <= eta["low"] <= eta["seconds"] <= eta["high"]
        assert now < history.ends
    assert history.picture(now, working=False)["eta"] is None
    assert found["rate"]["now"] >= 0
    assert found["rate"]["average"] >= 0


@settings(max_examples=30, deadline=None)
@given(HISTORIES)
def test_percent_only_grows(history: History) -> None:
    seen = [history.picture(step / 20 * history.ends)["percent"] for step in range(22)]
    assert seen == sorted(seen)
    assert seen[-1] == 100.0
    assert all(percent < 100 for percent in seen[:20])


STEADY = st.builds(
    History,
    records=st.integers(1_000_000, 5_000_000),
    rate=st.floats(200, 10_000),
    workers=st.integers(1, 4),
    most=st.integers(1, 10),
    noise=st.floats(0, 0.4),
    pauses=st.lists(
        st.builds(Pause, st.floats(0, 60), st.floats(5, 100_000), st.booleans()), max_size=2
    ).map(tuple),
    seed=st.integers(0, 1_000),
).map(lambda drawn: drawn.play())


def off(history: History, share: float) -> float:
    """By how much the forecast at a share of the records misses, in shares of the whole work."""
    now = history.at_share(share)
    eta = history.picture(now)["eta"]
    # A pause that is still to come is nothing that could be foretold.
    coming = sum(
        min(pause.seconds, begin + pause.seconds - now)
        for begin, pause in history.pauses_at()
        if begin + pause.seconds > now
    )
    left = history.last - now - coming
    return abs(eta["seconds"] - after(history) - left) / history.worked


def after(history: History) -> float:
    """What is foretold of the time after the chunks, which take longer than the snapshot."""
    return forecast.proof_seconds(history.worked, PREPARING / 2)


@settings(max_examples=30, deadline=None)
@given(STEADY)
def test_a_steady_run_is_foretold_within_a_fifth_and_better_and_better(history: History) -> None:
    errors = [off(history, share) for share in (0.1, 0.25, 0.5, 0.75, 0.95)]
    # What nobody said was a pause looks like slow work at first.
    assert errors[0] < (0.4 if history.pauses else 0.2)
    assert errors[-1] < 0.05
    assert max(errors[2:]) < 0.1


@pytest.mark.parametrize("said", [True, False])
def test_a_night_in_which_nobody_works_is_no_time_of_work(said: bool) -> None:
    night = Pause(after=60.0, seconds=36_000.0, said=said)
    history = History(records=2_000_000, pauses=(night,)).play()
    awake = History(records=2_000_000).play()
    asleep = history.picture(10_000, working=False)
    morning = history.picture(history.at_share(0.7))
    expected = awake.picture(awake.at_share(0.7))
    assert asleep["active_seconds"] == pytest.approx(60 + PREPARING, abs=2)
    assert asleep["rate"]["now"] == 0
    assert morning["elapsed_seconds"] > 36_000
    for found, told in ((morning, expected), (asleep, awake.picture(60))):
        assert found["active_seconds"] == pytest.approx(told["active_seconds"], rel=0.05)
        assert found["rate"]["average"] == pytest.approx(told["rate"]["average"], rel=0.05)
    assert morning["eta"]["seconds"] == pytest.approx(expected["eta"]["seconds"], rel=0.1)


def test_what_slows_down_is_foretold_better_the_longer_it_goes_on() -> None:
    history = History(records=2_000_000, slower=3.0).play()
    errors = [off(history, share) for share in (0.1, 0.5, 0.9)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.06


def test_a_band_is_wider_where_chunks_differ_more() -> None:
    def width(noise: float) -> float:
        history = History(records=2_000_000, noise=noise).play()
        eta = history.picture(history.at_share(0.3))["eta"]
        return float(eta["high"] - eta["low"]) / float(eta["seconds"])

    assert width(0.05) < width(0.5) < width(1.5)


def test_few_chunks_and_very_many_are_foretold_alike() -> None:
    few = History(records=12_000, rate=100, rows=1_000, most=1, noise=0.1).play()
    assert off(few, 0.3) < 0.2
    many = History(records=50_000_000, rate=2_500, rows=1_000, most=1, noise=0.3).play()
    assert off(many, 0.1) < 0.05


def test_a_proof_that_takes_longer_than_foretold_never_seems_to_have_ended() -> None:
    history = History(tail=10_000.0).play()
    left = [history.picture(history.last + passed)["eta"]["seconds"] for passed in (5, 60, 900)]
    assert left[0] < after(history)
    assert left[0] > left[1] > 0
    assert left[2] > left[1]


def test_a_hold_and_a_pause_within_it_are_told_once() -> None:
    marks = [
        (moment(0), "state_running"), (moment(10), "health_hold"), (moment(15), "state_paused"),
        (moment(25), "opened_audit_profile"), (moment(30), "health_slow"),
        (moment(40), "health_hold"), (moment(45), "health_hold"), (moment(50), "health_well"),
        (moment(60), "opened_transformed_stock"), (moment(70), "health_hold"),
    ]  # fmt: skip
    idle = forecast.idle_spans(marks, [], first=None, last=None)
    assert forecast.active_seconds(moment(0), moment(80), idle) == 10 + 15 + 20
    assert forecast.active_seconds(moment(72), moment(75), idle) == 0


def test_what_comes_after_the_chunks_is_reckoned_by_the_snapshot() -> None:
    assert forecast.proof_seconds(5.0, 8.0) == 13.0
    assert forecast.proof_seconds(10_000.0, 8.0) == 16.0
    assert forecast.proof_seconds(10.0, None) == 10.0
