"""What moves: the mapping file as a model.

A mapping names the tables, keys and columns of an application, the shape of its target and the
rules for records that cannot simply be migrated. Here a file becomes a `StockMapping` or one
sentence per mistake, with file and line. Whether the names exist in a database is asked in
`catalog.py`; what the mapping means as SQL is said in `engine/canonical.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from inventory_migration.errors import MappingInvalid, MappingNotFound
from inventory_migration.project import listing

MARKER = "SYSTEM_MIGRATION"

# Strict, so that 1.0 stays a number and does not become true.
Scalar = StrictBool | StrictInt | Annotated[Decimal, Field(allow_inf_nan=False)] | StrictStr | None
Action = Literal["quarantine", "warn", "fail"]


class _Part(BaseModel):
    """Base of all parts: an unknown key is a mistake, and a mapping does not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Expression(_Part):
    """An SQL expression over the alias `s` of the source table, trusted like code."""

    sql: str = Field(min_length=1)


ColumnOrExpression = str | Expression
ValueOrExpression = Scalar | Expression


class TableName(_Part):
    """A table, in a schema or wherever the search path finds it."""

    schema_: str | None = Field(default=None, alias="schema")
    name: str = Field(min_length=1)

    def __str__(self) -> str:
        """The name as a mapping file spells it."""
        return f"{self.schema_}.{self.name}" if self.schema_ else self.name


def _table_name(value: object) -> object:
    """Accept `stock_items` and `shop.stock_items`; a name that holds a dot needs the long form."""
    if not isinstance(value, str):
        return value
    schema, dot, name = value.partition(".")
    return {"schema": schema, "name": name} if dot else {"name": value}


Table = Annotated[TableName, BeforeValidator(_table_name)]


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Company(_Part):
    """Who owns stock: a table with a key and a name."""

    table: Table
    key: str
    name: str


class Locations(_Part):
    """Where stock can be, how a default location is recognised and how one is made."""

    table: Table
    key: str
    company: str
    default: dict[str, Scalar] = Field(min_length=1)
    create: dict[str, ValueOrExpression] | None = None
    add: bool = False


class Source(_Part):
    """The stock records: key, owner, item and numbers."""

    table: Table
    key: Annotated[list[str], BeforeValidator(_one_or_many), Field(min_length=1)]
    company: ColumnOrExpression
    joins: str = ""
    item: ColumnOrExpression
    quantity: ColumnOrExpression
    reserved: ColumnOrExpression | None = None
    skip: dict[str, Expression] = Field(default_factory=dict)


class LocationColumn(_Part):
    """The shape in which a stock record holds a reference to its location."""

    shape: Literal["location_column"]
    column: str
    add: bool = False

    @property
    def columns(self) -> list[str]:
        """Every column that the shape writes."""
        return [self.column]


class AllocationJson(_Part):
    """The shape in which a stock record holds its allocations as JSON, by location."""

    shape: Literal["allocation_json"]
    column: str
    transfers: str | None = None
    add: bool = False

    @property
    def columns(self) -> list[str]:
        """Every column that the shape writes."""
        return [self.column, *([self.transfers] if self.transfers else [])]


TargetShape = Annotated[LocationColumn | AllocationJson, Field(discriminator="shape")]


class Rules(_Part):
    """What to do with a record that breaks a built-in rule; applied in the order of this list."""

    company_missing: Action = "quarantine"
    location_foreign: Action = "quarantine"
    quantity_missing: Action = "quarantine"
    quantity_not_a_number: Action = "quarantine"
    negative_quantity: Action = "warn"
    reserved_exceeds_quantity: Action = "warn"
    item_duplicate: Action = "warn"
    default_location_ambiguous: Action = "fail"

    @model_validator(mode="after")
    def _what_cannot_be_written_is_not_warned_about(self) -> Rules:
        unwritable = (
            "company_missing",
            "location_foreign",
            "quantity_missing",
            "quantity_not_a_number",
            "default_location_ambiguous",
        )
        warned = [rule for rule in unwritable if getattr(self, rule) == "warn"]
        if warned:
            raise ValueError(
                f"{', '.join(warned)} cannot be 'warn': such a record has nowhere to go; "
                "say 'quarantine' or 'fail'"
            )
        return self

    def actions(self) -> dict[str, Action]:
        """Every rule with its action, in the order in which they are applied."""
        return {rule: getattr(self, rule) for rule in type(self).model_fields}


