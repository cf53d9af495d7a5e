"""The protocol under attack, A: what loses, misplaces or misreports stock.

Each test stages an interleaving of two or three sessions, shows that the naive form goes wrong on
it, and that ours does not. The letters are those of the review of the protocol; its part F, the
rewrite of a whole table, is not built and has no test.
"""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from inventory_migration.engine import ledger, plan, proof, schema_change
from inventory_migration.errors import ControlTotalsDiffer, LockNotObtained, VerdictNotFinal
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage, test_sync
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.sessions import (
    blocked,
    one,
    own_server,
    past_its_deadlock_check,
    repeatable,
)
from inventory_migration_tests.test_chunk import planned, shop_behind_a_join, turn
from inventory_migration_tests.test_isolation import LENIENT, refusing
from inventory_migration_tests.test_proof import as_the_chunk, proved
from inventory_migration_tests.test_rollback import undo
from inventory_migration_tests.test_stock_level import conflicts, level
from inventory_migration_tests.test_stock_level import shop as shop_of_levels

LINES = "(SELECT COALESCE(sum(o.quantity), 0) FROM order_lines o WHERE o.item_id = s.id)"


def net(database: Database) -> StockMapping:
    """An application that takes an order's units off the record and adds an order line."""
    stage.shop(database, companies=1, items=2)
    database.psql(
        "UPDATE stock_items SET quantity = 10;"
        "CREATE TABLE order_lines (item_id bigint, quantity integer);"
        "CREATE TABLE written (id bigint, on_hand numeric, reserved numeric, location bigint)"
    )
    return stage.mapping(
        source={**stage.DEFINITION["source"], "reserved": {"sql": LINES}}, quantity_basis="net"
    )


def in_one_statement(database: Database, select: str) -> None:
    """The naive chunk: lock, classify and write, all in one statement."""
    with psycopg.connect(database.url) as worker:
        worker.execute(f"WITH live AS MATERIALIZED ({select} FOR NO KEY UPDATE OF s) "
                       "INSERT INTO written SELECT * FROM live")  # fmt: skip


def test_a1_one_statement_that_locks_and_reads_loses_units_with_all_totals_agreeing(
    database: Database,
) -> None:
    statements = planned(database, net(database))
    naive = (
        f"SELECT s.id, s.quantity + {LINES}, {LINES}, NULL::bigint FROM stock_items s "
        "WHERE s.id = 1"
    )

    def ours() -> None:
        with database.engine.begin() as connection:
            turn(connection, statements)

    with psycopg.connect(database.url) as application:
        application.execute("INSERT INTO order_lines VALUES (1, 4)")
        application.execute("UPDATE stock_items SET quantity = 6 WHERE id = 1")
        with blocked(database, lambda: in_one_statement(database, naive), ours):
            application.commit()
    # Ten are there, and four of them are promised; the naive form has six and none.
    assert database.psql("SELECT on_hand, reserved FROM written") == "6|0"
    assert database.psql("SELECT units_before, reserved_before FROM inventory_migration.chunk") == (
        "16|4"
    )


def test_a1_one_statement_quarantines_a_record_whose_company_has_a_location(
    database: Database,
) -> None:
    net(database)
    database.psql("INSERT INTO companies (name) VALUES ('Second')")
    statements = planned(database)
    naive = (
        "SELECT s.id, s.quantity, 0, l.id FROM stock_items s "
        "LEFT JOIN locations l ON l.company_id = s.company_id WHERE s.id = 1"
    )

    def ours() -> None:
        with database.engine.begin() as connection:
            turn(connection, statements)

    with psycopg.connect(database.url) as application:
        application.execute("UPDATE stock_items SET company_id = 2 WHERE id = 1")
        with blocked(database, lambda: in_one_statement(database, naive), ours):
            application.commit()
    assert database.psql("SELECT location IS NULL FROM written") == "t"
    assert database.psql("SELECT location_id FROM stock_items WHERE id = 1") == "2"
    assert stage.outcomes(database) == {"migrated": 2}


