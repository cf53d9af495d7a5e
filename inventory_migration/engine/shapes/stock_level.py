"""The shape in which a table of its own has a row for each record and location: a level of stock.

Levels are inserted, compared where they are there already, and never overwritten. What an
application changes of a level, or adds beside it, is its own from then on. How levels are kept in
step with records while an application writes is in `engine/sync.py`.
"""

from __future__ import annotations

from inventory_migration.catalog import column_sql, literal
from inventory_migration.catalog.tables import DELETE, INSERT
from inventory_migration.database import quoted
from inventory_migration.engine import columns
from inventory_migration.engine.ledger import SCHEMA
from inventory_migration.engine.shapes.level_reading import LevelReading
from inventory_migration.engine.shapes.shape import Found
from inventory_migration.mapping import (
    Canonical,
    Expression,
    RecordValue,
    Standardised,
)


class StockLevel(LevelReading):
    """A row with the record's key, the location, and what is on hand and reserved there."""

    def refers(self, key: str, *, only: str = "") -> tuple[str, str]:
        """The locations that there are levels at."""
        location = f"u.{quoted(self.target.location)}"
        named = f"""
            SELECT DISTINCT {location} FROM {self.resolved.levels_sql} AS u
            WHERE {location} IS NOT NULL{only}"""
        return named, f"{location} = {key}"

    def goes(self, row: str, record: str) -> str:
        """The level at the location that was written."""
        at = f"{row}.{quoted(self.target.location)} = {record}.written_1"
        return f"{self._of_record(row, record)} AND {at}"

    def is_undone(self) -> str:
        """No level is as we wrote it; the record may have others."""
        return "NOT ours"

    def held_columns(self) -> list[str]:
        """The columns of location and numbers."""
        return [self.target.location, *self.target.numbers]

    def values(self, *, location: str, quantity: str, reserved: str, at: str) -> list[str]:  # noqa: ARG002
        """The location's key, and the numbers there."""
        numbers = [self.on_hand(quantity, reserved), reserved]
        return [location, *numbers[: len(self.target.numbers)]]

    def agrees(self, record: str) -> str:
        """One level with the very numbers that a migration would write."""
        return (
            f"({record}.target_rows = 1 AND {record}.held_quantity = {record}.quantity "
            f"AND {record}.held_reserved = {record}.reserved) IS TRUE"
        )

    def apply(self) -> str:
        """Insert a level for each record to be migrated; returns its key."""
        return f"{self._insert()} RETURNING {self._key()}"

    def insert_missing(self) -> str:
        """The same for whoever keeps levels in step, where there is none at the location.

        What it returns is what it has inserted, whatever an older snapshot still sees there.
        """
        names = ", ".join(quoted(name) for name in [*self.target.record, self.target.location])
        return f"""{self._insert()}
            ON CONFLICT ({names}) DO NOTHING
            RETURNING {self._key()}, t.{quoted(self.target.location)} AS location_key,
                      {self._hash()} AS row_hash"""

    def _insert(self, *, of: str = "") -> str:
        target = self.target
        given = dict(zip(target.record, (f"c.{k}" for k in self._keys_of_record()), strict=True))
        written = self.values(
            location="c.default_location",
            quantity="c.quantity",
            reserved="c.reserved",
            at=self.moment("transaction_timestamp()"),
        )
        given |= zip([target.location, *target.numbers], written, strict=True)
        given |= {name: self._value(value) for name, value in target.values.items()}
        names = ", ".join(quoted(name) for name in given)
        of = of or f"classified AS c {self._beside_classified()} WHERE c.outcome = 'migrated'"
        return f"""
            INSERT INTO {self.resolved.levels_sql} AS t ({names})
            SELECT {", ".join(given.values())}
            FROM {of}"""

    def _key(self) -> str:
        """What names a level, its location included where another may share the rest."""
        named = [*zip(self._record("t"), columns.record_keys(self.resolved), strict=True)]
        if self.resolved.target_key:
            named.append((f"t.{quoted(self.target.location)}", "location_key"))
        return ", ".join(f"{column} AS {name}" for column, name in named)

    def unlocked(self, version: str) -> dict[str, str] | None:  # noqa: ARG002
        """Insert levels of records as they were seen; what changes meanwhile is swept up later.

        With a trigger that keeps levels in step, or where a level has columns of its own making,
        more has to be done about each record than to insert its level.
        """
        if self.target.sync or self.resolved.target_key or self._underivable():
            return None
        found = ", ".join(self._returned().named())
        return {
            "written": f"{self._insert()} RETURNING {self._told()}",
            "moved": f"""
            SELECT c.position, c.chunk, {found}
            FROM classified AS c
            JOIN written AS w ON {columns.same_record(self.resolved, "w", "c")}
            WHERE c.outcome = 'migrated'""",
        }

    def as_planned(self) -> dict[str, str] | None:
        """Insert levels of the records whose row is the version that was planned and has none.

        Mostly there is no level between the first record and the last one, which is one look into
        an index; only where there is one, it is looked for record by record.
        """
        if self.unlocked("") is None:
            return None
        key, level = columns.keys(self.resolved)[0], self._record("t")[0]
        first, last = (
            f"(SELECT {key} FROM unchanged ORDER BY {key} {order} LIMIT 1)"
            for order in ("", "DESC")
        )
        levels = self.resolved.levels_sql
        record = columns.key_of_source(self.resolved, "c")
        found = self._returned()
        same = columns.all_same([found.quantity, found.reserved], ["c.quantity", "c.reserved"])
        return {
            "any_level": f"""
            SELECT EXISTS (SELECT FROM {levels} AS t
                           WHERE {level} BETWEEN {first} AND {last}) AS found""",
            "written_as_planned": self._insert(
                of=f"""unchanged AS c
            JOIN {self.resolved.source.sql} AS s ON {record} AND s.xmin = c.row_version
            WHERE NOT (SELECT found FROM any_level)
               OR NOT EXISTS (SELECT FROM {levels} AS t WHERE {self._of_record("t", "c")})"""
            )
            + f" RETURNING {self._told()}",
            "as_planned": f"""
            SELECT c.position, c.chunk, {found.unless(same)} AS otherwise,
                   c.quantity AS quantity_before, c.reserved AS reserved_before,
                   NULL::oid AS row_table
            FROM unchanged AS c
            JOIN written_as_planned AS w ON {columns.same_record(self.resolved, "w", "c")}""",
        }

    def _told(self) -> str:
        """What an INSERT returns of a level: whose it is, and what it holds."""
        held = [f"t.{quoted(self.target.location)}", *self._numbers("t")]
        told = zip(held, self.target.holds_as, strict=True)
        return ", ".join([self._key(), *(f"{column} AS {name}" for column, name in told)])

    def _returned(self) -> Found:
        """The same of a record `c` whose level was written, `w`."""
        written = self.values(
            location="c.default_location", quantity="c.quantity", reserved="c.reserved", at="NULL"
        )
        reserved = "w.reserved" if self.target.reserved else "c.reserved"
        net = self.resolved.mapping.quantity_basis == "net"
        return Found(
            quantity=f"w.on_hand - {reserved}" if net else "w.on_hand",
            reserved=reserved,
            not_number="c.quantity IS NULL",
            located=columns.all_same([f"w.{name}" for name in self.target.holds_as], written),
        )

    def heard(self, *, back: bool = False) -> str:
        """A trigger of the levels, or of a partition of them, that an INSERT or DELETE fires."""
        levels = self.resolved.levels.oid if self.resolved.levels else 0
        return (
            f"g.tgtype & {DELETE if back else INSERT} <> 0 AND (g.tgrelid = {levels} "
            f"OR g.tgrelid IN (SELECT relid FROM pg_partition_tree({levels})))"
        )

    def own(self) -> str:
        """The table of the levels that are ours, where a trigger keeps them in step."""
        return quoted(SCHEMA, f"synced_{self.resolved.mapping.name}")

    def is_own(self, level: str, own: str) -> str:
        """The condition that a level is the one that a row of `own` means."""
        location = f"{level}.{quoted(self.target.location)} = {own}.location_key"
        return f"{self._of_record(level, own)} AND {location}"

    def numbers_from(self, record: str) -> str:
        """A level's numbers, set to those of a relation with canonical ones."""
        values = self.values(
            location="NULL", quantity=f"{record}.quantity", reserved=f"{record}.reserved", at="NULL"
        )
        pairs = dict(zip(self.target.numbers, values[1:], strict=True))
        pairs |= {
            name: self._canonical(value, f"{record}.")
            for name, value in self.target.following.items()
        }
        return ", ".join(f"{quoted(name)} = {value}" for name, value in pairs.items())

    def moved(self) -> str:
        """The positions of the levels that `apply` returned."""
        same = columns.same_record(self.resolved, "im_c", "im_m")
        if self.resolved.target_key:
            same += " AND im_m.location_key = im_c.default_location"
        return f"SELECT im_c.position FROM classified AS im_c JOIN moved AS im_m ON {same}"

    def found(self) -> str:
        """The level of each record of `mine` where we put it, or another where there is none."""
        location = f"t.{quoted(self.target.location)}"
        held = zip(
            [location, *self._numbers("t")], columns.targets(self.resolved, "found"), strict=True
        )
        return f"""
            SELECT DISTINCT ON (m.position)
                   m.*, {", ".join(f"{column} AS {name}" for column, name in held)},
                   t.xmin::text AS row_xmin, {self.rest_same("m.image")} AS rest_same
            FROM mine AS m
            JOIN {self.resolved.levels_sql} AS t ON {self._of_record("t", "m")} {self._found_at()}
            ORDER BY m.position, ({location} IS NOT DISTINCT FROM m.written_1) DESC"""

    def ours(self) -> str:
        """Location and numbers are as we wrote them, and so is the rest of the row."""
        found = columns.targets(self.resolved, "found")
        return f"({self._as_written(found, '')} AND (row_xmin = xid OR rest_same))"

    def undo(self, *, untouched: bool = False) -> str:
        """Delete the levels that are as we wrote them in every column."""
        since = "" if untouched else f" OR {self.rest_same('m.image')}"
        held = [f"t.{quoted(self.target.location)}", *self._numbers("t")]
        return f"""
            DELETE FROM {self.resolved.levels_sql} AS t
            USING mine AS m
            WHERE {self._of_record("t", "m")} AND {self._as_written(held, "m.")}
              AND (t.xmin::text = m.xid{since})
            RETURNING m.position, m.chunk, t.tableoid AS row_table"""

    def told(self, prefix: str) -> str:
        """Location and numbers by name, and whether it is in other columns that a level differs."""
        named = zip(self.target.holds, columns.targets(self.resolved, prefix), strict=True)
        parts = [f"'{name} ' || COALESCE({column}::text, 'none')" for name, column in named]
        if prefix == "found":
            numbers = self._as_written(columns.targets(self.resolved, "found"), "")
            changed = "row_xmin IS DISTINCT FROM xid AND NOT rest_same"
            parts.append(f"CASE WHEN {numbers} AND {changed} THEN 'other columns changed' END")
        return f"concat_ws(', ', {', '.join(parts)})"

    def lock(self, snapshot: str) -> str | None:
        """Lock the levels of the chunks' records, in a statement of its own."""
        return f"""
            SELECT count(*) FROM (
                SELECT 1 FROM {snapshot} AS p
                JOIN {self.resolved.levels_sql} AS t ON {self._of_record("t", "p")}
                WHERE p.chunk = ANY(:im_chunks)
                ORDER BY p.position
                FOR NO KEY UPDATE OF t) AS locked"""

    def before_write(self, snapshot: str) -> list[str]:
        """Take over the levels that the trigger has made since the snapshot: they are written anew.

        Whose other columns somebody has changed is left, and compared like any other.
        """
        if not self.target.sync:
            return []
        return [
            f"""
            WITH taken AS (
                DELETE FROM {self.own()} AS y USING {snapshot} AS p
                WHERE {columns.same_key(self.resolved, "p", "y")} AND p.chunk = ANY(:im_chunks)
                RETURNING y.*)
            DELETE FROM {self.resolved.levels_sql} AS t USING taken AS y
            WHERE {self.is_own("t", "y")} AND {self.rest_same("y.row_hash")}"""
        ]

    def after_undo(self, snapshot: str) -> list[str]:
        """What was kept is the application's own: the trigger lets it alone from now on.

        A record that was put aside has its level from the trigger alone, which goes with it.
        """
        if not self.target.sync:
            return []
        return [
            f"""
            DELETE FROM {self.own()} AS y USING {snapshot} AS p
            WHERE {columns.same_key(self.resolved, "p", "y")} AND p.chunk = ANY(:im_chunks)
              AND NOT EXISTS (SELECT FROM {SCHEMA}.outcome AS o
                               WHERE o.migration_id = :im_migration_id
                                 AND o.position = p.position)"""
        ]

    def after_write(self, snapshot: str, planned: str) -> list[str]:
        """Keep a hash of keys and defaults that the server made, and of what expressions gave."""
        at = ""
        if self.resolved.target_key:
            location = self.written(planned, snapshot="p", after_image="i", chunk="k")[0]
            at = f"""
            AND t.{quoted(self.target.location)} = (
                SELECT {location} FROM (SELECT CAST(:im_migration_id AS bigint) AS id) AS im_n
                LEFT JOIN {SCHEMA}.after_image AS i
                  ON i.migration_id = im_n.id AND i.position = p.position)
            AND NOT EXISTS (SELECT FROM {SCHEMA}.outcome AS o
                             WHERE o.migration_id = :im_migration_id AND o.position = p.position)"""
        written = f"""
            FROM {snapshot} AS p
            JOIN {self.resolved.levels_sql} AS t ON {self._of_record("t", "p")} {at}
            WHERE p.chunk = ANY(:im_chunks) AND t.xmin::text = pg_current_xact_id()::xid::text"""
        statements = []
        if self._underivable():
            statements.append(f"""
            INSERT INTO {SCHEMA}.level_image AS g (migration_id, position, row_hash)
            SELECT :im_migration_id, p.position, {self._hash()} {written}
            ON CONFLICT (migration_id, position) DO UPDATE SET row_hash = EXCLUDED.row_hash""")
        if self.target.sync:
            keys = columns.keys(self.resolved)
            statements.append(f"""
            INSERT INTO {self.own()} AS y ({", ".join(keys)}, location_key, row_hash)
            SELECT {", ".join(f"p.{key}" for key in keys)},
                   t.{quoted(self.target.location)}, {self._hash()} {written}
            ON CONFLICT ({", ".join(keys)}) DO UPDATE
                SET location_key = EXCLUDED.location_key, row_hash = EXCLUDED.row_hash""")
        return statements

    def _as_written(self, held: list[str], alias: str) -> str:
        """What is held is what we wrote, or what our trigger has kept it in step with since."""
        written = [alias + name for name in columns.targets(self.resolved, "written")]
        same = columns.all_same(held, written)
        if not self.target.sync:
            return same
        live = [alias + name for name in columns.targets(self.resolved, "live")]
        return f"({same} OR {columns.all_same(held, live)})"

    def _found_at(self) -> str:
        """That a level is where its record's was written, or elsewhere with the same company."""
        if not self.resolved.target_key:
            return ""
        location, owned = f"t.{quoted(self.target.location)}", self._owned()
        return f"""
             AND ({location} = m.written_1
                  OR EXISTS (SELECT FROM ({owned}) AS im_a
                             JOIN ({owned}) AS im_b ON im_b.company_key = im_a.company_key
                             WHERE im_a.location_key = {location}
                               AND im_b.location_key = m.written_1))"""

    def _beside_classified(self) -> str:
        """The source and what it is joined to, where an expression of the mapping reads them."""
        read = (Expression, Standardised)
        if not any(isinstance(value, read) for value in self.target.values.values()):
            return ""
        source = self.resolved.source.sql
        joins = self.resolved.mapping.source.joins
        return f"JOIN {source} AS s ON {columns.key_of_source(self.resolved, 'c')} {joins}"

    def _value(self, value: RecordValue) -> str:
        if isinstance(value, Standardised):
            return column_sql(value)
        return self._canonical(value, "c.") if isinstance(value, Canonical) else literal(value)
