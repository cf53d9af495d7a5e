"""The verbs with their real gates: public functions, refusals that change nothing, thresholds."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa

import inventory_migration
from inventory_migration import verbs
from inventory_migration.demo import create_demo
from inventory_migration.engine import prediction
from inventory_migration.engine.plan import Start
from inventory_migration.errors import (
    GateRefused,
    MigrationBusy,
    MigrationError,
    MigrationRolledBack,
)
from inventory_migration.mapping import named_mapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.receivers import Receiver

pytestmark = [pytest.mark.slow, pytest.mark.one_server]

MAPPING = named_mapping("stock_items")


def everything(database: Database) -> str:
    """Schema and sorted rows of every table of the application."""
    dump = database.server.binaries / "pg_dump"
    import subprocess

    schema = subprocess.run(
        [dump, "--schema-only", "--exclude-schema=inventory_migration", database.url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    tables = database.psql(
        "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
    ).splitlines()
    rows = [database.psql(f"SELECT to_jsonb(t) FROM {name} t ORDER BY 1") for name in tables]
    # pg_dump closes its scripts with a random token.
    lines = [line for line in schema.splitlines() if not line.startswith("\\")]
    return "\n".join([*lines, *rows])


def test_the_public_functions_do_what_their_names_say(database: Database) -> None:
    create_demo(database.engine, companies=5, items=200, dirty=0.02)
    locations = inventory_migration.create_default_warehouse_per_company(database_url=database.url)
    assert len(locations) == 5
    assert sum(location["created"] for location in locations) == 4
    assert database.psql("SELECT count(location_id) FROM stock_items") == "0"
    found = inventory_migration.migrate_existing_stock_to_default_location(
        database_url=database.url
    )
    assert found["migration_id"] == 1
    assert found["state"] == "verified"
    records = found["records"]
    assert records["snapshot"] == 200
    assert records["snapshot"] == sum(
        records[name] for name in ("migrated", "already", "skipped", "quarantined", "gone")
    )
    assert found["units"]["before"] == found["units"]["after"]
    assert found["reserved"]["before"] == found["reserved"]["after"]


def test_outcomes_add_up_per_company_too(database: Database) -> None:
    create_demo(database.engine, companies=5, items=500, dirty=0.02)
    verbs.run(verbs.open_target(database.url), MAPPING)
    assert (
        database.psql(
            """
        SELECT count(*) FROM (
            SELECT p.company_key, count(*) AS snapshot,
                   count(*) FILTER (WHERE o.position IS NULL) AS migrated,
                   count(o.position) AS others
            FROM inventory_migration.snapshot_1 p
            LEFT JOIN inventory_migration.outcome o USING (position)
            GROUP BY 1) c
        JOIN (SELECT company_id, count(*) AS records, count(location_id) AS located
              FROM stock_items GROUP BY 1) s ON s.company_id IS NOT DISTINCT FROM c.company_key
        WHERE c.snapshot <> s.records OR c.migrated <> s.located
        """
        )
        == "0"
    )


def test_a_second_run_changes_nothing_and_says_so(database: Database) -> None:
    create_demo(database.engine, companies=5, items=200, dirty=0.02)
    target = verbs.open_target(database.url)
    assert verbs.run(target, MAPPING)["changed"] is True
    before = everything(database)
    again = verbs.run(target, MAPPING)
    assert again["changed"] is False
    assert again["migration_id"] == 1
    assert everything(database) == before
    assert database.psql("SELECT count(*) FROM inventory_migration.migration") == "1"


def test_a_later_run_takes_only_what_is_new(database: Database) -> None:
    create_demo(database.engine, companies=5, items=200)
    target = verbs.open_target(database.url)
    verbs.run(target, MAPPING)
    database.psql(
        "INSERT INTO companies (name, slug) VALUES ('Newcomer', 'newcomer');"
        "UPDATE stock_items SET id = 100000, location_id = NULL, "
        "company_id = (SELECT max(id) FROM companies) "
        "WHERE id = (SELECT max(id) FROM stock_items WHERE id NOT IN "
        "(SELECT stock_item_id FROM order_lines))"
    )
    found = verbs.run(target, MAPPING)
    assert found["migration_id"] == 2
    assert found["records"]["snapshot"] == found["records"]["migrated"] == 1
    assert found["locations_created"] == 1


def test_an_empty_inventory_is_legal_for_every_verb(database: Database) -> None:
    create_demo(database.engine, companies=1, items=0)
    database.psql("DELETE FROM companies")
    target = verbs.open_target(database.url)
    assert verbs.test(target, MAPPING)["gate"]["passed"]
    assert verbs.validate(target, MAPPING)["passed"]
    assert verbs.roll_back(target, MAPPING)["changed"] is False
    found = verbs.run(target, MAPPING)
    assert (found["state"], found["records"]["snapshot"]) == ("verified", 0)
    assert verbs.run(target, MAPPING)["changed"] is False
    assert verbs.validate(target, MAPPING)["passed"]
    assert verbs.roll_back(target, MAPPING)["changed"] is True


def test_a_refused_audit_gate_leaves_the_database_as_it_was(database: Database) -> None:
    create_demo(database.engine, companies=5, items=200, broken=True)
    before = everything(database)
    target = verbs.open_target(database.url)
    predicted = verbs.test(target, MAPPING)
    assert predicted["gate"]["passed"] is False
    failed = {e["key"] for e in predicted["gate"]["failed"]}
    assert failed == {"default-location-unambiguous", "default-location-of-a-company"}
    with pytest.raises(GateRefused, match="default-location-unambiguous"):
        verbs.run(target, MAPPING)
    assert everything(database) == before


def test_looking_writes_nothing_at_all(database: Database) -> None:
    create_demo(database.engine, companies=5, items=200, dirty=0.02)
    before = everything(database)
    verbs.test(verbs.open_target(database.url), MAPPING)
    verbs.validate(verbs.open_target(database.url), MAPPING)
    assert everything(database) == before
    assert database.psql("SELECT to_regnamespace('inventory_migration') IS NULL") == "t"


def test_too_many_quarantined_records_refuse_the_audit_gate(
    database: Database, told: Receiver
) -> None:
    stage.shop(database, items=30)
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id < 4")
    mapping = stage.mapping(thresholds={"quarantined_percent": 1, "after_records": 10})
    with pytest.raises(GateRefused, match="quarantine-within-threshold"):
        verbs.run(verbs.open_target(database.url), mapping)
    # Whoever is told hears of it, though there is no migration yet.
    (got,) = told.got
    assert (got.said["event"], got.said["mapping"], got.said["gate"], got.said["state"]) == (
        *("gate_refused", "shop", "audit_profile"),
        None,
    )
    assert "quarantine-within-threshold" in got.said["reason"]


@pytest.mark.parametrize("action", ["rollback", "pause", "continue"])
def test_a_threshold_that_is_exceeded_on_the_way_does_what_the_mapping_says(
    database: Database, action: str
) -> None:
    stage.shop(database, items=60)
    database.psql(
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.id % 3 = 0 THEN RAISE EXCEPTION 'frozen'; END IF; RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION refuse();
        """
    )
    limits = {"quarantined_percent": 1, "after_records": 10, "action": action}
    mapping = stage.mapping(thresholds=limits)
    target = verbs.open_target(database.url)
    if action == "continue":
        found = verbs.run(target, mapping)
        assert found["records"]["quarantined"] == 20
        assert found["quarantined"] == {"refused_by_server": 20}
        return
    with pytest.raises(MigrationError, match=r"20 of 60|of phase|were quarantined") as caught:
        verbs.run(target, mapping)
    state = database.psql("SELECT state FROM inventory_migration.migration")
    located = database.psql("SELECT count(location_id) FROM stock_items")
    if action == "rollback":
        assert isinstance(caught.value, MigrationRolledBack)
        assert caught.value.exit_code == 5
        assert (state, located) == ("rolled_back", "0")
    else:
        assert caught.value.exit_code == 4
        assert state == "paused"
        assert int(located) > 0


