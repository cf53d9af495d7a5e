"""A proof that still holds, since nobody has written anything: when it is not made once more."""

from __future__ import annotations

from decimal import Decimal

import psycopg
import pytest
import sqlalchemy as sa

from inventory_migration.engine import ledger, plan, untouched
from inventory_migration.engine.snapshot import write_snapshot
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database

SOURCE = {name: said for name, said in stage.DEFINITION["source"].items() if name != "skip"}
PLAIN = stage.mapping(source=SOURCE)
"""What decides about a record stands in columns: the rows' own transactions tell of all of it."""

UNITS = Decimal(sum(range(1, 31)))


def proved(database: Database, mapping: StockMapping = PLAIN) -> Decimal | None:
    """The units of the checkpoint's proof, as far as it still holds."""
    resolved = plan.read_mapping(database.engine, mapping)
    with database.engine.connect() as connection:
        migration = ledger.find(connection, migration_id=1)
        assert migration is not None
        found = untouched.proved_at_checkpoint(connection, resolved, migration)
        return found.totals["units"] if found else None


@pytest.fixture
def moved(database: Database) -> Database:
    """A shop whose only phase has been moved and proved."""
    stage.shop(database)
    stage.locations(database, PLAIN)
    stage.transform(database, PLAIN)
    return database


def test_where_nobody_has_written_the_phases_proof_is_that_of_the_migration(
    moved: Database,
) -> None:
    assert proved(moved) == UNITS
    found = stage.close(moved, PLAIN)
    assert found.proof.passed
    assert found.proof.totals["units"] == UNITS
    kept = "SELECT state, units_after, units_changed FROM inventory_migration.migration"
    assert moved.psql(kept) == f"verified|{UNITS}|0"


@pytest.mark.parametrize(
    ("written", "passes"),
    [
        ("UPDATE stock_items SET quantity = quantity - 1 WHERE id = 3", True),
        ("DELETE FROM stock_items WHERE id = 3", True),
        ("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'new', 5)", True),
        ("UPDATE locations SET name = 'Elsewhere' WHERE company_id = 1", True),
        ("UPDATE stock_items SET location_id = 3 WHERE id = 1", False),
        ("UPDATE stock_items SET company_id = 2 WHERE id = 1", False),
        (
            "DELETE FROM stock_items WHERE id = 3;"
            "INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'new', 5)",
            True,
        ),
    ],
)
def test_whoever_writes_anything_has_all_compared_once_more(
    moved: Database, written: str, passes: bool
) -> None:
    moved.psql(written)
    assert proved(moved) is None
    assert stage.close(moved, PLAIN).proof.passed is passes


def test_a_writer_who_began_before_the_proof_has_all_compared_once_more(database: Database) -> None:
    stage.shop(database)
    stage.locations(database, PLAIN)
    with psycopg.connect(database.url) as writer:
        writer.execute("UPDATE companies SET name = 'Company one' WHERE id = 1")
        stage.transform(database, PLAIN)
        writer.commit()
    assert proved(database) is None


def test_a_record_that_came_between_plan_and_proof_is_still_swept_up(database: Database) -> None:
    stage.shop(database)
    migration = stage.locations(database, PLAIN)
    assert migration is not None
    write_snapshot(database.engine, plan.read_mapping(database.engine, PLAIN), migration)
    database.psql(
        "INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'new', 5);"
        "DELETE FROM stock_items WHERE id = 3"
    )
    stage.transform(database, PLAIN)
    assert proved(database) is None
    assert stage.close(database, PLAIN).proof.totals["units"] == UNITS - 3 + 5
    assert database.psql("SELECT count(*) FROM stock_items WHERE location_id IS NULL") == "0"


