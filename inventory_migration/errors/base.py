"""The base of all conditions that this package reports to its user, and how they list problems."""

from __future__ import annotations


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
