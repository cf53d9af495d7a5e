"""Verdicts of gates, kept where every writer must look.

Dagster gates within one run only, so a verdict lives in the ledger with the mapping's hash and with
what it judged. A writing step asks `require` and is refused unless the newest verdict lets it pass.
How a suite is judged does not belong here.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import canonical, ledger
from inventory_migration.errors import GateRefused

SUITES = ("audit_profile", "default_locations", "transformed_stock", "reconciliation_report")


def fingerprint(connection: sa.Connection, resolved: ResolvedMapping, suite: str) -> dict[str, Any]:
    """What a verdict of this suite rests on, so that a later step can see whether it still stands.

    `audit_profile` judges a living table: only its age counts, and what the mapping expects beside
    the suite, which is no part of the mapping's hash. `default_locations` rests on which
    location is whose default; `transformed_stock` on the migration and the work that it has done.
    """
    if suite == "audit_profile":
        said = resolved.mapping.expectations.model_dump(mode="json", exclude_defaults=True)
        return {"expectations": said} if said else {}
    if suite == "default_locations":
        # A record's hash is a sum over its columns, so that the sum over records would not see two
        # companies change places; hashed once more, it does.
        row = connection.execute(
            sa.text(
                "SELECT count(*) AS locations, COALESCE(sum("
                "hashint8extended(hash_record_extended(d, 0), 0)::numeric), 0)::text AS hash "
                "FROM (SELECT location_key, company_key "
                f"FROM ({escaped(canonical.default_locations(resolved))}) AS f) AS d"
            )
        ).one()
        return dict(row._mapping)
    if suite == "transformed_stock" and ledger.installed(connection):
        found = ledger.find(connection, mapping=resolved.mapping.name)
        if found is None:
            return {}
        pending, done = connection.execute(
            sa.select(
                sa.func.count().filter(ledger.chunk.c.state == "pending"),
                sa.func.count().filter(ledger.chunk.c.state == "done"),
            ).where(ledger.chunk.c.migration_id == found.migration_id)
        ).one()
        return {"migration_id": found.migration_id, "pending": pending, "done": done}
    return {}


def open_gate(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    suite: str,
    *,
    run_id: str | None = None,
    seen: dict[str, Any] | None = None,
) -> None:
    """What the suite judges has been made anew: its earlier verdict no longer counts.

    Args:
        connection: A connection to the ledger.
        resolved: The mapping to judge under.
        suite: The suite's name.
        run_id: The Dagster run.
        seen: What is known already of what is to be judged.
    """
    connection.execute(
        sa.insert(ledger.gate).values(
            mapping=resolved.mapping.name,
            mapping_hash=resolved.mapping.hash,
            suite=suite,
            run_id=run_id,
            # Not what JSON calls null.
            verdict=sa.null() if seen is None else seen,
        )
    )


def record(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    suite: str,
    *,
    passed: bool,
    judged: dict[str, Any],
    verdict: dict[str, Any],
    run_id: str | None = None,
) -> None:
    """Keep a verdict.

    Args:
        connection: A connection to the ledger.
        resolved: The mapping judged under.
        suite: The suite's name.
        passed: Whether what lies behind the gate may be written.
        judged: The `fingerprint` taken before judging began.
        verdict: The verdict in full, for the report.
        run_id: The Dagster run that judged.
    """
    connection.execute(
        sa.insert(ledger.gate).values(
            mapping=resolved.mapping.name,
            mapping_hash=resolved.mapping.hash,
            suite=suite,
            passed=passed,
            judged=judged,
            verdict=verdict,
            run_id=run_id,
            judged_at=sa.func.clock_timestamp(),
        )
    )


def note_refusal(
    connection: sa.Connection, resolved: ResolvedMapping, suite: str, reason: str
) -> None:
    """Put into the trail that a gate lets nothing through."""
    active = ledger.find(connection, target=resolved.target, states=ledger.ACTIVE)
    ledger.note(
        connection,
        "gate_refused",
        migration_id=active.migration_id if active else None,
        mapping=resolved.mapping.name,
        suite=suite,
        reason=reason,
    )


def require(connection: sa.Connection, resolved: ResolvedMapping, suite: str) -> None:
    """Refuse unless the newest verdict of this suite lets the next step write.

    Raises:
        GateRefused: There is no verdict, it failed, it is too old, it was given for another version
            of the mapping, or what it judged has changed since.
    """
    mapping = resolved.mapping
    why = _objection(connection, resolved, suite) if ledger.installed(connection) else "never ran"
    if why:
        raise GateRefused(mapping=mapping.name, gate=suite, why=why)


def latest(connection: sa.Connection, mapping: str, suite: str) -> sa.Row[Any] | None:
    """The newest entry of a gate, judged or only opened."""
    return connection.execute(
        sa.select(ledger.gate, (sa.func.clock_timestamp() - ledger.gate.c.judged_at).label("age"))
        .where(ledger.gate.c.mapping == mapping, ledger.gate.c.suite == suite)
        .order_by(ledger.gate.c.gate_id.desc())
        .limit(1)
    ).one_or_none()


def has_passed(
    connection: sa.Connection, resolved: ResolvedMapping, suite: str, digest: str
) -> bool:
    """Whether the newest verdict of a gate let pass, for this mapping and with these expectations.

    However old it is: what is written next is judged anew.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        suite: One of `SUITES`.
        digest: Of what the suite expects by now.
    """
    newest = latest(connection, resolved.mapping.name, suite)
    if newest is None or not newest.passed or newest.mapping_hash != resolved.mapping.hash:
        return False
    if suite == "audit_profile" and newest.judged != fingerprint(connection, resolved, suite):
        return False
    return bool((newest.verdict or {}).get("digest") == digest)


def _objection(connection: sa.Connection, resolved: ResolvedMapping, suite: str) -> str | None:
    mapping = resolved.mapping
    newest = latest(connection, mapping.name, suite)
    if newest is None:
        return "never ran"
    if newest.passed is None:
        return "has not judged what was made since its last verdict"
    if not newest.passed:
        return "refused"
    if newest.mapping_hash != mapping.hash:
        return "judged another version of the mapping"
    if newest.age > timedelta(minutes=mapping.gates.max_age_minutes):
        return f"is older than {mapping.gates.max_age_minutes} minutes"
    if newest.judged != fingerprint(connection, resolved, suite):
        return "is stale: what it judged has changed since"
    return None
