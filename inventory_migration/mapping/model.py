"""What moves: one application's tables, the shape of its target, and its rules.

The model behind a mapping file. How a file is read is in `files.py`; whether its names exist in a
database is asked in `catalog/`; what it means as SQL is said in `engine/canonical.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictInt,
    StrictStr,
    Tag,
    field_validator,
    model_validator,
)

from inventory_migration.mapping import entries
from inventory_migration.mapping.acceptance import Acceptance, key_names
from inventory_migration.mapping.health import Health
from inventory_migration.mapping.limits import Gates, Thresholds
from inventory_migration.mapping.monitor import Monitor
from inventory_migration.mapping.parts import (
    Action,
    ColumnOrExpression,
    Expression,
    Part,
    Standardised,
    Table,
    Timestamptz,
    ValueOrExpression,
    named_column,
    one_or_many,
)
from inventory_migration.mapping.places import Locations
from inventory_migration.mapping.retention import Retention
from inventory_migration.mapping.targets import AllocationJson, StockLevel, TargetShape


class Company(Part):
    """Who owns stock: a table with a key and a name.

    Attributes:
        table: Which table.
        key: Its key.
        name: The column that names a company.
    """

    table: Table
    key: str
    name: str

    def __str__(self) -> str:
        """The table."""
        return str(self.table)


class CompanyQuery(Part):
    """Who owns stock where no table says so: a SELECT with a row for each company.

    Attributes:
        sql: The SELECT.
        key: Its column that tells companies apart.
        name: Its column that names them.
    """

    sql: str = Field(min_length=1)
    key: str = "key"
    name: str = "name"

    def __str__(self) -> str:
        """What it is called where a table would be."""
        return "company.sql"


def _company_form(value: object) -> str:
    """Which form of a company is meant, so that a mistake in it is told once."""
    query = "sql" in value if isinstance(value, dict) else isinstance(value, CompanyQuery)
    return "CompanyQuery" if query else "Company"


Companies = Annotated[
    Annotated[Company, Tag("Company")] | Annotated[CompanyQuery, Tag("CompanyQuery")],
    Discriminator(_company_form),
]


class LinkTable(Part):
    """A table that says whom a record belongs to.

    Attributes:
        table: Which.
        record: Its columns that name the record, each with the record's own column.
        company: Its column that names the company.
    """

    table: Table
    record: dict[str, str] = Field(min_length=1)
    company: str


class Through(Part):
    """The company of a record as another table has it, which may have none, or several.

    Attributes:
        through: Which table says it.
    """

    through: LinkTable


def _owner_form(value: object) -> str:
    """Whether the record says whom it belongs to, or another table."""
    linked = "through" in value if isinstance(value, dict) else isinstance(value, Through)
    return "Through" if linked else "OfTheRecord"


CompanyOfRecord = Annotated[
    Annotated[ColumnOrExpression, Tag("OfTheRecord")] | Annotated[Through, Tag("Through")],
    Discriminator(_owner_form),
]


class Source(Part):
    """The stock records: key, owner, item and numbers.

    Attributes:
        table: Which table holds the stock records.
        key: The columns that tell them apart.
        company: Whose a record is.
        joins: What is joined to it; it must give one row for each record.
        item: What is in stock, such as an SKU.
        quantity: How much.
        reserved: How much of it is promised.
        skip: Records that are left out, by reason, and the condition of each.
    """

    table: Table
    key: Annotated[list[str], BeforeValidator(one_or_many), Field(min_length=1)]
    company: CompanyOfRecord
    joins: str = ""
    item: ColumnOrExpression
    quantity: ColumnOrExpression
    reserved: ColumnOrExpression | None = None
    skip: dict[str, Expression] = Field(default_factory=dict)

    @field_validator("company", "item")
    @classmethod
    def _stays_text(cls, value: ColumnOrExpression) -> ColumnOrExpression:
        if isinstance(value, Standardised) and value.conversion is not None:
            raise ValueError("only trim, collapse_space and upper make sense here")
        return value

    @field_validator("quantity", "reserved")
    @classmethod
    def _is_no_time(cls, value: ColumnOrExpression | None) -> ColumnOrExpression | None:
        if isinstance(value, Standardised) and isinstance(value.conversion, Timestamptz):
            raise ValueError("a quantity is a number, not a point in time")
        return value


RESERVED_RULES = {
    "default_location_missing",
    "refused_by_server",
    "write_suppressed",
    "references_changed",
}
"""Names under which the engine itself tells of a record; no rule of a mapping's own has them."""


