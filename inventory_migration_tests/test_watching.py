"""One poller for all viewers: what it shows, and what it tells where the database is silent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.watching import DUTY, Poller, Seen, Tier
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.one_server


@pytest.fixture
def poller(target: verbs.Target) -> Iterator[Poller]:
    made = Poller(target)
    yield made
    made.close()


def awaited(look: Callable[[], Seen[Any]], fits: Callable[[Seen[Any]], bool]) -> Seen[Any]:
    """The first look that fits, within two minutes."""
    deadline = time.monotonic() + 120
    while not fits(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def test_viewers_see_what_is_done_meanwhile(database: Database, poller: Poller) -> None:
    stage.shop(database)
    poller.subscribe(1)
    awaited(lambda: poller.latest(1), lambda seen: seen.error is not None)
    stage.locations(database)
    found = awaited(lambda: poller.latest(1), lambda seen: seen.picture is not None)
    assert found.error is None
    assert found.picture["stage"] == "preparing"
    stage.transform(database)
    awaited(lambda: poller.latest(1), lambda seen: seen.picture["percent"] == 99.0)
    poller.unsubscribe(1)
    assert poller.latest(1) == Seen(None, None)


def test_one_slow_answer_was_waited_for_and_two_running_are_what_asking_costs(
    database: Database,
) -> None:
    seconds = iter([0.0, 0.4, 0.0, 0.4, 0.4])
    tier = Tier(lambda one: one.execute(sa.select(sa.func.pg_sleep(next(seconds)))), 0.0, 1.0)
    rests = []
    with database.engine.connect() as connection:
        for _ in range(5):
            tier.read(connection, DUTY)
            rests.append(tier.free - time.monotonic())
    # As after a server that stalled, or a lock: by what it waited it would rest for 20 seconds.
    assert max(rests[:4]) < 5
    assert 15 < rests[4] < 25
