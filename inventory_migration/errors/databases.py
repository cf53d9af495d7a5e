"""Why a database, a role or the embedded server cannot be used."""

from __future__ import annotations

from collections.abc import Sequence

from inventory_migration.errors.base import MigrationError


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


class LedgerTooOld(MigrationError):
    """An earlier version wrote the ledger, and who only looks may not bring it up to date."""

    exit_code = 2

    def __init__(self, *, found: int, known: int) -> None:
        """Name both versions of the ledger."""
        self.found, self.known = found, known
        super().__init__(
            f"the ledger of this database has version {found}, this program needs {known}, and a "
            "command that only reads does not change it; 'inventory-migration run NAME', or "
            "'resume NAME' after a pause, brings it up to date"
        )


class SuperuserRefused(MigrationError):
    """Running as superuser would run the application's own triggers as superuser."""

    exit_code = 2

    def __init__(self, *, role: str, triggers: list[str]) -> None:
        """List the triggers that would run with every right."""
        self.role, self.triggers = role, triggers
        super().__init__(
            f"{role} is a superuser and {', '.join(triggers)} would run as superuser on every "
            "write; connect as the worker role ('inventory-migration grants' prints what it "
            "needs) or say --as-superuser"
        )


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
            "'inventory-migration grants', called by the owner of the tables, prints what it needs."
        )


class PrivilegesMissing(MigrationError):
    """The role would come to a halt halfway, for want of privileges; nothing was written."""

    exit_code = 2

    def __init__(self, *, mapping: str, role: str, privileges: Sequence[str]) -> None:
        """List every privilege that it lacks."""
        self.mapping, self.role, self.privileges = mapping, role, tuple(privileges)
        super().__init__(
            f"{mapping}: the role {role} lacks {'; '.join(self.privileges)}; nothing was written; "
            f"let the owner of the tables execute what 'inventory-migration grants {mapping}' "
            "prints, or connect as another role"
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
