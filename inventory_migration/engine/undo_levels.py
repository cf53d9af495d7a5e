"""The levels that the trigger alone has made, at the end of a rollback: they go, or are listed.

They are of records that no chunk has written, or that were written again behind their undoing. What
is ours of them is decided as for a chunk's, by `undo_statements.py`; the trigger is in `sync.py`.
"""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import canonical, columns, ledger, schema_change, sync
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.parameters import parametrised
from inventory_migration.engine.shapes.stock_level import StockLevel as Shape
from inventory_migration.engine.undo_statements import standing


def take_trigger_away(engine: sa.Engine, resolved: ResolvedMapping, migration: Migration) -> None:
    """End the trigger of levels with the last migration that needs it, and what it alone has made.

    Behind the walk, so that until then what it has written can be told from what the application
    has. The trigger goes first, which waits for every writer of a record: nobody writes one between
    the last look at its level and the end.
    """
    with engine.connect() as connection:
        if not sync.own_levels(connection, resolved):
            return

    def also(connection: sa.Connection) -> None:
        parameters = {"im_migration_id": migration.migration_id}
        written = ledger.snapshot_exists(connection, migration)
        mine = _mine(resolved, migration if written else None)
        connection.execute(sa.text(parametrised(_take(resolved, mine))))
        connection.execute(sa.text(parametrised(_list(resolved, mine))), parameters)
        connection.execute(sa.text(escaped(sync.drop_own(resolved))))

    schema_change.execute_briefly(
        engine,
        [escaped(sync.drop_trigger(resolved))],
        what=f"take the trigger off {resolved.source.name}",
        also=also,
    )


def _mine(resolved: ResolvedMapping, migration: Migration | None) -> str:
    """The levels that are ours still, with what their records say now: as for a chunk's records."""
    shape = Shape(resolved)
    keys = ", ".join(f"y.{key}" for key in columns.keys(resolved))
    behind = f"(SELECT max(position) FROM {migration.snapshot})" if migration else "0"
    values = shape.values(
        location="y.location_key", quantity="c.quantity", reserved="c.reserved", at=""
    )
    named = ", ".join(
        f"{value} AS {name}"
        for prefix in ("written", "live")
        for value, name in zip(values, columns.targets(resolved, prefix), strict=True)
    )
    # Before us there was none.
    kinds = [resolved.location_key_type, *("numeric" for _ in shape.held_columns()[1:])]
    named += "".join(
        f", NULL::{kind} AS {name}"
        for kind, name in zip(kinds, columns.targets(resolved, "before"), strict=True)
    )
    rows = canonical.source_rows(replace(resolved, target_exists=False), hashed=False)
    return f"""
        SELECT COALESCE({behind}, 0) + row_number() OVER (ORDER BY {keys}) AS position,
               NULL::integer AS chunk, {keys}, NULL::text AS xid, y.row_hash AS image,
               {named}
        FROM {shape.own()} AS y
        LEFT JOIN ({rows}) AS c ON {columns.same_key(resolved, "y", "c")}"""


def _take(resolved: ResolvedMapping, mine: str) -> str:
    return f"WITH mine AS MATERIALIZED ({mine}) {Shape(resolved).undo()}"


def _list(resolved: ResolvedMapping, mine: str) -> str:
    """What still stands is kept: somebody has changed it, or does not let it go."""
    return f"""
        WITH mine AS MATERIALIZED ({mine})
        INSERT INTO {SCHEMA}.conflict
            (migration_id, position, key_text, kind, columns, ours, found, reason)
        SELECT :im_migration_id, position, key_text,
               CASE WHEN ours THEN 'refused_by_server' ELSE 'moved_since' END,
               differing, written, found,
               CASE WHEN ours THEN 'a trigger or rule of the application swallowed its removal' END
        FROM ({standing(resolved)}) AS l"""
