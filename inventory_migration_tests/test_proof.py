"""Whoever tampers with what was written is found out; what the application does is explained."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from inventory_migration.engine import balances, ledger, phases, plan, proof
from inventory_migration.engine.plan import Start
from inventory_migration.engine.snapshot import write_snapshot
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database


def proved(database: Database) -> dict[str, tuple[bool, int]]:
    """Differences by kind: explained, records."""
    resolved = plan.read_mapping(database.engine, stage.MAPPING)
    with database.engine.connect() as connection:
        migration = ledger.find(connection, mapping="shop")
        found = proof.prove(connection, resolved, migration)
    return {d.kind: (d.explained, d.records) for d in found.differences}


def as_the_chunk(database: Database, sql: str) -> None:
    """Change a record as if the migration itself had written it so: with the chunk's own xid."""
    database.psql(
        f"{sql}; UPDATE inventory_migration.chunk SET xid = "
        "(SELECT xmin::text FROM stock_items ORDER BY id LIMIT 1)"
    )


def test_a_finished_migration_has_no_difference(database: Database) -> None:
    stage.shop(database)
    stage.migrate(database)
    assert proved(database) == {}


@pytest.mark.parametrize(
    ("tampering", "kind"),
    [
        ("UPDATE stock_items SET quantity = quantity + 1", "units_changed"),
        ("UPDATE stock_items SET reserved = reserved + 1", "units_changed"),
        ("UPDATE stock_items SET sku = sku || '!'", "row_changed"),
        ("UPDATE stock_items SET location_id = NULL", "location_lost"),
        ("UPDATE stock_items SET location_id = location_id % 3 + 1", "location_foreign"),
    ],
)
def test_a7_a_wrong_write_in_our_own_name_is_found(
    database: Database, tampering: str, kind: str
) -> None:
    stage.shop(database, items=3)
    stage.migrate(database)
    as_the_chunk(database, tampering)
    assert proved(database) == {kind: (False, 3)}


def test_another_location_of_the_same_company_is_not_what_we_wrote(database: Database) -> None:
    stage.shop(database, items=3)
    stage.migrate(database)
    database.psql("INSERT INTO locations (company_id, name) VALUES (1, 'Shelf')")
    as_the_chunk(database, "UPDATE stock_items SET location_id = 4 WHERE id = 1")
    assert proved(database)["location_differs"] == (False, 1)


@pytest.mark.parametrize(
    ("application", "kind"),
    [
        ("UPDATE stock_items SET quantity = 1 WHERE id = 2", "touched_since"),
        ("DELETE FROM stock_items WHERE id = 2", "deleted_since"),
        (
            "INSERT INTO stock_items (company_id, sku, quantity, location_id) "
            "VALUES (1, 'new', 1, (SELECT id FROM locations WHERE company_id = 1))",
            "arrived_with_location",
        ),
    ],
)
def test_what_the_application_did_since_is_explained(
    database: Database, application: str, kind: str
) -> None:
    stage.shop(database)
    stage.migrate(database)
    database.psql(application)
    assert proved(database) == {kind: (True, 1)}


def test_a_record_without_location_that_no_snapshot_holds_is_a_difference(
    database: Database,
) -> None:
    stage.shop(database)
    stage.migrate(database)
    database.psql("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'late', 1)")
    assert proved(database) == {"not_migrated": (False, 1)}


def test_nothing_migrated_at_all_is_a_difference_of_every_record(database: Database) -> None:
    stage.shop(database, items=4)
    resolved = plan.read_mapping(database.engine, stage.MAPPING)
    with database.engine.connect() as connection:
        found = proof.prove(connection, resolved, None)
    assert [(d.kind, d.records) for d in found.unexplained] == [("not_migrated", 4)]


