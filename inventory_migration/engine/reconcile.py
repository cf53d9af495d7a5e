"""The last step: sweep until nothing arrives late, prove, and say whether it is verified.

The sweep that finds nothing and the proof look at one moment. The verdict is "as of" that moment:
only a trigger takes care of what comes after it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import (
    control,
    gates,
    guard,
    hooks,
    joins,
    ledger,
    phases,
    plan,
    proof,
    scans,
    schema_change,
    sweep,
    sync,
    untouched,
    verification,
    write_stop,
)
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.patience import patiently
from inventory_migration.engine.plan import Start
from inventory_migration.engine.proof import Difference, Proof
from inventory_migration.errors import GateRefused, MigrationFailed, VerdictNotFinal
from inventory_migration.mapping import StockLevel, StockMapping

logger = logging.getLogger(__name__)

MOST_SWEEPS = 5


@dataclass(frozen=True)
class Reconciled:
    """What the last step found; `migration` is None where nothing was ever migrated."""

    migration: Migration | None
    proof: Proof
    changed: bool


def reconcile(
    engine: sa.Engine,
    mapping: StockMapping,
    claim: control.Claim,
    start: Start,
    *,
    workers: int | None = None,
) -> Reconciled:
    """Sweep, prove and close the active migration; where none is active, prove the last one again.

    Raises:
        GateRefused: The gate of the transformed stock has not passed or is stale, or nothing moved.
        VerdictNotFinal: What the application writes next would make the verdict untrue.
        MappingInvalid: The mapping's joins lose or multiply a record by now.
    """
    resolved = plan.read_mapping(engine, mapping)
    claim.take(resolved.target)
    with engine.connect() as connection:
        gates.require(connection, resolved, "transformed_stock")
        active = ledger.find(connection, target=resolved.target, states=ledger.ACTIVE)
    if active is None:
        with engine.connect() as connection:
            migration = ledger.find(connection, mapping=mapping.name, states=("verified",))
            under_trigger = sync.keeps_in_step(connection, resolved)
        if migration is not None and start.write_stop and under_trigger:
            return Reconciled(migration, _cut_over(engine, resolved, migration), True)
        with engine.connect() as connection:
            return Reconciled(migration, proof.prove(connection, resolved, migration), False)
    migration = plan.open_migration(engine, resolved, start) or active
    with engine.connect() as connection:
        if not ledger.snapshot_exists(connection, migration):
            why = "judged a migration that has moved nothing yet"
            raise GateRefused(mapping=mapping.name, gate="transformed_stock", why=why)
    again = partial(patiently, tries=mapping.thresholds.failed_attempts)
    again(partial(phases.set_running, engine, migration))
    if not start.write_stop:
        unswept = again(partial(_close_unswept, engine, resolved, migration, start))
        if unswept is not None:
            return Reconciled(migration, unswept, True)
    for _ in range(MOST_SWEEPS):
        # Under a write stop a last pass follows that no writer can be older than.
        late = partial(sweep.sweep, engine, resolved, migration, drain=not start.write_stop)
        if again(late) == 0:
            break
        phases.work(engine, resolved, migration, start, workers=workers)
    with engine.begin() as connection:
        gates.open_gate(connection, resolved, "reconciliation_report", run_id=start.run_id)
    found = again(partial(_close, engine, resolved, migration, start))
    return Reconciled(migration, found, True)


def _close(
    engine: sa.Engine, resolved: ResolvedMapping, migration: Migration, start: Start
) -> Proof:
    """Prove, and keep the totals and the verdict with the migration.

    Raises:
        VerdictNotFinal: What the application writes next would make the verdict untrue.
        WritersActive: A write stop was declared, and somebody still writes.
    """
    with control.exclusive(engine, migration.migration_id, wanted="run") as connection:
        control.durably(connection)
        scans.with_room(connection)
        stopped: list[str] = []
        if start.write_stop:
            stopped = write_stop.stop_writes(connection, resolved)
        # A record that a join loses by now would look like one that the application has deleted.
        joins.refuse_unfaithful(connection, resolved)
        proved = sweep.proved(connection, resolved, migration) if stopped else None
        if stopped and proved is None:
            write_stop.delta_pass(connection, resolved, migration)
        ledger.set_state(connection, migration.migration_id, "verifying")
        before = untouched.note_before(connection, resolved)
        found = proved or proof.prove(connection, resolved, migration)
        verdict = _note_verdict(
            connection, resolved, migration, start, found, before=before, stopped=stopped
        )
    _tell(engine, resolved, migration, verdict)
    return found


def _close_unswept(
    engine: sa.Engine, resolved: ResolvedMapping, migration: Migration, start: Start
) -> Proof | None:
    """Close at once where nobody has written since all was compared; None where anybody has.

    There is nothing to sweep up then, nor to prove anew.

    Raises:
        VerdictNotFinal: What the application writes next would make the verdict untrue.
    """
    schema_change.wait_for_older_writers(engine, resolved)
    with control.exclusive(engine, migration.migration_id, wanted="run") as connection:
        control.durably(connection)
        scans.with_room(connection)
        before = untouched.note_before(connection, resolved)
        found = sweep.proved(connection, resolved, migration)
        if found is None:
            return None
        ledger.set_state(connection, migration.migration_id, "verifying")
        gates.open_gate(connection, resolved, "reconciliation_report", run_id=start.run_id)
        verdict = _note_verdict(connection, resolved, migration, start, found, before=before)
    _tell(engine, resolved, migration, verdict)
    return found


@dataclass(frozen=True)
class _Verdict:
    """What a proof comes to: what is wrong, and whether nothing can make it untrue."""

    wrong: list[Difference]
    final: bool

    @property
    def reason(self) -> str:
        """What is wrong, for whoever has to know."""
        return f"verification: {proof.unexplained_text(self.wrong)}"


def _note_verdict(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    start: Start,
    found: Proof,
    *,
    before: dict[str, Any] | None,
    stopped: Sequence[str] = (),
) -> _Verdict:
    """Keep the totals and the verdict with the migration, and the state that follows from it."""
    _note_totals(connection, migration, found)
    basis = _basis(connection, resolved, start)
    final = basis != "moment" or not isinstance(resolved.mapping.target, StockLevel)
    verdict = _Verdict([d for d in found.unexplained if final or d.kind not in _MENDED], final)
    ledger.note(
        connection,
        "verdict",
        migration_id=migration.migration_id,
        rests_on=basis,
        tables=stopped or None,
        before=before if untouched.says_enough(found) else None,
    )
    if verdict.wrong:
        verification.fail(connection, migration, verdict.reason)
        ledger.set_state(connection, migration.migration_id, "failed", reason=verdict.reason)
    elif not final:
        control.desire(connection, migration.migration_id, "pause", reason=_NOT_FINAL)
        ledger.set_state(connection, migration.migration_id, "paused", reason=_NOT_FINAL)
    else:
        verification.passed(connection, migration)
        ledger.set_state(connection, migration.migration_id, "verified")
        if start.write_stop and sync.wanted(resolved):
            _end_trigger(connection, resolved, migration)
    return verdict


def _tell(
    engine: sa.Engine, resolved: ResolvedMapping, migration: Migration, verdict: _Verdict
) -> None:
    """Tell of a verdict that is kept: what is wrong, or that it is not final.

    Raises:
        VerdictNotFinal: What the application writes next would make the verdict untrue.
    """
    if verdict.wrong and verdict.final:
        hooks.tell(
            engine,
            resolved.mapping,
            migration,
            "verification",
            reason=verdict.reason,
            action="stop",
        )
    if not verdict.wrong and not verdict.final:
        raise VerdictNotFinal(
            mapping=migration.mapping, migration_id=migration.migration_id, reason=_NOT_FINAL
        )


def _cut_over(engine: sa.Engine, resolved: ResolvedMapping, migration: Migration) -> Proof:
    """Prove a verified migration once more while writes rest, and end the trigger.

    Raises:
        WritersActive: Somebody still writes.
        MigrationFailed: Something differs; the trigger stays.
    """
    with control.exclusive(engine, migration.migration_id, wanted="run") as connection:
        control.durably(connection)
        tables = write_stop.stop_writes(connection, resolved)
        sync.refresh(connection, resolved)
        found = proof.prove(connection, resolved, migration)
        if not found.passed:
            verification.fail(connection, migration, proof.unexplained_text(found.unexplained))
        else:
            verification.passed(connection, migration)
            ledger.note(
                connection,
                "verdict",
                migration_id=migration.migration_id,
                rests_on="write_stop",
                tables=tables,
            )
            _end_trigger(connection, resolved, migration)
            return found
    raise MigrationFailed(
        mapping=migration.mapping,
        migration_id=migration.migration_id,
        reason=f"it was not cut over: {proof.unexplained_text(found.unexplained)}",
    )


def _end_trigger(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> None:
    """From here on the application writes levels itself."""
    for statement in (sync.drop_trigger(resolved), sync.drop_own(resolved)):
        connection.execute(sa.text(escaped(statement)))
    ledger.note(connection, "cut_over", migration_id=migration.migration_id)


def _basis(connection: sa.Connection, resolved: ResolvedMapping, start: Start) -> str:
    """What makes a verdict hold: a write stop, a trigger, or only its moment."""
    if start.write_stop:
        return "write_stop"
    if isinstance(resolved.mapping.target, StockLevel):
        return "sync_trigger" if sync.keeps_in_step(connection, resolved) else "moment"
    return "guard" if guard.installed(connection, resolved) else "moment"


_NOT_FINAL = (
    "every record is accounted for as of this moment, but the verdict is not final, since what the "
    "application writes to its records does not reach their levels: stop its writes and resume "
    "with --write-stop"
)

# What the application does while it writes, and the pass under a write stop puts right.
_MENDED = {"target_outdated", "target_orphaned", "target_key_changed"}


def _note_totals(connection: sa.Connection, migration: Migration, found: Proof) -> None:
    """Keep what the records hold now, and what the application changed of it since the snapshot."""
    totals = {"units_after": "units", "reserved_after": "reserved"}
    totals |= {name: name for name in ("units_changed", "reserved_changed")}
    connection.execute(
        sa.update(ledger.migration)
        .where(ledger.migration.c.migration_id == migration.migration_id)
        .values({column: found.totals[name] for column, name in totals.items()})
    )
