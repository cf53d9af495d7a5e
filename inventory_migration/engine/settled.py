"""Whether a mapping has nothing left to do: a look that costs a fraction of its steps.

What it finds is that a run would change nothing, and that nothing stands where a run would say it
must not. It proves no migration again: that is what `validate` does. What counts as new is said in
`coverage.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import coverage, gates, guard, ledger, untouched

CHECKED = (
    "all four gates have passed for this mapping and these expectations",
    "every company has one default location",
    "every record has been seen by a migration that is verified",
    "none has lost its location, or is at one that is not its company's",
)
"""What holds where nothing is left to do, a clause each."""


def is_settled(
    connection: sa.Connection, resolved: ResolvedMapping, suites: Mapping[str, str]
) -> bool:
    """Whether a run would find nothing to do, and nothing to object to.

    Args:
        connection: A connection that sees one moment; only read from.
        resolved: The mapping and its types.
        suites: What each gate expects by now, as a digest.
    """
    mapping = resolved.mapping
    # What an earlier version has written is brought up to date by whatever writes.
    if not ledger.is_up_to_date(connection):
        return False
    if ledger.find(connection, target=resolved.target, states=ledger.ACTIVE) is not None:
        return False
    last = ledger.find(connection, mapping=mapping.name)
    if last is None or (last.state, last.mapping_hash) != ("verified", mapping.hash):
        return False
    if coverage.partly_undone(connection, mapping.name) is not None:
        return False
    if guard.wanted(resolved) and not guard.installed(connection, resolved):
        return False
    for suite, digest in suites.items():
        if not gates.has_passed(connection, resolved, suite, digest):
            return False
    covered = coverage.dealt_with(connection, resolved)
    if not coverage.verified(covered) or coverage.count_unplaced_companies(connection, resolved):
        return False
    return untouched.is_as_proved(connection, resolved, last) or not any(
        coverage.left_over(connection, resolved, covered, astray=True)
    )