def test_a1_one_statement_takes_a_living_record_for_gone(database: Database) -> None:
    mapping = shop_behind_a_join(database)
    database.psql("CREATE TABLE written (id bigint, location bigint)")
    statements = planned(database, mapping)
    naive = (
        "SELECT s.id, p.company_id FROM stock_items s JOIN products p ON p.id = s.product_id "
        "WHERE s.id = 1"
    )

    def ours() -> None:
        with database.engine.begin() as connection:
            turn(connection, statements)

    with psycopg.connect(database.url) as application:
        application.execute("UPDATE stock_items SET product_id = 2 WHERE id = 1")
        with blocked(database, lambda: in_one_statement(database, naive), ours):
            application.commit()
    assert database.psql("SELECT count(*) FROM written") == "0"
    assert stage.outcomes(database) == {"migrated": 2}


SHRINK = """
    CREATE FUNCTION shrink() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE stock_items SET quantity = quantity - 1 WHERE id = NEW.id;
        RETURN NULL;
    END $$;
"""
MOVED = (
    "WITH moved AS (UPDATE stock_items SET location_id = 1 RETURNING quantity) "
    "SELECT sum(quantity) FROM moved"
)


@pytest.mark.parametrize("deferred", ["", "DEFERRABLE INITIALLY DEFERRED"])
def test_a2_what_returning_says_is_not_what_the_table_holds_afterwards(
    database: Database, deferred: str
) -> None:
    stage.shop(database, items=4)
    planned(database)
    kind = "CONSTRAINT TRIGGER" if deferred else "TRIGGER"
    database.psql(
        f"{SHRINK} CREATE {kind} shrink AFTER UPDATE ON stock_items {deferred} "
        "FOR EACH ROW WHEN (NEW.quantity = OLD.quantity) EXECUTE FUNCTION shrink()"
    )
    with psycopg.connect(database.url) as naive:
        assert one(naive, MOVED) == 10
        naive.commit()
    assert database.psql("SELECT sum(quantity) FROM stock_items") == "6"
    database.psql("UPDATE stock_items SET location_id = NULL, quantity = quantity + 1")
    before = database.psql("SELECT id, quantity FROM stock_items ORDER BY id")
    with pytest.raises(ControlTotalsDiffer):
        stage.transform(database)
    assert database.psql("SELECT id, quantity FROM stock_items ORDER BY id") == before


def test_a2_a_row_that_a_trigger_drops_is_dropped_without_a_word(database: Database) -> None:
    stage.shop(database, items=20)
    stage.locations(database, LENIENT)
    refusing(database, "NEW.id = 11", "RETURN NULL")
    with psycopg.connect(database.url) as naive:
        assert naive.execute("UPDATE stock_items SET location_id = 1").rowcount == 19
        naive.rollback()
    stage.transform(database, LENIENT)
    assert database.psql("SELECT key_text, rule FROM inventory_migration.outcome") == (
        "11|write_suppressed"
    )


def test_a3_a_sweep_by_missing_key_finds_one_of_four(database: Database) -> None:
    stage.shop(database, companies=3, items=12)
    stage.locations(database)
    stage.transform(database)
    database.psql(
        "INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'late', 1);"
        "DELETE FROM stock_items WHERE id = 4;"
        "INSERT INTO stock_items (id, company_id, sku, quantity) VALUES (4, 1, 'again', 4);"
        "UPDATE stock_items SET location_id = NULL WHERE id = 5;"
        "UPDATE stock_items SET company_id = 2 WHERE id = 7"
    )
    naive = (
        "SELECT count(*) FROM stock_items s WHERE NOT EXISTS "
        "(SELECT FROM inventory_migration.snapshot_1 p WHERE p.key_1 = s.id)"
    )
    assert database.psql(naive) == "1"
    stage.pass_gate(database.engine, stage.MAPPING, "transformed_stock")
    found = stage.close(database)
    assert database.psql("SELECT count(*) FROM stock_items WHERE location_id IS NULL") == "0"
    # The fourth holds another company's location: no move of ours, but nobody overlooks it.
    assert [(d.kind, d.sample) for d in found.proof.unexplained] == [("location_foreign", ["7"])]
    assert database.psql("SELECT key_text, rule FROM inventory_migration.outcome") == (
        "7|location_foreign"
    )


