"""What a person at a terminal sees while a command works: one live line, and warnings above it.

It is drawn from log records, so nothing below knows that anybody watches. Where nobody does, the
same records go out as plain lines; see `inventory_migration.logs`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from inventory_migration.cli.terminal import console
from inventory_migration.logs import plain

LONGEST = 60


class ProgressHandler(logging.Handler):
    """Turns records into the live line, and prints warnings."""

    live: Progress | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record; what is merely of interest only while the live line stands."""
        try:
            if record.levelno >= logging.WARNING:
                self._print(self.format(record))
            elif ProgressHandler.live is not None:
                _show(ProgressHandler.live, record)
        except Exception:
            self.handleError(record)

    def _print(self, line: str) -> None:
        if ProgressHandler.live is not None:
            ProgressHandler.live.console.print(line, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)


def handler() -> logging.Handler:
    """The handler for a person's terminal."""
    return ProgressHandler()


@contextmanager
def shown() -> Iterator[None]:
    """Keep a live line on stderr."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        console=console(sys.stderr),
        transient=True,
    )
    progress.add_task("starting", total=None, figures="")
    with progress:
        ProgressHandler.live = progress
        try:
            yield
        finally:
            ProgressHandler.live = None


def _show(live: Progress, record: logging.LogRecord) -> None:
    task = live.task_ids[0]
    done = getattr(record, "rows_done", None)
    if done is not None:
        records = getattr(record, "rows_total", 0)
        live.update(
            task,
            description=f"phase {plain(getattr(record, 'phase', ''))}",
            total=records,
            completed=done,
            figures=f"{done:,} of {records:,} records",
        )
    elif hasattr(record, "chunk"):
        # There are hundreds, and the figures come every few seconds.
        live.update(task, description="moving stock")
    else:
        live.remove_task(task)
        live.add_task(plain(record.getMessage())[:LONGEST], total=None, figures="")
