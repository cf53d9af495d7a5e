"""The last step: sweep until nothing arrives late, prove, and say whether it is verified.

The sweep that finds nothing and the proof look at one moment. The verdict is "as of" that moment:
without a guard trigger nothing closes what comes after it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import control, gates, joins, ledger, phases, plan, proof
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.plan import Start
from inventory_migration.engine.proof import Proof
from inventory_migration.engine.sweep import sweep
from inventory_migration.errors import GateRefused
from inventory_migration.mapping import StockMapping

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
    workers: int = 2,
) -> Reconciled:
    """Sweep, prove and close the active migration; where none is active, prove the last one again.

    Raises:
        GateRefused: The gate of the transformed stock has not passed or is stale, or nothing moved.
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
            return Reconciled(migration, proof.prove(connection, resolved, migration), False)
    migration = plan.open_migration(engine, resolved, start) or active
    with engine.connect() as connection:
        if not ledger.snapshot_exists(connection, migration):
            why = "judged a migration that has moved nothing yet"
            raise GateRefused(mapping=mapping.name, gate="transformed_stock", why=why)
    phases.set_running(engine, migration)
    for _ in range(MOST_SWEEPS):
        if sweep(engine, resolved, migration) == 0:
            break
        phases.work(engine, resolved, migration, workers=workers)
    with engine.begin() as connection:
        gates.open_gate(connection, resolved, "reconciliation_report", run_id=start.run_id)
    return Reconciled(migration, _close(engine, resolved, migration), True)


def _close(engine: sa.Engine, resolved: ResolvedMapping, migration: Migration) -> Proof:
    """Prove, and keep the totals and the verdict with the migration."""
    with control.exclusive(engine, migration.migration_id) as connection:
        control.durably(connection)
        # A record that a join loses by now would look like one that the application has deleted.
        joins.refuse_unfaithful(connection, resolved)
        ledger.set_state(connection, migration.migration_id, "verifying")
        found = proof.prove(connection, resolved, migration)
        _note_totals(connection, resolved, migration)
        if found.passed:
            ledger.set_state(connection, migration.migration_id, "verified")
        else:
            ledger.set_state(
                connection,
                migration.migration_id,
                "failed",
                reason=f"verification: {proof.unexplained_text(found.unexplained)}",
            )
    return found


def _note_totals(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> None:
    """Keep what the records hold now, and what the application changed of it since the snapshot."""
    connection.execute(
        sa.text(f"""
            UPDATE {ledger.SCHEMA}.migration SET
                units_after = t.units, reserved_after = t.reserved,
                units_changed = t.units_changed, reserved_changed = t.reserved_changed
            FROM ({escaped(proof.totals(resolved, migration))}) AS t
            WHERE migration_id = :migration_id
        """),
        {"migration_id": migration.migration_id},
    )
