"""What a mapping expects of its inventory beside the suites that ship, and what it expects less.

None of it is part of what moves, so that a migration that stands still goes on when it is changed;
a gate's verdict is given anew. What the suites are is said in `expectations/`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from inventory_migration.mapping.parts import Expression, Part


class Loosened(Part):
    """An expectation that counts for less here, and why.

    Attributes:
        to: What it counts as when it is not met.
        reason: Why that is right for this inventory; shown with the finding and the verdict.
    """

    to: Literal["warning", "info"]
    reason: str = Field(min_length=1, max_length=300, pattern=r"\S")


class Expectations(Part):
    """What the first gate expects beside its own suite, and where it is loosened.

    Attributes:
        suite: A suite of the mapping's own, `expectations/<suite>.json`.
        loosen: Expectations that count for less, by key.
        reserved: What should be reserved of a record, over the alias `s`.
    """

    suite: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_]{0,59}$")
    loosen: dict[str, Loosened] = Field(default_factory=dict)
    reserved: Expression | None = None
