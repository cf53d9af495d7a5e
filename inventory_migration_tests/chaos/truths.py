"""What must be true of application and ledger at any moment, asked in one look by an outsider.

The questions are put in SQL of their own, not in the engine's: the tables are those of `stage.py`.
Each returns the sentences that are not true.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from inventory_migration_tests.conftest import Database


@dataclass(frozen=True)
class Totals:
    """What the application's records hold."""

    records: int
    quantity: int
    reserved: int


@dataclass(frozen=True)
class Look:
    """What was seen at one moment.

    Attributes:
        totals: What the records hold.
        states: State of each migration.
        chunks: State of each chunk, by migration and number.
        wrong: Sentences that are not true; empty where all is well.
    """

    totals: Totals
    states: dict[int, str]
    chunks: dict[tuple[int, int], str]
    wrong: list[str]


def totals(connection: psycopg.Connection) -> Totals:
    """Records, quantity and reserved."""
    return Totals(*map(int, connection.execute(_TOTALS).fetchone()))


def look(database: Database) -> Look:
    """Everything at one moment, while the application's writes rest."""
    with psycopg.connect(database.url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        found = totals(connection)
        states: dict[int, str] = {}
        chunks: dict[tuple[int, int], str] = {}
        wrong: list[str] = []
        if _exists(connection, "inventory_migration.migration"):
            states = dict(connection.execute(_STATES).fetchall())
            chunks = {
                (migration, number): state
                for migration, number, state in connection.execute(_CHUNKS)
            }
        newest = max(states, default=0)
        if _exists(connection, f"inventory_migration.snapshot_{newest}"):
            for question, sentence in _QUESTIONS.items():
                answered = question.format(id=newest)
                wrong += [
                    f"migration {newest} is {states[newest]}: {sentence.format(*row)}"
                    for row in connection.execute(answered).fetchall()
                ]
    return Look(found, states, chunks, wrong)


def forgotten(
    seen: Look, chunks_done: set[tuple[int, int]], ended: list[tuple[int, str]]
) -> list[str]:
    """What was acknowledged before and is not so any more."""
    allowed = {
        "verified": {"verified", "rolling_back", "rolled_back"},
        "rolled_back": {"rolled_back"},
    }
    gone = [
        f"migration {migration}, told to be {state}, is {seen.states.get(migration)}"
        for migration, state in ended
        if seen.states.get(migration) not in allowed.get(state, ())
    ]
    for migration, chunk in sorted(chunks_done):
        back = seen.states.get(migration) in {"rolling_back", "rolled_back"}
        state = seen.chunks.get((migration, chunk))
        if state != "done" and not (back and state == "undone"):
            gone.append(f"chunk {chunk} of migration {migration}, told to be done, is {state}")
    return gone


def _exists(connection: psycopg.Connection, name: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone()
    return bool(row and row[0])


_TOTALS = """
    SELECT count(*), COALESCE(sum(quantity), 0), COALESCE(sum(reserved), 0) FROM stock_items
"""

_STATES = "SELECT migration_id, state FROM inventory_migration.migration"

_CHUNKS = "SELECT migration_id, number, state FROM inventory_migration.chunk"

# Where the application rests: its records are those of the snapshot, and a chunk says of them what
# they are.
_QUESTIONS = {
    """
    SELECT count(*) FROM inventory_migration.snapshot_{id} p
    FULL JOIN stock_items s ON s.id = p.key_1
    WHERE p.key_1 IS NULL OR s.id IS NULL OR s.quantity IS DISTINCT FROM p.quantity
       OR s.reserved IS DISTINCT FROM p.reserved OR s.company_id IS DISTINCT FROM p.company_key
    HAVING count(*) > 0
    """: "{0} records are not what the snapshot has of them",
    """
    SELECT count(*) FROM stock_items s LEFT JOIN locations l ON l.id = s.location_id
    WHERE s.location_id IS NOT NULL AND l.company_id IS DISTINCT FROM s.company_id
    HAVING count(*) > 0
    """: "{0} records are at a location of another company, or of none",
    """
    SELECT k.number, k.state, f.located, k.migrated, f.records, k.records, f.units, k.units_after,
           f.reserved, k.reserved_after, f.put_aside
    FROM inventory_migration.chunk k
    JOIN (SELECT p.chunk, count(*) AS records, count(s.location_id) AS located,
                 sum(s.quantity) AS units, sum(s.reserved) AS reserved,
                 count(o.position) AS put_aside
          FROM inventory_migration.snapshot_{id} p
          JOIN stock_items s ON s.id = p.key_1
          LEFT JOIN inventory_migration.outcome o
                 ON o.migration_id = {id} AND o.position = p.position
          GROUP BY p.chunk) f ON f.chunk = k.number
    WHERE k.migration_id = {id}
      AND (f.records <> k.records OR f.put_aside <> 0
           OR k.state <> 'done' AND f.located <> 0
           OR k.state = 'done' AND (f.located <> f.records OR k.migrated <> f.records
              OR f.units <> k.units_after OR f.reserved <> k.reserved_after))
    ORDER BY k.number LIMIT 3
    """: "chunk {0} is {1}: {2} located of {3} migrated; records {4}, {5}; units {6}, {7}; "
    "reserved {8}, {9}; put aside {10}",
    """
    SELECT (SELECT count(*) FROM stock_items), COALESCE(sum(records), 0)
    FROM inventory_migration.chunk WHERE migration_id = {id}
    HAVING COALESCE(sum(records), 0) <> (SELECT count(*) FROM stock_items)
    """: "{0} records, and chunks of {1}",
}
