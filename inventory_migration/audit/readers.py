"""What a migration means to those who read its tables: views, and functions as far as they tell.

A view says which columns it reads. A function says so only where the server has parsed it; all
others are searched for the tables' names, which is a guess and is told as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from inventory_migration.audit.effects import Concern, Effect, Move
from inventory_migration.audit.touched import RECORDS, Touched
from inventory_migration.catalog import Relation
from inventory_migration.catalog.readers import Routine, View
from inventory_migration.engine.triggers import tables_written
from inventory_migration.mapping import StockLevel, named_column

_Used = Mapping[int, tuple[str, ...]]

_COMMENT_OR_STRING = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"", re.DOTALL)
_NAME = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
_INSERTED = re.compile(rf"(?i)\bINSERT\s+INTO\s+({_NAME}(?:\s*\.\s*{_NAME})?)")

# In a view that the server spells out, only a row as a whole is left with a star behind a dot.
_WHOLE_ROW = re.compile(r'[\w$"]\.\*')

# No part of another name, nor a function of that name, which a list of columns looks like.
_TABLE_NAMED = (
    r'(?<![\w$".])(?:{schema}\s*\.\s*)?{name}(?![\w$"]|\s*\()'
    r"|(?i:\bINTO\s+)(?:{schema}\s*\.\s*)?{name}(?![\w$\"])"
)


@dataclass(frozen=True)
class Told:
    """What a reader is told to be.

    Attributes:
        tables: The tables that it uses, by oid, with their columns as far as they are known.
        guess: Whether that it uses them is a guess.
    """

    kind: str
    name: str
    tables: _Used
    definition: str
    effect: Effect
    guess: bool = False


class ReadBy:
    """What views read, each together with what it reads through others.

    Which column of a view comes from which of a table the catalog does not say, so that a view
    over another is taken to use all that this one does.
    """

    def __init__(
        self, views: Iterable[View], roots: Mapping[int, int], touched: Mapping[int, Touched]
    ) -> None:
        """Take the views over some tables.

        Args:
            views: In any order.
            roots: The table that each table, or partition of one, belongs to.
            touched: The tables, by oid.
        """
        self._views, self._roots = {view.oid: view for view in views}, roots
        self._touched = touched
        self._tables: dict[int, _Used] = {}
        self._stale: dict[int, bool] = {}
        for view in self._views.values():
            self._follow(view)

    def __iter__(self) -> Iterator[View]:
        """Each view."""
        return iter(self._views.values())

    def tables(self, oid: int) -> _Used:
        """The tables that a table or view stands for, with the columns that it may use."""
        return self._tables.get(oid, {})

    def is_stale(self, view: View) -> bool:
        """Whether a view reads a materialized one."""
        return self._stale[view.oid]

    def through(self, view: View) -> list[str]:
        """The views that it reads."""
        return [self._views[oid].name for oid in view.reads if oid in self._views]

    def _follow(self, view: View) -> None:
        if view.oid in self._tables:
            return
        # Views that read each other can be made; here one of them has nothing from the other.
        self._tables[view.oid], self._stale[view.oid] = {}, False
        found: dict[int, tuple[str, ...]] = {}
        for oid, columns in view.reads.items():
            used: _Used = {}
            if oid in self._roots:
                table = self._touched[self._roots[oid]]
                # A row as a whole has each column, also one that comes: no column is named for it.
                whole = (*table.relation.columns, *table.added)
                is_whole = bool(_WHOLE_ROW.search(view.definition))
                used = {self._roots[oid]: whole if is_whole else columns}
            elif oid in self._views:
                self._follow(self._views[oid])
                used = self._tables[oid]
                self._stale[view.oid] |= self._stale[oid] or self._views[oid].materialized
            for root, names in used.items():
                found[root] = tuple(dict.fromkeys((*found.get(root, ()), *names)))
        self._tables[view.oid] = found


def told_of_views(views: ReadBy, move: Move) -> Iterator[Told]:
    """What becomes of each view, by what it reads and by the views that it reads."""
    for view in views:
        effect = _effect_on_view(view, views, move)
        if through := views.through(view):
            text = f"{effect.text} It reads through {', '.join(through)}: as far as it uses that."
            effect = Effect(text, effect.concern)
        yield Told(
            "materialized view" if view.materialized else "view",
            view.name,
            views.tables(view.oid),
            view.definition,
            effect,
        )


def told_of_routines(
    routines: Iterable[Routine], roots: Mapping[int, int], views: ReadBy, move: Move
) -> Iterator[Told]:
    """What becomes of each function that uses a table; one whose text means another is left out."""
    for routine in routines:
        tables: dict[int, tuple[str, ...]] = {}
        for oid, columns in routine.uses.items():
            tables |= {roots[oid]: columns} if oid in roots else views.tables(oid)
        known = bool(tables)
        code = without_comments(routine.source)
        for oid, table in move.tables.items():
            if oid not in tables and _names(code, table.relation):
                tables[oid] = ()
        if tables:
            effect = _effect_on_routine(routine, tables, move)
            yield Told("function", routine.name, tables, routine.source, effect, guess=not known)


def without_comments(source: str) -> str:
    """The code without its comments; its strings stay, which may be code that is put together."""
    return _COMMENT_OR_STRING.sub(
        lambda found: " " if found[0].startswith(("--", "/*")) else found[0], source
    )


def names_table(code: str, schema: str, name: str) -> bool:
    """Whether code has a table's name, as a word that could mean the table."""
    pattern = _TABLE_NAMED.format(schema=_spelled(schema), name=_spelled(name))
    return bool(re.search(pattern, code))


