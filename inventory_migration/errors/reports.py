"""What keeps a report from being verified at all: nothing is said of it then, good or bad."""

from __future__ import annotations

from inventory_migration.errors.base import MigrationError


class ReportNotReadable(MigrationError):
    """A file can not be read, or is no report of this program."""

    exit_code = 2

    def __init__(self, *, path: str, why: str) -> None:
        """Name the file and what is wrong with it."""
        self.path, self.why = path, why
        super().__init__(
            f"{path} can not be verified: {why}; give the .html, .md or .json file that "
            "'inventory-migration report' has written"
        )


class ReportNotSealed(MigrationError):
    """A report says of itself that its hash was never kept."""

    exit_code = 2

    def __init__(self, *, path: str, report: str, reason: str) -> None:
        """Keep which report it is, and why it was not sealed."""
        self.path, self.report, self.reason = path, report, reason
        super().__init__(
            f"{path} was never sealed ({reason}), so that nobody can tell whether it was changed; "
            "write it anew with 'inventory-migration report' as a role that may write to the ledger"
        )


class ReportOfAnotherDatabase(MigrationError):
    """A report was sealed in the ledger of another database."""

    exit_code = 2

    def __init__(self, *, path: str, report: str, database: str, here: str) -> None:
        """Keep which database it names, and which one was asked."""
        self.path, self.report, self.database, self.here = path, report, database, here
        super().__init__(
            f"{path} is of another database ({database}) than this one ({here}): name that one "
            "with --database-url"
        )
