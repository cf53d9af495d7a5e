"""What must still work after the move: an application's operations and its reporting queries.

None of it is part of what moves. How operations are tried, and queries compared, is in
`engine/acceptance/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from inventory_migration.mapping.parts import Expression, Part, one_or_many
from inventory_migration.mapping.statements import unfit

# Whatever else a session may be told, such as COMMIT, is no operation of an application.
_WRITES = ("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES", "CALL", "DO")
_READS = ("SELECT", "WITH", "VALUES", "TABLE")

COMPANY = ("company",)
SAMPLE = ("item", "on_hand", "reserved", "location", "second_location")
"""What operations can ask for beside the company and the keys of record and level."""

Amount = Annotated[Decimal, Field(allow_inf_nan=False)]
Statements = Annotated[list[str], BeforeValidator(one_or_many), Field(min_length=1)]


def key_names(name: str, columns: int) -> tuple[str, ...]:
    """The parameters that hold a key: `:record`, or `:record_1` and so on where it has several."""
    if columns == 1:
        return (name,)
    return tuple(f"{name}_{number}" for number in range(1, columns + 1))


class Expected(Part):
    """What an operation does to the totals; what is left out stays as it is.

    Attributes:
        on_hand: What is physically there.
        reserved: What is promised of it; the rest is available.
        moved: What goes from the default location to the second one: so many, or all of the record.
    """

    on_hand: Amount = Decimal(0)
    reserved: Amount = Decimal(0)
    moved: Amount | Literal["all"] = Decimal(0)

    @property
    def amount(self) -> Decimal:
        """How many units it is about, whichever way they go."""
        moved = Decimal(0) if self.moved == "all" else self.moved
        return abs(self.on_hand) + abs(self.reserved) + abs(moved)


class Operation(Part):
    """Something that the application does with stock, and what comes of it.

    Attributes:
        sql: Its statements, in this order.
        after: Operations whose statements are executed before, without looking what they do.
        expect: The effect of its own statements.
    """

    sql: Statements
    after: Annotated[list[str], BeforeValidator(one_or_many)] = Field(default_factory=list)
    expect: Expected = Expected()


class Query(Part):
    """A report of the application's own: as it was asked before the move, and as it is now.

    Attributes:
        old: Over the tables as they were, which must still be there; without it none is compared.
        new: Over the tables as they are now; must give the very same rows.
    """

    old: str | None = None
    new: str

    @field_validator("old", "new")
    @classmethod
    def _reads(cls, sql: str | None) -> str | None:
        if sql is not None:
            wrong = list(unfit(sql, begins=_READS, known=()))
            if wrong:
                raise ValueError("; ".join(wrong))
        return sql


class Acceptance(Part):
    """What `acceptance` tries and asks.

    Attributes:
        role: With whose rights operations are executed; without it, with those of the connection.
        record: Which stock records operations may be tried on; without it, any that was moved.
        second_location: Makes a second location for a company that has none: statements of which
            the last returns its key.
        operations: What the application does with stock, by name.
        queries: What it asks, by name, beside the questions that every mapping answers.
        slower_than: By which factor a query may be slower than before.
        slower_by_ms: And by how much at least, so that what takes no time is not told of.
    """

    role: Annotated[str, Field(min_length=1)] | None = None
    record: Expression | None = None
    second_location: Annotated[list[str], BeforeValidator(one_or_many)] = Field(
        default_factory=list
    )
    operations: dict[str, Operation] = Field(default_factory=dict)
    queries: dict[str, Query] = Field(default_factory=dict)
    slower_than: float = Field(default=2.0, gt=1)
    slower_by_ms: float = Field(default=100.0, ge=0)

    @field_validator("operations", "queries")
    @classmethod
    def _named(cls, value: dict[str, object]) -> dict[str, object]:
        for name in value:
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
                raise ValueError(
                    f"{name!r} is no name: use lower-case letters, digits and _, beginning with a "
                    "letter, 40 characters at most"
                )
        return value

    @model_validator(mode="after")
    def _after_what_is_there(self) -> Acceptance:
        wrong = [
            f"operations.{name}: after names {other}, which is no operation"
            for name, operation in self.operations.items()
            for other in operation.after
            if other not in self.operations
        ]
        # An operation that comes after itself, by whatever way.
        wrong += [
            f"operations.{name} comes after itself"
            for name in self.operations
            if not wrong and name in self._before(name, set())
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _before(self, name: str, seen: set[str]) -> set[str]:
        for other in self.operations[name].after:
            if other not in seen:
                seen.add(other)
                self._before(other, seen)
        return seen

    def earlier(self, name: str) -> list[Operation]:
        """The operations that one comes after, in the order in which they are executed."""
        found: list[Operation] = []
        for other in self.operations[name].after:
            found += [*self.earlier(other), self.operations[other]]
        return found

    def unfit(self, record: tuple[str, ...], level: tuple[str, ...]) -> Iterator[str]:
        """Say everything that keeps the statements from being executed.

        Args:
            record: The parameters that hold the record's key.
            level: Those that hold its level's, where that is another.
        """
        for sql in self.second_location:
            for problem in unfit(sql, begins=_WRITES, known=COMPANY):
                yield f"acceptance.second_location: {problem}"
        known = (*COMPANY, *record, *level, *SAMPLE)
        for name, operation in self.operations.items():
            for sql in operation.sql:
                for problem in unfit(sql, begins=_WRITES, known=known):
                    yield f"acceptance.operations.{name}: {problem}"

    @property
    def needed(self) -> Decimal:
        """How much a record must have available for each operation to find enough of it."""
        most = Decimal(1)
        for name, operation in self.operations.items():
            expected = [one.expect for one in (*self.earlier(name), operation)]
            most = max(most, sum((one.amount for one in expected), Decimal(0)))
        return most
