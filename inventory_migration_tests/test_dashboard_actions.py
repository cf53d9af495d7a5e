"""What viewers of the dashboard ask for is done for those who may, said in the trail, and once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from inventory_migration import steering, verbs
from inventory_migration.dashboard import processes
from inventory_migration.dashboard.access import Access, Viewer
from inventory_migration.dashboard.actions import Actions, possible
from inventory_migration.dashboard.processes import Started
from inventory_migration.engine import ledger
from inventory_migration.errors import ActionRefused, MappingInvalid, MigrationUnknown
from inventory_migration.mapping import load_mapping
from inventory_migration_tests import stage
from inventory_migration_tests.commands import mapping_file
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.test_steering import half_done

pytestmark = pytest.mark.one_server

ANNA = Viewer(name="anna", address="10.1.2.3", read_only=False)
GUEST = Viewer(name="guest", address="10.1.2.4", read_only=True)
PASSWORD = "pa$s w0rd"
STATE = "SELECT state FROM inventory_migration.migration"
EVENTS = "SELECT kind || ', ' || who FROM inventory_migration.event ORDER BY event_id"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INVENTORY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def actions(target: verbs.Target) -> Actions:
    return Actions(target, {}, Access())


def offered(state: str, *, driven: bool = False) -> str:
    return " ".join(offer.action for offer in possible(state, driven=driven))


def ended(started: Started) -> int:
    return started.process.wait(timeout=120)


def test_what_can_be_done_follows_from_where_a_migration_stands() -> None:
    assert offered("running", driven=True) == "pause abort roll_back"
    assert offered("running") == "pause resume abort roll_back"
    assert offered("paused") == offered("held") == offered("failed") == "resume abort roll_back"
    assert offered("rolling_back", driven=True) == ""
    assert offered("rolling_back") == offered("verified") == offered("aborted") == "roll_back"
    assert offered("rolled_back") == ""
    assert possible("verified", driven=False, purged=True) == []
    asking = {offer.action for offer in possible("running", driven=False) if offer.asks_name}
    assert asking == {"abort", "roll_back"}


def test_who_may_only_look_is_refused_whatever_they_ask(
    database: Database, target: verbs.Target
) -> None:
    half_done(database)
    before = database.psql(f"{STATE}; {EVENTS}")
    for access, viewer in ((Access(), GUEST), (Access(read_only=True), ANNA)):
        refusing = Actions(target, {}, access)
        asked: list[Callable[[], object]] = [
            partial(refusing.pause, viewer, 1),
            partial(refusing.pause, viewer, 1, force=True, typed="shop"),
            partial(refusing.resume, viewer, 1),
            partial(refusing.abort, viewer, 1, typed="shop"),
            partial(refusing.roll_back, viewer, 1, typed="shop"),
        ]
        for ask in asked:
            with pytest.raises(ActionRefused, match="only look"):
                ask()
        picture = {"migration_id": 1, "state": "running", "working": {"driver": True}}
        assert refusing.offered(viewer, picture) == []
    assert database.psql(f"{STATE}; {EVENTS}") == before


def test_a_pause_is_in_the_trail_with_who_asked_and_does_no_harm_twice(
    database: Database, actions: Actions
) -> None:
    stage.shop(database)
    stage.locations(database)
    with pytest.raises(ActionRefused, match="type shop"):
        actions.pause(ANNA, 1, force=True, typed="Shop")
    with pytest.raises(MigrationUnknown):
        actions.pause(ANNA, 2)
    told: list[str] = []

    def press(viewer: Viewer) -> None:
        try:
            actions.pause(viewer, 1, reason="lunch")
        except ActionRefused as error:
            told.append(str(error))

    both = [threading.Thread(target=press, args=(replace(ANNA, name=n),)) for n in ("ann", "bob")]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert all("paused: there is nothing to pause" in sentence for sentence in told)
    assert database.psql(STATE) == "paused"
    paused = [line for line in database.psql(EVENTS).splitlines() if "state_paused" in line]
    assert len(paused) == 1
    assert " by inventory-migration dashboard for " in paused[0]
    assert paused[0].endswith(" at 10.1.2.3")
    assert database.psql("SELECT set_by FROM inventory_migration.control").endswith(" at 10.1.2.3")


def test_an_abort_needs_the_name_and_ends_it(database: Database, actions: Actions) -> None:
    half_done(database)
    with pytest.raises(ActionRefused, match="nothing was done"):
        actions.abort(ANNA, 1, typed="")
    assert database.psql(STATE) == "paused"
    reason = "wrong one\0: postgresql://ann:s3cr3t-pa55@db/shop" + 600 * "!"
    aborted = actions.abort(ANNA, 1, typed=" shop ", reason=reason)
    assert aborted["state"] == "aborted"
    assert aborted["reason"].startswith("wrong one\\x00: postgresql://ann:***@db/shop!")
    assert len(aborted["reason"]) == 500
    with pytest.raises(ActionRefused, match="is aborted: there is nothing to resume"):
        actions.resume(ANNA, 1)


def test_what_was_pressed_is_never_done_to_another_migration(
    database: Database, target: verbs.Target
) -> None:
    half_done(database)
    assert steering.abort(target, "shop", migration_id=7)["changed"] is False
    database.psql("UPDATE inventory_migration.migration SET state = 'running'")
    assert steering.pause(target, "shop", migration_id=7)["changed"] is False
    assert database.psql(STATE) == "running"


@pytest.mark.slow
def test_a_process_goes_on_and_another_takes_it_back_for_whoever_pressed(
    database: Database, target: verbs.Target
) -> None:
    half_done(database)
    parameters = {**target.parameters, "password": PASSWORD}
    actions = Actions(replace(target, parameters=parameters), {}, Access())
    started = actions.resume(ANNA, 1)
    command = ""
    # The kernel shows none in the first moment of a program.
    while not command and started.is_running:
        command = Path(f"/proc/{started.process.pid}/cmdline").read_text()
    assert "resume" in command
    assert PASSWORD not in command
    with pytest.raises(ActionRefused, match=r"anna at 10\.1\.2\.3 has started this already"):
        actions.resume(replace(ANNA, name="bob"), 1)
    picture = {"migration_id": 1, "state": "paused", "working": {"driver": False}}
    assert [offer.action for offer in actions.offered(ANNA, picture)] == ["abort", "roll_back"]
    assert ended(started) == 0, started.log.read_text()
    assert (started.sentence, database.psql(STATE)) == (None, "verified")
    with pytest.raises(ActionRefused, match="type shop"):
        actions.roll_back(ANNA, 1, typed="stock_items")
    back = actions.roll_back(ANNA, 1, typed="shop")
    assert ended(back) == 0, back.log.read_text()
    assert database.psql(STATE) == "rolled_back"
    trail = database.psql(EVENTS).splitlines()
    for kind in ("asked_resume", "resumed", "state_verified", "asked_roll_back", "state_rolled_"):
        found = [line for line in trail if line.startswith(kind)]
        assert found
        assert found[-1].endswith(" for anna at 10.1.2.3")
    assert PASSWORD not in started.log.read_text() + started.answer.read_text()


def test_a_process_that_can_not_go_on_says_why(database: Database, actions: Actions) -> None:
    half_done(database)
    database.psql("ALTER TABLE stock_items RENAME COLUMN sku TO article")
    started = actions.resume(ANNA, 1)
    assert ended(started) == 2
    assert started.sentence == "shop: source.item: table stock_items has no column sku"
    assert actions.started(1) is started
    picture = {"migration_id": 1, "state": "paused", "working": {"driver": False}}
    assert "resume" in {offer.action for offer in actions.offered(ANNA, picture)}


def test_it_goes_on_with_the_very_mapping_that_was_planned(
    database: Database, target: verbs.Target, tmp_path: Path
) -> None:
    half_done(database)
    with target.reader.connect() as connection:
        found = ledger.find(connection, migration_id=1)
    assert found is not None
    another = mapping_file(tmp_path)
    rebuilt = processes.mapping_file(target, found, another)
    assert rebuilt != another
    assert load_mapping(rebuilt).hash == found.mapping_hash
    assert processes.mapping_file(target, found, None) == rebuilt
    assert processes.mapping_file(target, found, rebuilt) == rebuilt
    database.psql("UPDATE inventory_migration.migration SET definition = definition - 'source'")
    with pytest.raises(MappingInvalid, match="another version of inventory-migration"):
        processes.mapping_file(target, found, another)
