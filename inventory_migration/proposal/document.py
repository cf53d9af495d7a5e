"""A mapping as a commented YAML document: each key below what its value rests on.

How a proposal reads in a file. What it says is decided in the modules beside this one.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from inventory_migration.logs import plain

PLACEHOLDER = "TO_BE_DECIDED"
"""What stands for a name that only a person can give; no mapping with it fits a database."""

WIDTH = 100


@dataclass
class Part:
    """A key of the mapping.

    Attributes:
        key: Its name.
        value: A value of YAML, or the parts that it consists of.
        comments: What it rests on, and what else was considered.
        undecided: What a person has to decide here.
    """

    key: str
    value: Any
    comments: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)

    def find(self, path: str) -> Part:
        """The deepest part on a dotted path, as far as there is one."""
        for part in inner(self):
            if path == part.key or path.startswith((f"{part.key}.", f"{part.key}[")):
                return part.find(path[len(part.key) :].lstrip("."))
        return self


def inner(part: Part) -> list[Part]:
    """The parts that a part consists of."""
    return part.value if _is_parts(part.value) else []


def written(parts: list[Part], heading: list[str]) -> str:
    """The document."""
    lines = [*_comments(heading, 0)]
    for part in parts:
        lines += _lines(part, 0)
    return "".join(f"{line}\n" for line in lines)


def _lines(part: Part, depth: int) -> Iterator[str]:
    indent = " " * depth
    yield from _comments(part.comments, depth)
    yield from _comments([f"UNDECIDED: {why}" for why in part.undecided], depth)
    key = _flow(part.key)
    if _is_parts(part.value):
        yield f"{indent}{key}:"
        for one in part.value:
            yield from _lines(one, depth + 2)
    else:
        yield f"{indent}{key}: {_flow(part.value)}"


def _comments(said: list[str], depth: int) -> Iterator[str]:
    indent = " " * depth
    for text in said:
        yield from textwrap.wrap(
            plain(text),
            WIDTH,
            initial_indent=f"{indent}# ",
            subsequent_indent=f"{indent}#   ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def _flow(value: Any) -> str:
    """A value on one line, so quoted that it is read as what it is, wherever it stands.

    A name comes out of a database that anybody may have written to: what a terminal might obey is
    escaped.
    """
    printable = all(text.isprintable() for text in _texts(value))
    # Within brackets, since a value there is quoted wherever it has to be anywhere.
    line = yaml.dump(
        [value],
        Dumper=_Dumper,
        default_flow_style=True,
        allow_unicode=printable,
        sort_keys=False,
        width=float("inf"),
    )
    return line.rstrip("\n")[1:-1]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, held in value.items():
            yield key
            yield from _texts(held)
    elif isinstance(value, list):
        for held in value:
            yield from _texts(held)


class _Dumper(yaml.SafeDumper):
    """Writes every text on one line."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the interface's
        """Never refer back: each value stands for itself."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None if value.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _is_parts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Part)
