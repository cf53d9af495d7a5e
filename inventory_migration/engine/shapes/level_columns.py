"""What a level of stock has in its columns: what names its record, its numbers, and all the rest.

Of the rest some follows from the mapping or from the numbers; of what does not, a hash is kept, by
which a level can be told that somebody else has changed. Statements are in `stock_level.py`.
"""

from __future__ import annotations

from inventory_migration.catalog import FLOATS, INTEGERS, Column, literal
from inventory_migration.database import quoted
from inventory_migration.engine import columns
from inventory_migration.engine.shapes.shape import Shape
from inventory_migration.mapping import (
    Canonical,
    Expression,
    Generated,
    Standardised,
)
from inventory_migration.mapping import StockLevel as Target


class LevelColumns(Shape):
    """The columns of a level, alias `t`."""

    @property
    def target(self) -> Target:
        """What the mapping says of the levels."""
        target = self.resolved.mapping.target
        assert isinstance(target, Target)  # noqa: S101 - the registry goes by the target's shape
        return target

    def _record(self, alias: str) -> list[str]:
        """The columns of a level that name its record, in the order of the canonical keys."""
        if self.resolved.target_key:
            return [f"{alias}.{quoted(part.column)}" for part in self.resolved.target_key]
        by_key = {key: column for column, key in self.target.record_columns.items()}
        return [f"{alias}.{quoted(by_key[key.name])}" for key in self.resolved.key_columns]

    def _keys_of_record(self) -> list[str]:
        """The canonical keys in the order in which the mapping names the level's columns."""
        canonical = columns.record_keys(self.resolved)
        if self.resolved.target_key:
            return canonical
        names = [key.name for key in self.resolved.key_columns]
        return [canonical[names.index(key)] for key in self.target.record_columns.values()]

    def _of_record(self, alias: str, other: str) -> str:
        """The condition that a level is one of the record of a relation with canonical keys."""
        pairs = zip(self._record(alias), columns.record_keys(self.resolved), strict=True)
        return " AND ".join(f"{column} = {other}.{key}" for column, key in pairs)

    def _numbers(self, alias: str) -> list[str]:
        """The numbers of a level, exactly."""
        levels = self.resolved.levels
        return [
            f"{alias}.{quoted(name)}"
            + ("::text" if levels and levels.columns[name].base_type in FLOATS else "")
            + "::numeric"
            for name in self.target.numbers
        ]

    def inexact(self) -> str:
        """A number has more digits than its column holds, and would be rounded."""
        levels = self.resolved.levels
        if levels is None:
            return "false"
        numbers = [self.on_hand("quantity", "reserved"), "reserved"]
        reserved = self.resolved.mapping.source.reserved is not None
        read = [self.resolved.quantity_type, *([self.resolved.reserved_type] if reserved else [])]
        whole = all(name in INTEGERS for name in read)
        found = [
            _inexact(levels.columns[name], number, whole=whole)
            for name, number in zip(self.target.numbers, numbers, strict=False)
        ]
        return " OR ".join(condition for condition in found if condition) or "false"

    def _canonical(self, value: Canonical, record: str) -> str:
        """A canonical value of a record, by the alias that it goes by, dot included."""
        quantity, reserved = f"{record}quantity", f"{record}reserved"
        on_hand = self.on_hand(quantity, reserved)
        return {
            "company": f"{record}company_key",
            "item": f"{record}item_key",
            "quantity": quantity,
            "on_hand": on_hand,
            "reserved": reserved,
            "available": f"({on_hand}) - {reserved}",
            "location": f"{record}default_location",
        }[value.from_]

    def _follows(self, value: Canonical) -> str:
        """What a column that follows a level's numbers must hold, by these numbers."""
        on_hand, reserved = self._numbers("t")[0], self._numbers("t")[-1]
        available = f"({on_hand} - {reserved})"
        net = self.resolved.mapping.quantity_basis == "net"
        quantity = available if net else on_hand
        known = {"on_hand": on_hand, "reserved": reserved, "available": available}
        return {**known, "quantity": quantity}[value.from_]

    def _underivable(self) -> list[Column]:
        """The columns of a level of which nobody can say afterwards what we wrote."""
        levels = self.resolved.levels
        if levels is None:
            return []
        target = self.target
        derived = {*target.record, target.location, *target.numbers, *target.following}
        derived |= self._constants().keys()
        return [
            column
            for column in levels.columns.values()
            if column.name not in derived and not column.generated
        ]

    def _hash(self) -> str:
        """A hash of what cannot be derived of a level `t`; the same for all where all can."""
        rest = self._underivable()
        return columns.hash_of(rest, "t") if rest else "0::bigint"

    def _constants(self) -> dict[str, str]:
        """What the mapping gives every level alike, in the column's own type."""
        levels = self.resolved.levels
        types = levels.columns if levels else {}
        return {
            name: f"({literal(value)})" + (f"::{types[name].type}" if name in types else "")
            for name, value in self.target.values.items()
            if not isinstance(value, Canonical | Expression | Generated | Standardised)
        }

    def rest_same(self, image: str) -> str:
        """The condition that of a level `t` nothing but its numbers has changed since `image`."""
        conditions = [
            f"t.{quoted(name)} IS NOT DISTINCT FROM {value}"
            for name, value in self._constants().items()
        ]
        conditions += [
            f"t.{quoted(name)} IS NOT DISTINCT FROM {self._follows(value)}"
            for name, value in self.target.following.items()
        ]
        rest = self._underivable()
        if rest:
            conditions.append(f"{self._hash()} IS NOT DISTINCT FROM {image}")
        return f"({' AND '.join(conditions)})" if conditions else "true"


def _inexact(column: Column, number: str, *, whole: bool) -> str | None:
    """The condition that a column cannot hold a number to the last digit.

    Args:
        column: The column.
        number: The number.
        whole: Whether it comes of integers, which need not be asked whether they are.
    """
    if column.base_type in INTEGERS:
        return None if whole else f"{number} <> trunc({number})"
    if column.base_type in FLOATS:
        # Beyond its range the server refuses the record itself, and says so.
        return f"abs({number}) < 1e30 AND ({number})::{column.type}::text::numeric <> {number}"
    modifier = column.type.partition("(")[2].rstrip(")").split(",")
    if len(modifier) == 2:
        return f"{number} <> round({number}, {int(modifier[1])})"
    return f"{number} <> trunc({number})" if modifier[0] else None
