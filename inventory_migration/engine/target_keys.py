"""Records that would meet on one level: followed from the snapshot into the chunks.

Who meets whom is computed once, over all records, as the snapshot is written (`meetings.py`).
A chunk asks only whether a record that it has locked is named otherwise by now, and looks at all
others for those alone. Where a level holds its record's own key there is nothing to follow.
"""

from __future__ import annotations

from dataclasses import replace

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import quoted
from inventory_migration.engine import canonical, columns, meetings
from inventory_migration.engine.ledger import Migration


def differs(resolved: ResolvedMapping, left: str, right: str) -> str:
    """The condition that two relations name different levels, NULLs included."""
    if not resolved.target_key:
        return "false"
    keys = columns.record_keys(resolved)
    return f"NOT {columns.all_same([f'{left}.{k}' for k in keys], [f'{right}.{k}' for k in keys])}"


def follow_statement(resolved: ResolvedMapping, migration: Migration) -> str:
    """Take over the target keys of locked records that have changed since; returns where.

    What is written of a record is from then on what its snapshot row says.
    """
    keys = columns.record_keys(resolved)
    values = zip(columns.record_values(resolved), keys, strict=True)
    own = zip(resolved.key_columns, columns.keys(resolved), strict=True)
    return f"""
        UPDATE {migration.snapshot} AS p SET
            {", ".join(f"{key} = n.{key}" for key in keys)}, shared_with = 0, shared_key = NULL
        FROM (SELECT {", ".join(f"s.{quoted(c.name)} AS {key}" for c, key in own)},
                     {", ".join(f"{value} AS {key}" for value, key in values)}
              FROM {resolved.source.sql} AS s {resolved.mapping.source.joins}) AS n
        WHERE p.chunk = ANY(:im_chunks) AND {columns.same_key(resolved, "p", "n")}
          AND {differs(resolved, "p", "n")}
        RETURNING p.position"""


def meet_statement(resolved: ResolvedMapping, migration: Migration) -> str:
    """Note who meets at the levels that the rows `:im_positions` have come to, for all of them."""
    named = columns.named(resolved)
    live = canonical.source_rows(replace(resolved, target_exists=False), hashed=False)
    rows = f"live AS r JOIN reached AS t ON {columns.same_record(resolved, 't', 'r')}"
    return f"""
        WITH live AS MATERIALIZED (
            SELECT {", ".join(f"r.{name}" for name in named)}, r.key_text, r.skip_reason,
                   w.location_key AS place
            FROM ({live}) AS r
            LEFT JOIN {migration.planned_locations} AS w ON w.company_key = r.company_key),
        reached AS (
            SELECT DISTINCT {", ".join(f"l.{key}" for key in columns.record_keys(resolved))}
            FROM live AS l JOIN {migration.snapshot} AS c ON {columns.same_key(resolved, "c", "l")}
            WHERE c.position = ANY(:im_positions)),
        met AS MATERIALIZED ({meetings.meetings(resolved, rows, ["r.place"])}),
        shared AS (
            SELECT r.*, {meetings.SHARED}
            FROM live AS r JOIN met AS im_m ON {meetings.meets(resolved, ["r.place"])})
        UPDATE {migration.snapshot} AS p
        SET shared_with = m.shared_with, shared_key = m.shared_key
        FROM shared AS m
        WHERE {columns.same_key(resolved, "p", "m")}
          AND {columns.same_record(resolved, "p", "m")}
          AND p.shared_with <> m.shared_with"""
