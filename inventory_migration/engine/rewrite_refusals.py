"""What stands against a rewrite of the source table, and what one costs: asked, never changed.

Everything that stands against it is told at once, before anything is written; what of it can change
meanwhile is asked again under the lock. The rewrite itself is in `rewrite.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import columns, ledger
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.measures import MEASURES, MEGABYTE, MONITORING, Meter
from inventory_migration.errors import RewriteRefused
from inventory_migration.mapping import Expression, StockMapping
from inventory_migration.mapping.health import Floor

REWRITTEN = "rewritten"
"""The event of a rewrite that has been committed, with what it took."""

BYTES_PER_SECOND = 20 * MEGABYTE
"""What a small machine rewrites of a table; only used where no rewrite has been measured here."""

MOST_LEFT = 100_000
"""How many records may stay as they are: a rewrite carries their keys in its text."""


@dataclass(frozen=True)
class Cost:
    """What a rewrite takes, as far as it can be told beforehand.

    Attributes:
        lock_seconds: How long nobody may use the table; a guess from its size.
        measured: Whether an earlier rewrite of this database says so, and no small machine.
        disk_bytes: What the table takes a second time, with its indexes; its WAL comes on top.
        free_bytes: What is free there; None where that cannot be seen.
    """

    lock_seconds: float
    measured: bool
    disk_bytes: int
    free_bytes: int | None


def refuse_options(
    mapping: StockMapping,
    *,
    maintenance_window: bool,
    stop_after: str | None = None,
    max_rows_per_second: int | None = None,
    retry: bool = False,
) -> None:
    """Refuse what cannot be asked together with a rewrite.

    Raises:
        RewriteRefused: With everything that is too much or missing.
    """
    reasons = list(of_mapping(mapping))
    if not maintenance_window:
        reasons.append(
            "nobody can use the table meanwhile, so that it is for a maintenance window only: "
            "say --window as well"
        )
    if stop_after is not None:
        reasons.append(f"all phases go at once, and it cannot stop after {stop_after}")
    if max_rows_per_second is not None:
        reasons.append("it is one statement, which no number of rows per second slows down")
    if retry:
        reasons.append("records of the quarantine are few, and are tried again in chunks")
    if reasons:
        raise RewriteRefused(mapping=mapping.name, reasons=reasons)


def of_mapping(mapping: StockMapping) -> Iterator[str]:
    """What in a mapping stands against a rewrite, whatever the database is like."""
    if mapping.target.shape != "location_column":
        yield (
            f"its target is a {mapping.target.shape}, and only a location_column can be written "
            "from the record's row alone"
        )
    if not isinstance(mapping.source.company, str):
        yield "the company of a record is no column of its table, by which a location is looked up"
    for column, value in mapping.touch.items():
        if isinstance(value, Expression) and _READS.search(value.sql):
            yield f"touch.{column} reads other columns or tables, which a rewrite cannot"
    if mapping.thresholds.chunk_seconds is not None:
        yield "thresholds.chunk_seconds would measure the whole pass in each chunk; leave it out"


def refuse(
    connection: sa.Connection, resolved: ResolvedMapping, active: Migration | None = None
) -> None:
    """Refuse a table that cannot be rewritten without loss.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        active: The migration that is taken up; one that is rewritten already has nothing to fear.

    Raises:
        RewriteRefused: With everything that stands against it.
    """
    if active is not None and is_rewritten(connection, active.migration_id):
        return
    reasons = [
        *of_mapping(resolved.mapping),
        *of_table(connection, resolved),
        *_of_history(connection, resolved),
        *of_disk(cost(connection, resolved)),
    ]
    if reasons:
        raise RewriteRefused(mapping=resolved.mapping.name, reasons=reasons)


def outlook(
    connection: sa.Connection, resolved: ResolvedMapping, left: int
) -> dict[str, Any] | None:
    """What a rewrite would take and everything that stands against it; None for another shape.

    Args:
        connection: A connection; only read from, and the last thing that is done with it.
        resolved: The mapping and its types.
        left: How many records would be skipped or put aside.
    """
    if resolved.mapping.target.shape != "location_column":
        return None
    found = [*of_mapping(resolved.mapping), *of_table(connection, resolved)]
    if left > MOST_LEFT:
        found.append(too_many_left(left))
    found += _of_history(connection, resolved)
    told = cost(connection, resolved)
    return {
        "refused": [*found, *of_disk(told)],
        "table": resolved.source.full_name,
        "lock_seconds": round(told.lock_seconds, 1),
        "measured": told.measured,
        "disk_bytes": told.disk_bytes,
        "free_bytes": told.free_bytes,
    }


def too_many_left(left: int) -> str:
    """What is said where too many records would stay as they are."""
    return f"{left} records would stay without a location, of which it can leave out {MOST_LEFT}"


def is_rewritten(connection: sa.Connection, migration_id: int) -> bool:
    """Whether a migration has rewritten its table; what comes late goes in chunks."""
    event = ledger.event.c
    return bool(
        connection.execute(
            sa.select(
                sa.exists().where(event.migration_id == migration_id, event.kind == REWRITTEN)
            )
        ).scalar_one()
    )


def of_table(connection: sa.Connection, resolved: ResolvedMapping) -> Iterator[str]:
    """What of the table, its surroundings and the role stands against a rewrite."""
    source, name = resolved.source, resolved.source.full_name
    facts = connection.execute(_FACTS, {"oid": source.oid}).one()
    if facts.partitioned:
        yield f"{name} is partitioned"
    if facts.inherits:
        yield f"{name} is a partition, or inherits from another table"
    if facts.typed:
        yield f"{name} is a typed table, whose columns are those of its type"
    if not facts.owned:
        yield f"the role {resolved.role} is no owner of {name}, as altering it takes"
    if not facts.sees_all:
        yield (
            f"the role {resolved.role} does not see who else has a transaction open, to whom "
            f"{name} would be empty; GRANT {MONITORING} lets it"
        )
    for publication in source.publications:
        yield f"{name} is in publication {publication}, and subscribers do not hear of a rewrite"
    for trigger in source.triggers:
        yield f"trigger {trigger.name} fires for an UPDATE, and would not fire for a rewrite"
    parameters = {"oid": source.oid, "columns": columns.written_columns(resolved)}
    for row in connection.execute(_USERS, parameters):
        yield f"{row.column} is used by {row.what}"
    for row in connection.execute(_ROW_TYPES, {"oid": source.oid}):
        yield f"{row.column} stores rows of {name}"
    for row in connection.execute(_REFERENCES, parameters):
        yield f"the role {resolved.role} lacks REFERENCES on {row.table}, for constraint {row.name}"


def cost(connection: sa.Connection, resolved: ResolvedMapping) -> Cost:
    """What a rewrite would take."""
    size = int(connection.execute(_SIZE, {"oid": resolved.source.oid}).scalar_one())
    rate = None
    if ledger.installed(connection):
        rate = connection.execute(_RATE, {"kind": REWRITTEN}).scalar()
    seconds = size / float(rate or BYTES_PER_SECOND)
    return Cost(seconds, rate is not None, size, _free(connection, resolved.mapping))


def of_disk(told: Cost) -> Iterator[str]:
    """What is said where the disk cannot hold the table twice."""
    if told.free_bytes is not None and told.free_bytes < told.disk_bytes:
        needed, free = told.disk_bytes / MEGABYTE, told.free_bytes / MEGABYTE
        yield (
            f"the table takes {needed:,.0f} MB a second time until it is done, and {free:,.0f} MB "
            "are free beside what WAL may take"
        )


def _of_history(connection: sa.Connection, resolved: ResolvedMapping) -> Iterator[str]:
    """Records that were moved in chunks are known by who wrote their rows last: a rewrite would."""
    if not ledger.installed(connection):
        return
    moved = connection.execute(_MOVED, {"oid": resolved.source.oid}).scalar_one()
    if moved:
        yield (
            f"{moved} records have been moved already, and a rewrite would take from them what "
            "shows that nobody has touched them since; the rest is for chunks"
        )


def _free(connection: sa.Connection, mapping: StockMapping) -> int | None:
    """The bytes that are free where the server has its data, beside what its WAL may grow to."""
    limits: dict[str, Any] = dict.fromkeys(measure.name for measure in MEASURES)
    limits["free_disk_megabytes"] = Floor(hold=0)
    reading = Meter(mapping.health.model_copy(update=limits), 0).read(connection)
    disk = reading["free_disk_megabytes"]
    if disk.value is None:
        return None
    return max(0, int((disk.value - disk.allowance) * MEGABYTE))


# A subquery, or a column by the alias that the source has elsewhere.
_READS = re.compile(r"\bselect\b|\bs\s*\.", re.IGNORECASE)

_FACTS = sa.text("""
    SELECT c.relkind = 'p' AS partitioned,
           c.relispartition OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
               AS inherits,
           c.reloftype <> 0 AS typed, pg_has_role(c.relowner, 'USAGE') AS owned,
           pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all
    FROM pg_class c WHERE c.oid = :oid
