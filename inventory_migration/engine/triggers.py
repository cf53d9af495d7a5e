"""What our writes set off in the application: its triggers, and what they change.

Read from the catalog and from the source of the triggers' functions, as far as that can be read;
what a function does beyond it is said to be unknown, never guessed. Whether the tool may fire them
at all is decided in `plan.py`.
"""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import columns

_NAME = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_WORDS = re.IGNORECASE | re.DOTALL

_IGNORED = re.compile(
    r"""
    --[^\n]*                             # a comment
    | /\*.*?\*/                          # a longer one
    | \b[eE]'(?:[^'\\]|''|\\.)*'         # a string with escapes
    | '(?:[^']|'')*'                     # a string
    | \$([^\W\d]\w*|)\$.*?\$\1\$         # a dollar-quoted one
    """,
    re.VERBOSE | re.DOTALL,
)
_SUBSCRIPT = r"(?:\s*\[[^\]]*\])*"
_ASSIGNED = re.compile(
    rf"""
    (?:^|;|\b(?:BEGIN|THEN|ELSE|LOOP)\b|>>)\s*
    NEW\s*\.\s*({_NAME}){_SUBSCRIPT}(?:\s*\.\s*{_NAME})?\s*(?::=|=)
    """,
    _WORDS | re.VERBOSE,
)
_SELECTED = re.compile(rf"\bINTO\s+(?:STRICT\s+)?((?:{_NAME}\s*\.\s*{_NAME}\s*,?\s*)+)", _WORDS)
_OF_NEW = re.compile(rf"\bNEW\s*\.\s*({_NAME})", _WORDS)
_WHOLE = re.compile(
    r"(?:^|;|\b(?:BEGIN|THEN|ELSE|LOOP)\b)\s*NEW\s*(?::=|=)|\bINTO\s+NEW\b(?!\s*\.)", _WORDS
)
_WRITTEN = re.compile(
    rf"\b(?:INSERT\s+INTO|DELETE\s+FROM(?:\s+ONLY)?|UPDATE(?:\s+ONLY)?|TRUNCATE(?:\s+TABLE)?)\s+"
    rf"({_NAME}(?:\s*\.\s*{_NAME})?)",
    _WORDS,
)
_NOT_A_TABLE = {"set", "of", "or", "on", "nowait", "skip"}

# Of PostgreSQL's own extensions: their arguments name the columns that they set.
_BY_ARGUMENT = {"moddatetime", "insert_username", "autoinc"}


def fired_triggers(connection: sa.Connection, resolved: ResolvedMapping) -> list[dict[str, Any]]:
    """The triggers that a migration fires, with what is known of what they do.

    Returns:
        One entry each: name, table, definition, function, `columns_changed` of the record itself,
        `tables_written` besides, and `understood`, which is false where the function cannot be
        read or does more than name columns.
    """
    rows = connection.execute(
        _TRIGGERS,
        {
            "source": resolved.source.oid if columns.written_columns(resolved) else None,
            "inserted": [
                relation.oid for relation in resolved.written if relation is not resolved.source
            ],
            "written": columns.written_columns(resolved),
        },
    )
    return [_described(row) for row in rows]


def columns_assigned(source: str) -> list[str] | None:
    """The columns of NEW that a PL/pgSQL function assigns; None where it replaces the whole row."""
    code = _without_text(source)
    if _WHOLE.search(code):
        return None
    names = [_plain(name) for name in _ASSIGNED.findall(code)]
    for targets in _SELECTED.findall(code):
        names += [_plain(name) for name in _OF_NEW.findall(targets)]
    return list(dict.fromkeys(names))


def tables_written(source: str) -> list[str]:
    """The tables that a function writes, as it spells them."""
    found = [re.sub(r"\s*\.\s*", ".", name) for name in _WRITTEN.findall(_without_text(source))]
    return list(dict.fromkeys(name for name in found if name.lower() not in _NOT_A_TABLE))


def _described(row: sa.Row[Any]) -> dict[str, Any]:
    columns: list[str] | None = []
    tables: list[str] = []
    understood = row.language in {"plpgsql", "sql"}
    if understood:
        # Only a BEFORE trigger for each row can change the row by what it returns.
        columns = columns_assigned(row.source) if row.before else []
        tables = tables_written(row.source)
        understood = columns is not None and not re.search(
            r"\bEXECUTE\b", _without_text(row.source), re.IGNORECASE
        )
    elif row.function_name in _BY_ARGUMENT:
        columns, understood = [row.argument] if row.argument else [], bool(row.argument)
    return {
        "name": row.name,
        "table": row.table,
        "definition": row.definition,
        "function": row.function,
        "columns_changed": columns or [],
        "tables_written": tables,
        "understood": understood,
    }


def _without_text(source: str) -> str:
    """The code without comments and strings, in which anything may stand."""
    return _IGNORED.sub(lambda found: " " if found[0].startswith(("-", "/")) else "''", source)


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


_TRIGGERS = sa.text(r"""
    SELECT t.tgname AS name, t.tgrelid::regclass::text AS table,
           pg_get_triggerdef(t.oid, true) AS definition,
           f.oid::regprocedure::text AS function, f.proname AS function_name, f.prosrc AS source,
           l.lanname AS language, t.tgtype & 3 = 3 AS before,
           split_part(encode(t.tgargs, 'escape'), '\000', 1) AS argument
    FROM pg_trigger t
    JOIN pg_proc f ON f.oid = t.tgfoid
    JOIN pg_language l ON l.oid = f.prolang
    WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
      AND (t.tgparentid = 0
           AND t.tgrelid IN (SELECT CAST(:source AS oid)
                             UNION SELECT relid FROM pg_partition_tree(CAST(:source AS oid)))
           AND t.tgtype & 16 <> 0
           AND (cardinality(t.tgattr::smallint[]) = 0
                OR EXISTS (SELECT FROM pg_attribute a
                           WHERE a.attrelid = t.tgrelid AND a.attnum = ANY(t.tgattr::smallint[])
                             AND a.attname = ANY(CAST(:written AS text[]))))
           OR t.tgrelid = ANY(CAST(:inserted AS oid[])) AND t.tgtype & 4 <> 0)
    ORDER BY t.tgrelid <> CAST(:source AS oid), t.tgname
""")
