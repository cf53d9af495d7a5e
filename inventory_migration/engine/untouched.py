"""Whether anything was written since a proof: asked of the rows' own transactions, in one scan.

A proof notes from which transaction on a row may be one that it has not seen. Where all of a
mapping stands in columns of its tables, and none of their rows is that young, all is as it was
proved. What else a run would look at is in `settled.py`; where this cannot tell, that can.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import coverage, evidence, ledger, unsealed
from inventory_migration.engine.as_planned import is_plain
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.proof import Proof

PLANNED = "snapshot_written"
"""The event of a snapshot, with what has to be known of the moment before."""


def note_before(connection: sa.Connection, resolved: ResolvedMapping) -> dict[str, Any] | None:
    """What has to be known later of the moment before a look; None where it would say nothing."""
    if not is_plain(resolved):
        return None
    return {
        "transaction": connection.execute(
            sa.text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
        ).scalar_one(),
        **evidence.database_fingerprint(connection),
        **_beside(connection, resolved),
    }


def is_as_proved(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> bool:
    """Whether nothing has been written since a migration was verified that a run would look at.

    Args:
        connection: A connection that sees one moment; only read from.
        resolved: The mapping and its types.
        migration: The last one, verified with this mapping.
    """
    then = _noted(connection, migration, "verdict", "before")
    if not then or _put_aside(connection):
        return False
    return _unwritten(connection, resolved, then)


def is_as_planned(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> bool:
    """Whether nothing has been written since the plan that decides about a record of a migration.

    All records must be in its snapshot: of others nobody could say what they were.
    """
    then = _noted(connection, migration, PLANNED, "before")
    if not then or coverage.dealt_with(connection, resolved):
        return False
    mine = ledger.chunk.c.migration_id == migration.migration_id
    planned = connection.execute(sa.select(sa.func.sum(ledger.chunk.c.records)).where(mine))
    return still(connection, resolved, {**then, "records": int(planned.scalar() or 0)})


def still(connection: sa.Connection, resolved: ResolvedMapping, then: dict[str, Any]) -> bool:
    """Whether all records are as in the moment of a note that has their number as `records`."""
    noted = {name: value for name, value in then.items() if name != "records"}
    return _unwritten(connection, resolved, noted, records=then["records"])


def note_checkpoint(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    before: dict[str, Any] | None,
    found: Proof,
) -> dict[str, Any] | None:
    """What a phase's proof says for all of a migration; None where that is less than all.

    Args:
        connection: The transaction of the proof.
        resolved: The mapping and its types.
        migration: The migration.
        before: What `note_before` has said before the proof.
        found: The proof of the phase.
    """
    if before is None or found.differences or not has_one_phase(connection, migration):
        return None
    records = count_records(connection, resolved)
    if records != _count_compared(connection, migration):
        # One has come since the plan, for the sweep to find.
        return None
    return {
        **before,
        "records": records,
        "totals": {name: str(total) for name, total in found.totals.items()},
    }


def note_rewrite(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    before: dict[str, Any] | None,
) -> dict[str, Any] | None:
    """What a rewrite has proved, which has read back all that it wrote under its lock.

    Args:
        connection: The transaction of the rewrite, in which all its chunks are done.
        resolved: The mapping and its types.
        migration: The migration.
        before: What `note_before` has said before any record was looked at.

    Returns:
        The note; None where a record was put aside, or was not as it was planned: what became of
        those is for a proof to say.
    """
    if before is None:
        return None
    found = connection.execute(_REWRITTEN, {"migration_id": migration.migration_id}).one()
    records = count_records(connection, resolved)
    if found.others or found.changed or not records == found.migrated == found.records:
        return None
    return {
        **before,
        "records": records,
        "written_by": found.xid,
        "totals": {
            "units": str(found.units),
            "reserved": str(found.reserved),
            "units_changed": "0",
            "reserved_changed": "0",
        },
    }


def proved_at_checkpoint(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> Proof | None:
    """The proof of a migration's only phase, where nobody has written anything since it.

    All records had been compared, none differed, no row is younger than that, and none is missing:
    to compare them once more would find the same. None where that can not be told.
    """
    then = _noted(connection, migration, "phase_done", "proved")
    then = then or _noted(connection, migration, "rewritten", "proved")
    if not then:
        return None
    mine = ledger.chunk.c.migration_id == migration.migration_id
    left = sa.select(sa.func.count()).where(mine, ledger.chunk.c.state != "done")
    if connection.execute(left).scalar_one() or not has_one_phase(connection, migration):
        return None
    totals = then.pop("totals")
    if not still(connection, resolved, then):
        return None
    # What was compared with may not have changed either.
    if not unsealed.is_unwritten(connection, migration):
        return None
    as_of = connection.execute(sa.text("SELECT statement_timestamp()")).scalar_one()
    return Proof(as_of, [], {name: Decimal(total) for name, total in totals.items()})


def _noted(
    connection: sa.Connection, migration: Migration, kind: str, name: str
) -> dict[str, Any] | None:
    """What the last event of a kind has noted of the moment before a proof."""
    found: dict[str, Any] | None = connection.execute(
        sa.select(ledger.event.c.detail[name])
        .where(ledger.event.c.migration_id == migration.migration_id)
        .where(ledger.event.c.kind == kind)
        .order_by(ledger.event.c.event_id.desc())
        .limit(1)
    ).scalar()
    return found


def has_one_phase(connection: sa.Connection, migration: Migration) -> bool:
    """Whether the proof of one phase is that of all records."""
    mine = ledger.phase.c.migration_id == migration.migration_id
    return connection.execute(sa.select(sa.func.count()).where(mine)).scalar_one() == 1


def _unwritten(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    then: dict[str, Any],
    *,
    records: int | None = None,
) -> bool:
    """Whether no row of the mapping's tables is as young as what `note_before` has noted.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        then: The note.
        records: How many records there have to be; None where any number will do.
    """
    if not is_plain(resolved) or not is_here(connection, then):
        return False
    here = _beside(connection, resolved)
    if any(then[name] != here[name] for name in here):
        return False
    source, *beside = _tables(resolved)
    if (oldest := age_of(connection, then)) is None:
        return False
    young = f"age(t.xmin) <= {oldest}"
    of_records = young
    if (writer := then.get("written_by")) is not None:
        # Who had begun before the rewrite may write after it, and is older than all its rows.
        of_records = f"t.xmin <> '{int(writer)}'::xid8::xid"
    others = " + ".join(f"(SELECT count(*) FROM {table} AS t WHERE {young})" for table in beside)
    row = connection.execute(
        sa.text(
            escaped(f"""
                SELECT records, young + {others} AS young
                FROM (SELECT count(*) AS records, count(*) FILTER (WHERE {of_records}) AS young
                      FROM {source} AS t) AS r
            """)
        )
    ).one()
    return not row.young and (records is None or row.records == records)


def is_here(connection: sa.Connection, then: dict[str, Any]) -> bool:
    """Whether a note is of this database: in no other do its transactions say anything."""
    here = evidence.database_fingerprint(connection)
    return then["system_identifier"] is not None and all(then[name] == here[name] for name in here)


def age_of(connection: sa.Connection, then: dict[str, Any]) -> int | None:
    """The age of the oldest row that a look may not have seen; None where ages tell nothing.

    Args:
        connection: The transaction that is to compare it with the age of rows.
        then: What `note_before` has said of the moment of the look.
    """
    now, oldest = connection.execute(_HOW_OLD, {"since": then["transaction"]}).one()
    return int(oldest) if 0 <= now - int(then["transaction"]) < unsealed.NEARLY_ROUND else None


def says_enough(found: Proof) -> bool:
    """Whether a proof has found no record that no migration has seen."""
    return not any(difference.kind == "arrived_with_location" for difference in found.differences)


def _put_aside(connection: sa.Connection) -> bool:
    """Whether a migration has put a record aside, which may have been mended before the proof."""
    aside = sa.exists().where(ledger.outcome.c.outcome.in_(["quarantined", "skipped"]))
    return bool(connection.execute(sa.select(aside)).scalar_one())


def count_records(connection: sa.Connection, resolved: ResolvedMapping) -> int:
    """How many records there are."""
    counted = sa.text(f"SELECT count(*) FROM {escaped(resolved.source.sql)}")
    return int(connection.execute(counted).scalar_one())


def _count_compared(connection: sa.Connection, migration: Migration) -> int:
    """How many records of a migration's chunks there are still."""
    kept = ledger.chunk.c.records - ledger.chunk.c.reopened - ledger.chunk.c.gone
    mine = ledger.chunk.c.migration_id == migration.migration_id
    return int(connection.execute(sa.select(sa.func.sum(kept)).where(mine)).scalar() or 0)


