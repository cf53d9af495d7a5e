"""The statements of the way back: what of a snapshot is ours, how it stands now, and its undoing.

Which chunks are undone, in which transactions, and what happens where a statement fails is decided
in `undo_walk.py`.
"""

from __future__ import annotations

from dataclasses import replace

from inventory_migration.catalog import ResolvedMapping, literal
from inventory_migration.engine import canonical, chunk, columns, retries, sync
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.shapes import shape_of


def mine(resolved: ResolvedMapping, migration: Migration, *, only: str) -> str:
    """The migrated snapshot rows with what we wrote, by whom: what a shape's `undo` works on.

    Args:
        resolved: The mapping and its types.
        migration: Whose snapshot.
        only: Condition over the snapshot row `p` and the chunk `k`.
    """
    shape = shape_of(resolved)
    keys = ", ".join(f"p.{key}" for key in columns.keys(resolved))
    before = ", ".join(f"p.{name}" for name in columns.before_columns(resolved).values())
    values = shape.written(migration.planned_locations, snapshot="p", after_image="i", chunk="k")
    named = columns.targets(resolved, "written")
    written = ", ".join(f"{v} AS {n}" for v, n in zip(values, named, strict=True))
    live = ""
    if sync.wanted(resolved):
        # What our trigger has written since follows from the record as it is now.
        now = shape.values(location=values[0], quantity="n.quantity", reserved="n.reserved", at="")
        names = columns.targets(resolved, "live")
        written += "".join(f", {v} AS {n}" for v, n in zip(now, names, strict=True))
        rows = canonical.source_rows(replace(resolved, target_exists=False))
        live = f"LEFT JOIN ({rows}) AS n ON {columns.same_key(resolved, 'n', 'p')}"
    return f"""
        SELECT p.position, p.chunk, {keys}, {before}, k.xid, g.row_hash AS image, {written}
        FROM {migration.snapshot} AS p
        JOIN {SCHEMA}.chunk AS k ON k.migration_id = :im_migration_id AND k.number = p.chunk
        LEFT JOIN {SCHEMA}.outcome AS o
          ON o.migration_id = :im_migration_id AND o.position = p.position
        LEFT JOIN {SCHEMA}.after_image AS i
          ON i.migration_id = :im_migration_id AND i.position = p.position
        LEFT JOIN {SCHEMA}.level_image AS g
          ON g.migration_id = :im_migration_id AND g.position = p.position {live}
        WHERE {only} AND o.position IS NULL"""


def standing(resolved: ResolvedMapping) -> str:
    """How the records of the relation `mine` stand now: what was written, what is found.

    `ours`: as we wrote it, so that it goes back. `back`: as it was, so that there is nothing to do.
    `touched`: somebody has written the row since. Neither ours nor back is a conflict.
    """
    shape = shape_of(resolved)
    keys = columns.keys(resolved)
    found, written = columns.targets(resolved, "found"), columns.targets(resolved, "written")
    back = columns.all_same(found, columns.targets(resolved, "before"))
    differing = ", ".join(
        f"CASE WHEN {f} IS DISTINCT FROM {w} THEN {literal(name)} END"
        for name, f, w in zip(shape.held_columns(), found, written, strict=True)
    )
    return f"""
        SELECT position, chunk, {", ".join([*keys, *written])},
               concat_ws(', ', {", ".join(keys)}) AS key_text,
               NULLIF(concat_ws(', ', {differing}), '') AS differing,
               {shape.told("written")} AS written, {shape.told("found")} AS found,
               {shape.ours()} AS ours, {back} AS back,
               row_xmin IS DISTINCT FROM xid AS touched
        FROM ({shape.found()}) AS f"""


def undo_statement(resolved: ResolvedMapping, migration: Migration) -> str:
    """Undo what is ours of chunks, list what is not, and mark the chunks undone."""
    shape = shape_of(resolved)
    sql = f"""
        WITH mine AS MATERIALIZED (
            {mine(resolved, migration, only="p.chunk = ANY(:im_chunks)")}),
        live AS MATERIALIZED ({standing(resolved)}),
        undone AS ({shape.undo()}),
        listed AS (
            INSERT INTO {SCHEMA}.conflict
                (migration_id, position, key_text, kind, columns, ours, found)
            SELECT :im_migration_id, position, key_text,
                   CASE WHEN ours THEN 'touched_since' ELSE 'moved_since' END,
                   differing, written, found
            FROM live
            WHERE NOT back AND (NOT ours OR touched)
            ON CONFLICT (migration_id, position) DO UPDATE
                SET kind = EXCLUDED.kind, columns = EXCLUDED.columns, ours = EXCLUDED.ours,
                    found = EXCLUDED.found),
        reopened AS ({retries.reopen_statement("t.position IN (SELECT position FROM undone)")}),
        counted AS (
            SELECT m.chunk, count(*) AS mine, count(u.position) AS undone,
                   count(*) FILTER (WHERE l.position IS NULL) AS absent,
                   count(*) FILTER (WHERE u.position IS NULL AND l.back) AS back_already,
                   count(*) FILTER (WHERE u.position IS NULL AND NOT l.ours AND NOT l.back)
                       AS kept
            FROM mine AS m
            LEFT JOIN live AS l USING (position)
            LEFT JOIN undone AS u USING (position)
            GROUP BY m.chunk)
        UPDATE {SCHEMA}.chunk AS k SET
            state = 'undone', undoing = false, undo_xid = pg_current_xact_id()::xid::text,
            undone_records = COALESCE(c.undone, 0), kept_records = COALESCE(c.kept, 0)
        FROM unnest(CAST(:im_chunks AS integer[])) AS n(number)
        LEFT JOIN counted AS c ON c.chunk = n.number
        WHERE k.migration_id = :im_migration_id AND k.number = n.number
        RETURNING k.number, COALESCE(c.mine, 0) AS mine, COALESCE(c.undone, 0) AS undone,
                  COALESCE(c.absent, 0) AS absent, COALESCE(c.back_already, 0) AS back_already,
                  COALESCE(c.kept, 0) AS kept"""
    return chunk.parametrised(sql)
