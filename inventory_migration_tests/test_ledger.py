"""The ledger is installed once, allows only steps that make sense, and forgets nothing."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import ledger
from inventory_migration.engine.failures import sqlstate
from inventory_migration.errors import LedgerTooNew, LedgerTooOld
from inventory_migration_tests.conftest import Database, made_database

TABLES = """
    SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class
    WHERE relnamespace = 'inventory_migration'::regnamespace AND relkind = 'r'
"""

STATES = {
    "migration": {
        "planned", "running", "paused", "held", "verifying", "verified", "failed", "aborted",
        "rolling_back", "rolled_back",
    },
    "chunk": {"pending", "done", "undone"},
    "outcome": {"open", "retried", "waived"},
}  # fmt: skip


@pytest.fixture(scope="module")
def emptied(server: EmbeddedServer) -> Iterator[Database]:
    """A database with a ledger for the tests that undo what they do."""
    with made_database(server) as made:
        with made.engine.begin() as session:
            ledger.install(session)
        yield made


targets = itertools.count(1)


def add_migration(connection: sa.Connection, **values: Any) -> int:
    """Insert a migration of a target of its own, unless told otherwise."""
    given = {
        "mapping": "shop",
        "mapping_hash": "h",
        "definition": {},
        "target": f"public.t.c{next(targets)}",
        "source_oid": 1,
        "started_by": "somebody",
        **values,
    }
    return int(
        connection.execute(
            sa.insert(ledger.migration).values(**given).returning(ledger.migration.c.migration_id)
        ).scalar_one()
    )


def refused(connection: sa.Connection, statement: sa.Executable | str) -> str | None:
    """The SQLSTATE with which the server refuses a statement, None where it takes it."""
    nested = connection.begin_nested()
    try:
        connection.execute(sa.text(statement) if isinstance(statement, str) else statement)
    except sa.exc.DBAPIError as error:
        nested.rollback()
        return sqlstate(error)
    nested.commit()
    return None


def test_a_database_has_no_ledger_before_it_is_installed_and_asking_changes_nothing(
    database: Database,
) -> None:
    with database.engine.connect() as connection:
        connection.execute(sa.text("SET TRANSACTION READ ONLY"))
        assert ledger.installed(connection) is False


def test_installing_twice_changes_nothing(connection: sa.Connection) -> None:
    tables = connection.execute(sa.text(TABLES)).scalar_one()
    migration_id = add_migration(connection)
    ledger.install(connection)
    assert ledger.installed(connection)
    assert connection.execute(sa.text(TABLES)).scalar_one() == tables
    assert (
        connection.execute(sa.text("SELECT count(*) FROM inventory_migration.version")).scalar_one()
        == 1
    )
    found = ledger.find(connection)
    assert found is not None
    assert found.migration_id == migration_id


def test_sessions_that_install_at_once_are_kept_apart(database: Database) -> None:
    together = threading.Barrier(4)

    def install(_: int) -> None:
        with database.engine.begin() as connection:
            assert not ledger.installed(connection)
            together.wait(10)
            ledger.install(connection)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(install, range(4)))
    with database.engine.connect() as connection:
        assert ledger.installed(connection)
    assert database.psql("SELECT count(*) FROM inventory_migration.version") == "1"


def test_a_role_that_may_not_create_schemas_uses_one_that_was_made_for_it(
    database: Database,
) -> None:
    with database.engine.connect() as connection:
        for statement in (
            "CREATE ROLE ledger_worker",
            "CREATE SCHEMA inventory_migration AUTHORIZATION ledger_worker",
            "SET LOCAL ROLE ledger_worker",
        ):
            connection.execute(sa.text(statement))
        ledger.install(connection)
        assert add_migration(connection) == 1
        ledger.note(connection, "planned", migration_id=1)
        connection.rollback()


def test_an_installation_that_fails_leaves_nothing_behind(database: Database) -> None:
    with database.engine.connect() as connection:
        ledger.install(connection)
        connection.rollback()
    with database.engine.connect() as connection:
        assert not ledger.installed(connection)


def test_a_ledger_of_a_later_version_is_refused_with_both_versions(
    connection: sa.Connection,
) -> None:
    connection.execute(sa.update(ledger.version).values(version=ledger.VERSION + 1))
    with pytest.raises(LedgerTooNew, match="update inventory-migration") as caught:
        ledger.installed(connection)
    assert (caught.value.found, caught.value.known) == (ledger.VERSION + 1, ledger.VERSION)
    with pytest.raises(LedgerTooNew):
        ledger.install(connection)


def test_an_older_ledger_is_given_what_it_lacks_and_keeps_what_it_has(
    connection: sa.Connection,
) -> None:
    migration_id = add_migration(connection)
    for statement in (
        "DROP TABLE inventory_migration.health, inventory_migration.level_image, "
        "inventory_migration.retry, inventory_migration.notification, "
        "inventory_migration.notification_channel",
        "ALTER TABLE inventory_migration.outcome DROP COLUMN constraint_name, DROP COLUMN decision",
        "ALTER TABLE inventory_migration.migration DROP COLUMN failed_verification",
        "ALTER TABLE inventory_migration.chunk DROP COLUMN undoing",
        "ALTER TABLE inventory_migration.conflict DROP COLUMN columns, DROP COLUMN reason",
        "DELETE FROM inventory_migration.transition "
        "WHERE from_state IN ('aborted', 'undone', 'waived') OR to_state = 'paused'",
        "CREATE TABLE inventory_migration.snapshot_1 (position bigint)",
        "UPDATE inventory_migration.version SET version = 1",
    ):
        connection.execute(sa.text(statement))
    ledger.install(connection)
    snapshot = sa.text("SELECT row_version FROM inventory_migration.snapshot_1")
    assert connection.execute(snapshot).all() == []
    assert connection.execute(sa.select(ledger.version.c.version)).scalar_one() == ledger.VERSION
    found = connection.execute(sa.select(ledger.migration)).one()
    assert (found.migration_id, found.failed_verification) == (migration_id, None)
    assert connection.execute(sa.select(ledger.chunk.c.undoing)).all() == []
    assert connection.execute(sa.select(ledger.health)).all() == []
    assert connection.execute(sa.select(ledger.retry)).all() == []
    assert connection.execute(sa.select(ledger.notification)).all() == []
    assert connection.execute(sa.select(ledger.notification_channel)).all() == []
    assert connection.execute(sa.select(ledger.outcome.c.constraint_name)).all() == []
    assert connection.execute(sa.select(ledger.conflict)).all() == []
    ledger.set_state(connection, migration_id, "paused")
    ledger.set_state(connection, migration_id, "aborted")
    ledger.set_state(connection, migration_id, "rolling_back")


def test_who_only_looks_at_an_older_ledger_is_told_what_brings_it_up_to_date(
    connection: sa.Connection,
) -> None:
    connection.execute(sa.update(ledger.version).values(version=ledger.VERSION - 1))
    assert ledger.installed(connection)
    connection.execute(sa.text("SET TRANSACTION READ ONLY"))
    with pytest.raises(LedgerTooOld, match="run NAME") as caught:
        ledger.installed(connection)
    assert (caught.value.found, caught.value.known) == (ledger.VERSION - 1, ledger.VERSION)


def subject_row(connection: sa.Connection, subject: str, state: str) -> sa.Update:
    """Insert a row in a state; returns what updates that row, still without a new state."""
    migration_id = add_migration(
        connection, **({"state": state} if subject == "migration" else {"state": "running"})
    )
    if subject == "migration":
        table = ledger.migration
    elif subject == "chunk":
        table = ledger.chunk
        connection.execute(
            sa.insert(table).values(migration_id=migration_id, number=1, phase=1, state=state)
        )
    else:
        table = ledger.outcome
        connection.execute(
            sa.insert(table).values(
                migration_id=migration_id,
                position=1,
                chunk=1,
                key_text="1",
                outcome="quarantined",
                state=state,
            )
        )
    return sa.update(table).where(table.c.migration_id == migration_id)


@pytest.mark.parametrize(
    ("subject", "before", "after"),
    [
        ("migration", "planned", "verified"),
        ("migration", "planned", "verifying"),
        ("migration", "planned", "rolled_back"),
        ("migration", "running", "planned"),
        ("migration", "running", "verified"),
        ("migration", "running", "rolled_back"),
        ("migration", "paused", "verified"),
        ("migration", "paused", "verifying"),
        ("migration", "held", "verified"),
        ("migration", "failed", "verified"),
        ("migration", "verified", "running"),
        ("migration", "verified", "failed"),
        ("migration", "verified", "rolled_back"),
        ("migration", "rolling_back", "running"),
        ("migration", "rolling_back", "held"),
        ("migration", "rolled_back", "running"),
        ("migration", "rolled_back", "rolling_back"),
        ("migration", "rolled_back", "planned"),
        ("migration", "aborted", "running"),
        ("migration", "running", "finished"),
        ("migration", "running", ""),
        ("chunk", "done", "pending"),
        ("chunk", "undone", "done"),
        ("chunk", "pending", "running"),
        ("outcome", "waived", "open"),
        ("outcome", "retried", "retired"),
        ("outcome", "retried", "waived"),
        ("outcome", "open", "closed"),
    ],
)
def test_a_step_that_makes_no_sense_is_refused_by_the_database(
    connection: sa.Connection, subject: str, before: str, after: str
) -> None:
    update = subject_row(connection, subject, before)
    assert refused(connection, update.values(state=after)) == "IM001"
    assert refused(connection, update.values(state=before)) is None


def test_the_states_are_those_of_the_design_and_every_step_of_the_table_is_allowed(
    connection: sa.Connection,
) -> None:
    steps = connection.execute(
        sa.select(
            ledger.transition.c.subject,
            ledger.transition.c.from_state,
            ledger.transition.c.to_state,
        )
    ).all()
    for subject, states in STATES.items():
        named = {s for row in steps if row.subject == subject for s in row[1:]}
        assert named == states
    for subject, before, after in steps:
        update = subject_row(connection, subject, before)
        assert refused(connection, update.values(state=after)) is None


def test_nothing_follows_the_end_of_a_migration_but_that_it_is_undone(
    connection: sa.Connection,
) -> None:
    steps = connection.execute(
        sa.select(ledger.transition.c.from_state, ledger.transition.c.to_state).where(
            ledger.transition.c.subject == "migration",
            ledger.transition.c.from_state.in_(["verified", "rolled_back", "aborted"]),
        )
    ).all()
    assert sorted(map(tuple, steps)) == [("aborted", "rolling_back"), ("verified", "rolling_back")]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE inventory_migration.event SET who = 'nobody'",
        "UPDATE inventory_migration.event SET who = 'nobody' WHERE false",
        "DELETE FROM inventory_migration.event",
        "TRUNCATE inventory_migration.event",
        "TRUNCATE inventory_migration.migration, inventory_migration.event CASCADE",
        "INSERT INTO inventory_migration.event (who, kind) VALUES ('me', 'a'); "
        "DELETE FROM inventory_migration.event WHERE who = 'me'",
    ],
)
def test_the_audit_trail_is_only_ever_added_to(connection: sa.Connection, statement: str) -> None:
    ledger.note(connection, "planned")
    nested = connection.begin_nested()
    with pytest.raises(sa.exc.DBAPIError, match="only ever added to") as caught:
        connection.exec_driver_sql(statement)
    nested.rollback()
    assert sqlstate(caught.value) == "IM002"
    kinds = connection.execute(sa.select(ledger.event.c.kind)).scalars()
    assert list(kinds) == ["planned"]


def test_the_trail_says_who_did_what_when_and_why(connection: sa.Connection) -> None:
    connection.execute(sa.text("SET LOCAL application_name = 'a test'"))
    ledger.note(connection, "pause", migration_id=7, reason="lunch", nothing=None)
    row = connection.execute(sa.select(ledger.event)).one()
    assert (row.migration_id, row.kind, row.detail) == (7, "pause", {"reason": "lunch"})
    assert row.who.endswith(" by a test")
    assert abs((row.at - connection.execute(sa.text("SELECT now()")).scalar_one()).seconds) < 60


@pytest.mark.parametrize("state", ledger.ACTIVE)
def test_a_target_has_one_active_migration(connection: sa.Connection, state: str) -> None:
    add_migration(connection, target="public.t.c", state="verified")
    add_migration(connection, target="public.t.c", state="rolled_back")
    add_migration(connection, target="public.t.c", state="aborted")
    add_migration(connection, target="public.t.d", state=state)
    add_migration(connection, target="public.t.c", state=state)
    second = sa.insert(ledger.migration).values(
        mapping="other",
        mapping_hash="h",
        definition={},
        target="public.t.c",
        source_oid=1,
        started_by="somebody",
    )
    assert refused(connection, second) == "23505"


def test_every_state_but_an_ended_one_keeps_the_target() -> None:
    assert set(ledger.ACTIVE) == STATES["migration"] - {"verified", "rolled_back", "aborted"}


def test_a_desired_state_is_one_of_four(connection: sa.Connection) -> None:
    migration_id = add_migration(connection)
    control = sa.insert(ledger.control).values(migration_id=migration_id, set_by="me")
    assert refused(connection, control.values(desired="stop")) == "23514"
    assert refused(connection, control.values(desired="pause")) is None


def test_the_newest_migration_that_fits_is_found(connection: sa.Connection) -> None:
    first = add_migration(connection, mapping="shop", target="a", state="verified")
    second = add_migration(connection, mapping="other", target="a", state="running")
    third = add_migration(connection, mapping="shop", target="b", state="paused", reason="lunch")

    def found(**wanted: Any) -> int | None:
        migration = ledger.find(connection, **wanted)
        return migration.migration_id if migration else None

    assert found() == third
    assert found(target="a") == second
    assert found(mapping="shop") == third
    assert found(mapping="shop", target="a") == first
    assert found(target="a", states=("verified",)) == first
    assert found(migration_id=second) == second
    assert found(migration_id=second, mapping="shop") is None
    assert found(states=()) is None
    newest = ledger.find(connection)
    assert newest is not None
    assert (newest.state, newest.reason, newest.column_added) == ("paused", "lunch", False)


def test_a_change_of_state_is_noted_with_its_reason_and_its_end(connection: sa.Connection) -> None:
    migration_id = add_migration(connection)
    row = sa.select(ledger.migration).where(ledger.migration.c.migration_id == migration_id)
    ledger.set_state(connection, migration_id, "running")
    ledger.set_state(connection, migration_id, "failed", reason="disk")
    assert connection.execute(row).one().reason == "disk"
    assert connection.execute(row).one().finished_at is None
    ledger.set_state(connection, migration_id, "running")
    assert connection.execute(row).one().reason is None
    ledger.set_state(connection, migration_id, "verifying")
    ledger.set_state(connection, migration_id, "verified")
    finished_at = connection.execute(row).one().finished_at
    assert finished_at is not None
    ledger.set_state(connection, migration_id, "rolling_back", reason="asked to")
    assert connection.execute(row).one().finished_at == finished_at
    told = connection.execute(
        sa.select(ledger.event.c.kind, ledger.event.c.detail).order_by(ledger.event.c.event_id)
    ).all()
    assert [tuple(event) for event in told] == [
        ("state_running", {}),
        ("state_failed", {"reason": "disk"}),
        ("state_running", {}),
        ("state_verifying", {}),
        ("state_verified", {}),
        ("state_rolling_back", {"reason": "asked to"}),
    ]


def test_a_snapshot_is_there_once_its_table_is(connection: sa.Connection) -> None:
    migration_id = add_migration(connection)
    found = ledger.find(connection, migration_id=migration_id)
    assert found is not None
    assert not ledger.snapshot_exists(connection, found)
    connection.execute(sa.text(f"CREATE TABLE {found.snapshot} ()"))
    assert ledger.snapshot_exists(connection, found)
    assert found.planned_locations != found.snapshot
