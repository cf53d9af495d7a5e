"""Every condition that stops a migration or a command, as a class with its facts.

A class is named by the condition, keeps the facts as attributes, and builds one sentence that says
what is wrong, where, and which command comes next. `exit_code` is what the shell sees; `retryable`
says whether the same call may succeed later without anybody changing anything. Decisions about what
to do with an error do not belong here.
"""

from __future__ import annotations

from collections.abc import Sequence


class MigrationError(Exception):
    """Base of all conditions that this package reports to its user.

    Attributes:
        exit_code: Exit code of a command that ends with this condition.
        retryable: Whether the same call may succeed later, unchanged.
    """

    exit_code: int = 1
    retryable: bool = False


class MappingNotFound(MigrationError):
    """There is no mapping of this name or at this path."""

    exit_code = 2

    def __init__(self, *, name: str, known: list[str], why: str = "") -> None:
        """Say what was looked for and what there is."""
        self.name, self.known, self.why = name, known, why
        there_is = f"known mappings: {', '.join(known)}" if known else why or "no mapping is known"
        super().__init__(f"no mapping {name}: {there_is}; name one of them or give --mapping PATH")


class MappingInvalid(MigrationError):
    """A mapping is no valid file, or does not fit the database; all problems at once."""

    exit_code = 2

    def __init__(self, *, origin: str, problems: list[str]) -> None:
        """List the problems, one a line."""
        self.origin, self.problems = origin, problems
        super().__init__("\n".join(problems))


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


