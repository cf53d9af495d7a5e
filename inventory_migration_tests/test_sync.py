"""The trigger that keeps levels in step until the cut-over, under an application that writes."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from inventory_migration import verbs
from inventory_migration.engine.plan import Start
from inventory_migration.errors import MappingInvalid, StartRefused, VerdictNotFinal
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.sessions import blocked
from inventory_migration_tests.test_live_application import BOOKS, Application, at_work
from inventory_migration_tests.test_rollback import foretell, undo
from inventory_migration_tests.test_stock_level import conflicts, level, put, shop
from inventory_migration_tests.test_stock_level import mapping as unsynced

TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE tgname ~ '^zz_sync_shop'"


def mapping(**changes: Any) -> StockMapping:
    return unsynced(**{**changes, "target": {"sync": True, **changes.get("target", {})}})


def differing(database: Database) -> str:
    """Records whose level does not say what they do, by a query of its own."""
    return database.psql(
        "SELECT s.id FROM stock_items s FULL JOIN levels t ON t.item_id = s.id "
        "WHERE (s.quantity, s.reserved) IS DISTINCT FROM (t.on_hand, t.promised) ORDER BY 1"
    )


def test_levels_follow_every_write_before_between_and_after_the_chunks(database: Database) -> None:
    shop(database)
    stage.locations(database, mapping())
    assert database.psql(TRIGGERS) == "2"
    database.psql("UPDATE stock_items SET quantity = 40 WHERE id = 4")
    assert level(database, "item_id, on_hand") == "4|40"
    stage.transform(database, mapping())
    assert stage.outcomes(database) == {"migrated": 6}
    database.psql(
        "UPDATE stock_items SET quantity = 50, reserved = 2 WHERE id = 5;"
        "INSERT INTO stock_items VALUES (90, 1, 'new', 9, 3);"
        "DELETE FROM stock_items WHERE id = 6"
    )
    assert differing(database) == ""
    found = stage.close(database, mapping())
    assert found.proof.unexplained == []
    assert database.psql("SELECT state FROM inventory_migration.migration") == "verified"
    assert database.psql(
        "SELECT detail->>'rests_on' FROM inventory_migration.event WHERE kind = 'verdict'"
    ) == ("sync_trigger")
    assert verbs.validate(verbs.open_target(database.url), mapping())["passed"]
    assert stage.outcomes(database) == {"migrated": 7}


def test_a_rollback_ends_the_trigger_and_takes_all_levels_that_are_ours(
    database: Database,
) -> None:
    shop(database)
    put(database, 1, 1, 1)
    stage.migrate(database, mapping())
    database.psql(
        "UPDATE stock_items SET quantity = 50 WHERE id = 5;"
        "INSERT INTO stock_items VALUES (90, 1, 'new', 9, 3)"
    )
    assert len(level(database, "id").splitlines()) == 7
    undo(database, mapping())
    assert level(database, "id") == "theirs_1_1"
    assert database.psql(TRIGGERS) == "0"
    assert database.psql("SELECT to_regclass('inventory_migration.synced_shop')") == ""
    assert conflicts(database).startswith("5|touched_since")
    database.psql("UPDATE stock_items SET quantity = 51 WHERE id = 5")
    assert level(database, "id") == "theirs_1_1"


def test_what_the_application_wrote_of_a_level_beside_the_trigger_is_kept(
    database: Database,
) -> None:
    shop(database)
    stage.migrate(database, mapping())
    database.psql(
        "UPDATE levels SET note = 'counted' WHERE item_id = 4;"
        "UPDATE stock_items SET quantity = 3 WHERE id = 4;"
        "INSERT INTO stock_items VALUES (90, 1, 'new', 9, 3);"
        "UPDATE levels SET note = 'counted' WHERE item_id = 90;"
        "INSERT INTO stock_items VALUES (91, 1, 'other', 9, 3);"
        "UPDATE levels SET on_hand = 1 WHERE item_id IN (5, 91)"
    )
    undo(database, mapping())
    assert level(database, "item_id") == "4\n5\n90\n91"
    assert conflicts(database).splitlines() == [
        "4|moved_since|location 1, on_hand 4, reserved 1"
        "|location 1, on_hand 3, reserved 1, other columns changed",
        "5|moved_since|location 11, on_hand 5, reserved 1|location 11, on_hand 1, reserved 1",
        "90|moved_since|location 1, on_hand 9, reserved 3"
        "|location 1, on_hand 9, reserved 3, other columns changed",
        "91|moved_since|location 1, on_hand 9, reserved 3|location 1, on_hand 1, reserved 3",
    ]


def test_a_level_that_the_trigger_has_made_anew_or_elsewhere_goes_with_its_record(
    database: Database,
) -> None:
    shop(database)
    stage.migrate(database, mapping())
    database.psql(
        "UPDATE stock_items SET company_id = 2 WHERE id IN (1, 3);"
        "DELETE FROM stock_items WHERE id = 4;"
        "INSERT INTO stock_items VALUES (4, 1, 'again', 9, 3);"
        "DELETE FROM levels WHERE item_id = 5;"
        "UPDATE stock_items SET quantity = 50 WHERE id = 5;"
        "UPDATE levels SET note = 'counted' WHERE item_id = 3"
    )
    put(database, 6, 1, 7)
    assert level(database, "count(*) OVER ()").splitlines()[0] == "7"
    foretold = foretell(database, mapping())
    assert [conflict["key"] for conflict in foretold["conflicts"]] == ["3"]
    undo(database, mapping())
    assert level(database, "item_id, id LIKE 'theirs%'") == "3|f\n6|t"
    assert [line[:13] for line in conflicts(database).splitlines() if "touched" not in line] == [
        "3|moved_since"
    ]


def test_what_does_not_let_a_level_of_the_trigger_go_is_told(database: Database) -> None:
    shop(database)
    stage.migrate(database, mapping())
    database.psql(
        "INSERT INTO stock_items VALUES (90, 1, 'new', 9, 3);"
        "CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER keeps BEFORE DELETE ON levels FOR EACH ROW WHEN (OLD.item_id = 90) "
        "EXECUTE FUNCTION keeps()"
    )
    undo(database, mapping())
    assert level(database, "item_id") == "90"
    assert conflicts(database).startswith("90|refused_by_server")


def test_a_level_of_others_is_never_written_by_the_trigger(database: Database) -> None:
    shop(database)
    put(database, 4, 1, 7)
    put(database, 1, 1, 1)
    stage.locations(database, mapping())
    database.psql("UPDATE stock_items SET quantity = quantity + 10 WHERE id IN (1, 4)")
    assert level(database, "item_id, on_hand") == "1|1\n4|7"
    stage.transform(database, mapping())
    assert stage.outcomes(database) == {"migrated": 4, "quarantined": 2}
    assert level(database, "on_hand", "item_id IN (1, 4)") == "1\n7"


@pytest.mark.parametrize("write", ["UPDATE stock_items SET quantity = 2 WHERE id = 4",
                                   "UPDATE stock_items SET reserved = 0 WHERE id = 4"])  # fmt: skip
def test_a6_a_writer_older_than_the_level_is_refused_and_loses_nothing(
    database: Database, write: str
) -> None:
    """REPEATABLE READ does not see the level; 'update where there is one' would lose its write."""
    shop(database)
    stage.locations(database, mapping())
    with psycopg.connect(database.url) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("SELECT 1")
        stage.transform(database, mapping())
        with pytest.raises(psycopg.errors.SerializationFailure):
            old.execute(write)
        old.rollback()
        old.execute(write)
        old.commit()
    assert differing(database) == ""


def test_a6_an_older_writers_delete_leaves_no_level_behind(database: Database) -> None:
    shop(database)
    database.psql("ALTER TABLE levels DROP CONSTRAINT levels_item_id_fkey")
    stage.locations(database, mapping())
    with psycopg.connect(database.url) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("SELECT 1")
        stage.transform(database, mapping())
        old.execute("DELETE FROM stock_items WHERE id = 4")
        old.commit()
    assert level(database, "id", "item_id = 4") != ""
    assert stage.close(database, mapping()).proof.passed
    assert level(database, "id", "item_id = 4") == ""


@pytest.mark.parametrize(
    "isolation", [psycopg.IsolationLevel.READ_COMMITTED, psycopg.IsolationLevel.REPEATABLE_READ]
)
def test_a_level_that_the_trigger_writes_again_behind_its_chunks_undoing_goes_too(
    database: Database, isolation: psycopg.IsolationLevel
) -> None:
    """A transaction older than the undoing still sees the level; it is gone, and is made anew."""
    shop(database)
    stage.migrate(database, mapping())
    with psycopg.connect(database.url) as old, psycopg.connect(database.url) as holder:
        old.isolation_level = isolation
        old.execute("SELECT 1")
        # All chunks are undone while this keeps the trigger where it is.
        holder.execute("LOCK TABLE stock_items IN ROW EXCLUSIVE MODE")
        with blocked(database, lambda: undo(database, mapping())):
            assert level(database, "item_id") == ""
            old.execute("UPDATE stock_items SET quantity = 9 WHERE id = 4")
            old.commit()
            assert level(database, "item_id, on_hand") == "4|9"
            # One that is younger finds it, and keeps it in step.
            database.psql("UPDATE stock_items SET quantity = 8 WHERE id = 4")
            assert level(database, "item_id, on_hand") == "4|8"
            holder.commit()
    assert level(database, "item_id, on_hand") == ""
    assert conflicts(database) == ""


def test_a_constraint_of_the_levels_does_not_stop_the_application(database: Database) -> None:
    """The write goes through, and the level that could not follow is a difference."""
    shop(database)
    stage.locations(database, mapping())
    stage.transform(database, mapping())
    database.psql("UPDATE stock_items SET quantity = -1 WHERE id = 4")
    assert database.psql("SELECT quantity FROM stock_items WHERE id = 4") == "-1"
    found = stage.close(database, mapping())
    assert [(d.kind, d.sample) for d in found.proof.unexplained] == [("target_outdated", ["4"])]
    assert database.psql("SELECT state FROM inventory_migration.migration") == "failed"
    database.psql("UPDATE stock_items SET quantity = 1 WHERE id = 4")
    assert stage.close(database, mapping()).proof.passed


def test_order_lines_that_change_without_their_record_are_followed_by_the_sweep(
    database: Database,
) -> None:
    shop(database)
    database.psql(
        "CREATE TABLE order_lines (item_id bigint, quantity integer);"
        "INSERT INTO order_lines VALUES (4, 2)"
    )
    lines = "(SELECT COALESCE(sum(o.quantity), 0) FROM order_lines o WHERE o.item_id = s.id)"
    chosen = mapping(
        source={**stage.DEFINITION["source"], "reserved": {"sql": lines}}, quantity_basis="net"
    )
    stage.locations(database, chosen)
    stage.transform(database, chosen)
    database.psql(
        "BEGIN; INSERT INTO order_lines VALUES (4, 1);"
        "UPDATE stock_items SET quantity = quantity - 1 WHERE id = 4; COMMIT"
    )
    assert level(database, "on_hand, promised", "item_id = 4") == "6|3"
    database.psql("DELETE FROM order_lines")
    assert level(database, "on_hand, promised", "item_id = 4") == "6|3"
    assert stage.close(database, chosen).proof.passed
    assert level(database, "on_hand, promised", "item_id = 4") == "3|0"


def test_stock_that_changes_hands_takes_its_level_along(database: Database) -> None:
    shop(database)
    stage.migrate(database, mapping())
    database.psql("UPDATE stock_items SET company_id = 2 WHERE id = 4")
    assert (
        database.psql(
            "SELECT l.company_id, t.on_hand FROM levels t JOIN locations l ON l.id = t.warehouse "
            "WHERE t.item_id = 4"
        )
        == "2|4"
    )
    assert verbs.validate(verbs.open_target(database.url), mapping())["passed"]


@pytest.mark.parametrize(
    ("row", "levels"),
    [
        ("(90, 1, 'new', 9, 3, NULL)", "90|9"),
        ("(90, 1, 'new', 9, 3, now())", ""),
        ("(90, 77, 'new', 9, 3, NULL)", ""),
        ("(90, 1, 'new', NULL, 3, NULL)", ""),
    ],
    ids=["good", "skipped", "of no company", "without a quantity"],
)
def test_a_new_record_gets_a_level_where_the_rules_let_it(
    database: Database, row: str, levels: str
) -> None:
    shop(database, items=0)
    stage.migrate(database, mapping())
    database.psql(f"INSERT INTO stock_items VALUES {row}")
    assert level(database, "item_id, on_hand") == levels
    database.psql("UPDATE stock_items SET deleted_at = now(), quantity = 1")
    assert level(database, "item_id, on_hand") == levels.replace("9", "1").replace("1|", "9|", 0
                         ).replace("10|", "90|")  # fmt: skip


def test_d_the_application_needs_no_right_and_steers_nothing(database: Database) -> None:
    """Its role may not see ledger or levels, and temporary tables of its own deceive nobody."""
    shop(database)
    role = f"app_{database.name}"
    database.psql(
        "CREATE TABLE order_lines (item_id bigint, quantity integer);"
        f"CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON stock_items TO {role}"
    )
    lines = "(SELECT COALESCE(sum(o.quantity), 0) FROM order_lines o WHERE o.item_id = s.id)"
    stage.migrate(
        database, mapping(source={**stage.DEFINITION["source"], "reserved": {"sql": lines}})
    )
    with psycopg.connect(database.url.replace("postgres@", f"{role}@")) as application:
        application.execute("CREATE TEMP TABLE locations (id bigint, company_id bigint, "
                            "is_default boolean)")  # fmt: skip
        application.execute("INSERT INTO pg_temp.locations VALUES (666, 1, true)")
        application.execute("CREATE TEMP TABLE order_lines AS SELECT 4 AS item_id, 5 AS quantity")
        application.execute("UPDATE stock_items SET quantity = 9 WHERE id = 4")
        application.execute("INSERT INTO stock_items VALUES (90, 1, 'new', 9, 3)")
    columns = "item_id, warehouse, on_hand, promised"
    assert level(database, columns, "item_id IN (4, 90)") == "4|1|9|0\n90|1|9|0"
    database.psql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_without_its_trigger_a_verdict_is_not_final(database: Database) -> None:
    shop(database)
    stage.locations(database, mapping())
    stage.transform(database, mapping())
    database.psql("ALTER TABLE stock_items DISABLE TRIGGER zz_sync_shop_write")
    with pytest.raises(VerdictNotFinal):
        stage.close(database, mapping())


@pytest.mark.slow
def test_the_cut_over_proves_once_more_and_ends_the_trigger(database: Database) -> None:
    shop(database)
    target = verbs.open_target(database.url)
    assert verbs.run(target, mapping())["state"] == "verified"
    database.psql("UPDATE stock_items SET quantity = 9 WHERE id = 4")
    assert verbs.run(target, mapping())["changed"] is False
    assert database.psql(TRIGGERS) == "2"
    stopped = Start(explicit=True, write_stop=True)
    assert verbs.run(target, mapping(), stopped)["changed"] is True
    assert database.psql(TRIGGERS) == "0"
    verdicts = "SELECT detail->>'rests_on' FROM inventory_migration.event WHERE kind = 'verdict'"
    assert database.psql(f"{verdicts} ORDER BY event_id") == "sync_trigger\nwrite_stop"
    # From here on levels are the application's own.
    database.psql("UPDATE levels SET on_hand = 1 WHERE item_id = 4")
    found = verbs.validate(target, mapping())
    assert found["passed"]
    assert {d["kind"] for d in found["differences"]} == {"target_changed_since"}
    database.psql("INSERT INTO stock_items VALUES (90, 1, 'new', 9, 3)")
    with pytest.raises(StartRefused, match="was cut over"):
        verbs.run(target, mapping())


def test_what_was_cut_over_goes_back_but_for_what_the_application_wrote_since(
    database: Database,
) -> None:
    shop(database)
    stage.migrate(database, mapping())
    stage.close(database, mapping(), Start(explicit=True, write_stop=True))
    assert database.psql(TRIGGERS) == "0"
    database.psql("UPDATE levels SET on_hand = 1 WHERE item_id = 4")
    undo(database, mapping())
    assert level(database, "item_id, on_hand") == "4|1"


def test_what_follows_from_the_numbers_is_kept_in_step_with_them(database: Database) -> None:
    shop(database)
    stage.migrate(database, mapping())
    database.psql("UPDATE stock_items SET quantity = 9 WHERE id = 4")
    assert level(database, "on_hand, promised, free", "item_id = 4") == "9|1|8"
    database.psql("UPDATE levels SET free = 0 WHERE item_id = 5")
    undo(database, mapping())
    assert level(database, "item_id, free") == "5|0"


def test_what_nobody_could_keep_in_step_is_no_mapping() -> None:
    with pytest.raises(ValueError, match=r"free cannot be kept in step .* target.reserved"):
        mapping(target={"reserved": None})


def test_a_level_without_a_key_of_its_own_cannot_be_kept_in_step(database: Database) -> None:
    shop(database)
    database.psql(
        "ALTER TABLE levels DROP CONSTRAINT levels_item_id_warehouse_key;"
        "CREATE UNIQUE INDEX ON levels (item_id, warehouse) WHERE note IS NULL"
    )
    with pytest.raises(MappingInvalid, match="has just the columns item_id, warehouse; create one"):
        stage.migrate(database, mapping())


@pytest.mark.slow
def test_every_unit_is_in_a_level_whatever_the_application_did_meanwhile(
    database: Database,
) -> None:
    """Four sessions, half of them REPEATABLE READ, keep their own books; levels agree with them."""
    stage.shop(database, companies=7, items=3000)
    before = int(database.psql("SELECT sum(quantity) FROM stock_items"))
    chosen = stage.mapping(
        target={
            "shape": "stock_level",
            "table": "levels",
            "record": {"item_id": "id"},
            "location": "location_id",
            "on_hand": "on_hand",
            "reserved": "reserved",
            "add": True,
            "sync": True,
        },
        chunk={"rows": 50, "target_ms": 100},
    )
    database.psql(BOOKS.partition("CREATE FUNCTION")[0])
    levels = [psycopg.IsolationLevel.READ_COMMITTED, psycopg.IsolationLevel.REPEATABLE_READ]
    sessions = [Application(database, kind, n) for n, kind in enumerate(levels * 2)]
    stage.locations(database, chosen)
    with at_work(sessions):
        stage.transform(database, chosen)
    found = stage.close(database, chosen)
    moved = int(database.psql("SELECT sum(units) FROM movements"))
    assert found.proof.unexplained == []
    assert int(database.psql("SELECT sum(quantity) FROM stock_items")) == before + moved
    assert (
        database.psql(
            "SELECT count(*) FROM stock_items s FULL JOIN levels t ON t.item_id = s.id "
            "WHERE (s.quantity, s.reserved) IS DISTINCT FROM (t.on_hand, t.reserved)"
        )
        == "0"
    )
    undo(database, chosen)
    assert database.psql("SELECT count(*) FROM levels") == "0"


def test_a_column_that_the_application_drops_stops_none_of_its_writes(database: Database) -> None:
    shop(database)
    stage.migrate(database, mapping())
    database.psql("ALTER TABLE stock_items DROP COLUMN updated_at")
    database.psql("UPDATE stock_items SET quantity = 9 WHERE id = 4")
    assert level(database, "on_hand", "item_id = 4") == "9"
