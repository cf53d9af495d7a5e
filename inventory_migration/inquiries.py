"""What people ask: status, a record's story, the statements, a mapping, what a command meant.

Each only reads, and answers at once: nothing slow is imported for it. What changes anything is in
`verbs.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.catalog import resolve
from inventory_migration.engine import (
    control,
    gates,
    ledger,
    notifications,
    phases,
    plan,
    rewrite_refusals,
    rivals,
    rollback,
    settled,
    statements,
    story,
    summary,
)
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.undo_scope import WHOLE, Scope
from inventory_migration.errors import (
    CommandUnclear,
    MigrationPaused,
    NothingMigrated,
    StartRefused,
)
from inventory_migration.mapping import StockMapping
from inventory_migration.proposal import Proposal, propose
from inventory_migration.report.files import written_before

if TYPE_CHECKING:
    from inventory_migration.verbs import Target


def list_migrations(target: Target, mapping: str | None = None) -> list[dict[str, Any]]:
    """Every migration of the database, or of one mapping, newest first."""
    with target.reader.connect() as connection:
        return summary.list_migrations(connection, mapping=mapping)


def list_notifications(
    target: Target, mapping: str | None = None, *, limit: int
) -> list[dict[str, Any]]:
    """The messages about events of all mappings, or of one, newest first."""
    with target.reader.connect() as connection:
        return notifications.listing(connection, mapping=mapping, limit=limit)


def last_summary(target: Target, mapping: str) -> dict[str, Any]:
    """What the newest migration of a mapping did, in the shape of `run --json`."""
    with target.reader.connect() as connection:
        found = _last(connection, mapping) if ledger.installed(connection) else None
        return summary.summarize(connection, found, mapping=mapping, changed=False)


def show_record(target: Target, mapping: StockMapping, key: str) -> dict[str, Any]:
    """The story of one stock record; see `story.show_record`."""
    with target.reader.connect() as connection:
        return story.show_record(connection, resolve(connection, mapping), key)


def statements_for(
    target: Target, mapping: StockMapping, *, role: str | None = None
) -> statements.Statements:
    """The statements of a migration for a DBA; see `statements.statements`."""
    if role is not None and not role.strip():
        raise CommandUnclear("a role's name is empty; say which role with --role ROLE")
    with target.reader.connect() as connection:
        return statements.statements(connection, resolve(connection, mapping), role=role)


def propose_mapping(target: Target, table: str | None = None) -> Proposal:
    """A mapping proposed from the catalog; see `proposal.propose`."""
    with target.reader.connect() as connection, control.cancelled_on_interrupt(connection):
        return propose(connection, table)


def undoable(
    target: Target, mapping: str, *, migration_id: int | None = None
) -> list[dict[str, Any]]:
    """The migrations that a rollback would undo, newest first.

    Raises:
        MigrationPurged: The records of one are in an archive and nowhere else.
    """
    with target.reader.connect() as connection:
        if ledger.installed(connection):
            rollback.refuse_purged(connection, mapping, migration_id)
    return [
        found
        for found in list_migrations(target, mapping)
        if found["state"] in rollback.UNDOABLE and migration_id in {None, found["migration_id"]}
    ]


def foretell_rollback(
    target: Target,
    mapping: StockMapping,
    *,
    migration_id: int | None = None,
    scope: Scope = WHOLE,
) -> dict[str, Any]:
    """What a rollback would do, in the shape of its own summary, and each conflict it would list.

    Raises:
        MappingInvalid: There is no such migration, phase or company, or the mapping does not fit
            the database.
        StartRefused: The migration of that id cannot be undone, or is being undone whole.
    """
    with verbs.one_moment(target) as (connection, _):
        resolved = resolve(connection, mapping)
        wanted, found = rollback.foretell(
            connection, resolved, migration_id=migration_id, scope=scope
        )
    return {
        "migration_id": wanted[-1].migration_id if wanted else None,
        "mapping": mapping.name,
        "state": wanted[-1].state if wanted else None,
        "changed": False,
        "migrations": [migration.migration_id for migration in wanted],
        "undone": {
            "records": found["records"],
            "kept": len(found["conflicts"]),
            "locations": found["locations"],
        },
        **{name: found[name] for name in ("conflicts", "touched_since", "locations_kept")},
    }


def abortable(target: Target, mapping: str) -> dict[str, Any] | None:
    """The migration that an abort would end; None where none is active."""
    states = {*ledger.ACTIVE} - {"rolling_back"}
    found = (m for m in list_migrations(target, mapping) if m["state"] in states)
    return next(found, None)


def rewrite_outlook(target: Target, mapping: StockMapping) -> dict[str, Any]:
    """What a rewrite of a mapping's table takes; see `rewrite_refusals.outlook`."""
    with target.reader.connect() as connection:
        resolved = resolve(connection, mapping)
        return rewrite_refusals.outlook(connection, resolved, 0) or {}


