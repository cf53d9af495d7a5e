"""The tool's own tables: migrations, what became of each record, which steps a state allows.

The ledger lies in schema `inventory_migration` of the migrated database, so that state and data
change in one transaction. Tables, transitions and the append-only trail are enforced by the
database itself. Reading the ledger for people belongs in `summary.py`; deciding what a worker may
do belongs in `control.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from inventory_migration.database import quoted
from inventory_migration.errors import LedgerTooNew

SCHEMA = "inventory_migration"
VERSION = 2

ACTIVE = ("planned", "running", "paused", "held", "verifying", "failed", "rolling_back")
"""States of a migration that has its target to itself."""

_TRANSITIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "migration": {
        "planned": ("running", "failed", "paused", "rolling_back", "aborted"),
        "running": ("paused", "held", "verifying", "failed", "rolling_back"),
        "paused": ("running", "rolling_back", "aborted"),
        "held": ("running", "rolling_back", "aborted"),
        "verifying": ("running", "verified", "failed", "paused", "held", "rolling_back"),
        "failed": ("running", "rolling_back", "aborted"),
        "verified": ("rolling_back",),
        "rolling_back": ("rolled_back",),
    },
    "chunk": {"pending": ("done", "undone"), "done": ("undone",)},
    "outcome": {"open": ("retried", "waived"), "retried": ("open",)},
}

metadata = sa.MetaData(schema=SCHEMA)
_now = sa.text("clock_timestamp()")
_when = sa.DateTime(timezone=True)


def _number(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _units(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Numeric, nullable=True)


def _migration_id(**options: Any) -> sa.Column[Any]:
    return sa.Column("migration_id", sa.ForeignKey(f"{SCHEMA}.migration.migration_id"), **options)


version = sa.Table("version", metadata, sa.Column("version", sa.Integer, nullable=False))

transition = sa.Table(
    "transition",
    metadata,
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("from_state", sa.Text, primary_key=True),
    sa.Column("to_state", sa.Text, primary_key=True),
)

migration = sa.Table(
    "migration",
    metadata,
    sa.Column("migration_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("mapping", sa.Text, nullable=False),
    sa.Column("mapping_hash", sa.Text, nullable=False),
    sa.Column("definition", JSONB, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("source_oid", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="planned"),
    sa.Column("reason", sa.Text),
    sa.Column("started_by", sa.Text, nullable=False),
    sa.Column("run_ids", ARRAY(sa.Text), nullable=False, server_default="{}"),
    sa.Column("started_at", _when, nullable=False, server_default=_now),
    sa.Column("finished_at", _when),
    sa.Column("server_started_at", _when),
    _number("companies"),
    _number("snapshot_records"),
    _units("snapshot_units"),
    _units("snapshot_reserved"),
    _units("units_after"),
    _units("reserved_after"),
    _units("units_changed"),
    _units("reserved_changed"),
    sa.Column("column_added", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("table_added", sa.Boolean, nullable=False, server_default=sa.false()),
)
sa.Index(
    "migration_one_active_per_target",
    migration.c.target,
    unique=True,
    postgresql_where=migration.c.state.in_(ACTIVE),
)

control = sa.Table(
    "control",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("desired", sa.Text, nullable=False, server_default="run"),
    sa.Column("reason", sa.Text),
    sa.Column("set_by", sa.Text, nullable=False),
    sa.Column("set_at", _when, nullable=False, server_default=_now),
    sa.CheckConstraint("desired IN ('run', 'pause', 'abort', 'rollback')", name="desired_known"),
)

gate = sa.Table(
    "gate",
    metadata,
    sa.Column("gate_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("mapping", sa.Text, nullable=False),
    sa.Column("mapping_hash", sa.Text, nullable=False),
    sa.Column("suite", sa.Text, nullable=False),
    sa.Column("passed", sa.Boolean),
    sa.Column("judged", JSONB, nullable=False, server_default="{}"),
    sa.Column("verdict", JSONB),
    sa.Column("migration_id", sa.BigInteger),
    sa.Column("run_id", sa.Text),
    sa.Column("opened_at", _when, nullable=False, server_default=_now),
    sa.Column("judged_at", _when),
)
sa.Index("gate_latest", gate.c.mapping, gate.c.suite, gate.c.gate_id.desc())

phase = sa.Table(
    "phase",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("reconciled_at", _when),
    _number("companies"),
    _number("records"),
)

chunk = sa.Table(
    "chunk",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("phase", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="pending"),
    _number("records"),
    _number("migrated"),
    _number("already"),
    _number("skipped"),
    _number("quarantined"),
    _number("gone"),
    _units("units_before"),
    _units("units_after"),
    _units("reserved_before"),
    _units("reserved_after"),
    _number("not_numbers_before"),
    _number("not_numbers_after"),
    _number("located"),
    _number("reopened"),
    sa.Column("xid", sa.Text),
    sa.Column("undo_xid", sa.Text),
    _number("undone_records"),
    _number("kept_records"),
    _number("attempts"),
    sa.Column("last_error", sa.Text),
    sa.Column("started_at", _when),
    sa.Column("finished_at", _when),
)
sa.Index(
    "chunk_pending",
    chunk.c.migration_id,
    chunk.c.phase,
    chunk.c.number,
    postgresql_where=chunk.c.state == "pending",
)

outcome = sa.Table(
    "outcome",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("chunk", sa.Integer, nullable=False),
    sa.Column("key_text", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("rule", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("sqlstate", sa.Text),
    sa.Column("state", sa.Text),
    sa.Column("record", JSONB),
    sa.Column("at", _when, nullable=False, server_default=_now),
)

after_image = sa.Table(
    "after_image",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("location_key", sa.Text, nullable=False),
    sa.Column("quantity", sa.Numeric),
    sa.Column("reserved", sa.Numeric),
    sa.Column("row_hash", sa.BigInteger),
)

level_image = sa.Table(
    "level_image",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("row_hash", sa.BigInteger),
)

company_location = sa.Table(
    "company_location",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("company_key", sa.Text, primary_key=True),
    sa.Column("company_name", sa.Text),
    sa.Column("location_key", sa.Text, nullable=False),
    sa.Column("created", sa.Boolean, nullable=False),
    sa.Column("removed", sa.Boolean, nullable=False, server_default=sa.false()),
)

location_link = sa.Table(
    "location_link",
    metadata,
    _migration_id(nullable=False),
    sa.Column("link_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("link", sa.Integer, nullable=False),
    sa.Column("location_key", sa.Text, nullable=False),
    sa.Column("record", JSONB, nullable=False),
    sa.Column("removed", sa.Boolean, nullable=False, server_default=sa.false()),
)

warning = sa.Table(
    "warning",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("rule", sa.Text, primary_key=True),
    _number("records"),
)

reference = sa.Table(
    "reference",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    _number("records"),
    _number("orphans"),
)

conflict = sa.Table(
    "conflict",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("key_text", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("ours", sa.Text),
    sa.Column("found", sa.Text),
)

event = sa.Table(
    "event",
    metadata,
    sa.Column("event_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("migration_id", sa.BigInteger),
    sa.Column("at", _when, nullable=False, server_default=_now),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("detail", JSONB, nullable=False, server_default="{}"),
)
sa.Index("event_of_migration", event.c.migration_id, event.c.event_id)

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
    RAISE EXCEPTION 'the audit trail is only ever added to' USING ERRCODE = 'IM002';
END $$
"""


