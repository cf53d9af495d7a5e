"""Plots as inline SVG: bars, and columns in the order of time.

Drawn by hand, because a document must open without a network and stay small: a plot here is a few
kilobytes, and a plotting library would put megabytes of script or a bitmap into each document.
Colours come from the style sheet, so that a plot is as readable by night and on paper. Every plot
says in words what it shows, and every bar has its figure beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from markupsafe import Markup

from inventory_migration.report.text import printable

_T = TypeVar("_T")

WIDTH = 480
COLUMNS = 60
"""More values than this are put together, so that a plot has a size that does not grow."""

_LEFT, _RIGHT, _TOP, _HEIGHT = 58, 8, 8, 120
_ROW, _NAME, _FIGURE = 24, 110, 96


@dataclass(frozen=True)
class Bar:
    """One bar: its name, how long it is, and what is written beside it."""

    name: str
    value: float
    shown: str


def bars(title: str, rows: Sequence[Bar]) -> Markup:
    """One bar below the other, each with its name and figure."""
    most = max((row.value for row in rows), default=0) or 1
    room = WIDTH - _NAME - _FIGURE
    drawn = Markup("").join(
        Markup(
            '<text x="{}" y="{}" text-anchor="end">{}</text>'
            '<rect class="a" x="{}" y="{}" width="{}" height="14"/><text x="{}" y="{}">{}</text>'
        ).format(
            _NAME - 8,
            n * _ROW + 16,
            _short(row.name),
            _NAME,
            n * _ROW + 5,
            _spelled(_length(row.value, most, room)),
            _spelled(_NAME + _length(row.value, most, room) + 6),
            n * _ROW + 16,
            row.shown,
        )
        for n, row in enumerate(rows)
    )
    words = ", ".join(f"{row.name}: {row.shown}" for row in rows)
    return _svg(title, words, len(rows) * _ROW + 4, drawn)


def _length(value: float, most: float, room: float) -> float:
    """How long a bar is: something, for anything that is not nothing."""
    return max(1.5, room * value / most) if value > 0 else 0


def columns(
    title: str,
    tall: Sequence[float],
    *,
    line: Sequence[float] = (),
    ends: tuple[str, str],
    said: str,
) -> Markup:
    """Columns from left to right in the order of time, and a line across them.

    Args:
        title: What is shown.
        tall: How tall each column is; at most `COLUMNS` of them, see `together`.
        line: How high a line goes at each of them; none where empty.
        ends: What stands below the first and the last.
        said: The plot in words.
    """
    top = _round_up(max([*tall, *line], default=0))
    room, step = WIDTH - _LEFT - _RIGHT, (WIDTH - _LEFT - _RIGHT) / max(len(tall), 1)
    bottom = _TOP + _HEIGHT
    gap = 1 if step > 3 else 0

    def height(value: float) -> float:
        return _HEIGHT * value / top

    painted = "".join(
        f"M{_spelled(_LEFT + n * step)} {bottom}v{_spelled(-height(value))}"
        f"h{_spelled(step - gap)}V{bottom}z"
        for n, value in enumerate(tall)
    )
    across = " ".join(
        f"{_spelled(_LEFT + (n + 0.5) * step)},{_spelled(bottom - height(value))}"
        for n, value in enumerate(line)
    )
    grid = Markup("").join(
        Markup(
            '<path class="axis" d="M{} {}h{}"/><text x="{}" y="{}" text-anchor="end">{}</text>'
        ).format(_LEFT, _spelled(y), room, _LEFT - 6, _spelled(y + 4), _figure(value))
        for value, y in ((v, bottom - height(v)) for v in (0, top / 2, top))
    )
    drawn = grid + Markup('<path class="a" d="{}"/>').format(painted)
    if line:
        drawn += Markup('<polyline class="line" points="{}"/>').format(across)
    drawn += Markup(
        '<text class="dim" x="{}" y="{}">{}</text>'
        '<text class="dim" x="{}" y="{}" text-anchor="end">{}</text>'
    ).format(_LEFT, bottom + 16, ends[0], WIDTH - _RIGHT, bottom + 16, ends[1])
    return _svg(title, said, bottom + 22, drawn)


def together(values: Sequence[_T], most: int = COLUMNS) -> list[Sequence[_T]]:
    """Neighbours put together, so that there are at most so many groups of about one size."""
    groups = min(len(values), most)
    edges = [round(n * len(values) / groups) for n in range(groups + 1)] if groups else [0]
    return [values[a:b] for a, b in pairwise(edges)]


def _svg(title: str, words: str, height: float, drawn: Markup) -> Markup:
    return Markup(
        '<svg role="img" viewBox="0 0 {} {}"><title>{}</title><desc>{}</desc>{}</svg>'
    ).format(WIDTH, _spelled(height), printable(title), printable(words), drawn)


def _round_up(value: float) -> float:
    """The next number that reads well on an axis and whose half does so, too."""
    if value <= 0 or not math.isfinite(value):
        return 1
    size = 10.0 ** math.floor(math.log10(value))
    return next(step * size for step in (1, 2, 4, 5, 6, 8, 10) if value <= step * size * 1.0000001)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.3g}"


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= 16 else shown[:15] + "…"


def _spelled(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
