"""A worker with exactly the printed grants: enough for the contract of all shapes, and least."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from inventory_migration import acceptance, verbs
from inventory_migration.catalog import resolve
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import privileges, proof
from inventory_migration.engine.statements import tables_read, tables_stopped
from inventory_migration.errors import CommandUnclear, MigrationError, PrivilegeMissing
from inventory_migration.mapping import StockLevel, StockMapping
from inventory_migration_tests import stage, test_shapes
from inventory_migration_tests.roles import WorkedDatabase, worked_database
from inventory_migration_tests.test_rollback import undo

# The contract of the shapes once more, by a role that owns nothing. The functions are collected
# here as well, and get the fixtures of this module.
from inventory_migration_tests.test_shapes import (  # noqa: F401
    TARGETS,
    Making,
    migrated,
    test_available_stays_the_same_for_each_company_and_item,
    test_conservation,
    test_dry_run,
    test_gates,
    test_idempotence,
    test_partial_rollback,
    test_partial_rollback_under_way,
    test_provenance,
    test_quarantine,
    test_resume,
    test_rollback,
    test_status_of_a_record,
)

pytestmark = [pytest.mark.slow, pytest.mark.one_server]


@pytest.fixture
def database(server: EmbeddedServer) -> Iterator[WorkedDatabase]:
    """An empty database, whose tables will belong to another role than the one that migrates."""
    with worked_database(server) as made:
        yield made


@pytest.fixture(scope="module")
def made() -> Making:
    """How the contract makes its databases."""
    return worked_database


def test_the_whole_contract_of_the_shapes_is_tried_here() -> None:
    contract = {name for name in vars(test_shapes) if name.startswith("test_")}
    assert contract - globals().keys() == {
        "test_every_registered_shape_has_its_place_in_this_contract"
    }


def levels(database: WorkedDatabase, *, sync: bool) -> StockMapping:
    """Levels, links, an expression over another table, and keys that come from sequences."""
    stage.shop(database, companies=2, items=6)
    database.psql("""
        CREATE TABLE locations (id serial PRIMARY KEY, company_id bigint, name text, code text,
                                is_default boolean NOT NULL DEFAULT false);
        CREATE TABLE channels (id int PRIMARY KEY, is_active boolean);
        INSERT INTO channels VALUES (1, true);
        CREATE TABLE location_channels (id serial PRIMARY KEY, place integer, channel integer);
        CREATE TABLE lines (item bigint, quantity integer);
        CREATE TABLE levels (id serial PRIMARY KEY, item bigint, place integer, there integer,
                             promised integer, left_over integer, UNIQUE (item, place));
    """)
    link = {
        "table": "location_channels",
        "for_each": "channels",
        "where": {"sql": "f.is_active"},
        "values": {"place": {"from": "location"}, "channel": {"sql": "f.id"}},
    }
    lines = "(SELECT COALESCE(sum(o.quantity), 0) FROM lines o WHERE o.item = s.id)"
    return stage.mapping(
        locations={**stage.DEFINITION["locations"], "links": [link]},
        source={**stage.DEFINITION["source"], "reserved": {"sql": lines}},
        target={
            "shape": "stock_level",
            "table": "levels",
            "record": {"item": "id"},
            "location": "place",
            "on_hand": "there",
            "reserved": "promised",
            "values": {"left_over": {"from": "available"}},
            "sync": sync,
        },
    )


def application(database: WorkedDatabase, case: str) -> StockMapping:
    """An application and a mapping for it: one of each shape, and levels with all they can have."""
    if case.startswith("levels"):
        return levels(database, sync=case == "levels in step")
    stage.shop(database, companies=2, items=6)
    return stage.mapping(
        target=test_shapes.target(case, "int"),
        touch={} if case == "stock_level" else {"updated_at": {"sql": "now()"}},
    )


CASES = [*TARGETS, "levels", "levels in step"]


def story(database: WorkedDatabase, mapping: StockMapping) -> None:
    """There, a look at it, and back; the application sells meanwhile."""
    stage.migrate(database, mapping)
    database.psql("UPDATE stock_items SET quantity = quantity + 1 WHERE id = 3")
    if isinstance(mapping.target, StockLevel) and not mapping.target.sync:
        # Only a level that somebody else has written is locked before it is looked at.
        table, there = mapping.target.table, mapping.target.on_hand
        database.psql(f"UPDATE {table} SET {there} = {there} + 1")
    with database.engine.connect() as connection:
        proof.prove(connection, resolve(connection, mapping), None)
    undo(database, mapping)


ACL = """
    SELECT format('%s ON %s FROM {worker}', a.privilege_type, o.what) FROM (
        SELECT relacl AS acl, format('%s', oid::regclass) AS what FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind <> 'S'
        UNION ALL
        SELECT relacl, format('SEQUENCE %s', oid::regclass) FROM pg_class WHERE relkind = 'S'
        UNION ALL
        SELECT nspacl, format('SCHEMA %I', nspname) FROM pg_namespace
        UNION ALL
        SELECT datacl, format('DATABASE %I', datname) FROM pg_database
        WHERE datname = current_database()) AS o
    CROSS JOIN LATERAL aclexplode(o.acl) AS a
    WHERE a.grantee = '{worker}'::regrole AND o.what <> 'SCHEMA inventory_migration'
    UNION ALL
    SELECT format('%s (%I) ON %s FROM {worker}', a.privilege_type, c.attname, c.attrelid::regclass)
    FROM pg_attribute AS c CROSS JOIN LATERAL aclexplode(c.attacl) AS a
    WHERE a.grantee = '{worker}'::regrole
    ORDER BY 1
