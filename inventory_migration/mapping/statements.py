"""A statement that a mapping hands over whole: which parameters it names, what it begins with.

Only as much of SQL is read as tells a name from a text, a comment or a cast. What a statement is
for is said by the parts of a mapping that hold one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from inventory_migration.errors import nearest

_TOKENS = re.compile(
    r"""
    (?P<blank>   \s+ | --[^\n]* | /\*.*?\*/ )
  | (?P<text>    (?<!\w)[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
               | (?P<mark>\$(?:[A-Za-z_]\w*)?\$).*?(?P=mark) )
  | (?P<cast>    :: )
  | (?P<name>    (?<![:\w]):[A-Za-z_]\w* )
  | (?P<end>     ; )
  | (?P<word>    [A-Za-z_]\w* )
  | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL,
)


def _tokens(sql: str) -> Iterator[tuple[str, str]]:
    for found in _TOKENS.finditer(sql):
        kind = found.lastgroup
        yield "text" if kind == "mark" else str(kind), found[0]


def parameters(sql: str) -> list[str]:
    """The names after a colon, each once."""
    return list(dict.fromkeys(text[1:] for kind, text in _tokens(sql) if kind == "name"))


def bound(sql: str, value: Callable[[str], str]) -> str:
    """The statement in the driver's own form, with each parameter as `value` says.

    Args:
        sql: The statement.
        value: What stands in the place of a parameter, in the driver's form already.
    """
    return "".join(
        value(text[1:]) if kind == "name" else text.replace("%", "%%")
        for kind, text in _tokens(without_end(sql))
    )


def without_end(sql: str) -> str:
    """The statement without the semicolon that it may end with, and what follows that."""
    listed = list(_tokens(sql))
    while listed and listed[-1][0] in {"blank", "end"}:
        listed.pop()
    return "".join(text for _, text in listed)


def unfit(sql: str, *, begins: tuple[str, ...], known: tuple[str, ...]) -> Iterator[str]:
    """Say everything that keeps a text from being the one statement that is wanted.

    Args:
        sql: The text.
        begins: The words that it may begin with.
        known: The parameters that there are.
    """
    told = [(kind, text) for kind, text in _tokens(without_end(sql)) if kind != "blank"]
    first = next((text for kind, text in told if text != "("), "")
    if first.upper() not in begins:
        yield (
            f"a statement begins with {', '.join(begins[:-1])} or {begins[-1]}, not with "
            f"{first or 'nothing'}"
        )
    if any(kind == "end" for kind, _ in told):
        yield "give one statement each; several are a list"
    for name in parameters(sql):
        if name not in known:
            meant = nearest(name, known)
            there = f"there is {', '.join(known)}" if known else "none can be given here"
            yield f"no parameter :{name}{meant or f'; {there}'}"
