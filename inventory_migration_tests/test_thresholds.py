"""What makes a migration stop by itself, what it does then, and that somebody is told."""

from __future__ import annotations

from typing import Any

import pytest

from inventory_migration.engine import thresholds
from inventory_migration.engine.plan import Start
from inventory_migration.errors import (
    MigrationError,
    MigrationPaused,
    MigrationRolledBack,
)
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.one_server

STATE = "SELECT state FROM inventory_migration.migration"
LOCATED = "SELECT count(location_id) FROM stock_items"
TOLD = """
    SELECT detail->>'trigger', detail->>'where', detail->>'action'
    FROM inventory_migration.event WHERE kind = 'threshold' ORDER BY event_id
"""
REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.id = 7 THEN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END IF; RETURN NEW;
    END $$;
    CREATE TRIGGER refuse BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION refuse();
"""
# Nothing is lost, and two records are not what they were.
DRIFT = """
    CREATE FUNCTION drift() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        NEW.quantity = NEW.quantity + CASE NEW.id WHEN 4 THEN -1 WHEN 7 THEN 1 ELSE 0 END;
        RETURN NEW;
    END $$;
    CREATE TRIGGER drift BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION drift();
"""


def limited(**limits: Any) -> StockMapping:
    """The shop's mapping in two phases under these thresholds."""
    return stage.mapping(
        phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}], thresholds=limits
    )


def unbroken(database: Database) -> None:
    """Nothing refuses any more."""
    database.psql("DROP TRIGGER refuse ON stock_items")


@pytest.mark.parametrize("action", ["rollback", "pause"])
def test_a_chunk_that_fails_too_often_does_what_the_mapping_says(
    database: Database, action: str
) -> None:
    mapping = limited(failed_attempts=2, action=action)
    stage.shop(database)
    stage.locations(database, mapping)
    database.psql(REFUSE.format(state="40P01"))
    with pytest.raises(MigrationError, match=r"chunk \d+ failed 3 times") as caught:
        stage.transform(database, mapping)
    [told] = database.psql(TOLD).splitlines()
    assert told.startswith("failed_attempts|chunk ")
    assert told.endswith(f"|{action}")
    if action == "rollback":
        assert isinstance(caught.value, MigrationRolledBack)
        assert (database.psql(STATE), database.psql(LOCATED)) == ("rolled_back", "0")
        return
    assert isinstance(caught.value, MigrationPaused)
    assert database.psql(STATE) == "paused"
    # Whoever resumes has seen it: the chunk gets its attempts anew.
    unbroken(database)
    stage.transform(database, mapping, start=Start(resume=True))
    assert stage.close(database, mapping).proof.passed


def test_a_chunk_is_tried_as_long_as_it_takes_where_the_mapping_says_continue(
    database: Database,
) -> None:
    mapping = limited(failed_attempts=1, actions={"failed_attempts": "continue"})
    stage.shop(database)
    stage.locations(database, mapping)
    database.psql("""
        CREATE SEQUENCE tries;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.id = 7 AND nextval('tries') < 5 THEN
                RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END IF; RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION refuse();
    """)
    # Alone: another worker may be through before the one that failed has noted it.
    stage.transform(database, mapping, workers=1)
    assert database.psql("SELECT max(attempts) FROM inventory_migration.chunk") == "4"
    assert stage.outcomes(database) == {"migrated": 30}


@pytest.mark.parametrize("action", ["rollback", "pause", "continue"])
def test_a_phase_that_does_not_reconcile_does_what_the_mapping_says(
    database: Database, action: str
) -> None:
    mapping = limited(actions={"reconciliation": action})
    stage.shop(database)
    stage.locations(database, mapping)
    database.psql(DRIFT)
    if action == "continue":
        stage.transform(database, mapping)
        assert database.psql(LOCATED) == "30"
        assert database.psql(TOLD) == "reconciliation|phase pilot|continue"
        # It stays unreconciled, and the last word is the verification's.
        assert (
            database.psql("SELECT name FROM inventory_migration.phase WHERE reconciled_at IS NULL")
            == "pilot"
        )
        assert not stage.close(database, mapping).proof.passed
        return
    with pytest.raises(MigrationError, match="phase 1 does not reconcile: units changed: 2"):
        stage.transform(database, mapping)
    assert database.psql(TOLD) == f"reconciliation|phase pilot|{action}"
    assert database.psql("SELECT count(*) FROM inventory_migration.chunk WHERE state = 'done' "
                         "AND phase = 2") == "0"  # fmt: skip
    assert database.psql(STATE) == {"rollback": "rolled_back", "pause": "paused"}[action]


@pytest.mark.parametrize("action", ["rollback", "pause", "continue"])
def test_a_chunk_that_takes_too_long_does_what_the_mapping_says(
    database: Database, action: str
) -> None:
    mapping = limited(chunk_seconds=0.3, actions={"chunk_seconds": action})
    stage.shop(database)
    stage.locations(database, mapping)
    database.psql("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.id = 7 THEN PERFORM pg_sleep(0.5); END IF; RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION refuse();
    """)
    if action == "continue":
        stage.transform(database, mapping)
        stage.transform(database, mapping)
        [told] = database.psql(TOLD).splitlines()
        assert told.startswith("chunk_seconds|chunk ")
        return
    with pytest.raises(MigrationError, match=r"chunk \d+ took 0\.\d s \(allowed are 0\.3 s\)"):
        stage.transform(database, mapping)
    assert database.psql(STATE) == {"rollback": "rolled_back", "pause": "paused"}[action]
    if action == "pause":
        # What was slow before does not stop who resumes.
        unbroken(database)
        stage.transform(database, mapping, start=Start(resume=True))
        assert stage.close(database, mapping).proof.passed


def test_waived_records_do_not_count_as_quarantined(database: Database) -> None:
    mapping = limited(quarantined_percent=1, after_records=1, action="pause")
    stage.shop(database)
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id = 7")
    stage.locations(database, mapping)
    with pytest.raises(MigrationPaused, match="1 of 10 records of the migration were quar"):
        stage.transform(database, mapping)
    with pytest.raises(MigrationPaused, match="were quarantined"):
        stage.transform(database, mapping, start=Start(resume=True))
    database.psql("UPDATE inventory_migration.outcome SET state = 'waived' WHERE state = 'open'")
    stage.transform(database, mapping, start=Start(resume=True))
    assert stage.close(database, mapping).proof.passed


def test_how_much_is_tolerated_may_change_while_a_migration_stands_still(
    database: Database,
) -> None:
    strict = limited(quarantined_percent=1, after_records=1, action="pause")
    stage.shop(database)
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id = 7")
    stage.locations(database, strict)
    with pytest.raises(MigrationPaused):
        stage.transform(database, strict)
    lenient = limited(quarantined_percent=50, after_records=1, action="pause")
    assert lenient.hash == strict.hash
    stage.transform(database, lenient, start=Start(resume=True))
    assert stage.close(database, lenient).proof.passed


def test_what_continues_is_told_once(database: Database) -> None:
    mapping = limited(quarantined_percent=1, after_records=1, action="continue")
    stage.shop(database)
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id = 7")
    stage.locations(database, mapping)
    migration = stage.transform(database, mapping)
    assert migration is not None
    resolved = stage.plan.read_mapping(database.engine, mapping)
    assert thresholds.exceeded(database.engine, resolved, migration) is None
    assert database.psql(TOLD).splitlines() == [
        "quarantined|the migration|continue",
        "quarantined|phase pilot|continue",
    ]
