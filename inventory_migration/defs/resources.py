"""The database of a run: how it is reached, and the right to drive a migration in it.

A run has one `Database`, from its first step to its last, since the executor keeps them in one
process. What is done with it belongs in `assets.py`, `checks.py` and `jobs.py`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import dagster as dg
import sqlalchemy as sa
from pydantic import Field

from inventory_migration import embedded, verbs
from inventory_migration.engine import control, ledger
from inventory_migration.errors import MigrationError
from inventory_migration.mapping import StockMapping
from inventory_migration.metrics import pushing
from inventory_migration.notifications import delivering, together

logger = logging.getLogger(__name__)


class Database:
    """One run's database, connected to when a step first asks for it.

    Attributes:
        mapping: What the run is about, once a step has begun.
        error: The condition that stopped a step of the run, if one did.
        interrupted: Whether Ctrl-C or a termination reached a step.
        summary: What the migration did, once the last step has come to its end.
    """

    def __init__(self, url: str | None = None) -> None:
        """Keep the URL; None stands for `$INVENTORY_DATABASE_URL` or the embedded server."""
        self._url = url
        self.mapping: str | None = None
        self.error: MigrationError | None = None
        self.interrupted = False
        self.summary: dict[str, Any] | None = None
        self._open = ExitStack()

    @cached_property
    def target(self) -> verbs.Target:
        """The database, reached."""
        found = verbs.open_target(self._url)
        self._open.enter_context(together(found.engine))
        return found

    @property
    def embedded_rests(self) -> bool:
        """Whether reaching it would start the embedded server, which looking alone should not."""
        given = self._url or os.environ.get("INVENTORY_DATABASE_URL")
        return not given and embedded.status() is None

    @property
    def reached(self) -> bool:
        """Whether a step has connected to it: nobody else is to do that beside it."""
        return "target" in self.__dict__

    def tell(self, mapping: StockMapping) -> None:
        """Tell people of what happens to a mapping's stock until the end of the run."""
        self._open.enter_context(delivering(self.target.engine, mapping))

    @cached_property
    def claim(self) -> control.Claim:
        """The right to drive migrations, held from the step that takes it to the end of the run."""
        return control.Claim(self.target.engine)

    def pause(self, mapping: StockMapping) -> None:
        """Leave what this run was driving paused, so that nothing takes it up unasked."""
        if "claim" not in self.__dict__:
            return
        try:
            with self.target.engine.connect() as connection:
                if not ledger.installed(connection):
                    return
                driven = ledger.find(
                    connection, mapping=mapping.name, states=("planned", "running", "verifying")
                )
            if driven is not None and self.claim.holds(driven.target):
                control.pause(self.target.engine, driven.migration_id, reason="interrupted")
        except (MigrationError, sa.exc.DBAPIError) as error:
            # The interrupt matters more; the next run finds what a crash would have left.
            logger.warning("%s could not be paused: %s", mapping.name, error)

    def push(self) -> None:
        """Push the figures of what the run was about, where a gateway is set."""
        if self.mapping is not None:
            pushing.push(self.mapping, self._url)

    def release(self) -> None:
        """Give the claim up, and have told what is to be told."""
        with self._open:
            if "claim" in self.__dict__:
                self.claim.release()


class DatabaseResource(dg.ConfigurableResource[Database]):
    """The application's database, in which the ledger lies too."""

    # Left out, so that a run does not fail where the variable is not set.
    url: str | None = Field(
        default=None,
        description="Any libpq URL; without one INVENTORY_DATABASE_URL of the run's environment, "
        "or else the embedded server. What stands here is stored with each run and shown in the "
        "UI: for a URL with a password name the environment variable that holds it.",
    )

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Database]:  # noqa: ARG002
        """Give a run its database, and its claim back when the run ends, however it ends."""
        with _lent(Database(self.url)) as database:
            yield database


def given(make: Callable[[], Database], *, pushes: bool = True) -> dg.ResourceDefinition:
    """A resource whose URL is no part of the configuration, which is stored.

    Args:
        make: Makes the database of a run.
        pushes: Whether the figures are pushed at the end, or the caller does that.
    """

    def give(_context: dg.InitResourceContext) -> Iterator[Database]:
        with _lent(make(), pushes=pushes) as database:
            yield database

    return dg.ResourceDefinition(give, description=DatabaseResource.__doc__)


@contextmanager
def _lent(database: Database, *, pushes: bool = True) -> Iterator[Database]:
    """A database for a run: at its end the claim is given up, and what came of it is pushed."""
    try:
        yield database
    finally:
        database.release()
        if pushes:
            database.push()
