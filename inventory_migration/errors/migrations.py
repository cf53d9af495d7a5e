"""What stops a migration, or forbids a step of it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from inventory_migration.errors.base import MigrationError, on_one_line


class GateRefused(MigrationError):
    """A gate did not pass, so nothing behind it may be written."""

    exit_code = 3

    def __init__(self, *, mapping: str, gate: str, why: str) -> None:
        """Name the gate, the reason and the way to look at it."""
        self.mapping, self.gate, self.why = mapping, gate, why
        # A verdict names its suite as well, and lists what failed on lines of its own.
        said = why.replace(f"refused: {gate}: refused, ", "refused: ")
        then = f"nothing was written behind it; see 'inventory-migration test {mapping}'"
        lines = f".\n{then[0].upper()}{then[1:]}." if "\n" in said else f"; {then}"
        super().__init__(f"{mapping}: the gate {gate} {said.rstrip('.')}{lines}")


class MigrationBusy(MigrationError):
    """Another process works on the same target."""

    retryable = True

    def __init__(self, *, target: str, holder: str) -> None:
        """Name the target and who holds it."""
        self.target, self.holder = target, holder
        super().__init__(
            f"another process is migrating {target} ({holder}); "
            "watch it with 'inventory-migration status'"
        )


class MigrationPaused(MigrationError):
    """A migration stands still until somebody resumes it."""

    exit_code = 4

    def __init__(self, *, mapping: str, migration_id: int, reason: str) -> None:
        """Say why it stands and how it goes on."""
        self.mapping, self.migration_id, self.reason = mapping, migration_id, reason
        super().__init__(
            f"migration {migration_id} of {mapping} is paused ({reason}); "
            f"go on with 'inventory-migration resume {mapping}'"
        )


class VerdictNotFinal(MigrationPaused):
    """All is accounted for, and what the application writes next would make it untrue."""

    def __init__(self, *, mapping: str, migration_id: int, reason: str) -> None:
        """Say why it is not final, and how it becomes so."""
        super().__init__(mapping=mapping, migration_id=migration_id, reason=reason)
        self.args = (
            f"migration {migration_id} of {mapping} is paused: {reason} "
            f"('inventory-migration resume {mapping} --write-stop'), or undo it and say "
            "'sync: true' in the mapping's target",
        )


class WritersActive(MigrationError):
    """A write stop was declared, and somebody still writes."""

    retryable = True

    def __init__(self, *, mapping: str, tables: Sequence[str], seconds: float) -> None:
        """Name the tables, one of which is being written."""
        self.mapping, self.tables, self.seconds = mapping, tuple(tables), seconds
        super().__init__(
            f"writes are said to be stopped, and for {seconds:.0f} s somebody has been writing to "
            f"one of {', '.join(tables)}; nothing was changed; stop the application, then "
            f"'inventory-migration resume {mapping} --write-stop'"
        )


class MigrationAborted(MigrationError):
    """Somebody has ended a migration for good; what it moved stays where it is."""

    exit_code = 4

    def __init__(self, *, mapping: str, migration_id: int, reason: str) -> None:
        """Say why, and what may follow."""
        self.mapping, self.migration_id, self.reason = mapping, migration_id, reason
        super().__init__(
            f"migration {migration_id} of {mapping} was aborted ({reason}); what it moved stays; "
            f"'inventory-migration rollback {mapping}' takes it back, 'run {mapping}' begins anew"
        )


class StillBusy(MigrationError):
    """Somebody's transaction has not ended, so a migration is pausing and not yet paused."""

    retryable = True

    def __init__(
        self, *, mapping: str, migration_id: int, seconds: float, busy: Sequence[str]
    ) -> None:
        """Name who is still busy."""
        self.mapping, self.migration_id = mapping, migration_id
        self.seconds, self.busy = seconds, tuple(busy)
        who = "; ".join(busy) or "somebody who holds its row"
        super().__init__(
            f"migration {migration_id} of {mapping} is pausing: nothing new begins, and after "
            f"{seconds:.0f} s there is still {who}; wait, or end that with "
            f"'inventory-migration pause {mapping} --force'"
        )


class MigrationRolledBack(MigrationError):
    """A threshold was exceeded and the migration has been rolled back."""

    exit_code = 5

    def __init__(self, *, mapping: str, migration_id: int, reason: str) -> None:
        """Say what was exceeded."""
        self.mapping, self.migration_id, self.reason = mapping, migration_id, reason
        super().__init__(
            f"migration {migration_id} of {mapping} was rolled back: {reason}; "
            f"see 'inventory-migration report {mapping}', mend the records and run it again"
        )


class StartRefused(MigrationError):
    """The state of the mapping's last migration forbids this way of starting."""

    exit_code = 4

    def __init__(self, *, mapping: str, migration_id: int, why: str, command: str) -> None:
        """Say why, and which command is meant to lift it."""
        self.mapping, self.migration_id, self.why = mapping, migration_id, why
        self.command = command
        super().__init__(
            f"migration {migration_id} of {mapping} {why}; "
            f"go on with 'inventory-migration {command}'"
        )


