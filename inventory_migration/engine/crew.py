"""Threads that share what is to be done to a database, and the one that waits for them.

An interrupt (Ctrl-C, Dagster's Terminate) reaches the main thread alone: so workers run in threads
while the calling thread only waits, tells them to stop, and cancels what they have under way at the
server. A connection that is lost is replaced; the first error that no other connection mends stops
all of them. What one worker does in a turn is said in `worker.py` and `undo_walk.py`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import psycopg
import sqlalchemy as sa

from inventory_migration.engine import ledger
from inventory_migration.engine.failures import Action, action_for, message, passes, sqlstate
from inventory_migration.engine.pacing import POLL_SECONDS
from inventory_migration.engine.patience import RECONNECT_SECONDS, backoff
from inventory_migration.errors import ServerRestarted

logger = logging.getLogger(__name__)


class Worker(Protocol):
    """What one thread does; nobody else touches it."""

    def connected(self, connection: sa.Connection) -> None:
        """Begin on a connection, the first one or one in the place of another."""

    def turn(self, connection: sa.Connection) -> bool:
        """Do one transaction; False where there is nothing left to do."""


@dataclass
class Crew:
    """What workers tell each other and the thread that waits for them."""

    stop: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None
    connections: dict[int, sa.Connection] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, error: BaseException) -> None:
        """Stop all of them; the first error is the one that is told."""
        with self.lock:
            self.failure = self.failure or error
        self.stop.set()

    def cancel_all(self) -> None:
        """Cancel at the server what is under way."""
        # Under the lock, so that no worker closes its connection meanwhile. One that is lost has
        # nothing to cancel, and must not put an error in the place of the interrupt.
        with self.lock:
            for connection in self.connections.values():
                with suppress(sa.exc.SQLAlchemyError, psycopg.Error):
                    driver = connection.connection.driver_connection
                    if isinstance(driver, psycopg.Connection):
                        driver.cancel_safe(timeout=5)

    def work(
        self,
        engine: sa.Engine,
        migration_id: int,
        workers: Sequence[Worker],
        *,
        tend: Callable[[], bool] = lambda: True,
    ) -> None:
        """Let workers work until none has anything left to do, or until they should stop.

        Args:
            engine: Where to connect.
            migration_id: On which migration.
            workers: What each thread does.
            tend: Called every few tenths of a second by the waiting thread; False stops them.

        Raises:
            ServerRestarted: Another server answers in the place of the one that work began on.
            sqlalchemy.exc.DBAPIError: Something that no other connection mends.
        """
        threads = [
            threading.Thread(
                target=self._work, args=(engine, migration_id, worker), name=f"worker-{number}"
            )
            for number, worker in enumerate(workers, 1)
        ]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                threads[0].join(POLL_SECONDS)
                if not threads[0].is_alive():
                    time.sleep(POLL_SECONDS / 10)
                if not self.stop.is_set() and not tend():
                    self.stop.set()
        except BaseException:
            self.stop.set()
            self.cancel_all()
            raise
        finally:
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        if self.failure is not None:
            raise self.failure

    def _work(self, engine: sa.Engine, migration_id: int, worker: Worker) -> None:
        attempts, lost_at = 0, 0.0
        while not self.stop.is_set():
            try:
                with engine.connect() as connection:
                    if attempts:
                        require_same_server(connection, migration_id)
                    with self.lock:
                        self.connections[threading.get_ident()] = connection
                    try:
                        worker.connected(connection)
                        while not self.stop.is_set():
                            if not worker.turn(connection):
                                return
                            attempts = 0
                    finally:
                        with self.lock:
                            self.connections.pop(threading.get_ident(), None)
            except sa.exc.DBAPIError as error:
                # A lost connection, or what befell a statement beside the chunks; the server has
                # undone what was under way, and another session can go on.
                lost_at = lost_at if attempts else time.monotonic()
                attempts += 1
                if self.stop.is_set():
                    return
                patience = time.monotonic() - lost_at < RECONNECT_SECONDS
                lost = action_for(sqlstate(error)) is Action.RECONNECT
                if not (lost or passes(error)) or not patience:
                    self.fail(error)
                    return
                what = "connection lost" if lost else "not through"
                logger.warning("%s (%s), attempt %d", what, message(error), attempts)
                self.stop.wait(backoff(attempts))
            except BaseException as error:
                self.fail(error)
                return


def require_same_server(connection: sa.Connection, migration_id: int) -> None:
    """After a lost connection: go on only if the server is the one that the work began on.

    One that was restarted, or taken over by a standby, may have lost what it acknowledged last.
    """
    started_at = ledger.migration.c.server_started_at
    same, since = connection.execute(
        sa.select(
            sa.func.pg_postmaster_start_time() == started_at,
            sa.cast(sa.func.pg_postmaster_start_time(), sa.Text),
        ).where(ledger.migration.c.migration_id == migration_id)
    ).one()
    connection.rollback()
    if not same:
        raise ServerRestarted(since=since)
