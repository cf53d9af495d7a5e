"""A picture of tables as an inline SVG that reads alike in light and dark, and in print.

It has no script, no style sheet and no identifier of its own, so that several stand in one page. It
takes the colours of the text around it: what is new or written is said by a sign, never by colour
alone.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inventory_migration.audit.diagram import Box, Diagram, Line, Link

WIDEST = 34
"""Longer names go on in another line, in characters."""

_CHARACTER, _ROW, _PAD, _GAP, _BELOW, _LANE = 7.3, 17, 10, 96, 30, 7
_WIDTH = WIDEST * _CHARACTER + 2 * _PAD
_SIGNS = {"new": "+", "written": "~", "": " "}
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_LEGEND = "# key   + new   ~ written   broken line: no foreign key says so"


@dataclass(frozen=True)
class _Text:
    """A line of text in a box; the number of the column that it is of, if any."""

    text: str
    faint: bool = False
    bold: bool = False
    column: str | None = None


@dataclass(frozen=True)
class _Placed:
    """A box in its place."""

    box: Box
    rank: int
    x: float
    y: float
    texts: Sequence[_Text]

    @property
    def height(self) -> float:
        return len(self.texts) * _ROW + 2 * _PAD

    def row_of(self, columns: Sequence[str]) -> float:
        """The height at which a line meets the first of these columns, or else the box's name."""
        for number, text in enumerate(self.texts):
            if text.column in columns and text.column is not None:
                return self.y + _PAD + (number + 0.6) * _ROW
        return self.y + _PAD + 0.6 * _ROW


def svg(diagram: Diagram) -> str:
    """The picture as an SVG element to stand in a page."""
    placed = _place(diagram.boxes)
    width = max((one.x + _WIDTH for one in placed), default=0) + _GAP / 2
    bottom = max((one.y + one.height for one in placed), default=0)
    lowest = bottom + _LANE * (len(diagram.links) if _any_far(diagram.links, placed) else 0)
    legend = _LEGEND
    if diagram.left_out:
        legend += f"   {diagram.left_out} more child tables are not shown"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width:.0f} '
        f'{lowest + 2 * _BELOW:.0f}" width="{width:.0f}" '
        f'style="max-width:100%;height:auto;color:inherit" font-family="{html.escape(_FONT)}" '
        'font-size="12" fill="currentColor">',
        f"<title>{_escaped(diagram.title)}</title>",
        *(_line(link, placed, number, bottom) for number, link in enumerate(diagram.links)),
        *(_box(one) for one in placed),
        f'<text x="2" y="{lowest + _BELOW + 6:.0f}" opacity="0.75" xml:space="preserve">'
        f"{_escaped(legend)}</text>",
        "</svg>",
    ]
    return "\n".join(parts)


def _place(boxes: Sequence[Box]) -> list[_Placed]:
    """Boxes of one rank below each other, ranks beside each other, none of them empty."""
    ranks = sorted({box.rank for box in boxes})
    below = dict.fromkeys(ranks, 2.0)
    placed = []
    for box in boxes:
        texts = list(_texts(box))
        rank = ranks.index(box.rank)
        one = _Placed(box, rank, 2 + rank * (_WIDTH + _GAP), below[box.rank], texts)
        below[box.rank] += one.height + _BELOW
        placed.append(one)
    return placed


def _texts(box: Box) -> list[_Text]:
    sign = _SIGNS[box.state]
    name = f"{sign} {box.name}" if sign.strip() else box.name
    texts = [_Text(part, bold=True) for part in _wrapped(name)]
    texts += [_Text(part, faint=True) for part in _wrapped(box.role)]
    for line in box.lines:
        texts += _column(line)
    if box.more:
        texts.append(_Text(f"  … {box.more} more", faint=True))
    return texts