class Phase(_Part):
    """A group of companies that goes together; without a size, all that are left."""

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


class Chunk(_Part):
    """How much one unit of work holds, and how long a transaction should take."""

    rows: int = Field(default=1000, ge=1, le=100_000)
    target_ms: int = Field(default=500, ge=10, le=60_000)


class Thresholds(_Part):
    """When a migration stops by itself, and what it does then."""

    quarantined_percent: float = Field(default=1.0, ge=0, le=100)
    after_records: int = Field(default=1000, ge=0)
    failed_attempts: int = Field(default=8, ge=1)
    action: Literal["rollback", "pause", "continue"] = "rollback"


class Gates(_Part):
    """How long a gate's verdict may be relied on."""

    max_age_minutes: int = Field(default=24 * 60, ge=1)


class StockMapping(_Part):
    """One application's tables, the shape of its target and its rules."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    company: Company
    locations: Locations
    source: Source
    target: TargetShape
    quantity_basis: Literal["gross", "net"] = "gross"
    rules: Rules = Field(default_factory=Rules)
    phases: list[Phase] = Field(default_factory=lambda: [Phase(name="rest")], min_length=1)
    chunk: Chunk = Field(default_factory=Chunk)
    thresholds: Thresholds = Field(default_factory=Thresholds)
    gates: Gates = Field(default_factory=Gates)
    guard: bool = False
    touch: dict[str, ValueOrExpression] = Field(default_factory=dict)

    @field_validator("guard")
    @classmethod
    def _no_guard_yet(cls, value: bool) -> bool:
        if value:
            raise ValueError("the guard trigger is not part of this release; remove the line")
        return value

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
        read = {column for column in named if isinstance(column, str)}
        wrong = []
        if self.target.column in read:
            wrong.append(
                f"the target column cannot be {self.target.column}: the record is read from it"
            )
        for column in self.touch:
            if column == self.target.column:
                wrong.append(f"touch cannot set {column}: it is the target column")
            elif column in read:
                wrong.append(f"touch cannot set {column}: the record is read from it")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @property
    def hash(self) -> str:
        """SHA-256 of what the mapping says, whatever its file's layout and comments."""
        said = self.model_dump(mode="json", by_alias=True)
        # The first reason that fits decides, so their order is part of what is said.
        said["source"]["skip"] = list(said["source"]["skip"].items())
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def parse_mapping(text: str, origin: str) -> StockMapping:
    """Read a mapping from YAML text.

    Args:
        text: The YAML document.
        origin: What messages call it, normally the file's path.

    Raises:
        MappingInvalid: The text is no YAML or breaks the model; lists every problem with its line.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        problem = getattr(error, "problem", None) or getattr(error, "reason", "cannot be read")
        raise MappingInvalid(
            origin=origin, problems=[_at(origin, line, f"no YAML: {problem}")]
        ) from None
    except (ValueError, ArithmeticError, LookupError, AttributeError) as error:
        # The reader lets the errors of dates, numbers and tags that it converts escape.
        raise MappingInvalid(
            origin=origin, problems=[_at(origin, None, f"no YAML: {_one_line(error)}")]
        ) from None
    except RecursionError:
        raise MappingInvalid(
            origin=origin, problems=[_at(origin, None, "no YAML: nested too deeply")]
        ) from None
    if not isinstance(raw, dict):
        raise MappingInvalid(origin=origin, problems=[f"{origin}: a mapping is a set of keys"])
    repeated = [_at(origin, line, f"{key} is given twice") for key, line in _repeated_keys(node)]
    if repeated:
        raise MappingInvalid(origin=origin, problems=repeated)
    try:
        return StockMapping.model_validate(raw)
    except ValidationError as error:
        raise MappingInvalid(origin=origin, problems=_problems(origin, node, error)) from None


def load_mapping(path: Path) -> StockMapping:
    """Read a mapping file.

    Raises:
        MappingNotFound: There is no such file.
        MappingInvalid: The file is no valid mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise MappingNotFound(name=str(path), known=[], why=error.strerror or "") from None
    except UnicodeDecodeError:
        raise MappingInvalid(origin=str(path), problems=[f"{path}: not UTF-8 text"]) from None
    return parse_mapping(text, str(path))


