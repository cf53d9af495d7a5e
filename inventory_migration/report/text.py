"""Values as people read them, in every form of a document: printable text, moments, numbers.

What is special to Markdown or HTML is in `markdown.py` and `html.py`; both escape for themselves.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

_JOINERS = "\u200c\u200d"
"""Not printable by themselves, and part of how some languages are spelt."""


def printable(value: object) -> str:
    """A value as one line of text, in which every character can be seen."""
    return visible("" if value is None else " ".join(str(value).split()))


def visible(text: str) -> str:
    """A text in which what can not be seen, such as a control character, is replaced."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in _JOINERS else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def when(moment: str | None) -> str:
    """A moment to the second, with its offset: 2026-11-23 17:38:59+00:00."""
    if not moment:
        return ""
    day, _, time = moment.partition("T")
    return f"{day} {time[:8]}{time[-6:] if time[-6:-5] in '+-' else ''}"


def grouped(value: object) -> str:
    """A number with its thousands apart, and no digit lost; anything else as it is spelled."""
    if value is None or isinstance(value, bool):
        return printable(value)
    if isinstance(value, int):
        return f"{value:,}"
    try:
        exact = Decimal(str(value))
    except InvalidOperation:
        return printable(value)
    return f"{exact:,f}" if exact.is_finite() else printable(value)


def duration(seconds: float | None) -> str:
    """How long something took, as exactly as a person cares to know."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:,.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"
