"""Whether a database has a ledger, and of which version: asked before anything else is.

What answers at once begins here, so nothing in this module needs SQLAlchemy. Making a ledger is in
`installation.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inventory_migration.errors import LedgerTooNew, LedgerTooOld
from inventory_migration.plain import Connection, PlainEngine, ask

if TYPE_CHECKING:
    import sqlalchemy as sa

SCHEMA = "inventory_migration"

VERSION = 8

ACTIVE = ("planned", "running", "paused", "held", "verifying", "failed", "rolling_back")
"""States of a migration that has its target to itself."""


def is_up_to_date(connection: Connection) -> bool:
    """Whether there is a ledger of this very version; a read-only question."""
    return stored_version(connection) == VERSION


def installed(connection: Connection) -> bool:
    """Whether the database has a ledger; a read-only question.

    Raises:
        LedgerTooNew: A later version of the tool has written it.
        LedgerTooOld: An earlier one has, and this transaction may not bring it up to date.
    """
    found = stored_version(connection)
    if found is not None and found < VERSION and _only_reads(connection):
        raise LedgerTooOld(found=found, known=VERSION)
    return found is not None


def stored_version(connection: Connection) -> int | None:
    """Which version of the tool's tables there is; None where there are none.

    Raises:
        LedgerTooNew: A later version of the tool has written them.
    """
    if not table_exists(connection, "version"):
        return None
    [row] = ask(connection, f"SELECT version FROM {SCHEMA}.version")
    if row.version > VERSION:
        raise LedgerTooNew(found=row.version, known=VERSION)
    return int(row.version)


def bring_up_to_date(engine: sa.Engine | PlainEngine) -> None:
    """Give a ledger of an earlier version what it lacks; where there is none, make none.

    What writes begins with this, so that its looks find the ledger that they know.
    """
    with engine.begin() as connection:
        found = stored_version(connection)
    if found is None or found == VERSION:
        return
    from inventory_migration.engine.ledger.installation import install

    known = engine.with_sqlalchemy() if isinstance(engine, PlainEngine) else engine
    with known.begin() as connection:
        install(connection)


def _only_reads(connection: Connection) -> bool:
    [row] = ask(connection, "SELECT current_setting('transaction_read_only') AS setting")
    return bool(row.setting == "on")


def table_exists(connection: Connection, name: str) -> bool:
    """Whether the ledger's schema has a table of this name."""
    # Not to_regclass: within a transaction it remembers that a table was not there, also when
    # another session has made it meanwhile.
    found = ask(
        connection,
        """
        SELECT 1 AS one FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = :schema AND c.relname = :name
        """,
        {"schema": SCHEMA, "name": name},
    )
    return bool(found)
