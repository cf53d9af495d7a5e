"""The parts that our HTML documents are built of: sections, tables, lists, figures, the page.

Pure functions that return markup. Text is escaped unless it is `Markup` already, so a name from a
database can never become a tag; nothing else needs to think of it. What a document says belongs to
those who build it, how it looks to `style.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup, escape

from inventory_migration import __version__
from inventory_migration.report import style
from inventory_migration.report.text import grouped, printable, visible

Part = str | Markup | None
"""Text, which is escaped, or markup; None is left out."""

Tone = Literal["good", "bad", "warn", "plain"]
"""What a colour says; words and signs always say it too."""

LONGEST = 400
"""Longer values in tables are cut: a table is for reading."""

TALL = 40
"""Tables with more rows scroll within a box of their own on a screen, and can be searched."""

_SIGNS: dict[Tone, str] = {"good": "✓", "bad": "✕", "warn": "!", "plain": "·"}
_NOTHING = Markup("")


@dataclass(frozen=True)
class Section:
    """A part of a document with a heading of its own.

    Attributes:
        key: Its anchor, lower case words joined by `-`.
        title: The heading, as it stands in the contents.
        body: What is below it.
        wide: Whether it is printed across the page, for tables with many columns.
        apart: Whether it begins a new sheet of paper.
    """

    key: str
    title: str
    body: Markup
    wide: bool = False
    apart: bool = False


@dataclass(frozen=True)
class Toned:
    """A value of a table shown as a badge, such as a verdict; see `badge`."""

    value: object
    tone: Tone


def text(value: object) -> Markup:
    """Any value as escaped text of one line; markup stays what it is."""
    return value if isinstance(value, Markup) else escape(printable(value))


def join(parts: Iterable[Part]) -> Markup:
    """Parts one after the other, each escaped unless it is markup."""
    return Markup("\n").join(text(part) for part in parts if part is not None)


def section(
    title: str, *parts: Part, key: str | None = None, wide: bool = False, apart: bool = False
) -> Section:
    """A section, for `page`; its key is made of the title where none is given."""
    key = key or "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())
    return Section(key, title, join(parts), wide, apart)


def subheading(title: object) -> Markup:
    """A heading within a section."""
    return Markup("<h3>{}</h3>").format(text(title))


def paragraph(*parts: Part, soft: bool = False) -> Markup:
    """A paragraph; soft, where it explains what is beside it."""
    kind = Markup(' class="soft"') if soft else _NOTHING
    return Markup("<p{}>{}</p>").format(kind, Markup(" ").join(text(p) for p in parts))


def strong(value: object) -> Markup:
    """Words that stand out."""
    return Markup("<strong>{}</strong>").format(text(value))


def word(value: object) -> Markup:
    """A name from a program or database, such as a column or command, within a sentence."""
    return Markup("<code>{}</code>").format(text(value))


def code(value: str) -> Markup:
    """A block of SQL or the like, its lines as they are."""
    lines = value.expandtabs(4).strip("\n").splitlines()
    return Markup("<pre><code>{}</code></pre>").format("\n".join(visible(line) for line in lines))


def bullets(items: Iterable[object]) -> Markup | None:
    """A list of sentences; nothing where there is none."""
    points = Markup("").join(Markup("<li>{}</li>").format(text(item)) for item in items)
    return Markup("<ul>{}</ul>").format(points) if points else None


def badge(value: object, tone: Tone = "plain") -> Markup:
    """A word or two with a colour, and with a sign for those who do not see it."""
    return Markup('<span class="badge {}">{} {}</span>').format(tone, _SIGNS[tone], text(value))


def verdict(words: object, tone: Tone, *more: Part) -> Markup:
    """What a document concludes, in a box that can not be missed."""
    return Markup('<div class="verdict {}" role="note"><strong>{} {}</strong>{}</div>').format(
        tone, _SIGNS[tone], text(words), join(paragraph(part) for part in more if part)
    )


def tiles(figures: Iterable[tuple[str, object, object]]) -> Markup:
    """A few figures that matter most, each with its name and a remark."""
    return Markup('<div class="tiles">{}</div>').format(
        join(
            Markup('<div class="tile"><span>{}</span><b>{}</b><span>{}</span></div>').format(
                text(name), text(grouped(value)), text(remark)
            )
            for name, value, remark in figures
        )
    )


def pairs(values: Mapping[str, object]) -> Markup:
    """Names and their values, one below the other."""
    return Markup('<dl class="pairs">{}</dl>').format(
        join(
            Markup("<dt>{}</dt><dd>{}</dd>").format(text(name), text(value))
            for name, value in values.items()
        )
    )


def details(summary: object, *parts: Part, opened: bool = False) -> Markup:
    """What only some readers want: closed on a screen, open on paper."""
    return Markup("<details{}><summary>{}</summary>{}</details>").format(
        Markup(" open") if opened else _NOTHING, text(summary), join(parts)
    )


def figure(picture: Markup, caption: object) -> Markup:
    """A plot with what it shows."""
    return Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(picture, text(caption))


def table(
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str] | None = None,
    *,
    numbers: Collection[str] = (),
    prose: Collection[str] = (),
    boxes: Collection[str] = (),
    caption: object = None,
    cards: bool = False,
    key: str | None = None,
    empty: str = "None.",
) -> Markup:
    """Rows as a table that scrolls in a box of its own where it is wider than the page.

    Args:
        rows: The rows; a value may be `Markup`, or `Toned` to become a badge.
        names: The columns, by default those of the first row.
        numbers: Columns of numbers: aligned on the right, thousands apart.
        prose: Columns of sentences, which get room.
        boxes: Columns that are filled in by hand, on paper.
        caption: What the table shows.
        cards: Whether a narrow screen shows each row as a card; for tables with sentences.
        key: An anchor; with it a table of more than `TALL` rows can be searched.
        empty: What is said where there is no row.
    """
    if not rows:
        return paragraph(empty)
    names = list(names or rows[0])
    kinds = {
        name: "n" if name in numbers else "p" if name in prose else "box" if name in boxes else ""
        for name in names
    }
    tall = len(rows) > TALL
    head = "".join(
        _open("th", kinds[name], ' scope="col"') + str(text(name)) + "</th>" for name in names
    )
    opened = {
        name: _open("td", kinds[name], f' data-label="{text(name)}"' if cards and name else "")
        for name in names
    }
    # Joined as plain text, which is several times faster; each cell is escaped by itself.
    body = "\n".join(
        "<tr>"
        + "".join(
            opened[name] + _cell(row.get(name), kinds[name] == "n") + "</td>" for name in names
        )
        + "</tr>"
        for row in rows
    )
    label = str(escape(printable(caption or key or "table")))
    return Markup(
        (_search(key, label) if key and tall else "")
        + f'<div class="scroll{" tall" if tall else ""}{" cards" if cards else ""}" '
        f'role="region" tabindex="0" aria-label="{label}">'
        f"<table{_anchor(key)}>{_caption(caption)}"
        f"<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(value: object, number: bool) -> str:
    if isinstance(value, Markup):
        return str(value)
    if isinstance(value, Toned):
        return str(badge(value.value, value.tone)) if value.value not in (None, "") else ""
    shown = grouped(value) if number else printable(value)
    if len(shown) > LONGEST:
        shown = shown[: LONGEST - 1] + "…"
    return str(escape(shown))


def _open(tag: str, kind: str, more: str = "") -> str:
    return f"<{tag}{more}" + (f' class="{kind}"' if kind else "") + ">"


def _anchor(key: str | None) -> str:
    return f' id="{escape(key)}"' if key else ""


def _caption(caption: object) -> str:
    return f"<caption>{text(caption)}</caption>" if caption else ""


def _search(key: str, label: str) -> str:
    return (
        f'<div class="search no-print" data-table="{escape(key)}" hidden>'
        f'<label>Find <input type="search" aria-label="Find in: {label}"></label>'
        '<output class="soft"></output></div>\n'
    )


def signatures(roles: Iterable[str]) -> Markup:
    """Lines to sign on, with room for name and date."""
    blank = Markup('<div class="rule"></div><span>{}</span>')
    return Markup('<div class="signatures">{}</div>').format(
        join(
            Markup('<div class="signature"><b>{}</b>{}{}</div>').format(
                text(role), blank.format("name"), blank.format("date and signature")
            )
            for role in roles
        )
    )


def page(
    title: str,
    sections: Sequence[Section],
    *,
    lead: Sequence[Part] = (),
    running: str | None = None,
    end: Sequence[Part] = (),
) -> str:
    """A whole document in one file, which needs no network.

    Args:
        title: The heading.
        sections: Its parts, listed as contents.
        lead: What stands before the contents, such as the verdict.
        running: What is repeated on each sheet of paper; the title by default.
        end: What stands last.
    """
    body = join(_section(part) for part in sections)
    script = style.SEARCH if "<details" in body or 'class="search' in body else None
    contents = Markup("").join(
        Markup('<li><a href="#{}">{}</a></li>').format(part.key, text(part.title))
        for part in sections
    )
    made = _PAGE.format(
        policy=style.policy(script),
        version=__version__,
        title=text(title),
        css=Markup(style.CSS + style.on_paper(printable(running or title))),
        lead=join(lead),
        contents=contents,
        body=body,
        end=join(end),
        script=_NOTHING if script is None else Markup(f"<script>{script}</script>\n"),
    )
    return str(made)


def _section(part: Section) -> Markup:
    kinds = " ".join(name for name in ("wide", "apart") if getattr(part, name))
    return Markup('<section id="{}"{}><h2>{}</h2>\n{}</section>').format(
        part.key,
        Markup(' class="{}"').format(kinds) if kinds else _NOTHING,
        text(part.title),
        part.body,
    )


_PAGE = Markup("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="inventory-migration {version}">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<div class="sheet">
<header>
<h1>{title}</h1>
{lead}
</header>
<nav class="contents" aria-label="Contents"><strong>Contents</strong><ul>{contents}</ul></nav>
<main>
{body}
</main>
<footer>
{end}
</footer>
</div>
{script}</body>
</html>
""")
