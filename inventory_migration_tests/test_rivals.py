"""One target belongs to one mapping for as long as a migration of it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from inventory_migration import verbs
from inventory_migration.engine import ledger
from inventory_migration.engine.plan import Start
from inventory_migration.errors import MigrationPaused, TargetTaken
from inventory_migration_tests import stage
from inventory_migration_tests.commands import answer, im, mapping_file, sentence
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.one_server

RENAMED = stage.mapping(name="renamed")

STATES = {
    "planned": (),
    "running": ("running",),
    "paused": ("paused",),
    "held": ("running", "held"),
    "verifying": ("running", "verifying"),
    "failed": ("failed",),
    "rolling_back": ("rolling_back",),
    "verified": ("running", "verifying", "verified"),
}


def standing(database: Database, *states: str) -> None:
    """A migration of the mapping `shop` in the last of these states; without any, planned."""
    stage.shop(database, items=6)
    stage.locations(database)
    with database.engine.begin() as connection:
        for state in states:
            ledger.set_state(connection, 1, state)


def contents(database: Database) -> str:
    """The application's tables and all of the ledger."""
    return "\n".join(
        database.psql(f"SELECT to_jsonb(t) FROM {name} AS t ORDER BY t::text")
        for name in (
            *("stock_items", "locations", "companies"),
            *(f"inventory_migration.{name}" for name in ("migration", "gate", "event", "control")),
        )
    )


def test_every_state_that_stands_is_told_about() -> None:
    assert set(STATES) == {*ledger.ACTIVE, "verified"}


@pytest.mark.parametrize("state", STATES)
def test_a_second_mapping_is_refused_while_a_migration_of_the_first_stands(
    database: Database, state: str
) -> None:
    standing(database, *STATES[state])
    before = contents(database)
    target = verbs.open_target(database.url)
    for verb in (verbs.test, verbs.run):
        with pytest.raises(TargetTaken) as caught:
            verb(target, RENAMED)
        assert str(caught.value) == (
            "renamed: public.stock_items.location_id is moved by the mapping shop, whose migration "
            f"1 is {state.replace('_', ' ')}; go on with that mapping (a renamed file takes its "
            "name back), or undo it first with 'inventory-migration rollback shop'"
        )
        assert caught.value.exit_code == 2
        assert (caught.value.owner, caught.value.migration_id) == ("shop", 1)
    assert contents(database) == before


@pytest.mark.parametrize("state", ["planned", "verified"])
def test_no_step_alone_plans_a_migration_of_a_target_that_is_taken(
    database: Database, state: str
) -> None:
    standing(database, *STATES[state])
    with pytest.raises(TargetTaken):
        stage.locations(database, RENAMED, Start(explicit=True, resume=True))
    assert database.psql("SELECT count(*) FROM inventory_migration.migration") == "1"


def test_a_mapping_is_not_held_back_by_itself_nor_by_another_target(database: Database) -> None:
    stage.shop(database, items=6)
    stage.migrate(database)
    database.psql("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'new', 7)")
    target = verbs.open_target(database.url)
    changed = stage.mapping(chunk={"rows": 4})
    assert verbs.test(target, changed)["records"]["migrated"] == 1
    assert verbs.run(target, changed)["migration_id"] == 2
    elsewhere = stage.mapping(
        name="elsewhere", target={**stage.DEFINITION["target"], "column": "place_id"}
    )
    assert verbs.test(target, elsewhere)["records"]["migrated"] == 7


def test_a_target_is_free_again_after_a_rollback(database: Database) -> None:
    stage.shop(database, items=6)
    stage.migrate(database)
    target = verbs.open_target(database.url)
    verbs.roll_back(target, stage.MAPPING)
    assert verbs.test(target, RENAMED)["changed"]
    stage.migrate(database, RENAMED)
    assert stage.outcomes(database, 2) == {"migrated": 6}
    with pytest.raises(TargetTaken, match="moved by the mapping renamed, whose migration 2"):
        verbs.test(target, stage.MAPPING)


def test_a_table_that_was_made_anew_is_not_what_was_migrated(database: Database) -> None:
    stage.shop(database, items=6)
    stage.migrate(database)
    database.psql(
        "CREATE TABLE anew (LIKE stock_items INCLUDING ALL); DROP TABLE stock_items;"
        "ALTER TABLE anew RENAME TO stock_items"
    )
    assert verbs.test(verbs.open_target(database.url), RENAMED)["changed"]


def test_every_command_that_starts_says_whose_target_it_is(
    database: Database, tmp_path: Path
) -> None:
    stage.shop(database, items=6)
    with pytest.raises(MigrationPaused):
        stage.migrate(
            database,
            stage.mapping(phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}]),
            stop_after="pilot",
        )
    before = contents(database)
    words = ("--mapping", mapping_file(tmp_path, name="renamed"), "--database-url", database.url)
    for command in ("test", "run", "resume"):
        said = sentence(im(command, *words, code=2))
        assert said.startswith("Error: renamed: public.stock_items.location_id is moved by")
        assert said.endswith("'inventory-migration rollback shop'")
        told = answer(command, *words, code=2)["error"]
        assert (told["kind"], told["owner"], told["state"]) == ("TargetTaken", "shop", "paused")
    assert contents(database) == before
