"""What is wrong with an archive, or keeps a migration's records or the ledger in the database."""

from __future__ import annotations

from collections.abc import Sequence

from inventory_migration.errors.base import MigrationError, on_one_line


class ArchiveNotWritten(MigrationError):
    """The folder for an archive can not be written, or something stands in its place."""

    exit_code = 2

    def __init__(self, *, folder: str, why: str) -> None:
        """Name the folder and what is wrong with it; nothing half is left there."""
        self.folder, self.why = folder, why
        super().__init__(
            f"no archive was written to {on_one_line(folder)}: {why}; name another folder with "
            "'inventory-migration archive --to DIR'"
        )


class ArchiveMissing(MigrationError):
    """A folder is no archive and holds none."""

    exit_code = 2

    def __init__(self, *, folder: str, why: str) -> None:
        """Name the folder."""
        self.folder, self.why = folder, why
        super().__init__(
            f"{on_one_line(folder)} holds no archive: {why}; name the folder that "
            "'inventory-migration archive' has written, or the one above it"
        )


class ArchiveDiffers(MigrationError):
    """What an archive's files hold is not what its manifest says."""

    exit_code = 3

    def __init__(self, *, folder: str, problems: Sequence[str]) -> None:
        """Name each file with what differs."""
        self.folder, self.problems = folder, tuple(problems)
        listed = "; ".join(on_one_line(problem) for problem in problems)
        super().__init__(
            f"the archive {on_one_line(folder)} is not what was written: {listed}; take it from "
            "another copy, and try 'inventory-migration verify-archive' on that"
        )


class NothingToArchive(MigrationError):
    """No migration of a mapping has ended, or not the one that was asked for."""

    exit_code = 2

    def __init__(self, *, mapping: str, why: str) -> None:
        """Say what there is."""
        self.mapping, self.why = mapping, why
        super().__init__(
            f"{mapping}: {why}; only what is verified, rolled back or aborted is archived; see "
            f"'inventory-migration status {mapping}'"
        )


class MigrationPurged(MigrationError):
    """A question about records of a migration that are in an archive and nowhere else."""

    exit_code = 2

    def __init__(self, *, mapping: str, migration_id: int, path: str, when: str, what: str) -> None:
        """Say what can not be done, and where the records are."""
        self.mapping, self.migration_id, self.path = mapping, migration_id, path
        super().__init__(
            f"migration {migration_id} of {mapping} was archived and purged on {when}: {what}; "
            f"its records are in {on_one_line(path)}"
        )


class PurgeRefused(MigrationError):
    """Something would be lost with a migration's records; all of it at once."""

    exit_code = 3

    def __init__(self, *, mapping: str, problems: Sequence[str]) -> None:
        """List what stands against it, one a line."""
        self.mapping, self.problems = mapping, tuple(problems)
        lines = [f"{mapping}: {on_one_line(problem)}" for problem in problems]
        super().__init__("\n".join([*lines, "nothing was purged"]))


class LedgerNotDropped(MigrationError):
    """Something would be lost with the ledger, or depends on it; all of it at once."""

    exit_code = 3

    def __init__(self, *, problems: Sequence[str]) -> None:
        """List what stands against it, one a line."""
        self.problems = tuple(problems)
        lines = [on_one_line(problem) for problem in problems]
        super().__init__("\n".join([*lines, "the ledger stays as it is"]))


class LedgerMissing(MigrationError):
    """There is no ledger to be dropped."""

    exit_code = 2

    def __init__(self) -> None:
        """Say so."""
        super().__init__(
            "this database has no ledger; 'inventory-migration status' says what there is"
        )


class LedgerNotOwned(MigrationError):
    """The role may not change the ledger as it was asked to; nothing was changed."""

    exit_code = 2

    def __init__(self, *, role: str, owner: str, lacking: Sequence[str]) -> None:
        """List what it lacks, and who has it."""
        self.role, self.owner, self.lacking = role, owner, tuple(lacking)
        super().__init__(
            f"the role {role} lacks {'; '.join(self.lacking)}; nothing was changed; connect as "
            f"{owner}, who owns the ledger, with --database-url or INVENTORY_DATABASE_URL"
        )
