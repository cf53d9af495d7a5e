"""An application that keeps books: each movement of stock is written down in its own transaction.

Writers are processes of their own. What the server has acknowledged to them they note outside of
the database too, so that afterwards every acknowledged movement can be asked for, exactly once.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass

import psycopg

from inventory_migration_tests.chaos.notes import Notes
from inventory_migration_tests.conftest import Database

BOOKS = """
    CREATE TABLE movements (writer integer, number integer, item_id bigint, kind text NOT NULL,
                            quantity integer NOT NULL, reserved integer NOT NULL,
                            PRIMARY KEY (writer, number, item_id));
    CREATE TABLE opening AS SELECT id AS item_id, quantity, reserved FROM stock_items;
"""

KINDS = ("order", "receipt", "shipment", "transfer", "create", "delete")
WRITER = "shop-writer"
"""Name of the writers' sessions."""

LEVELS = (psycopg.IsolationLevel.READ_COMMITTED, psycopg.IsolationLevel.REPEATABLE_READ)


@dataclass
class Writer:
    """One session of the application."""

    number: int
    items: int
    companies: int
    chosen: random.Random

    def order(self, connection: psycopg.Connection, movement: int) -> bool:
        """Reserve units that are free."""
        units = self.chosen.randint(1, 3)
        return self._book(connection, movement, "order", self._item(), 0, units)

    def receipt(self, connection: psycopg.Connection, movement: int) -> bool:
        """Take units in."""
        units = self.chosen.randint(1, 9)
        return self._book(connection, movement, "receipt", self._item(), units, 0)

    def shipment(self, connection: psycopg.Connection, movement: int) -> bool:
        """Let reserved units go."""
        units = self.chosen.randint(1, 3)
        return self._book(connection, movement, "shipment", self._item(), -units, -units)

    def transfer(self, connection: psycopg.Connection, movement: int) -> bool:
        """Move units between two records, in no order: now and then two writers deadlock."""
        one, other = self._item(), self._item()
        if one == other or not self._book(connection, movement, "transfer", one, -2, 0):
            return False
        if not self._book(connection, movement, "transfer", other, 2, 0):
            raise _NotThere
        return True

    def create(self, connection: psycopg.Connection, movement: int) -> bool:
        """Insert a record."""
        units = self.chosen.randint(1, 9)
        row = connection.execute(
            "INSERT INTO stock_items (company_id, sku, quantity) VALUES (%s, %s, %s) RETURNING id",
            (self.chosen.randint(1, self.companies), f"new-{self.number}-{movement}", units),
        ).fetchone()
        self._note(connection, movement, "create", row[0], units, 0)
        return True

    def delete(self, connection: psycopg.Connection, movement: int) -> bool:
        """Delete a record with what it holds."""
        row = connection.execute(
            "DELETE FROM stock_items WHERE id = %s RETURNING id, quantity, reserved",
            (self._item(),),
        ).fetchone()
        if row is not None:
            self._note(connection, movement, "delete", row[0], -row[1], -row[2])
        return row is not None

    def _item(self) -> int:
        # Some of what was created meanwhile as well.
        return self.chosen.randint(1, self.items + self.items // 20)

    def _book(
        self,
        connection: psycopg.Connection,
        movement: int,
        kind: str,
        item: int,
        quantity: int,
        reserved: int,
    ) -> bool:
        changed = connection.execute(
            "UPDATE stock_items SET quantity = quantity + %(quantity)s, "
            "reserved = reserved + %(reserved)s WHERE id = %(item)s "
            "AND reserved + %(reserved)s BETWEEN 0 AND quantity + %(quantity)s",
            {"quantity": quantity, "reserved": reserved, "item": item},
        ).rowcount
        if changed:
            self._note(connection, movement, kind, item, quantity, reserved)
        return bool(changed)

    def _note(
        self,
        connection: psycopg.Connection,
        movement: int,
        kind: str,
        item: int,
        quantity: int,
        reserved: int,
    ) -> None:
        connection.execute(
            "INSERT INTO movements VALUES (%s, %s, %s, %s, %s, %s)",
            (self.number, movement, item, kind, quantity, reserved),
        )


class _NotThere(Exception):
    """The second record of a transfer is gone; the first has to get its units back."""


def work(
    database: Database,
    notes: Notes,
    number: int,
    seed: int,
    items: int,
    companies: int,
    pause_seconds: float,
) -> None:
    """Write for as long as nobody says stop, whatever happens to the session."""
    chosen = random.Random(seed)  # noqa: S311 - a reproducible test
    writer = Writer(number, items, companies, chosen)
    # A writer that takes the place of a killed one goes on behind what that one has used.
    movement = max((int(words[1]) for words in notes.read(f"tried-{number}")), default=0)
    while not notes.said("stop"):
        try:
            with psycopg.connect(
                database.url, application_name=f"{WRITER}-{number}", connect_timeout=10
            ) as connection:
                connection.isolation_level = LEVELS[number % 2]
                connection.execute("SET lock_timeout = '150ms'")
                connection.commit()
                while not notes.said("stop"):
                    movement += 1
                    _one(connection, writer, chosen.choice(KINDS), movement, notes)
                    time.sleep(pause_seconds)
        except psycopg.Error as error:
            notes.write("met", f"writer_{error.sqlstate or '08006'}", error)
            time.sleep(0.05)
    notes.write("stopped", number)


def _one(
    connection: psycopg.Connection, writer: Writer, kind: str, movement: int, notes: Notes
) -> None:
    """One movement: booked, refused, or in doubt where the connection is lost in its COMMIT."""
    number = writer.number
    notes.write(f"tried-{number}", number, movement)
    try:
        done = getattr(writer, kind)(connection, movement)
    except (psycopg.Error, _NotThere) as error:
        if not isinstance(error, _NotThere):
            notes.write("met", f"writer_{error.sqlstate or '08006'}", error)
        # With the connection gone, this raises what lets the writer connect anew.
        connection.rollback()
        return
    try:
        connection.commit()
    except psycopg.Error as error:
        # Before the server answers a COMMIT nobody can say what became of it.
        state = error.sqlstate or "08006"
        if done and state.startswith(("08", "57")):
            notes.write("doubtful", number, movement)
        raise
    if done:
        notes.write("booked", number, movement, kind)


@dataclass(frozen=True)
class Accounts:
    """The books held against the records, at one moment.

    Attributes:
        wrong: What does not agree; empty where every unit is explained.
        movements: How many movements there are, by kind.
    """

    wrong: list[str]
    movements: Counter[str]


def audit(database: Database, notes: Notes) -> Accounts:
    """Hold books, records and acknowledgements against each other, also while writers write."""
    booked = {(int(w), int(n)) for w, n, *_ in notes.read("booked")}
    with psycopg.connect(database.url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        wrong = [
            f"{what}: {row}" for what, sql in _EQUAL.items() for row in connection.execute(sql)
        ]
        there = set(connection.execute("SELECT DISTINCT writer, number FROM movements").fetchall())
        kinds = connection.execute(
            "SELECT kind, count(DISTINCT (writer, number)) FROM movements GROUP BY 1"
        ).fetchall()
    missing = booked - there
    wrong += [f"movement {m} was acknowledged and is not there" for m in sorted(missing)[:5]]
    return Accounts(wrong, Counter(dict(kinds)))


def unacknowledged(database: Database, notes: Notes) -> list[str]:
    """Movements that are there though they were refused; asked once the writers have stopped."""
    told = {(int(w), int(n)) for k in ("booked", "doubtful") for w, n, *_ in notes.read(k)}
    with psycopg.connect(database.url) as connection:
        there = set(connection.execute("SELECT DISTINCT writer, number FROM movements").fetchall())
    return [f"movement {m} is there and was refused" for m in sorted(there - told)[:5]]


_EQUAL = {
    "a record is not what its opening and its movements make of it": """
        WITH explained AS (
            SELECT item_id, sum(quantity) AS quantity, sum(reserved) AS reserved
            FROM (SELECT item_id, quantity, reserved FROM opening
                  UNION ALL SELECT item_id, quantity, reserved FROM movements) AS entry
            GROUP BY item_id)
        SELECT COALESCE(s.id, e.item_id), s.quantity, e.quantity, s.reserved, e.reserved
        FROM stock_items s FULL JOIN explained e ON e.item_id = s.id
        WHERE (COALESCE(s.quantity, 0), COALESCE(s.reserved, 0))
              IS DISTINCT FROM (COALESCE(e.quantity, 0), COALESCE(e.reserved, 0))
           OR s.id IS NULL AND NOT EXISTS (
                  SELECT FROM movements m WHERE m.item_id = e.item_id AND m.kind = 'delete')
        LIMIT 5""",
    "the totals are not what opening and movements add up to": """
        SELECT r.quantity, b.quantity, r.reserved, b.reserved
        FROM (SELECT sum(quantity) AS quantity, sum(reserved) AS reserved FROM stock_items) AS r,
             (SELECT sum(quantity) AS quantity, sum(reserved) AS reserved
              FROM (SELECT quantity, reserved FROM opening
                    UNION ALL SELECT quantity, reserved FROM movements) AS entry) AS b
        WHERE (r.quantity, r.reserved) IS DISTINCT FROM (b.quantity, b.reserved)""",
}
