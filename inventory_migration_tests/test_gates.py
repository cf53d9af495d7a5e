"""A step is refused unless the newest verdict on what it builds upon lets it pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping, resolve
from inventory_migration.database import escaped
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import gates, ledger
from inventory_migration.errors import GateRefused
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database, made_database
from inventory_migration_tests.stage import MAPPING, mapping

LOCATIONS = """
    CREATE TABLE locations (id bigserial PRIMARY KEY, company_id bigint, name text, code text,
                            is_default boolean NOT NULL DEFAULT false);
    INSERT INTO companies VALUES (1, 'Acme'), (2, 'Bolt');
    INSERT INTO locations (company_id, name, is_default)
    VALUES (1, 'Main', true), (1, 'Side', false), (2, 'Main', true);
"""


@pytest.fixture(scope="module")
def emptied(server: EmbeddedServer) -> Iterator[Database]:
    """A database with a shop and a ledger for the tests that undo what they do."""
    with made_database(server) as made:
        made.psql(stage.SHOP + LOCATIONS)
        with made.engine.begin() as session:
            ledger.install(session)
        yield made


def execute(connection: sa.Connection, script: str) -> None:
    connection.execute(sa.text(escaped(script)))


def judge(
    connection: sa.Connection, suite: str, *, passed: bool = True, mapping: StockMapping = MAPPING
) -> ResolvedMapping:
    """Keep a verdict as it is given."""
    resolved = resolve(connection, mapping)
    judged = gates.fingerprint(connection, resolved, suite)
    gates.record(connection, resolved, suite, passed=passed, judged=judged, verdict={"n": 1})
    return resolved


def objection(connection: sa.Connection, suite: str, mapping: StockMapping = MAPPING) -> str | None:
    """Why a step behind a gate is refused; None where it is not."""
    try:
        gates.require(connection, resolve(connection, mapping), suite)
    except GateRefused as refused:
        return refused.why
    return None


@pytest.mark.parametrize("suite", gates.SUITES)
def test_a_verdict_that_passed_lets_the_next_step_write(
    connection: sa.Connection, suite: str
) -> None:
    judge(connection, suite)
    assert objection(connection, suite) is None


@pytest.mark.parametrize("suite", gates.SUITES)
def test_without_a_verdict_a_step_is_refused(connection: sa.Connection, suite: str) -> None:
    assert objection(connection, suite) == "never ran"


def test_without_a_ledger_no_gate_has_ever_run(database: Database) -> None:
    stage.shop(database)
    with database.engine.connect() as connection:
        assert objection(connection, "audit_profile") == "never ran"
        assert not ledger.installed(connection)


def test_the_refusal_names_mapping_gate_reason_and_the_next_command(
    connection: sa.Connection,
) -> None:
    with pytest.raises(GateRefused) as caught:
        gates.require(connection, resolve(connection, MAPPING), "audit_profile")
    assert (caught.value.mapping, caught.value.gate) == ("shop", "audit_profile")
    assert caught.value.exit_code == 3
    assert str(caught.value) == (
        "shop: the gate audit_profile never ran; nothing was written behind it; "
        "see 'inventory-migration test shop'"
    )


def test_a_verdict_that_refused_refuses(connection: sa.Connection) -> None:
    judge(connection, "audit_profile", passed=False)
    assert objection(connection, "audit_profile") == "refused"


def test_only_the_newest_verdict_counts(connection: sa.Connection) -> None:
    judge(connection, "audit_profile", passed=True)
    judge(connection, "audit_profile", passed=False)
    assert objection(connection, "audit_profile") == "refused"
    judge(connection, "audit_profile", passed=True)
    assert objection(connection, "audit_profile") is None


def test_what_was_made_anew_has_to_be_judged_anew(connection: sa.Connection) -> None:
    resolved = judge(connection, "default_locations")
    gates.open_gate(connection, resolved, "default_locations", run_id="r")
    assert objection(connection, "default_locations") == (
        "has not judged what was made since its last verdict"
    )
    judge(connection, "default_locations")
    assert objection(connection, "default_locations") is None


def test_a_verdict_on_another_version_of_the_mapping_does_not_count(
    connection: sa.Connection,
) -> None:
    judge(connection, "audit_profile")
    other = mapping(chunk={"rows": 6})
    assert objection(connection, "audit_profile", other) == (
        "judged another version of the mapping"
    )
    assert objection(connection, "audit_profile") is None


def test_the_verdict_on_another_mapping_or_suite_does_not_count(connection: sa.Connection) -> None:
    judge(connection, "audit_profile", mapping=mapping(name="other"))
    judge(connection, "default_locations")
    assert objection(connection, "audit_profile") == "never ran"


@pytest.mark.parametrize(("minutes", "why"), [(4, None), (6, "is older than 5 minutes")])
def test_a_verdict_grows_old(connection: sa.Connection, minutes: int, why: str | None) -> None:
    patient = mapping(gates={"max_age_minutes": 5})
    judge(connection, "audit_profile", mapping=patient)
    execute(
        connection,
        "UPDATE inventory_migration.gate "
        f"SET judged_at = clock_timestamp() - interval '{minutes} minutes'",
    )
    assert objection(connection, "audit_profile", patient) == why


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        ("INSERT INTO locations (company_id, is_default) VALUES (2, true)", True),
        ("DELETE FROM locations WHERE company_id = 2", True),
        ("UPDATE locations SET is_default = false WHERE company_id = 2", True),
        ("UPDATE locations SET is_default = NOT is_default WHERE company_id = 1", True),
        ("UPDATE locations SET company_id = 3 - company_id WHERE is_default", True),
        ("UPDATE locations SET id = id + 100 WHERE company_id = 2", True),
        ("INSERT INTO locations (company_id, is_default) VALUES (2, false)", False),
        ("UPDATE locations SET name = 'Renamed'", False),
        ("INSERT INTO stock_items (company_id, quantity) VALUES (1, 5)", False),
    ],
)
def test_the_verdict_on_default_locations_is_stale_once_they_are_others(
    connection: sa.Connection, change: str, stale: bool
) -> None:
    judge(connection, "default_locations")
    execute(connection, change)
    why = "is stale: what it judged has changed since" if stale else None
    assert objection(connection, "default_locations") == why


def test_the_audit_judges_a_living_table_so_that_only_its_age_counts(
    connection: sa.Connection,
) -> None:
    judge(connection, "audit_profile")
    execute(connection, "INSERT INTO stock_items (company_id, quantity) VALUES (1, -5)")
    assert objection(connection, "audit_profile") is None


def add_migration(connection: sa.Connection, state: str = "running") -> int:
    return int(
        connection.execute(
            sa.insert(ledger.migration)
            .values(
                mapping="shop",
                mapping_hash="h",
                definition={},
                target="public.stock_items.location_id",
                source_oid=1,
                state=state,
                started_by="me",
            )
            .returning(ledger.migration.c.migration_id)
        ).scalar_one()
    )


def add_chunks(connection: sa.Connection, migration_id: int, **states: int) -> None:
    number = 0
    for state, count in states.items():
        for _ in range(count):
            number += 1
            connection.execute(
                sa.insert(ledger.chunk).values(
                    migration_id=migration_id, number=number, phase=1, state=state
                )
            )


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE inventory_migration.chunk SET state = 'done' WHERE state = 'pending'",
        "INSERT INTO inventory_migration.chunk (migration_id, number, phase) "
        "SELECT migration_id, 99, 2 FROM inventory_migration.migration",
        "UPDATE inventory_migration.chunk SET state = 'undone' WHERE state = 'done'",
    ],
)
def test_the_verdict_on_the_stock_is_stale_once_more_work_was_done_or_found(
    connection: sa.Connection, change: str
) -> None:
    add_chunks(connection, add_migration(connection), done=3, pending=1)
    judge(connection, "transformed_stock")
    assert objection(connection, "transformed_stock") is None
    execute(connection, change)
    assert objection(connection, "transformed_stock") == (
        "is stale: what it judged has changed since"
    )


def test_the_verdict_on_an_earlier_migration_is_stale_once_there_is_another(
    connection: sa.Connection,
) -> None:
    add_chunks(connection, add_migration(connection, "verified"), done=3)
    judge(connection, "transformed_stock")
    add_chunks(connection, add_migration(connection), done=3)
    assert objection(connection, "transformed_stock") == (
        "is stale: what it judged has changed since"
    )


def test_what_a_verdict_rests_on_survives_being_kept(connection: sa.Connection) -> None:
    add_chunks(connection, add_migration(connection), done=2, pending=1)
    resolved = resolve(connection, MAPPING)
    kept: dict[str, Any] = {}
    for suite in gates.SUITES:
        judge(connection, suite)
        newest = gates.latest(connection, "shop", suite)
        assert newest is not None
        kept[suite] = newest.judged
        assert newest.judged == gates.fingerprint(connection, resolved, suite)
    assert kept["audit_profile"] == {}
    assert kept["default_locations"]["locations"] == 2
    assert (kept["transformed_stock"]["done"], kept["transformed_stock"]["pending"]) == (2, 1)


def test_the_newest_entry_tells_run_verdict_and_age(connection: sa.Connection) -> None:
    resolved = resolve(connection, MAPPING)
    assert gates.latest(connection, "shop", "audit_profile") is None
    gates.record(
        connection,
        resolved,
        "audit_profile",
        passed=False,
        judged={},
        verdict={"failed": ["quantity"]},
        run_id="run-7",
    )
    newest = gates.latest(connection, "shop", "audit_profile")
    assert newest is not None
    assert (newest.passed, newest.verdict, newest.run_id, newest.mapping_hash) == (
        False,
        {"failed": ["quantity"]},
        "run-7",
        MAPPING.hash,
    )
    assert 0 <= newest.age.total_seconds() < 60


def test_no_step_writes_past_its_gate(database: Database) -> None:
    stage.shop(database)
    tables = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
    before = stage.table(database, "stock_items"), database.psql(tables)
    with pytest.raises(GateRefused, match="default_locations never ran"):
        stage.transform(database)
    stage.pass_gate(database.engine, MAPPING, "default_locations")
    assert stage.transform(database) is None
    with pytest.raises(GateRefused, match="transformed_stock"):
        stage.close(database, mapping(chunk={"rows": 7}))
    assert (stage.table(database, "stock_items"), database.psql(tables)) == before


def test_the_last_step_is_refused_where_no_stock_was_moved(database: Database) -> None:
    stage.shop(database)
    stage.locations(database)
    # An empty relation passes its suite, so that the verdict alone does not say it.
    stage.pass_gate(database.engine, MAPPING, "transformed_stock")
    with pytest.raises(GateRefused, match="has moved nothing yet"):
        stage.close(database)
    stage.transform(database)
    assert stage.close(database).proof.passed


def test_the_last_step_alone_may_be_tried_again_after_a_failed_verification(
    database: Database,
) -> None:
    stage.shop(database)
    stage.locations(database)
    stage.transform(database)
    database.psql(
        "UPDATE inventory_migration.chunk SET xid = '1' WHERE number = 1; "
        "UPDATE inventory_migration.migration SET state = 'failed', reason = 'verification'"
    )
    closed = stage.close(database)
    assert closed.proof.passed
    assert database.psql("SELECT state, reason FROM inventory_migration.migration") == "verified|"


def test_a_default_location_that_changes_after_its_gate_stops_the_stock(database: Database) -> None:
    stage.shop(database)
    stage.locations(database)
    database.psql("UPDATE locations SET is_default = false WHERE company_id = 1")
    with pytest.raises(GateRefused, match="is stale"):
        stage.transform(database)
    assert database.psql("SELECT count(location_id) FROM stock_items") == "0"
