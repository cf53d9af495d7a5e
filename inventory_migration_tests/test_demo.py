"""The demo inventory: reproducible, clean unless asked otherwise, spoilt in exact numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa

from inventory_migration.database import create_engine, quoted
from inventory_migration.demo import DemoSummary, create_demo, has_demo, schema
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.errors import (
    DatabaseUnreachable,
    DemoArgumentInvalid,
    DemoConflict,
    DemoExists,
    DemoInUse,
    LockNotObtained,
    MigrationError,
    PrivilegeMissing,
)
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.one_server

# What is wrong with a stock item `s`, told from the tables alone.
RECORD_DEFECTS = {
    "quantity_missing": "s.quantity IS NULL",
    "negative_quantity": "s.quantity < 0",
    "reserved_exceeds_quantity": "s.quantity >= 0 AND s.reserved_quantity > s.quantity",
    "company_unknown": "s.company_id NOT IN (SELECT id FROM companies)",
    "company_null": "s.company_id IS NULL",
    "item_duplicate": "(s.company_id, s.sku) IN "
    "(SELECT company_id, sku FROM stock_items GROUP BY 1, 2 HAVING count(*) > 1)",
    "sku_spaces": "s.sku <> btrim(s.sku)",
    "sku_case": "s.sku <> upper(s.sku)",
    "soft_deleted": "s.deleted_at IS NOT NULL",
}
WITH_DEFAULTS = """
    SELECT count(*) FROM companies AS c
    WHERE {0} = (SELECT count(*) FROM locations WHERE is_default AND company_id = c.id)
"""
COMPANY_DEFECTS = {
    "company_without_stock": "SELECT count(*) FROM companies AS c "
    "WHERE NOT EXISTS (SELECT FROM stock_items WHERE company_id = c.id)",
    "company_with_default_location": WITH_DEFAULTS.format(1),
}
REFUSALS = {
    "default_location_ambiguous": WITH_DEFAULTS.format(2),
    "default_location_company_unknown": "SELECT count(*) FROM locations "
    "WHERE is_default AND company_id NOT IN (SELECT id FROM companies)",
}
QUARANTINED = ("quantity_missing", "company_unknown", "company_null")

NOT_AS_OPEN_ORDERS_SAY = """
    SELECT count(*)
    FROM stock_items AS s
    LEFT JOIN (
        SELECT stock_item_id, sum(l.quantity) AS open
        FROM order_lines AS l JOIN orders AS o ON o.id = order_id
        WHERE status IN ('pending', 'paid')
        GROUP BY stock_item_id
    ) AS l ON l.stock_item_id = s.id
    WHERE s.reserved_quantity <> coalesce(open, 0)
"""


@pytest.fixture(scope="module")
def emptied(server: EmbeddedServer) -> Iterator[Database]:
    """A database for all tests here: to make one takes longer than most of them."""
    name = f"demo_{os.getpid()}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        made = Database(name, server.url.replace("/inventory?", f"/{name}?"), server)
        yield made
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def shop(emptied: Database) -> Iterator[Database]:
    """The module's database, with an empty schema public and no other."""
    yield emptied
    emptied.psql("""
        SET client_min_messages = warning;
        DROP SCHEMA IF EXISTS inventory_migration, public CASCADE;
        CREATE SCHEMA public;
    """)


def number(database: Database, sql: str) -> int:
    with database.engine.connect() as connection:
        return int(connection.scalar(sa.text(sql)))


def found_defects(database: Database) -> dict[str, int]:
    filters = ", ".join(
        f"count(*) FILTER (WHERE {condition}) AS {name}"
        for name, condition in RECORD_DEFECTS.items()
    )
    with database.engine.connect() as connection:
        row = connection.execute(sa.text(f"SELECT {filters} FROM stock_items AS s")).one()
    others = {name: number(database, sql) for name, sql in (COMPANY_DEFECTS | REFUSALS).items()}
    return dict(row._mapping) | others