def installed(connection: sa.Connection) -> bool:
    """Whether the database has a ledger; a read-only question."""
    found = _table_exists(connection, version.name)
    if found:
        stored = connection.execute(sa.select(version.c.version)).scalar_one()
        if stored > VERSION:
            raise LedgerTooNew(found=stored, known=VERSION)
    return found


def _is_up_to_date(connection: sa.Connection) -> bool:
    return installed(connection) and (
        connection.execute(sa.select(version.c.version)).scalar_one() == VERSION
    )


def _table_exists(connection: sa.Connection, name: str) -> bool:
    # Not to_regclass: within a transaction it remembers that a table was not there, also when
    # another session has made it meanwhile.
    return bool(
        connection.execute(
            sa.text("""
                SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                               WHERE n.nspname = :schema AND c.relname = :name)
            """),
            {"schema": SCHEMA, "name": name},
        ).scalar_one()
    )


def install(connection: sa.Connection) -> None:
    """Create the ledger where there is none, or what an older one lacks.

    Two callers at once are kept apart.

    Raises:
        LedgerTooNew: A later version of the tool has written it.
    """
    if _is_up_to_date(connection):
        return
    connection.execute(
        sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": SCHEMA}
    )
    if _is_up_to_date(connection):
        return
    if installed(connection):
        # Later versions have added tables, and changed none that was there.
        metadata.create_all(connection, checkfirst=True)
        connection.execute(sa.update(version).values(version=VERSION))
        return
    # A DBA may have made the schema for a role that may not create one.
    if not connection.execute(
        sa.text("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = :name)"), {"name": SCHEMA}
    ).scalar_one():
        connection.execute(sa.schema.CreateSchema(SCHEMA))
    metadata.create_all(connection, checkfirst=False)
    connection.execute(
        sa.insert(transition),
        [
            {"subject": subject, "from_state": before, "to_state": after}
            for subject, steps in _TRANSITIONS.items()
            for before, allowed in steps.items()
            for after in allowed
        ],
    )
    connection.execute(sa.insert(version).values(version=VERSION))
    connection.execute(sa.text(_TRANSITION_FUNCTION))
    connection.execute(sa.text(_APPEND_ONLY_FUNCTION))
    for subject in _TRANSITIONS:
        connection.execute(
            sa.text(
                f"CREATE TRIGGER enforce_transition BEFORE UPDATE OF state ON {SCHEMA}.{subject} "
                f"FOR EACH ROW EXECUTE FUNCTION {SCHEMA}.enforce_transition('{subject}')"
            )
        )
    connection.execute(
        sa.text(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {SCHEMA}.event "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {SCHEMA}.append_only()"
        )
    )


