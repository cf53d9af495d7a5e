"""The terminal: a console that takes text as it is, and how figures, moments and tables look.

Names come out of a database that anybody may have written to, so nothing of them is taken for
markup or for a terminal's control sequence. What is said belongs in `answers.py`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import IO, cast

from rich.console import Console
from rich.table import Table

from inventory_migration.logs import plain

_WIDE = 120


class _Spelling(io.TextIOBase):
    """A stream that changes what is written to it on the way."""

    def __init__(self, stream: IO[str], spell: Callable[[str], str]) -> None:
        self._stream, self._spell = stream, spell

    def write(self, text: str) -> int:
        """Write a text that is whole lines, as Rich has them."""
        return self._stream.write(self._spell(text))

    def flush(self) -> None:
        """Hand on what was written."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Whether a person watches."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The file that it ends in."""
        return self._stream.fileno()


def console(stream: IO[str], *, spell: Callable[[str], str] | None = None) -> Console:
    """A console that takes text as it is, and does not cut lines where nobody watches.

    Args:
        stream: Where to.
        spell: What is done with a text before it is written.
    """
    written = cast(IO[str], _Spelling(stream, spell)) if spell else stream
    made = Console(file=written, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = max(made.width, _WIDE)
    return made


def number(value: object) -> str:
    """A count, or units as an exact decimal string, with separators."""
    return f"{Decimal(str(value)):,f}"


def duration(seconds: float) -> str:
    """How long something took, as one would say it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def moment(text: str | None) -> str:
    """A moment in the time of whoever reads it."""
    if text is None:
        return "never"
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def say(screen: Console, line: object = "") -> None:
    """Print a line, however long."""
    screen.print(plain(line), soft_wrap=True)


def pairs(screen: Console, rows: Iterable[tuple[str, str]]) -> None:
    """Print names with their values, aligned."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        say(screen, f"{name:<{width}}  {value}")


def table(
    screen: Console, rows: Sequence[Mapping[str, object]], *, right: Iterable[str] = ()
) -> None:
    """Print rows below the names of their columns; those of `right` are numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        justify = "right" if name in right else "left"
        made.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        made.add_row(*(plain(value) for value in row.values()))
    screen.print(made)
