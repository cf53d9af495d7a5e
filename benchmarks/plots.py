"""Plots of figures as SVG files: bars beside a mark, stacked bars, and runs at several sizes.

They stand in a page as pictures, which know nothing of the page: each has a background of its own
and follows the reader's choice of light or dark by itself. Each says in words what it shows, and
has every figure as text.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

WIDTH = 760
_NAME, _ROW, _TOP, _PAD = 210, 22, 44, 16
_ROOM = WIDTH - _NAME - 100

_STYLE = """
    .page{fill:#ffffff;stroke:#d0d7de} text{fill:#1f2328} .value{stroke:#ffffff}
    .value{paint-order:stroke;stroke-width:5px} .faint{fill:#57606a}
    .axis{stroke:#8c959f} .mark{stroke:#cf222e;stroke-dasharray:5 4} .said{fill:#cf222e}
    .c0{fill:#0969da} .c1{fill:#bf8700} .c2{fill:#1a7f37} .c3{fill:#8250df} .c4{fill:#cf222e}
    .c5{fill:#0a7ea4} .c6{fill:#bf3989} .c7{fill:#6e7781} .run{fill:#0969da;fill-opacity:.55}
    .whisker{stroke:#57606a} .middle{stroke:#0969da;stroke-width:3}
    @media (prefers-color-scheme: dark){
    .page{fill:#0d1117;stroke:#30363d} text{fill:#e6edf3} .value{stroke:#0d1117}
    .faint{fill:#9da7b1}
    .axis{stroke:#6e7681} .mark{stroke:#ff7b72} .said{fill:#ff7b72}
    .c0{fill:#58a6ff} .c1{fill:#d29922} .c2{fill:#3fb950} .c3{fill:#bc8cff} .c4{fill:#ff7b72}
    .c5{fill:#39c5cf} .c6{fill:#f778ba} .c7{fill:#8b949e} .run{fill:#58a6ff}
    .whisker{stroke:#9da7b1} .middle{stroke:#58a6ff}}
"""
_FONT = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"


def bars(title: str, groups: Mapping[str, Mapping[str, float]], *, mark: str) -> str:
    """Groups of bars, with a mark where the value is 1.

    Args:
        title: What is shown.
        groups: Values by name, by group.
        mark: What a value of 1 stands for.
    """
    most = max((v for group in groups.values() for v in group.values()), default=0)
    top = max(most, 1.0) * 1.02
    everybody = list(dict.fromkeys(who for group in groups.values() for who in group))
    drawn, y = [], float(_TOP)
    for name, values in groups.items():
        drawn.append(_text(_PAD, y + 15, name, bold=True))
        y += _ROW + 4
        for who, value in values.items():
            long = _ROOM * value / top
            drawn += [
                _text(_NAME - 8, y + 14, who, anchor="end"),
                _rect(_NAME, y + 2, long, _ROW - 6, f"c{everybody.index(who) % 8}"),
                _text(_NAME + long + 6, y + 14, f"{value:.2f}", look="value"),
            ]
            y += _ROW
        y += 8
    at = _NAME + _ROOM / top
    drawn.insert(0, f'<path class="mark" d="M{at:.1f} {_TOP - 4}V{y:.1f}"/>')
    drawn.append(_text(at, y + 14, mark, anchor="middle", look="said"))
    words = "; ".join(
        f"{name}: " + ", ".join(f"{who} {value:.2f}" for who, value in values.items())
        for name, values in groups.items()
    )
    return _svg(title, f"{mark} is 1. {words}", y + 24, drawn)


def stacked(title: str, bars: Mapping[str, Mapping[str, float]]) -> str:
    """A bar for each name, of parts that add up to the whole, and what each part is.

    Args:
        title: What is shown.
        bars: Seconds of the parts, by name of the bar; a part has the same colour in every bar.
    """
    parts = list(dict.fromkeys(part for values in bars.values() for part in values))
    drawn, y = list(_legend(parts)), float(_TOP + _ROW + 4)
    for name, values in bars.items():
        whole, x = sum(values.values()) or 1.0, float(_NAME)
        drawn += [
            _text(_NAME - 8, y + 19, name, anchor="end"),
            _text(_NAME - 8, y + 44, f"{whole:.1f} s", anchor="end", look="faint"),
        ]
        for part, value in values.items():
            long = (WIDTH - _NAME - _PAD) * max(value, 0) / whole
            drawn.append(_rect(x, y + 2, long, 26, f"c{parts.index(part) % 8}", part))
            if long >= 34:
                share = f"{value / whole:.0%}"
                drawn.append(_text(x + long / 2, y + 44, share, anchor="middle", look="faint"))
            x += long
        y += 58
    words = "; ".join(
        f"{name}: " + ", ".join(f"{part} {value:.1f} s" for part, value in values.items())
        for name, values in bars.items()
    )
    return _svg(title, words, y, drawn)


def runs(title: str, sizes: Mapping[str, Sequence[float]], *, unit: str) -> str:
    """Each run as a point, the middle one as a line, and how far they lie apart.

    Args:
        title: What is shown.
        sizes: Each run's value, by the size that it ran on.
        unit: What the values are in.
    """
    high, left = 220.0, 70.0
    top = _round_up(max((v for values in sizes.values() for v in values), default=1.0))
    bottom = _TOP + high
    drawn = [f'<path class="axis" fill="none" d="M{left} {_TOP}V{bottom:.1f}H{WIDTH - _PAD}"/>']
    for step in range(5):
        value = top * step / 4
        drawn.append(
            _text(left - 8, bottom - high * step / 4 + 4, f"{value:g}", anchor="end", look="faint")
        )
    room = (WIDTH - left - _PAD) / max(len(sizes), 1)
    for number, (name, values) in enumerate(sizes.items()):
        x = left + room * (number + 0.5)
        y = [bottom - high * value / top for value in values]
        middle = bottom - high * median(values) / top
        drawn += [
            f'<path class="whisker" d="M{x:.1f} {min(y):.1f}V{max(y):.1f}"/>',
            f'<path class="middle" d="M{x - 16:.1f} {middle:.1f}h32"/>',
            *(f'<circle class="run" cx="{x:.1f}" cy="{at:.1f}" r="4"/>' for at in y),
            _text(x + 22, middle + 4, f"{median(values):.2f}"),
            _text(x, bottom + 18, name, anchor="middle"),
        ]
    words = "; ".join(
        f"{name}: " + ", ".join(f"{value:.2f}" for value in values)
        for name, values in sizes.items()
    )
    return _svg(f"{title} ({unit})", words, bottom + 30, drawn)


def _legend(parts: Sequence[str]) -> Iterator[str]:
    x = float(_PAD)
    for number, part in enumerate(parts):
        yield _rect(x, _TOP + 3, 12, 12, f"c{number % 8}")
        yield _text(x + 18, _TOP + 14, part)
        x += 34 + 7.2 * len(part)


def _round_up(value: float) -> float:
    """The next value that reads well at the end of an axis."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 8, 10) if step * power >= value)


def _svg(title: str, words: str, height: float, drawn: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
            f'width="{WIDTH}" height="{height:.0f}" role="img" aria-labelledby="title desc" '
            f'font-family="{_FONT}" font-size="13">',
            f'<title id="title">{html.escape(title)}</title>',
            f'<desc id="desc">{html.escape(words)}</desc>',
            f"<style>{_STYLE}</style>",
            f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" '
            'rx="8"/>',
            _text(_PAD, 26, title, bold=True),
            *drawn,
            "</svg>\n",
        ]
    )


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False, look: str = ""
) -> str:
    weight = ' font-weight="600"' if bold else ""
    named = f' class="{look}"' if look else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}{named}>'
        f"{html.escape(text)}</text>"
    )


def _rect(x: float, y: float, wide: float, high: float, look: str, said: str = "") -> str:
    title = f"<title>{html.escape(said)}</title>" if said else ""
    return (
        f'<rect class="{look}" x="{x:.1f}" y="{y:.1f}" width="{max(wide, 0):.1f}" '
        f'height="{high:.1f}">{title}</rect>'
    )
