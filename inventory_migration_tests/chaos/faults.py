"""Harm done to sessions and processes, as a seed decides, and counted only where it hits.

What happens when is drawn beforehand, so that a seed gives the same schedule again; which session
is hit depends on who is there at that moment.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from inventory_migration_tests.chaos.bank import WRITER
from inventory_migration_tests.chaos.notes import Notes
from inventory_migration_tests.conftest import Database

WORKER = "inventory-migration"
"""Name of the sessions that migrate."""


@dataclass(frozen=True)
class Fault:
    """Something to be done at a moment, in seconds since the beginning."""

    at: float
    kind: str
    draw: float


def schedule(seed: int, seconds: float, every: float, weights: dict[str, int]) -> list[Fault]:
    """Draw what happens when: on average one fault in `every` seconds."""
    chosen = random.Random(seed)  # noqa: S311 - a reproducible schedule
    found: list[Fault] = []
    at = 1.0
    while at < seconds:
        kind = chosen.choices([*weights], [*weights.values()])[0]
        found.append(Fault(at, kind, chosen.random()))
        at += chosen.uniform(0.5, 1.5) * every
    return found


@dataclass
class Disturber(threading.Thread):
    """Does what a schedule says, in a session of its own.

    What it did to a session counts at once; whom a lock timeout or a deadlock has hit, the victims
    themselves have noted.
    """

    database: Database
    notes: Notes
    faults: list[Fault]
    stop: threading.Event = field(default_factory=threading.Event)
    failed: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        began = time.monotonic()
        connection: psycopg.Connection | None = None
        for fault in self.faults:
            if self.stop.wait(max(0.0, began + fault.at - time.monotonic())):
                return
            try:
                if connection is None or connection.closed:
                    connection = psycopg.connect(
                        self.database.url, application_name="disturber", autocommit=True
                    )
                if DONE[fault.kind](connection, fault.draw):
                    self.notes.write("hit", fault.kind)
            except psycopg.OperationalError:
                # The server is away, or we are the deadlock's victim: no harm has been done.
                if connection is not None and not connection.closed:
                    with suppress(psycopg.Error):
                        connection.rollback()
            except BaseException as error:
                self.failed.append(error)
                raise


def _worker_terminated(connection: psycopg.Connection, draw: float) -> bool:
    return _signalled(connection, "pg_terminate_backend", WORKER, _AT_CHUNKS if draw < 0.7 else "")


def _worker_cancelled(connection: psycopg.Connection, draw: float) -> bool:
    return _signalled(connection, "pg_cancel_backend", WORKER, _AT_CHUNKS if draw < 0.7 else "")


def _writer_terminated(connection: psycopg.Connection, _: float) -> bool:
    return _signalled(connection, "pg_terminate_backend", WRITER)


def _writer_cancelled(connection: psycopg.Connection, _: float) -> bool:
    return _signalled(connection, "pg_cancel_backend", WRITER)


def _signalled(
    connection: psycopg.Connection, function: str, name: str, condition: str = ""
) -> bool:
    # Only a session in a transaction, so that there is something to lose.
    row = connection.execute(
        f"SELECT {function}(pid) FROM pg_stat_activity AS a WHERE application_name ^@ %s "
        f"AND datname = current_database() AND xact_start IS NOT NULL {condition} "
        "ORDER BY random() LIMIT 1",
        (name,),
    ).fetchone()
    return bool(row and row[0])


def _records_locked(connection: psycopg.Connection, draw: float) -> bool:
    """Hold some records for longer than workers and writers wait."""
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '100ms'")
        connection.execute(
            "SELECT FROM stock_items WHERE id >= %s ORDER BY id LIMIT 100 FOR UPDATE",
            (_place(connection, draw),),
        )
        connection.execute("SELECT pg_sleep(0.1)")
    # Whom it has hit has noted that itself.
    return False


def _locked_the_other_way(connection: psycopg.Connection, draw: float) -> bool:
    """Lock records against the order of keys, in which workers lock them."""
    place = _place(connection, draw)
    with connection.transaction():
        # Who waits for longest finds the deadlock: that is to be the worker, or a writer.
        connection.execute("SET LOCAL deadlock_timeout = '1s'")
        connection.execute("SET LOCAL lock_timeout = '100ms'")
        for n in range(12, 0, -3):
            connection.execute("SELECT FROM stock_items WHERE id = %s FOR UPDATE", (place + n,))
            connection.execute("SELECT pg_sleep(0.004)")
    return False


def _place(connection: psycopg.Connection, draw: float) -> int:
    """A key, where the migration is at work if it is, else anywhere."""
    row = connection.execute(
        "SELECT to_regclass('inventory_migration.chunk') IS NOT NULL"
    ).fetchone()
    if draw < 0.8 and row and row[0]:
        front = connection.execute(_FRONT).fetchone()
        if front and front[0] is not None:
            with suppress(psycopg.errors.UndefinedTable):
                key = connection.execute(
                    sql.SQL(
                        "SELECT min(key_1) FROM inventory_migration.{} WHERE chunk = %s"
                    ).format(sql.Identifier(f"snapshot_{front[0]}")),
                    (front[1],),
                ).fetchone()
                if key and key[0] is not None:
                    return int(key[0])
    highest = connection.execute("SELECT max(id) FROM stock_items").fetchone()
    return int((highest[0] if highest else 1) * draw)


DONE: dict[str, Callable[[psycopg.Connection, float], bool]] = {
    "worker_terminated": _worker_terminated,
    "worker_cancelled": _worker_cancelled,
    "writer_terminated": _writer_terminated,
    "writer_cancelled": _writer_cancelled,
    "records_locked": _records_locked,
    "locked_the_other_way": _locked_the_other_way,
}

# Most hits go to who moves records: planning, hit as often, would never come to an end.
_AT_CHUNKS = """
    AND EXISTS (SELECT FROM pg_locks AS k JOIN pg_class AS c ON c.oid = k.relation
                WHERE k.pid = a.pid AND c.relname ^@ 'snapshot_')"""

_FRONT = """
    SELECT m.migration_id,
           CASE m.state WHEN 'rolling_back' THEN max(k.number) FILTER (WHERE k.state = 'done')
                        ELSE min(k.number) FILTER (WHERE k.state = 'pending') END
    FROM inventory_migration.migration m JOIN inventory_migration.chunk k USING (migration_id)
    WHERE m.migration_id = (SELECT max(migration_id) FROM inventory_migration.migration)
    GROUP BY m.migration_id, m.state
"""