class ControlTotalsDiffer(MigrationError):
    """What was read back from the target is not what was locked: never worked around."""

    def __init__(
        self, *, migration_id: int, chunk: int, differences: dict[str, tuple[object, object]]
    ) -> None:
        """Name the chunk and each total with both values."""
        self.migration_id, self.chunk, self.differences = migration_id, chunk, differences
        listed = ", ".join(f"{name} {a} became {b}" for name, (a, b) in differences.items())
        super().__init__(
            f"migration {migration_id}, chunk {chunk}: control totals differ ({listed}); "
            "the chunk was not committed; look for triggers that change stock, "
            "then 'inventory-migration resume' or 'rollback'"
        )


class MigrationFailed(MigrationError):
    """A migration stopped on an error that is nobody's bad record."""

    def __init__(self, *, mapping: str, migration_id: int, reason: str) -> None:
        """Say what stopped it; nothing uncommitted is left."""
        self.mapping, self.migration_id, self.reason = mapping, migration_id, reason
        super().__init__(
            f"migration {migration_id} of {mapping} stopped: {reason}; "
            f"'inventory-migration resume {mapping}' goes on, 'rollback {mapping}' goes back"
        )


class VerificationFailed(MigrationFailed):
    """A verification failed earlier, and what it found wrong is still so."""

    exit_code = 3

    def __init__(self, *, mapping: str, migration_id: int, reason: str) -> None:
        """Say what is still wrong; nothing was written on top of it."""
        super().__init__(mapping=mapping, migration_id=migration_id, reason=reason)
        self.args = (
            f"migration {migration_id} of {mapping} failed its last verification, and what it "
            f"found wrong is still so: {reason}; nothing was written; look at these records with "
            f"'inventory-migration show {mapping} KEY', mend them, then 'resume {mapping}' "
            f"verifies anew, or 'rollback {mapping}' goes back",
        )


class RetriesExhausted(MigrationError):
    """A chunk has failed more often than the mapping allows."""

    retryable = True

    def __init__(
        self, *, migration_id: int, chunk: int, attempts: int, state: str | None, reason: str
    ) -> None:
        """Name the chunk, and what it failed on last."""
        self.migration_id, self.chunk, self.attempts = migration_id, chunk, attempts
        self.state, self.reason = state, reason
        super().__init__(
            f"migration {migration_id}, chunk {chunk} failed {attempts} times, the last time with: "
            f"{reason} ({state}); 'inventory-migration resume' tries again"
        )


class MigrationHeld(MigrationFailed):
    """The server lacks something (disk, memory, connections): held, no record is blamed."""

    exit_code = 4
    retryable = True


class ServerNotWell(MigrationError):
    """Workers have waited in vain for the server to be well again."""

    exit_code = 4
    retryable = True

    def __init__(
        self, *, migration_id: int, minutes: float, reason: str, disk_full: bool = False
    ) -> None:
        """Say what has not become better, and for how long."""
        self.migration_id, self.minutes = migration_id, minutes
        self.reason, self.disk_full = reason, disk_full
        super().__init__(f"waited {minutes:.0f} min for the server to be well: {reason}")


class RollbackStopped(MigrationFailed):
    """A rollback stopped on an error that no retry mends; it is half done, and can go on."""

    def __init__(self, *, mapping: str, migration_id: int, reason: str) -> None:
        """Say what stopped it, and how it goes on."""
        super().__init__(mapping=mapping, migration_id=migration_id, reason=reason)
        self.args = (_rollback("stopped", mapping, migration_id, reason),)


class RollbackHeld(MigrationHeld):
    """A rollback met a server that lacks something; it is half done, and can go on."""

    def __init__(self, *, mapping: str, migration_id: int, reason: str) -> None:
        """Say what is missing, and how it goes on."""
        super().__init__(mapping=mapping, migration_id=migration_id, reason=reason)
        self.args = (_rollback("is held", mapping, migration_id, reason),)


def _rollback(how: str, mapping: str, migration_id: int, reason: str) -> str:
    return (
        f"the rollback of migration {migration_id} of {mapping} {how}: {reason}; what is undone "
        f"stays undone, and 'inventory-migration rollback {mapping}' goes on"
    )


class ServerRestarted(MigrationError):
    """The server was restarted under a migration; what it had acknowledged is to be checked."""

    exit_code = 4
    retryable = True

    def __init__(self, *, since: str) -> None:
        """Say since when the server runs."""
        self.since = since
        super().__init__(f"the server was restarted at {since}")


class LockNotObtained(MigrationError):
    """The application held a table too long for a short change of its structure."""

    retryable = True

    def __init__(self, *, what: str, seconds: float) -> None:
        """Say what waited, and how long."""
        self.what, self.seconds = what, seconds
        super().__init__(
            f"could not {what} within {seconds:.0f} s because other sessions hold the table; "
            "run again when it is quieter"
        )


