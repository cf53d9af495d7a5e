"""Reading mapping files: a `StockMapping`, or one sentence for each mistake, with file and line.

Where files are looked for is decided in `project.py`; what their keys mean is said in `model.py`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from inventory_migration.errors import MappingInvalid, MappingNotFound, nearest
from inventory_migration.mapping.model import StockMapping
from inventory_migration.mapping.rules import Rules
from inventory_migration.project import listing


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
        what = "the file is empty" if raw is None else "this is none"
        raise MappingInvalid(
            origin=origin,
            problems=[f"{origin}: a mapping is a set of keys (name, company, …), and {what}"],
        )
    found = [_at(origin, line, f"{key} is given twice") for key, line in _repeated_keys(node)]
    found += [_at(origin, line, problem) for problem, line in _unstorable(node)]
    if found:
        raise MappingInvalid(origin=origin, problems=found)
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
        "union_tag_not_found": "missing",
        "too_short": "is empty, and needs one at least",
        "string_too_short": "is empty",
        "string_type": "Input should be text",
        "int_type": "Input should be a whole number",
        "int_parsing": "Input should be a whole number",
        "float_parsing": "Input should be a number",
    }
    if detail["type"] == "union_tag_invalid":
        tags = str(detail["ctx"]["expected_tags"])
        return f"Input should be {' or '.join(tags.rsplit(', ', 1))}"
    if detail["type"] == "model_type" and detail["ctx"]["class_name"] == "OwnRule":
        near = nearest(str(detail["loc"][-1]), Rules.model_fields)
        return f"no rule of that name{near}; a rule of your own is {_OWN_RULE}"
    if detail["type"] == "model_type":
        form = _FORMS.get(detail["ctx"]["class_name"])
        return f"Input should be {form}" if form else "Input should be a set of keys"
    if detail["type"] == "string_pattern_mismatch":
        longest = re.search(r"\{0,(\d+)\}", str(detail["ctx"]["pattern"]))
        limit = f", {int(longest[1]) + 1} characters at most" if longest else ""
        return f"should be lower-case letters, digits and _, beginning with a letter{limit}"
    return known.get(detail["type"], str(detail["msg"]).removeprefix("Value error, "))


_OWN_RULE = "{when: {sql: ...}, do: quarantine}, or warn, or fail"

_FORMS = {"Expression": "{sql: ...}", "TableName": "a name, or {schema: ..., name: ...}"}
"""What may stand for a part of a mapping, as its file spells it."""


def _keys_of(loc: Sequence[int | str]) -> Iterator[int | str]:
    branches = {"Constant", "Expression", "Generated", "Canonical", "TableName", "Column"}
    branches |= {"OfTheRecord", "Through", "LinkedPlaces", "Company", "CompanyQuery"}
    branches |= {"Standardised", "TextStep", "Numeric", "Timestamptz", "FromRecord", "Fields"}
    branches |= {"str", "int", "bool", "decimal", "none"}
    branches |= {"location_column", "allocation_json", "stock_level"}
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


def _unstorable(
    node: yaml.Node | None, path: str = "", within: frozenset[int] = frozenset()
) -> Iterator[tuple[str, int]]:
    """Texts that PostgreSQL has no way to hold, with the key that they stand at."""
    if node is None or id(node) in within:
        return
    within |= {id(node)}
    if isinstance(node, yaml.ScalarNode):
        where, line = f"{path}: " if path else "", node.start_mark.line + 1
        if "\0" in node.value:
            yield f"{where}holds a NUL character, which PostgreSQL can not store; take it out", line
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            yield f"{where}holds half a character (a surrogate); write it as UTF-8 instead", line
    elif isinstance(node, yaml.SequenceNode):
        for number, child in enumerate(node.value):
            yield from _unstorable(child, f"{path}.{number}" if path else str(number), within)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _unstorable(key, path, within)
            name = f"{path}.{key.value}" if path else str(key.value)
            yield from _unstorable(value, name, within)


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
