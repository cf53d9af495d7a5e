"""Delivery beside the work: a thread that posts what is pending, and that nobody waits for long.

It has a connection of its own, on which it never holds a transaction while it posts, and each
receiver has a thread of its own: one that hangs holds up neither the work nor the others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from inventory_migration.database import describe
from inventory_migration.engine import failures, notifications
from inventory_migration.engine.notifications import Due
from inventory_migration.engine.posting import Answer, Posting, no_url, url_of
from inventory_migration.mapping import StockMapping
from inventory_migration.notifications.envelope import enveloped
from inventory_migration.notifications.message import message

logger = logging.getLogger(__name__)

APPLICATION = "inventory-migration notifications"

FLUSH_SECONDS = 5.0
"""How long the end of the work waits for what is still to be told, all receivers together."""

KEEPING_SECONDS = 0.2
"""How much of that is left to keep what has become of messages that nobody has answered."""

IDLE_SECONDS = 10.0
LOOK_SECONDS = 1.0
ANSWER_SECONDS = 0.2
STEP_SECONDS = 0.02
"""How often it is looked whether there is anybody to tell; for news; for messages that others
deliver, at the end; for an answer."""

LONGEST_WAIT = 60.0


class Deliverer:
    """The thread that delivers, for as long as the work goes on."""

    def __init__(self, engine: sa.Engine) -> None:
        """Begin."""
        self._engine = engine
        self._began = time.monotonic()
        self._wake = threading.Event()
        self._closing = False
        self._under_way: dict[str, tuple[Due, Posting]] = {}
        self._claimed: set[str] = set()
        self._known: set[str] = set()
        self._oldest: int | None = None
        # A daemon: a process that ends does not wait for a database that is away.
        self._thread = threading.Thread(target=self._run, name="notifications", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Look for news now."""
        self._wake.set()

    def close(self) -> None:
        """Deliver what is pending, and end; what does not arrive in time is left for others."""
        self._deadline = time.monotonic() + FLUSH_SECONDS - KEEPING_SECONDS
        self._closing = True
        self._wake.set()
        self._thread.join(FLUSH_SECONDS)

    def _run(self) -> None:
        failed = 0
        while not self._over():
            try:
                with self._engine.connect() as connection:
                    self._deliver(self._session(connection))
                return
            except sa.exc.DBAPIError as error:
                # The work meets it too, and knows what to say about it.
                if not failed:
                    logger.info("notifications wait: %s", failures.message(error))
                failed += 1
                self._under_way.clear()
                self._claimed.clear()
            except Exception as error:
                # Nothing that is told is worth what is done.
                logger.warning("notifications end: %s: %s", type(error).__name__, error)
                return
            if self._closing:
                return
            self._wake.wait(min(2.0**failed, LONGEST_WAIT))

    @staticmethod
    def _session(connection: sa.Connection) -> sa.Connection:
        found = connection.execution_options(isolation_level="AUTOCOMMIT")
        found.execute(_SETTINGS, {"name": APPLICATION})
        return found

    def _over(self) -> bool:
        return self._closing and time.monotonic() >= self._deadline

    def _deliver(self, connection: sa.Connection) -> None:
        """Look, post, keep what came of it; until it is over, or nothing is left to tell."""
        while not self._over():
            self._wake.clear()
            # Whoever closes has done all that there is to tell of before.
            last = self._closing
            waiting = self._look(connection)
            for variable in self._claimed - waiting.keys():
                notifications.release(connection, variable)
            self._claimed &= waiting.keys()
            if last and not self._worth_waiting(waiting):
                return
            self._pause(waiting)
        self._settle(connection, over=True)

    def _worth_waiting(self, waiting: dict[str, float]) -> bool:
        """Whether anything can still be told before the end."""
        left = self._deadline - time.monotonic()
        return bool(self._under_way) or any(seconds < left for seconds in waiting.values())

    def _pause(self, waiting: dict[str, float]) -> None:
        """Wait for an answer, for a message's turn, or until somebody says that it is time."""
        seconds = min([LOOK_SECONDS if self._known else IDLE_SECONDS, *waiting.values()])
        if self._closing or not seconds:
            # Another process, which has the claim, may be about to give it up.
            seconds = ANSWER_SECONDS
        until = time.monotonic() + seconds
        while not self._over() and not self._wake.is_set():
            left = until - time.monotonic()
            answered = any(p.answer() for _, p in self._under_way.values())
            if answered or left <= 0:
                return
            self._wake.wait(min(left, STEP_SECONDS) if self._under_way else left)

    def _look(self, connection: sa.Connection) -> dict[str, float]:
        """One round; returns the channels that have something to be told yet."""
        if not notifications.installed(connection):
            return {}
        if self._oldest is None:
            ago = time.monotonic() - self._began
            notifications.subscribe_everywhere(connection, since_seconds=ago)
            self._oldest = notifications.oldest(connection)
        self._known = notifications.known_variables(connection)
        if not self._known:
            return {}
        self._settle(connection)
        notifications.gather(connection, self._known, behind=self._oldest)
        waiting = notifications.pending(connection, self._known)
        for variable, seconds in waiting.items():
            # What is posted when it is over would be posted again, since nobody keeps the answer.
            if variable not in self._under_way and seconds <= 0 and not self._over():
                self._post_next(connection, variable)
        return waiting

    def _post_next(self, connection: sa.Connection, variable: str) -> None:
        if variable not in self._claimed:
            if not notifications.claim(connection, variable):
                return
            self._claimed.add(variable)
        due, url = notifications.next_due(connection, variable), url_of(variable)
        if due is None or url is None:
            return
        said = message(connection, due, database=describe(self._engine))
        body, headers = enveloped(said, due.format)
        self._under_way[variable] = due, Posting(url, body, headers)

    def _settle(self, connection: sa.Connection, *, over: bool = False) -> None:
        """Keep what came of the messages that were on their way."""
        for variable, (due, posting) in list(self._under_way.items()):
            answer = posting.answer() or (_UNANSWERED if over else None)
            if answer is None:
                continue
            if answer.failure is None:
                notifications.delivered(connection, due)
            else:
                wait = notifications.failed(connection, due, answer)
                _say(due, answer.failure, wait)
            del self._under_way[variable]


