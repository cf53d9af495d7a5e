"""A verdict on levels is final only where something keeps them in step, or while writes rest."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from inventory_migration import verbs
from inventory_migration.engine import control, write_stop
from inventory_migration.engine.plan import Start
from inventory_migration.errors import MigrationPaused, VerdictNotFinal, WritersActive
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.test_rollback import undo
from inventory_migration_tests.test_stock_level import level, mapping, shop

pytestmark = pytest.mark.one_server

STOPPED = Start(explicit=True, write_stop=True)
LIVE = Start(explicit=True)


def moved(database: Database, chosen: StockMapping | None = None) -> StockMapping:
    """A shop whose chunks are all done, with the last step still to come."""
    chosen = chosen or mapping()
    stage.locations(database, chosen)
    stage.transform(database, chosen)
    return chosen


def state(database: Database) -> str:
    return database.psql("SELECT state FROM inventory_migration.migration")


def verdicts(database: Database) -> str:
    return database.psql(
        "SELECT detail->>'rests_on' FROM inventory_migration.event WHERE kind = 'verdict' "
        "ORDER BY event_id"
    )


def test_without_a_write_stop_or_a_trigger_the_verdict_on_levels_is_not_final(
    database: Database,
) -> None:
    shop(database)
    chosen = moved(database)
    with pytest.raises(VerdictNotFinal, match="resume shop --write-stop") as caught:
        stage.close(database, chosen, LIVE)
    assert isinstance(caught.value, MigrationPaused)
    assert caught.value.exit_code == 4
    assert "does not reach their levels" in str(caught.value)
    assert state(database) == "paused"
    with pytest.raises(MigrationPaused):
        stage.close(database, chosen, LIVE)
    assert stage.close(database, chosen, Start(resume=True, write_stop=True)).proof.passed
    assert state(database) == "verified"
    assert verdicts(database) == "moment\nwrite_stop"


@pytest.mark.parametrize("shape", ["location_column", "allocation_json"])
def test_other_shapes_need_no_write_stop_and_may_have_one(database: Database, shape: str) -> None:
    stage.shop(database)
    target = {"shape": shape, "column": "place", "add": True}
    chosen = moved(database, stage.mapping(target=target))
    database.psql("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'late', 1)")
    assert stage.close(database, chosen, STOPPED).proof.differences == []
    assert state(database) == "verified"
    assert verdicts(database) == "write_stop"
    assert database.psql("SELECT count(place) FROM stock_items") == "31"


def test_what_old_code_sold_after_the_chunk_reaches_the_level_under_the_write_stop(
    database: Database,
) -> None:
    shop(database)
    chosen = moved(database)
    database.psql(
        "UPDATE stock_items SET quantity = quantity - 1 WHERE id = 4;"
        "INSERT INTO stock_items VALUES (50, 1, 'late', 7, 0)"
    )
    assert stage.close(database, chosen, STOPPED).proof.differences == []
    assert level(database, "item_id, on_hand", "item_id IN (4, 50)") == "4|3\n50|7"
    assert database.psql("SELECT sum(quantity) FROM stock_items") == level(database, "sum(on_hand)",
                         "true GROUP BY () --")  # fmt: skip
    assert database.psql("SELECT count(DISTINCT xmin::text) FROM levels WHERE item_id > 3") != "0"
    undo(database, chosen)
    assert level(database, "id") == ""
    assert database.psql("SELECT count(*) FROM inventory_migration.conflict") == "0"


def test_a_sweep_puts_levels_right_while_the_application_goes_on(database: Database) -> None:
    shop(database)
    chosen = moved(database)
    database.psql("UPDATE stock_items SET quantity = 40 WHERE id = 4")
    with pytest.raises(VerdictNotFinal):
        stage.close(database, chosen, LIVE)
    assert level(database, "on_hand", "item_id = 4") == "40"


def test_an_allocation_that_was_sold_from_is_written_anew_by_the_sweep(database: Database) -> None:
    stage.shop(database, items=6)
    target = {"shape": "allocation_json", "column": "place", "add": True}
    chosen = moved(database, stage.mapping(target=target))
    database.psql("UPDATE stock_items SET quantity = 40 WHERE id = 4")
    assert stage.close(database, chosen).proof.differences == []
    assert database.psql("SELECT place->'1'->>'allocated' FROM stock_items WHERE id = 4") == "40"
    database.psql("UPDATE stock_items SET quantity = 30 WHERE id = 4")
    found = verbs.validate(verbs.open_target(database.url), chosen)
    assert found["passed"] is False
    assert [(d["kind"], d["explained"]) for d in found["differences"]] == [
        ("target_outdated", False)
    ]


def test_a_level_whose_record_is_gone_goes_too_if_it_is_ours(database: Database) -> None:
    shop(database)
    database.psql("ALTER TABLE levels DROP CONSTRAINT levels_item_id_fkey")
    chosen = moved(database)
    database.psql(
        "UPDATE levels SET note = 'counted' WHERE item_id = 5;"
        "DELETE FROM stock_items WHERE id IN (4, 5)"
    )
    found = stage.close(database, chosen, STOPPED)
    assert level(database, "item_id") == "1\n2\n3\n5\n6"
    assert found.proof.passed
    assert [(d.kind, d.sample) for d in found.proof.differences] == [
        ("deleted_since", ["4", "5"]),
        ("target_changed_since", ["5"]),
    ]


def test_a_level_that_new_code_has_changed_is_not_overwritten(database: Database) -> None:
    shop(database)
    chosen = moved(database)
    database.psql(
        "UPDATE levels SET on_hand = 1 WHERE item_id = 4;"
        "UPDATE stock_items SET quantity = 3 WHERE id = 4"
    )
    found = stage.close(database, chosen, STOPPED)
    assert level(database, "on_hand", "item_id = 4") == "1"
    assert [(d.kind, d.explained) for d in found.proof.differences] == [
        ("target_changed_since", True)
    ]


def test_a_record_that_cannot_follow_is_put_aside_and_the_others_go(database: Database) -> None:
    shop(database)
    chosen = moved(database)
    database.psql(
        "UPDATE stock_items SET quantity = -5 WHERE id = 4;"
        "UPDATE stock_items SET quantity = 9 WHERE id = 1"
    )
    assert stage.close(database, chosen, STOPPED).proof.passed
    assert stage.outcomes(database) == {"migrated": 5, "quarantined": 1}
    assert level(database, "on_hand", "item_id IN (1, 4)") == "9"


def test_who_still_writes_is_waited_for_and_then_told(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop(database)
    chosen = moved(database)
    monkeypatch.setattr(write_stop, "WAIT_SECONDS", 0.3)
    with psycopg.connect(database.url) as writer:
        writer.execute("UPDATE stock_items SET quantity = 8 WHERE id = 4")
        with pytest.raises(WritersActive, match=r"public\W+levels.*nothing was changed"):
            stage.close(database, chosen, STOPPED)
        assert level(database, "on_hand", "item_id = 4") == "4"
        writer.commit()
    assert stage.close(database, chosen, STOPPED).proof.differences == []
    assert level(database, "on_hand", "item_id = 4") == "8"


def test_nobody_writes_between_the_last_pass_and_the_proof(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock holds for records, levels, and the order lines that reserve them."""
    shop(database)
    database.psql("CREATE TABLE order_lines (item_id bigint, quantity integer)")
    lines = "(SELECT COALESCE(sum(o.quantity), 0) FROM order_lines o WHERE o.item_id = s.id)"
    chosen = moved(
        database, mapping(source={**stage.DEFINITION["source"], "reserved": {"sql": lines}})
    )
    proved, refused = write_stop.delta_pass, []

    def intruded(*arguments: Any) -> int:
        found = proved(*arguments)
        for write in (
            "UPDATE stock_items SET quantity = 1",
            "UPDATE levels SET on_hand = 1",
            "INSERT INTO order_lines VALUES (4, 1)",
        ):
            with psycopg.connect(database.url) as session:
                session.execute("SET lock_timeout = '100ms'")
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    session.execute(write)
                refused.append(write)
        return found

    monkeypatch.setattr(write_stop, "delta_pass", intruded)
    assert stage.close(database, chosen, STOPPED).proof.passed
    assert len(refused) == 3