""")

_SIZE = sa.text("SELECT pg_total_relation_size(CAST(CAST(:oid AS oid) AS regclass))")

# What the server would refuse to alter a column for; a default or an index of its own is none.
_USERS = sa.text("""
    SELECT DISTINCT a.attname AS column,
           CASE WHEN r.oid IS NOT NULL AND v.relkind IN ('v', 'm')
                THEN CASE v.relkind WHEN 'v' THEN 'view ' ELSE 'materialized view ' END
                     || CAST(CAST(v.oid AS regclass) AS text)
                ELSE pg_describe_object(d.classid, d.objid, d.objsubid) END AS what
    FROM pg_depend d
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    LEFT JOIN pg_rewrite r ON d.classid = CAST('pg_rewrite' AS regclass) AND r.oid = d.objid
    LEFT JOIN pg_class v ON v.oid = r.ev_class
    LEFT JOIN pg_attrdef f ON d.classid = CAST('pg_attrdef' AS regclass) AND f.oid = d.objid
    WHERE d.refclassid = CAST('pg_class' AS regclass) AND d.refobjid = :oid
      AND a.attname = ANY(CAST(:columns AS text[]))
      AND (d.classid IN (CAST('pg_rewrite' AS regclass), CAST('pg_policy' AS regclass),
                         CAST('pg_trigger' AS regclass), CAST('pg_proc' AS regclass))
           OR f.oid IS NOT NULL AND (f.adrelid, f.adnum) <> (d.refobjid, a.attnum)
           OR EXISTS (SELECT FROM pg_attribute g
                      WHERE d.classid = CAST('pg_class' AS regclass) AND g.attrelid = d.objid
                        AND g.attnum = d.objsubid AND g.attgenerated <> ''))
    ORDER BY 1, 2
