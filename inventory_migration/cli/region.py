"""The last lines of a terminal, painted over in place while everything else goes above them.

A frame is one write, and no line is erased before it is written over, so that nothing flickers.
What the lines say belongs in `picture.py`.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, cast

from rich.console import Console
from rich.text import Text

_TOGETHER, _SHOWN = "\x1b[?2026h", "\x1b[?2026l"
"""Terminals that know it show what is between all at once; to the others it says nothing."""

_LINE_END, _BELOW, _ALL = "\x1b[K", "\x1b[J", "\x1b[H\x1b[2J"

_REMEMBERED = 50
"""How many of the lines above are said again where a resize took them off the screen."""


class Region:
    """Lines that stay at the end of a terminal.

    The cursor rests on the line below them, where whoever comes next begins.

    Args:
        console: Who knows the terminal's size, its colours and its encoding.
        stream: The terminal itself.
    """

    def __init__(self, console: Console, stream: IO[str]) -> None:
        """Paint nothing yet."""
        self.console = console
        self._stream = stream
        self._lock = threading.RLock()
        self._lines: list[Text] = []
        self._width = self._painted_width = 0
        self._above: deque[str] = deque(maxlen=_REMEMBERED)

    @property
    def size(self) -> tuple[int, int]:
        """How many columns and lines can be painted: the last ones make some terminals scroll."""
        width, height = self.console.size
        return max(width - 1, 1), max(height - 1, 1)

    def paint(self, lines: Sequence[Text]) -> None:
        """Put these lines into the place of those that were painted last."""
        with self._lock:
            width, height = self.size
            wanted = list(lines[:height])
            if wanted == self._lines and width == self._width:
                return
            start = self._start(width)
            self._lines = wanted
            self._write(start, (), self._lines)

    def say(self, text: str) -> None:
        """Put a text above the lines, where it stays."""
        with self._lock:
            start = self._start(self.size[0])
            said = text.rstrip("\n").split("\n")
            self._above.extend(said)
            self._write(start + _BELOW, said, self._lines)

    def leave(self, *, keep: bool) -> None:
        """Go away: with the last lines left standing, or without a trace."""
        with self._lock:
            if self._lines and not keep:
                self._write(self._start(self.size[0]) + _BELOW, (), ())
            self._lines = []

    def _start(self, width: int) -> str:
        """Back to the first line painted; what a narrower terminal broke up is painted anew."""
        if self._painted_width > width:
            # Some terminals wrap lines then and others cut them, so where they are now is unknown.
            above = [f"{line}\n" for line in [*self._above][-self.size[1] :]]
            return _ALL + "".join(above)
        return f"\r\x1b[{len(self._lines)}A" if self._lines else "\r"

    def _write(self, start: str, above: Iterable[str], lines: Sequence[Text]) -> None:
        width, _ = self.size
        self._width = width
        said = "".join(f"{line}{_LINE_END}\n" for line in above)
        painted = "".join(f"{self._coded(line, width)}{_LINE_END}\n" for line in lines)
        self._painted_width = max((min(line.cell_len, width) for line in lines), default=0)
        self._stream.write(f"{_TOGETHER}{start}{said}{painted}{_BELOW}{_SHOWN}")
        self._stream.flush()

    def _coded(self, line: Text, width: int) -> str:
        """A line with the codes for its colours, as far as the terminal is to have any."""
        cut = line.copy()
        cut.truncate(width, overflow="ellipsis")
        with self.console.capture() as captured:
            self.console.print(cut, end="", soft_wrap=True)
        return captured.get()


class _Above:
    """A stream whose lines go above a region; what else it is asked, the real one answers."""

    def __init__(self, region: Region, stream: IO[str]) -> None:
        self._region, self._stream = region, stream
        self._begun = ""

    def write(self, text: str) -> int:
        """Say whole lines, and keep the rest until it is one."""
        whole, newline, rest = text.rpartition("\n")
        if newline:
            self._region.say(self._begun + whole)
            self._begun = rest
        else:
            self._begun += text
        return len(text)

    def flush(self) -> None:
        """Whole lines are said already."""

    def finish(self) -> None:
        """Say what no newline followed."""
        if self._begun:
            self._region.say(self._begun)
            self._begun = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def below(stream: IO[str], console: Console, *, keep: bool = False) -> Iterator[Region]:
    """Have a region at the end of a terminal; what others print meanwhile goes above it.

    Args:
        stream: The terminal.
        console: A console on it.
        keep: Whether the last lines are left standing in the end.
    """
    region = Region(console, stream)
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    redirected = [
        (name, _Above(region, real)) for name, real in before.items() if real and real.isatty()
    ]
    for name, above in redirected:
        setattr(sys, name, cast(IO[str], above))
    try:
        yield region
    finally:
        for name, above in redirected:
            above.finish()
            setattr(sys, name, before[name])
        region.leave(keep=keep)