def test_a3_a_writer_older_than_the_sweep_is_waited_for(database: Database) -> None:
    stage.shop(database, companies=3, items=12)
    stage.locations(database)
    stage.transform(database)
    stage.pass_gate(database.engine, stage.MAPPING, "transformed_stock")
    late = "SELECT count(*) FROM stock_items WHERE location_id IS NULL"
    resolved = plan.read_mapping(database.engine, stage.MAPPING)
    with psycopg.connect(database.url) as writer:
        writer.execute("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'late', 1)")
        # The naive last look sees nothing, and says done.
        assert database.psql(late) == "0"
        with pytest.raises(LockNotObtained, match="older writers of stock_items"):
            schema_change.wait_for_older_writers(database.engine, resolved, seconds=0.3)
        writer.commit()
    assert database.psql(late) == "1"
    assert stage.close(database).proof.passed
    assert database.psql(late) == "0"


def test_a3_a_prepared_transaction_is_a_writer_too(database: Database, folder: Path) -> None:
    with own_server(database, folder, "prepared_a3", max_prepared_transactions="2") as other:
        stage.shop(other)
        insert = "INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'late', 1)"
        other.psql(f"BEGIN; {insert}; PREPARE TRANSACTION 'x'")
        # Nobody's session: who looks for sessions that write finds none.
        naive = (
            "SELECT count(*) FROM pg_locks k JOIN pg_stat_activity a USING (pid) "
            "WHERE k.relation = 'stock_items'::regclass AND k.mode = 'RowExclusiveLock'"
        )
        assert other.psql(naive) == "0"
        resolved = plan.read_mapping(other.engine, stage.MAPPING)
        with pytest.raises(LockNotObtained):
            schema_change.wait_for_older_writers(other.engine, resolved, seconds=0.3)
        other.psql("COMMIT PREPARED 'x'")
        schema_change.wait_for_older_writers(other.engine, resolved, seconds=0.3)


def test_a3_a_trigger_closes_what_comes_after_the_last_sweep(database: Database) -> None:
    insert = "INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'late', 1)"
    stage.shop(database)
    stage.migrate(database)
    assert database.psql(f"{insert} RETURNING location_id") == ""
    stage.migrate(database, stage.mapping(guard=True))
    assert database.psql(f"{insert} RETURNING location_id") == "1"


def test_a3_a_record_that_was_gone_is_looked_at_again(database: Database) -> None:
    stage.shop(database, items=6)
    statements = planned(database)
    with psycopg.connect(database.url) as application:
        application.execute("DELETE FROM stock_items WHERE id = 2")
        application.commit()
        with database.engine.begin() as connection:
            turn(connection, statements)
        assert stage.outcomes(database) == {"gone": 1, "migrated": 4, "pending": 1}
        application.execute(
            "INSERT INTO stock_items (id, company_id, sku, quantity) VALUES (2, 2, 'back', 2)"
        )
    stage.transform(database)
    assert stage.close(database).proof.passed
    assert stage.outcomes(database) == {"migrated": 6}


def test_a4_what_equals_ours_is_not_ours(database: Database) -> None:
    """The application has put a record there before us; another it has touched since."""
    stage.shop(database, companies=1, items=4)
    stage.locations(database)
    database.psql("UPDATE stock_items SET location_id = 1 WHERE id = 2")
    stage.transform(database)
    stage.close(database)
    database.psql("UPDATE stock_items SET quantity = 99 WHERE id = 3")
    naive = (
        "SELECT count(*) FROM inventory_migration.snapshot_1 p JOIN stock_items s "
        "ON s.id = p.key_1 WHERE s.location_id = 1"
    )
    assert database.psql(naive) == "4"
    by_xmin = (
        "SELECT string_agg(s.id::text, ' ' ORDER BY s.id) FROM stock_items s, "
        "inventory_migration.chunk k WHERE s.xmin::text = k.xid"
    )
    database.psql("VACUUM FREEZE stock_items")
    assert database.psql(by_xmin) == "1 4"
    database.psql("VACUUM FULL stock_items")
    assert database.psql(by_xmin) == "1 4"
    undo(database)
    assert database.psql("SELECT id FROM stock_items WHERE location_id IS NOT NULL") == "2"
    assert database.psql("SELECT key_text, kind FROM inventory_migration.conflict") == (
        "3|touched_since"
    )


