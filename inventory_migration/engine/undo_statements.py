"""The statements of the way back: what of a snapshot is ours, how it stands now, and its undoing.

Which chunks are undone, in which transactions, and what happens where a statement fails is decided
in `undo_walk.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping, literal
from inventory_migration.engine import canonical, chunk_statements, columns, retries, sync
from inventory_migration.engine.chunk import LAST_POSITION, Bad
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.parameters import parametrised
from inventory_migration.engine.shapes import shape_of
from inventory_migration.errors import ControlTotalsDiffer


def mine(
    resolved: ResolvedMapping,
    migration: Migration,
    *,
    only: str,
    number: str = ":im_migration_id",
    own: bool = False,
) -> str:
    """The migrated snapshot rows with what we wrote, by whom: what a shape's `undo` works on.

    Args:
        resolved: The mapping and its types.
        migration: Whose snapshot.
        only: Condition over the snapshot row `p` and the chunk `k`.
        number: The migration's id as SQL, where several migrations meet in one statement.
        own: Whether the table of the levels that are ours is there; see `sync.own_levels`.
    """
    shape = shape_of(resolved)
    keys = ", ".join(f"p.{key}" for key in columns.named(resolved))
    before = ", ".join(f"p.{name}" for name in columns.before_columns(resolved).values())
    values = shape.written(
        migration.planned_locations,
        snapshot="p",
        after_image="i",
        chunk="k",
        location="w.location_key",
    )
    image, live = "g.row_hash", ""
    if own:
        # Our trigger may have made the level anew since, and elsewhere.
        values[0] = f"COALESCE(y.location_key, {values[0]})"
        image = "CASE WHEN y.location_key IS NULL THEN g.row_hash ELSE y.row_hash END"
        live = sync.join_own(resolved, "y", "p")
    named = columns.targets(resolved, "written")
    written = ", ".join(f"{v} AS {n}" for v, n in zip(values, named, strict=True))
    if sync.wanted(resolved):
        # What our trigger has written since follows from the record as it is now.
        now = shape.values(location=values[0], quantity="n.quantity", reserved="n.reserved", at="")
        names = columns.targets(resolved, "live")
        written += "".join(f", {v} AS {n}" for v, n in zip(now, names, strict=True))
        rows = canonical.source_rows(replace(resolved, target_exists=False))
        live += f" LEFT JOIN ({rows}) AS n ON {columns.same_key(resolved, 'n', 'p')}"
    return f"""
        SELECT p.position, p.chunk, {keys}, {before}, k.xid, {image} AS image, {written}
        FROM {migration.snapshot} AS p
        JOIN {SCHEMA}.chunk AS k ON k.migration_id = {number} AND k.number = p.chunk
        LEFT JOIN {SCHEMA}.outcome AS o
          ON o.migration_id = {number} AND o.position = p.position
        LEFT JOIN {SCHEMA}.after_image AS i
          ON i.migration_id = {number} AND i.position = p.position
        LEFT JOIN {SCHEMA}.level_image AS g
          ON g.migration_id = {number} AND g.position = p.position
        LEFT JOIN {migration.planned_locations} AS w ON w.company_key = p.company_key {live}
        WHERE {only} AND o.position IS NULL"""


def standing(resolved: ResolvedMapping) -> str:
    """How the records of the relation `mine` stand now: what was written, what is found.

    `ours`: as we wrote it, so that it goes back. `back`: as it was, so that there is nothing to do.
    `touched`: somebody has written the row since. Neither ours nor back is a conflict.
    """
    shape = shape_of(resolved)
    keys = columns.named(resolved)
    found, written = columns.targets(resolved, "found"), columns.targets(resolved, "written")
    back = columns.all_same(found, columns.targets(resolved, "before"))
    differing = ", ".join(
        f"CASE WHEN {f} IS DISTINCT FROM {w} THEN {literal(name)} END"
        for name, f, w in zip(shape.held_columns(), found, written, strict=True)
    )
    return f"""
        SELECT position, chunk, {", ".join([*keys, *written])},
               {columns.key_text(resolved)} AS key_text,
               NULLIF(concat_ws(', ', {differing}), '') AS differing,
               {shape.told("written")} AS written, {shape.told("found")} AS found,
               {shape.ours()} AS ours, {back} AS back,
               row_xmin IS DISTINCT FROM xid AS touched
        FROM ({shape.found()}) AS f"""


class UndoStatements:
    """The statements that undo a migration's chunks, built once and executed with parameters."""

    def __init__(
        self, resolved: ResolvedMapping, migration: Migration, *, own: bool = False
    ) -> None:
        """Build the statements; `own` as for `mine`."""
        self.migration = migration
        self._parameters = {"im_migration_id": migration.migration_id}
        shape = shape_of(resolved)
        locks = [chunk_statements.lock_statement(resolved, migration)]
        if (targets := shape.lock(migration.snapshot)) is not None:
            locks.append(parametrised(targets))
        self._locks = [sa.text(lock) for lock in locks]
        taken = mine(resolved, migration, only=_TAKEN, own=own)
        refused = mine(resolved, migration, only="p.position = ANY(:im_bad)", own=own)
        self._at_once = None
        if not (resolved.target_key or sync.wanted(resolved)):
            # A level that a trigger keeps in step, or that records share, is not told by its row.
            self._at_once = sa.text(parametrised(_undo_untouched(resolved, taken)))
        self._undo = sa.text(parametrised(_undo(resolved, taken)))
        self._read_back = sa.text(parametrised(_read_back(resolved, taken)))
        self._list = sa.text(parametrised(_list_refused(resolved, refused)))
        self._after = [
            sa.text(parametrised(statement))
            for statement in (shape.after_undo(migration.snapshot) if own else [])
        ]

    def claim(self, connection: sa.Connection, limit: int) -> list[int]:
        """Take up to `limit` of the newest marked chunks by row lock; those of others are not."""
        return list(connection.execute(_CLAIM, {**self._parameters, "limit": limit}).scalars())

    def any_left(self, connection: sa.Connection) -> bool:
        """Whether a chunk is marked and not undone, locked or not."""
        return bool(connection.execute(_LEFT, self._parameters).scalar_one())

    def lock(self, connection: sa.Connection, numbers: Sequence[int]) -> None:
        """Lock records and targets of the chunks, so that the next statement sees them so."""
        for statement in self._locks:
            connection.execute(statement, {"im_chunks": list(numbers)})

    def undo_chunks(self, connection: sa.Connection, numbers: Sequence[int]) -> list[int]:
        """Undo chunks: first what nobody has touched since, at once; the rest once it is locked.

        Returns:
            As of `undo`.

        Raises:
            ControlTotalsDiffer: The transaction must not commit.
        """
        if self._at_once is None:
            self.lock(connection, numbers)
            return self.undo(connection, numbers)
        parameters = self._of(numbers)
        rows = connection.execute(self._at_once, parameters).all()
        touched = [row.number for row in rows if row.undone != row.mine]
        whole = [row.number for row in rows if row.undone == row.mine]
        connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
        swallowed: list[int] = []
        if whole and rows[0].heard:
            found = connection.execute(self._read_back, self._of(whole)).scalar_one()
            swallowed = list(found or [])
        if touched and not swallowed:
            self.lock(connection, touched)
            swallowed = self.undo(connection, touched)
        return swallowed

    def undo(
        self,
        connection: sa.Connection,
        numbers: Sequence[int],
        *,
        bad: Sequence[Bad] = (),
        first: int = 0,
        last: int = LAST_POSITION,
    ) -> list[int]:
        """Undo what is ours, list what is not, and mark the chunks undone.

        Args:
            connection: The transaction that holds the locks.
            numbers: The chunks.
            bad: Records to leave as they are.
            first: First position to take.
            last: Last position to take.

        Returns:
            Positions that are not as they were in spite of it, without an error.

        Raises:
            ControlTotalsDiffer: The transaction must not commit.
        """
        parameters = self._of(numbers, bad=bad, first=first, last=last)
        rows = connection.execute(self._undo, parameters).all()
        connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
        swallowed = connection.execute(self._read_back, parameters).scalar_one()
        if swallowed:
            return list(swallowed)
        for row in rows:
            accounted = row.undone + row.kept + row.absent + row.back_already
            if row.mine != accounted:
                raise ControlTotalsDiffer(
                    migration_id=self.migration.migration_id,
                    chunk=row.number,
                    differences={"records to undo": (row.mine, accounted)},
                )
        return []

    def _of(
        self,
        numbers: Sequence[int],
        *,
        bad: Sequence[Bad] = (),
        first: int = 0,
        last: int = LAST_POSITION,
    ) -> dict[str, Any]:
        return {
            **self._parameters,
            "im_chunks": list(numbers),
            "im_first": first,
            "im_last": last,
            "im_bad": [record.position for record in bad],
        }

    def finish(self, connection: sa.Connection, numbers: Sequence[int], bad: Sequence[Bad]) -> None:
        """List the records that were refused, and do what the shape does behind the undoing."""
        if bad:
            connection.execute(
                self._list,
                {
                    **self._parameters,
                    "im_bad": [record.position for record in bad],
                    "im_reasons": [record.reason for record in bad],
                    "im_states": [record.sqlstate for record in bad],
                },
            )
        for statement in self._after:
            connection.execute(statement, {**self._parameters, "im_chunks": list(numbers)})