def _column(line: Line) -> list[_Text]:
    sign = "#" if line.key and not line.state else _SIGNS[line.state]
    said = f"{sign} {line.name}: {line.type}"
    if len(_wrapped(said)) == 1:
        return [_Text(said, column=line.name)]
    first, *rest = _wrapped(f"{sign} {line.name}:")
    return [
        _Text(first, column=line.name),
        *(_Text(f"  {part}") for part in rest),
        *(_Text(f"    {part}", faint=True) for part in _wrapped(line.type, WIDEST - 4)),
    ]


def _wrapped(text: str, widest: int = WIDEST) -> list[str]:
    """A text in lines, the further ones two characters shorter, for their indent."""
    lines, width = [""], 0
    for character in _printable(text):
        wide = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if width + wide > widest - (2 if len(lines) > 1 else 0):
            lines.append("")
            width = 0
        lines[-1] += character
        width += wide
    return lines


def _box(one: _Placed) -> str:
    stroke = 'stroke-width="2.5"' if one.box.state else 'stroke-width="1"'
    heading = sum(text.bold for text in one.texts)
    below = one.y + _PAD + (heading + len(_wrapped(one.box.role))) * _ROW + 1
    rows = [
        f'<rect x="{one.x:.1f}" y="{one.y:.1f}" width="{_WIDTH:.1f}" height="{one.height:.1f}" '
        f'rx="4" fill="currentColor" fill-opacity="0.05" stroke="currentColor" {stroke}/>',
        f'<path d="M{one.x:.1f} {below:.1f}h{_WIDTH:.1f}" stroke="currentColor" '
        'stroke-opacity="0.4"/>',
    ]
    for number, text in enumerate(one.texts):
        y = one.y + _PAD + (number + 0.75) * _ROW
        look = (' font-weight="bold"' if text.bold else "") + (
            ' opacity="0.75"' if text.faint else ""
        )
        rows.append(
            f'<text x="{one.x + _PAD:.1f}" y="{y:.1f}" xml:space="preserve"{look}>'
            f"{_escaped(text.text)}</text>"
        )
    return "\n".join(rows)


def _any_far(links: Sequence[Link], placed: Sequence[_Placed]) -> bool:
    return any(abs(placed[one.child].rank - placed[one.parent].rank) > 1 for one in links)


def _line(link: Link, placed: Sequence[_Placed], number: int, bottom: float) -> str:
    """A curve from the column that refers to the key that it refers to, many to one."""
    child, parent = placed[link.child], placed[link.parent]
    y1 = child.row_of(link.columns)
    y2 = parent.row_of([line.name for line in parent.box.lines if line.key])
    dashes = "" if link.declared else ' stroke-dasharray="5 4"'
    width = 2.5 if link.new else 1.2
    # Lines within a rank leave at the right, each a bit further out than the last.
    x1, x2, foot = child.x + _WIDTH, parent.x + _WIDTH, 9
    bend = x1 + 26 + 5 * (number % 4)
    if child.x > parent.x:
        x1, foot = child.x, -9
        bend = (x1 + x2) / 2
    elif parent.x > child.x:
        x2 = parent.x
        bend = (x1 + x2) / 2
    curve = f"M{x1:.1f} {y1:.1f}C{bend:.1f} {y1:.1f} {bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    if abs(child.rank - parent.rank) > 1:
        # Below all boxes, so as to run behind none that is between.
        aside = math.copysign(16 + 5 * (number % 8), foot)
        under = bottom + _LANE * (number + 1)
        curve = (
            f"M{x1:.1f} {y1:.1f}H{x1 + aside:.1f}V{under:.1f}H{x2 - aside:.1f}V{y2:.1f}H{x2:.1f}"
        )
    many = f"M{x1:.1f} {y1 - 5:.1f}l{foot} 5l{-foot} 5"
    label = f"{', '.join(link.columns)} refers to {parent.box.name}"
    return (
        f'<path d="{curve}" fill="none" stroke="currentColor" stroke-width="{width}"{dashes}>'
        f"<title>{_escaped(label)}</title></path>"
        f'<path d="{many}" fill="none" stroke="currentColor" stroke-width="1.2"/>'
    )


def _escaped(text: str) -> str:
    return html.escape(_printable(text))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
