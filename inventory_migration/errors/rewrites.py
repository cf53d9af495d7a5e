"""What keeps a table from being rewritten in one pass."""

from __future__ import annotations

from collections.abc import Sequence

from inventory_migration.errors.base import MigrationError, on_one_line


class RewriteRefused(MigrationError):
    """A rewrite would lose something, show somebody an empty table, or is not what was asked."""

    exit_code = 2

    def __init__(self, *, mapping: str, reasons: Sequence[str]) -> None:
        """List everything that stands against it, and say what moves the stock without it."""
        self.mapping, self.reasons = mapping, tuple(reasons)
        otherwise = f"'inventory-migration run {mapping}' moves the stock in chunks instead"
        if len(self.reasons) == 1:
            said = f": {on_one_line(self.reasons[0])}; nothing was written; {otherwise}"
        else:
            listed = "".join(f"\n  {on_one_line(reason)}" for reason in self.reasons)
            said = f", and nothing was written:{listed}\n{otherwise[0]}{otherwise[1:]}."
        super().__init__(f"{mapping} cannot be rewritten in one pass{said}")


class SnapshotsOpen(MigrationError):
    """Transactions are open that would see the table empty once it is rewritten."""

    retryable = True

    def __init__(
        self, *, mapping: str, table: str, seconds: float, sessions: Sequence[str]
    ) -> None:
        """Name each of them."""
        self.mapping, self.table, self.seconds = mapping, table, seconds
        self.sessions = tuple(sessions)
        super().__init__(
            f"{table} is not rewritten, since to a transaction that looks at an older moment it "
            f"would be empty; after {seconds:.0f} s there is still {'; '.join(sessions)}; nothing "
            f"was written to it; end that, then 'inventory-migration run {mapping} --window "
            f"--rewrite', or move the stock in chunks without --rewrite"
        )


class TableInUse(MigrationError):
    """Others use the table that is to be rewritten, which nobody may meanwhile."""

    retryable = True

    def __init__(
        self, *, mapping: str, table: str, seconds: float, sessions: Sequence[str]
    ) -> None:
        """Name who holds it."""
        self.mapping, self.table, self.seconds = mapping, table, seconds
        self.sessions = tuple(sessions)
        who = "; ".join(sessions) or "somebody for moments at a time"
        super().__init__(
            f"{table} could not be locked for a rewrite within {seconds:.0f} s, since it is used "
            f"by {who}; nothing was written to it; stop the application, then "
            f"'inventory-migration run {mapping} --window --rewrite', or move the stock in chunks "
            "without --rewrite"
        )