_UNDONE = (
    # Asked once: most migrations have tried nothing again, and none of their records is looked up.
    f"EXISTS (SELECT FROM {SCHEMA}.retry AS y WHERE y.migration_id = :im_migration_id) "
    "AND t.position IN (SELECT position FROM undone)"
)
_TAKEN = (
    "k.number = ANY(:im_chunks) AND p.position BETWEEN :im_first AND :im_last "
    "AND p.position <> ALL(CAST(:im_bad AS bigint[]))"
)


def _undo_untouched(resolved: ResolvedMapping, taken: str) -> str:
    """Undo in one statement what its own row says that nobody has written since.

    Such a row is as it was when its chunk had been read back. Whatever was written meanwhile is
    another version, which the server looks at once more and leaves: it needs no lock before, and no
    look at what it holds.

    Returns:
        A statement with a row for each chunk: how many records are to be undone, how many are, and
        whether triggers of the application are `heard`. What is left is for `_undo`.
    """
    shape = shape_of(resolved)
    return f"""
        WITH mine AS MATERIALIZED ({taken} ORDER BY p.position),
        undone AS ({shape.undo(untouched=True)}),
        reopened AS ({retries.reopen_statement(_UNDONE)}),
        row_tables AS (SELECT row_table FROM undone)
        UPDATE {SCHEMA}.chunk AS k SET
            state = 'undone', undoing = false, undo_xid = pg_current_xact_id()::xid::text,
            undone_records = COALESCE(u.records, 0), kept_records = 0
        FROM unnest(CAST(:im_chunks AS integer[])) AS n(number)
        LEFT JOIN (SELECT chunk, count(*) AS records FROM mine GROUP BY chunk) AS m
          ON m.chunk = n.number
        LEFT JOIN (SELECT chunk, count(*) AS records FROM undone GROUP BY chunk) AS u
          ON u.chunk = n.number
        WHERE k.migration_id = :im_migration_id AND k.number = n.number
        RETURNING k.number, COALESCE(m.records, 0) AS mine, COALESCE(u.records, 0) AS undone,
                  EXISTS (SELECT FROM pg_trigger AS g
                          WHERE NOT g.tgisinternal AND g.tgenabled <> 'D'
                            AND {shape.heard(back=True)}) AS heard"""


