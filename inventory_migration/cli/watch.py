"""`status --watch`: looking at one migration until it has ended, on a terminal or line by line.

It only reads: whoever watches can come and go without the migration's noticing. How a picture looks
belongs in `picture.py`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from inventory_migration.cli.picture import Drawing
from inventory_migration.cli.region import below
from inventory_migration.cli.session import INTERRUPTED, Session, is_screen
from inventory_migration.cli.terminal import console
from inventory_migration.cli.wording import Look, line
from inventory_migration.engine import ledger

if TYPE_CHECKING:
    from inventory_migration.verbs import Target

SCREEN_SECONDS = 1.0
LINE_SECONDS = 5.0

PAUSED, FAILED, REFUSED, ROLLED_BACK = 4, 1, 3, 5
"""How a watch ends, as the command that did the work has ended."""


class Watching:
    """One viewer of a database's migrations, who looks at one of them at a time."""

    def __init__(self, target: Target) -> None:
        """Look at nothing yet."""
        from inventory_migration.watching import Poller

        self._poller = Poller(target)
        self._migration_id: int | None = None

    def __enter__(self) -> Watching:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._poller.close()

    def look(self, migration_id: int) -> Look:
        """What is known of a migration at this moment."""
        if migration_id != self._migration_id:
            if self._migration_id is not None:
                self._poller.unsubscribe(self._migration_id)
            self._poller.subscribe(migration_id)
            self._migration_id = migration_id
        seen = self._poller.latest(migration_id)
        return Look(picture=seen.picture, age_seconds=seen.age_seconds, error=seen.error)


def watch(
    session: Session,
    target: Target,
    found: Sequence[Mapping[str, Any]],
    *,
    interval: float | None,
    until_paused: bool,
) -> int:
    """Watch the migration that is under way, or else the newest, and return how it ended.

    Args:
        session: The command.
        target: The database.
        found: The migrations to choose from, newest first.
        interval: Seconds from one look to the next; None for what suits who looks.
        until_paused: Whether to end where it is paused or held, too.
    """
    if not found:
        session.note("Nothing to watch: no migration yet.")
        return 0
    chosen, also = _chosen(found)
    if chosen["state"] not in ledger.ACTIVE:
        session.note("Nothing is under way; this is how the last migration ended.")
    live = not session.json and is_screen(sys.stdout)
    seconds = interval or (SCREEN_SECONDS if live or session.json else LINE_SECONDS)
    try:
        with Watching(target) as watching:
            looks = _looks(watching, chosen["migration_id"], also, seconds, until_paused)
            if live:
                return _on_screen(session, looks)
            return _line_by_line(looks, _object if session.json else _sentence(session.spelled))
    except KeyboardInterrupt:
        session.note("No longer watched; the migration does not notice.")
        return INTERRUPTED


def _chosen(found: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], list[str]]:
    """The migration that is meant, and the others that are under way beside it."""
    active = [one for one in found if one["state"] in ledger.ACTIVE]
    chosen, *others = active or found[:1]
    also = [
        f"migration {one['migration_id']} of {one['mapping']} is {one['state'].replace('_', ' ')}: "
        f"'inventory-migration status {one['mapping']} --watch'"
        for one in others
    ]
    return chosen, also


def _looks(
    watching: Watching, migration_id: int, also: Sequence[str], seconds: float, until_paused: bool
) -> Iterator[tuple[Look, int | None]]:
    """One look after the other; the last comes with the exit code."""
    from dataclasses import replace

    code = None
    while code is None:
        look = replace(watching.look(migration_id), also=also)
        if look.picture is not None and look.error is None:
            code = _ended(look.picture, until_paused=until_paused)
        yield look, code
        if code is None:
            time.sleep(seconds if look.picture is not None else min(seconds, 0.1))


def _on_screen(session: Session, looks: Iterator[tuple[Look, int | None]]) -> int:
    screen = console(sys.stdout)
    drawing = Drawing(screen, session.spelled)
    code = None
    with below(sys.stdout, screen, keep=True) as region:
        for look, ended in looks:
            width, height = region.size
            region.paint(drawing.lines(look, width=width, height=height))
            code = ended
    return code or 0


def _line_by_line(looks: Iterator[tuple[Look, int | None]], told: Callable[[Look], str]) -> int:
    last, code = None, None
    for look, ended in looks:
        said, code = told(look), ended
        if said and said != last:
            when = "" if told is _object else f"{_now()}  "
            print(f"{when}{said}", flush=True)
            last = said
    return code or 0


def _object(look: Look) -> str:
    """The picture on one line, with its age; nothing before there is one."""
    if look.picture is None:
        return ""
    return json.dumps(
        {
            **look.picture,
            "age_seconds": round(look.age_seconds or 0.0, 3),
            "error": look.error,
        },
        default=str,
    )


def _sentence(spelled: Callable[[str], str]) -> Callable[[Look], str]:
    return lambda look: spelled(line(look)) if look.picture or look.error else ""


def _now() -> str:
    return datetime.now().astimezone().isoformat(" ", "seconds")


def _ended(found: Mapping[str, Any], *, until_paused: bool) -> int | None:
    """The exit code of a migration that goes on no further by itself; None while it does."""
    state, events = found["state"], [event["kind"] for event in found["events"]]
    if state == "verified":
        return 0
    if state == "rolled_back":
        since = events[: events.index("planned")] if "planned" in events else events
        return ROLLED_BACK if "threshold" in since else 0
    if state == "aborted" or (state in {"paused", "held"} and until_paused):
        return PAUSED
    if state == "failed" and not (found["working"]["driver"] or found["working"]["workers"]):
        lately = events[: events.index("state_running")] if "state_running" in events else events
        return REFUSED if "verification_failed" in lately else FAILED
    return None
