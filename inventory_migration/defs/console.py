"""What a run says on stderr: Dagster's own lines, less the tracebacks of what is nobody's fault.

A condition of ours and a failed check end as an exception inside of Dagster, which prints its own
frames below the sentence, twice. The event log, and so the UI, keeps everything.
"""

from __future__ import annotations

import copy
import logging

import dagster as dg
from dagster._utils.log import create_console_logger

KEY = "console"

_EXPECTED = {"Failure", "DagsterAssetCheckFailedError"}


class _Brief(logging.Formatter):
    """A formatter that leaves away where an expected failure was raised."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as the inner formatter does."""
        event = getattr(record, "dagster_event", None)
        error = getattr(getattr(event, "event_specific_data", None), "error", None)
        if getattr(error, "cls_name", None) in _EXPECTED:
            # A copy: the same record goes to the event log.
            record = copy.copy(record)
            record.msg = str(record.msg).partition("\n\nStack Trace:")[0]
        return self._inner.format(record)


def console(level: int = logging.DEBUG) -> dg.LoggerDefinition:
    """Return Dagster's console logger, at a level and without those tracebacks.

    A run uses it only where its configuration names it, by `KEY`.
    """

    def make(_context: dg.InitLoggerContext) -> logging.Logger:
        made = create_console_logger(name="dagster", level=level)
        for handler in made.handlers:
            if handler.formatter is not None:
                handler.setFormatter(_Brief(handler.formatter))
        return made

    return dg.LoggerDefinition(make, description="Dagster's own log, on stderr.")
