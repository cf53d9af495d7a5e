"""An application that keeps working while its stock is migrated, and keeps its own books.

Each of its transactions writes what it did into a movement log, in READ COMMITTED or REPEATABLE
READ. Whatever the migration does meanwhile, the log must explain every unit.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
import pytest

from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.slow

ITEMS = 3000

BOOKS = """
    CREATE TABLE movements (item_id bigint, units integer);
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.location_id IS DISTINCT FROM OLD.location_id AND NEW.id % 50 = 0 THEN
            PERFORM pg_sleep(0.02);
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER slow BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION slow();
"""


class Application(threading.Thread):
    """One session: sells, receives, moves units between items, creates and deletes items."""

    def __init__(self, database: Database, level: psycopg.IsolationLevel, seed: int) -> None:
        super().__init__()
        self.database, self.level = database, level
        self.random = random.Random(seed)  # noqa: S311 - a reproducible test
        self.stop = threading.Event()
        self.done: Counter[str] = Counter()

    def run(self) -> None:
        with psycopg.connect(self.database.url) as connection:
            connection.isolation_level = self.level
            while not self.stop.is_set():
                kind = self.random.choice(["sell", "receive", "shift", "create", "delete"])
                try:
                    getattr(self, kind)(connection)
                    connection.commit()
                    self.done[kind] += 1
                except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                    connection.rollback()
                    self.done["refused"] += 1
                self.stop.wait(0.003)

    def item(self) -> int:
        return self.random.randint(1, ITEMS)

    def book(self, connection: psycopg.Connection, item: int, units: int) -> None:
        changed = connection.execute(
            "UPDATE stock_items SET quantity = quantity + %s WHERE id = %s", (units, item)
        ).rowcount
        if changed:
            connection.execute("INSERT INTO movements VALUES (%s, %s)", (item, units))

    def sell(self, connection: psycopg.Connection) -> None:
        self.book(connection, self.item(), -self.random.randint(1, 5))

    def receive(self, connection: psycopg.Connection) -> None:
        self.book(connection, self.item(), self.random.randint(1, 5))

    def shift(self, connection: psycopg.Connection) -> None:
        for item, units in ((self.item(), -3), (self.item(), 3)):
            self.book(connection, item, units)

    def create(self, connection: psycopg.Connection) -> None:
        units = self.random.randint(1, 9)
        made = connection.execute(
            "INSERT INTO stock_items (company_id, sku, quantity) VALUES (%s, 'made', %s) "
            "RETURNING id",
            (self.random.randint(1, 7), units),
        ).fetchone()
        connection.execute("INSERT INTO movements VALUES (%s, %s)", (made[0], units))

    def delete(self, connection: psycopg.Connection) -> None:
        gone = connection.execute(
            "DELETE FROM stock_items WHERE id = %s RETURNING id, quantity", (self.item(),)
        ).fetchone()
        if gone:
            connection.execute("INSERT INTO movements VALUES (%s, %s)", (gone[0], -gone[1]))


@contextmanager
def at_work(sessions: Sequence[Application]) -> Iterator[None]:
    """Let sessions work, and see that each kind of work was done when they have ended."""
    for session in sessions:
        session.start()
    try:
        yield
    finally:
        for session in sessions:
            session.stop.set()
        for session in sessions:
            session.join()
    work = sum((session.done for session in sessions), Counter())
    assert min(work[kind] for kind in ("sell", "receive", "shift", "create", "delete")) > 0, work


@pytest.mark.parametrize("seed", [1, 2])
def test_every_unit_is_explained_by_the_applications_own_books(
    database: Database, seed: int
) -> None:
    stage.shop(database, companies=7, items=ITEMS)
    before = int(database.psql("SELECT sum(quantity) FROM stock_items"))
    mapping = stage.mapping(chunk={"rows": 50, "target_ms": 100})
    stage.locations(database, mapping)
    database.psql(BOOKS)
    levels = [psycopg.IsolationLevel.READ_COMMITTED, psycopg.IsolationLevel.REPEATABLE_READ]
    sessions = [Application(database, level, seed * 10 + n) for n, level in enumerate(levels * 2)]
    with at_work(sessions):
        stage.transform(database, mapping)
    found = stage.close(database, mapping)

    moved = int(database.psql("SELECT sum(units) FROM movements"))
    assert int(database.psql("SELECT sum(quantity) FROM stock_items")) == before + moved
    assert found.proof.unexplained == []
    assert database.psql("SELECT count(*) FROM stock_items WHERE location_id IS NULL") == "0"
    assert (
        database.psql(
            "SELECT count(*) FROM stock_items s LEFT JOIN locations l ON l.id = s.location_id "
            "WHERE l.company_id IS DISTINCT FROM s.company_id"
        )
        == "0"
    )
    # The ledger explains the difference between its snapshot and now by the application's work.
    assert (
        database.psql(
            "SELECT snapshot_units + units_changed = units_after FROM inventory_migration.migration"
        )
        == "t"
    )
    snapshot = "SELECT count(*) FROM inventory_migration.snapshot_1"
    assert sum(stage.outcomes(database).values()) == int(database.psql(snapshot))
