"""One chunk against one and two other sessions: locks, moments, totals, records that are refused.

Letters refer to the attacks on the protocol that each test repeats.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
import sqlalchemy as sa

from inventory_migration.engine import control, ledger, plan
from inventory_migration.engine.chunk import ChunkStatements
from inventory_migration.engine.snapshot import write_snapshot
from inventory_migration.errors import ControlTotalsDiffer, MigrationFailed
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.sessions import until
from inventory_migration_tests.stage import MAPPING


def planned(database: Database, mapping: stage.StockMapping = MAPPING) -> ChunkStatements:
    """A migration whose snapshot is written and whose chunks wait."""
    migration = stage.locations(database, mapping)
    assert migration is not None
    resolved = plan.read_mapping(database.engine, mapping)
    write_snapshot(database.engine, resolved, migration)
    return ChunkStatements(resolved, migration)


def shop_behind_a_join(database: Database) -> stage.StockMapping:
    """Two records, each of whose company stands with its product."""
    stage.shop(database, companies=2, items=2)
    database.psql(
        "CREATE TABLE products (id bigint PRIMARY KEY, company_id bigint);"
        "INSERT INTO products VALUES (1, 1), (2, 2);"
        "ALTER TABLE stock_items RENAME company_id TO product_id"
    )
    return stage.mapping(
        source={
            **stage.DEFINITION["source"],
            "company": {"sql": "p.company_id"},
            "joins": "JOIN products p ON p.id = s.product_id",
        }
    )


def turn(connection: sa.Connection, statements: ChunkStatements, number: int = 1) -> None:
    """What a worker does in one transaction, up to but without the commit."""
    statements.begin(connection)
    connection.execute(sa.text("SET LOCAL lock_timeout = '10s'"))
    assert control.enter(connection, statements.migration_id) == "run"
    statements.lock_records(connection, [number])
    assert statements.write(connection, [number]) == []
    connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
    statements.finish(connection, [number])


@contextmanager
def waiting(statements: ChunkStatements, engine: sa.Engine, number: int = 1) -> Iterator[None]:
    """Run a chunk in another thread, which is to wait for a lock that the body's session holds."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with engine.begin() as connection:
                turn(connection, statements, number)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 90
    with engine.connect() as watcher:
        while time.monotonic() < deadline:
            blocked = watcher.execute(
                sa.text(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                    "AND datname = current_database()"
                )
            ).scalar_one()
            watcher.rollback()
            if blocked:
                break
            time.sleep(0.02)
    yield
    thread.join(20)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def test_a_chunk_gives_each_record_its_location_and_keeps_its_totals(database: Database) -> None:
    stage.shop(database, companies=3, items=12)
    statements = planned(database)
    with database.engine.begin() as connection:
        turn(connection, statements)
    assert (
        database.psql(
            "SELECT count(*) FROM stock_items s JOIN locations l ON l.id = s.location_id "
            "AND l.company_id = s.company_id WHERE s.id <= 5"
        )
        == "5"
    )
    assert (
        database.psql(
            "SELECT state, migrated, units_before, units_after, reserved_before, reserved_after "
            "FROM inventory_migration.chunk WHERE number = 1"
        )
        == "done|5|15|15|2|2"
    )
    assert database.psql("SELECT count(*) FROM stock_items WHERE location_id IS NULL") == "7"


def test_the_chunk_keeps_the_id_of_the_transaction_that_wrote_its_records(
    database: Database,
) -> None:
    stage.shop(database, items=5)
    statements = planned(database)
    with database.engine.begin() as connection:
        turn(connection, statements)
    assert (
        database.psql(
            "SELECT count(*) FROM stock_items s, inventory_migration.chunk k "
            "WHERE s.xmin::text = k.xid"
        )
        == "5"
    )


def test_a_chunk_that_is_not_read_back_is_not_done(database: Database) -> None:
    stage.shop(database, items=5)
    statements = planned(database)
    with database.engine.begin() as connection:
        turn(connection, statements)
        with pytest.raises(ControlTotalsDiffer) as found:
            statements.finish(connection, [1, 99])
    assert found.value.differences == {"chunks": ([1, 99], [1])}