def test_a4_a_write_under_a_savepoint_has_an_id_of_its_own(database: Database) -> None:
    stage.shop(database, items=5)
    refusing(database, "NEW.id = 3", "RAISE EXCEPTION 'no'")
    with psycopg.connect(database.url) as naive:
        # Something is written at top level first, as a chunk's claim would be.
        transaction = one(naive, "SELECT pg_current_xact_id()::xid::text")
        naive.execute("SAVEPOINT here")
        naive.execute("UPDATE stock_items SET quantity = quantity WHERE id = 1")
        naive.execute("RELEASE here")
        assert one(naive, "SELECT xmin::text FROM stock_items WHERE id = 1") != transaction
        naive.rollback()
    stage.migrate(database, LENIENT)
    assert (
        database.psql(
            "SELECT count(*) FROM stock_items s, inventory_migration.chunk k "
            "WHERE s.xmin::text = k.xid"
        )
        == "4"
    )


def test_a5_one_nan_makes_every_sum_equal(database: Database) -> None:
    stage.shop(database, items=6)
    database.psql(
        "ALTER TABLE stock_items ALTER quantity TYPE numeric;"
        "UPDATE stock_items SET quantity = 'NaN' WHERE id = 1;"
        "UPDATE stock_items SET quantity = 'Infinity' WHERE id = 2"
    )
    naive = "SELECT sum(quantity) FROM stock_items"
    assert database.psql(f"SELECT ({naive}) = ({naive} WHERE id IN (1, 6))") == "t"
    statements = planned(database, LENIENT)
    resolved = statements.resolved
    with database.engine.begin() as connection:
        turn(connection, statements)
    # Units are summed over what is a number, and what is none is counted apart.
    assert database.psql(
        "SELECT units_before, units_after, not_numbers_before, quarantined "
        "FROM inventory_migration.chunk WHERE number = 1"
    ) == ("12|12|2|2")
    with database.engine.connect() as connection:
        migration = ledger.find(connection, mapping="shop")
        assert migration is not None
        units = connection.execute(sa.text(proof.totals(resolved, migration))).one().units
    assert units == 18


@pytest.mark.parametrize(
    ("kind", "value", "naive"),
    [
        ("real", "16777216", "16777200"),
        ("real", "123456.78", "123457"),
        ("double precision", "0.12345678901234567", "0.123456789012346"),
    ],
)
def test_a5_a_float_loses_digits_on_its_way_to_numeric(
    database: Database, kind: str, value: str, naive: str
) -> None:
    stage.shop(database, companies=1, items=1)
    database.psql(
        f"ALTER TABLE stock_items ALTER quantity TYPE {kind}; UPDATE stock_items SET quantity = "
        f"{value}"
    )
    assert database.psql("SELECT quantity::numeric FROM stock_items") == naive
    stage.migrate(database)
    assert (
        database.psql(
            "SELECT p.quantity = s.quantity::text::numeric AND p.quantity <> s.quantity::numeric "
            "FROM inventory_migration.snapshot_1 p JOIN stock_items s ON s.id = p.key_1"
        )
        == "t"
    )


def test_a5_small_integers_overflow_where_they_are_added(database: Database) -> None:
    stage.shop(database, companies=1, items=1)
    database.psql(
        "ALTER TABLE stock_items ALTER quantity TYPE smallint, ALTER reserved TYPE smallint;"
        "UPDATE stock_items SET quantity = 32767, reserved = 9"
    )
    with (
        psycopg.connect(database.url) as naive,
        pytest.raises(psycopg.errors.NumericValueOutOfRange),
    ):
        naive.execute("SELECT quantity + reserved FROM stock_items")
    chosen = stage.mapping(
        quantity_basis="net",
        target={"shape": "allocation_json", "column": "allocations", "add": True},
    )
    stage.migrate(database, chosen)
    assert database.psql("SELECT allocations->'1'->'allocated' FROM stock_items") == "32776"


LEVELS = "CREATE TABLE naive (item_id bigint PRIMARY KEY, on_hand integer)"


def test_a6_updating_a_level_if_there_is_one_loses_an_older_writers_update(
    database: Database,
) -> None:
    shop_of_levels(database)
    database.psql(LEVELS)
    with repeatable(database) as old:
        # A chunk writes the levels; the older writer's snapshot has none of them to update.
        database.psql("INSERT INTO naive SELECT id, quantity FROM stock_items")
        old.execute("UPDATE stock_items SET quantity = 2 WHERE id = 4")
        assert old.execute("UPDATE naive SET on_hand = 2 WHERE item_id = 4").rowcount == 0
    assert database.psql(
        "SELECT quantity, on_hand FROM naive JOIN stock_items ON id = item_id WHERE id = 4"
    ) == ("2|4")
    stage.locations(database, test_sync.mapping())
    with repeatable(database) as old:
        stage.transform(database, test_sync.mapping())
        with pytest.raises(psycopg.errors.SerializationFailure):
            old.execute("UPDATE stock_items SET quantity = 3 WHERE id = 4")
        old.rollback()
        old.execute("UPDATE stock_items SET quantity = 3 WHERE id = 4")
    assert test_sync.differing(database) == ""


