"""Making the ledger where there is none, and bringing an older one up to date.

Which states may follow which is written here, and enforced by the database itself.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from inventory_migration.database import quoted
from inventory_migration.engine.ledger.presence import (
    SCHEMA,
    VERSION,
    installed,
    is_up_to_date,
)
from inventory_migration.engine.ledger.tables import (
    chunk,
    conflict,
    metadata,
    migration,
    outcome,
    transition,
    version,
)

TRANSITIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "migration": {
        "planned": ("running", "failed", "paused", "rolling_back", "aborted"),
        "running": ("paused", "held", "verifying", "failed", "rolling_back", "aborted"),
        "paused": ("running", "rolling_back", "aborted"),
        "held": ("running", "rolling_back", "aborted"),
        "verifying": ("running", "verified", "failed", "paused", "held", "rolling_back"),
        "failed": ("running", "rolling_back", "aborted"),
        "verified": ("rolling_back",),
        "aborted": ("rolling_back",),
        # Where only a part of it was undone, back to what it was, or to a pause.
        "rolling_back": ("rolled_back", "paused", "verified", "aborted"),
    },
    "chunk": {"pending": ("done", "undone"), "done": ("undone",), "undone": ("pending",)},
    "outcome": {"open": ("retried", "waived"), "retried": ("open",), "waived": ("retried",)},
}

APPEND_ONLY = ("event", "seal", "sealed_rows")
"""What the server lets nobody change who is not the owner of the ledger."""

_ADDED = (
    migration.c.failed_verification,
    chunk.c.undoing,
    outcome.c.constraint_name,
    outcome.c.decision,
    outcome.c.decided_by,
    outcome.c.decided_at,
    conflict.c["columns"],
    conflict.c.reason,
    conflict.c.sqlstate,
)
"""Columns of later versions, in tables that the first one had."""

_SNAPSHOTS = sa.text("""
    SELECT relname::text FROM pg_class
    WHERE relnamespace = to_regnamespace(:schema) AND relkind = 'r'
      AND relname ~ '^snapshot_[0-9]+$'
""")

_TRANSITION_FUNCTION = f"""
CREATE FUNCTION {SCHEMA}.enforce_transition() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.state IS DISTINCT FROM OLD.state AND NOT EXISTS (
        SELECT FROM {SCHEMA}.transition
        WHERE subject = TG_ARGV[0] AND from_state = OLD.state AND to_state = NEW.state)
    THEN
        RAISE EXCEPTION 'a % cannot go from % to %', TG_ARGV[0], OLD.state, NEW.state
            USING ERRCODE = 'IM001';
    END IF;
    RETURN NEW;
END $$
"""

_APPEND_ONLY_FUNCTION = f"""
CREATE FUNCTION {SCHEMA}.append_only() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% is only ever added to', TG_TABLE_NAME USING ERRCODE = 'IM002';
END $$
"""


def install(connection: sa.Connection) -> None:
    """Create the ledger where there is none, or what an older one lacks.

    Two callers at once are kept apart.

    Raises:
        LedgerTooNew: A later version of the tool has written it.
    """
    if is_up_to_date(connection):
        return
    connection.execute(
        sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": SCHEMA}
    )
    if is_up_to_date(connection):
        return
    if installed(connection):
        _upgrade(connection)
        return
    # A DBA may have made the schema for a role that may not create one.
    if not connection.execute(
        sa.text("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = :name)"), {"name": SCHEMA}
    ).scalar_one():
        connection.execute(sa.schema.CreateSchema(SCHEMA))
    metadata.create_all(connection, checkfirst=False)
    _allow_transitions(connection)
    connection.execute(sa.insert(version).values(version=VERSION))
    connection.execute(sa.text(_TRANSITION_FUNCTION))
    connection.execute(sa.text(_APPEND_ONLY_FUNCTION))
    for subject in TRANSITIONS:
        connection.execute(
            sa.text(
                f"CREATE TRIGGER enforce_transition BEFORE UPDATE OF state ON {SCHEMA}.{subject} "
                f"FOR EACH ROW EXECUTE FUNCTION {SCHEMA}.enforce_transition('{subject}')"
            )
        )
    _protect(connection)


def _upgrade(connection: sa.Connection) -> None:
    """Add what later versions of the ledger have: tables, columns and transitions."""
    metadata.create_all(connection, checkfirst=True)
    for column in _ADDED:
        table = quoted(SCHEMA, column.table.name)
        specification = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
        connection.execute(sa.text(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {specification}"))
    for snapshot in connection.execute(_SNAPSHOTS, {"schema": SCHEMA}).scalars().all():
        table = quoted(SCHEMA, snapshot)
        connection.execute(sa.text(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS row_version xid"))
    _allow_transitions(connection)
    _protect(connection)
    connection.execute(sa.update(version).values(version=VERSION))


def _protect(connection: sa.Connection) -> None:
    """Let the server refuse every change of what is only ever added to."""
    for table in APPEND_ONLY:
        connection.execute(
            sa.text(
                "CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE "
                f"ON {SCHEMA}.{table} FOR EACH STATEMENT EXECUTE FUNCTION {SCHEMA}.append_only()"
            )
        )


def _allow_transitions(connection: sa.Connection) -> None:
    connection.execute(
        postgresql.insert(transition).on_conflict_do_nothing(),
        [
            {"subject": subject, "from_state": before, "to_state": after}
            for subject, steps in TRANSITIONS.items()
            for before, allowed in steps.items()
            for after in allowed
        ],
    )