def test_a1_reserved_from_order_lines_is_read_after_the_lock_not_before(database: Database) -> None:
    stage.shop(database, companies=1, items=1)
    database.psql(
        "UPDATE stock_items SET quantity = 10;"
        "CREATE TABLE order_lines (item_id bigint, quantity int)"
    )
    lines = "(SELECT COALESCE(sum(o.quantity), 0) FROM order_lines o WHERE o.item_id = s.id)"
    mapping = stage.mapping(
        source={**stage.DEFINITION["source"], "reserved": {"sql": lines}}, quantity_basis="net"
    )
    statements = planned(database, mapping)
    with psycopg.connect(database.url) as application:
        application.execute("INSERT INTO order_lines VALUES (1, 4)")
        application.execute("UPDATE stock_items SET quantity = 6")
        with waiting(statements, database.engine):
            application.commit()
    # One statement for lock and reading would have seen the new quantity beside no reservation.
    assert (
        database.psql("SELECT units_before, reserved_before FROM inventory_migration.chunk")
        == "6|4"
    )


def test_a1_a_record_that_changes_company_meanwhile_is_not_taken_for_homeless(
    database: Database,
) -> None:
    stage.shop(database, companies=2, items=2)
    statements = planned(database)
    with psycopg.connect(database.url) as application:
        application.execute("UPDATE stock_items SET company_id = 2 WHERE id = 1")
        with waiting(statements, database.engine):
            application.commit()
    assert stage.outcomes(database) == {"migrated": 2}
    assert (
        database.psql(
            "SELECT l.company_id FROM stock_items s JOIN locations l ON l.id = s.location_id "
            "WHERE s.id = 1"
        )
        == "2"
    )
    # What we wrote can no longer be derived from the snapshot's company, so it is kept.
    assert database.psql("SELECT count(*) FROM inventory_migration.after_image") == "1"


def test_a1_a_record_whose_join_changes_meanwhile_is_not_taken_for_gone(database: Database) -> None:
    statements = planned(database, shop_behind_a_join(database))
    with psycopg.connect(database.url) as application:
        application.execute("UPDATE stock_items SET product_id = 2 WHERE id = 1")
        with waiting(statements, database.engine):
            application.commit()
    assert stage.outcomes(database) == {"migrated": 2}


def test_a_record_that_an_inner_join_drops_is_quarantined_not_gone(database: Database) -> None:
    statements = planned(database, shop_behind_a_join(database))
    database.psql("DELETE FROM products WHERE id = 2")
    with database.engine.begin() as connection:
        turn(connection, statements)
    assert stage.outcomes(database) == {"migrated": 1, "quarantined": 1}


def test_a_policy_that_hides_records_by_now_is_an_error_and_no_smaller_chunk(
    database: Database,
) -> None:
    stage.shop(database, items=5)
    statements = planned(database)
    role = f"limited_{database.name}"
    database.psql(
        f"CREATE ROLE {role}; GRANT pg_read_all_data, pg_write_all_data TO {role};"
        "ALTER TABLE stock_items ENABLE ROW LEVEL SECURITY"
    )
    try:
        with database.engine.connect() as connection:
            connection.execute(sa.text(f"SET LOCAL ROLE {role}"))
            with pytest.raises(sa.exc.ProgrammingError, match="row-level security"):
                turn(connection, statements)
    finally:
        database.psql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_deleted_record_is_gone_and_its_chunk_is_done(database: Database) -> None:
    stage.shop(database, items=3)
    statements = planned(database)
    database.psql("DELETE FROM stock_items")
    with database.engine.begin() as connection:
        turn(connection, statements)
    assert stage.outcomes(database) == {"gone": 3}
    assert database.psql("SELECT state FROM inventory_migration.chunk") == "done"


def test_a2_units_taken_by_a_trigger_after_the_write_stop_the_migration(database: Database) -> None:
    stage.shop(database, items=4)
    planned(database)
    database.psql(
        """
        CREATE FUNCTION shrink() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF pg_trigger_depth() = 1 THEN
                UPDATE stock_items SET quantity = quantity - 1 WHERE id = NEW.id;
            END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER shrink AFTER UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION shrink();
        """
    )
    before = stage.table(database, "stock_items")
    with pytest.raises(ControlTotalsDiffer) as caught:
        stage.transform(database)
    assert caught.value.differences["units"] == (10, 6)
    assert stage.table(database, "stock_items") == before
    assert database.psql("SELECT state FROM inventory_migration.migration") == "failed"


def test_a2_a_deferred_trigger_is_heard_before_the_totals_are_read(database: Database) -> None:
    stage.shop(database, items=4)
    planned(database)
    database.psql(
        """
        CREATE FUNCTION shrink() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF pg_trigger_depth() = 1 THEN
                UPDATE stock_items SET quantity = quantity - 1 WHERE id = NEW.id;
            END IF;
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER shrink AFTER UPDATE ON stock_items
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION shrink();
        """
    )
    with pytest.raises(ControlTotalsDiffer):
        stage.transform(database)
    assert database.psql("SELECT sum(quantity) FROM stock_items") == "10"