class TargetTaken(MigrationError):
    """A migration of another mapping writes this target, or has written it."""

    exit_code = 2

    def __init__(
        self, *, mapping: str, target: str, owner: str, migration_id: int, state: str
    ) -> None:
        """Name the target, the mapping that it belongs to, and both ways out."""
        self.mapping, self.target, self.owner = mapping, target, owner
        self.migration_id, self.state = migration_id, state
        super().__init__(
            f"{mapping}: {target} is moved by the mapping {owner}, whose migration {migration_id} "
            f"is {state.replace('_', ' ')}; go on with that mapping (a renamed file takes its name "
            f"back), or undo it first with 'inventory-migration rollback {owner}'"
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


class MigrationHeld(MigrationFailed):
    """The server lacks something (disk, memory, connections): held, no record is blamed."""

    exit_code = 4
    retryable = True


class ServerRestarted(MigrationError):
    """The server was restarted under a migration; what it had acknowledged is to be checked."""

    exit_code = 4
    retryable = True

    def __init__(self, *, since: str) -> None:
        """Say since when the server runs."""
        self.since = since
        super().__init__(f"the server was restarted at {since}")


class DefaultLocationWrong(MigrationError):
    """Companies that would not have exactly one default location."""

    exit_code = 3

    def __init__(self, *, mapping: str, companies: list[str], why: str) -> None:
        """List every company concerned."""
        self.mapping, self.companies = mapping, companies
        super().__init__(f"{mapping}: {why}: {', '.join(companies)}; mend them and run again")


class LedgerTooNew(MigrationError):
    """The ledger in this database was written by a later version of the tool."""

    exit_code = 2

    def __init__(self, *, found: int, known: int) -> None:
        """Name both versions of the ledger."""
        self.found, self.known = found, known
        super().__init__(
            f"the ledger of this database has version {found}, this program knows {known}; "
            "update inventory-migration"
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


class SuperuserRefused(MigrationError):
    """Running as superuser would run the application's own triggers as superuser."""

    exit_code = 2

    def __init__(self, *, role: str, triggers: list[str]) -> None:
        """List the triggers that would run with every right."""
        self.role, self.triggers = role, triggers
        super().__init__(
            f"{role} is a superuser and {', '.join(triggers)} would run as superuser on every "
            "write; connect as the worker role ('inventory-migration test --sql' prints its "
            "grants) or say --as-superuser"
        )


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


class ProjectFileMissing(MigrationError):
    """A mapping or suite that was asked for is in none of the places for such files."""

    exit_code = 2

    def __init__(self, kind: str, filename: str, *, known: Sequence[str] = ()) -> None:
        """Keep what was asked for and what there is instead."""
        self.kind = kind
        self.filename = filename
        self.known = tuple(known)
        there = f"there is {', '.join(self.known)}" if self.known else "there is none at all"
        super().__init__(
            f"No file {filename} among the {kind} ({there}); correct the name, or point "
            f"INVENTORY_{kind.upper()} to the folder that holds it."
        )


class ProjectFolderMissing(MigrationError):
    """An environment variable names a folder that does not exist or can not be used."""

    exit_code = 2

    def __init__(self, variable: str, folder: str, reason: str = "it does not exist") -> None:
        """Keep the variable, the folder and what is wrong with it."""
        self.variable = variable
        self.folder = folder
        self.reason = reason
        super().__init__(
            f"The folder {folder} can not be used: {reason}; set {variable} to another folder."
        )


class EnvFileInvalid(MigrationError):
    """A file of environment variables can not be read, or one of its lines is no assignment."""

    exit_code = 2

    def __init__(self, path: str, line: int | None, reason: str) -> None:
        """Keep the place; the line's text stays out, it may hold a password."""
        self.path = path
        self.line = line
        self.reason = reason
        place = path if line is None else f"{path}, line {line}"
        super().__init__(f"{place}: {reason}.")


class DatabaseUrlInvalid(MigrationError):
    """The text that should name a database is neither a PostgreSQL URL nor keywords and values."""

    exit_code = 2

    def __init__(self, reason: str) -> None:
        """Keep the reason only: the text itself may hold a password."""
        self.reason = reason
        super().__init__(
            f"The database URL can not be understood: {reason}; write "
            "postgresql://user:password@host:5432/database into INVENTORY_DATABASE_URL, with "
            "special characters of the password percent-encoded (@ as %40, / as %2F)."
        )


class DatabaseUnreachable(MigrationError):
    """No server answers at that address, or it takes no connections at the moment."""

    exit_code = 2
    retryable = True

    def __init__(self, where: str, reason: str) -> None:
        """Keep the address and the last thing that the driver said."""
        self.where = where
        self.reason = reason
        super().__init__(
            f"Can not reach the database ({where}): {reason}; check INVENTORY_DATABASE_URL and "
            "that the server runs, or unset it to use the embedded server."
        )


class AuthenticationFailed(MigrationError):
    """The server answers, and refuses this role or its password."""

    exit_code = 2

    def __init__(self, where: str, role: str, reason: str) -> None:
        """Keep the address, the role and the server's reason."""
        self.where = where
        self.role = role
        self.reason = reason
        super().__init__(
            f'The database ({where}) refuses role "{role}": {reason}; check role and password in '
            "INVENTORY_DATABASE_URL (or PGPASSWORD, ~/.pgpass) and the server's pg_hba.conf."
        )


class DatabaseMissing(MigrationError):
    """The server answers, and has no database of that name."""

    exit_code = 2

    def __init__(self, where: str, database: str) -> None:
        """Keep the address and the name."""
        self.where = where
        self.database = database
        super().__init__(
            f'The server ({where}) has no database "{database}"; list what it has with psql --list '
            "and correct INVENTORY_DATABASE_URL."
        )


class PrivilegeMissing(MigrationError):
    """The role lacks a privilege that the command needs."""

    exit_code = 2

    def __init__(self, where: str, role: str, reason: str) -> None:
        """Keep the address, the role and what it may not do."""
        self.where = where
        self.role = role
        self.reason = reason
        super().__init__(
            f'Role "{role}" lacks a privilege ({where}): {reason}; '
            "inventory-migration test --sql prints the grants for the database's owner."
        )


class ServerTooOld(MigrationError):
    """The server is older than the oldest release that the protocol was tried on."""

    exit_code = 2

    def __init__(self, where: str, version: str, oldest: str) -> None:
        """Keep the address and both versions."""
        self.where = where
        self.version = version
        self.oldest = oldest
        super().__init__(
            f"The server ({where}) is PostgreSQL {version}, and {oldest} is the oldest that is "
            "supported; upgrade it, or migrate a copy on a newer server."
        )


class StatementFailed(MigrationError):
    """The server refused a statement, for a reason that has no class of its own."""

    def __init__(self, where: str, sqlstate: str | None, reason: str) -> None:
        """Keep the address, the SQLSTATE and the server's message."""
        self.where = where
        self.sqlstate = sqlstate
        self.reason = reason
        super().__init__(f"The database ({where}) refused a statement: {reason} ({sqlstate}).")


class EmbeddedServerFailed(MigrationError):
    """The embedded server did not start, stop, or is not ours to touch."""

    exit_code = 2

    def __init__(self, reason: str, *, advice: str = "", log: Sequence[str] = ()) -> None:
        """Keep the reason, the next command, and the last lines of the server's log."""
        self.reason = reason
        self.advice = advice or "set INVENTORY_DATABASE_URL to use a server of your own"
        self.log = tuple(log)
        lines = "".join(f"\n  {line}" for line in self.log)
        super().__init__(f"The embedded server: {reason}; {self.advice}.{lines}")


class DemoArgumentInvalid(MigrationError):
    """An argument of the demo is out of its range."""

    exit_code = 2

    def __init__(self, *, argument: str, value: object, expected: str) -> None:
        """Name the argument, what was given, and what may be."""
        self.argument, self.value, self.expected = argument, value, expected
        super().__init__(f"--{argument} {value}: expected {expected}")


class DemoConflict(MigrationError):
    """The demo's names belong to something else in this database."""

    exit_code = 2

    def __init__(self, *, tables: list[str]) -> None:
        """List the tables; none of them is ever dropped."""
        self.tables = tables
        super().__init__(
            f"this database has {', '.join(tables)} in schema public, not made by the demo; "
            "nothing was changed; name an empty database in INVENTORY_DATABASE_URL, then run "
            "'inventory-migration demo' again"
        )


class DemoExists(MigrationError):
    """The database holds a demo already."""

    exit_code = 2

    def __init__(self, *, tables: list[str]) -> None:
        """List the demo's tables that were found."""
        self.tables = tables
        super().__init__(
            f"this database holds a demo already ({', '.join(tables)}); nothing was changed; "
            "'inventory-migration demo --replace' drops it and makes a new one"
        )


class DemoInUse(MigrationError):
    """Something that is not the demo's depends on its tables, so they can not be dropped."""

    exit_code = 2

    def __init__(self, *, dependents: list[str]) -> None:
        """List what depends, in the server's words."""
        self.dependents = dependents
        super().__init__(
            f"the demo can not be replaced: {'; '.join(dependents)}; nothing was changed; drop "
            "these first, then 'inventory-migration demo --replace'"
        )


class SuiteInvalid(MigrationError):
    """A suite of expectations has problems that would make its gate pass or fail for no reason."""

    exit_code = 2

    def __init__(self, origin: str, problems: Sequence[str]) -> None:
        """Keep the file and every problem, one a line."""
        self.origin = origin
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{origin}: {problem}." for problem in self.problems))


class SuiteParametersMissing(MigrationError):
    """A suite was to be judged without a value that its expectations are about."""

    exit_code = 2

    def __init__(self, origin: str, names: Sequence[str]) -> None:
        """Keep the file and the names without a usable value."""
        self.origin = origin
        self.names = tuple(names)
        super().__init__(
            f"{origin}: needs a number for {', '.join(names)}; "
            "a suite of your own may only use the parameters of the one that ships."
        )


class SuiteChanged(MigrationError):
    """A suite's file was changed while the definitions made from it were in use."""

    exit_code = 3
    retryable = True

    def __init__(self, *, suite: str) -> None:
        """Name the suite."""
        self.suite = suite
        super().__init__(
            f"the suite {suite} expects something else than when Dagster loaded it; reload the "
            "code location and judge it again"
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


class ReportNotWritten(MigrationError):
    """The folder for the report can not be written."""

    exit_code = 2

    def __init__(self, *, folder: str, why: str) -> None:
        """Name the folder and what is wrong with it."""
        self.folder, self.why = folder, why
        super().__init__(
            f"the report can not be written to {folder}: {why.lower()}; name another folder with "
            "'inventory-migration report --out DIR', or set INVENTORY_HOME"
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


class CommandUnclear(MigrationError):
    """A command that could mean several things, or that nobody confirmed."""

    exit_code = 2

    def __init__(self, why: str) -> None:
        """Keep what is missing or too much."""
        self.why = why
        super().__init__(why)
