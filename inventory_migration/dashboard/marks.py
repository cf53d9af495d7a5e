"""The parts that the dashboard's panels are built of: figures, tiles, bars, signs, moments.

Pure functions that return markup, on top of those of the documents (`report/html.py`): text is
escaped unless it is markup already. A part that tests or scripts look for has a `data-testid`; its
text is the figure alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

from inventory_migration.dashboard.wording import State
from inventory_migration.report.html import Part, Tone, join, text
from inventory_migration.report.text import grouped, when

NOTHING = Markup("")

_SIGNS: dict[Tone, str] = {"good": "✓", "bad": "✕", "warn": "!", "plain": "·"}


def figure(testid: str, value: object) -> Markup:
    """A value that is read again and again, found by its id."""
    return Markup('<span class="figure" data-testid="{}">{}</span>').format(testid, text(value))


def number(testid: str, value: object) -> Markup:
    """A count or units, thousands apart, no digit lost."""
    return figure(testid, grouped(value))


def tile(name: object, value: Markup, remark: Part = "", *, tone: Tone | None = None) -> Markup:
    """A figure that matters, with its name above and a remark below; both keep their room."""
    kind = Markup(" tone-{}").format(tone) if tone else NOTHING
    return Markup(
        '<div class="tile{}"><dt>{}</dt><dd class="value">{}</dd><dd class="remark">{}</dd></div>'
    ).format(kind, text(name), value, text(remark))


def tiles(parts: Iterable[Markup]) -> Markup:
    """Tiles side by side."""
    return Markup('<dl class="tiles">{}</dl>').format(join(parts))


def panel(title: object, *parts: Part, testid: str, remark: Part = None) -> Markup:
    """A part of a page with a heading of its own."""
    anchor = f"h-{testid}"
    return Markup(
        '<section class="panel" data-testid="{0}" aria-labelledby="{1}">'
        '<header><h2 id="{1}">{2}</h2>{3}</header>{4}</section>'
    ).format(
        testid,
        anchor,
        text(title),
        Markup('<p class="soft">{}</p>').format(text(remark)) if remark else NOTHING,
        join(parts),
    )


def chip(shown: State, testid: str | None = None) -> Markup:
    """A state: its sign, its word and a colour."""
    hook = Markup(' data-testid="{}"').format(testid) if testid else NOTHING
    return Markup(
        '<span class="chip {}"><span aria-hidden="true">{}</span> <b{}>{}</b></span>'
    ).format(shown.tone, shown.sign, hook, text(shown.word))


def badge(value: object, tone: Tone, testid: str | None = None) -> Markup:
    """A word or two with a colour and a sign."""
    hook = Markup(' data-testid="{}"').format(testid) if testid else NOTHING
    return Markup(
        '<span class="badge {}"><span aria-hidden="true">{}</span> <span{}>{}</span></span>'
    ).format(tone, _SIGNS[tone], hook, text(value))


def command(line: str) -> Markup:
    """A command to be copied."""
    return Markup('<code class="command" tabindex="0">{}</code>').format(text(line))


def notice(testid: str, tone: Tone, title: object, words: object, line: str = "") -> Markup:
    """Something that can not be missed, with what to do."""
    return Markup(
        '<div class="notice {}" data-testid="{}"><p><strong><span aria-hidden="true">{}</span> {}'
        "</strong></p><p>{}</p>{}</div>"
    ).format(
        tone,
        testid,
        _SIGNS[tone],
        text(title),
        text(words),
        Markup("<p>{}</p>").format(command(line)) if line else NOTHING,
    )


def moment(at: str | None, *, empty: str = "–") -> Markup:
    """A moment; browsers show it in their own zone, see `live.js`."""
    if not at:
        return escape(empty)
    return Markup('<time datetime="{}">{}</time>').format(at, when(at))


def bar(
    shares: Iterable[tuple[str, float, str]], *, label: str, value: float, words: str
) -> Markup:
    """One bar of several shares that lie side by side; its figures stand beside it as text.

    Args:
        shares: Kind, share of 1 and name of each, from the left.
        label: What progresses.
        value: How far that is, in percent.
        words: The same in words.
    """
    drawn = Markup("").join(
        Markup('<i class="s-{}" style="width:{:.3f}%" title="{}"></i>').format(
            kind, max(0.0, min(1.0, share)) * 100, name
        )
        for kind, share, name in shares
        if share > 0
    )
    return Markup(
        '<div class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        'aria-valuenow="{:.0f}" aria-valuetext="{}" aria-label="{}">{}</div>'
    ).format(int(value), text(words), text(label), drawn)
