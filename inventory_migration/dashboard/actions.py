"""What a viewer may ask of a migration, decided at the moment of the call and on the server.

Pausing and aborting are done here, and answer when they are done. Going on and rolling back take as
long as a migration, so that each is a process of its own: see `processes.py`. Who a viewer is, is
said in `access.py`; where a button is, in the pages.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import make_conninfo

from inventory_migration import logs, steering
from inventory_migration.dashboard import processes
from inventory_migration.dashboard.access import Access, Viewer
from inventory_migration.dashboard.processes import Options, Started
from inventory_migration.database import create_engine
from inventory_migration.engine import control, ledger, progress, rollback
from inventory_migration.errors import ActionRefused, MigrationUnknown

if TYPE_CHECKING:
    from inventory_migration.engine.ledger import Migration
    from inventory_migration.verbs import Target

PROGRAM = "inventory-migration dashboard"

PAUSE, RESUME, ABORT, ROLL_BACK = "pause", "resume", "abort", "roll_back"

STANDING = ("paused", "held", "failed")
"""States that a resume ends."""


_LONGEST_REASON = 500


@dataclass(frozen=True)
class Offer:
    """Something that a viewer may do now.

    Attributes:
        action: Which: pause, resume, abort or roll_back.
        asks_name: Whether the mapping's name has to be typed, since it destroys work.
    """

    action: str
    asks_name: bool


def possible(state: str, *, driven: bool, purged: bool = False) -> list[Offer]:
    """What can be done with a migration, whoever asks.

    Args:
        state: The migration's.
        driven: Whether somebody works on it.
        purged: Whether its records are in an archive and nowhere else.
    """
    under_way = state in control.UNDER_WAY
    found = {
        PAUSE: under_way,
        # One whose process has died is taken up.
        RESUME: state in STANDING or (under_way and not driven),
        ABORT: state in ledger.ACTIVE and state != "rolling_back",
        ROLL_BACK: state in rollback.UNDOABLE
        and not purged
        and not (state == "rolling_back" and driven),
    }
    return [Offer(name, name in {ABORT, ROLL_BACK}) for name, can in found.items() if can]


class Actions:
    """What the viewers of one dashboard may do."""

    def __init__(
        self,
        target: Target,
        files: Mapping[str, Path],
        access: Access,
        options: Options | None = None,
    ) -> None:
        """Begin with nothing under way.

        Args:
            target: The database.
            files: Mapping files that were given by path, by the mapping's name.
            access: Who may act.
            options: What is given to a process that goes on.
        """
        self._target, self._files, self._access = target, files, access
        self._options = options or Options()
        self._lock = threading.Lock()
        self._started: dict[int, Started] = {}

    def offered(self, viewer: Viewer, picture: Mapping[str, Any]) -> list[Offer]:
        """What this viewer may do with a migration that stands as the picture has it."""
        if not self._access.may_act(viewer):
            return []
        started = self._started.get(picture["migration_id"])
        busy = started is not None and started.is_running
        found = possible(
            picture["state"],
            driven=busy or picture["working"]["driver"],
            purged=bool(picture.get("archived")),
        )
        # What a process that was started from here is about to do is not offered again.
        return [
            offer
            for offer in found
            if not (busy and started and offer.action in {RESUME, started.action})
        ]

    def started(self, migration_id: int) -> Started | None:
        """The process that was last started for a migration from here; None where none was."""
        return self._started.get(migration_id)

    def pause(
        self,
        viewer: Viewer,
        migration_id: int,
        *,
        reason: str = "",
        force: bool = False,
        typed: str = "",
        tell: Callable[[str], None] | None = None,
    ) -> dict[str, Any]:
        """Pause a migration, as `steering.pause` does.

        Args:
            viewer: Who asks.
            migration_id: Which one.
            reason: Why, for the trail.
            force: Cancel what is under way; then the mapping's name has to be typed.
            typed: What was typed as the mapping's name.
            tell: Told who is waited for.

        Raises:
            ActionRefused: The viewer may not, or it can not be paused, or the name is another.
            StillBusy: Somebody's transaction did not end in time; nothing new begins all the same.
        """
        found = self._allowed(viewer, migration_id, PAUSE)
        if force:
            _require_name(found, typed)
        return steering.pause(
            self._on_behalf_of(viewer),
            found.mapping,
            migration_id=migration_id,
            reason=_reason(reason),
            force=force,
            tell=tell,
        )

    def abort(
        self,
        viewer: Viewer,
        migration_id: int,
        *,
        typed: str,
        reason: str = "",
        force: bool = False,
        tell: Callable[[str], None] | None = None,
    ) -> dict[str, Any]:
        """End a migration for good, as `steering.abort` does.

        Args:
            viewer: Who asks.
            migration_id: Which one.
            typed: What was typed as the mapping's name.
            reason: Why, for the trail.
            force: Cancel what is under way.
            tell: Told who is waited for.

        Raises:
            ActionRefused: The viewer may not, or it can not be aborted, or the name is another.
            StillBusy: Somebody's transaction did not end in time; nothing new begins all the same.
            LockNotObtained: The application held the table too long for its triggers to go.
        """
        found = self._allowed(viewer, migration_id, ABORT)
        _require_name(found, typed)
        return steering.abort(
            self._on_behalf_of(viewer),
            found.mapping,
            migration_id=migration_id,
            reason=_reason(reason),
            force=force,
            tell=tell,
        )

    def resume(self, viewer: Viewer, migration_id: int, *, write_stop: bool = False) -> Started:
        """Start a process that goes on with a migration.

        Args:
            viewer: Who asks.
            migration_id: Which one.
            write_stop: Whether they say that the application's writes are stopped.

        Raises:
            ActionRefused: The viewer may not, or it can not be resumed, or somebody has just done
                so.
            MappingInvalid: The mapping can not be had in the version that was planned.
        """
        words = ["resume", *self._options.words]
        return self._start(viewer, migration_id, RESUME, [*words, *write_stop * ["--write-stop"]])

    def roll_back(self, viewer: Viewer, migration_id: int, *, typed: str) -> Started:
        """Start a process that takes a migration back.

        Args:
            viewer: Who asks.
            migration_id: Which one.
            typed: What was typed as the mapping's name.

        Raises:
            ActionRefused: The viewer may not, or it can not be rolled back, or somebody has just
                begun to, or the name is another.
            MappingInvalid: The mapping can not be had in the version that was planned.
        """
        words = ["rollback", "--id", str(migration_id), "--yes"]
        return self._start(viewer, migration_id, ROLL_BACK, words, typed=typed)

    def _start(
        self,
        viewer: Viewer,
        migration_id: int,
        action: str,
        words: list[str],
        *,
        typed: str | None = None,
    ) -> Started:
        # One after the other, so that of two who press at once the second is told of the first.
        with self._lock:
            found = self._allowed(viewer, migration_id, action)
            if typed is not None:
                _require_name(found, typed)
            before = self._started.get(migration_id)
            if before is not None and before.is_running and before.action == action:
                raise ActionRefused(f"{before.by} has started this already, and it is under way")
            acting = self._on_behalf_of(viewer)
            path = processes.mapping_file(acting, found, self._files.get(found.mapping))
            with acting.engine.begin() as connection:
                ledger.note(connection, f"asked_{action}", migration_id=migration_id)
            started = processes.start(
                acting,
                [*words, "--mapping", str(path)],
                action=action,
                migration_id=migration_id,
                by=viewer.described,
            )
            self._started[migration_id] = started
            return started

    def _allowed(self, viewer: Viewer, migration_id: int, action: str) -> Migration:
        """The migration, where this viewer may do this with it now."""
        if not self._access.may_act(viewer):
            raise ActionRefused(f"{viewer.name} may only look here, and nothing was done")
        with self._target.reader.connect() as connection:
            known = ledger.installed(connection)
            found = ledger.find(connection, migration_id=migration_id) if known else None
            pulse = progress.read_pulse(connection, migration_id) if known else None
        if found is None or pulse is None:
            raise MigrationUnknown(migration_id=migration_id)
        offers = possible(found.state, driven=pulse.driver, purged=found.purged)
        if action not in {offer.action for offer in offers}:
            told = found.state.replace("_", " ") + (", and worked on" if pulse.driver else "")
            raise ActionRefused(
                f"migration {migration_id} of {found.mapping} is {told}: there is nothing to "
                f"{action.replace('_', ' ')}"
            )
        return found

    def _on_behalf_of(self, viewer: Viewer) -> Target:
        """The database, with the viewer named in whatever is written to the trail."""
        engine = create_engine(
            make_conninfo(**self._target.parameters),
            application_name=PROGRAM,
            on_behalf_of=viewer.described,
        )
        return replace(self._target, engine=engine)


def _require_name(found: Migration, typed: str) -> None:
    if typed.strip() != found.mapping:
        raise ActionRefused(
            f"nothing was done: type {found.mapping}, the name of the mapping, to confirm it"
        )


def _reason(said: str) -> str:
    """What is kept of a reason: a line, and no password that somebody pasted along."""
    return logs.hide_passwords(logs.plain(said.strip()))[:_LONGEST_REASON] or "asked to"