_UNANSWERED = Answer("it had not answered when the work was over", again=True)


def _say(due: Due, failure: str, wait: float | None) -> None:
    # One that is tried for hours is worth a line when it begins, and one where it ends.
    if due.attempts and wait is not None:
        return
    what = "it is not tried again" if wait is None else "it is tried again"
    logger.warning(
        "notification %s to %s: %s; %s", due.event, due.url_variable, failure, what,
        extra={"migration_id": due.migration_id} if due.migration_id else {},
    )  # fmt: skip


@dataclass
class _Shared:
    """What those who work on one database share."""

    users: int = 0
    deliverer: Deliverer | None = None


_shared: dict[str, _Shared] = {}
_lock = threading.Lock()


@contextmanager
def together(engine: sa.Engine) -> Iterator[None]:
    """Let deliveries that are begun within go on until the end, and be waited for once."""
    with _sharing(engine):
        yield


@contextmanager
def delivering(engine: sa.Engine, mapping: StockMapping | None = None) -> Iterator[None]:
    """Tell people of what happens meanwhile, and of what others have had no time to tell.

    Args:
        engine: The database with the ledger.
        mapping: Whose work it is; None where only the ledger knows who is to be told. One that
            names nobody costs nothing, where nobody else is to be told either.
    """
    channels = notifications.channels_of(mapping)
    if mapping is not None and not channels:
        yield
        return
    with _sharing(engine) as shared:
        with _lock:
            if shared.deliverer is None:
                for channel in channels:
                    if url_of(channel.url_variable) is None:
                        logger.warning("%s: nobody is told", no_url(channel.url_variable))
                shared.deliverer = Deliverer(engine)
        yield


@contextmanager
def _sharing(engine: sa.Engine) -> Iterator[_Shared]:
    """What is shared by all of this process that work on a database in the same role."""
    options = engine.get_execution_options()
    key = f"{options['role']} {options['where']}"
    with _lock:
        shared = _shared.setdefault(key, _Shared())
        shared.users += 1
    try:
        yield shared
    finally:
        with _lock:
            shared.users -= 1
            last = shared.users == 0
            if last:
                del _shared[key]
        if shared.deliverer is not None:
            if last:
                shared.deliverer.close()
            else:
                shared.deliverer.look()


_SETTINGS = sa.text("""
    SELECT set_config('application_name', :name, false),
           set_config('statement_timeout', '10s', false), set_config('lock_timeout', '1s', false),
           set_config('idle_session_timeout', '0', false)
""")
