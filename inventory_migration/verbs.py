"""The steps of a migration and the verbs that people use, free of Dagster and of any terminal.

Each function here joins the engine with profile, gates and report; `defs/` wraps them as assets,
checks and jobs, `cli.py` as commands. How stock is moved, what a suite asserts and how a document
looks belong further down.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from psycopg.conninfo import make_conninfo

from inventory_migration.catalog import ResolvedMapping, resolve
from inventory_migration.database import (
    connection_parameters,
    create_engine,
    open_database,
)
from inventory_migration.engine import (
    archived,
    canonical,
    columns,
    control,
    failures,
    gates,
    joins,
    ledger,
    notifications,
    observations,
    phases,
    plan,
    prediction,
    proof,
    reconcile,
    rewrite_refusals,
    rivals,
    rollback,
    scans,
    seen,
    standing,
    statements,
    subjects,
    summary,
    trail,
)
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.plan import Start
from inventory_migration.engine.seen import Seen
from inventory_migration.engine.subjects import Subject
from inventory_migration.engine.undo_scope import WHOLE, Scope
from inventory_migration.errors import GateRefused, MigrationFailed
from inventory_migration.mapping import StockMapping, named_mapping
from inventory_migration.notifications import delivering

if TYPE_CHECKING:
    from inventory_migration.audit.profile import Profile
    from inventory_migration.quality.verdict import Verdict

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """A database to work on: an engine that writes, one that cannot, and what both connect with."""

    engine: sa.Engine
    reader: sa.Engine
    parameters: Mapping[str, str] = field(repr=False)


def open_target(url: str | None = None) -> Target:
    """Reach a database, or say in one sentence why not; see `database.open_database`."""
    parameters = connection_parameters(url)
    conninfo = make_conninfo(**parameters)
    # The one that cannot write is tried, so that what only reads never begins anything else.
    reader = open_database(conninfo, read_only=True)
    return Target(engine=create_engine(conninfo), reader=reader, parameters=parameters)


@contextmanager
def one_moment(target: Target) -> Iterator[tuple[sa.Connection, str]]:
    """A read-only transaction that sees one moment, and the snapshot that shares it."""
    with target.reader.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(sa.text("SET LOCAL row_security = off"))
        # A role's defaults are not meant for one look at a whole table, nor for exact floats.
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        connection.execute(sa.text("SET LOCAL extra_float_digits = 3"))
        scans.with_room(connection)
        snapshot = connection.execute(sa.text("SELECT pg_export_snapshot()")).scalar_one()
        with control.cancelled_on_interrupt(connection):
            yield connection, snapshot


def audit_profile(
    target: Target, mapping: StockMapping, claim: control.Claim, *, run_id: str | None = None
) -> Profile:
    """Describe the inventory as it is; writes nothing but that its gate has yet to judge it.

    Raises:
        MappingInvalid: The mapping does not fit the database; nothing was written at all.
        TargetTaken: A migration of another mapping stands there; the same.
    """
    resolved = plan.read_mapping(target.engine, mapping)
    claim.take(resolved.target)
    ledger.bring_up_to_date(target.engine)
    with one_moment(target) as (connection, _):
        _refuse(connection, resolved)
    with target.engine.begin() as connection:
        ledger.install(connection)
        notifications.subscribe(connection, mapping)
        gates.open_gate(connection, resolved, "audit_profile", run_id=run_id)
    from inventory_migration.audit.for_gate import counted_by_gate

    logger.info("profiling %s", resolved.source.name)
    with one_moment(target) as (connection, _):
        resolved = resolve(connection, mapping)
        before = seen.note_before(connection, resolved)
        if before is None:
            return _profile(connection, resolved, canonical.records(resolved))
        batch, along = counted_by_gate(connection, resolved)
        found = _profile(connection, resolved, batch, along)
    with target.engine.begin() as connection:
        known = Seen(no_copies=not found.copies, counts=found.along, batch=seen.hash_of(batch))
        records = int(found.totals["records"])
        seen.keep(connection, resolved, before, records, known, run_id=run_id)
    return found


def judge(
    target: Target,
    mapping: StockMapping,
    suite: str,
    *,
    run_id: str | None = None,
    keep: bool = True,
) -> Verdict:
    """Run a gate's suite on one moment of the data.

    Args:
        target: The database.
        mapping: The mapping to judge under.
        suite: One of `gates.SUITES`.
        run_id: The Dagster run, kept with the verdict.
        keep: Whether the verdict counts as the gate's; a validation only looks.
    """
    from inventory_migration.quality.gate_suites import digest

    # Before it is read to be judged: of two versions, the earlier one is remembered.
    expects = digest(mapping, suite)
    with one_moment(target) as (connection, snapshot):
        resolved = resolve(connection, mapping)
        judged = gates.fingerprint(connection, resolved, suite) if keep else {}
        found, subject = _judged(target, connection, snapshot, resolved, suite, again=keep)
    if keep:
        with target.engine.begin() as connection:
            ledger.install(connection)
            gates.record(
                connection,
                resolved,
                suite,
                passed=found.passed,
                judged=judged,
                verdict={**found.to_json(), "digest": expects, **subject.kept},
                run_id=run_id,
            )
            if not found.passed:
                gates.note_refusal(connection, resolved, suite, found.summary())
    return found


def verdict_of_run(
    target: Target, mapping: StockMapping, suite: str, run_id: str
) -> Verdict | None:
    """The newest verdict of a gate, where this very run has given it, under this mapping."""
    from inventory_migration.quality import verdict

    with target.reader.connect() as connection:
        if not ledger.installed(connection):
            return None
        newest = gates.latest(connection, mapping.name, suite)
    if newest is None or newest.passed is None:
        return None
    if (newest.run_id, newest.mapping_hash) != (run_id, mapping.hash):
        return None
    return verdict.from_json(newest.verdict)


def verdict_at(
    target: Target,
    connection: sa.Connection,
    snapshot: str,
    resolved: ResolvedMapping,
    suite: str,
) -> Verdict:
    """What a suite says of the moment that a connection of `one_moment` sees; keeps nothing."""
    return _judged(target, connection, snapshot, resolved, suite)[0]


def _judged(
    target: Target,
    connection: sa.Connection,
    snapshot: str,
    resolved: ResolvedMapping,
    suite: str,
    *,
    again: bool = False,
) -> tuple[Verdict, Subject]:
    """The verdict, and what the suite was held against."""
    logger.info("judging %s", suite)
    from inventory_migration.audit.oddities import with_oddities
    from inventory_migration.quality import judging
    from inventory_migration.quality.gate_suites import suite_of_gate

    subject = subjects.subject_of(connection, resolved, suite, again=again)
    keys, known = ["key_text"], Seen()
    if suite == "audit_profile":
        known = seen.still(connection, resolved)
        subject = with_oddities(connection, resolved, subject, known)
        keys = columns.keys(resolved)
    loaded = suite_of_gate(resolved.mapping, suite, subject.relations, keys)
    judged = partial(
        judging.judge,
        loaded,
        parameters=subject.numbers(loaded.parameters),
        connection_parameters=target.parameters,
        snapshot=snapshot,
        known=known.counts_of(subject.batch),
    )
    found = judged(batch=subject.short_way or subject.batch)
    if subject.short_way and not all(one.success for one in found.expectations):
        found = judged(batch=subject.batch)
    logger.info(
        "gate %s %s: %d expectations, %d not met",
        suite,
        "passed" if found.passed else "refused",
        len(found.expectations),
        len(found.failed),
    )
    return found, subject


def default_locations(
    target: Target, mapping: StockMapping, claim: control.Claim, start: Start
) -> dict[str, Any]:
    """Give every company exactly one default location; see `plan.prepare_locations`."""
    migration = plan.prepare_locations(target.engine, mapping, claim, start)
    return _summary(target, mapping, migration, changed=migration is not None)


def transformed_stock(
    target: Target,
    mapping: StockMapping,
    claim: control.Claim,
    start: Start,
    *,
    stop_after: str | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Give every stock record its default location; see `phases.transform_stock`."""
    migration = phases.transform_stock(
        target.engine,
        mapping,
        claim,
        start,
        stop_after=stop_after,
        workers=workers,
    )
    return _summary(target, mapping, migration, changed=migration is not None)


