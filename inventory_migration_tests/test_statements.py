"""The statements for a DBA are exact: they suffice to migrate, and none can be left out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.catalog import resolve
from inventory_migration.demo import create_demo
from inventory_migration.engine.plan import Start
from inventory_migration.engine.statements import Statements, statements, tables_read
from inventory_migration.errors import MigrationError, PrivilegesMissing
from inventory_migration.mapping import Expression, StockMapping, named_mapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database


@pytest.fixture
def worker(database: Database) -> Iterator[str]:
    """A role's name; who bears it owns nothing and may do nothing but what it is granted."""
    name = f"worker_{os.getpid()}"
    database.psql(f"""
        REVOKE ALL ON SCHEMA public FROM PUBLIC;
        REVOKE ALL ON DATABASE {database.name} FROM PUBLIC;
    """)
    yield name
    database.psql(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name};")


def printed(database: Database, mapping: StockMapping, role: str | None = None) -> Statements:
    with database.engine.connect() as connection:
        return statements(connection, resolve(connection, mapping), role=role)


def as_worker(database: Database, worker: str) -> verbs.Target:
    return verbs.open_target(database.url.replace("postgres@", f"{worker}@", 1))


@pytest.mark.slow
def test_a_role_with_the_printed_grants_migrates_proves_and_rolls_back(
    database: Database, worker: str
) -> None:
    create_demo(database.engine, companies=6, items=300, dirty=0.02)
    mapping = named_mapping("stock_items")
    database.psql(printed(database, mapping, worker).script())
    target = as_worker(database, worker)
    done = verbs.run(target, mapping)
    assert (done["state"], done["records"]["pending"]) == ("verified", 0)
    assert verbs.validate(target, mapping)["passed"]
    undone = verbs.roll_back(target, mapping)
    assert undone["state"] == "rolled_back"
    assert database.psql("SELECT count(*) FROM stock_items WHERE location_id IS NOT NULL") == "0"


def test_the_printed_grants_suffice_for_a_guard_trigger_and_for_taking_it_off(
    database: Database, worker: str
) -> None:
    create_demo(database.engine, companies=2, items=20)
    mapping = named_mapping("stock_items").model_copy(update={"guard": True})
    database.psql(printed(database, mapping, worker).script())
    target = as_worker(database, worker)
    assert verbs.run(target, mapping)["state"] == "verified"
    assert (
        database.psql(
            "INSERT INTO stock_items (company_id, product_id, name, sku, quantity) "
            "SELECT 1, min(id), 'n', 'new', 1 FROM products RETURNING location_id IS NOT NULL"
        )
        == "t"
    )
    assert verbs.roll_back(target, mapping)["state"] == "rolled_back"
    assert database.psql("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^zz_guard'") == "0"


def test_a_table_of_locations_that_is_missing_is_an_owners_step(
    database: Database, worker: str
) -> None:
    create_demo(database.engine, companies=3, items=60)
    database.psql("DROP TABLE locations")
    mapping = named_mapping("stock_items")
    owner = printed(database, mapping, worker).owner
    assert [statement.split("(")[0].strip() for statement in owner] == [
        'CREATE TABLE "public"."locations"',
        'CREATE UNIQUE INDEX ON "public"."locations"',
        'ALTER TABLE "public"."stock_items" ADD COLUMN "location_id" bigint',
    ]
    database.psql(printed(database, mapping, worker).script())
    assert verbs.run(as_worker(database, worker), mapping)["state"] == "verified"


def test_a_role_that_would_come_to_a_halt_halfway_is_refused_with_all_that_it_lacks(
    database: Database, worker: str
) -> None:
    create_demo(database.engine, companies=3, items=60)
    mapping = named_mapping("stock_items")
    told = printed(database, mapping, worker)
    database.psql(told.script())
    database.psql(f"""
        REVOKE UPDATE (location_id) ON stock_items FROM {worker};
        REVOKE INSERT (code, company_id), DELETE ON locations FROM {worker};
        REVOKE SELECT ON companies FROM {worker};
    """)
    for verb in (verbs.run, verbs.test):
        with pytest.raises(PrivilegesMissing) as refused:
            verb(as_worker(database, worker), mapping)
        assert refused.value.privileges == (
            'SELECT ON "public"."companies"',
            'INSERT ("company_id", "is_default", "name", "code", "kind") ON "public"."locations"',
            'DELETE ON "public"."locations"',
            'UPDATE ("location_id") ON "public"."stock_items"',
        )
        assert f"the role {worker} lacks SELECT ON" in str(refused.value)
        assert "'inventory-migration grants stock_items'" in str(refused.value)
    assert database.psql("SELECT to_regclass('inventory_migration.version') IS NULL") == "t"


def test_a_role_that_cannot_do_the_owners_steps_is_told_so(database: Database, worker: str) -> None:
    stage.shop(database)
    told = printed(database, stage.MAPPING, worker)
    assert len(told.owner) == 3
    usable = [grant for grant in told.grants if '"locations"' not in grant]
    usable = [grant.replace(', UPDATE ("location_id")', "") for grant in usable]
    database.psql("; ".join(usable))
    with pytest.raises(PrivilegesMissing) as refused:
        verbs.run(as_worker(database, worker), stage.MAPPING)
    assert refused.value.privileges == (
        'CREATE ON SCHEMA "public"',
        'REFERENCES ("id") ON "public"."companies"',
        'ownership of "public"."stock_items", to add the target\'s columns',
    )