def _beside(connection: sa.Connection, resolved: ResolvedMapping) -> dict[str, int]:
    """How many rows all tables but the records' have: one deleted leaves no younger row behind."""
    _, *beside = _tables(resolved)
    counts = {table: sa.text(f"SELECT count(*) FROM {escaped(table)}") for table in beside}
    return {table: int(connection.execute(query).scalar_one()) for table, query in counts.items()}


def _tables(resolved: ResolvedMapping) -> list[str]:
    tables = [resolved.source.sql, resolved.company.sql, resolved.locations_sql]
    return [*tables, resolved.levels_sql] if resolved.levels is not None else tables


# Asked by itself, and once: where it is a part of a condition, it is asked of each row.
_HOW_OLD = sa.text("""
    SELECT pg_snapshot_xmax(pg_current_snapshot())::text::numeric AS now,
           age(CAST(CAST(:since AS xid8) AS xid)) AS oldest
""")

_REWRITTEN = sa.text(f"""
    SELECT CAST(pg_current_xact_id() AS text) AS xid,
           COALESCE(sum(records), 0) AS records, COALESCE(sum(migrated), 0) AS migrated,
           COALESCE(sum(units_after), 0) AS units, COALESCE(sum(reserved_after), 0) AS reserved,
           EXISTS (SELECT FROM {SCHEMA}.outcome WHERE migration_id = :migration_id) AS others,
           EXISTS (SELECT FROM {SCHEMA}.after_image WHERE migration_id = :migration_id) AS changed
    FROM {SCHEMA}.chunk WHERE migration_id = :migration_id
""")
