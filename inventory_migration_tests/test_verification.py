"""A verification that failed stands until a new one passes."""

from __future__ import annotations

import pytest

from inventory_migration.engine import control, rollback
from inventory_migration.engine.plan import Start
from inventory_migration.errors import MigrationPaused, VerificationFailed
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database

STATE = "SELECT state FROM inventory_migration.migration"
FAILED = "SELECT failed_verification FROM inventory_migration.migration"
EVERYTHING = """
    SELECT * FROM stock_items ORDER BY id;
    SELECT count(*) FROM inventory_migration.event;
    SELECT number, state FROM inventory_migration.chunk ORDER BY number
"""
PAUSES = stage.mapping(
    phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}],
    thresholds={"action": "pause"},
)

# To a proof a faulty write: the row is as its chunk left it, and not what it should be.
TAMPER = """
    UPDATE inventory_migration.snapshot_1
    SET row_hash = row_hash {sign} 1, quantity = quantity {sign} 1 WHERE key_1 = 1
"""


def failed(database: Database, mapping: StockMapping = stage.MAPPING) -> None:
    """A migration whose last verification has failed."""
    stage.shop(database)
    stage.locations(database, mapping)
    stage.transform(database, mapping)
    database.psql(TAMPER.format(sign="+"))
    assert not stage.close(database, mapping).proof.passed
    assert database.psql(STATE) == "failed"
    assert "units changed: 1 (such as 1)" in database.psql(FAILED)


@pytest.mark.parametrize("start", [Start(), Start(explicit=True), Start(resume=True)])
def test_no_step_runs_on_what_was_found_wrong_while_it_is_so(
    database: Database, start: Start
) -> None:
    failed(database)
    # There would be something to do: a company without a location, and a record of it.
    database.psql("""
        INSERT INTO companies (name) VALUES ('Late');
        INSERT INTO stock_items (company_id, sku, quantity) VALUES (4, 'LATE', 1);
    """)
    before = database.psql(EVERYTHING)
    for step in (stage.locations, stage.transform, stage.close):
        with pytest.raises(VerificationFailed, match="what it found wrong is still so") as caught:
            step(database, stage.MAPPING, **({"start": start}))
        assert caught.value.exit_code == 3
        assert "'rollback shop' goes back" in str(caught.value)
    assert database.psql(EVERYTHING) == before
    assert database.psql("SELECT count(*) FROM locations") == "3"


def test_a_new_verification_that_passes_lets_it_go_on(database: Database) -> None:
    failed(database)
    database.psql(TAMPER.format(sign="-"))
    database.psql("INSERT INTO stock_items (company_id, sku, quantity) VALUES (3, 'LATE', 1)")
    assert stage.migrate(database).proof.passed
    assert (database.psql(STATE), database.psql(FAILED)) == ("verified", "")
    kinds = database.psql("SELECT kind FROM inventory_migration.event ORDER BY event_id")
    order = [k for k in kinds.splitlines() if k.startswith("verification") or "verified" in k]
    assert order == ["verification_failed", "verification_passed", "state_verified"]


def test_a_rollback_is_free_to_follow(database: Database) -> None:
    failed(database)
    with control.Claim(database.engine) as claim:
        rollback.roll_back(database.engine, stage.MAPPING, claim)
    assert database.psql(STATE) == "rolled_back"


def test_a_phase_that_did_not_reconcile_keeps_the_next_one_from_beginning(
    database: Database,
) -> None:
    stage.shop(database)
    stage.locations(database, PAUSES)
    database.psql("""
        CREATE FUNCTION drift() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            NEW.quantity = NEW.quantity + CASE NEW.id WHEN 4 THEN -1 WHEN 7 THEN 1 ELSE 0 END;
            RETURN NEW;
        END $$;
        CREATE TRIGGER drift BEFORE UPDATE ON stock_items
            FOR EACH ROW EXECUTE FUNCTION drift();
    """)
    with pytest.raises(MigrationPaused, match="phase 1 does not reconcile"):
        stage.transform(database, PAUSES)
    database.psql("DROP TRIGGER drift ON stock_items")
    with pytest.raises(VerificationFailed):
        stage.transform(database, PAUSES, start=Start(resume=True))
    assert (
        database.psql("SELECT state FROM inventory_migration.chunk WHERE phase = 2 GROUP BY 1")
        == "pending"
    )
    # Whoever has looked at the record and saved it anew has accounted for it.
    database.psql("UPDATE stock_items SET updated_at = now() WHERE id IN (4, 7)")
    stage.transform(database, PAUSES, start=Start(resume=True))
    assert stage.close(database, PAUSES).proof.passed