def _names(code: str, table: Relation) -> bool:
    return names_table(code, table.schema, table.name)


def _spelled(name: str) -> str:
    """A pattern of the ways in which SQL may spell a name."""
    exact = re.escape('"' + name.replace('"', '""') + '"')
    if re.fullmatch(r"[a-z_][a-z0-9_$]*", name) and name not in _RESERVED:
        return f"(?:{exact}|(?i:{re.escape(name)}))"
    return exact


def _effect_on_view(view: View, views: ReadBy, move: Move) -> Effect:
    touched = _touched(views.tables(view.oid), move)
    new = [table for table, _ in touched if table.inserted is not None]
    set_ = [
        f"{name} of {table.relation.name}"
        for table, columns in touched
        for name in columns
        if name in table.updated
    ]
    shown = [*(f"new rows of {table.relation.name}" for table in new), *set_]
    if shown and view.materialized:
        empty = "" if view.populated else " It was never filled."
        return Effect(
            f"Reads {', '.join(shown)}, and holds what it held: "
            f"REFRESH MATERIALIZED VIEW after the migration.{empty}",
            "to do",
        )
    if shown and views.is_stale(view):
        return Effect(
            f"Reads {', '.join(shown)} from a materialized view: right once that is refreshed.",
            "to know",
        )
    kept = _numbers_read(touched, move)
    if kept and not new:
        return Effect(
            f"Reads {kept}, where the application will keep no stock any more once it "
            f"uses {_levels(move)}: make it read that.",
            "to do",
        )
    if shown:
        return Effect(f"Shows {', '.join(shown)} at once.", "to know")
    added = [name for table, columns in touched if columns for name in table.added]
    if added:
        return Effect(
            f"Goes on as before, and does not show {', '.join(added)} until it is "
            "created again with it.",
            "to know",
        )
    return Effect("Reads nothing that is written.")


