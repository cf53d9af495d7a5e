"""A chunk in one statement: what it may write, what it must leave, and that it says the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import as_planned, control, phases, plan
from inventory_migration.engine.chunk import ChunkStatements
from inventory_migration.engine.plan import Start
from inventory_migration.engine.snapshot import write_snapshot
from inventory_migration.mapping import Expression
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database, made_database
from inventory_migration_tests.sessions import until, waiters
from inventory_migration_tests.test_chunk import planned, shop_behind_a_join

SOURCE = stage.DEFINITION["source"]
PLAIN = stage.MAPPING
"""What decides about a record stands in its row: as long as it is the one that was planned."""

QUERIED = {**SOURCE, "skip": {"deleted": {"sql": "COALESCE(s.deleted_at) IS NOT NULL"}}}
ASKED = stage.mapping(source=QUERIED)
"""Nobody knows without asking."""


def at_once(connection: sa.Connection, statements: ChunkStatements) -> Any:
    """What a worker does with the first chunk, up to but without the commit."""
    statements.begin(connection)
    connection.execute(sa.text("SET LOCAL lock_timeout = '10s'"))
    assert control.enter(connection, statements.migration_id) == "run"
    return statements.write_unlocked(connection, [1])


def beside(database: Database, statements: ChunkStatements, *application: str) -> Any:
    """Write the first chunk while a session of the application, which began before, commits."""

    def work() -> Any:
        with database.engine.connect() as connection:
            return at_once(connection, statements)

    with psycopg.connect(database.url) as session, ThreadPoolExecutor(1) as pool:
        for statement in application:
            session.execute(statement)
        written = pool.submit(work)
        until(lambda: waiters(database) == 1, "the chunk at the application's lock")
        session.commit()
        return written.result(30)


@pytest.mark.parametrize("mapping", [ASKED, PLAIN], ids=["asked", "plain"])
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE stock_items SET quantity = quantity - 1 WHERE id = 2",
        "UPDATE stock_items SET company_id = 3 WHERE id = 2",
        "UPDATE stock_items SET deleted_at = now() WHERE id = 1",
        "DELETE FROM stock_items WHERE id = 2",
        "UPDATE stock_items SET id = 900 WHERE id = 2",
    ],
)
def test_a_record_that_changes_meanwhile_refuses_its_chunk(
    database: Database, change: str, mapping: stage.StockMapping
) -> None:
    stage.shop(database)
    database.psql("UPDATE stock_items SET deleted_at = now(), quantity = NULL WHERE id = 1")
    statements = planned(database, mapping)
    # The skipped record is changed as well: it must stay what its outcome says.
    assert beside(database, statements, change.replace("now()", "NULL")) is None
    assert stage.outcomes(database) == {"pending": 30}


def test_what_the_row_alone_lets_be_migrated_is_known_by_its_version(database: Database) -> None:
    stage.shop(database, items=6)
    database.psql(
        "UPDATE stock_items SET quantity = NULL WHERE id = 1;"
        "UPDATE stock_items SET company_id = 99 WHERE id = 3;"
        "ALTER TABLE stock_items ADD location_id bigint;"
        "UPDATE stock_items SET location_id = 77 WHERE id = 5"
    )
    planned(database, PLAIN)
    known = (
        "SELECT string_agg(p.key_1::text, ' ' ORDER BY p.key_1) FROM "
        "inventory_migration.snapshot_1 p JOIN stock_items s ON s.id = p.key_1 "
        "WHERE p.row_version = s.xmin"
    )
    # Whether there is a company is asked when its chunk comes.
    assert database.psql(known) == "2 3 4 6"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("UPDATE stock_items SET quantity = NULL WHERE id = 2", "quantity_missing"),
        ("DELETE FROM locations WHERE company_id = 2", "default_location_missing"),
        (
            "ALTER TABLE locations DROP CONSTRAINT locations_company_id_fkey;"
            "DELETE FROM companies WHERE id = 2",
            "company_missing",
        ),
    ],
)
def test_what_is_not_as_it_was_planned_any_more_is_asked_again(
    database: Database, change: str, rule: str
) -> None:
    stage.shop(database)
    statements = planned(database, PLAIN)
    database.psql(change)
    with database.engine.connect() as connection:
        rows = at_once(connection, statements)
        connection.commit()
    asked = "SELECT DISTINCT rule FROM inventory_migration.outcome"
    assert database.psql(asked) == rule
    assert rows[0].quarantined == int(
        database.psql("SELECT count(*) FROM inventory_migration.outcome WHERE chunk = 1")
    )


@pytest.mark.parametrize(
    ("condition", "plain"),
    [
        ("s.deleted_at IS NOT NULL", True),
        ('s."deleted_at" is null AND s.quantity = 0', True),
        ("NOT s.reserved OR s.sku <> 'none'", True),
        ("s.deleted_at = 'today'", False),
        ("s.deleted_at < now()", False),
        ("s.quantity = (SELECT 1)", False),
        ("s.xmin IS NULL", False),
        ("current_user = 'app'", False),
        ("s.quantity = 1; DROP TABLE x", False),
    ],
)
def test_a_condition_that_plainly_asks_its_row_is_known_from_one_that_does_not(
    database: Database, condition: str, plain: bool
) -> None:
    stage.shop(database, items=1)
    resolved = planned(database, PLAIN).resolved
    skip = {"some": Expression(sql=condition)}
    mapping = PLAIN.model_copy(update={"source": PLAIN.source.model_copy(update={"skip": skip})})
    assert as_planned.is_plain(replace(resolved, mapping=mapping)) is plain


def test_what_a_query_decides_is_asked_whatever_the_version_of_a_row(database: Database) -> None:
    stage.shop(database)
    planned(database, ASKED)
    known = "SELECT count(row_version) FROM inventory_migration.snapshot_1"
    assert database.psql(known) == "0"


def test_what_a_company_or_an_order_says_is_as_of_the_moment_that_the_record_was_seen(
    database: Database,
) -> None:
    stage.shop(database, companies=1, items=1)
    database.psql(
        "UPDATE stock_items SET quantity = 10;"
        "CREATE TABLE order_lines (item_id bigint, quantity int)"
    )
    lines = "(SELECT COALESCE(sum(o.quantity), 0) FROM order_lines o WHERE o.item_id = s.id)"
    mapping = stage.mapping(
        source={**stage.DEFINITION["source"], "reserved": {"sql": lines}}, quantity_basis="net"
    )
    statements = planned(database, mapping)
    ordered = "INSERT INTO order_lines VALUES (1, 4)"
    assert beside(database, statements, ordered, "UPDATE stock_items SET quantity = 6") is None


def test_a_write_that_a_trigger_swallows_refuses_its_chunk(database: Database) -> None:
    stage.shop(database)
    database.psql(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN IF NEW.id = 2 THEN RETURN NULL; END IF; RETURN NEW; END';"
        "CREATE TRIGGER swallow BEFORE UPDATE ON stock_items "
        "FOR EACH ROW EXECUTE FUNCTION swallow()"
    )
    with database.engine.connect() as connection:
        assert at_once(connection, planned(database)) is None


@pytest.mark.parametrize(
    ("target", "nothing", "units"),
    [
        # A column's numbers stand in the record alone, an allocation has its own.
        ({"shape": "location_column", "column": "held", "add": True}, "NULL", 15 - 1 - 4),
        ({"shape": "allocation_json", "column": "held", "add": True}, "'{}'", 15 - 3),
    ],
    ids=["column", "allocations"],
)
def test_what_a_trigger_writes_otherwise_is_counted_as_it_is_written(
    database: Database, target: dict[str, Any], nothing: str, units: int
) -> None:
    stage.shop(database)
    statements = planned(database, stage.mapping(target=target))
    database.psql(
        "CREATE FUNCTION otherwise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "NEW.quantity := CASE NEW.id WHEN 2 THEN 1 WHEN 4 THEN NULL ELSE NEW.quantity END; "
        f"IF NEW.id = 3 THEN NEW.held := {nothing}; END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER otherwise BEFORE UPDATE ON stock_items "
        "FOR EACH ROW EXECUTE FUNCTION otherwise()"
    )
    with database.engine.connect() as connection:
        (row,) = at_once(connection, statements)
    assert (row.records, row.migrated, row.located) == (5, 5, 4)
    assert (row.units_before, row.units_after) == (15, units)
    assert (row.not_numbers_before, row.not_numbers_after) == (0, 1)


def test_what_a_trigger_may_say_later_is_read_back(database: Database) -> None:
    stage.shop(database)
    statements = planned(database)
    with database.engine.connect() as connection:
        assert not at_once(connection, statements)[0].heard
    database.psql(
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER late AFTER UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION late()"
    )
    with database.engine.connect() as connection:
        assert at_once(connection, statements)[0].heard


def test_joins_are_locked_first(database: Database) -> None:
    assert not planned(database, shop_behind_a_join(database)).fast


@pytest.mark.parametrize("kept", [True, False])
def test_levels_that_a_trigger_keeps_in_step_are_locked_first(
    database: Database, kept: bool
) -> None:
    stage.shop(database)
    mapping = stage.mapping(target={**stage.LEVELS, "sync": kept})
    assert planned(database, mapping).fast is not kept


def test_what_a_trigger_of_levels_may_say_later_is_read_back(database: Database) -> None:
    stage.shop(database)
    statements = planned(database, stage.mapping(target=stage.LEVELS))
    database.psql(
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER late AFTER UPDATE ON levels FOR EACH ROW EXECUTE FUNCTION late()"
    )
    with database.engine.connect() as connection:
        assert not at_once(connection, statements)[0].heard
    database.psql("CREATE TRIGGER new AFTER INSERT ON levels FOR EACH ROW EXECUTE FUNCTION late()")
    with database.engine.connect() as connection:
        assert at_once(connection, statements)[0].heard


def migrated(
    database: Database,
    mapping: stage.StockMapping,
    *,
    first: bool,
    placed: str = "",
    planned: str = "",
) -> str:
    """Migrate, locked first or not; what every chunk counted and every record became.

    Args:
        database: Where.
        mapping: What moves.
        first: Whether each chunk locks its records first.
        placed: What the application does before anything is planned.
        planned: What it does once all is planned.
    """
    migration = stage.locations(database, mapping)
    assert migration is not None
    if placed:
        database.psql(placed)
    resolved = plan.read_mapping(database.engine, mapping)
    write_snapshot(database.engine, resolved, migration)
    if first:
        # Who has failed before is never tried at once.
        database.psql("UPDATE inventory_migration.chunk SET attempts = 1")
    if planned:
        database.psql(planned)
    phases.work(database.engine, resolved, migration, Start(explicit=True), workers=1)
    chunks = database.psql(
        "SELECT number, records, migrated, already, skipped, quarantined, gone, units_before, "
        "units_after, reserved_before, reserved_after, not_numbers_before, not_numbers_after, "
        "located, state FROM inventory_migration.chunk ORDER BY number"
    )
    outcomes = database.psql(
        "SELECT position, chunk, key_text, outcome, rule, reason, state, record "
        "FROM inventory_migration.outcome ORDER BY position"
    )
    images = database.psql(
        "SELECT position, location_key, quantity, reserved FROM inventory_migration.after_image"
    )
    said = [chunks, outcomes, images, stage.table(database, "stock_items")]
    if mapping.target.shape == "stock_level":
        said.append(database.psql("SELECT * FROM levels ORDER BY 1, 2"))
    return "\n".join(said)


CHANGES = """
    UPDATE stock_items SET quantity = quantity + 1 WHERE id % 17 = 0;
    UPDATE stock_items SET company_id = 1 WHERE id % 19 = 0;
    UPDATE stock_items SET quantity = -1 WHERE id = 20;
    UPDATE stock_items SET updated_at = '2026-01-02' WHERE id = 4;
    UPDATE locations SET company_id = 1, is_default = false WHERE company_id = 2;
    DELETE FROM locations WHERE company_id = 3;
    DELETE FROM companies WHERE id = 3;
