"""What every target shape says: where a record's stock is, what is written there, and how it goes.

A shape knows its own tables and columns and turns that into SQL; which records are written, what
undone, and in which transaction is decided by the engine, which meets shapes here only.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import columns, readings


@dataclass(frozen=True)
class Held:
    """The numbers that a record's target holds, as SQL: on hand and reserved."""

    on_hand: str
    reserved: str


@dataclass(frozen=True)
class Found:
    """What is found of a record once it was written, as SQL.

    Attributes:
        quantity: How much there is.
        reserved: How much of that is reserved.
        not_number: Whether the quantity is no number.
        located: Whether its target is what was to be written.
    """

    quantity: str
    reserved: str
    not_number: str
    located: str

    def named(self) -> list[str]:
        """Each by its name."""
        return [f"{sql} AS {name}" for name, sql in vars(self).items()]

    def unless(self, same: str) -> str:
        """All of it as numbers; NULL where the numbers are the `same` as before, and it is located.

        So what it says is asked once of most records, however dear that is to tell.
        """
        numbers = [self.quantity, self.reserved]
        numbers += [
            f"CASE WHEN {told} THEN 1 ELSE 0 END" for told in (self.not_number, self.located)
        ]
        return (
            f"CASE WHEN {self.located} AND {same} THEN NULL "
            f"ELSE ARRAY[{', '.join(numbers)}]::numeric[] END"
        )