def test_a_phase_that_found_a_difference_proves_nothing_for_later(database: Database) -> None:
    stage.shop(database)
    stage.locations(database, PLAIN)
    database.psql(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN NEW.updated_at = now(); RETURN NEW; END';"
        "CREATE TRIGGER touch BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION touch()"
    )
    stage.transform(database, PLAIN)
    assert proved(database) is None
    assert stage.close(database, PLAIN).proof.passed


def test_of_several_phases_none_speaks_for_all(database: Database) -> None:
    phases = [{"name": "pilot", "companies": 1}, {"name": "rest"}]
    mapping = stage.mapping(source=SOURCE, phases=phases)
    stage.shop(database)
    stage.locations(database, mapping)
    stage.transform(database, mapping)
    assert proved(database) is None


def test_levels_that_nobody_has_written_to_are_compared_once(database: Database) -> None:
    mapping = stage.mapping(source=SOURCE, target=stage.LEVELS)
    stage.shop(database)
    stage.locations(database, mapping)
    stage.transform(database, mapping)
    # What has been written is known to the planner before it is compared.
    assert database.psql("SELECT count(*) FROM pg_stats WHERE tablename = 'levels'") == "4"
    assert proved(database, mapping) == UNITS
    for written in (
        "UPDATE levels SET on_hand = on_hand",
        "DELETE FROM levels WHERE item_id = 3",
        "DELETE FROM levels WHERE item_id = 3; INSERT INTO levels VALUES (3, 3, 3, 0)",
        "UPDATE stock_items SET quantity = quantity - 1 WHERE id = 3",
    ):
        with database.engine.connect() as connection:
            resolved = plan.resolve(connection, mapping)
            migration = ledger.find(connection, migration_id=1)
            assert migration is not None
            connection.execute(sa.text(written))
            assert not untouched.proved_at_checkpoint(connection, resolved, migration), written
            connection.rollback()
    # Swept and compared under the write stop all the same, where something was written.
    database.psql("UPDATE levels SET on_hand = 0 WHERE item_id = 3")
    found = stage.close(database, mapping)
    assert [(d.kind, d.sample) for d in found.proof.differences] == [
        ("target_changed_since", ["3"])
    ]


def test_levels_that_a_trigger_keeps_in_step_are_compared_once_more(database: Database) -> None:
    mapping = stage.mapping(source=SOURCE, target={**stage.LEVELS, "sync": True})
    stage.shop(database)
    stage.locations(database, mapping)
    stage.transform(database, mapping)
    assert proved(database, mapping) is None


def as_planned(database: Database) -> bool:
    """Whether nothing was written since the plan."""
    resolved = plan.read_mapping(database.engine, PLAIN)
    with database.engine.connect() as connection:
        migration = ledger.find(connection, migration_id=1)
        assert migration is not None
        return untouched.is_as_planned(connection, resolved, migration)


@pytest.mark.parametrize(
    "written",
    [
        "UPDATE stock_items SET sku = 'other' WHERE id = 3",
        "INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'new', 5)",
        "DELETE FROM stock_items WHERE id = 3",
        "UPDATE locations SET is_default = false WHERE company_id = 1",
        "INSERT INTO companies (name) VALUES ('Company four')",
    ],
)
def test_whoever_writes_after_the_plan_has_each_record_looked_at(
    database: Database, written: str
) -> None:
    stage.shop(database)
    migration = stage.locations(database, PLAIN)
    assert migration is not None
    write_snapshot(database.engine, plan.read_mapping(database.engine, PLAIN), migration)
    assert as_planned(database)
    database.psql(written)
    assert not as_planned(database)


def test_a_writer_who_began_before_the_plan_has_each_record_looked_at(database: Database) -> None:
    stage.shop(database)
    migration = stage.locations(database, PLAIN)
    assert migration is not None
    resolved = plan.read_mapping(database.engine, PLAIN)
    with psycopg.connect(database.url) as writer:
        writer.execute("UPDATE companies SET name = 'Company one' WHERE id = 1")
        write_snapshot(database.engine, resolved, migration)
        writer.commit()
    assert not as_planned(database)
