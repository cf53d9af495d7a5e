"""What a profile counts for the gate that judges it: the same records, read once for both.

How a suite's expectations become counts is in `quality/counting.py`; what of them is still true by
the time that the gate judges, in `engine/seen.py`.
"""

from __future__ import annotations

from contextlib import suppress

import sqlalchemy as sa

from inventory_migration.audit import oddities
from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import canonical, columns
from inventory_migration.engine.seen import SUITE
from inventory_migration.errors import MigrationError
from inventory_migration.quality import judging
from inventory_migration.quality.gate_suites import suite_of_gate


def counted_by_gate(
    connection: sa.Connection, resolved: ResolvedMapping
) -> tuple[str, tuple[str, ...]]:
    """The batch `r` of the gate `audit_profile`, and what is counted of it, each as SQL."""
    first = oddities.is_first(connection, resolved)
    batch = oddities.batch_of(canonical.records(resolved), first=first)
    named = dict.fromkeys(("companies", "default_locations", *oddities.RELATIONS), "")
    # What is wrong with a suite is for the gate to say.
    with suppress(MigrationError):
        suite = suite_of_gate(resolved.mapping, SUITE, named, columns.keys(resolved))
        return batch, tuple(judging.counts_of(suite, batch))
    return batch, ()
