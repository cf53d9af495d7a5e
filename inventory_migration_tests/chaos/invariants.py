"""What an outsider finds at every commit, by a session and SQL of its own.

The application rests meanwhile, so each record is what it was planned as. What must be equal at the
end is in `shops.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from inventory_migration_tests.chaos.shops import ALREADY, Shop


@dataclass
class Observer:
    """Looks at each commit, one moment at a time, and tells what is not true.

    Attributes:
        url: The database.
        shop: The application there.
        tell: Told what is not true, in words.
        looks: How often it has looked.
        paused: What stock and chunks were when a pause had returned.
    """

    url: str
    shop: Shop
    tell: Callable[[str], None]
    looks: int = 0
    paused: Any = None
    _connection: psycopg.Connection | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> None:
        """Ask every question of one moment."""
        with self._lock:
            self.looks += 1
            try:
                connection = self._connected()
                with connection.transaction():
                    for sentence in self._questions(connection):
                        self.tell(sentence)
                    if self.paused is not None and self._content(connection) != self.paused:
                        self.tell("something was committed after pause had returned")
            except psycopg.Error as error:
                # Raised within a COMMIT it would pass for the engine's own.
                self.tell(f"the observer failed: {error}")

    def pause_returned(self) -> None:
        """From here on nothing may change until `resumed`."""
        with self._lock:
            connection = self._connected()
            self.paused = self._content(connection)
            connection.rollback()

    def resumed(self) -> None:
        """The pause is lifted."""
        self.paused = None

    def close(self) -> None:
        """Leave the database."""
        if self._connection is not None:
            self._connection.close()

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = psycopg.connect(self.url, application_name="observer")
            self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            self._connection.read_only = True
        return self._connection

    def _questions(self, connection: psycopg.Connection) -> list[str]:
        newest = snapshot = None
        if connection.execute(_LEDGER).fetchone() == (True,):
            newest, snapshot = connection.execute(_NEWEST).fetchone() or (None, None)
        asked = [_CONSERVED, _PLACED]
        if newest is not None:
            asked.append(_STANDING)
        if snapshot is not None:
            asked += [_ONE_STATE, _TOTALS, _COVERED]
        known = {"held": self.shop.held, "id": newest, "snapshot": snapshot, "already": ALREADY}
        # In one statement, since this is asked tens of thousands of times.
        answers = " UNION ALL ".join(
            f"SELECT '{sentence.replace(chr(39), chr(39) * 2)}', (to_jsonb(q{n}))::text "
            f"FROM ({question.format(**known)}) AS q{n}"
            for n, (sentence, question) in enumerate(asked)
        )
        return [f"{said}: {row}" for said, row in connection.execute(answers).fetchall()]

    def _content(self, connection: psycopg.Connection) -> list[Any]:
        found: list[Any] = [connection.execute(sql).fetchall() for sql in self.shop.tables.values()]
        found.append(connection.execute(_CHUNKS).fetchall())
        return found


_LEDGER = "SELECT to_regclass('inventory_migration.migration') IS NOT NULL"

_NEWEST = """
    SELECT max(migration_id), to_regclass('inventory_migration.snapshot_' || max(migration_id))
    FROM inventory_migration.migration