def test_two_starts_at_the_same_moment_one_works_and_the_other_says_so(
    database: Database,
) -> None:
    create_demo(database.engine, companies=5, items=3000)
    ended: list[Any] = []

    def start() -> None:
        try:
            ended.append(verbs.run(verbs.open_target(database.url), MAPPING, Start(explicit=True)))
        except MigrationError as error:
            ended.append(error)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [found for found in ended if isinstance(found, MigrationError)]
    assert [type(found) for found in refused] == [MigrationBusy]
    assert database.psql("SELECT state FROM inventory_migration.migration") == "verified"
    assert (
        database.psql(
            "SELECT max(n) FROM (SELECT count(*) AS n FROM locations "
            "WHERE is_default GROUP BY company_id) c"
        )
        == "1"
    )


def test_a_stopped_phase_is_resumed_and_ends_like_an_undisturbed_one(database: Database) -> None:
    create_demo(database.engine, companies=10, items=500, dirty=0.02)
    target = verbs.open_target(database.url)
    with pytest.raises(MigrationError, match="stopped after phase early") as caught:
        verbs.run(target, MAPPING, stop_after="early")
    assert caught.value.exit_code == 4
    found = verbs.run(target, MAPPING, Start(resume=True))
    assert (found["migration_id"], found["state"]) == (1, "verified")
    assert found["records"]["pending"] == 0


def test_an_unknown_phase_is_refused_before_anything_is_written(database: Database) -> None:
    create_demo(database.engine, companies=2, items=20)
    with pytest.raises(MigrationError, match="no phase nowhere"):
        verbs.run(verbs.open_target(database.url), MAPPING, stop_after="nowhere")
    assert database.psql("SELECT count(*) FROM locations") == "0"


def test_an_expression_of_a_mapping_that_writes_cannot_do_so_while_somebody_only_looks(
    database: Database,
) -> None:
    stage.shop(database, items=3)
    database.psql(
        "CREATE TABLE seen (id bigint);"
        "CREATE FUNCTION peek(bigint) RETURNS boolean LANGUAGE sql AS "
        "'INSERT INTO seen VALUES ($1); SELECT false'"
    )
    skip = {"peeked": {"sql": "peek(s.id)"}}
    mapping = stage.mapping(source={**stage.DEFINITION["source"], "skip": skip})
    target = verbs.open_target(database.url)
    with (
        pytest.raises(sa.exc.DBAPIError, match="read-only transaction"),
        verbs.one_moment(target) as (connection, _),
    ):
        prediction.predict(connection, verbs.resolve(connection, mapping))
    assert database.psql("SELECT count(*) FROM seen") == "0"