def named_mapping(name: str) -> StockMapping:
    """Find a mapping by name: environment, project, package.

    Raises:
        MappingNotFound: No mapping of that name is known; names those that are.
        MappingInvalid: Its file is no valid mapping.
    """
    known = listing("mappings", ".yaml")
    if name not in known:
        raise MappingNotFound(name=name, known=sorted(known))
    found = load_mapping(known[name])
    if found.name != name:
        problem = f"{known[name]}: says name: {found.name}; a mapping is found by its file's name"
        raise MappingInvalid(origin=str(known[name]), problems=[problem])
    return found


def _one_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _at(origin: str, line: int | None, problem: str) -> str:
    return f"{origin}, line {line}: {problem}" if line else f"{origin}: {problem}"


def _problems(origin: str, node: yaml.Node | None, error: ValidationError) -> list[str]:
    """One sentence for each key that is wrong, however many ways to be right it missed."""
    found: dict[tuple[str, int | None], list[str]] = {}
    for detail in error.errors():
        loc = detail["loc"]
        if detail["type"].startswith("union_tag_"):
            loc = (*loc, "shape")
        path = ".".join(str(part) for part in _keys_of(loc))
        found.setdefault((path, _line_of(node, loc)), []).append(_message(detail))
    sentences = []
    for (path, line), messages in found.items():
        messages = list(dict.fromkeys(messages))
        text = "; ".join(messages)
        if all(message.startswith(_SHOULD_BE) for message in messages):
            text = "should be " + " or ".join(m.removeprefix(_SHOULD_BE) for m in messages)
        sentences.append(_at(origin, line, f"{path}: {text}" if path else text))
    return sentences


_SHOULD_BE = "Input should be "


def _message(detail: Mapping[str, Any]) -> str:
    known = {
        "extra_forbidden": "unknown key",
        "missing": "missing",
        "decimal_type": "Input should be a valid number",
        "dict_type": "Input should be a set of keys",
        "model_type": "Input should be a set of keys",
        "union_tag_not_found": "missing",
    }
    if detail["type"] == "union_tag_invalid":
        return f"Input should be {detail['ctx']['expected_tags']}"
    if detail["type"] == "model_type" and detail["ctx"]["class_name"] == Expression.__name__:
        return "Input should be {sql: ...}"
    return known.get(detail["type"], str(detail["msg"]).removeprefix("Value error, "))


def _keys_of(loc: Sequence[int | str]) -> Iterator[int | str]:
    branches = {"Expression", "str", "int", "bool", "decimal", "none", "TableName"}
    branches |= {"location_column", "allocation_json"}
    # A union's branch is the model's business; a user sees only keys.
    wrapped = ("function-", "list[", "nullable[", "constrained-")
    for part in loc:
        name = str(part)
        if name not in branches and not name.startswith(wrapped):
            yield part


def _line_of(node: yaml.Node | None, loc: Sequence[int | str]) -> int | None:
    """The line of the deepest key on the path that the file has."""
    line = None
    for part in _keys_of(loc):
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == str(part)]
            if not found:
                return line or node.start_mark.line + 1
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1 if node else line
    return line


def _repeated_keys(
    node: yaml.Node | None, within: frozenset[int] = frozenset()
) -> Iterator[tuple[str, int]]:
    if id(node) in within:
        # An alias of what it stands in; the model refuses it.
        return
    within |= {id(node)}
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _repeated_keys(child, within)
    if isinstance(node, yaml.MappingNode):
        seen: set[Hashable] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.value, key.start_mark.line + 1
            seen.add(key.value)
            yield from _repeated_keys(value, within)
