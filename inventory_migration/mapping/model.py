"""What moves, as a mapping file says it: its parts put together, and held against each other.

The parts have modules of their own. How a file is read is in `files.py`; whether its names exist in
a database is asked in `catalog/`; what it means as SQL is said in `engine/canonical.py`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import (
    Field,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)

from inventory_migration.mapping import entries
from inventory_migration.mapping.acceptance import Acceptance, key_names
from inventory_migration.mapping.expectations import Expectations
from inventory_migration.mapping.health import Health
from inventory_migration.mapping.limits import Gates, Thresholds
from inventory_migration.mapping.monitor import Monitor
from inventory_migration.mapping.notifications import Channel
from inventory_migration.mapping.owners import Companies, Through
from inventory_migration.mapping.parts import (
    Part,
    Standardised,
    ValueOrExpression,
    named_column,
)
from inventory_migration.mapping.places import Locations
from inventory_migration.mapping.retention import Retention
from inventory_migration.mapping.rules import Rules
from inventory_migration.mapping.source import Source
from inventory_migration.mapping.targets import AllocationJson, StockLevel, TargetShape


class Phase(Part):
    """A group of companies that goes together; without a size, all that are left.

    Attributes:
        name: Its name.
        companies: How many companies, or the keys of which.
        percent: Or which share of all companies.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    companies: (
        Annotated[StrictInt, Field(ge=1)]
        | Annotated[list[StrictInt | StrictStr], Field(min_length=1)]
        | None
    ) = None
    percent: float | None = Field(default=None, gt=0, le=100)

    @model_validator(mode="after")
    def _one_size(self) -> Phase:
        if self.companies is not None and self.percent is not None:
            raise ValueError("give either companies or percent, not both")
        return self


class Chunk(Part):
    """How much one unit of work holds, and how long a transaction should take.

    Attributes:
        rows: How many records at the most.
        target_ms: How long a transaction should take, in milliseconds; workers claim more or fewer
            chunks by it.
    """

    rows: int = Field(default=1000, ge=1, le=100_000)
    target_ms: int = Field(default=500, ge=10, le=60_000)


_NO_PART_OF_WHAT_MOVES = (
    *("thresholds", "expectations", "health", "monitor", "notifications"),
    *("retention", "acceptance"),
)


def _unnamed(target: StockLevel, source: Source) -> list[str]:
    """Why a level would not say whose it is, or nothing could keep it in step or be its key."""
    if target.keyed_by(source.key):
        return []
    columns = target.record_columns
    if len(columns) == len(target.record) and set(columns.values()) <= set(source.key):
        return [
            "target.record must name each key column of the record once: " + ", ".join(source.key)
        ]
    wrong = []
    if target.sync:
        wrong.append(
            "target.sync: the trigger follows a record by its own key, and target.record is not "
            "that: leave sync out, and end with --write-stop"
        )
    if target.add:
        wrong.append(
            "target.add: a table that is added has the record's own key, and target.record is not "
            "that: create the table first"
        )
    return wrong


