"""What a step shows of itself while it works: observations by time, and what the run links to.

They come from a thread and a session of their own, so that neither a slow event storage nor a
stalled database keeps the step from its work, and none of it can fail it. What is shown of a
migration is in `pictures.py`, where it comes from in `watching.py`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._core.events import AssetObservationData, DagsterEvent, DagsterEventType
from dagster._core.execution.plan.handle import StepHandle

from inventory_migration import project, watching
from inventory_migration.defs import pictures
from inventory_migration.defs.metadata import Metadata
from inventory_migration.defs.resources import Database
from inventory_migration.engine import ledger
from inventory_migration.mapping import StockMapping
from inventory_migration.report.text import duration

logger = logging.getLogger(__name__)

OBSERVATION_SECONDS = 3.0
"""An observation costs some 50 ms, so they go by time and never by chunk."""

LONGEST_SECONDS = 15.0
OBSERVED = 200
"""A step is observed so many times before observations come less often, which they do bit by bit
up to the longest interval: what lasts for a day is not to fill the event storage."""

QUIET_SECONDS = 30.0
"""How often a step is observed on which nothing has changed: a night is long."""

CLOSING_SECONDS = 2.0
"""How long a step that has ended waits for its last observation."""

_CHANGES_BY_ITSELF = {"elapsed_seconds", "active_seconds"}


@contextmanager
def observed(
    context: dg.OpExecutionContext,
    database: Database,
    mapping: StockMapping,
    key: dg.AssetKey,
    doing: str,
    *,
    at_once: bool = False,
) -> Iterator[None]:
    """Observe an asset while a step works, and once more where the step fails.

    Args:
        context: The step's.
        database: The run's.
        mapping: Whose migration is shown, as soon as there is one.
        key: The asset that the step is about.
        doing: What the step does, as long as no migration says it better.
        at_once: Whether also a step that ends within moments is observed.
    """
    observer = _Observer(context, database, mapping, key, doing)
    observer.start(at_once=at_once)
    try:
        yield
    except BaseException:
        observer.stop(failed=True)
        raise
    observer.stop(failed=False)


def tell_where_to_watch(context: dg.AssetExecutionContext) -> None:
    """Say at the beginning of a run where it can be watched, as far as that is known."""
    if page := project.dashboard_url():
        context.log.info(f"Watch it on {page}")


class _Observer:
    """The observations of one step, in a thread that nobody waits for longer than moments."""

    def __init__(
        self,
        context: dg.OpExecutionContext,
        database: Database,
        mapping: StockMapping,
        key: dg.AssetKey,
        doing: str,
    ) -> None:
        self._context, self._database = context, database
        self._mapping, self._key, self._doing = mapping, key, doing
        self._over = threading.Event()
        self._at_once = self._failed = False
        self._began = time.monotonic()
        self._poller: watching.Poller | None = None
        self._watched: int | None = None
        self._tagged: int | None = None
        self._told: Metadata | None = None
        self._told_at = float("-inf")
        self._blind = False
        self._thread = threading.Thread(target=self._run, name="observing", daemon=True)

    def start(self, *, at_once: bool) -> None:
        """Begin, with the first observation now or after some seconds."""
        self._at_once = at_once
        self._thread.start()

    def stop(self, *, failed: bool) -> None:
        """Let no observation come after the step's own end, if that takes moments only."""
        self._failed = failed
        self._over.set()
        self._thread.join(CLOSING_SECONDS)

    def _run(self) -> None:
        try:
            if self._at_once:
                self._try_to_observe()
            while not self._over.wait(self._interval()):
                self._try_to_observe()
            if self._failed and (self._at_once or self._told is not None):
                self._try_to_observe(last=True)
        finally:
            if self._poller is not None:
                self._poller.close()

    def _interval(self) -> float:
        """By how much longer a step lasts, by so much less is it observed."""
        elapsed = time.monotonic() - self._began
        return max(OBSERVATION_SECONDS, min(LONGEST_SECONDS, elapsed / OBSERVED))

    def _try_to_observe(self, *, last: bool = False) -> None:
        try:
            self._observe(last=last)
        except Exception as error:
            # What can be seen of a step is not worth the step. It is told once.
            if not self._blind:
                why = f"{type(error).__name__}: {error}"
                logger.warning("%s: not shown in Dagster: %s", self._doing, why)
            self._blind = True

    def _observe(self, *, last: bool = False) -> None:
        found, said = self._seen(last=last)
        now = time.monotonic()
        if self._is_told(found) and (last or now - self._told_at < QUIET_SECONDS):
            return
        self._store(
            dg.AssetObservation(
                self._key,
                description=said,
                metadata={**found, "elapsed_seconds": round(now - self._began, 1)},
            )
        )
        self._told, self._told_at, self._blind = found, now, False

    def _store(self, observation: dg.AssetObservation) -> None:
        """Store an observation as one of the step's.

        Past the run's log, which would let the step's own events wait until it is stored.
        """
        self._context.instance.report_dagster_event(
            DagsterEvent(
                event_type_value=DagsterEventType.ASSET_OBSERVATION.value,
                job_name=self._context.job_name,
                step_handle=StepHandle(self._context.op_handle),
                event_specific_data=AssetObservationData(observation),
                message=observation.description,
                pid=os.getpid(),
            ),
            run_id=self._context.run.run_id,
        )

    def _is_told(self, found: Metadata) -> bool:
        def changing(metadata: Metadata | None) -> Metadata:
            return {k: v for k, v in (metadata or {}).items() if k not in _CHANGES_BY_ITSELF}

        return self._told is not None and changing(found) == changing(self._told)

    def _seen(self, *, last: bool) -> tuple[Metadata, str]:
        """What there is to be seen now, and a sentence of it."""
        elapsed = duration(time.monotonic() - self._began)
        seen = self._look(last=last)
        if seen is None:
            return {"doing": dg.MetadataValue.text(self._doing)}, f"{self._doing}, for {elapsed}."
        picture, stale = seen.picture, seen.error
        if picture is None:
            why = {"not_known": dg.MetadataValue.text(stale or "not read yet")}
            return why, f"{self._doing}, for {elapsed}; how far it is is not known: {stale}."
        self._tag(picture)
        found, said = pictures.of_picture(picture), pictures.sentence(picture)
        if stale is not None:
            found["not_known"] = dg.MetadataValue.text(stale)
            said = f"Not known any better: {stale}. {said}"
        return found, said

    def _look(self, *, last: bool) -> watching.Seen[dict[str, Any]] | None:
        """The newest picture of the migration at hand; None where there is none yet."""
        seen = None if self._watched is None or last else self._latest(self._watched)
        if seen is None or (seen.picture and seen.picture["state"] not in ledger.ACTIVE):
            # There may be one by now, or the next one is rolled back.
            current = self._current()
            if current is None:
                return seen
            if last:
                return watching.Seen(watching.picture(self._database.target, current), 0.0)
            if current != self._watched:
                self._watch(current)
            seen = self._latest(current)
        return seen

    def _current(self) -> int | None:
        if not self._database.reached:
            return None
        with self._database.target.reader.connect() as connection:
            if not ledger.installed(connection):
                return None
            found = ledger.find(connection, mapping=self._mapping.name, states=ledger.ACTIVE)
        return found.migration_id if found else self._watched

    def _watch(self, migration_id: int) -> None:
        if self._poller is None:
            self._poller = watching.Poller(self._database.target)
        if self._watched is not None:
            self._poller.unsubscribe(self._watched)
        self._poller.subscribe(migration_id)
        self._watched = migration_id

    def _latest(self, migration_id: int) -> watching.Seen[dict[str, Any]]:
        """What the poller has; of one that has just begun what it has within moments."""
        assert self._poller is not None  # noqa: S101 - it is subscribed to
        until = time.monotonic() + OBSERVATION_SECONDS
        while True:
            seen = self._poller.latest(migration_id)
            if seen.picture or seen.error or time.monotonic() > until:
                return seen
            if self._over.wait(0.05):
                return seen

    def _tag(self, picture: Mapping[str, Any]) -> None:
        """Let the run be found by the migration that it works on, and lead to its page."""
        migration_id = int(picture["migration_id"])
        if self._tagged == migration_id:
            return
        tags = {"migration_id": str(migration_id)}
        if page := project.dashboard_url(migration_id):
            tags["dashboard_url"] = page
        self._context.instance.add_run_tags(self._context.run.run_id, tags)
        self._tagged = migration_id