def _undo(resolved: ResolvedMapping, taken: str) -> str:
    shape = shape_of(resolved)
    return f"""
        WITH mine AS MATERIALIZED ({taken}),
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
        reopened AS ({retries.reopen_statement(_UNDONE)}),
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
            undone_records = k.undone_records + COALESCE(c.undone, 0),
            kept_records = COALESCE(c.kept, 0) + cardinality(CAST(:im_bad AS bigint[]))
        FROM unnest(CAST(:im_chunks AS integer[])) AS n(number)
        LEFT JOIN counted AS c ON c.chunk = n.number
        WHERE k.migration_id = :im_migration_id AND k.number = n.number
        RETURNING k.number, COALESCE(c.mine, 0) AS mine, COALESCE(c.undone, 0) AS undone,
                  COALESCE(c.absent, 0) AS absent, COALESCE(c.back_already, 0) AS back_already,
                  COALESCE(c.kept, 0) AS kept"""


def _read_back(resolved: ResolvedMapping, taken: str) -> str:
    """What is not as it was, and is no conflict: triggers may have spoken since."""
    return f"""
        WITH mine AS ({taken}),
        live AS ({standing(resolved)})
        SELECT array_agg(position ORDER BY position) FROM live AS l
        WHERE NOT ({shape_of(resolved).is_undone()})
          AND NOT EXISTS (SELECT FROM {SCHEMA}.conflict AS c
                          WHERE c.migration_id = :im_migration_id AND c.position = l.position
                            AND c.kind = 'moved_since')"""


def _list_refused(resolved: ResolvedMapping, refused: str) -> str:
    names = literal(", ".join(shape_of(resolved).held_columns()))
    return f"""
        WITH mine AS MATERIALIZED ({refused}),
        live AS ({standing(resolved)})
        INSERT INTO {SCHEMA}.conflict
            (migration_id, position, key_text, kind, columns, ours, found, reason, sqlstate)
        SELECT :im_migration_id, l.position, l.key_text, 'refused_by_server', {names}, l.written,
               l.found, b.reason, b.state
        FROM live AS l
        JOIN unnest(CAST(:im_bad AS bigint[]), CAST(:im_reasons AS text[]),
                    CAST(:im_states AS text[])) AS b(position, reason, state) USING (position)
        ON CONFLICT (migration_id, position) DO UPDATE
            SET kind = EXCLUDED.kind, columns = EXCLUDED.columns, ours = EXCLUDED.ours,
                found = EXCLUDED.found, reason = EXCLUDED.reason, sqlstate = EXCLUDED.sqlstate"""


_CLAIM = sa.text(f"""
    SELECT number FROM {SCHEMA}.chunk
    WHERE migration_id = :im_migration_id AND state = 'done' AND undoing
    ORDER BY number DESC
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
""")

_LEFT = sa.text(f"""
    SELECT EXISTS (SELECT FROM {SCHEMA}.chunk
                   WHERE migration_id = :im_migration_id AND state = 'done' AND undoing)
""")