def test_a_trigger_of_the_application_explains_other_columns_but_never_units(
    database: Database,
) -> None:
    stage.shop(database, items=3)
    database.psql(
        """
        CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            NEW.updated_at := now(); RETURN NEW;
        END $$;
        CREATE TRIGGER stamp BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION stamp();
        """
    )
    stage.migrate(database)
    assert proved(database) == {"changed_by_trigger": (True, 3)}
    database.psql("ALTER TABLE stock_items DISABLE TRIGGER stamp")
    as_the_chunk(database, "UPDATE stock_items SET quantity = quantity + 1")
    assert proved(database)["units_changed"] == (False, 3)


def test_a_record_changed_between_snapshot_and_chunk_is_no_difference(database: Database) -> None:
    stage.shop(database, items=6)
    migration = stage.locations(database)
    assert migration is not None
    write_snapshot(database.engine, plan.read_mapping(database.engine, stage.MAPPING), migration)
    database.psql("UPDATE stock_items SET quantity = 100 WHERE id = 2")
    stage.transform(database)
    assert stage.close(database).proof.differences == []
    assert database.psql("SELECT quantity FROM inventory_migration.after_image") == "100"


def test_the_balance_adds_up_per_company_and_item(database: Database) -> None:
    stage.shop(database, items=9)
    stage.migrate(database)
    database.psql(
        "UPDATE stock_items SET quantity = 50 WHERE id = 1; DELETE FROM stock_items WHERE id = 2;"
        "UPDATE stock_items SET company_id = 1, "
        "location_id = (SELECT id FROM locations WHERE company_id = 1) WHERE id = 3"
    )
    resolved = plan.read_mapping(database.engine, stage.MAPPING)
    with database.engine.connect() as connection:
        migration = ledger.find(connection, mapping="shop")
        relation = balances.balance(connection, resolved, migration)
        rows = connection.execute(sa.text(relation)).all()
    assert all(r.available_before + r.explained == r.available_after for r in rows)
    assert sum(r.explained for r in rows) == 49 - 2
    as_the_chunk(database, "UPDATE stock_items SET quantity = quantity + 1")
    with database.engine.connect() as connection:
        wrong = connection.execute(
            sa.text(
                f"SELECT count(*) FROM ({relation}) b "
                "WHERE available_before + explained <> available_after"
            )
        ).scalar_one()
    assert wrong > 0


def test_levels_are_compared_by_record_where_one_has_two_or_none(database: Database) -> None:
    mapping = stage.mapping(target=stage.LEVELS)
    stage.shop(database)
    migration = stage.locations(database, mapping)
    assert migration is not None
    resolved = plan.read_mapping(database.engine, mapping)
    # A level that says the same is there already, and a record is gone before its chunk.
    database.psql("INSERT INTO levels SELECT 6, id, 6, 1 FROM locations WHERE company_id = 3")
    write_snapshot(database.engine, resolved, migration)
    database.psql("DELETE FROM stock_items WHERE id = 3")
    phases.work(database.engine, resolved, migration, Start(explicit=True), workers=1)
    assert stage.outcomes(database) == {"already": 1, "gone": 1, "migrated": 28}
    # Each of the two says what the record does, and together they say twice as much.
    shelf = "INSERT INTO locations (id, company_id, name, is_default) VALUES (9, 3, 'S', false)"
    none_gone = "DELETE FROM inventory_migration.snapshot_1 WHERE key_1 = 3"
    twice = f"{none_gone}; {shelf}; INSERT INTO levels VALUES (6, 9, 6, 1)"
    free = "ALTER TABLE levels DROP CONSTRAINT levels_item_id_fkey"
    orphaned = f"{free}; INSERT INTO levels SELECT 3, min(id), 3, 0 FROM locations"
    for written, kind, key in (
        (twice, "target_of_others_differs", "6"),
        (orphaned, "target_changed_since", "3"),
    ):
        with database.engine.connect() as connection:
            assert proof.prove(connection, resolved, migration).differences == []
            connection.execute(sa.text(written))
            found = proof.prove(connection, resolved, migration)
            assert [(d.kind, d.sample) for d in found.differences] == [(kind, [key])]
            connection.rollback()