class ValidationFailed(MigrationError):
    """The data does not show what a verified migration leaves."""

    exit_code = 3

    def __init__(self, *, mapping: str, differences: Sequence[str]) -> None:
        """List what differs."""
        self.mapping, self.differences = mapping, tuple(differences)
        super().__init__(
            f"{mapping}: {'; '.join(self.differences)}; "
            f"see 'inventory-migration validate {mapping}' and 'report {mapping}'"
        )


class MonitoringFailed(MigrationError):
    """Migrated stock is not as it should be after the move."""

    exit_code = 3

    def __init__(self, *, mapping: str, findings: Sequence[str]) -> None:
        """List what was found."""
        self.mapping, self.findings = mapping, tuple(findings)
        super().__init__(
            f"{mapping}: {'; '.join(self.findings)}; see 'inventory-migration monitor {mapping}', "
            f"and 'validate {mapping}' for what a migration left"
        )


class NothingMigrated(MigrationError):
    """A question about a mapping's migration, and there is none."""

    exit_code = 2

    def __init__(self, *, mapping: str) -> None:
        """Name the mapping and how a migration begins."""
        self.mapping = mapping
        super().__init__(
            f"nothing was ever migrated with {mapping} in this database; "
            f"look first with 'inventory-migration test {mapping}', then 'run {mapping}'"
        )


class MigrationUnknown(MigrationError):
    """A number that no migration of this database has."""

    exit_code = 2

    def __init__(self, *, migration_id: int) -> None:
        """Name the number and how to see which there are."""
        self.migration_id = migration_id
        super().__init__(
            f"the ledger of this database has no migration {migration_id}; "
            "'inventory-migration status' lists those that there are"
        )


class NotVerified(MigrationError):
    """A question that only a verified migration answers, and the last one is none."""

    exit_code = 2

    def __init__(self, *, mapping: str, migration_id: int, state: str, command: str) -> None:
        """Say how it stands, and what comes first."""
        self.mapping, self.migration_id, self.state = mapping, migration_id, state
        self.command = command
        super().__init__(
            f"migration {migration_id} of {mapping} is {state.replace('_', ' ')}, and what still "
            f"works is asked of a verified one; nothing was tried; first "
            f"'inventory-migration {command}'"
        )


class NothingToTry(MigrationError):
    """No record has as much available as a mapping's operations take."""

    exit_code = 2

    def __init__(self, *, mapping: str, needed: Decimal) -> None:
        """Say how much is looked for."""
        self.mapping, self.needed = mapping, str(needed)
        super().__init__(
            f"{mapping}: no migrated record at a default location has {needed:f} available, which "
            "is what the operations of acceptance are about; let them take less, or wait for stock"
        )


class AcceptanceFailed(MigrationError):
    """Something of an application does not work after the move as its mapping says."""

    exit_code = 3

    def __init__(self, *, mapping: str, findings: Sequence[str]) -> None:
        """List what was found."""
        self.mapping, self.findings = mapping, tuple(findings)
        super().__init__(
            f"{mapping}: {'; '.join(self.findings)}; everything was rolled back; see "
            f"'inventory-migration acceptance {mapping}', and 'rollback {mapping}' for the way back"
        )


class AcceptanceKept(MigrationError):
    """The transaction that tried an application's operations did not end rolled back."""

    def __init__(self, *, mapping: str, status: str) -> None:
        """Say what the server says of it."""
        self.mapping, self.status = mapping, status
        super().__init__(
            f"{mapping}: the transaction that tried the operations is {status}, and should be "
            "rolled back: what they did may be in the data; compare with "
            f"'inventory-migration validate {mapping}', and find which of them ends transactions"
        )


class RecordUnknown(MigrationError):
    """No stock record and no ledger entry has this key."""

    exit_code = 2

    def __init__(self, *, mapping: str, key: str) -> None:
        """Name the key that was asked for."""
        self.mapping, self.key = mapping, key
        super().__init__(
            f"{mapping}: no stock record with key {key}; give the key as the table holds it, "
            "the parts of a composite key separated by commas"
        )


class NotInQuarantine(MigrationError):
    """What was asked of a quarantine is not in it, or cannot be done with it; all at once."""

    exit_code = 2

    def __init__(self, *, mapping: str, problems: Sequence[str]) -> None:
        """List what is wrong, one a line."""
        self.mapping, self.problems = mapping, tuple(problems)
        then = f"'inventory-migration quarantine list {mapping}' lists what there is"
        super().__init__(
            "\n".join(f"{mapping}: {on_one_line(problem)}; {then}" for problem in problems)
        )


class RunFailed(MigrationError):
    """A Dagster run ended with an error that has no condition of its own."""

    def __init__(self, *, run_id: str, step: str | None, reason: str) -> None:
        """Name the run, the step, and what its error said."""
        self.run_id, self.step, self.reason = run_id, step, reason
        where = f" in step {step}" if step else ""
        super().__init__(
            f"run {run_id} failed{where}: {reason}; "
            "see it in the Dagster UI, and what it left with 'inventory-migration status'"
        )
