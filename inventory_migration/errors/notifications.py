"""What keeps a message from whoever is to be told."""

from __future__ import annotations

from collections.abc import Mapping

from inventory_migration.errors.base import MigrationError


class NobodyNotified(MigrationError):
    """No channel is named anywhere, so that there is nobody to send a message to."""

    exit_code = 2

    def __init__(self, *, variables: tuple[str, ...], mapping: str | None) -> None:
        """Keep the variables that would name one for every mapping, and the mapping."""
        self.variables, self.mapping = variables, mapping
        named = f", or name a channel under notifications in the mapping {mapping}"
        super().__init__(
            f"Nobody is told of anything: set {' or '.join(variables)} to the URL of a receiver"
            f"{named if mapping else ''}, then run 'inventory-migration notifications test' again"
        )


class MessageNotDelivered(MigrationError):
    """A test message has not arrived everywhere."""

    exit_code = 2
    retryable = True

    def __init__(self, *, failures: Mapping[str, str]) -> None:
        """Keep what went wrong, by the environment variable that holds the URL."""
        self.failures = dict(failures)
        said = "; ".join(f"{variable}: {failure}" for variable, failure in failures.items())
        super().__init__(
            f"The test message did not arrive ({said}): look at the URL that the variable holds, "
            "then run 'inventory-migration notifications test' again"
        )