def is_startable(
    target: Target,
    mapping: StockMapping,
    *,
    resume: bool,
    stop_after: str | None = None,
    write_stop: bool = False,
    as_superuser: bool = False,
    rewrite: bool = False,
    maintenance_window: bool = False,
    max_rows_per_second: int | None = None,
) -> bool:
    """Whether a start has anything to look at; refuses at once what the engine would refuse later.

    False means that the migration to resume is verified already.

    Raises:
        MappingInvalid: The mapping does not fit the database, or has no phase `stop_after`.
        MigrationPaused: It stands still until somebody resumes it.
        NothingMigrated: There is nothing to resume.
        PrivilegesMissing: The role would come to a halt halfway.
        RewriteRefused: A rewrite is asked for, and something stands against it.
        StartRefused: What there is cannot be resumed.
        SuperuserRefused: The role would lend its rights to the application's triggers.
        TargetTaken: A migration of another mapping stands there.
    """
    phases.require_phase(mapping, stop_after)
    if rewrite:
        rewrite_refusals.refuse_options(
            mapping,
            maintenance_window=maintenance_window,
            stop_after=stop_after,
            max_rows_per_second=max_rows_per_second,
        )
    resolved = plan.read_mapping(target.reader, mapping)
    plan.refuse_superuser(resolved, as_superuser=as_superuser)
    with target.reader.connect() as connection:
        rivals.refuse_rival(connection, resolved)
        statements.refuse_lack(connection, resolved, write_stop=write_stop)
        found = None
        if ledger.installed(connection):
            found = ledger.find(connection, target=resolved.target, states=ledger.ACTIVE)
            found = found or _last(connection, mapping.name)
        if rewrite and (found is None or found.state != "verified"):
            rewrite_refusals.refuse(connection, resolved, found)
    if not resume:
        if found is not None and found.state in {"paused", "held"}:
            raise MigrationPaused(
                mapping=found.mapping,
                migration_id=found.migration_id,
                reason=found.reason or found.state,
            )
        return True
    if found is None:
        raise NothingMigrated(mapping=mapping.name)
    if found.state in {"rolled_back", "aborted"}:
        raise StartRefused(
            mapping=mapping.name,
            migration_id=found.migration_id,
            why=f"was {found.state.replace('_', ' ')}, and there is nothing to resume",
            command=f"run {mapping.name}",
        )
    return found.state != "verified"


def is_settled(target: Target, mapping: StockMapping) -> bool:
    """Whether a run would find nothing to do and nothing to object to; see `settled.is_settled`."""
    from inventory_migration.quality.gate_suites import digest

    suites = {suite: digest(mapping, suite) for suite in gates.SUITES}
    with verbs.one_moment(target) as (connection, _):
        return settled.is_settled(connection, resolve(connection, mapping), suites)


def settled_summary(target: Target, mapping: StockMapping) -> dict[str, Any]:
    """What a run tells that has found nothing to do: the last migration, and what was checked."""
    return {**last_summary(target, mapping.name), "checked": [*settled.CHECKED]}


def last_report(target: Target, summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """`report` and `seal` of a migration's report as they were told; None unless all is there."""
    with target.reader.connect() as connection:
        kept = connection.execute(
            sa.select(ledger.seal.c.report, ledger.seal.c.sha256)
            .where(ledger.seal.c.migration_id == summary["migration_id"])
            .order_by(ledger.seal.c.at.desc())
            .limit(1)
        ).one_or_none()
    if kept is None:
        return None
    paths = written_before(summary["mapping"], summary["migration_id"], str(kept.report))
    if paths is None:
        return None
    told = {"report": str(kept.report), "sha256": kept.sha256, "kept": True, "reason": None}
    return {"report": paths, "seal": told}


def _last(connection: sa.Connection, mapping: str) -> Migration | None:
    return ledger.find(connection, mapping=mapping)
