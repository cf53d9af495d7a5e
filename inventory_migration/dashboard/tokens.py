"""The tokens by which people show who they are: where they are read, and how they are compared.

A token itself is kept nowhere: only its hash is, from the moment it was read.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from inventory_migration.errors import TokensInvalid

VARIABLE = "INVENTORY_DASHBOARD_TOKEN"
SHORTEST = 16
"""Characters of a token; fewer could be guessed."""

_FEWEST = 6
"""Different characters of a token."""

_LINE = re.compile(r"(?:(?P<name>[^:\s][^:]*?)\s*:\s+)?(?P<token>\S+)(?P<mark>\s+read-only)?")
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Token:
    """A token that is known.

    Attributes:
        name: Whose it is, as the trail says; None where that was not told.
        read_only: Whether they may only look.
        digest: What is left of the token.
    """

    name: str | None
    read_only: bool
    digest: bytes = field(repr=False)


def read_tokens(path: Path | None) -> tuple[Token, ...]:
    """The tokens of a file and of `$INVENTORY_DASHBOARD_TOKEN`; none where neither is given.

    Each is a line: `name: token`, or the token alone, and `read-only` behind it for who may only
    look. Blank lines and those that begin with `#` say nothing.

    Raises:
        TokensInvalid: The file can not be read, has none, or a line is no token; lists each.
    """
    found: list[tuple[str, Token]] = []
    problems: list[str] = []
    for origin, text in _texts(path):
        before = len(found)
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            where = f"{origin}, line {number}"
            token, problem = _token(line.strip())
            if problem or token is None:
                problems.append(f"{where}: {problem}")
            else:
                problems += [f"{where}: {p}" for p in _repeats(token, (t for _, t in found))]
                found.append((where, token))
        if len(found) == before and not problems:
            problems.append(f"{origin}: holds no token")
    if problems:
        raise TokensInvalid(problems=problems)
    return tuple(token for _, token in found)


def find_token(tokens: Iterable[Token], given: str) -> Token | None:
    """The token that was given; as long for one that is nearly right as for any other."""
    digest = _digest(given)
    found = None
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            found = token
    return found


def is_open_to_others(path: Path) -> bool:
    """Whether other accounts of this machine can read a file."""
    return bool(path.stat().st_mode & 0o044)


def _texts(path: Path | None) -> Iterator[tuple[str, str]]:
    if path is not None:
        try:
            yield str(path), path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            problem = f"{path}: can not be read: {(why or 'no reason given').lower()}"
            raise TokensInvalid(problems=[problem]) from None
    if (given := os.environ.get(VARIABLE)) is not None:
        yield VARIABLE, given


def _token(line: str) -> tuple[Token | None, str]:
    """The token of a line, or what is wrong with it, without the line: it may hold a token."""
    found = _LINE.fullmatch(line)
    if found is None:
        return None, "expected 'name: token', and 'read-only' behind it for who may only look"
    name, token = found["name"], found["token"]
    if len(token) < SHORTEST:
        return None, f"a token has at least {SHORTEST} characters"
    if len(set(token)) < _FEWEST:
        return None, "that token could be guessed; 'openssl rand -base64 24' makes one that can not"
    if name is not None and (len(name) > _LONGEST_NAME or not name.isprintable()):
        return None, f"a name has at most {_LONGEST_NAME} characters, and they can be printed"
    return Token(name, bool(found["mark"]), _digest(token)), ""


def _repeats(token: Token, others: Iterable[Token]) -> Iterator[str]:
    for other in others:
        if hmac.compare_digest(token.digest, other.digest):
            yield "the same token is given twice"
        elif token.name is not None and token.name == other.name:
            yield f"{token.name} is named twice"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