@dataclass(frozen=True)
class Shape(abc.ABC):
    """A form in which a target says where stock is.

    `holds` of the mapping's target names what is told of a record's target before and after; the
    lists of SQL that methods here return are in its order.
    """

    resolved: ResolvedMapping

    in_place: ClassVar[bool] = False
    """Whether a record's own row is written."""

    dear: ClassVar[bool] = False
    """Whether it takes long to read what a target holds: once, and where nothing else tells it."""

    @property
    @abc.abstractmethod
    def location_type(self) -> str:
        """The type of `location_key`."""

    @abc.abstractmethod
    def location_key(self, alias: str = "s") -> str:
        """The key of the location that a source row's target names; NULL where it names none."""

    @abc.abstractmethod
    def same_location(self, key: str, location_key: str) -> str:
        """The condition that a key of the locations' table is what `location_key` names."""

    @abc.abstractmethod
    def refers(self, key: str, *, only: str = "") -> tuple[str, str]:
        """What names locations, a SELECT, and the condition that a row `u` of it names one.

        Args:
            key: The location's key.
            only: What is to be asked of a row `u` of the target's table beside, from AND on.
        """

    @abc.abstractmethod
    def values(self, *, location: str, quantity: str, reserved: str, at: str) -> list[str]:
        """What the target of a record is given, as SQL over the given expressions.

        Args:
            location: The location's key.
            quantity: What the record has.
            reserved: What is reserved of that.
            at: When it is written, as a `moment`.
        """

    @abc.abstractmethod
    def target_columns(self, alias: str = "s") -> list[str]:
        """What the target of a source row holds, as SQL."""

    @abc.abstractmethod
    def row_xmin(self, alias: str = "s") -> str:
        """The transaction that wrote a source row's target last, as text."""

    @abc.abstractmethod
    def apply(self) -> str:
        """Write each record of `classified` that is to be migrated; see `moved`.

        `classified` has each record with its default location and the numbers as they were locked.
        """

    @abc.abstractmethod
    def moved(self) -> str:
        """The positions of what `apply`, as the relation `moved`, has written: a SELECT."""

    @abc.abstractmethod
    def found(self) -> str:
        """How the targets of the records of `mine` stand: its columns and found_…, a SELECT.

        `mine` has snapshot rows that were migrated, with `written_…`, what we wrote, `xid`, by
        whom, and `image`, a hash of what cannot be derived. Adds `row_xmin` and `rest_same`.
        """

    @abc.abstractmethod
    def undo(self, *, untouched: bool = False) -> str:
        """Undo what each record of `mine` still holds as we wrote it; returns position and chunk.

        Args:
            untouched: Only where nobody has written the row since, which its own transaction tells.
        """

    @abc.abstractmethod
    def goes(self, row: str, record: str) -> str:
        """The condition that a row of the target's table is what `undo` takes of a record.

        `record` has canonical keys and `written_…`.
        """

    @abc.abstractmethod
    def is_undone(self) -> str:
        """The condition that a target, of which is told whether `ours` and `back`, went back."""

    @abc.abstractmethod
    def held_columns(self) -> list[str]:
        """The columns that hold a target, by their own names; that of the location comes first."""

    @abc.abstractmethod
    def lines(self) -> str:
        """What joins a source row to what lies where: im_a, location_key, on_hand, reserved, xmin.

        A row for each location of the record; `xmin` is the transaction that wrote it, as text.
        """

    def moment(self, at: str) -> str:
        """A time as targets say it, made by itself: many records are written at the same one."""
        return at

    def joins(self, chunked: str | None = None) -> str:  # noqa: ARG002
        """What the source is joined to, so that a record's target can be read beside it."""
        return ""

    def held(self, alias: str = "s") -> Held | None:  # noqa: ARG002
        """The numbers that the target holds; None where numbers stay in the record alone."""
        return None

    def rows(self) -> str:
        """How many rows of a table of the target's own a source row has; NULL where it has none."""
        return "NULL::bigint"

    def agrees(self, record: str) -> str:  # noqa: ARG002
        """The condition that a target which is there already is what a migration would write."""
        return "true"

    def inexact(self) -> str:
        """The condition over a record that the target cannot hold its numbers to the last digit."""
        return "false"

    def pre_images(self) -> str:
        """What a source row's target holds, and what is touched beside it, as before_…."""
        before = columns.before_columns(self.resolved)
        values = [*self.target_columns(), *columns.touched_columns(self.resolved)]
        named = zip(values, before.values(), strict=True)
        return ", ".join(f"{value} AS {name}" for value, name in named)

    def placeless(self) -> str:
        """The condition over a record of `source_rows` with `pre_images`: it names no location."""
        return "(location_key IS NULL)"

    def as_targets(self) -> str:
        """What the target of a source row holds, under its canonical names."""
        named = zip(self.target_columns(), columns.targets(self.resolved, "target"), strict=True)
        return ", ".join(f"{column} AS {name}" for column, name in named)

    def holds(self, relation: str, **written: str) -> str:
        """The condition that a relation's `target_…` columns hold what would be written."""
        held = [f"{relation}.{name}" for name in columns.targets(self.resolved, "target")]
        return columns.all_same(held, self.values(**written))

    def ours(self) -> str:
        """The condition over `found` that a target is as we wrote it."""
        found = columns.targets(self.resolved, "found")
        return columns.all_same(found, columns.targets(self.resolved, "written"))

    def told(self, prefix: str) -> str:
        """A record's target in words, for whoever must decide about a conflict."""
        return f"concat_ws(' ', {', '.join(columns.targets(self.resolved, prefix))})"

    def unlocked(self, version: str) -> dict[str, str] | None:  # noqa: ARG002
        """`apply` of records that nobody has locked; None where only a lock is safe.

        Args:
            version: The condition that a row `s` is the version that `classified`, `c`, is of.

        Returns:
            CTEs by name, the last of them `moved`: position and chunk of what was written, quantity
            and reserved as the target has them, whether it is `located` as planned, `not_number`.
        """
        return None

    def as_planned(self) -> dict[str, str] | None:
        """`apply` of records of which nothing is asked again; None where something has to be.

        Returns:
            CTEs by name, which write those records of `unchanged` whose row is still of
            `row_version`. The last of them is `as_planned`: position and chunk, what they had
            before, `quantity_before` and `reserved_before`, what they have `otherwise`
            (`Found.unless`), and `row_table`.
        """
        return None

    def heard(self, *, back: bool = False) -> str:  # noqa: ARG002
        """The condition that a trigger `g` may speak about what `unlocked` writes.

        Args:
            back: About what `undo` takes back.
        """
        return "false"

    def held_numbers(self) -> tuple[str, str] | None:
        """Quantity and reserved as the target of a source row holds them; None where in none."""
        held = self.held()
        return None if held is None else self.numbers(held, readings.reserved(self.resolved))

    def numbers(self, held: Held, reserved: str) -> tuple[str, str]:
        """Quantity and reserved by what a target holds; `reserved` is what the record says."""
        reserved = held.reserved or reserved
        net = self.resolved.mapping.quantity_basis == "net"
        return f"{held.on_hand} - {reserved}" if net else held.on_hand, reserved

    def reading(self, row: str) -> tuple[str, str, str] | None:  # noqa: ARG002
        """location_key, held_quantity and held_reserved of a row of `source_rows` that lacks them.

        None where they cost next to nothing, so that nobody need ask whether he wants them.

        Args:
            row: The alias of the row, which has `as_targets` beside.
        """
        return None

    def lock(self, snapshot: str) -> str | None:  # noqa: ARG002
        """Lock the targets of the chunks `:im_chunks`; None where the records' locks do."""
        return None

    def before_write(self, snapshot: str) -> list[str]:  # noqa: ARG002
        """What a chunk does once its records are locked, before it looks at them."""
        return []

    def after_write(self, snapshot: str, planned: str) -> list[str]:  # noqa: ARG002
        """What a chunk keeps of the targets that it has written."""
        return []

    def after_undo(self, snapshot: str) -> list[str]:  # noqa: ARG002
        """What the way back does once the targets of its chunks are undone or kept."""
        return []

    def written(
        self,
        planned: str,
        *,
        snapshot: str,
        after_image: str,
        chunk: str,
        location: str | None = None,
        moment: str | None = None,
    ) -> list[str]:
        """What was written for a snapshot row: by its after-image, else as planned.

        Args:
            planned: Quoted table of the planned locations.
            snapshot: Alias of the snapshot's row.
            after_image: Alias of the after-image's row, all NULL where there is none.
            chunk: Alias of the chunk's row.
            location: The location planned for the record's company, where that is joined already.
            moment: The `moment` of the chunk, where that is made already.
        """
        location = location or (
            f"(SELECT im_w.location_key FROM {planned} AS im_w "
            f"WHERE im_w.company_key = {snapshot}.company_key)"
        )
        changed = f"{after_image}.position IS NOT NULL"
        return self.values(
            location=f"COALESCE({after_image}.location_key::{self.resolved.location_key_type}, "
            f"{location})",
            quantity=f"CASE WHEN {changed} THEN {after_image}.quantity "
            f"ELSE {snapshot}.quantity END",
            reserved=f"CASE WHEN {changed} THEN {after_image}.reserved "
            f"ELSE {snapshot}.reserved END",
            at=moment or self.moment(f"{chunk}.started_at"),
        )

    def on_hand(self, quantity: str, reserved: str) -> str:
        """What is physically there: a net quantity has the reserved units taken off."""
        net = self.resolved.mapping.quantity_basis == "net"
        return f"({quantity}) + ({reserved})" if net else quantity
