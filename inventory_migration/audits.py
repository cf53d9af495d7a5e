"""The audit as one verb: what is there, what is wrong with it, what hangs on it, at one moment.

How each part is found and how it looks is in `audit/`; who is told of it, in `cli/` and `defs/`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC
from typing import TYPE_CHECKING

import sqlalchemy as sa

from inventory_migration import __version__
from inventory_migration.catalog import resolve
from inventory_migration.database import describe
from inventory_migration.engine import canonical, joins
from inventory_migration.mapping import StockMapping
from inventory_migration.verbs import Target, one_moment, verdict_at

if TYPE_CHECKING:
    from inventory_migration.audit.audit import Audit


def audit(target: Target, mapping: StockMapping, others: Sequence[StockMapping] = ()) -> Audit:
    """Look at an inventory from every side, in one transaction that cannot write.

    It refuses nothing that could still be mended: that is what it is for.

    Args:
        target: The database.
        mapping: The mapping under which to look.
        others: Other mappings of this database, by which a child table may be covered.

    Raises:
        MappingInvalid: The mapping does not fit the database, so that it says of nothing what it
            is, or its joins lose or multiply records.
    """
    from inventory_migration.audit.audit import Audit
    from inventory_migration.audit.dependencies import examine
    from inventory_migration.audit.findings import findings
    from inventory_migration.audit.involved import named_tables, read_tables
    from inventory_migration.audit.profile import profile

    begun = time.monotonic()
    with one_moment(target) as (connection, snapshot):
        resolved = resolve(connection, mapping)
        joins.refuse_unfaithful(connection, resolved)
        moment = connection.execute(_MOMENT).one()
        verdict = verdict_at(target, connection, snapshot, resolved, "audit_profile")
        profiled = profile(
            connection,
            canonical.records(resolved),
            canonical.companies(resolved),
            [*named_tables(resolved), *read_tables(connection, resolved)],
            net=mapping.quantity_basis == "net",
            live_sql=canonical.live_rows(resolved),
            keys_are_unique=joins.keep_keys(resolved),
            detailed=True,
        )
        dependencies = examine(connection, resolved, others=others)
    return Audit(
        mapping=mapping.name,
        mapping_hash=mapping.hash,
        database=describe(target.engine),
        role=moment.role,
        server=moment.server,
        program=__version__,
        as_of=moment.at.astimezone(UTC).isoformat(timespec="seconds"),
        elapsed_seconds=round(time.monotonic() - begun, 3),
        passed=verdict.passed,
        expectations=len(verdict.expectations),
        findings=tuple(findings(verdict, mapping)),
        profile=profiled,
        dependencies=dependencies,
    )


_MOMENT = sa.text("""
    SELECT now() AS at, current_user AS role,
           current_setting('server_version') AS server
""")
