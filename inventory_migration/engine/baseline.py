"""What a snapshot adds up to: totals before the move, and how many records each warning concerns.

How a snapshot is written is in `snapshot.py`, what must add up to the same later in `tally.py`.
"""

from __future__ import annotations

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import canonical, columns, copies, rules
from inventory_migration.engine.ledger import SCHEMA, Migration


def note(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    by_chunk: str | None = None,
    unseen: str | None = None,
) -> None:
    """Write the totals before the move, and how many records each warning concerns.

    Written anew when the sweep has added late arrivals: their units are part of what must add up.

    Args:
        connection: The transaction that has written the snapshot.
        resolved: The mapping and its types.
        migration: Whose snapshot.
        by_chunk: A table of `sums` by chunk, where all has just been counted.
        unseen: With which `sums` that was.
    """
    parameters = {"migration_id": migration.migration_id}
    actions = resolved.mapping.rules.actions()
    counted = sums(resolved, unseen)
    added_up = ", ".join(f"sum({name})::numeric AS {name}" for name in counted)
    selected, of = (
        (added_up, by_chunk) if by_chunk else (", ".join(counted.values()), migration.snapshot)
    )
    # Read by itself: the server reads with more than one process only where nothing is written.
    totals = connection.execute(sa.text(f"SELECT {selected} FROM {of}")).one()
    connection.execute(
        sa.text(f"""
            UPDATE {SCHEMA}.migration SET
                companies = (SELECT count(*) FROM {escaped(resolved.company.sql)} AS c),
                snapshot_records = :records, snapshot_units = :units, snapshot_reserved = :reserved
            WHERE migration_id = :migration_id
        """),
        {
            **parameters,
            "records": totals.records or 0,
            "units": totals.units or 0,
            "reserved": totals.reserved or 0,
        },
    )
    warned = {rule: getattr(totals, rule) or 0 for rule in _OF_NUMBERS if rule in counted}
    if actions["item_duplicate"] == "warn":
        live = f"""
            SELECT p.company_key, p.item_key FROM {migration.snapshot} AS p
            WHERE p.skip_reason IS NULL"""
        # What the audit has seen holds for records whose rows it has all seen.
        if _UNSEEN not in counted or totals._mapping[_UNSEEN]:
            warned["item_duplicate"] = copies.copies(connection, live).records
    for rule in resolved.mapping.rules.own:
        if actions[rule] == "warn":
            broken = sa.text(_breaking(resolved, migration, rule))
            warned[rule] = connection.execute(broken).scalar_one()
    _warn(connection, migration, warned)


def sums(resolved: ResolvedMapping, unseen: str | None = None) -> dict[str, str]:
    """What is added up of a snapshot's records: totals, and how many each warning concerns.

    Args:
        resolved: The mapping and its types.
        unseen: Which records `p` may be other than an audit has seen; None where that is not known.
    """
    conditions, actions = rules.conditions(resolved), resolved.mapping.rules.actions()
    may_be = f"count(*) FILTER (WHERE skip_reason IS NULL AND ({unseen})) AS {_UNSEEN}"
    return {
        "records": "count(*) AS records",
        "units": "COALESCE(sum(quantity), 0) AS units",
        "reserved": "COALESCE(sum(reserved), 0) AS reserved",
        **{
            rule: f"count(*) FILTER (WHERE skip_reason IS NULL AND {conditions[rule]}) AS {rule}"
            for rule in _OF_NUMBERS
            if actions[rule] == "warn"
        },
        **({_UNSEEN: may_be} if unseen else {}),
    }


_UNSEEN = "unseen"
"""How many records may have another company or item than an audit has seen."""

_OF_NUMBERS = ("negative_quantity", "reserved_exceeds_quantity")
"""The rules that ask a record's numbers alone."""


def _warn(connection: sa.Connection, migration: Migration, counted: dict[str, int]) -> None:
    """Keep how many records each warning concerns, where there are any."""
    for rule, records in counted.items():
        if records:
            parameters = {"migration_id": migration.migration_id, "rule": rule, "records": records}
            connection.execute(_WARN, parameters)


def _breaking(resolved: ResolvedMapping, migration: Migration, rule: str) -> str:
    """How many records of the snapshot break a rule of the mapping's own, as they stand now."""
    return escaped(f"""
        SELECT count(*) FROM {migration.snapshot} AS p
        JOIN ({canonical.source_rows(resolved)}) AS r ON {columns.same_key(resolved, "r", "p")}
        WHERE r.skip_reason IS NULL AND {rules.conditions(resolved)[rule]}""")


_WARN = sa.text(f"""
    INSERT INTO {SCHEMA}.warning (migration_id, rule, records)
    VALUES (:migration_id, :rule, :records)
    ON CONFLICT (migration_id, rule) DO UPDATE SET records = EXCLUDED.records
""")
