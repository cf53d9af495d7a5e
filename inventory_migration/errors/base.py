"""The base of all conditions that this package reports to its user, and nothing else."""

from __future__ import annotations


class MigrationError(Exception):
    """Base of all conditions that this package reports to its user.

    Attributes:
        exit_code: Exit code of a command that ends with this condition.
        retryable: Whether the same call may succeed later, unchanged.
    """

    exit_code: int = 1
    retryable: bool = False