"""

# One that says the same, one that says something else, and one elsewhere; before and since.
LEVELS_BEFORE = """
    INSERT INTO locations (id, company_id, name, is_default)
    SELECT 900 + id, id, 'Shelf', false FROM companies;
    INSERT INTO levels SELECT s.id, l.id, s.quantity - s.id % 2, s.reserved FROM stock_items s
    JOIN locations l ON l.company_id = s.company_id AND l.is_default WHERE s.id IN (8, 5, 10);
    INSERT INTO levels VALUES (16, 901, 1, 0), (29, 902, 29, 7);
"""
LEVELS_SINCE = """
    DELETE FROM levels WHERE item_id IN (10, 29);
    INSERT INTO levels SELECT s.id, l.id, s.quantity - s.id % 2, s.reserved FROM stock_items s
    JOIN locations l ON l.company_id = s.company_id AND l.is_default WHERE s.id IN (40, 25, 1);
    INSERT INTO levels VALUES (23, 902, 1, 0), (31, 901, 31, 7), (2, 902, 1, 0);
"""


@pytest.mark.parametrize("planned", ["", CHANGES], ids=["", "changed"])
@pytest.mark.parametrize("source", [QUERIED, SOURCE], ids=["asked", "plain"])
@pytest.mark.parametrize("shape", ["location_column", "allocation_json", "stock_level"])
def test_it_says_of_every_chunk_and_record_what_locking_first_says(
    server: EmbeddedServer, shape: str, source: dict[str, Any], planned: str
) -> None:
    target: dict[str, Any] = {"shape": shape, "column": "held", "add": True}
    if shape == "allocation_json":
        # Without the time, which is another one each time.
        target["entry"] = {"held": {"from": "on_hand"}, "promised": {"from": "reserved"}}
    placed = ""
    if shape == "stock_level":
        target, placed, planned = stage.LEVELS, LEVELS_BEFORE, LEVELS_SINCE + planned
    mapping = stage.mapping(
        source=source,
        target=target,
        thresholds={"quarantined_percent": 100},
        chunk={"rows": 4},
    )
    said = []
    for first in (True, False):
        with made_database(server) as database:
            stage.shop(database, items=40)
            database.psql(
                "UPDATE stock_items SET deleted_at = '2026-01-01' WHERE id % 7 = 0;"
                "UPDATE stock_items SET quantity = NULL WHERE id % 11 = 0;"
                "UPDATE stock_items SET company_id = 99 WHERE id % 13 = 0"
            )
            said.append(migrated(database, mapping, first=first, placed=placed, planned=planned))
    assert said[0] == said[1]
    assert "quarantined" in said[1]
    assert "skipped" in said[1]


def test_records_that_lie_together_are_in_chunks_apart(database: Database) -> None:
    stage.shop(database, items=1000)
    planned(database, stage.mapping(chunk={"rows": 2}))
    found = [
        line.split("|")
        for line in database.psql(
            "SELECT key_1, chunk FROM inventory_migration.snapshot_1 ORDER BY position"
        ).splitlines()
    ]
    chunk_of = {int(key): int(chunk) for key, chunk in found}
    assert sorted(set(chunk_of.values())) == list(range(1, 501))
    # Neighbours are as far apart as a pass has chunks, but where there are too few for passes.
    assert all(abs(chunk_of[key] - chunk_of[key + 1]) >= 16 for key in range(1, 990))
    assert (
        database.psql("SELECT max(records), min(records) FROM inventory_migration.chunk") == "2|2"
    )