def levels(database: Database, **target: bool) -> StockMapping:
    """Levels, links and open order lines, with keys that come from sequences."""
    stage.shop(database, items=6)
    database.psql("""
        CREATE TABLE locations (id serial PRIMARY KEY, company_id bigint, name text, code text,
                                is_default boolean NOT NULL DEFAULT false);
        CREATE TABLE channels (id int PRIMARY KEY);
        INSERT INTO channels VALUES (1);
        CREATE TABLE location_channels (id serial PRIMARY KEY, place integer, channel integer);
        CREATE TABLE lines (item bigint, quantity integer);
        CREATE TABLE levels (id serial PRIMARY KEY, item bigint, place integer, there integer,
                             promised integer, UNIQUE (item, place));
    """)
    link = {
        "table": "location_channels",
        "for_each": "channels",
        "values": {"place": {"from": "location"}, "channel": {"sql": "f.id"}},
    }
    lines = "(SELECT COALESCE(sum(o.quantity), 0) FROM lines o WHERE o.item = s.id)"
    return stage.mapping(
        locations={**stage.DEFINITION["locations"], "links": [link]},
        source={**stage.DEFINITION["source"], "reserved": {"sql": lines}},
        target={
            "shape": "stock_level",
            "table": "levels",
            "record": {"item": "id"},
            "location": "place",
            "on_hand": "there",
            "reserved": "promised",
            **target,
        },
    )


@pytest.mark.slow
@pytest.mark.parametrize("sync", [False, True])
def test_a_role_with_the_printed_grants_moves_levels_and_links_there_and_back(
    database: Database, worker: str, sync: bool
) -> None:
    mapping = levels(database, sync=sync)
    told = printed(database, mapping, worker)
    assert told.owner == []
    database.psql(told.script())
    database.psql("; ".join(told.write_stop))
    target = as_worker(database, worker)
    start = Start(explicit=True, write_stop=not sync)
    assert verbs.run(target, mapping, start)["state"] == "verified"
    database.psql("UPDATE stock_items SET quantity = 9 WHERE id = 4")
    assert verbs.validate(target, mapping)["passed"] is sync
    assert verbs.roll_back(target, mapping)["state"] == "rolled_back"
    assert database.psql("SELECT count(*) FROM levels") == "0"
    assert database.psql("SELECT count(*) FROM location_channels") == "0"


def test_without_the_right_to_lock_a_write_stop_is_refused_and_nothing_is_lost(
    database: Database, worker: str
) -> None:
    mapping = levels(database)
    database.psql(printed(database, mapping, worker).script())
    with pytest.raises((MigrationError, sa.exc.DBAPIError), match="permission denied"):
        verbs.run(as_worker(database, worker), mapping, Start(explicit=True, write_stop=True))
    assert database.psql("SELECT count(*) FROM levels") == "6"


def test_a_table_of_levels_that_is_missing_is_an_owners_step(
    database: Database, worker: str
) -> None:
    mapping = levels(database, add=True)
    database.psql("DROP TABLE levels")
    told = printed(database, mapping, worker)
    assert [statement.split("(")[0].strip() for statement in told.owner] == [
        'CREATE TABLE "public"."levels"'
    ]
    database.psql(told.script())
    database.psql("; ".join(printed(database, mapping, worker).write_stop))
    start = Start(explicit=True, write_stop=True)
    assert verbs.run(as_worker(database, worker), mapping, start)["state"] == "verified"


def test_nothing_is_asked_of_the_owner_where_all_is_there(database: Database) -> None:
    create_demo(database.engine, companies=3, items=60)
    database.psql("ALTER TABLE stock_items ADD COLUMN location_id bigint")
    told = printed(database, named_mapping("stock_items"))
    assert told.owner == []
    assert told.role == "inventory_worker"
    assert told.grants[0] == 'CREATE ROLE "inventory_worker" LOGIN'
    assert "Nothing is missing" in told.script()


def test_a_sequence_behind_the_locations_key_is_granted(database: Database) -> None:
    create_demo(database.engine, companies=3, items=60)
    database.psql("""
        DROP TABLE locations;
        CREATE TABLE locations (id serial PRIMARY KEY, company_id bigint, name text, code text,
                                kind text, is_default boolean NOT NULL DEFAULT false);
    """)
    grants = printed(database, named_mapping("stock_items")).grants
    assert grants[-1] == (
        'GRANT USAGE ON SEQUENCE "public"."locations_id_seq" TO "inventory_worker"'
    )


def test_tables_that_only_an_expression_reads_are_granted(database: Database) -> None:
    create_demo(database.engine, companies=3, items=60)
    mapping = named_mapping("stock_items")
    open_orders = Expression(
        sql="(SELECT sum(l.quantity) FROM order_lines l JOIN orders o ON o.id = l.order_id "
        "WHERE l.stock_item_id = s.id)"
    )
    source = mapping.source.model_copy(
        # The planner leaves this join out, the server asks for the privilege all the same.
        update={"reserved": open_orders, "joins": 'LEFT JOIN "Tenant" AS t ON t.id = s.sku'}
    )
    changed = mapping.model_copy(update={"source": source})
    with database.engine.connect() as connection:
        found = tables_read(connection, resolve(connection, changed))
    assert {name for _, name in found} == {
        "Tenant", "companies", "locations", "order_lines", "orders", "products", "stock_items",
    }  # fmt: skip


def test_what_the_engine_writes_is_shown_as_it_is_executed_but_not_by_the_script(
    database: Database,
) -> None:
    create_demo(database.engine, companies=3, items=60)
    told = printed(database, named_mapping("stock_items"))
    script = told.script()
    executed = "".join(
        line for line in script.splitlines(keepends=True) if not line.startswith("--")
    )
    changing = [line for line in executed.splitlines() if re.match(r"UPDATE|INSERT|DELETE", line)]
    assert changing == []
    assert any('UPDATE "public"."stock_items" AS s' in write for write in told.writes)
    for write in told.writes[:2]:
        database.psql(f"BEGIN; {write}; ROLLBACK;")
