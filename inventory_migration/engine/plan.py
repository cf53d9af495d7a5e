"""From a mapping to a planned migration: who may start, and a default location for each company.

Each step is resumable and has a transaction of its own; what is there already is kept. The work
list is written in `snapshot.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import uuid4

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping, resolve
from inventory_migration.database import escaped
from inventory_migration.engine import (
    control,
    coverage,
    default_locations,
    gates,
    guard,
    joins,
    ledger,
    retries,
    rewrite_refusals,
    rivals,
    schema_change,
    sync,
    undo_marks,
    verification,
)
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.quarantine import Filter
from inventory_migration.errors import (
    MigrationBusy,
    MigrationPaused,
    NothingMigrated,
    StartRefused,
    SuperuserRefused,
)
from inventory_migration.mapping import StockMapping


@dataclass(frozen=True)
class Start:
    """Who starts, and what they may lift.

    Attributes:
        run_id: The Dagster run, kept with the migration.
        explicit: An operator asked for this start, so that it may follow a rollback.
        resume: An operator asked to go on, which lifts a pause.
        as_superuser: Triggers of the application may run with a superuser's rights.
        write_stop: The application's writes rest, so that the verdict can be final.
        max_rows_per_second: How many records move at most, instead of what the mapping says.
        maintenance_window: Nobody waits for the records, so that transactions may be longer; says
            nothing about hours.
        rewrite: All records go in one rewrite of their table, in such a window.
        no_window: Work may go on outside of the hours of the mapping's `health.window`.
        retry: The records of the quarantine that the migration is for; None for what is new.
        command: The command that starts; all its steps are one, and so are those of a Dagster run.
    """

    run_id: str | None = None
    explicit: bool = False
    resume: bool = False
    as_superuser: bool = False
    write_stop: bool = False
    max_rows_per_second: int | None = None
    maintenance_window: bool = False
    rewrite: bool = False
    no_window: bool = False
    retry: Filter | None = None
    command: str = field(default_factory=lambda: uuid4().hex, compare=False)

    @property
    def token(self) -> str:
        """What the steps of one start have in common, and no other start has."""
        return self.run_id or self.command


def read_mapping(engine: sa.Engine, mapping: StockMapping) -> ResolvedMapping:
    """Resolve a mapping in a transaction of its own."""
    with engine.connect() as connection:
        return resolve(connection, mapping)


def open_migration(engine: sa.Engine, resolved: ResolvedMapping, start: Start) -> Migration | None:
    """Take up the target's active migration, or plan a new one; None where nothing is new.

    The caller holds the claim on the target, so nobody else decides at the same time.

    Raises:
        MigrationPaused: It stands still and `start` does not resume it.
        RewriteRefused: A rewrite is asked for, and something stands against it.
        StartRefused: Its state does not allow this start.
        SuperuserRefused: The role would lend its rights to the application's triggers.
        TargetTaken: A migration of another mapping stands there.
    """
    refuse_superuser(resolved, as_superuser=start.as_superuser)
    with engine.begin() as connection:
        ledger.install(connection)
        rivals.refuse_rival(connection, resolved)
        active = ledger.find(connection, target=resolved.target, states=ledger.ACTIVE)
        if active is not None and start.retry is None:
            if start.rewrite:
                rewrite_refusals.refuse(connection, resolved, active)
            _take_up(connection, resolved, active, start)
            return active
        if start.retry is not None:
            refuse_retry(connection, resolved)
        last = ledger.find(connection, mapping=resolved.mapping.name)
        if last and last.state in {"rolled_back", "aborted"} and not start.explicit:
            raise StartRefused(
                mapping=last.mapping,
                migration_id=last.migration_id,
                why=f"was {last.state.replace('_', ' ')}, and only an explicit run follows that",
                command=f"run {last.mapping}",
            )
        partly = coverage.partly_undone(connection, resolved.mapping.name)
        if partly is not None and not start.explicit:
            raise StartRefused(
                mapping=partly.mapping,
                migration_id=partly.migration_id,
                why="was rolled back in part, and only an explicit run follows that",
                command=f"run {partly.mapping}",
            )
        # A guard that is asked for later is put on by a migration of nothing else.
        unguarded = guard.wanted(resolved) and not guard.installed(connection, resolved)
        found = unguarded or start.retry is not None or coverage.has_work(connection, resolved)
        if not found:
            return None
        over = sync.was_cut_over(connection, resolved.mapping.name)
        if over is not None and sync.wanted(resolved):
            raise StartRefused(
                mapping=over.mapping,
                migration_id=over.migration_id,
                why="was cut over: the application writes levels itself now, and a trigger that "
                "writes them from its records would get in its way; take 'sync: true' out of the "
                "mapping for what is new",
                command=f"test {over.mapping}",
            )
        if start.retry is not None:
            return _insert_retry(connection, resolved, start, start.retry)
        if start.rewrite:
            rewrite_refusals.refuse(connection, resolved)
        return _insert(connection, resolved, start)


def prepare_locations(
    engine: sa.Engine, mapping: StockMapping, claim: control.Claim, start: Start
) -> Migration | None:
    """Give every company exactly one default location, adopting those that exist.

    Expands the schema where the mapping asks for it. Companies without stock get a location too.

    Returns:
        The migration; None where there is nothing to do.

    Raises:
        GateRefused: The audit profile's gate has not passed.
        MappingInvalid: The mapping's joins lose or multiply a record.
        DefaultLocationWrong: A company has two, or one belongs to no company, or one is missing and
            may not be created; lists all.
    """
    resolved = read_mapping(engine, mapping)
    claim.take(resolved.target)
    with engine.connect() as connection:
        gates.require(connection, resolved, "audit_profile")
        joins.refuse_unfaithful(connection, resolved)
        default_locations.refuse_wrong(connection, resolved)
    migration = open_migration(engine, resolved, start)
    if migration is None:
        return None
    resolved = _expand(engine, resolved, migration)
    # Triggers come before the snapshot, so that no writer is older than they are and younger than
    # it: putting one on a table waits for all who write to it.
    if guard.wanted(resolved):
        guard.install(engine, resolved, migration)
    if sync.wanted(resolved):
        with engine.connect() as connection:
            statements = sync.install_statements(connection, resolved)
        schema_change.execute_briefly(
            engine,
            [escaped(statement) for statement in statements],
            what=f"put a trigger on {resolved.source.name}",
            migration_id=migration.migration_id,
        )
    with control.exclusive(engine, migration.migration_id, wanted="run") as connection:
        default_locations.give(connection, resolved, migration)
        if ledger.snapshot_exists(connection, migration):
            default_locations.follow(connection, resolved, migration)
        gates.open_gate(connection, resolved, "default_locations", run_id=start.run_id)
    return migration


def _take_up(
    connection: sa.Connection, resolved: ResolvedMapping, active: Migration, start: Start
) -> None:
    mapping = resolved.mapping
    lifts = start.resume and not _has_lifted(connection, active, start)
    if active.state in {"paused", "held"} and not start.resume:
        raise MigrationPaused(
            mapping=mapping.name,
            migration_id=active.migration_id,
            reason=active.reason or active.state,
        )
    if active.state == "rolling_back":
        raise StartRefused(
            mapping=mapping.name,
            migration_id=active.migration_id,
            why="is being rolled back",
            command=f"rollback {mapping.name}",
        )
    if active.mapping_hash != mapping.hash:
        raise StartRefused(
            mapping=mapping.name,
            migration_id=active.migration_id,
            why="was planned with another version of this mapping; put that back, or go back",
            command=f"rollback {mapping.name}",
        )
    if start.run_id:
        connection.execute(
            sa.update(ledger.migration)
            .where(
                ledger.migration.c.migration_id == active.migration_id,
                sa.literal(start.run_id) != sa.all_(ledger.migration.c.run_ids),
            )
            .values(run_ids=sa.func.array_append(ledger.migration.c.run_ids, start.run_id))
        )
    # Whoever held the claim is gone; what an operator asked for stays until it is lifted.
    if lifts:
        control.desire(connection, active.migration_id, "run", reason="taken up")
        ledger.note(connection, _LIFTED, migration_id=active.migration_id, start=start.token)
    control.require(connection, active.migration_id, "run")
    verification.require(connection, resolved, active)
    if lifts:
        undo_marks.reopen(connection, active)
    if active.state in {"paused", "held", "failed"}:
        # Whoever starts has seen which chunks failed; each is tried anew, and alone.
        connection.execute(
            sa.update(ledger.chunk)
            .where(
                ledger.chunk.c.migration_id == active.migration_id,
                ledger.chunk.c.state == "pending",
                ledger.chunk.c.attempts > 1,
            )
            .values(attempts=1)
        )


def _has_lifted(connection: sa.Connection, active: Migration, start: Start) -> bool:
    """Whether an earlier step of this start has lifted what stood then.

    Whoever has paused the migration since must not be overruled by the next step.
    """
    event = ledger.event
    return bool(
        connection.execute(
            sa.select(
                sa.exists().where(
                    event.c.migration_id == active.migration_id,
                    event.c.kind == _LIFTED,
                    event.c.detail["start"].astext == start.token,
                )
            )
        ).scalar_one()
    )


_LIFTED = "resumed"
"""The event of a start that has lifted a pause, by its token."""


def refuse_retry(connection: sa.Connection, resolved: ResolvedMapping) -> None:
    """Refuse to try records again unless the mapping's last migration is verified.

    Raises:
        NothingMigrated: There is none.
        StartRefused: It is under way, stands still, or was taken back, be it in part.
    """
    active = ledger.find(connection, target=resolved.target, states=ledger.ACTIVE)
    last = active or ledger.find(connection, mapping=resolved.mapping.name)
    if last is None:
        raise NothingMigrated(mapping=resolved.mapping.name)
    partly = coverage.partly_undone(connection, resolved.mapping.name)
    if partly is not None:
        raise StartRefused(
            mapping=partly.mapping,
            migration_id=partly.migration_id,
            why="was rolled back in part, which a retry would take as well",
            command=f"run {partly.mapping}",
        )
    if last.state == "verified":
        return
    commands = {
        "rolling_back": "rollback",
        "rolled_back": "run",
        "aborted": "run",
        "planned": "run",
        "running": "run",
        "verifying": "run",
    }
    raise StartRefused(
        mapping=last.mapping,
        migration_id=last.migration_id,
        why=f"is {last.state.replace('_', ' ')}, and records are tried again only behind one that "
        "is verified",
        command=f"{commands.get(last.state, 'resume')} {last.mapping}",
    )


def _insert_retry(
    connection: sa.Connection, resolved: ResolvedMapping, start: Start, wanted: Filter
) -> Migration | None:
    """Plan a migration of records in quarantine; None where none of them is meant."""
    if not retries.count_selectable(connection, resolved, wanted):
        return None
    migration = _insert(connection, resolved, start)
    ledger.note(
        connection,
        "retrying",
        migration_id=migration.migration_id,
        records=retries.select(connection, resolved, migration, wanted),
        keys=list(wanted.keys) or None,
        rule=wanted.rule,
    )
    return migration


def _insert(connection: sa.Connection, resolved: ResolvedMapping, start: Start) -> Migration:
    mapping = resolved.mapping
    migration_id = connection.execute(
        sa.insert(ledger.migration)
        .values(
            mapping=mapping.name,
            mapping_hash=mapping.hash,
            definition=mapping.model_dump(mode="json", by_alias=True),
            target=resolved.target,
            source_oid=resolved.source.oid,
            started_by=ledger.who(connection),
            run_ids=[start.run_id] if start.run_id else [],
            server_started_at=sa.func.pg_postmaster_start_time(),
        )
        .returning(ledger.migration.c.migration_id)
    ).scalar_one()
    connection.execute(
        sa.insert(ledger.control).values(
            migration_id=migration_id, set_by=ledger.who(connection), reason="started"
        )
    )
    ledger.note(connection, "planned", migration_id=migration_id, mapping_hash=mapping.hash)
    found = ledger.find(connection, migration_id=migration_id)
    if found is None:
        raise MigrationBusy(target=resolved.target, holder="another session")
    return found


def refuse_superuser(resolved: ResolvedMapping, *, as_superuser: bool) -> None:
    """Refuse to run the application's triggers with a superuser's rights, unless told to.

    Raises:
        SuperuserRefused: The role is a superuser, and a trigger's owner is none.
    """
    lent = [
        trigger.name
        for relation in resolved.written
        for trigger in relation.triggers
        if not trigger.function_owner_is_superuser
    ]
    if resolved.is_superuser and lent and not as_superuser:
        raise SuperuserRefused(role=resolved.role, triggers=lent)


def _expand(engine: sa.Engine, resolved: ResolvedMapping, migration: Migration) -> ResolvedMapping:
    table, column = schema_change.add_locations(resolved), schema_change.add_column(resolved)
    levels = schema_change.add_levels(resolved)
    if table is None and column is None and levels is None:
        return resolved
    added = "UPDATE {0}.migration SET {1}_added = true WHERE migration_id = {2}"
    if table:
        statements = [table, schema_change.one_default_per_company(resolved)]
        schema_change.execute_briefly(
            engine,
            [
                *map(escaped, statements),
                added.format(SCHEMA, "table", migration.migration_id),
            ],
            what=f"create {resolved.locations_sql}",
            migration_id=migration.migration_id,
        )
    if column:
        schema_change.execute_briefly(
            engine,
            [escaped(column), added.format(SCHEMA, "column", migration.migration_id)],
            what=f"add a column to {resolved.source.name}",
            migration_id=migration.migration_id,
        )
    if levels:
        schema_change.execute_briefly(
            engine,
            [escaped(levels), added.format(SCHEMA, "table", migration.migration_id)],
            what=f"create {resolved.levels_sql}",
            migration_id=migration.migration_id,
        )
    return read_mapping(engine, resolved.mapping)
