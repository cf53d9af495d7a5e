"""What an audit has just seen, kept for the gate that judges it, as long as nobody has written.

Whether a company has an item twice is dear to ask, and profile and gate both do. Of what is there
twice a gate needs the records; that there is nothing it may take over.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import gates, ledger, untouched

SUITE = "audit_profile"
"""The gate for which it is kept."""

KEPT_AS = "no_copies"
"""Its name in the entry of the gate."""


def keep_no_copies(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    before: dict[str, Any] | None,
    records: int,
    *,
    run_id: str | None = None,
) -> None:
    """Keep that no company has an item twice, for the gate, which has yet to judge.

    Args:
        connection: A connection to the ledger.
        resolved: The mapping and its types.
        before: What `untouched.note_before` has said of the moment that was looked at.
        records: How many records there were.
        run_id: The Dagster run that has looked.
    """
    if before is not None:
        seen = {KEPT_AS: {**before, "records": records}}
        gates.open_gate(connection, resolved, SUITE, run_id=run_id, seen=seen)


def has_no_copies(connection: sa.Connection, resolved: ResolvedMapping) -> bool:
    """Whether no company has an item twice, as is known since; False where that is to be asked."""
    if not ledger.installed(connection):
        return False
    newest = gates.latest(connection, resolved.mapping.name, SUITE)
    if newest is None or newest.mapping_hash != resolved.mapping.hash:
        return False
    then: dict[str, Any] | None = (newest.verdict or {}).get(KEPT_AS)
    return then is not None and untouched.still(connection, resolved, then)