@dataclass(frozen=True)
class Migration:
    """A migration as its row says."""

    migration_id: int
    mapping: str
    mapping_hash: str
    target: str
    state: str
    reason: str | None
    column_added: bool

    @property
    def snapshot(self) -> str:
        """The quoted snapshot table."""
        return quoted(SCHEMA, f"snapshot_{self.migration_id}")

    @property
    def planned_locations(self) -> str:
        """The quoted table of the default locations that the plan was made with."""
        return quoted(SCHEMA, f"snapshot_{self.migration_id}_location")


_COLUMNS = (
    migration.c.migration_id,
    migration.c.mapping,
    migration.c.mapping_hash,
    migration.c.target,
    migration.c.state,
    migration.c.reason,
    migration.c.column_added,
)


def find(
    connection: sa.Connection,
    *,
    migration_id: int | None = None,
    mapping: str | None = None,
    target: str | None = None,
    states: tuple[str, ...] | None = None,
) -> Migration | None:
    """The newest migration that fits, or None."""
    query = sa.select(*_COLUMNS).order_by(migration.c.migration_id.desc()).limit(1)
    for column, value in (
        (migration.c.migration_id, migration_id),
        (migration.c.mapping, mapping),
        (migration.c.target, target),
    ):
        if value is not None:
            query = query.where(column == value)
    if states is not None:
        query = query.where(migration.c.state.in_(states))
    row = connection.execute(query).one_or_none()
    return Migration(*row) if row else None


def current(connection: sa.Connection, mapping: str) -> Migration | None:
    """The migration that stands: the active one, else the last verified one."""
    if not installed(connection):
        return None
    return find(connection, mapping=mapping, states=(*ACTIVE, "verified"))


def snapshot_exists(connection: sa.Connection, found: Migration) -> bool:
    """Whether a migration's snapshot has been written."""
    return _table_exists(connection, f"snapshot_{found.migration_id}")


def set_state(
    connection: sa.Connection, migration_id: int, state: str, *, reason: str | None = None
) -> None:
    """Move a migration to a state that the transition table allows, and note it in the trail."""
    # What a migration took is known when it is verified; a rollback later does not lengthen it.
    finished_at: Any = migration.c.finished_at
    if state in {"verified", "rolled_back", "aborted"}:
        finished_at = sa.func.coalesce(finished_at, _now)
    connection.execute(
        sa.update(migration)
        .where(migration.c.migration_id == migration_id)
        .values(state=state, reason=reason, finished_at=finished_at)
    )
    note(connection, f"state_{state}", migration_id=migration_id, reason=reason)


def note(
    connection: sa.Connection, kind: str, *, migration_id: int | None = None, **detail: Any
) -> None:
    """Append to the audit trail: who did what, and why."""
    connection.execute(
        sa.insert(event).values(
            migration_id=migration_id,
            who=who(connection),
            kind=kind,
            detail={key: value for key, value in detail.items() if value is not None},
        )
    )


def who(connection: sa.Connection) -> str:
    """The role and program on whose behalf a statement runs."""
    return str(
        connection.execute(
            sa.text("SELECT session_user || ' by ' || current_setting('application_name')")
        ).scalar_one()
    )
