"""One poller for all viewers: what it shows, and what it tells where the database is silent."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from inventory_migration import verbs, watching
from inventory_migration.engine import control, ledger, watched
from inventory_migration.watching import Poller, Seen
from inventory_migration_tests import stage, test_worker
from inventory_migration_tests.conftest import SECRET, Database

pytestmark = pytest.mark.one_server

SESSIONS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'inventory-migration watching'
"""

AT_WORK = """
    SELECT count(*) FROM pg_locks
    WHERE locktype = 'advisory'
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture
def poller(target: verbs.Target) -> Iterator[Poller]:
    made = Poller(target)
    yield made
    made.close()


@pytest.fixture
def planned(database: Database) -> Database:
    """A migration that nobody has begun to work on."""
    stage.shop(database)
    stage.locations(database)
    return database


def awaited(look: Callable[[], Seen[Any]], fits: Callable[[Seen[Any]], bool]) -> Seen[Any]:
    """The first look that fits, within two minutes."""
    deadline = time.monotonic() + 120
    while not fits(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def shown(poller: Poller) -> Seen[Any]:
    """The first picture of migration 1, with everything well."""
    return awaited(
        lambda: poller.latest(1), lambda seen: seen.picture is not None and seen.error is None
    )


def test_viewers_see_what_is_done_meanwhile(database: Database, poller: Poller) -> None:
    poller.subscribe(1)
    unknown = awaited(lambda: poller.latest(1), lambda seen: seen.error is not None)
    assert unknown.error is not None
    assert "no migration 1" in unknown.error
    # The database has answered, and so nothing here is old.
    assert unknown.age_seconds is not None
    stage.shop(database)
    stage.locations(database)
    found = shown(poller)
    assert found.picture["stage"] == "preparing"
    stage.transform(database)
    poller.refresh(1)
    awaited(lambda: poller.latest(1), lambda seen: seen.picture["percent"] == 99.0)
    poller.unsubscribe(1)
    assert poller.latest(1) == Seen()


def test_all_viewers_share_one_session_that_can_not_write(
    planned: Database, poller: Poller
) -> None:
    for _ in range(20):
        poller.subscribe(1)
    poller.subscribe()
    found = shown(poller)
    awaited(poller.listed, lambda seen: seen.picture is not None)
    [listed] = poller.listed().picture or []
    assert [listed | {"elapsed_seconds": 0}] == [
        told | {"elapsed_seconds": 0} for told in watching.glance(verbs.open_target(planned.url))
    ]
    assert len(planned.psql(SESSIONS).splitlines()) == 1
    with poller._connect() as connection, pytest.raises(sa.exc.InternalError, match="read-only"):
        connection.execute(sa.text("CREATE TABLE written (id int)"))
    for _ in range(19):
        poller.unsubscribe(1)
    assert poller.latest(1).picture is not None
    assert found.picture is not None
    poller.close()
    assert planned.psql(SESSIONS) == ""


def test_it_asks_for_nothing_that_nobody_looks_at(planned: Database, poller: Poller) -> None:
    poller.subscribe(1)
    shown(poller)
    poller.unsubscribe(1)
    state = planned.psql(SESSIONS.replace("pid", "query_start"))
    time.sleep(2 * watched.PULSE_SECONDS)
    assert planned.psql(SESSIONS.replace("pid", "query_start")) == state


def test_within_two_seconds_of_a_kill_nobody_is_working(database: Database, poller: Poller) -> None:
    stage.shop(database, items=300)
    stage.locations(database)
    database.psql(test_worker.SLOW)
    process = test_worker.started(database)
    poller.subscribe(1)
    found = awaited(
        lambda: poller.latest(1),
        lambda seen: seen.picture is not None and seen.picture["working"]["workers"] > 0,
    )
    assert found.picture["working"]["driver"]
    assert (found.picture["state"], found.picture["stage"]) == ("running", "moving")
    assert found.picture["rate"]["now"] > 0
    process.send_signal(signal.SIGKILL)
    process.wait()
    # On a machine that has too much to do a server takes its time to notice, and is no liar.
    while database.psql(AT_WORK) != "0":
        time.sleep(0.01)
    gave_up = time.monotonic()
    dead = awaited(lambda: poller.latest(1), lambda seen: not seen.picture["working"]["driver"])
    gone = awaited(lambda: poller.latest(1), lambda seen: not seen.picture["working"]["workers"])
    assert time.monotonic() - gave_up < 3
    assert (dead.picture["state"], dead.picture["eta"]) == ("running", None)
    assert dead.picture["rate"]["now"] == 0
    # What follows is no work, however long it takes until somebody comes.
    awaited(lambda: poller.latest(1), lambda seen: seen.picture["at"] > gone.picture["at"])
    later = poller.latest(1).picture
    assert later["elapsed_seconds"] > gone.picture["elapsed_seconds"]
    assert later["active_seconds"] == pytest.approx(gone.picture["active_seconds"], abs=0.3)


def test_a_server_that_falls_silent_is_told_and_left(
    planned: Database, poller: Poller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(watching, "ABANDON_SECONDS", 1.0)
    poller.subscribe(1)
    shown(poller)
    pid = int(planned.psql(SESSIONS))
    os.kill(pid, signal.SIGSTOP)
    try:
        silent = awaited(lambda: poller.latest(1), lambda seen: seen.error is not None)
        assert silent.error is not None
        assert "has not answered for" in silent.error
        assert silent.picture is not None
        assert silent.age_seconds is not None
        again = shown(poller)
        assert again.age_seconds is not None
        assert again.age_seconds < silent.age_seconds + 2
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_session_that_is_ended_is_made_anew(planned: Database, poller: Poller) -> None:
    poller.subscribe(1)
    shown(poller)
    planned.psql(f"SELECT pg_terminate_backend(pid, 5000) FROM ({SESSIONS}) AS s")
    lost = awaited(lambda: poller.latest(1), lambda seen: seen.error is not None)
    assert lost.picture is not None
    assert shown(poller).picture["migration_id"] == 1


def test_a_database_that_is_away_is_told_in_a_sentence_without_secrets(
    target: verbs.Target,
) -> None:
    parameters = {
        "host": "127.0.0.1", "port": "1", "user": "ann", "password": SECRET, "dbname": "shop",
    }  # fmt: skip
    poller = Poller(replace(target, parameters=parameters))
    poller.subscribe(1)
    found = awaited(lambda: poller.latest(1), lambda seen: seen.error is not None)
    poller.close()
    assert found.error is not None
    assert "host 127.0.0.1:1, database shop" in found.error
    assert SECRET not in found.error
    assert "\n" not in found.error
    assert found.picture is None
    assert found.age_seconds is None


def test_what_takes_too_long_does_not_keep_the_state_from_being_shown(
    planned: Database, poller: Poller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "STATEMENT_SECONDS", 1.0)
    poller.subscribe(1)
    shown(poller)
    with planned.engine.connect() as connection:
        connection.execute(sa.text("LOCK TABLE inventory_migration.phase"))
        with planned.engine.begin() as other:
            ledger.set_state(other, 1, "failed", reason="somebody tripped")
        late = awaited(lambda: poller.latest(1), lambda seen: seen.error is not None)
        awaited(lambda: poller.latest(1), lambda seen: seen.picture["state"] == "failed")
    assert late.error is not None
    assert "add the chunks up" in late.error
    awaited(lambda: poller.latest(1), lambda seen: seen.error is None)


def test_what_it_asks_costs_its_share_whatever_it_costs() -> None:
    connection: Any = None
    tier = watched.Tier(lambda _: time.sleep(0.05), least=0.1, share=0.5)
    began = time.monotonic()
    tier.read(connection, 0.02)
    assert tier.due - began >= 0.05 + 0.05 / 0.01
    began = time.monotonic()
    tier.read(connection, 0.02)
    assert tier.due - began >= 0.05 + 0.05 / 0.01
    cheap = watched.Tier(lambda _: None, least=0.1, share=0.5)
    began = time.monotonic()
    cheap.read(connection, 0.02)
    assert 0.1 <= cheap.due - began < 0.2
    pulse = watched.Tier(lambda _: time.sleep(0.05), least=0.1, share=None)
    began = time.monotonic()
    pulse.read(connection, 0.02)
    assert pulse.due - began < 0.5


def test_one_slow_answer_was_waited_for_and_is_not_what_asking_costs() -> None:
    connection: Any = None
    seconds = iter([0.0, 0.3, 0.0, 0.3, 0.3])
    tier = watched.Tier(lambda _: time.sleep(next(seconds)), least=0.1, share=0.5)
    rests = []
    for _ in range(5):
        tier.read(connection, 0.02)
        rests.append(tier.free - time.monotonic())
    # As after a server that stalled, or a lock: by what it waited it would rest for half a minute.
    assert max(rests[:4]) < 5
    assert rests[4] > 25


def test_where_nobody_works_and_nothing_happens_only_the_state_is_asked_for(
    planned: Database, poller: Poller
) -> None:
    poller.subscribe(1)
    first = shown(poller).picture
    awaited(lambda: poller.latest(1), lambda seen: seen.picture["at"] > first["at"])
    assert poller.latest(1).picture["numbers_at"] == first["numbers_at"]
    with control.Claim(planned.engine) as claim:
        claim.take("public.stock_items.location_id")
        awaited(lambda: poller.latest(1), lambda seen: seen.picture["working"]["driver"])
        awaited(
            lambda: poller.latest(1), lambda seen: seen.picture["numbers_at"] > first["numbers_at"]
        )
    idle = threading.active_count()
    poller.close()
    assert threading.active_count() == idle - 1
