"""What the shapes have in common that write into columns of the stock record itself.

Such a shape says which location a record names, when its columns are empty, and what is written
into them; the statements follow from that. Which records are written is decided in `canonical.py`,
not here.
"""

from __future__ import annotations

import abc

from inventory_migration.catalog import literal
from inventory_migration.catalog.tables import UPDATE
from inventory_migration.database import quoted
from inventory_migration.engine import columns, readings
from inventory_migration.engine.shapes.shape import Found, Shape


class SourceColumns(Shape):
    """A shape whose target is one or more columns of the source table."""

    @abc.abstractmethod
    def empty(self, alias: str = "s") -> str:
        """The condition that a source row names no location yet."""

    @abc.abstractmethod
    def names(self, alias: str, key: str) -> str:
        """The condition that a source row names a location in any way."""

    def signed(self, alias: str = "s") -> str:  # noqa: ARG002
        """The condition that a source row may have its location from us."""
        return "true"

    def refers(self, key: str, *, only: str = "") -> tuple[str, str]:
        """The target of each record that has one, and that it names a location in any way."""
        named = f"""
            SELECT u.{quoted(self.held_columns()[0])} FROM {self.resolved.source.sql} AS u
            WHERE NOT ({self.empty("u")}){only}"""
        return named, self.names("u", key)

    def goes(self, row: str, record: str) -> str:
        """The record itself."""
        return columns.key_of_source(self.resolved, record, row)

    def is_undone(self) -> str:
        """The columns hold what they held before."""
        return "back"

    def held_columns(self) -> list[str]:
        """The target columns."""
        return list(self.resolved.mapping.target.columns)

    def target_columns(self, alias: str = "s") -> list[str]:
        """The quoted target columns of a source row."""
        return [f"{alias}.{quoted(name)}" for name in self.resolved.mapping.target.columns]

    def row_xmin(self, alias: str = "s") -> str:
        """The transaction that wrote the row last: record and target are the same row."""
        return f"{alias}.xmin::text"

    in_place = True

    def apply(self) -> str:
        """Write each record to be migrated whose columns are empty; returns position and chunk."""
        return self._update(columns.key_of_source(self.resolved, "c"), ["c.position", "c.chunk"])

    def unlocked(self, version: str) -> dict[str, str]:
        """Write the very versions of rows that were looked at, and read what was written."""
        return {"moved": self._update(version, self._returned())}

    def as_planned(self) -> dict[str, str]:
        """Write the records of `unchanged` whose row is the version that was planned.

        By its key: a row that is found by an index lets the server clear its page of versions that
        nobody sees any more, in whose room the next one goes; one found by its place does not.
        """
        version = f"{columns.key_of_source(self.resolved, 'c')} AND s.xmin = c.row_version"
        found = self._found()
        same = columns.all_same(
            [readings.quantity(self.resolved), readings.reserved(self.resolved)],
            ["c.quantity", "c.reserved"],
        )
        returning = [
            *("c.position", "c.chunk", f"{found.unless(same)} AS otherwise"),
            *("c.quantity AS quantity_before", "c.reserved AS reserved_before"),
            "s.tableoid AS row_table",
        ]
        return {"as_planned": self._update(version, returning, of="unchanged")}

    def _returned(self) -> list[str]:
        """What is read of a record that was written: where it is from, and what it has now."""
        return ["c.position", "c.chunk", *self._found().named()]

    def _found(self) -> Found:
        resolved = self.resolved
        located = columns.all_same(self.target_columns(), self._written())
        quantity, reserved = readings.quantity(resolved), readings.reserved(resolved)
        if (held := self.held_numbers()) is not None:
            # A target that holds what was made of these numbers holds these numbers.
            quantity, reserved = (
                f"CASE WHEN {located} AND {own} IS NOT DISTINCT FROM c.{name} "
                f"THEN {own} ELSE {kept} END"
                for name, own, kept in zip(
                    ("quantity", "reserved"), (quantity, reserved), held, strict=True
                )
            )
        return Found(quantity, reserved, f"{readings.quantity(resolved)} IS NULL", located)

    def heard(self, *, back: bool = False) -> str:  # noqa: ARG002
        """A trigger of the source, or of a partition of it, that an UPDATE fires."""
        return f"g.tgtype & {UPDATE} <> 0 AND g.tgrelid IN (SELECT row_table FROM row_tables)"

    def _written(self) -> list[str]:
        if self.dear:
            return [f"c.{name}" for name in columns.targets(self.resolved, "written")]
        return self._values()

    def _values(self) -> list[str]:
        return self.values(
            location="c.default_location",
            quantity="c.quantity",
            reserved="c.reserved",
            # Asked by itself: once for all records.
            at=f"(SELECT {self.moment('transaction_timestamp()')})",
        )

    def _update(self, which: str, returning: list[str], *, of: str = "classified") -> str:
        names = [quoted(name) for name in self.resolved.mapping.target.columns]
        pairs = [f"{name} = {value}" for name, value in zip(names, self._written(), strict=True)]
        pairs += [
            f"{quoted(column)} = {literal(value)}"
            for column, value in self.resolved.mapping.touch.items()
        ]
        chosen = " WHERE c.outcome = 'migrated'" if of == "classified" else ""
        made = ""
        if self.dear:
            named = zip(self._values(), columns.targets(self.resolved, "written"), strict=True)
            made = "".join(f", {value} AS {name}" for value, name in named)
        # The fence keeps the planner from making a value anew wherever it is named.
        return f"""
            UPDATE {self.resolved.source.sql} AS s
            SET {", ".join(pairs)}
            FROM (SELECT c.*{made} FROM {of} AS c{chosen}{" OFFSET 0" if made else ""}) AS c
            WHERE {which} AND {self.empty()}
            RETURNING {", ".join(returning)}"""

    def moved(self) -> str:
        """The positions that `apply` returned."""
        return "SELECT position FROM moved"

    def found(self) -> str:
        """The live records of `mine` with what their columns hold."""
        named = zip(self.target_columns(), columns.targets(self.resolved, "found"), strict=True)
        held = ", ".join(f"{column} AS {name}" for column, name in named)
        return f"""
            SELECT m.*, {held}, {self.row_xmin()} AS row_xmin, true AS rest_same
            FROM mine AS m
            JOIN {self.resolved.source.sql} AS s ON {columns.key_of_source(self.resolved, "m")}"""

    def undo(self, *, untouched: bool = False) -> str:
        """Put back the pre-image where the record still holds what we wrote.

        What the application may have set since beside the target is left alone.
        """
        before = columns.before_columns(self.resolved)
        pairs = [
            f"{quoted(name)} = m.{before[name]}" for name in self.resolved.mapping.target.columns
        ]
        pairs += [
            f"{quoted(column)} = CASE WHEN s.xmin::text = m.xid THEN m.{before[column]} "
            f"ELSE s.{quoted(column)} END"
            for column in self.resolved.mapping.touch
        ]
        ours = [f"m.{name}" for name in columns.targets(self.resolved, "written")]
        only = f" AND {self.row_xmin()} = m.xid" if untouched else ""
        return f"""
            UPDATE {self.resolved.source.sql} AS s
            SET {", ".join(pairs)}
            FROM mine AS m
            WHERE {columns.key_of_source(self.resolved, "m")}{only}
              AND {columns.all_same(self.target_columns(), ours)}
            RETURNING m.position, m.chunk, s.tableoid AS row_table"""