class OwnRule(Part):
    """A rule of the mapping's own: the records that break it, and what to do with them.

    Attributes:
        when: The condition that breaks it.
        do: What happens then.
    """

    when: Expression
    do: Action


class Rules(Part):
    """What to do with a record that breaks a rule: the built-in ones in the order of this list.

    A mapping's own rules come after them, in the order of its file.

    Attributes:
        company_ambiguous: The record belongs to more than one company.
        company_missing: It belongs to no company that there is.
        location_foreign: It refers to a location that is missing or another company's.
        target_key_missing: A part of what would name its level is NULL.
        target_key_shared: Another record would write the same level.
        target_exists: There is a level already, which says something else.
        quantity_missing: The quantity is NULL or blank.
        quantity_not_a_number: The quantity or what is reserved is no finite number.
        quantity_inexact: The target's columns would round it.
        value_unconvertible: A text for the target is not in its format.
        negative_quantity: The quantity is negative.
        reserved_exceeds_quantity: More is reserved than there is.
        item_duplicate: Its company has the item more than once.
        default_location_ambiguous: Its company has more than one default location.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, OwnRule] = Field(init=False)

    company_ambiguous: Action = "quarantine"
    company_missing: Action = "quarantine"
    location_foreign: Action = "quarantine"
    target_key_missing: Action = "quarantine"
    target_key_shared: Action = "quarantine"
    target_exists: Action = "quarantine"
    quantity_missing: Action = "quarantine"
    quantity_not_a_number: Action = "quarantine"
    quantity_inexact: Action = "quarantine"
    value_unconvertible: Action = "quarantine"
    negative_quantity: Action = "warn"
    reserved_exceeds_quantity: Action = "warn"
    item_duplicate: Action = "warn"
    default_location_ambiguous: Action = "fail"

    @model_validator(mode="after")
    def _what_cannot_be_written_is_not_warned_about(self) -> Rules:
        unwritable = (
            "company_ambiguous",
            "company_missing",
            "location_foreign",
            "target_key_missing",
            "target_key_shared",
            "target_exists",
            "quantity_missing",
            "quantity_not_a_number",
            "quantity_inexact",
            "value_unconvertible",
            "default_location_ambiguous",
        )
        warned = [rule for rule in unwritable if getattr(self, rule) == "warn"]
        if warned:
            raise ValueError(
                f"{', '.join(warned)} cannot be 'warn': such a record has nowhere to go; "
                "say 'quarantine' or 'fail'"
            )
        return self

    @model_validator(mode="after")
    def _own_names_are_names(self) -> Rules:
        for name in self.own:
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
                raise ValueError(
                    f"{name!r} cannot name a rule: use lower-case letters, digits and _, beginning "
                    "with a letter, 40 characters at most"
                )
            if name in RESERVED_RULES:
                raise ValueError(f"{name} is a rule that nobody can change; choose another name")
        return self

    @property
    def own(self) -> dict[str, OwnRule]:
        """The mapping's own rules, in the order of its file."""
        return dict(self.__pydantic_extra__ or {})

    def actions(self) -> dict[str, Action]:
        """Every rule with its action, in the order in which they are applied."""
        built_in = {rule: getattr(self, rule) for rule in type(self).model_fields}
        return built_in | {name: rule.do for name, rule in self.own.items()}


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
        guard: Whether a trigger gives new records their location.
        touch: Columns of the record that are set beside the target.
        retention: How long the ledger and its archives are kept.
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
    retention: Retention = Field(default_factory=Retention)
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
        # How much is tolerated, who is told, when, how fast, kept how long, tried and watched
        # afterwards: no part of what moves, and an operator may change it while a migration stands
        # still.
        for name in ("thresholds", "health", "monitor", "retention", "acceptance"):
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