def contents(database: Database) -> dict[str, str]:
    """Return a digest of the rows of every table in the schema public, and of the sequences."""
    with database.engine.connect() as connection:
        tables = connection.scalars(
            sa.text("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        ).all()
        rows = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {0} AS t"
        digests = [rows.format(quoted("public", name)) for name in tables]
        sequences = (
            "SELECT string_agg(sequencename || '=' || last_value, ',' ORDER BY sequencename) "
            "FROM pg_sequences"
        )
        return {
            name: str(connection.scalar(sa.text(query)))
            for name, query in zip([*tables, "sequences"], [*digests, sequences], strict=True)
        }


def test_the_same_seed_makes_the_same_data(shop: Database) -> None:
    def made(seed: int) -> dict[str, str]:
        create_demo(shop.engine, items=800, seed=seed, dirty=0.05, broken=True, replace=True)
        return contents(shop)

    first, again, other = made(7), made(7), made(8)

    assert again == first
    assert all(first[name] != other[name] for name in schema.TABLES)


def test_a_clean_demo_has_no_defect_of_any_kind(shop: Database) -> None:
    summary = create_demo(shop.engine, companies=40, items=3_000)

    assert summary.defects == {}
    assert set(found_defects(shop).values()) == {0}
    assert number(shop, "SELECT count(*) FROM locations") == 0
    assert number(shop, NOT_AS_OPEN_ORDERS_SAY) == 0
    assert number(shop, "SELECT count(*) FROM stock_items WHERE reserved_quantity > 0") > 0


def test_the_summary_is_what_stands_in_the_tables(shop: Database) -> None:
    summary = create_demo(shop.engine, companies=12, items=2_345, dirty=0.1)

    expected = {
        "companies": 12,
        "items": 2_345,
        "units": number(shop, "SELECT sum(quantity) FROM stock_items"),
        "reserved": number(shop, "SELECT sum(reserved_quantity) FROM stock_items"),
        "orders": number(shop, "SELECT count(*) FROM orders"),
        "order_lines": number(shop, "SELECT count(*) FROM order_lines"),
        "tenants": number(shop, 'SELECT count(*) FROM "Tenant"'),
        "batches": number(shop, 'SELECT count(*) FROM "InventoryBatch"'),
        "defects": summary.defects,
        "elapsed_seconds": summary.elapsed_seconds,
    }
    assert json.loads(json.dumps(summary.to_dict())) == expected
    assert summary.units > 0
    assert summary.orders > 0
    assert summary.elapsed_seconds > 0


def test_companies_are_of_uneven_size_and_share_skus(shop: Database) -> None:
    create_demo(shop.engine, companies=30, items=6_000)

    with shop.engine.connect() as connection:
        sizes = connection.scalars(
            sa.text("SELECT count(*) FROM stock_items GROUP BY company_id ORDER BY 1 DESC")
        ).all()
    assert len(sizes) == 30
    assert sizes[0] > 10 * sizes[-1]
    assert number(shop, "SELECT count(DISTINCT sku) FROM stock_items") < 6_000
    # Consecutive items belong to different companies, as in a table that grew over the years.
    assert number(
        shop,
        "SELECT count(*) FROM stock_items a JOIN stock_items b ON b.id = a.id + 1 "
        "WHERE a.company_id <> b.company_id",
    ) > 3_000  # fmt: skip


def test_names_have_apostrophes_and_accents(shop: Database) -> None:
    create_demo(shop.engine, companies=60, items=600)

    for table in ("companies", "products", "stock_items", '"Tenant"'):
        assert number(shop, f"SELECT count(*) FROM {table} WHERE name ~ ''''") > 0, table
        assert number(shop, f"SELECT count(*) FROM {table} WHERE name ~ '[äåéíñöøüèç]'") > 0, table
    assert number(shop, "SELECT count(*) FROM companies WHERE slug !~ '^[a-z][a-z0-9-]+$'") == 0


def test_orders_and_their_lines_belong_to_one_company(shop: Database) -> None:
    create_demo(shop.engine, items=3_000, dirty=0)

    assert number(
        shop,
        "SELECT count(*) FROM order_lines l JOIN orders o ON o.id = order_id "
        "JOIN stock_items s ON s.id = stock_item_id WHERE o.company_id <> s.company_id",
    ) == 0  # fmt: skip
    assert number(
        shop,
        "SELECT count(*) FROM orders WHERE id NOT IN (SELECT order_id FROM order_lines)",
    ) == 0  # fmt: skip
    assert number(shop, "SELECT count(DISTINCT status) FROM orders") == 5


def test_every_tenant_has_one_main_store_and_its_batches_are_clean(shop: Database) -> None:
    summary = create_demo(shop.engine, companies=40, items=2_000, dirty=0.05, broken=True)

    assert (summary.tenants, summary.batches) == (8, 200)
    assert number(
        shop,
        'SELECT count(*) FROM "Tenant" t WHERE 1 = (SELECT count(*) FROM "Store" s '
        'WHERE "tenantId" = t.id AND "isMain")',
    ) == 8  # fmt: skip
    assert number(shop, 'SELECT count(*) FROM "Store"') > 8
    assert number(shop, 'SELECT count(DISTINCT "tenantId") FROM "InventoryBatch"') == 8
    assert number(
        shop,
        'SELECT count(*) FROM "InventoryBatch" WHERE "remainingQuantity" < 0 OR "reservedQuantity" '
        'NOT BETWEEN 0 AND "remainingQuantity" OR "storeAllocations" IS NOT NULL '
        "OR \"transferRequests\" IS NOT NULL OR id !~ '^c[a-z0-9]{24}$'",
    ) == 0  # fmt: skip
    assert number(
        shop, 'SELECT count(DISTINCT ("tenantId", "batchNumber")) FROM "InventoryBatch"'
    ) == 200  # fmt: skip


@pytest.mark.parametrize(
    ("companies", "items", "dirty", "broken"),
    [
        (50, 10_000, 0.02, False),
        (50, 10_000, 0.01, True),
        (3, 1_000, 0.29, False),
        (1, 500, 0.1, True),
        (50, 100, 0.0001, False),
        (100, 100, 0.01, True),
        (700, 600, 0.05, False),
        (20, 2_000, 1, False),
        (5, 40, 0.5, False),
    ],
)
def test_each_defect_stands_in_the_tables_as_often_as_the_summary_says(
    shop: Database, companies: int, items: int, dirty: float, broken: bool
) -> None:
    summary = create_demo(shop.engine, companies=companies, items=items, dirty=dirty, broken=broken)

    found = found_defects(shop)
    if not broken:
        found = {name: count for name, count in found.items() if name not in REFUSALS}
    assert summary.defects == found
    # One defect to a record: the numbers add up to the records that have any.
    any_defect = " OR ".join(f"({condition})" for condition in RECORD_DEFECTS.values())
    spoilt = number(shop, f"SELECT count(*) FROM stock_items s WHERE {any_defect}")
    assert spoilt == sum(found[name] for name in RECORD_DEFECTS)
    assert summary.items == items
    assert summary.companies == companies


def test_the_share_is_of_items(shop: Database) -> None:
    summary = create_demo(shop.engine, items=10_000, dirty=0.02)

    assert summary.defects == {
        "quantity_missing": 12,
        "negative_quantity": 24,
        "reserved_exceeds_quantity": 24,
        "company_unknown": 8,
        "company_null": 8,
        "item_duplicate": 48,
        "sku_spaces": 24,
        "sku_case": 24,
        "soft_deleted": 28,
        "company_without_stock": 1,
        "company_with_default_location": 1,
    }
    assert sum(summary.defects[name] for name in RECORD_DEFECTS) == 200


def test_the_smallest_share_of_a_hundred_items_plants_one_of_each(shop: Database) -> None:
    for companies in (1, 50, 100, 1_000):
        defects = create_demo(
            shop.engine, companies=companies, items=100, dirty=0.000_01, replace=True
        ).defects

        assert all(defects[name] >= 1 for name in RECORD_DEFECTS), companies
        assert defects["company_with_default_location"] == 1
        # A single company can not be without stock when there is any.
        assert (defects["company_without_stock"] >= 1) == (companies > 1), companies


def test_few_enough_records_are_quarantined_for_a_migration_to_go_on(shop: Database) -> None:
    for dirty in (0.005, 0.02, 0.3, 1.0):
        defects = create_demo(shop.engine, items=5_000, dirty=dirty, replace=True).defects

        quarantined = sum(defects[name] for name in QUARANTINED) / 5_000
        assert 0 < quarantined < 0.5 * dirty, dirty
        assert quarantined < 0.01 or dirty > 0.02, dirty


def test_defects_leave_the_open_orders_right_but_for_what_is_oversold(shop: Database) -> None:
    summary = create_demo(shop.engine, items=5_000, dirty=0.1)

    differing = number(shop, NOT_AS_OPEN_ORDERS_SAY)
    assert differing == summary.defects["reserved_exceeds_quantity"]


def test_broken_plants_two_defaults_and_a_default_of_no_company(shop: Database) -> None:
    summary = create_demo(shop.engine, items=500, broken=True)

    assert summary.defects == {
        "default_location_ambiguous": 1,
        "default_location_company_unknown": 1,
    }
    assert found_defects(shop) == dict.fromkeys(
        [*RECORD_DEFECTS, *COMPANY_DEFECTS], 0
    ) | summary.defects  # fmt: skip
    assert number(shop, "SELECT count(*) FROM locations") == 3


@pytest.mark.parametrize(("dirty", "broken"), [(0.0, False), (0.5, True)])
def test_an_empty_inventory_can_be_made(shop: Database, dirty: float, broken: bool) -> None:
    summary = create_demo(shop.engine, companies=3, items=0, dirty=dirty, broken=broken)

    assert (summary.companies, summary.items, summary.units, summary.reserved) == (3, 0, 0, 0)
    assert (summary.orders, summary.order_lines, summary.batches) == (0, 0, 0)
    assert number(shop, "SELECT count(*) FROM companies") == 3
    assert has_demo(shop.engine)


def test_fewer_items_than_companies_leave_companies_without_stock(shop: Database) -> None:
    create_demo(shop.engine, companies=20, items=7)

    assert number(shop, "SELECT count(DISTINCT company_id) FROM stock_items") == 7


def test_the_application_can_go_on_after_the_demo(shop: Database) -> None:
    create_demo(shop.engine, companies=5, items=30, dirty=0.5, broken=True)

    shop.psql("""
        INSERT INTO companies (name, slug) VALUES ('New', 'new');
        INSERT INTO products (company_id, name) SELECT max(id), 'Thing' FROM companies;
        INSERT INTO stock_items (company_id, product_id, sku, name, quantity)
            SELECT company_id, id, 'N-1', name, 5 FROM products ORDER BY id DESC LIMIT 1;
        INSERT INTO locations (company_id, name, code) VALUES (1, 'Shed', 'S');
        INSERT INTO orders (company_id, status) VALUES (1, 'paid');
        INSERT INTO order_lines (order_id, stock_item_id, quantity)
            SELECT max(orders.id), 1, 1 FROM orders;
    """)
    # A new company must not inherit stock or a location that point to a deleted one.
    assert number(
        shop,
        "SELECT count(*) FROM companies c LEFT JOIN locations l ON l.company_id = c.id "
        "JOIN stock_items s ON s.company_id = c.id WHERE slug = 'new' AND l.id IS NULL",
    ) == 1  # fmt: skip


def test_a_medium_inventory_is_made_in_seconds(shop: Database) -> None:
    summary = create_demo(shop.engine, companies=200, items=50_000, dirty=0.01)

    assert summary.items == number(shop, "SELECT count(*) FROM stock_items") == 50_000
    assert summary.batches == 5_000
    assert summary.elapsed_seconds < 30
    # The planner knows the tables, so that the first look at them is a quick one.
    estimate = number(shop, "SELECT reltuples FROM pg_class WHERE relname = 'stock_items'")
    assert estimate == pytest.approx(50_000, rel=0.05)


def test_a_second_demo_needs_replace(shop: Database) -> None:
    assert not has_demo(shop.engine)
    create_demo(shop.engine, items=50)
    before = contents(shop)

    with pytest.raises(DemoExists, match="demo --replace") as caught:
        create_demo(shop.engine, items=60)

    assert caught.value.exit_code == 2
    assert caught.value.tables == list(schema.TABLES)
    assert contents(shop) == before
    assert create_demo(shop.engine, items=60, replace=True).items == 60
    assert has_demo(shop.engine)


def test_replace_takes_what_a_migration_added_and_leaves_the_rest(shop: Database) -> None:
    create_demo(shop.engine, items=50)
    shop.psql("""
        CREATE SCHEMA inventory_migration;
        CREATE TABLE inventory_migration.companies (id int);
        CREATE TABLE suppliers AS SELECT 1 AS id;
        ALTER TABLE stock_items ADD location_id bigint REFERENCES locations;
        CREATE UNIQUE INDEX one_default ON locations (company_id) WHERE is_default;
    """)

    create_demo(shop.engine, items=40, replace=True)

    assert number(shop, "SELECT count(*) FROM suppliers") == 1
    assert number(shop, "SELECT count(*) FROM inventory_migration.companies") == 0
    assert number(
        shop, "SELECT count(*) FROM pg_attribute WHERE attname = 'location_id' AND attnum > 0"
    ) == 0  # fmt: skip


def test_replace_also_mends_an_incomplete_demo(shop: Database) -> None:
    create_demo(shop.engine, items=50)
    shop.psql("DROP TABLE order_lines")
    assert not has_demo(shop.engine)

    with pytest.raises(DemoExists):
        create_demo(shop.engine, items=50)
    create_demo(shop.engine, items=50, replace=True)

    assert has_demo(shop.engine)


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("CREATE TABLE companies (id int)", "companies"),
        ("CREATE VIEW orders AS SELECT 1", "orders"),
        ('CREATE SEQUENCE "Store"', "Store"),
        ("CREATE TYPE products AS ENUM ('one')", "products"),
        ("CREATE TABLE locations (id int); COMMENT ON TABLE locations IS 'demo'", "locations"),
    ],
    ids=["table", "view", "sequence", "type", "other comment"],
)
def test_a_name_that_is_somebody_elses_is_refused(
    shop: Database, statement: str, name: str
) -> None:
    shop.psql(statement)
    before = contents(shop)

    for replace in (False, True):
        with pytest.raises(DemoConflict, match="INVENTORY_DATABASE_URL") as caught:
            create_demo(shop.engine, items=50, replace=replace)
        assert caught.value.tables == [name]
        assert caught.value.exit_code == 2
    assert contents(shop) == before
    assert not has_demo(shop.engine)