def test_a6_an_older_writers_delete_leaves_a_level_that_only_the_sweep_back_finds(
    database: Database,
) -> None:
    shop_of_levels(database)
    database.psql("ALTER TABLE levels DROP CONSTRAINT levels_item_id_fkey")
    stage.locations(database, test_sync.mapping())
    with repeatable(database) as old:
        stage.transform(database, test_sync.mapping())
        old.execute("DELETE FROM stock_items WHERE id = 4")
    # Trigger or none, it is there; a sweep over the records does not come by it.
    orphans = "item_id NOT IN (SELECT id FROM stock_items)"
    assert level(database, "item_id", orphans) == "4"
    assert database.psql(
        "SELECT count(*) FROM stock_items s WHERE NOT EXISTS "
        "(SELECT FROM levels t WHERE t.item_id = s.id AND t.on_hand = s.quantity)"
    ) == ("0")
    assert stage.close(database, test_sync.mapping()).proof.passed
    assert level(database, "item_id", orphans) == ""


def test_a6_without_anything_that_keeps_step_the_difference_says_nothing_and_no_verdict_is_final(
    database: Database,
) -> None:
    shop_of_levels(database)
    chosen = test_sync.unsynced()
    stage.locations(database, chosen)
    stage.transform(database, chosen)
    # Old code sells, new code sells, a record is deleted: three differences, and none an error.
    database.psql(
        "UPDATE stock_items SET quantity = quantity - 1 WHERE id = 4;"
        "UPDATE levels SET on_hand = on_hand - 1 WHERE item_id = 5"
    )
    assert test_sync.differing(database) == "4\n5"
    stage.pass_gate(database.engine, chosen, "transformed_stock")
    with pytest.raises(VerdictNotFinal), stage.control.Claim(database.engine) as claim:
        stage.reconcile.reconcile(database.engine, chosen, claim, stage.Start(explicit=True))
    assert database.psql("SELECT state FROM inventory_migration.migration") == "paused"


def test_a6_new_code_that_writes_level_then_record_is_never_the_deadlocks_victim(
    database: Database,
) -> None:
    shop_of_levels(database, items=6)
    statements = planned(database, test_sync.unsynced())
    insert = (
        "INSERT INTO levels (id, item_id, warehouse, on_hand, written) "
        "VALUES ('new', 4, 1, 4, now())"
    )
    sell = "UPDATE stock_items SET quantity = 3 WHERE id = 4"

    def patient() -> None:
        with database.engine.begin() as worker:
            turn(worker, statements)

    with psycopg.connect(database.url) as application:
        application.execute(insert)
        # Record then level, while the application has its level and comes for the record.
        with past_its_deadlock_check(database, patient):
            with pytest.raises(psycopg.errors.DeadlockDetected):
                application.execute(sell)
            application.rollback()
    undo(database, test_sync.unsynced())
    statements = planned(database, test_sync.unsynced())
    with psycopg.connect(database.url) as application:
        application.execute(insert)
        with database.engine.connect() as worker:
            statements.begin(worker)
            statements.lock_records(worker, [1])
            with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
                statements.write(worker, [1])
            worker.rollback()
        application.execute(sell)
    assert level(database, "on_hand", "id = 'new'") == "4"


def test_a7_a_difference_between_a_row_and_itself_is_always_empty(database: Database) -> None:
    stage.shop(database, items=3)
    stage.migrate(database)
    as_the_chunk(database, "UPDATE stock_items SET quantity = quantity + 1")
    naive = (
        "SELECT count(*) FROM (SELECT id, quantity FROM stock_items EXCEPT "
        "SELECT s.id, s.quantity FROM stock_items s JOIN locations l ON l.id = s.location_id) AS d"
    )
    assert database.psql(naive) == "0"
    assert proved(database) == {"units_changed": (False, 3)}
    assert conflicts(database) == ""
