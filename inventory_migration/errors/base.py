"""The base of all conditions that this package reports to its user, and how they list problems."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MigrationError(Exception):
    """Base of all conditions that this package reports to its user.

    Attributes:
        exit_code: Exit code of a command that ends with this condition.
        retryable: Whether the same call may succeed later, unchanged.
    """

    exit_code: int = 1
    retryable: bool = False


def on_one_line(text: str) -> str:
    """A problem as one of several lines: a name that it repeats may have line breaks of its own."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


def nearest(name: str, known: Iterable[str]) -> str:
    """What was probably meant, for the end of a sentence; nothing where nothing is near."""
    lowered = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean {lowered[close[0]]}?" if close else ""
