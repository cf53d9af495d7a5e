"""Every record of a snapshot beside its live row, its outcome and what its chunk must have left.

A relation to be added up or judged: what is a difference is said in `proof.py`, what balances in
`balances.py`.
"""

from __future__ import annotations

from dataclasses import replace

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import canonical, columns, places, target_keys
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.scans import FENCE
from inventory_migration.engine.shapes import shape_of


def compared_records(
    resolved: ResolvedMapping,
    migration: Migration,
    phase: int | None = None,
    *,
    looked_through: bool = True,
) -> str:
    """Every snapshot row beside its live row, its outcome and what its chunk must have left.

    Args:
        resolved: The mapping and its types.
        migration: The migration, whose snapshot exists.
        phase: Only the records of one phase.
        looked_through: Whether targets are looked through that are not as they were written, which
            only one process can do. Without it, they name no location, as if it had been lost.
    """
    shape = shape_of(resolved)
    rows = _beside_live(resolved, migration, phase)
    if (reading := shape.reading("a")) is not None:
        told = _told(reading if looked_through else None)
        rows = f"SELECT a.*, {told} FROM ({rows} {FENCE}) AS a {FENCE}"
    # What was migrated counts as its target has it, all else as it stands in the record.
    after, same = ["r.quantity", "r.reserved"], "true"
    if shape.held() is not None:
        held, own = ["r.held_quantity", "r.held_reserved"], after
        after = [
            f"CASE WHEN r.outcome = 'migrated' THEN {theirs} ELSE {ours} END"
            for theirs, ours in zip(held, own, strict=True)
        ]
        same = columns.all_same(held, own)
    belongs = places.belongs(resolved, "w", "r.company_key")
    return f"""
        SELECT r.*, w.location_key IS NOT NULL AS location_found,
               CASE WHEN r.location_key IS NOT NULL THEN COALESCE({belongs}, false) END
                   AS location_own,
               {after[0]} AS quantity_after, {after[1]} AS reserved_after, {same} AS numbers_same
        FROM ({rows}) AS r
        LEFT JOIN ({places.places(resolved)}) AS w
          ON {shape.same_location("w.location_key", "r.location_key")}"""


_MADE_OF = {
    "location_key": "a.location_written",
    "held_quantity": "a.quantity",
    "held_reserved": "a.reserved",
}

_KNOWN = (
    "a.ours AND a.as_written AND a.quantity = a.expected_quantity "
    "AND a.reserved = a.expected_reserved"
)


def _told(reading: tuple[str, str, str] | None) -> str:
    """What the target of a row `a` of `_beside_live` says: looked through where it has to be.

    What nobody has written since, and is as it was written, holds what it was made of.
    """
    return ", ".join(
        f"CASE WHEN {_KNOWN} THEN {of}{f' ELSE {looked}' if looked else ''} END AS {name}"
        for (name, of), looked in zip(_MADE_OF.items(), reading or ("", "", ""), strict=True)
    )


def _beside_live(resolved: ResolvedMapping, migration: Migration, phase: int | None) -> str:
    """The same without what is told by where the target is; unread where that costs much."""
    shape = shape_of(resolved)
    dear = shape.reading("a") is not None
    # Compared as what it is where that is a column; cast once for each chunk, not for each record.
    row_xmin, of_chunk = ("s.xmin", "xid::xid") if shape.in_place else (shape.row_xmin(), "xid")
    live = canonical.source_rows(
        replace(resolved, target_exists=False) if dear else resolved,
        extra=f"{row_xmin} AS row_xmin, {shape.as_targets()}",
    )
    held = [f"l.{name}" for name in columns.targets(resolved, "target")]
    before = [f"p.{name}" for name in columns.targets(resolved, "before")]
    keys = ", ".join(f"p.{key}" for key in columns.keys(resolved))
    planned = migration.planned_locations
    written = shape.written(
        planned,
        snapshot="p",
        after_image="i",
        chunk="k",
        location="im_d.location_key",
        moment="k.moment",
    )
    only = f"WHERE k.phase = {phase}" if phase is not None else ""
    migrated = "COALESCE(o.outcome, 'migrated') = 'migrated'"
    ours = "(l.row_xmin = k.row_xmin) IS TRUE"
    told = "l.location_key, l.held_quantity, l.held_reserved"
    if dear:
        told = (
            "COALESCE(i.location_key, im_d.location_key::text) AS location_written, "
            f"{', '.join(held)}"
        )
    of_another, others = "false", ""
    if resolved.target_key:
        # What was put aside may have the name of a level that another record was given.
        of_another = "im_u.company_key IS NOT NULL"
        names = ", ".join(f"u.{key}" for key in columns.record_keys(resolved))
        others = f"""
        LEFT JOIN (SELECT DISTINCT {names}, u.company_key FROM {migration.snapshot} AS u
                   WHERE NOT EXISTS (SELECT FROM {SCHEMA}.outcome AS v
                                     WHERE v.migration_id = {migration.migration_id}
                                       AND v.position = u.position)) AS im_u
          ON o.outcome IN ('skipped', 'quarantined') AND im_u.company_key = p.company_key
             AND {columns.same_record(resolved, "im_u", "p")}"""
    return f"""
        SELECT p.position, {keys}, {columns.key_text(resolved, "p")} AS key_text,
               k.done, k.undone,
               COALESCE(o.outcome, 'migrated') AS outcome, o.rule,
               l.key_1 IS NOT NULL AS live,
               p.company_key AS company_before, p.item_key AS item_before,
               l.company_key, l.item_key,
               {columns.all_same(held, before)} AS as_before, {told},
               {target_keys.differs(resolved, "p", "l")} AS renamed, {of_another} AS of_another,
               p.quantity AS quantity_before, p.reserved AS reserved_before,
               CASE WHEN i.position IS NOT NULL THEN i.quantity ELSE p.quantity END
                   AS expected_quantity,
               CASE WHEN i.position IS NOT NULL THEN i.reserved ELSE p.reserved END
                   AS expected_reserved,
               COALESCE(i.row_hash, p.row_hash) AS expected_hash,
               l.quantity, l.reserved, l.row_hash, {ours} AS ours,
               CASE WHEN l.key_1 IS NULL THEN true
                    WHEN {migrated} THEN NOT {ours} OR i.position IS NOT NULL
                    ELSE l.row_hash IS DISTINCT FROM p.row_hash END AS changed,
               CASE WHEN {migrated} THEN {columns.all_same(held, written)} END AS as_written
        FROM {migration.snapshot} AS p
        JOIN (SELECT k.*, k.{of_chunk} AS row_xmin, {shape.moment("k.started_at")} AS moment,
                     k.state = 'done' AS done, k.state = 'undone' AS undone
              FROM {SCHEMA}.chunk AS k
              -- A fence: asked once for each chunk.
              WHERE k.migration_id = {migration.migration_id} {FENCE}) AS k
          ON k.number = p.chunk
        LEFT JOIN ({live}) AS l ON {columns.same_key(resolved, "l", "p")}
        LEFT JOIN {SCHEMA}.outcome AS o
          ON o.migration_id = {migration.migration_id} AND o.position = p.position
        LEFT JOIN {SCHEMA}.after_image AS i
          ON i.migration_id = {migration.migration_id} AND i.position = p.position
        LEFT JOIN {planned} AS im_d ON im_d.company_key = p.company_key
        {others}
        {only}"""