def reconciliation_report(
    target: Target,
    mapping: StockMapping,
    claim: control.Claim,
    start: Start,
    *,
    workers: int | None = None,
) -> tuple[dict[str, Any], proof.Proof]:
    """Sweep, prove and close; see `reconcile.reconcile`."""
    found = reconcile.reconcile(target.engine, mapping, claim, start, workers=workers)
    if found.changed and found.proof.passed:
        _observe(target, mapping)
    return _summary(target, mapping, found.migration, changed=found.changed), found.proof


def run(
    target: Target,
    mapping: StockMapping,
    start: Start | None = None,
    *,
    stop_after: str | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """All four steps with their gates, in this process and without Dagster.

    Raises:
        GateRefused: A gate did not pass; names the expectation that failed.
        MigrationFailed: The proof found a difference.
        MappingInvalid: The mapping does not fit the database, or has no phase `stop_after`.
        TargetTaken: A migration of another mapping stands there.
    """
    start = start or Start(explicit=True)
    phases.require_phase(mapping, stop_after)
    if start.rewrite:
        rewrite_refusals.refuse_options(
            mapping,
            maintenance_window=start.maintenance_window,
            stop_after=stop_after,
            max_rows_per_second=start.max_rows_per_second,
            retry=start.retry is not None,
        )
    with delivering(target.engine, mapping), control.Claim(target.engine) as claim:
        audit_profile(target, mapping, claim, run_id=start.run_id)
        _pass(target, mapping, "audit_profile", start)
        default_locations(target, mapping, claim, start)
        # What it was for is kept with it from here on.
        start = replace(start, retry=None)
        _pass(target, mapping, "default_locations", start)
        transformed_stock(target, mapping, claim, start, stop_after=stop_after, workers=workers)
        _pass(target, mapping, "transformed_stock", start)
        found, proved = reconciliation_report(target, mapping, claim, start, workers=workers)
        _pass(target, mapping, "reconciliation_report", start)
    if not proved.passed:
        raise MigrationFailed(
            mapping=mapping.name,
            migration_id=found["migration_id"],
            reason=proof.unexplained_text(proved.unexplained),
        )
    return found


def test(target: Target, mapping: StockMapping) -> dict[str, Any]:
    """What a run would do and whether its first gate would let it; writes nothing at all.

    Raises:
        MappingInvalid: The mapping does not fit the database, so that no gate lets it run.
        TargetTaken: A migration of another mapping stands there.
    """
    with one_moment(target) as (connection, snapshot):
        resolved = resolve(connection, mapping)
        _refuse(connection, resolved)
        verdict = verdict_at(target, connection, snapshot, resolved, "audit_profile")
        predicted = prediction.predict(connection, resolved)
        left = predicted["records"]["skipped"] + predicted["records"]["quarantined"]
        predicted["rewrite"] = rewrite_refusals.outlook(connection, resolved, left)
    predicted["gate"] = _gate(verdict)
    if mapping.locations.create is None and predicted["companies_without_default_location"]:
        predicted["gate"]["passed"] = False
        predicted["gate"]["failed"].append(
            {
                "key": "default-location-present",
                "observed": f"{len(predicted['companies_without_default_location'])} companies "
                "without a default location, which the mapping may not create",
                "sample": predicted["companies_without_default_location"][:20],
            }
        )
    return predicted


def validate(target: Target, mapping: StockMapping) -> dict[str, Any]:
    """The gates of what was written and the two-way proof, as of now; writes nothing.

    Raises:
        MappingInvalid: The mapping does not fit the database, so that nothing can be proved by it.
    """
    with one_moment(target) as (connection, _):
        resolved = resolve(connection, mapping)
        joins.refuse_unfaithful(connection, resolved)
        migration = ledger.current(connection, mapping.name)
        proved = proof.prove(connection, resolved, migration)
        as_of = proved.as_of.isoformat()
        figures = standing.standing(connection, resolved, migration)
        purged = (
            archived.purged_migrations(connection, mapping.name)
            if ledger.installed(connection)
            else []
        )
    judged = {
        suite: _gate(judge(target, mapping, suite, keep=False))
        for suite in ("transformed_stock", "reconciliation_report")
        if migration is not None
    }
    return {
        "migration_id": migration.migration_id if migration else None,
        "mapping": mapping.name,
        "passed": proved.passed and all(gate["passed"] for gate in judged.values()),
        "as_of": as_of,
        "archived": [
            {"migration_id": one.migration_id, "path": one.path}
            for one in purged
            if one.state == "verified"
        ],
        **figures,
        "differences": [
            {
                "kind": difference.kind,
                "explained": difference.explained,
                "records": difference.records,
                "sample": difference.sample,
            }
            for difference in proved.differences
        ],
        "gates": judged,
    }


def roll_back(
    target: Target,
    mapping: StockMapping,
    *,
    migration_id: int | None = None,
    scope: Scope = WHOLE,
    reason: str = "asked to",
    workers: int | None = None,
) -> dict[str, Any]:
    """Undo a mapping's migrations, newest first, or one by id; see `rollback.roll_back`.

    Returns:
        The summary, and what was listed on the way; see `trail.undone`.
    """
    with delivering(target.engine, mapping), control.Claim(target.engine) as claim:
        undone = rollback.roll_back(
            target.engine,
            mapping,
            claim,
            migration_id=migration_id,
            scope=scope,
            reason=reason,
            workers=workers,
        )
    found = _summary(target, mapping, undone[-1] if undone else None, changed=bool(undone))
    with target.reader.connect() as connection:
        listed = trail.undone(connection, undone, scope)
    return {**found, **listed}


def migrate_existing_stock_to_default_location(
    mapping: str | StockMapping = "stock_items", *, database_url: str | None = None
) -> dict[str, Any]:
    """Move all existing stock of each company to its default location, gated and proved.

    Args:
        mapping: A mapping or the name of one.
        database_url: Any libpq URL; by default `$INVENTORY_DATABASE_URL` or the embedded server.

    Returns:
        The summary that `inventory-migration run --json` prints.

    Raises:
        MigrationError: See its subclasses; nothing uncommitted is left behind.
    """
    return run(open_target(database_url), _mapping(mapping))


def create_default_warehouse_per_company(
    mapping: str | StockMapping = "stock_items", *, database_url: str | None = None
) -> list[dict[str, Any]]:
    """Give every company exactly one default warehouse, and stop before any stock is moved.

    Args:
        mapping: A mapping or the name of one.
        database_url: Any libpq URL; by default `$INVENTORY_DATABASE_URL` or the embedded server.

    Returns:
        One entry per company: company_key, company_name, location_key, created.
    """
    target, found = open_target(database_url), _mapping(mapping)
    start = Start(explicit=True)
    with control.Claim(target.engine) as claim:
        audit_profile(target, found, claim)
        _pass(target, found, "audit_profile", start)
        default_locations(target, found, claim, start)
    with target.reader.connect() as connection:
        migration = ledger.current(connection, found.name)
        rows = connection.execute(
            sa.select(
                ledger.company_location.c.company_key,
                ledger.company_location.c.company_name,
                ledger.company_location.c.location_key,
                ledger.company_location.c.created,
            )
            .where(
                ledger.company_location.c.migration_id
                == (migration.migration_id if migration else None)
            )
            .order_by(ledger.company_location.c.company_name)
        )
        return [dict(row._mapping) for row in rows]


def _observe(target: Target, mapping: StockMapping) -> None:
    """Keep what the stock adds up to now that it is verified, for the monitoring to compare with.

    Not within the proof, which may hold the application's writes; and nothing is less verified for
    the want of it.
    """
    try:
        with one_moment(target) as (connection, _):
            totals = observations.read_totals(connection, resolve(connection, mapping))
        with target.engine.begin() as connection:
            observations.keep(connection, mapping.name, totals, kind="verified")
    except sa.exc.DBAPIError as error:
        logger.warning("what the stock adds up to was not kept: %s", failures.message(error))


def _refuse(connection: sa.Connection, resolved: ResolvedMapping) -> None:
    """Refuse a mapping with which nothing must be written, whatever a gate would say."""
    rivals.refuse_rival(connection, resolved)
    statements.refuse_lack(connection, resolved)
    joins.refuse_unfaithful(connection, resolved)


def _profile(
    connection: sa.Connection, resolved: ResolvedMapping, records: str, along: Sequence[str] = ()
) -> Profile:
    from inventory_migration.audit.involved import named_tables
    from inventory_migration.audit.profile import profile

    return profile(
        connection,
        records,
        canonical.companies(resolved),
        named_tables(resolved),
        net=resolved.mapping.quantity_basis == "net",
        live_sql=canonical.live_rows(resolved),
        keys_are_unique=joins.keep_keys(resolved),
        along=along,
    )


def _pass(target: Target, mapping: StockMapping, suite: str, start: Start) -> None:
    verdict = judge(target, mapping, suite, run_id=start.run_id)
    if not verdict.passed:
        raise GateRefused(mapping=mapping.name, gate=suite, why=f"refused: {verdict.summary()}")


def _gate(verdict: Verdict) -> dict[str, Any]:
    said = verdict.to_json()
    weights = {e.key: e.weight for e in verdict.expectations}

    def unmet(weight: str) -> list[dict[str, Any]]:
        return [e for e in said["expectations"] if weights[e["key"]] == weight]

    return {
        "passed": verdict.passed,
        "expectations": len(verdict.expectations),
        "failed": unmet("critical"),
        "warnings": unmet("warning"),
        "notes": unmet("info"),
    }


def _summary(
    target: Target, mapping: StockMapping, migration: Migration | None, *, changed: bool
) -> dict[str, Any]:
    with target.reader.connect() as connection:
        if migration is None:
            migration = ledger.current(connection, mapping.name)
        else:
            migration = ledger.find(connection, migration_id=migration.migration_id)
        return summary.summarize(connection, migration, mapping=mapping.name, changed=changed)


def _mapping(mapping: str | StockMapping) -> StockMapping:
    return named_mapping(mapping) if isinstance(mapping, str) else mapping
