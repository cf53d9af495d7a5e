"""The tool's own tables: migrations, what became of each record, which steps a state allows.

The ledger lies in schema `inventory_migration` of the migrated database, so that state and data
change in one transaction. Tables, transitions and the append-only trail are enforced by the
database itself. Reading the ledger for people belongs in `summary.py`; deciding what a worker may
do belongs in `control.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from inventory_migration.database import ON_BEHALF_OF, quoted
from inventory_migration.engine.ledger.presence import (
    ACTIVE,
    SCHEMA,
    VERSION,
    bring_up_to_date,
    installed,
    is_up_to_date,
    table_exists,
)
from inventory_migration.plain import Connection, ask, execute

if TYPE_CHECKING:
    from inventory_migration.engine.ledger.installation import install
    from inventory_migration.engine.ledger.tables import (
        NOW,
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
    "channel_variables",
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
    "is_up_to_date",
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


def __getattr__(name: str) -> Any:
    """Load tables, and what makes them, on first use: they need SQLAlchemy, and a look does not."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{'installation' if name == 'install' else 'tables'}")
    found = globals()[name] = getattr(module, name)
    return found


_FITS = {
    "migration_id": "migration_id = :migration_id",
    "mapping": "mapping = :mapping",
    "target": "target = :target",
    "states": "state = ANY(:states)",
}


def find(
    connection: Connection,
    *,
    migration_id: int | None = None,
    mapping: str | None = None,
    target: str | None = None,
    states: tuple[str, ...] | None = None,
) -> Migration | None:
    """The newest migration that fits, or None."""
    known = {
        "migration_id": migration_id,
        "mapping": mapping,
        "target": target,
        "states": None if states is None else list(states),
    }
    wanted = {name: value for name, value in known.items() if value is not None}
    rows = ask(
        connection,
        f"""
        SELECT migration_id, mapping, mapping_hash, target, state, reason, column_added,
               EXISTS (SELECT FROM {SCHEMA}.archive AS a
                       WHERE a.migration_id = m.migration_id AND a.purged_at IS NOT NULL) AS purged
        FROM {SCHEMA}.migration AS m
        WHERE {" AND ".join(["true", *(_FITS[name] for name in wanted)])}
        ORDER BY migration_id DESC LIMIT 1
        """,
        wanted,
    )
    return next((Migration(*row) for row in rows), None)


def current(connection: Connection, mapping: str) -> Migration | None:
    """The migration that stands: the active one, else the last verified one."""
    if not installed(connection):
        return None
    return find(connection, mapping=mapping, states=(*ACTIVE, "verified"))


def channel_variables(connection: Connection) -> set[str]:
    """The environment variables of all channels that are told of migrations."""
    if not table_exists(connection, "notification_channel"):
        return set()
    rows = ask(connection, f"SELECT DISTINCT url_variable FROM {SCHEMA}.notification_channel")
    return {row.url_variable for row in rows}


def snapshot_exists(connection: Connection, found: Migration) -> bool:
    """Whether a migration's snapshot has been written."""
    return table_exists(connection, f"snapshot_{found.migration_id}")


def set_state(
    connection: Connection, migration_id: int, state: str, *, reason: str | None = None
) -> None:
    """Move a migration to a state that the transition table allows, and note it in the trail."""
    # What a migration took is known when it is verified; a rollback later does not lengthen it.
    ended = state in {"verified", "rolled_back", "aborted"}
    finished_at = "COALESCE(finished_at, clock_timestamp())" if ended else "finished_at"
    execute(
        connection,
        f"""
        UPDATE {SCHEMA}.migration SET state = :state, reason = :reason, finished_at = {finished_at}
        WHERE migration_id = :migration_id
        """,
        {"migration_id": migration_id, "state": state, "reason": reason},
    )
    note(connection, f"state_{state}", migration_id=migration_id, reason=reason)


def note(
    connection: Connection, kind: str, *, migration_id: int | None = None, **detail: Any
) -> None:
    """Append to the audit trail: who did what, and why."""
    said = {key: value for key, value in detail.items() if value is not None}
    execute(
        connection,
        f"""
        INSERT INTO {SCHEMA}.event (migration_id, who, kind, detail)
        VALUES (:migration_id, {WHO}, :kind, CAST(:detail AS jsonb))
        """,
        {"migration_id": migration_id, "kind": kind, "detail": json.dumps(said)},
    )


WHO = f"""(session_user || ' by ' || current_setting('application_name')
           || COALESCE(' for ' || NULLIF(current_setting('{ON_BEHALF_OF}', true), ''), ''))"""
"""The role, the program and, where it was said, the person for whom a statement runs, as SQL."""


def who(connection: Connection) -> str:
    """The role, the program and, where it was said, the person for whom a statement runs."""
    [row] = ask(connection, f"SELECT {WHO} AS who")
    return str(row.who)
