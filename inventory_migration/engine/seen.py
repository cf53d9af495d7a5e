"""What an audit has just seen, kept for the gate that judges it, and for the plan that follows.

Whether a company has an item twice is dear to ask, and so is to count what the rules make of each
record; profile, gate and plan all do. Of what is odd a gate needs the records; numbers it may take
over as long as nobody has written. A plan asks less: a snapshot says of each record which
transaction had written its row, and among rows that the audit has all seen there is no item twice
that it has not seen twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import as_planned, gates, ledger, untouched

SUITE = "audit_profile"
"""The gate for which it is kept."""

KEPT_AS, KEPT_OF = "seen", "seen_of"
"""The names in the entry of the gate: of what was seen, and of the moment that it was seen at."""


@dataclass(frozen=True)
class Seen:
    """What is known of all records.

    Attributes:
        no_copies: Whether no company has an item twice.
        counts: How many records there are of which something holds, by SQL over `r`.
        batch: The hash of the SELECT `r` that was counted.
    """

    no_copies: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    batch: str = ""

    def counts_of(self, batch: str) -> Mapping[str, int]:
        """What was counted of a batch: nothing of another one."""
        return self.counts if hash_of(batch) == self.batch else {}


def hash_of(batch: str) -> str:
    """What a batch is told from another one by."""
    return hashlib.sha256(batch.encode()).hexdigest()


def note_before(connection: sa.Connection, resolved: ResolvedMapping) -> dict[str, Any] | None:
    """What has to be known later of the moment before a look; None where it would say nothing.

    Args:
        connection: The connection that looks, and sees one moment.
        resolved: The mapping and its types.
    """
    before = untouched.note_before(connection, resolved)
    return before and {**before, **_of_table(connection, resolved)}


def keep(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    before: dict[str, Any],
    records: int,
    seen: Seen,
    *,
    run_id: str | None = None,
) -> None:
    """Keep what was seen for the gate, which has yet to judge.

    Args:
        connection: A connection to the ledger.
        resolved: The mapping and its types.
        before: What `note_before` has said of the moment that was looked at.
        records: How many records there were.
        seen: What was seen.
        run_id: The Dagster run that has looked.
    """
    kept = {KEPT_AS: asdict(seen), KEPT_OF: {**before, "records": records}}
    gates.open_gate(connection, resolved, SUITE, run_id=run_id, seen=kept)


def still(connection: sa.Connection, resolved: ResolvedMapping) -> Seen:
    """What was seen and still holds; nothing where somebody has written since."""
    if not ledger.installed(connection):
        return Seen()
    newest = gates.latest(connection, resolved.mapping.name, SUITE)
    if newest is None or newest.mapping_hash != resolved.mapping.hash:
        return Seen()
    kept = newest.verdict or {}
    if KEPT_AS not in kept or not untouched.still(connection, resolved, kept[KEPT_OF]):
        return Seen()
    return Seen(**kept[KEPT_AS])


def unlike_seen(connection: sa.Connection, resolved: ResolvedMapping) -> str | None:
    """Which records of a snapshot `p` may say another company or item than an audit has seen.

    Of none whose row is older than a look that has found no company to have an item twice, as long
    as company and item stand in the row itself: it was there then, as it is.

    Args:
        connection: The transaction that is to write the snapshot: what is asked later may say what
            was seen after it, when something in it was gone.
        resolved: The mapping and its types.

    Returns:
        A condition; None where nothing is known, of no record.
    """
    gate = ledger.gate.c
    then: dict[str, Any] | None = connection.execute(
        sa.select(gate.verdict[KEPT_OF])
        .where(gate.mapping == resolved.mapping.name, gate.suite == SUITE)
        .where(gate.mapping_hash == resolved.mapping.hash)
        .where(gate.verdict[KEPT_AS]["no_copies"].as_boolean())
        .order_by(gate.gate_id.desc())
        .limit(1)
    ).scalar()
    if not then:
        return None
    # Nobody renames a column between this look and the snapshot.
    connection.execute(sa.text(f"LOCK TABLE {escaped(resolved.source.sql)} IN ACCESS SHARE MODE"))
    if not _is_that_table(connection, resolved, then):
        return None
    if not as_planned.is_plain(resolved) or untouched.age_of(connection, then) is None:
        return None
    return f"p.row_version IS NULL OR {is_young('p.row_version', int(then['transaction']))}"


def is_young(transaction: str, since: int) -> str:
    """Whether a transaction is no older than another: by its bytes, which all processes may ask."""
    first = since % 2**32
    last = (first + 2**31 - 1) % 2**32
    how = "BETWEEN" if first < last else "NOT BETWEEN"
    bounds = (first, last) if first < last else (last + 1, first - 1)
    lower, upper = (f"decode('{bound:08x}', 'hex')" for bound in bounds)
    return f"xidsend({transaction}) {how} {lower} AND {upper}"


def _is_that_table(
    connection: sa.Connection, resolved: ResolvedMapping, then: dict[str, Any]
) -> bool:
    """Whether the source is the very table of a note, with the columns that it had."""
    had, here = then.get("columns"), _of_table(connection, resolved)
    if not had or not here["columns"] or then["table"] != here["table"]:
        return False
    # A plan may have added one.
    return had.items() <= here["columns"].items() and untouched.is_here(connection, then)


def _of_table(connection: sa.Connection, resolved: ResolvedMapping) -> dict[str, Any]:
    """Which table the source is, and who has made its columns what they are."""
    oid = resolved.source.oid
    columns = connection.execute(_COLUMNS, {"oid": oid}).scalar_one_or_none()
    return {"table": oid, "columns": columns}


# Columns that are renamed or change their type leave the rows as old as they are, and so does a
# table of rows that becomes a part of another, or what a column is computed of as it is read.
_COLUMNS = sa.text("""
    SELECT CASE WHEN c.relkind = 'r' AND NOT bool_or(a.attgenerated = 'v')
                THEN jsonb_object_agg(a.attname, a.xmin::text) END
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
    WHERE c.oid = :oid AND a.attnum > 0 AND NOT a.attisdropped
    GROUP BY c.oid, c.relkind
""")
