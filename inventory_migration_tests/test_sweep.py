"""Late arrivals: found in the data, worked off by the same chunks, and never twice."""

from __future__ import annotations

from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database


def changed_before_the_sweep(database: Database, sql: str) -> None:
    """Migrate, with an application that does something after the last chunk."""
    stage.shop(database, companies=3, items=12)
    stage.locations(database)
    stage.transform(database)
    database.psql(sql)
    stage.pass_gate(database.engine, stage.MAPPING, "transformed_stock")


def test_a3_a_record_that_arrived_late_is_migrated(database: Database) -> None:
    changed_before_the_sweep(
        database,
        "INSERT INTO stock_items (company_id, sku, quantity) VALUES (2, 'late', 7)",
    )
    assert stage.close(database).proof.differences == []
    assert stage.outcomes(database) == {"migrated": 13}


def test_a3_a_key_deleted_and_inserted_again_is_migrated(database: Database) -> None:
    changed_before_the_sweep(
        database,
        "DELETE FROM stock_items WHERE id = 4;"
        "INSERT INTO stock_items (id, company_id, sku, quantity) VALUES (4, 1, 'again', 4)",
    )
    assert stage.close(database).proof.passed
    assert database.psql("SELECT count(*) FROM stock_items WHERE location_id IS NULL") == "0"
    assert stage.outcomes(database) == {"migrated": 12}


def test_a3_a_location_that_an_old_save_set_back_to_null_is_written_again(
    database: Database,
) -> None:
    changed_before_the_sweep(database, "UPDATE stock_items SET location_id = NULL WHERE id = 4")
    assert stage.close(database).proof.passed
    assert database.psql("SELECT count(*) FROM stock_items WHERE location_id IS NULL") == "0"
    assert stage.outcomes(database) == {"migrated": 12}
    assert database.psql("SELECT sum(records - reopened) FROM inventory_migration.chunk") == "12"


def test_a3_a_record_whose_company_changed_later_is_put_aside_as_misplaced(
    database: Database,
) -> None:
    changed_before_the_sweep(database, "UPDATE stock_items SET company_id = 2 WHERE id = 4")
    found = stage.close(database)
    assert database.psql("SELECT key_text, rule FROM inventory_migration.outcome") == (
        "4|location_foreign"
    )
    assert [d.kind for d in found.proof.unexplained] == ["location_foreign"]


def test_a_gone_record_that_came_back_gets_its_turn(database: Database) -> None:
    stage.shop(database, items=6)
    stage.locations(database)
    database.psql("CREATE TABLE kept AS SELECT * FROM stock_items WHERE id = 2")
    stage.transform(database, stop_after=None)
    database.psql(
        "UPDATE inventory_migration.migration SET state = 'running' WHERE false;"
        "DELETE FROM stock_items WHERE id = 2;"
        "INSERT INTO inventory_migration.outcome (migration_id, position, chunk, key_text, outcome)"
        " VALUES (1, 2, 1, '2', 'gone');"
        "INSERT INTO stock_items (id, company_id, sku, quantity, reserved) "
        "SELECT id, company_id, sku, quantity, reserved FROM kept"
    )
    stage.pass_gate(database.engine, stage.MAPPING, "transformed_stock")
    assert stage.close(database).proof.passed
    assert stage.outcomes(database) == {"migrated": 6}


def test_a_new_company_gets_its_location_and_its_stock_moves(database: Database) -> None:
    changed_before_the_sweep(
        database,
        "INSERT INTO companies (name) VALUES ('Newcomer');"
        "INSERT INTO stock_items (company_id, sku, quantity) VALUES (4, 'first', 1)",
    )
    assert stage.close(database).proof.passed
    assert (
        database.psql(
            "SELECT l.company_id FROM stock_items s JOIN locations l ON l.id = s.location_id "
            "WHERE s.sku = 'first'"
        )
        == "4"
    )


def test_a_default_location_deleted_meanwhile_is_made_anew(database: Database) -> None:
    stage.shop(database, companies=3, items=12)
    stage.locations(database)
    with database.engine.connect() as connection:
        connection.rollback()
    database.psql("ALTER TABLE locations ADD COLUMN note text")
    stage.transform(database)
    database.psql(
        "UPDATE stock_items SET location_id = NULL WHERE company_id = 2;"
        "DELETE FROM locations WHERE company_id = 2"
    )
    stage.pass_gate(database.engine, stage.MAPPING, "transformed_stock")
    assert stage.close(database).proof.passed
    assert (
        database.psql(
            "SELECT count(*) FROM stock_items s JOIN locations l ON l.id = s.location_id "
            "AND l.company_id = s.company_id"
        )
        == "12"
    )


def test_a_late_record_that_breaks_a_rule_is_put_aside_once(database: Database) -> None:
    changed_before_the_sweep(
        database, "INSERT INTO stock_items (company_id, sku, quantity) VALUES (99, 'lost', 1)"
    )
    assert stage.close(database).proof.passed
    assert stage.outcomes(database) == {"migrated": 12, "quarantined": 1}


def test_a_copy_that_arrives_late_is_put_aside_as_one_that_was_there(database: Database) -> None:
    stage.shop(database, companies=1, items=2)
    strict = stage.mapping(rules={"item_duplicate": "quarantine"})
    stage.locations(database, strict)
    stage.transform(database, strict)
    database.psql(
        "INSERT INTO stock_items (company_id, sku, quantity) "
        "VALUES (1, 'SKU-1', 1), (1, 'SKU-3', 1), (1, 'SKU-4', 1), (1, 'SKU-4', 1), "
        "(NULL, 'SKU-2', 1)"
    )
    assert stage.close(database, strict).proof.differences == []
    assert (
        database.psql("SELECT key_text, rule FROM inventory_migration.outcome ORDER BY key_text")
        == "3|item_duplicate\n5|item_duplicate\n6|item_duplicate\n7|company_missing"
    )
    assert (
        database.psql("SELECT id FROM stock_items WHERE location_id IS NOT NULL ORDER BY id")
        == "1\n2\n4"
    )
