"""Owner steps are short: they wait briefly, come again, and hold nobody up meanwhile."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import new_locations, plan, schema_change
from inventory_migration.errors import LockNotObtained
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import FAST, Database
from inventory_migration_tests.stage import DEFINITION, MAPPING, mapping

ADD = ["ALTER TABLE stock_items ADD COLUMN location_id bigint"]
HAS_COLUMN = (
    "SELECT count(*) FROM pg_attribute "
    "WHERE attrelid = 'stock_items'::regclass AND attname = 'location_id'"
)


def resolved(database: Database, **changes: Any) -> ResolvedMapping:
    return plan.read_mapping(database.engine, mapping(**changes))


def test_a_step_waits_for_who_holds_the_table_and_is_then_taken(database: Database) -> None:
    stage.shop(database)
    with database.engine.connect() as application:
        application.execute(sa.text("SELECT count(*) FROM stock_items"))
        step = threading.Thread(
            target=schema_change.execute_briefly,
            args=(database.engine, ADD),
            kwargs={"what": "add a column"},
        )
        step.start()
        time.sleep(0.8)
        assert step.is_alive()
        assert database.psql(HAS_COLUMN) == "0"
        application.commit()
        step.join(10)
    assert not step.is_alive()
    assert database.psql(HAS_COLUMN) == "1"


def test_a_step_gives_up_in_the_end_and_says_what_it_wanted(database: Database) -> None:
    stage.shop(database)
    with database.engine.connect() as application:
        application.execute(sa.text("SELECT count(*) FROM stock_items"))
        began = time.monotonic()
        with pytest.raises(LockNotObtained, match="could not add a column within 1 s") as caught:
            schema_change.execute_briefly(database.engine, ADD, what="add a column", seconds=1.0)
        assert 1 <= time.monotonic() - began < 4
        assert caught.value.retryable
    assert database.psql(HAS_COLUMN) == "0"


def test_the_applications_readers_are_not_queued_behind_a_waiting_step(
    database: Database,
) -> None:
    stage.shop(database)
    waits: list[float] = []
    with database.engine.connect() as application:
        application.execute(sa.text("SELECT count(*) FROM stock_items"))
        step = threading.Thread(
            target=schema_change.execute_briefly,
            args=(database.engine, ADD),
            kwargs={"what": "add a column"},
        )
        step.start()
        with database.engine.connect() as reader:
            until = time.monotonic() + 2
            while time.monotonic() < until:
                began = time.monotonic()
                reader.execute(sa.text("SELECT count(*) FROM stock_items"))
                reader.rollback()
                waits.append(time.monotonic() - began)
                time.sleep(0.01)
        assert step.is_alive()
        application.rollback()
        step.join(10)
    assert not step.is_alive()
    assert max(waits) < 1.0
    # In between the table is free: most reads did not wait at all.
    assert sorted(waits)[len(waits) // 2] < 0.1


def test_an_error_of_the_step_itself_is_not_tried_again(database: Database) -> None:
    stage.shop(database)
    began = time.monotonic()
    with pytest.raises(sa.exc.ProgrammingError, match="does not exist"):
        schema_change.execute_briefly(
            database.engine, ["ALTER TABLE nothing ADD COLUMN a int"], what="add a column"
        )
    assert time.monotonic() - began < 5


def test_a_step_of_several_statements_is_taken_whole_or_not_at_all(database: Database) -> None:
    stage.shop(database)
    with pytest.raises(sa.exc.ProgrammingError):
        schema_change.execute_briefly(
            database.engine, [*ADD, "ALTER TABLE nothing ADD COLUMN a int"], what="add columns"
        )
    assert database.psql(HAS_COLUMN) == "0"


def test_adding_a_column_does_not_rewrite_the_table(database: Database) -> None:
    stage.shop(database)
    node = "SELECT relfilenode FROM pg_class WHERE oid = 'stock_items'::regclass"
    before = database.psql(node)
    statement = schema_change.add_column(resolved(database))
    assert statement == 'ALTER TABLE "public"."stock_items" ADD COLUMN "location_id" bigint'
    schema_change.execute_briefly(database.engine, [statement], what="add a column")
    assert database.psql(node) == before
    assert schema_change.add_column(resolved(database)) is None


def test_the_table_of_locations_has_what_the_mapping_says_of_it(database: Database) -> None:
    stage.shop(database)
    named = {
        **DEFINITION["locations"],
        "default": {"is_default": True, "rank": 1},
        "create": {"name": "Main", "rate": 0.5, "opened": {"sql": "now()"}, "is_default": True},
    }
    found = resolved(database, locations=named)
    table = schema_change.add_locations(found)
    assert table is not None
    schema_change.execute_briefly(
        database.engine,
        [table, schema_change.one_default_per_company(found)],
        what="create locations",
    )
    assert database.psql(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute "
        "WHERE attrelid = 'locations'::regclass AND attnum > 0 ORDER BY attnum"
    ).splitlines() == [
        "id|bigint|t",
        "company_id|bigint|t",
        "is_default|boolean|t",
        "rank|bigint|f",
        "name|text|f",
        "rate|numeric|f",
        "opened|text|f",
    ]
    assert schema_change.add_locations(resolved(database, locations=named)) is None
    database.psql(
        "INSERT INTO locations (company_id, is_default, rank) VALUES (1, true, 1), (1, true, 2)"
    )
    with pytest.raises(AssertionError, match="unique"):
        database.psql("INSERT INTO locations (company_id, is_default, rank) VALUES (1, true, 1)")


def test_a_key_that_the_server_cannot_default_is_made_by_us(database: Database) -> None:
    stage.shop(database)
    database.psql(
        "CREATE TABLE locations (id uuid PRIMARY KEY, company_id bigint, name text, code text, "
        "is_default boolean)"
    )
    *locks, insert = new_locations.create_locations(resolved(database))
    assert len(locks) == 1
    assert "gen_random_uuid()" in insert
    assert len(new_locations.create_locations(resolved(database), keep_out=False)) == 1


def writing(database: Database) -> sa.Connection:
    """A session of the application in the middle of a write."""
    application = database.engine.connect()
    application.execute(sa.text("UPDATE stock_items SET quantity = 7 WHERE id = 1"))
    return application


def test_writers_that_are_open_are_waited_for(database: Database) -> None:
    stage.shop(database)
    found = resolved(database)
    with writing(database) as older:
        wait = threading.Thread(
            target=schema_change.wait_for_older_writers, args=(database.engine, found)
        )
        wait.start()
        time.sleep(0.4)
        assert wait.is_alive()
        with writing_other_row(database) as later:
            older.commit()
            wait.join(5)
            assert not wait.is_alive()
            later.rollback()


def writing_other_row(database: Database) -> sa.Connection:
    application = database.engine.connect()
    application.execute(sa.text("UPDATE stock_items SET quantity = 7 WHERE id = 2"))
    return application


def test_a_writer_that_does_not_end_is_told_and_not_waited_for_for_ever(
    database: Database,
) -> None:
    stage.shop(database)
    found = resolved(database)
    with (
        writing(database),
        pytest.raises(LockNotObtained, match="see the end of older writers of stock_items"),
    ):
        schema_change.wait_for_older_writers(database.engine, found, seconds=0.5)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM stock_items",
        "SELECT count(*) FROM (SELECT FROM stock_items FOR UPDATE) AS s",
        "UPDATE companies SET name = name",
        # What VACUUM, ANALYZE and CREATE INDEX take: they may run for hours, and write no row.
        "LOCK TABLE stock_items IN SHARE UPDATE EXCLUSIVE MODE",
        "LOCK TABLE stock_items IN SHARE MODE",
    ],
)
def test_who_writes_no_record_is_not_waited_for(database: Database, statement: str) -> None:
    stage.shop(database)
    found = resolved(database)
    with database.engine.connect() as other:
        other.execute(sa.text(statement))
        schema_change.wait_for_older_writers(database.engine, found, seconds=0.5)
        assert other.in_transaction()


def test_a_writer_of_a_partition_is_waited_for(database: Database) -> None:
    stage.shop(database)
    database.psql(
        """
        DROP TABLE stock_items;
        CREATE TABLE stock_items (id bigint PRIMARY KEY, company_id bigint, sku text,
                                  quantity integer, reserved integer, deleted_at timestamptz)
        PARTITION BY RANGE (id);
        CREATE TABLE stock_items_1 PARTITION OF stock_items FOR VALUES FROM (0) TO (100);
        INSERT INTO stock_items (id) VALUES (1);
        """
    )
    found = resolved(database)
    with database.engine.connect() as older:
        older.execute(sa.text("UPDATE stock_items_1 SET quantity = 5"))
        with pytest.raises(LockNotObtained):
            schema_change.wait_for_older_writers(database.engine, found, seconds=0.3)
    assert stage.migrate(database, MAPPING).proof is not None


def test_a_prepared_transaction_is_a_writer_too(database: Database, folder: Path) -> None:
    settings = {**FAST, "max_prepared_transactions": "2"}
    own = EmbeddedServer(folder / "prepared", binaries=database.server.binaries, settings=settings)
    own.start()
    other = Database("inventory", own.url, own)
    try:
        stage.shop(other)
        other.psql("BEGIN; UPDATE stock_items SET quantity = 1; PREPARE TRANSACTION 'x'")
        found = resolved(other)
        with pytest.raises(LockNotObtained):
            schema_change.wait_for_older_writers(other.engine, found, seconds=0.3)
        other.psql("COMMIT PREPARED 'x'")
        schema_change.wait_for_older_writers(other.engine, found, seconds=0.3)
        assert other.psql("SELECT count(*) FROM stock_items WHERE quantity = 1") == "30"
    finally:
        other.engine.dispose()
        own.reset()
