"""The shape in which a stock record holds its allocations as JSON, an entry per location.

An entry says how much is allocated and reserved there, when that was written and by whom; a
migration signs with its marker. A second column, where the mapping names one, lists transfer
requests and starts empty.
"""

from __future__ import annotations

from inventory_migration.database import quoted
from inventory_migration.engine.shapes.shape import Held
from inventory_migration.engine.shapes.source_columns import SourceColumns
from inventory_migration.mapping import MARKER
from inventory_migration.mapping import AllocationJson as Target


class AllocationJson(SourceColumns):
    """`{"<location key>": {"allocated": …, "reserved": …, "lastUpdated": …, "updatedBy": …}}`."""

    @property
    def location_type(self) -> str:
        """A key of a JSON object is text, whatever the type of the locations' key."""
        return "text"

    def location_key(self, alias: str = "s") -> str:
        """The object's first key; type and text of what is no object, which names no location."""
        column = self._column(alias)
        return (
            f"CASE WHEN {self.empty(alias)} THEN NULL "
            f"WHEN jsonb_typeof({column}) = 'object' "
            f"THEN (SELECT min(im_k) FROM jsonb_object_keys({column}) AS im_k) "
            # The text of a bare number would be some location's key.
            f"ELSE jsonb_typeof({column}) || ' ' || {column}::text END"
        )

    def same_location(self, key: str, location_key: str) -> str:
        """Equal as text, which is how a key becomes the key of an object."""
        return f"{key}::text = {location_key}"

    def names(self, alias: str, key: str) -> str:
        """The object has an entry of that key."""
        return f"jsonb_exists({self._column(alias)}, {key}::text)"

    def empty(self, alias: str = "s") -> str:
        """NULL, or JSON that holds nothing."""
        column = self._column(alias)
        return f"({column} IS NULL OR {column} IN ('null', '{{}}', '[]'))"

    def signed(self, alias: str = "s") -> str:
        """An entry has our marker."""
        marked = f"im_e.value ->> 'updatedBy' = '{MARKER}'"
        return f"EXISTS (SELECT FROM jsonb_each({self._column(alias)}) AS im_e WHERE {marked})"

    def values(self, *, location: str, quantity: str, reserved: str, at: str) -> list[str]:
        """One entry for the location, and no transfer requests."""
        on_hand = self.on_hand(quantity, reserved)
        moment = f"to_char({at} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"
        allocations = (
            f"jsonb_build_object(({location})::text, jsonb_build_object("
            f"'allocated', {on_hand}, 'reserved', {reserved}, "
            f"'lastUpdated', {moment}, 'updatedBy', '{MARKER}'))"
        )
        return [allocations, *(["'[]'::jsonb"] if self._target.transfers else [])]

    def held(self, alias: str = "s") -> Held | None:
        """The sums over all entries of the object; NULL where one of them holds no number."""
        column = self._column(alias)

        def total(name: str) -> str:
            value = f"im_e.value -> '{name}'"
            number = f"CASE WHEN jsonb_typeof({value}) = 'number' THEN ({value})::numeric END"
            return (
                f"CASE WHEN jsonb_typeof({column}) = 'object' THEN "
                f"(SELECT CASE WHEN count(*) = count({number}) THEN sum({number}) END "
                f"FROM jsonb_each({column}) AS im_e) END"
            )

        return Held(total("allocated"), total("reserved"))

    @property
    def _target(self) -> Target:
        target = self.resolved.mapping.target
        assert isinstance(target, Target)  # noqa: S101 - the registry goes by the target's shape
        return target

    def _column(self, alias: str) -> str:
        return f"{alias}.{quoted(self._target.column)}"