def test_replace_drops_nothing_where_one_table_lost_its_mark(shop: Database) -> None:
    create_demo(shop.engine, items=50)
    shop.psql('COMMENT ON TABLE "InventoryBatch" IS NULL')
    before = contents(shop)

    with pytest.raises(DemoConflict) as caught:
        create_demo(shop.engine, items=60, replace=True)

    assert caught.value.tables == ["InventoryBatch"]
    assert contents(shop) == before


@pytest.mark.parametrize(
    ("statement", "dependent"),
    [
        ("CREATE VIEW low_stock AS SELECT id FROM stock_items WHERE quantity < 3", "low_stock"),
        ("CREATE TABLE suppliers (company_id bigint REFERENCES companies)", "suppliers"),
        ("CREATE MATERIALIZED VIEW sold AS SELECT count(*) FROM order_lines", "sold"),
    ],
    ids=["view", "foreign key", "materialized view"],
)
def test_replace_refuses_while_something_else_depends_on_the_demo(
    shop: Database, statement: str, dependent: str
) -> None:
    create_demo(shop.engine, items=50)
    shop.psql(statement)
    before = contents(shop)

    with pytest.raises(DemoInUse, match=dependent) as caught:
        create_demo(shop.engine, items=60, replace=True)

    assert caught.value.exit_code == 2
    assert contents(shop) == before