def test_what_is_written_after_the_last_sweep_and_before_the_lock_is_not_missed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop(database)
    chosen = moved(database)
    stopped = write_stop.stop_writes

    def late(*arguments: Any) -> list[str]:
        database.psql("UPDATE stock_items SET quantity = 8 WHERE id = 4")
        return stopped(*arguments)

    monkeypatch.setattr(write_stop, "stop_writes", late)
    assert stage.close(database, chosen, STOPPED).proof.differences == []
    assert level(database, "on_hand", "item_id = 4") == "8"


def test_an_interrupted_close_changes_nothing(database: Database) -> None:
    shop(database)
    chosen = moved(database)
    database.psql("UPDATE stock_items SET quantity = 8 WHERE id = 4")
    before = level(database, "levels")

    def killed(*_: Any) -> None:
        raise RuntimeError("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inventory_migration.engine.sweep.baseline.note", killed)
        with pytest.raises(RuntimeError):
            stage.close(database, chosen, STOPPED)
    assert level(database, "levels") == before
    assert stage.close(database, chosen, STOPPED).proof.differences == []


@pytest.mark.slow
def test_a_stop_that_is_asked_for_holds_from_end_to_end(database: Database) -> None:
    shop(database)
    target = verbs.open_target(database.url)
    with pytest.raises(VerdictNotFinal):
        verbs.run(target, mapping())
    found = verbs.run(target, mapping(), Start(resume=True, write_stop=True))
    assert (found["state"], found["units"]) == ("verified", {"before": "21", "after": "21"})
    assert verbs.validate(target, mapping())["passed"]
    assert verbs.run(target, mapping())["changed"] is False


def test_two_sessions_that_close_at_once_do_no_harm(database: Database) -> None:
    shop(database)
    chosen = moved(database)
    errors: list[BaseException] = []

    def close() -> None:
        try:
            with control.Claim(database.engine) as claim:
                claim.take("public.levels.on_hand", wait_seconds=30)
            stage.close(database, chosen, STOPPED)
        except BaseException as error:
            errors.append(error)

    sessions = [threading.Thread(target=close) for _ in range(2)]
    for session in sessions:
        session.start()
    for session in sessions:
        session.join()
    assert all("another process" in str(error) for error in errors)
    assert state(database) == "verified"
    assert len(level(database, "id").splitlines()) == 6
