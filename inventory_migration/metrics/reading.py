"""Reading the figures: within bounded time, and at a bounded cost however many ask for them.

A database that stalls keeps one thread waiting, and nobody who scrapes. What figures there are is
in `catalogue.py`; who serves or pushes them is beside this module.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import make_conninfo

from inventory_migration import logs, watching
from inventory_migration.database import connection_parameters, create_engine, explain
from inventory_migration.engine import latest
from inventory_migration.errors import MigrationError
from inventory_migration.metrics import samples
from inventory_migration.metrics.samples import Sample
from inventory_migration.verbs import Target

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""How long whoever asks waits at the most; Prometheus itself gives a scrape ten seconds."""

STATEMENT_SECONDS = 4
CONNECT_SECONDS = 3

LEAST_SECONDS = 1.0
"""For how long figures are good at the least: several scrapers at once cost one reading."""

FAILED_SECONDS = 10.0
"""For how long at the most it is good that there are none."""


def hurried(url: str | None = None) -> Target:
    """A target whose sessions give up soon; connects to nothing yet.

    Raises:
        DatabaseUrlInvalid: The URL is none.
    """
    parameters = {**connection_parameters(url), "connect_timeout": str(CONNECT_SECONDS)}
    conninfo = make_conninfo(**parameters)
    reader = create_engine(conninfo, read_only=True, application_name="inventory-migration metrics")

    @sa.event.listens_for(reader, "connect")
    def give_up_soon(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT set_config('statement_timeout', '{STATEMENT_SECONDS}s', false), "
                "set_config('lock_timeout', '1s', false)"
            )
        connection.commit()

    return Target(engine=reader, reader=reader, parameters=parameters)


def read(target: Target, mapping: str | None = None) -> list[Sample]:
    """Every figure, as the ledger says it now: of all mappings, or of one.

    Raises:
        MigrationError: The ledger is of another version than this tool.
        sqlalchemy.exc.DBAPIError: The database did not answer.
    """
    began = time.monotonic()
    with target.reader.connect() as connection:
        wanted = latest.of_interest(connection, mapping)
        standings = latest.of_mappings(connection, mapping)
    pictures = [watching.picture(target, one.migration_id) for one in wanted]
    return [
        *samples.of_exporter(seconds=time.monotonic() - began, observed_at=datetime.now(UTC)),
        *(sample for picture in pictures for sample in samples.of_migration(picture)),
        *(sample for one in wanted for sample in samples.of_limits(one)),
        *(sample for standing in standings for sample in samples.of_mapping(standing)),
    ]


class Reader:
    """The figures for whoever asks: one reading at a time, and none sooner than the last one cost.

    So asking takes no more of the database's time than `watching.DUTY` of it, whoever scrapes.
    """

    def __init__(self, ask: Callable[[], list[Sample]], *, seconds: float = ANSWER_SECONDS) -> None:
        """Ask nothing yet.

        Args:
            ask: Reads the figures, or raises what kept it from that.
            seconds: How long `latest` waits at the most.
        """
        self._ask = ask
        self._seconds = seconds
        self._lock = threading.Condition()
        self._asking_since: float | None = None
        self._read_at = float("-inf")
        self._took = float("inf")
        self._cost = 0.0
        self._found: list[Sample] = []
        self._failed: str | None = None
        self._told: str | None = None

    @property
    def age_allowed(self) -> float:
        """For how long a reading is good, by what it cost."""
        earned = self._cost / watching.DUTY
        return max(LEAST_SECONDS, min(earned, FAILED_SECONDS) if self._failed else earned)

    def latest(self) -> list[Sample]:
        """The figures as they are, or only that the database does not answer."""
        began = time.monotonic()
        with self._lock:
            if self._is_stale() and self._asking_since is None:
                self._asking_since = began
                threading.Thread(target=self._read, daemon=True).start()
            # Who comes while a reading hangs does not wait as long again.
            since = self._asking_since if self._asking_since is not None else began
            patience = max(self._seconds - (began - since), self._seconds / 10)
            self._lock.wait_for(lambda: not self._is_stale(), timeout=patience)
            if self._is_stale():
                self._tell(f"the database has not answered for {time.monotonic() - since:.0f} s")
                return [*samples.without_database(seconds=time.monotonic() - began)]
            self._tell(self._failed)
            return self._found

    def _is_stale(self) -> bool:
        return time.monotonic() - self._read_at >= self.age_allowed

    def _read(self) -> None:
        began = time.monotonic()
        failed: str | None = None
        try:
            found = self._ask()
        except Exception as error:
            # Whatever is wrong, whoever scrapes is told that there are no figures, and goes on.
            failed = reason(error)
            found = [*samples.without_database(seconds=time.monotonic() - began)]
        with self._lock:
            now = time.monotonic()
            self._found, self._failed = found, failed
            # To wait once for a lock or a server that stalls costs nobody anything.
            self._cost, self._took = min(self._took, now - began), now - began
            self._read_at = now
            self._asking_since = None
            self._lock.notify_all()

    def _tell(self, failed: str | None) -> None:
        """Say once that there are no figures, and once that there are again."""
        if failed and self._told is None:
            logger.warning("no figures: %s", logs.plain(logs.hide_passwords(failed)))
        elif failed is None and self._told is not None:
            logger.info("the database answers again")
        self._told = failed


def reason(error: Exception) -> str:
    """Why there are no figures, in a sentence without statements or values."""
    if isinstance(error, sa.exc.DBAPIError | psycopg.Error):
        return str(explain(error))
    if isinstance(error, MigrationError):
        return str(error)
    return type(error).__name__
