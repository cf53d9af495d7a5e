"""A picture of tables as Mermaid text, which GitHub and others draw where Markdown holds it.

Its grammar takes few characters in names and none in its own words: what it does not take stands
beside the column as a comment.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inventory_migration.audit.diagram import Box, Diagram, Line

# Look-alikes of what would end a name, begin markup or be decoded.
_HARMLESS = str.maketrans('"%\\<>`&#;', "”％＼‹›ʼ＆＃；")
_KEYWORDS = {"pk", "fk", "uk"}
_STATES = {"new": "new", "written": "written", "": ""}


def mermaid(diagram: Diagram) -> str:
    """The picture as the text of an entity relationship diagram."""
    lines = ["erDiagram"]
    for number, box in enumerate(diagram.boxes):
        lines.append(f'    t{number}["{_text(_titled(box))}"] {{')
        lines += [f"        {_attribute(line)}" for line in box.lines]
        if box.more:
            lines.append(f'        etc more "{box.more} other columns"')
        lines.append("    }")
    for link in diagram.links:
        # A line of dots where no foreign key is declared.
        line = "--" if link.declared else ".."
        label = ", ".join(link.columns) + (" (new)" if link.new else "")
        lines.append(f'    t{link.child} }}o{line}|| t{link.parent} : "{_text(label)}"')
    return "\n".join(lines)


def _titled(box: Box) -> str:
    state = f", {box.state}" if box.state else ""
    return f"{box.name} ({box.role}{state})"


def _attribute(line: Line) -> str:
    name = _word(line.name)
    notes = [line.name] if name != line.name else []
    if line.state:
        notes.append(_STATES[line.state])
    key = " PK" if line.key else ""
    comment = f' "{_text(", ".join(notes))}"' if notes else ""
    return f"{_word(re.sub(r'[(].*?[)]', '', line.type))} {name}{key}{comment}"


def _word(name: str) -> str:
    word = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return word if re.match("[A-Za-z_]", word) and word.lower() not in _KEYWORDS else f"_{word}"


def _text(text: str) -> str:
    line = " ".join(text.split()).translate(_HARMLESS)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
