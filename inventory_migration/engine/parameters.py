"""Parameters in SQL that is made of a mapping's own texts: only `:im_…` is ours to bind.

What a statement says does not belong here.
"""

from __future__ import annotations

import re

from inventory_migration.database import escaped


def parametrised(sql: str) -> str:
    """Escape what a mapping brought along; only our own `:im_…` stay parameters.

    Within quotes nothing is ours: a name or a constant may look like a parameter.
    """
    parts, end = [], 0
    for found in _QUOTED.finditer(sql):
        parts += [escaped(sql[end : found.start()]).replace(r"\:im_", ":im_"), escaped(found[0])]
        end = found.end()
    return "".join([*parts, escaped(sql[end:]).replace(r"\:im_", ":im_")])


_QUOTED = re.compile(
    r"""
    "(?:[^"]|"")*"                       # a name
    | \b[eE]'(?:[^'\\]|''|\\.)*'        # a constant with escapes
    | '(?:[^']|'')*'                     # a constant
    | \$([^\W\d]\w*|)\$.*?\$\1\$         # a dollar-quoted one
    | --[^\n]*                           # a comment
    | /\*.*?\*/                          # a longer one
    """,
    re.VERBOSE | re.DOTALL,
)
