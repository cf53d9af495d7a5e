"""Whether snapshot and table hold the same records, told without putting each beside its row.

Both sides are added up by company, each by itself: how many there are, their numbers, and a hash of
each record with the transaction that was to write it, which rows carry themselves. Where all of
that is the same, every record is there as it was, where its company's default location is. What
differs is not said here, only that something does: `compared.py` puts records beside their rows.
"""

from __future__ import annotations

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import canonical, columns, coverage
from inventory_migration.engine.as_planned import is_plain, standing_locations, writers
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.scans import FENCE
from inventory_migration.engine.shapes import shape_of

_SUMMED = """
            count(*) AS records, COALESCE(sum(quantity), 0) AS units,
            COALESCE(sum(reserved), 0) AS reserved,
            COALESCE(sum(quantity) FILTER (WHERE reserved IS NULL), 0) AS units_alone,
            COALESCE(sum(reserved) FILTER (WHERE quantity IS NULL), 0) AS reserved_alone,
            sum(version) AS versions, count(*) FILTER (WHERE wrong) AS wrong"""


def is_possible(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> bool:
    """Whether rows alone can tell: all records are planned, and written into as they were planned.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        migration: Whose records.
    """
    if not is_plain(resolved) or not shape_of(resolved).in_place:
        return False
    if len(coverage.dealt_with_beside(connection, resolved, migration)) > 1:
        return False
    changed = sa.text(f"""
        SELECT EXISTS (SELECT FROM {SCHEMA}.after_image WHERE migration_id = :migration_id)
    """)
    found = connection.execute(changed, {"migration_id": migration.migration_id})
    return not found.scalar_one()


def by_company(resolved: ResolvedMapping, migration: Migration) -> str:
    """Each company by its key as text: what it had, and whether it has just that.

    Columns: company_key, records, units, reserved, units_alone and reserved_alone (of records whose
    other number is missing), odd: how many of its records may be otherwise; 0 where all are as they
    were. A record that was put aside has to hold what it held.
    """
    return f"""
        SELECT company_key, max(records) AS records, max(units) AS units,
               max(reserved) AS reserved, max(units_alone) AS units_alone,
               max(reserved_alone) AS reserved_alone,
               CASE WHEN count(*) = 2 AND sum(wrong) = 0 AND {_same("records")}
                         AND {_same("units")} AND {_same("reserved")} AND {_same("units_alone")}
                         AND {_same("reserved_alone")} AND {_same("versions")}
                    THEN 0 ELSE GREATEST(max(records), 1) END AS odd
        FROM (SELECT company_key::text AS company_key, {_SUMMED}
              FROM ({_planned(resolved, migration)}) AS im_then GROUP BY im_then.company_key
              UNION ALL
              SELECT company_key::text AS company_key, {_SUMMED}
              FROM ({_live(resolved, migration)}) AS im_now GROUP BY im_now.company_key) AS sides
        GROUP BY company_key"""


def _planned(resolved: ResolvedMapping, migration: Migration) -> str:
    """Each record of the snapshot, as its row has to be by now."""
    aside = "o.position IS NOT NULL"
    held = [f"p.{name}" for name in columns.targets(resolved, "before")]
    return f"""
        SELECT p.company_key, p.quantity, p.reserved,
               {_version("p", f"CASE WHEN {aside} THEN NULL ELSE k.xid END", aside, held)}
                   AS version,
               k.state <> 'done'
                   OR {aside} AND o.outcome NOT IN ('skipped', 'quarantined') AS wrong
        FROM {migration.snapshot} AS p
        JOIN (SELECT k.number, k.state, k.xid::xid AS xid FROM {SCHEMA}.chunk AS k
              -- A fence: asked once for each chunk.
              WHERE k.migration_id = {migration.migration_id} {FENCE}) AS k
          ON k.number = p.chunk
        LEFT JOIN {SCHEMA}.outcome AS o
          ON o.migration_id = {migration.migration_id} AND o.position = p.position"""


def _live(resolved: ResolvedMapping, migration: Migration) -> str:
    """Each live record: as written where one of the migration's transactions has written it."""
    shape = shape_of(resolved)
    rows = canonical.source_rows(resolved, extra=f"s.xmin AS row_xmin, {shape.as_targets()}")
    held = [f"l.{name}" for name in columns.targets(resolved, "target")]
    as_written = shape.holds(
        "l", location="im_d.location_key", quantity="l.quantity", reserved="l.reserved", at="k.at"
    )
    ours = "k.xid IS NOT NULL"
    return f"""
        SELECT l.company_key, l.quantity, l.reserved,
               {_version("l", "k.xid", "k.xid IS NULL", held)} AS version,
               {ours} AND (im_d.location_key IS NULL OR NOT {as_written}) AS wrong
        FROM ({rows}) AS l
        LEFT JOIN ({standing_locations(resolved, migration)}) AS im_d
          ON im_d.company_key = l.company_key
        LEFT JOIN ({writers(migration, f"{shape.moment('min(k.started_at)')} AS at")}) AS k
          ON k.xid = l.row_xmin"""


def _version(row: str, writer: str, aside: str, held: list[str]) -> str:
    """A 64-bit hash of a record, of who wrote it, and of what it holds where it was put aside.

    The hash of a row is the seed of all that goes in. The hash of a record is a sum over its
    columns: two that have changed places in one of them would have the same sum as before.
    """
    told = [f"{row}.{name}" for name in ("item_key", "quantity", "reserved")]
    texts = [f"{column}::text" for column in held]
    kept = f"CASE WHEN {aside} THEN hash_record_extended(ROW({', '.join(texts)}), 0) END"
    return f"hash_record_extended(ROW(0, {', '.join([*told, writer, kept])}), {row}.row_hash)"


def _same(name: str) -> str:
    """Whether both sides have the same sum."""
    return f"min({name}) = max({name})"