"""

_CHUNKS = "SELECT migration_id, number, state, xid FROM inventory_migration.chunk ORDER BY 1, 2"

_CONSERVED = (
    "records, units and reserved of the application differ",
    """
    SELECT count(*) AS records, sum(quantity) AS units, sum(reserved) AS reserved
    FROM stock_items
    HAVING (count(*), sum(quantity), sum(reserved)) IS DISTINCT FROM (12, 73, 15)
    """,
)

_PLACED = (
    "a record is at two locations, at a stranger's, or there with other numbers than its own",
    """
    SELECT h.id FROM ({held}) h JOIN stock_items s USING (id)
    GROUP BY h.id
    HAVING count(*) > 1
        OR bool_or(h.company_id <> s.company_id)
        OR bool_or(h.company_id IS NOT NULL AND (h.quantity, h.reserved)
                                                IS DISTINCT FROM (s.quantity, s.reserved))
    """,
)

_STANDING = (
    "a state that the chunks do not bear out",
    """
    SELECT m.migration_id, m.state, k.number, k.state AS chunk_state
    FROM inventory_migration.migration m JOIN inventory_migration.chunk k USING (migration_id)
    LEFT JOIN inventory_migration.phase p
           ON p.migration_id = m.migration_id AND p.number = k.phase
    WHERE m.state = 'verified' AND k.state <> 'done'
       OR m.state = 'rolled_back' AND k.state <> 'undone'
       OR m.state NOT IN ('rolling_back', 'rolled_back')
          AND (k.state = 'undone' OR p.reconciled_at IS NOT NULL AND k.state <> 'done')
    """,
)

# Item {already} was at its location before anything began.
_ONE_STATE = (
    "a record is in no state, or in more than one",
    """
    SELECT p.key_1, k.number, k.state, o.outcome, h.company_id
    FROM {snapshot} p
    LEFT JOIN inventory_migration.chunk k ON k.migration_id = {id} AND k.number = p.chunk
    LEFT JOIN inventory_migration.outcome o
           ON o.migration_id = {id} AND o.position = p.position
    LEFT JOIN ({held}) h ON h.id = p.key_1
    WHERE CASE k.state
          WHEN 'pending' THEN o.position IS NULL
                              AND (h.company_id IS NOT NULL) = (p.key_1 = {already})
          WHEN 'done' THEN CASE COALESCE(o.outcome, 'migrated')
               WHEN 'migrated' THEN h.company_id IS NOT NULL AND p.key_1 <> {already}
               WHEN 'already' THEN h.company_id IS NOT NULL AND p.key_1 = {already}
               WHEN 'gone' THEN false
               ELSE h.company_id IS NULL END
          WHEN 'undone' THEN (h.company_id IS NOT NULL) = (p.key_1 = {already})
          END IS NOT TRUE
    """,
)

_TOTALS = (
    "a done chunk's totals do not match the tables",
    """
    SELECT k.number, k.records AS planned, to_jsonb(f) AS found
    FROM inventory_migration.chunk k
    JOIN (SELECT p.chunk, count(*) AS records,
                 count(*) FILTER (WHERE o.outcome IS NULL) AS migrated,
                 count(*) FILTER (WHERE o.outcome = 'already') AS already,
                 count(*) FILTER (WHERE o.outcome = 'skipped') AS skipped,
                 count(*) FILTER (WHERE o.outcome = 'quarantined') AS quarantined,
                 sum(CASE WHEN o.outcome IS NULL THEN h.quantity ELSE s.quantity END) AS units,
                 sum(CASE WHEN o.outcome IS NULL THEN h.reserved ELSE s.reserved END) AS reserved
          FROM {snapshot} p
          JOIN stock_items s ON s.id = p.key_1
          JOIN ({held}) h ON h.id = p.key_1
          LEFT JOIN inventory_migration.outcome o
                 ON o.migration_id = {id} AND o.position = p.position
          GROUP BY p.chunk) f ON f.chunk = k.number
    WHERE k.migration_id = {id} AND k.state = 'done'
      AND ((k.records, k.migrated, k.already, k.skipped, k.quarantined, k.gone)
           <> (f.records, f.migrated, f.already, f.skipped, f.quarantined, 0)
           OR (k.units_before, k.units_after) IS DISTINCT FROM (f.units, f.units)
           OR (k.reserved_before, k.reserved_after) IS DISTINCT FROM (f.reserved, f.reserved))
    """,
)

_COVERED = (
    "snapshot, chunks and records do not cover each other",
    """
    SELECT p.key_1 AS part, s.id AS whole
    FROM {snapshot} p FULL JOIN stock_items s ON s.id = p.key_1
    WHERE p.key_1 IS NULL OR s.id IS NULL
    UNION ALL
    SELECT p.chunk, count(*) FROM {snapshot} p
    LEFT JOIN inventory_migration.chunk k ON k.migration_id = {id} AND k.number = p.chunk
    GROUP BY p.chunk, k.records HAVING count(*) IS DISTINCT FROM k.records
    """,
)