class StockMapping(Part):
    """One application's tables, the shape of its target and its rules.

    Attributes:
        name: Names the mapping, its jobs and its reports.
        company: Who owns stock.
        locations: Where stock can be.
        source: The stock records.
        target: How the target says where stock is.
        quantity_basis: Whether open orders are still in the quantity, or are already taken off.
        rules: What may be wrong with a record, and what happens then.
        phases: Which companies go first.
        chunk: How much one transaction holds.
        thresholds: When a migration stops by itself.
        gates: How long a gate's verdict may be relied on.
        health: When a migration works, how fast, and what the server is spared.
        monitor: How far numbers may drift after the move, and how many looks are kept.
        notifications: Who hears of what happens.
        guard: Whether a trigger gives new records their location.
        touch: Columns of the record that are set beside the target.
        retention: How long the ledger and its archives are kept.
        expectations: What the first gate expects beside its suite, and where it is loosened.
        acceptance: What must still work after the move.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    company: Companies
    locations: Locations
    source: Source
    target: TargetShape
    quantity_basis: Literal["gross", "net"] = "gross"
    rules: Rules = Field(default_factory=Rules)
    phases: list[Phase] = Field(default_factory=lambda: [Phase(name="rest")], min_length=1)
    chunk: Chunk = Field(default_factory=Chunk)
    thresholds: Thresholds = Field(default_factory=Thresholds)
    gates: Gates = Field(default_factory=Gates)
    health: Health = Field(default_factory=Health)
    monitor: Monitor = Field(default_factory=Monitor)
    notifications: list[Channel] = Field(default_factory=list)
    retention: Retention = Field(default_factory=Retention)
    expectations: Expectations = Field(default_factory=Expectations)
    guard: bool = False
    touch: dict[str, ValueOrExpression] = Field(default_factory=dict)
    acceptance: Acceptance = Field(default_factory=Acceptance)

    @field_validator("phases")
    @classmethod
    def _phases_end_with_the_rest(cls, value: list[Phase]) -> list[Phase]:
        names = [phase.name for phase in value]
        if len(set(names)) < len(names):
            raise ValueError("two phases have the same name")
        if "sweep" in names:
            raise ValueError("'sweep' is the name of the phase for late arrivals; choose another")
        last = value[-1]
        if last.companies is not None or last.percent is not None:
            raise ValueError("the last phase takes all companies that are left: give it no size")
        sized = [p for p in value[:-1] if p.companies is not None or p.percent is not None]
        if len(sized) < len(value) - 1:
            raise ValueError("every phase but the last needs companies or percent")
        listed = [str(k) for p in value if isinstance(p.companies, list) for k in p.companies]
        twice = sorted({key for key in listed if listed.count(key) > 1})
        if twice:
            raise ValueError(f"two phases name company {', '.join(twice)}")
        return value

    @field_validator("notifications")
    @classmethod
    def _each_url_is_named_once(cls, value: list[Channel]) -> list[Channel]:
        names = [channel.url_variable for channel in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two entries name {', '.join(twice)}: put their events into one")
        return value

    @model_validator(mode="after")
    def _nothing_is_written_that_stock_rests_on(self) -> StockMapping:
        source = self.source
        named = (*source.key, source.company, source.item, source.quantity, source.reserved)
        read = {column for part in named if (column := named_column(part))}
        if isinstance(source.company, Through):
            read |= set(source.company.through.record.values())
        wrong = [
            f"the target column cannot be {column}: the record is read from it"
            for column in self.target.columns
            if column in read
        ]
        if self.touch and not self.target.columns:
            wrong.append(
                f"touch sets columns of the record, which {self.target.shape} does not write; "
                "set columns of the target in target.values"
            )
        for column in self.touch:
            if column in self.target.columns:
                wrong.append(f"touch cannot set {column}: it is the target column")
            elif column in read:
                wrong.append(f"touch cannot set {column}: the record is read from it")
        both = [name for name in self.rules.own if name in source.skip]
        if both:
            wrong.append(
                f"rules: {', '.join(both)} is a reason to skip a record already; choose another "
                "name"
            )
        if isinstance(self.target, StockLevel):
            wrong += _unnamed(self.target, source)
            if self.guard:
                wrong.append(
                    "guard: true gives a record itself its location, and levels are rows of their "
                    "own: say sync: true in target, whose trigger gives new records their level, "
                    "and take guard out"
                )
        if isinstance(self.target, AllocationJson):
            form, basis = self.target.as_, self.quantity_basis
            wrong += entries.unfit(self.target.fields, form=form, basis=basis)
        wrong += self.acceptance.unfit(self.record_names, self.level_names)
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @property
    def record_names(self) -> tuple[str, ...]:
        """What statements of the mapping call the key of a record."""
        return key_names("record", len(self.source.key))

    @property
    def level_names(self) -> tuple[str, ...]:
        """What they call the key of a level, where it is another than the record's."""
        target = self.target
        if not isinstance(target, StockLevel) or target.keyed_by(self.source.key):
            return ()
        return key_names("level", len(target.record))

    @property
    def rules_without_meaning(self) -> list[str]:
        """The rules that no record of this mapping can break."""
        found = ["reserved_exceeds_quantity"] if self.quantity_basis == "net" else []
        if not isinstance(self.source.company, Through):
            found.append("company_ambiguous")
        if not isinstance(self.target, StockLevel):
            found += ["target_exists", "target_key_shared", "quantity_inexact"]
        if not isinstance(self.target, StockLevel) or self.target.keyed_by(self.source.key):
            found.append("target_key_missing")
        return found if self.converted_values else [*found, "value_unconvertible"]

    @property
    def converted_values(self) -> dict[str, Standardised]:
        """The columns of the target whose texts are converted, and may refuse to be."""
        values = self.target.values if isinstance(self.target, StockLevel) else {}
        return {
            name: value
            for name, value in values.items()
            if isinstance(value, Standardised) and value.conversion is not None
        }

    @property
    def needs_write_stop(self) -> bool:
        """Whether nothing keeps the target in step while the application writes its records."""
        return isinstance(self.target, StockLevel) and not self.target.sync

    @property
    def hash(self) -> str:
        """SHA-256 of what the mapping says, whatever its file's layout and comments."""
        said = self.model_dump(mode="json", by_alias=True)
        # How much is tolerated, expected, who is told, when, how fast, kept how long, tried and
        # watched afterwards: no part of what moves, and an operator may change it while a migration
        # stands still.
        for name in _NO_PART_OF_WHAT_MOVES:
            del said[name]
        # What is usual is what was meant before there was anything else to say.
        if isinstance(self.target, AllocationJson):
            for name, usual in (("as", "object"), ("entry", None)):
                if said["target"][name] == usual:
                    del said["target"][name]
            # A decimal looks like its text there, and is another thing in JSON.
            if decimals := entries.decimals(self.target.fields):
                said["target"]["decimals"] = decimals
        # The first reason that fits decides, so their order is part of what is said.
        said["source"]["skip"] = list(said["source"]["skip"].items())
        own = {name: said["rules"].pop(name) for name in self.rules.own}
        if own:
            said["rules"]["own"] = list(own.items())
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
