"""The view that answers for any record is complete, and is in nobody's way."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.one_server

VIEW = "inventory_migration.shop_record_status"
LATE = "INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'late', 1)"


@pytest.fixture
def mapping() -> StockMapping:
    return stage.MAPPING


def migrated(database: Database, mapping: StockMapping) -> verbs.Target:
    stage.shop(database, items=120)
    database.psql("""
        UPDATE stock_items SET quantity = NULL WHERE id = 4;
        UPDATE stock_items SET deleted_at = now() WHERE id = 5;
    """)
    assert stage.migrate(database, mapping).changed
    return verbs.open_target(database.url)


def test_every_record_has_its_outcome_chunk_and_location_before_and_after(
    database: Database, mapping: StockMapping
) -> None:
    migrated(database, mapping)
    differing = f"""
        SELECT count(*) FROM {VIEW} v
        FULL JOIN stock_items s ON s.id = v.key_1
        WHERE v.location_before IS NOT NULL
           OR v.location_after IS DISTINCT FROM s.location_id::text
           OR (v.outcome = 'migrated') IS DISTINCT FROM (s.location_id IS NOT NULL)
           OR v.migration_id <> 1 OR v.migration_state <> 'verified' OR v.chunk IS NULL
           OR v.key_text <> s.id::text"""
    assert database.psql(f"SELECT count(*) FROM {VIEW}") == "120"
    assert database.psql(differing) == "0"
    assert database.psql(f"SELECT DISTINCT outcome FROM {VIEW} ORDER BY 1").splitlines() == [
        "migrated",
        "quarantined",
        "skipped",
    ]


def test_it_tells_of_later_migrations_and_of_what_was_undone(
    database: Database, mapping: StockMapping
) -> None:
    target = migrated(database, mapping)
    database.psql(LATE)
    assert stage.migrate(database, mapping).changed
    late = "SELECT migration_id, outcome, migration_state, chunk_state"
    of_late = "WHERE key_1 = (SELECT max(id) FROM stock_items)"
    assert database.psql(f"{late} FROM {VIEW} {of_late}") == "2|migrated|verified|done"
    verbs.roll_back(target, mapping, migration_id=2)
    assert database.psql(f"{late}, location_after FROM {VIEW} {of_late}") == (
        "2|migrated|rolled_back|undone|"
    )


def test_the_application_may_change_its_tables_beside_it(
    database: Database, mapping: StockMapping
) -> None:
    migrated(database, mapping)
    database.psql("""
        ALTER TABLE stock_items ALTER COLUMN sku TYPE varchar(90), DROP COLUMN location_id,
            DROP COLUMN quantity;
        DROP TABLE locations;
    """)
    assert database.psql(f"SELECT count(*) FROM {VIEW} WHERE location_after IS NOT NULL") > "0"


def test_a_key_of_another_type_starts_the_view_anew(
    database: Database, mapping: StockMapping
) -> None:
    migrated(database, mapping)
    database.psql("""
        ALTER TABLE stock_items ALTER COLUMN id DROP IDENTITY;
        ALTER TABLE stock_items ALTER COLUMN id TYPE numeric;
        UPDATE stock_items SET location_id = NULL WHERE id = 5;
    """)
    database.psql("UPDATE inventory_migration.migration SET state = 'rolling_back'")
    database.psql("UPDATE inventory_migration.migration SET state = 'rolled_back'")
    stage.migrate(database, mapping)
    assert database.psql(f"SELECT DISTINCT migration_id, pg_typeof(key_1) FROM {VIEW}") == (
        "2|numeric"
    )


def test_whoever_reads_it_for_long_does_not_stop_a_migration(
    database: Database, mapping: StockMapping, caplog: pytest.LogCaptureFixture
) -> None:
    migrated(database, mapping)
    database.psql(LATE)
    with psycopg.connect(database.url) as reader:
        reader.execute(f"SELECT 1 FROM {VIEW}")
        assert stage.migrate(database, mapping).proof.passed
    assert "stays as it was" in caplog.text
    with database.engine.connect() as connection:
        covered = connection.execute(sa.text(f"SELECT DISTINCT migration_id FROM {VIEW}"))
        assert covered.scalars().all() == [1]
