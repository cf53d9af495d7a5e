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

from inventory_migration.database import ON_BEHALF_OF, quoted
from inventory_migration.engine.ledger.installation import (
    VERSION,
    bring_up_to_date,
    install,
    installed,
    table_exists,
)
from inventory_migration.engine.ledger.tables import (
    ACTIVE,
    NOW,
    SCHEMA,
    after_image,
    archive,
    chunk,
    company_location,
    conflict,
    control,
    event,
    gate,
    health,
    level_image,
    location_link,
    metadata,
    migration,
    notification,
    notification_channel,
    observation,
    observation_company,
    outcome,
    phase,
    reference,
    retry,
    seal,
    sealed_rows,
    transition,
    version,
    warning,
)

__all__ = [
    "ACTIVE",
    "NOW",
    "SCHEMA",
    "VERSION",
    "WHO",
    "Migration",
    "after_image",
    "archive",
    "bring_up_to_date",
    "chunk",
    "company_location",
    "conflict",
    "control",
    "current",
    "event",
    "find",
    "gate",
    "health",
    "install",
    "installed",
    "level_image",
    "location_link",
    "metadata",
    "migration",
    "note",
    "notification",
    "notification_channel",
    "observation",
    "observation_company",
    "outcome",
    "phase",
    "reference",
    "retry",
    "seal",
    "sealed_rows",
    "set_state",
    "snapshot_exists",
    "table_exists",
    "transition",
    "version",
    "warning",
    "who",
]


@dataclass(frozen=True)
class Migration:
    """A migration as its row says.

    Attributes:
        purged: Whether its records are in an archive and nowhere else.
    """

    migration_id: int
    mapping: str
    mapping_hash: str
    target: str
    state: str
    reason: str | None
    column_added: bool
    purged: bool = False

    @property
    def snapshot(self) -> str:
        """The quoted snapshot table."""
        return quoted(SCHEMA, f"snapshot_{self.migration_id}")

    @property
    def planned_locations(self) -> str:
        """The quoted table of the default locations that the plan was made with."""
        return quoted(SCHEMA, f"snapshot_{self.migration_id}_location")

    @property
    def covered(self) -> str:
        """The quoted table of the keys that a purge leaves, so that nothing is migrated twice."""
        return quoted(SCHEMA, f"covered_{self.migration_id}")


_COLUMNS = (
    migration.c.migration_id,
    migration.c.mapping,
    migration.c.mapping_hash,
    migration.c.target,
    migration.c.state,
    migration.c.reason,
    migration.c.column_added,
    sa.exists()
    .where(archive.c.migration_id == migration.c.migration_id, archive.c.purged_at.is_not(None))
    .label("purged"),
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
    return table_exists(connection, f"snapshot_{found.migration_id}")


def set_state(
    connection: sa.Connection, migration_id: int, state: str, *, reason: str | None = None
) -> None:
    """Move a migration to a state that the transition table allows, and note it in the trail."""
    # What a migration took is known when it is verified; a rollback later does not lengthen it.
    finished_at: Any = migration.c.finished_at
    if state in {"verified", "rolled_back", "aborted"}:
        finished_at = sa.func.coalesce(finished_at, NOW)
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


WHO = f"""(session_user || ' by ' || current_setting('application_name')
           || COALESCE(' for ' || NULLIF(current_setting('{ON_BEHALF_OF}', true), ''), ''))"""
"""The role, the program and, where it was said, the person for whom a statement runs, as SQL."""


def who(connection: sa.Connection) -> str:
    """The role, the program and, where it was said, the person for whom a statement runs."""
    return str(connection.execute(sa.text(f"SELECT {WHO}")).scalar_one())
