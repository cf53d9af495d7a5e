"""Formats of a point in time, as PostgreSQL's `to_timestamp` spells them.

Only patterns that mean one thing are taken: no names of months, which a locale decides, and no
years of two digits. How such a text is read as SQL is said in `catalog/conversions.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

PATTERNS = {
    "YYYY": r"[0-9]{4}",
    "MM": r"[0-9]{1,2}",
    "DD": r"[0-9]{1,2}",
    "HH24": r"[0-9]{1,2}",
    "HH12": r"[0-9]{1,2}",
    "AM": r"[AaPp][Mm]",
    "MI": r"[0-9]{1,2}",
    "SS": r"[0-9]{1,2}",
    "MS": r"[0-9]{1,3}",
    "US": r"[0-9]{1,6}",
    "TZH": r"[+-][0-9]{1,2}",
    "TZM": r"[0-9]{2}",
}
"""Each pattern, with what it takes of a text."""

_PIECE = re.compile(rf'({"|".join(sorted(PATTERNS, key=len, reverse=True))}|PM)|"([^"]+)"|([^\w"])')


@dataclass(frozen=True)
class Format:
    """A format taken apart.

    Attributes:
        patterns: The patterns in their order.
        expression: A regular expression for the whole text, with a group for each pattern.
    """

    patterns: tuple[str, ...]
    expression: str


def parsed(text: str) -> Format:
    """Take a format apart.

    Raises:
        ValueError: It does not say a point in time, or holds what is no pattern.
    """
    pieces: list[tuple[str, bool]] = []
    end = 0
    while end < len(text):
        found = _PIECE.match(text, end)
        if found is None:
            raise ValueError(
                f"{text[end:]!r} begins with no pattern; there are {', '.join(PATTERNS)}, and "
                'other letters and digits stand in double quotes, such as "T"'
            )
        pattern, quoted, other = found.groups()
        pieces.append((pattern.replace("PM", "AM"), True) if pattern else (quoted or other, False))
        end = found.end()
    patterns = tuple(piece for piece, is_pattern in pieces if is_pattern)
    _check(patterns)
    return Format(patterns, _expression(pieces))


def _check(patterns: Sequence[str]) -> None:
    twice = sorted({pattern for pattern in patterns if patterns.count(pattern) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is there twice")
    missing = [pattern for pattern in ("YYYY", "MM", "DD") if pattern not in patterns]
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing: a point in time has a whole date")
    if ("HH12" in patterns) != ("AM" in patterns):
        raise ValueError("HH12 and AM go together; without AM, say HH24")
    for one, other in (("HH12", "HH24"), ("MS", "US")):
        if one in patterns and other in patterns:
            raise ValueError(f"{one} and {other} say the same; take one of them")
    for one, other in (("TZM", "TZH"), ("MS", "SS"), ("US", "SS")):
        if one in patterns and other not in patterns:
            raise ValueError(f"{one} needs {other}")


def _expression(pieces: Sequence[tuple[str, bool]]) -> str:
    parts = []
    for number, (piece, is_pattern) in enumerate(pieces):
        if not is_pattern:
            parts.append("".join(f"\\{c}" if c in _SPECIAL else c for c in piece))
            continue
        wanted = PATTERNS[piece]
        before, after = pieces[number - 1 : number], pieces[number + 1 : number + 2]
        if any(is_other and _digits(other) for other, is_other in [*before, *after]):
            # With nothing in between, only its width tells where a number ends.
            wanted = wanted.replace("{1,", "{")
        parts.append(f"({wanted})")
    return f"^{''.join(parts)}$"


def _digits(pattern: str) -> bool:
    return PATTERNS[pattern].startswith("[0-9]")


_SPECIAL = frozenset(r"\.[]{}()*+-?^$|/#&~!%,:;<>=@`' ")
