"""How far numbers may drift between two looks at migrated stock, and how many looks are kept.

None of it is part of what moves, so it can be changed at any time. What else is expected of stock
after the move is in `expectations/steady_state.json`; how it is looked at, in `engine/steady.py`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from inventory_migration.mapping.parts import Part


class Monitor(Part):
    """How far numbers may drift, and how many looks are kept.

    A shop sells, so that nothing is bounded unless somebody says how much is too much.

    Attributes:
        records_percent: How far the number of records may have risen or fallen.
        units_percent: How far the units may.
        reserved_percent: How far what is reserved may.
        per: Whether only the total is bounded, or each company's number as well.
        ignore_below: A number that was smaller is too small to say anything by its percentage.
        since: Since the last look at which nothing was wrong, or since the last verification.
        keep: How many looks are kept.
    """

    records_percent: float | None = Field(default=None, ge=0)
    units_percent: float | None = Field(default=None, ge=0)
    reserved_percent: float | None = Field(default=None, ge=0)
    per: Literal["total", "company"] = "total"
    ignore_below: float = Field(default=0, ge=0)
    since: Literal["last", "verified"] = "last"
    keep: int = Field(default=1000, ge=2, le=100_000)

    @property
    def bounds(self) -> dict[str, float]:
        """The measures that are bounded, each with its percentage."""
        found = {
            "records": self.records_percent,
            "units": self.units_percent,
            "reserved": self.reserved_percent,
        }
        return {name: percent for name, percent in found.items() if percent is not None}