""")

_ROW_TYPES = sa.text("""
    SELECT CAST(CAST(c.oid AS regclass) AS text) || '.' || a.attname AS column
    FROM pg_class t
    JOIN pg_type y ON y.oid = t.reltype
    JOIN pg_attribute a ON a.atttypid IN (y.oid, y.typarray) AND NOT a.attisdropped
    JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'm')
    WHERE t.oid = :oid ORDER BY 1
""")

# The constraint is made anew, as its owner could not without the right to.
_REFERENCES = sa.text("""
    SELECT CAST(CAST(k.confrelid AS regclass) AS text) AS table, k.conname AS name
    FROM pg_constraint k
    WHERE k.contype = 'f' AND k.conrelid = :oid
      AND EXISTS (SELECT FROM pg_attribute a
                  WHERE a.attrelid = k.conrelid AND a.attnum = ANY(k.conkey)
                    AND a.attname = ANY(CAST(:columns AS text[])))
      AND NOT has_table_privilege(k.confrelid, 'REFERENCES')
      AND EXISTS (SELECT FROM unnest(k.confkey) AS c(attnum)
                  WHERE NOT has_column_privilege(k.confrelid, c.attnum, 'REFERENCES'))
    ORDER BY 2
""")

_RATE = sa.text(f"""
    SELECT CAST(detail->>'bytes' AS numeric) / NULLIF(CAST(detail->>'seconds' AS numeric), 0)
    FROM {SCHEMA}.event WHERE kind = :kind ORDER BY event_id DESC LIMIT 1
""")

_MOVED = sa.text(f"""
    SELECT CAST(COALESCE(sum(k.migrated), 0) AS bigint)
    FROM {SCHEMA}.migration m JOIN {SCHEMA}.chunk k USING (migration_id)
    WHERE m.source_oid = :oid AND k.state = 'done'
      AND m.definition->'target'->>'shape' <> 'stock_level'
""")