def _effect_on_routine(routine: Routine, tables: _Used, move: Move) -> Effect:
    touched = _touched(tables, move)
    writes = [
        table
        for table, _ in touched
        if any(_names(name, table.relation) for name in tables_written(routine.source))
    ]
    records = [table for table in writes if RECORDS in table.roles]
    if records:
        return _effect_on_writer(routine, records[0], move)
    parts = [f"It writes {', '.join(t.relation.name for t in writes)}."] if writes else []
    kept = _numbers_read(touched, move, code=without_comments(routine.source))
    concern: Concern = "untouched"
    if kept:
        parts.append(
            f"It reads {kept}, where the application will keep no stock any more once it uses "
            f"{_levels(move)}: make it use that."
        )
        concern = "to do"
    written = [t.relation.name for t, _ in touched if t.written]
    if not parts and written:
        parts.append(f"It may see what is written in {', '.join(written)}.")
        concern = "to know"
    return Effect(" ".join(parts) or "It uses nothing that is written.", concern)


def _effect_on_writer(routine: Routine, table: Touched, move: Move) -> Effect:
    """A function that writes stock records: whether it gives them what they will need."""
    code, name = without_comments(routine.source), table.relation
    inserts = any(_names(target, name) for target in _INSERTED.findall(code))
    mapping, kept = move.resolved.mapping, _levels(move)
    if isinstance(mapping.target, StockLevel):
        step = "the trigger of sync keeps levels in step" if mapping.target.sync else ""
        return Effect(
            f"It writes {name.name}: "
            + (step or f"levels do not follow; it must write {kept} once the application uses it")
            + ".",
            "to know" if step else "to do",
        )
    column = mapping.target.columns[0]
    if inserts and not _has_word(code, column):
        given = mapping.guard
        return Effect(
            f"It makes records of {name.name} without {column}: "
            + (
                "the guard trigger gives them one."
                if given
                else "they get one by the next run, or at once with guard: true, until it gives "
                "them one itself."
            ),
            "to know" if given else "to do",
        )
    if mapping.target.shape == "allocation_json":
        return Effect(
            f"It writes {name.name}: where it changes a quantity, the entries of {column} do not "
            "follow until it changes them too.",
            "to do",
        )
    return Effect(f"It writes {name.name}, which stays as it is but for {column}.", "to know")


def _touched(tables: _Used, move: Move) -> list[tuple[Touched, tuple[str, ...]]]:
    return [(move.tables[oid], columns) for oid, columns in tables.items() if oid in move.tables]


def _numbers_read(
    touched: Iterable[tuple[Touched, tuple[str, ...]]], move: Move, *, code: str = ""
) -> str:
    """What a reader takes from the records that a move to levels leaves behind there.

    Args:
        touched: The tables that it uses, with their columns as far as they are known.
        move: What the migration does.
        code: Its text, which is searched where the columns are not known.
    """
    mapping = move.resolved.mapping
    if not isinstance(mapping.target, StockLevel):
        return ""
    numbers = [
        name
        for part in (mapping.source.quantity, mapping.source.reserved)
        if (name := named_column(part))
    ]
    return ", ".join(
        f"{name} of {table.relation.name}"
        for table, columns in touched
        if RECORDS in table.roles
        for name in numbers
        if name in columns or (not columns and _has_word(code, name))
    )


def _has_word(code: str, name: str) -> bool:
    return bool(re.search(rf"(?<![\w$]){_spelled(name)}(?![\w$])", code))


def _levels(move: Move) -> str:
    target = move.resolved.mapping.target
    return str(target.table) if isinstance(target, StockLevel) else ""


_RESERVED = frozenset(
    (
        "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "both",
        "case", "cast", "check", "collate", "column", "constraint", "create", "current_date",
        "current_role", "current_user", "default", "desc", "distinct", "do", "else", "end",
        "except", "false", "fetch", "for", "foreign", "from", "grant", "group", "having", "in",
        "initially", "intersect", "into", "lateral", "leading", "limit", "not", "null", "offset",
        "on", "only", "or", "order", "placing", "primary", "references", "returning", "select",
        "session_user", "some", "symmetric", "table", "then", "to", "trailing", "true", "union",
        "unique", "user", "using", "variadic", "when", "where", "window", "with",
    )
)  # fmt: skip
"""Words that name a table in quotes only."""
