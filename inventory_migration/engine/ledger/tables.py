"""The ledger's tables: columns and keys, and nothing that reads or writes them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from inventory_migration.engine.ledger.presence import ACTIVE, SCHEMA

metadata = sa.MetaData(schema=SCHEMA)
NOW = sa.text("clock_timestamp()")
_when = sa.DateTime(timezone=True)


def _number(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _units(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Numeric, nullable=True)


def _migration_id(**options: Any) -> sa.Column[Any]:
    return sa.Column("migration_id", sa.ForeignKey(f"{SCHEMA}.migration.migration_id"), **options)


version = sa.Table(
    "version",
    metadata,
    sa.Column("version", sa.Integer, nullable=False),
    comment="Which version of the tool's tables this is.",
)

transition = sa.Table(
    "transition",
    metadata,
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("from_state", sa.Text, primary_key=True),
    sa.Column("to_state", sa.Text, primary_key=True),
    comment="Which state may follow which; a trigger asks it.",
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
    sa.Column("started_at", _when, nullable=False, server_default=NOW),
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
    sa.Column("failed_verification", sa.Text),
    comment="A migration: mapping, state and reason, totals of the baseline, who began it, when.",
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
    sa.Column("set_at", _when, nullable=False, server_default=NOW),
    sa.CheckConstraint("desired IN ('run', 'pause', 'abort', 'rollback')", name="desired_known"),
    comment="What is wanted of a migration: run, pause, abort or rollback, and by whom.",
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
    sa.Column("opened_at", _when, nullable=False, server_default=NOW),
    sa.Column("judged_at", _when),
    comment="Every verdict of a suite: what it judged, for which mapping, and what came of it.",
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
    comment="The groups of companies that go one after the other.",
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
    sa.Column("undoing", sa.Boolean, nullable=False, server_default=sa.false()),
    _number("attempts"),
    sa.Column("last_error", sa.Text),
    sa.Column("started_at", _when),
    sa.Column("finished_at", _when),
    comment="The units of work: state, outcomes, control totals, the transaction that wrote it.",
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
    sa.Column("constraint_name", sa.Text),
    sa.Column("state", sa.Text),
    sa.Column("record", JSONB),
    sa.Column("at", _when, nullable=False, server_default=NOW),
    sa.Column("decision", sa.Text),
    sa.Column("decided_by", sa.Text),
    sa.Column("decided_at", _when),
    comment="Each record that was not simply migrated: why, and the whole row if quarantined.",
)

# A quarantined record that a later migration takes; `position` is its place there, and is NULL
# until that has a snapshot, or where the record is gone by then.
retry = sa.Table(
    "retry",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("earlier_id", sa.BigInteger, primary_key=True),
    sa.Column("earlier_position", sa.BigInteger, primary_key=True),
    sa.Column("position", sa.BigInteger),
    comment="Quarantined records that a later migration takes.",
)
sa.Index("retry_by_position", retry.c.migration_id, retry.c.position)
sa.Index("retry_of_earlier", retry.c.earlier_id, retry.c.earlier_position)

after_image = sa.Table(
    "after_image",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("location_key", sa.Text, nullable=False),
    sa.Column("quantity", sa.Numeric),
    sa.Column("reserved", sa.Numeric),
    sa.Column("row_hash", sa.BigInteger),
    comment="What was written, where it does not follow from the snapshot.",
)

level_image = sa.Table(
    "level_image",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("row_hash", sa.BigInteger),
    comment="A hash of each level whose columns do not follow from its record.",
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
    comment="The default location of each company, and whether it was created or adopted.",
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
    comment="The rows that a created location was given in other tables.",
)

warning = sa.Table(
    "warning",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("rule", sa.Text, primary_key=True),
    _number("records"),
    comment="How many records broke a rule that only warns.",
)

reference = sa.Table(
    "reference",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    _number("records"),
    _number("orphans"),
    comment="References in and out of the touched tables before, and those that led nowhere.",
)

health = sa.Table(
    "health",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("reasons", JSONB, nullable=False, server_default="[]"),
    sa.Column("observed", JSONB, nullable=False, server_default="{}"),
    sa.Column("since", _when, nullable=False, server_default=NOW),
    sa.Column("at", _when, nullable=False, server_default=NOW),
    sa.CheckConstraint("verdict IN ('well', 'slow', 'hold')", name="verdict_known"),
    comment="The last look at the server's health.",
)

conflict = sa.Table(
    "conflict",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("key_text", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("columns", sa.Text),
    sa.Column("ours", sa.Text),
    sa.Column("found", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("sqlstate", sa.Text),
    comment="What a rollback kept, since the application had changed it.",
)

event = sa.Table(
    "event",
    metadata,
    sa.Column("event_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("migration_id", sa.BigInteger),
    sa.Column("at", _when, nullable=False, server_default=NOW),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("detail", JSONB, nullable=False, server_default="{}"),
    comment="The trail: who did what, when and why; only ever added to.",
)
sa.Index("event_of_migration", event.c.migration_id, event.c.event_id)

# Copies of a migration outside of the database; `purged_at` where its records are nowhere else.
archive = sa.Table(
    "archive",
    metadata,
    sa.Column("archive_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    _migration_id(nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("manifest_sha256", sa.Text, nullable=False),
    _number("files"),
    _number("records"),
    sa.Column("summary", JSONB, nullable=False),
    sa.Column("archived_at", _when, nullable=False, server_default=NOW),
    sa.Column("archived_by", sa.Text, nullable=False),
    sa.Column("verified_at", _when, nullable=False),
    sa.Column("purged_at", _when),
    sa.Column("purged_by", sa.Text),
    comment="Copies of migrations outside of the database, and what was purged because of them.",
)
sa.Index("archive_of_migration", archive.c.migration_id, archive.c.archive_id)

observation = sa.Table(
    "observation",
    metadata,
    sa.Column("observation_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("mapping", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("at", _when, nullable=False, server_default=NOW),
    sa.Column("migration_id", sa.BigInteger),
    sa.Column("run_id", sa.Text),
    _number("records"),
    _units("units"),
    _units("reserved"),
    _number("companies"),
    _number("locations"),
    sa.Column("passed", sa.Boolean),
    _number("findings"),
    sa.Column("found", JSONB, nullable=False, server_default="{}"),
    sa.Column("accepted", sa.Text),
    sa.CheckConstraint("kind IN ('verified', 'monitored')", name="kind_known"),
    comment="Looks at migrated stock, at its verification and ever after: totals and verdict.",
)
sa.Index("observation_latest", observation.c.mapping, observation.c.observation_id.desc())

observation_company = sa.Table(
    "observation_company",
    metadata,
    sa.Column(
        "observation_id",
        sa.ForeignKey(f"{SCHEMA}.observation.observation_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    # The company of what belongs to none is NULL, and no key.
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("company_key", sa.Text),
    _number("records"),
    _units("units"),
    _units("reserved"),
    comment="The totals of each company, of those looks that later ones are compared with.",
)

# What a report said, and what every row that it rests on looked like: for whoever asks later
# whether either has been changed. Only ever added to.
seal = sa.Table(
    "seal",
    metadata,
    sa.Column("report", sa.Uuid, primary_key=True),
    _migration_id(nullable=False),
    sa.Column("at", _when, nullable=False, server_default=NOW),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("forms", JSONB, nullable=False),
    sa.Column("live", JSONB, nullable=False),
    comment="What each report said, and the hashes by which its forms are known as genuine.",
)
sa.Index("seal_of_migration", seal.c.migration_id, seal.c.at)

sealed_rows = sa.Table(
    "sealed_rows",
    metadata,
    _migration_id(primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("first_position", sa.BigInteger, primary_key=True),
    sa.Column("sha256", sa.Text, primary_key=True),
    sa.Column("last_position", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.LargeBinary),
    sa.Column("at", _when, nullable=False, server_default=NOW),
    sa.Column("who", sa.Text, nullable=False),
    sa.CheckConstraint("kind IN ('snapshot', 'live')", name="kind_known"),
    comment="Hashes of the snapshot's rows as they were written, and of live rows by a report.",
)
# A snapshot is sealed once: nobody can add another hash of rows that they have changed.
sa.Index(
    "sealed_rows_one_of_snapshot",
    sealed_rows.c.migration_id,
    sealed_rows.c.first_position,
    unique=True,
    postgresql_where=sealed_rows.c.kind == "snapshot",
)

# A mapping's own name for a channel goes before the same variable of the whole installation, whose
# mapping is ''. The URL itself is nowhere in the ledger.
notification_channel = sa.Table(
    "notification_channel",
    metadata,
    sa.Column("mapping", sa.Text, primary_key=True),
    sa.Column("url_variable", sa.Text, primary_key=True),
    sa.Column("format", sa.Text, nullable=False),
    sa.Column("events", ARRAY(sa.Text)),
    sa.Column("since", _when, nullable=False, server_default=NOW),
    sa.CheckConstraint("format IN ('json', 'slack')", name="format_known"),
    comment="Who is told of events: by the environment variable with the URL, and since when.",
)

notification = sa.Table(
    "notification",
    metadata,
    sa.Column(
        "notification_id",
        sa.Uuid,
        primary_key=True,
        server_default=sa.text("pg_catalog.gen_random_uuid()"),
    ),
    sa.Column("event_id", sa.BigInteger, nullable=False),
    sa.Column("url_variable", sa.Text, nullable=False),
    sa.Column("format", sa.Text, nullable=False),
    sa.Column("migration_id", sa.BigInteger),
    sa.Column("mapping", sa.Text, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="pending"),
    _number("attempts"),
    sa.Column("due_at", _when, nullable=False, server_default=NOW),
    sa.Column("failure", sa.Text),
    sa.Column("ended_at", _when),
    sa.UniqueConstraint("event_id", "url_variable", name="notification_once"),
    sa.CheckConstraint("state IN ('pending', 'delivered', 'given_up')", name="state_known"),
    comment="Each message about an event to somebody: whether it has arrived, or why not.",
)
sa.Index(
    "notification_pending",
    notification.c.url_variable,
    notification.c.event_id,
    postgresql_where=notification.c.state == "pending",
)
