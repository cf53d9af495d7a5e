"""What a migration does to keys, constraints and indexes of its tables.

What else hangs on a table is judged in `surroundings.py`, and who reads it in `readers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from inventory_migration.audit.effects import (
    CONCERNS,
    UNTOUCHED,
    Effect,
    EffectOn,
    Move,
    nothing_written,
    own_table,
    written_of,
)
from inventory_migration.audit.touched import LEVELS, LINKS, Touched
from inventory_migration.catalog.dependencies import CatalogObject
from inventory_migration.mapping import StockLevel

_REFUSED = "a record whose value it refuses is put aside as refused_by_server"


def _foreign_key(found: CatalogObject, move: Move) -> Effect:
    child, parent = found.facts["table"], found.facts["parent"]
    parts = []
    if child in move.tables:
        parts.append(_reference_out(move.tables[child], found.uses[child]))
    if parent in move.tables:
        into = _reference_in(found, move.tables[parent])
        if child not in move.tables or into.concern != UNTOUCHED:
            parts.append(into)
    if not found.facts["enforced"]:
        parts.append(Effect("It is not enforced: orphans are possible.", "to know"))
    elif not found.facts["valid"]:
        parts.append(Effect("It was never validated: orphans may be there.", "to know"))
    if _is_counted(found, move):
        parts.append(Effect("References and orphans are counted before and after."))
    return _joined(parts)


def _is_counted(found: CatalogObject, move: Move) -> bool:
    """Whether the proof counts it: what the migration itself fills is proved otherwise."""
    child, parent = found.facts["table"], found.facts["parent"]
    table = move.tables.get(child)
    filled = table is not None and table.inserted is not None and {LEVELS, LINKS} & {*table.roles}
    target = move.resolved.mapping.target.columns
    own = child == move.resolved.source.oid and set(found.uses[child]) <= set(target)
    return bool(move.counted & {child, parent}) and not filled and not own


def _reference_out(table: Touched, columns: tuple[str, ...]) -> Effect:
    written = written_of(columns, table)
    if written:
        return Effect(f"The server looks up each {', '.join(written)} that is written.", "to know")
    if table.inserted is not None and set(columns) & set(table.inserted):
        return Effect("The server looks it up for each new row.", "to know")
    if table.inserted is not None:
        return Effect("New rows have its columns' defaults.")
    return Effect(f"{_names(columns)} not written: what it refers to stays.")


def _reference_in(found: CatalogObject, table: Touched) -> Effect:
    keys = tuple(found.facts["parent_columns"])
    if written := written_of(keys, table):
        return Effect(
            f"It refers to {', '.join(written)}, which is written: the server refuses, or follows "
            f"by {_ACTIONS[found.facts['on_update']]}.",
            "to do",
        )
    text = f"{found.facts['said']} goes on referring to the same rows: no key is written."
    if LEVELS not in table.roles:
        return Effect(text)
    if found.facts["on_delete"] in "cnd":
        return Effect(
            f"{text} A rollback deletes the levels that were made, and what refers to them follows "
            f"by {_ACTIONS[found.facts['on_delete']]}.",
            "to do",
        )
    return Effect(f"{text} A rollback keeps a level that is referred to.", "to know")


def _unique(found: CatalogObject, move: Move) -> Effect:
    table, columns = own_table(found, move)
    if written := written_of(columns, table):
        return Effect(
            f"{', '.join(written)} is part of it: two records that come to agree in "
            f"{', '.join(columns)} are one too many, and {_REFUSED}.",
            "to do",
        )
    if table.inserted is not None:
        target = move.resolved.mapping.target
        if isinstance(target, StockLevel) and LEVELS in table.roles:
            key = {*target.record, target.location}
            if key <= set(columns):
                text = "Keeps a record from having two levels at one location: relied on."
                return Effect(text, "to know")
        return Effect("The server holds each new row against it.", "to know")
    if table.updated:
        return Effect("Cannot be broken: no column of it is written.")
    return Effect(nothing_written(table))


def _check(found: CatalogObject, move: Move) -> Effect:
    table, columns = own_table(found, move)
    if not found.facts["enforced"]:
        return Effect("It is not enforced.")
    if written := written_of(columns, table):
        return Effect(
            f"Each {', '.join(written)} that is written is held against it: {_REFUSED}.", "to do"
        )
    if table.updated and not found.facts["valid"]:
        return Effect(
            "It was never validated, and the server asks it of every row that is written, whatever "
            f"the column: {_REFUSED}. Look for rows that break it, and VALIDATE it.",
            "to do",
        )
    if table.inserted is not None and set(columns) & set(table.inserted):
        named = LEVELS in table.roles
        text = "The server holds each new row against it"
        return Effect(
            f"{text}: {_REFUSED}." if named else f"{text}.", "to do" if named else "to know"
        )
    if table.inserted is not None:
        return Effect("New rows have its columns' defaults, which the server holds against it.")
    if table.updated:
        return Effect("No column of it is written; it holds as before.")
    return Effect(nothing_written(table))


def _not_null(found: CatalogObject, move: Move) -> Effect:
    """One that was never validated; those that hold are told by column."""
    table, columns = own_table(found, move)
    if not table.updated:
        return Effect(f"It was never validated. {nothing_written(table)}")
    return Effect(
        f"It was never validated: a record without {', '.join(columns)} is refused when any column "
        f"of it is written, and put aside as refused_by_server.",
        "to do",
    )


def _index(found: CatalogObject, move: Move) -> Effect:
    if found.facts["unique"]:
        return _also(_unique(found, move), found)
    table, columns = own_table(found, move)
    if written := written_of(columns, table):
        text = f"It holds {', '.join(written)}: each written row gets a new entry."
        return _also(Effect(text, "to know"), found)
    if table.inserted is not None:
        return _also(Effect("Each new row gets an entry."), found)
    if table.updated:
        # Only where no index at all holds a written column can a new version go without entries.
        others = [
            name for name in move.indexing.get(found.facts["table"], ()) if name != found.name
        ]
        text = "No column of it is written; a row that moves to another page gets a new entry."
        if others:
            text = (
                "No column of it is written; each written row gets a new entry all the same, since "
                f"{others[0]} holds what is written."
            )
        return _also(Effect(text), found)
    return _also(Effect(nothing_written(table)), found)


def _also(effect: Effect, found: CatalogObject) -> Effect:
    if found.facts["valid"]:
        return effect
    return Effect(
        f"{effect.text} It is invalid, as a CREATE INDEX CONCURRENTLY that failed leaves it: kept "
        "up and never used. Drop or REINDEX it.",
        "to do",
    )


def _names(columns: tuple[str, ...]) -> str:
    return f"{', '.join(columns)} {'is' if len(columns) == 1 else 'are'}"


def _joined(parts: list[Effect]) -> Effect:
    return Effect(
        " ".join(part.text for part in parts),
        min((part.concern for part in parts), key=CONCERNS.index),
    )


_ACTIONS = {
    "a": "NO ACTION",
    "r": "RESTRICT",
    "c": "CASCADE",
    "n": "SET NULL",
    "d": "SET DEFAULT",
}

EFFECTS: Mapping[str, EffectOn] = {
    "foreign_key": _foreign_key,
    "primary": _unique,
    "unique": _unique,
    "exclusion": _unique,
    "check": _check,
    "not_null": _not_null,
    "index": _index,
}
