"""HTML documents as tests read them: their tags in order, their tables, what they would fetch."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_VOID = {"meta", "input", "br", "hr", "img", "link", "col", "wbr"}


class Document(HTMLParser):
    """A document whose every tag must be closed in its turn.

    Attributes:
        text: All that can be read in it, without style and script.
        tables: The cells of every table, row by row, its head first.
        ids: Every anchor.
        links: Where its links lead.
        fetched: What a browser would load from elsewhere.
        tags: The names of the tags that are in it.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.fetched = re.findall(r"url\([^)]*\)|@import", source)
        self.tags: set[str] = set()
        self._open: list[str] = []
        self.feed(str(source))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        assert len(given) == len(attrs), f"an attribute of <{tag}> is there twice"
        assert not any(name.startswith("on") for name in given), given
        self.ids += [given["id"] or ""] if "id" in given else []
        if tag == "a":
            self.links.append(given.get("href") or "")
        else:
            self.fetched += [v or "" for name, v in attrs if name in {"src", "href", "data"}]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self._open, f"<{tag}/> is for pictures"
        self.tags.add(tag)
        self.fetched += [v or "" for name, v in attrs if name.endswith("href")]

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in {"style", "script"}:
            self.text += data
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data
