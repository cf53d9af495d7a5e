"""What a person at a terminal sees while a command works: what it does, and the picture of it.

It follows the command's log records, so nothing below knows that anybody watches; the numbers are
asked of the database, on a connection of its own. Warnings and errors stay above it. Where nobody
watches, the same records go out as plain lines; see `inventory_migration.logs`.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inventory_migration import verbs
    from inventory_migration.cli.picture import Drawing
    from inventory_migration.cli.region import Region
    from inventory_migration.cli.wording import Look

logger = logging.getLogger(__name__)

PAINT_SECONDS = 0.5
GOODBYE_SECONDS = 5.0
"""How long the command's end waits for the painter, which may be asking a database that is away."""


class ProgressHandler(logging.Handler):
    """Shows records to a person: what is merely of interest only while there is a display."""

    display: Display | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record."""
        try:
            if record.levelno >= logging.WARNING:
                # Above a display, since that has the terminal's streams.
                print(self.format(record), file=sys.stderr, flush=True)
            elif ProgressHandler.display is not None:
                ProgressHandler.display.follow(record)
        except Exception:
            self.handleError(record)


def handler() -> logging.Handler:
    """The handler for a person's terminal."""
    return ProgressHandler()


class Display:
    """Paints what is under way until it is told to stop, in a thread that keeps nobody waiting.

    Args:
        region: Where to.
        drawing: How.
        target: The database that is asked about the migration; None where none is reached.
        doing: What the command does, until its records say more.
    """

    def __init__(
        self, region: Region, drawing: Drawing, target: verbs.Target | None, doing: str
    ) -> None:
        """Know nothing yet."""
        self._region, self._drawing, self._target = region, drawing, target
        self._message: str | None = doing
        self._migration_id: int | None = None
        self._began = time.monotonic()
        self._over = threading.Event()
        self._painter = threading.Thread(target=self._paint, name="display", daemon=True)

    def start(self) -> None:
        """Begin to paint."""
        self._painter.start()

    def stop(self) -> None:
        """Paint no more."""
        self._over.set()
        self._painter.join(GOODBYE_SECONDS)

    def follow(self, record: logging.LogRecord) -> None:
        """Take from a record what the command does, and which migration is at work."""
        self._migration_id = getattr(record, "migration_id", self._migration_id)
        counted = hasattr(record, "chunk") or hasattr(record, "rows_done")
        # There are hundreds of these, and the picture has their figures.
        self._message = None if counted else record.getMessage()

    def _paint(self) -> None:
        try:
            with _pictures(self._target) as look_at:
                while not self._over.wait(PAINT_SECONDS):
                    self._show(look_at(self._migration_id))
        except Exception as error:
            # The work goes on, whatever becomes of its display.
            ProgressHandler.display = None
            logger.warning("progress is no longer shown: %s: %s", type(error).__name__, error)

    def _show(self, look: Look) -> None:
        from dataclasses import replace

        message = self._message
        if look.picture is None:
            message = f"{message or 'at work'} ({time.monotonic() - self._began:.0f} s)"
        width, height = self._region.size
        look = replace(look, message=message)
        self._region.paint(self._drawing.lines(look, width=width, height=height))


@contextmanager
def shown(target: verbs.Target | None, spelled: Callable[[str], str], doing: str) -> Iterator[None]:
    """Keep a display on stderr.

    Args:
        target: The database that is worked on, once it is reached.
        doing: What the command does, until its records say more.
        spelled: Spells the commands in a text as they must be called.
    """
    from inventory_migration.cli.picture import Drawing
    from inventory_migration.cli.region import below
    from inventory_migration.cli.terminal import console

    screen = console(sys.stderr)
    with below(sys.stderr, screen) as region:
        display = Display(region, Drawing(screen, spelled), target, doing)
        ProgressHandler.display = display
        display.start()
        try:
            yield
        finally:
            ProgressHandler.display = None
            display.stop()


@contextmanager
def _pictures(target: verbs.Target | None) -> Iterator[Callable[[int | None], Look]]:
    """Look at one migration after the other, as a command comes to them."""
    from inventory_migration.cli.wording import Look

    if target is None:
        yield lambda _: Look()
        return
    from inventory_migration.cli.watch import Watching

    with Watching(target) as watching:
        yield lambda migration_id: Look() if migration_id is None else watching.look(migration_id)