def test_replace_gives_up_where_the_demo_is_locked(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_LOCK_SECONDS", 1)
    create_demo(shop.engine, items=50)

    with shop.engine.begin() as reader:
        reader.execute(sa.text("SELECT count(*) FROM companies"))
        with pytest.raises(LockNotObtained) as caught:
            create_demo(shop.engine, items=60, replace=True)

    assert caught.value.retryable
    assert number(shop, "SELECT count(*) FROM stock_items") == 50


def test_two_at_once_make_one_demo(shop: Database) -> None:
    def attempt(items: int) -> DemoSummary | MigrationError:
        try:
            return create_demo(create_engine(shop.url), items=items)
        except MigrationError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(attempt, [3_000, 4_000]))

    made = [outcome for outcome in outcomes if isinstance(outcome, DemoSummary)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, DemoExists)]
    assert len(made) == len(refused) == 1
    assert number(shop, "SELECT count(*) FROM stock_items") == made[0].items


def test_a_failure_on_the_way_leaves_everything_as_it_was(database: Database) -> None:
    create_demo(database.engine, items=50)
    before = contents(database)
    # May create and drop the tables, but then no temporary ones.
    database.psql(f"""
        CREATE ROLE demo_{database.name};
        GRANT ALL ON SCHEMA public TO demo_{database.name};
        DO $$
        DECLARE name text;
        BEGIN
            FOR name IN SELECT relname FROM pg_class
                WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' LOOP
                EXECUTE format('ALTER TABLE %I OWNER TO demo_{database.name}', name);
            END LOOP;
        END $$;
        REVOKE TEMPORARY ON DATABASE {database.name} FROM PUBLIC;
    """)
    restricted = create_engine(database.url)
    sa.event.listen(
        restricted, "begin",
        lambda connection: connection.exec_driver_sql(f"SET ROLE demo_{database.name}"),
    )  # fmt: skip
    try:
        with pytest.raises(PrivilegeMissing):
            create_demo(restricted, items=60, replace=True)
        assert contents(database) == before
    finally:
        database.psql(f"DROP OWNED BY demo_{database.name}; DROP ROLE demo_{database.name}")