def test_a_trigger_that_resets_the_location_is_noticed(database: Database) -> None:
    stage.shop(database, items=4)
    planned(database)
    database.psql(
        """
        CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            NEW.location_id := NULL; RETURN NEW;
        END $$;
        CREATE TRIGGER forget BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION forget();
        """
    )
    with pytest.raises(ControlTotalsDiffer) as caught:
        stage.transform(database)
    assert caught.value.differences == {"records at their location": (4, 0)}


def test_a5_records_that_are_no_number_do_not_blind_the_totals(database: Database) -> None:
    stage.shop(database, items=6)
    database.psql(
        "ALTER TABLE stock_items ALTER quantity TYPE numeric;"
        "UPDATE stock_items SET quantity = 'NaN' WHERE id = 1;"
        "UPDATE stock_items SET quantity = 'Infinity' WHERE id = 2"
    )
    stage.migrate(database, stage.mapping(thresholds={"quarantined_percent": 100}))
    assert stage.outcomes(database) == {"migrated": 4, "quarantined": 2}
    assert (
        database.psql(
            "SELECT sum(units_before), sum(units_after), sum(not_numbers_before) "
            "FROM inventory_migration.chunk"
        )
        == "18|18|2"
    )


def test_a_row_lock_of_the_application_makes_the_chunk_come_back_not_skip(
    database: Database,
) -> None:
    stage.shop(database, items=20)
    stage.locations(database)
    tried = "SELECT COALESCE(sum(attempts), 0) FROM inventory_migration.chunk"
    with psycopg.connect(database.url) as application, ThreadPoolExecutor() as pool:
        application.execute("SELECT FROM stock_items WHERE id = 3 FOR UPDATE")
        ours = pool.submit(stage.transform, database)
        until(lambda: int(database.psql(tried)) > 0, "a try that gave way")
        application.rollback()
        ours.result(30)
    assert stage.outcomes(database) == {"migrated": 20}


def test_the_record_is_kept_whole_in_the_quarantine(database: Database) -> None:
    stage.shop(database, items=3)
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id = 2")
    stage.migrate(database)
    assert (
        database.psql(
            "SELECT rule, state, key_text, record->>'sku', reason FROM inventory_migration.outcome"
        )
        == "quantity_missing|open|2|SKU-2|the quantity is NULL or blank"
    )


@pytest.mark.parametrize("key_type", ["uuid", "text"])
def test_keys_of_any_type_move(database: Database, key_type: str) -> None:
    stage.shop(database, items=12)
    made = "md5(id::text)::uuid" if key_type == "uuid" else "'item ' || id || ' é''\"'"
    database.psql(
        "ALTER TABLE stock_items ALTER id DROP IDENTITY;"
        f"ALTER TABLE stock_items ALTER id TYPE {key_type} USING {made}"
    )
    found = stage.migrate(database)
    assert found.proof.differences == []
    assert stage.outcomes(database) == {"migrated": 12}


def test_a_composite_key_moves(database: Database) -> None:
    stage.shop(database, items=12)
    database.psql(
        "ALTER TABLE stock_items DROP CONSTRAINT stock_items_pkey;"
        "ALTER TABLE stock_items ADD PRIMARY KEY (company_id, sku)"
    )
    mapping = stage.mapping(source={**stage.DEFINITION["source"], "key": ["company_id", "sku"]})
    assert stage.migrate(database, mapping).proof.passed
    assert stage.outcomes(database) == {"migrated": 12}


def test_touch_sets_what_the_application_wants_to_see(database: Database) -> None:
    stage.shop(database, items=3)
    found = stage.migrate(database, stage.mapping(touch={"updated_at": {"sql": "now()"}}))
    assert found.proof.differences == []
    assert database.psql("SELECT count(updated_at) FROM stock_items") == "3"


def test_an_error_that_nobody_foresaw_stops_and_is_resumable(database: Database) -> None:
    stage.shop(database, items=8)
    stage.locations(database)
    database.psql(
        """
        CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'unforeseen' USING ERRCODE = 'XX000';
        END $$;
        CREATE TRIGGER break BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION break();
        """
    )
    with pytest.raises(MigrationFailed, match="unforeseen"):
        stage.transform(database)
    database.psql("DROP TRIGGER break ON stock_items")
    assert stage.transform(database) is not None
    assert stage.close(database).proof.passed
    with database.engine.connect() as connection:
        found = ledger.find(connection, mapping="shop")
        assert found is not None
        assert (found.migration_id, found.state) == (1, "verified")