"""


@pytest.mark.parametrize("case", CASES)
def test_no_single_privilege_can_be_left_out(server: EmbeddedServer, case: str) -> None:
    """Each right on each object and column, as the server itself has it, is taken away in turn."""
    unnoticed, foreseen = [], 0
    number = 0
    while True:
        with worked_database(server) as database:
            mapping = application(database, case)
            database.hand_over(mapping)
            listed = database.psql(ACL.format(worker=database.worker)).splitlines()
            if number == len(listed):
                break
            database.psql(f"REVOKE {listed[number]}")
            said = refused(database, mapping)
            if re.search("permission denied|may not use schema", said) is None:
                unnoticed.append((listed[number], said))
            foreseen += is_foreseen(database, mapping)
            database.engine.dispose()
        number += 1
    assert unnoticed == []
    assert number > 5
    # All but CONNECT and what resolving a mapping asks for already are told before a run begins.
    assert foreseen == number


def refused(database: WorkedDatabase, mapping: StockMapping) -> str:
    """What the story comes to a halt with; nothing where it does not."""
    try:
        story(database, mapping)
    except (MigrationError, sa.exc.DBAPIError) as error:
        return str(error)
    return ""


def is_foreseen(database: WorkedDatabase, mapping: StockMapping) -> bool:
    """Whether a run that lacks a privilege would be refused before it writes anything."""
    try:
        with database.engine.connect() as connection:
            resolved = resolve(connection, mapping)
            privileges.refuse_lack(
                connection,
                resolved,
                tables_read(connection, resolved),
                stopped=tables_stopped(connection, resolved) if mapping.needs_write_stop else (),
            )
    except (MigrationError, sa.exc.DBAPIError):
        return True
    return False


LINES = """
    CREATE TABLE lines (item bigint, quantity integer);
    INSERT INTO lines SELECT id, reserved FROM stock_items;
    CREATE SCHEMA books;
    CREATE TABLE books.kept (n integer);
    CREATE VIEW books.totals AS SELECT count(*) AS entries FROM books.kept;
"""
RECEIVE = {
    "sql": "UPDATE stock_items SET quantity = quantity + 5 WHERE id = :record",
    "expect": {"on_hand": 5},
}


def test_what_is_expected_and_tried_beside_a_migration_is_granted_and_no_more(
    database: WorkedDatabase,
) -> None:
    app = f"app_{database.worker}"
    stage.shop(database)
    database.psql(LINES)
    mapping = stage.mapping(
        expectations={
            "reserved": {"sql": "(SELECT sum(l.quantity) FROM lines l WHERE l.item = s.id)"}
        },
        acceptance={
            "role": app,
            "operations": {"receive": RECEIVE},
            "queries": {"booked": {"new": "SELECT entries FROM books.totals"}},
        },
    )
    database.psql(f"CREATE ROLE {app}")
    try:
        grants = database.printed(mapping).acceptance
        database.hand_over(mapping)
        database.psql(f"""
            GRANT USAGE ON SCHEMA public TO {app};
            GRANT SELECT, UPDATE ON stock_items TO {app};
            REVOKE SELECT ON lines FROM {database.worker};
        """)
        target = verbs.open_target(database.worker_url)
        with pytest.raises(PrivilegeMissing, match="permission denied for table lines"):
            verbs.run(target, mapping)
        database.psql(f"GRANT SELECT ON lines TO {database.worker}")
        assert verbs.run(target, mapping)["state"] == "verified"

        assert [grant.split(" TO ")[0] for grant in grants] == [
            'GRANT USAGE ON SCHEMA "books"',
            'GRANT SELECT ON "books"."totals"',
            f'GRANT "{app}"',
        ]
        for left_out in (*grants, None):
            wanted = [grant for grant in grants if grant != left_out]
            taken = [grant.split(" WITH ")[0] for grant in grants]
            database.psql("; ".join(wanted))
            assert tried(target, mapping) == (left_out is None), left_out
            revoked = (g.replace("GRANT", "REVOKE", 1).replace(" TO ", " FROM ") for g in taken)
            database.psql("; ".join(revoked))
    finally:
        database.engine.dispose()
        database.psql(f"DROP OWNED BY {app}; DROP ROLE {app}")


def tried(target: verbs.Target, mapping: StockMapping) -> bool:
    """Whether a role may try what still works, and all does."""
    try:
        acceptance.is_ready(target, mapping)
        return bool(acceptance.accept(target, mapping)["passed"])
    except CommandUnclear:  # it may not take on the application's role
        return False