def test_no_setting_of_the_session_changes_what_is_made(database: Database) -> None:
    create_demo(database.engine, items=300, dirty=0.1)
    expected = contents(database)
    database.psql(f"""
        CREATE SCHEMA elsewhere;
        CREATE TABLE elsewhere.companies (id int);
        ALTER DATABASE {database.name} SET search_path = elsewhere;
        ALTER DATABASE {database.name} SET timezone = 'Europe/Berlin';
        ALTER DATABASE {database.name} SET datestyle = 'SQL, DMY';
        ALTER DATABASE {database.name} SET statement_timeout = '20s';
        ALTER DATABASE {database.name} SET default_transaction_isolation = 'serializable';
    """)

    create_demo(database.engine, items=300, dirty=0.1, replace=True)

    assert has_demo(database.engine)
    database.psql(f"ALTER DATABASE {database.name} RESET ALL")
    assert contents(database) == expected


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"companies": 0}, "companies"),
        ({"items": -1}, "items"),
        ({"seed": 2**63}, "seed"),
        ({"dirty": -0.1}, "dirty"),
        ({"dirty": 1.01}, "dirty"),
        ({"dirty": float("nan")}, "dirty"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused_before_anything_is_asked_of_a_server(
    arguments: dict[str, float], argument: str
) -> None:
    nowhere = create_engine("host=/nonexistent dbname=shop")

    with pytest.raises(DemoArgumentInvalid, match=f"--{argument} ") as caught:
        create_demo(nowhere, **arguments)  # type: ignore[arg-type]

    assert caught.value.exit_code == 2


def test_a_server_that_does_not_answer_is_one_sentence() -> None:
    nowhere = create_engine("host=/nonexistent dbname=shop")

    with pytest.raises(DatabaseUnreachable, match="/nonexistent"):
        create_demo(nowhere)
    with pytest.raises(DatabaseUnreachable, match="/nonexistent"):
        has_demo(nowhere)


def test_any_seed_of_64_bits_will_do(shop: Database) -> None:
    for seed in (0, -1, -(2**63), 2**63 - 1):
        made = create_demo(shop.engine, items=120, seed=seed, dirty=0.1, replace=True)
        assert made.items == 120
