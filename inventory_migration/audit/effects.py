"""What a migration does to an object that hangs on one of its tables, in a sentence.

One function for each kind of object, over what the catalog says of it. Views and functions are
judged in `readers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from inventory_migration.audit.touched import LEVELS, LINKS, RECORDS, Touched
from inventory_migration.catalog import ResolvedMapping
from inventory_migration.catalog.dependencies import CatalogObject
from inventory_migration.mapping import StockLevel

Concern = Literal["to do", "to know", "untouched"]
"""Whether somebody has to do something about an object, should know of it, or neither."""

_UNTOUCHED: Concern = "untouched"
_NOT_WRITTEN = "The table is only read."
_REFUSED = "a record whose value it refuses is put aside as refused_by_server"


@dataclass(frozen=True)
class Effect:
    """What a migration does to an object, and whether it concerns anybody."""

    text: str
    concern: Concern = _UNTOUCHED


@dataclass(frozen=True)
class Move:
    """What a migration does, as far as the objects on its tables can tell.

    Attributes:
        resolved: The mapping.
        tables: The tables that it touches, by oid.
        fired: The triggers that it fires, by table and name.
        made: The tables that it makes, by name.
        counted: The tables whose foreign keys are counted before and after.
        partitions: How many partitions a table has, by its oid.
        indexing: The indexes and keys that hold a written column of a table, by its oid.
    """

    resolved: ResolvedMapping
    tables: Mapping[int, Touched]
    fired: Mapping[tuple[str, str], Mapping[str, Any]]
    made: tuple[str, ...]
    counted: frozenset[int]
    partitions: Mapping[int, int]
    indexing: Mapping[int, tuple[str, ...]]


def effect_on(found: CatalogObject, move: Move) -> Effect | None:
    """What a migration does to an object; None for one that is not worth a word."""
    return _EFFECTS[found.kind](found, move)


def _written(columns: tuple[str, ...], table: Touched) -> list[str]:
    return [name for name in columns if name in table.updated]


def _own(found: CatalogObject, move: Move) -> tuple[Touched, tuple[str, ...]]:
    """The touched table that an object belongs to, and the columns of it that it uses."""
    oid = found.facts["table"]
    return move.tables[oid], found.uses[oid]


def _foreign_key(found: CatalogObject, move: Move) -> Effect:
    child, parent = found.facts["table"], found.facts["parent"]
    parts = []
    if child in move.tables:
        parts.append(_reference_out(move.tables[child], found.uses[child]))
    if parent in move.tables:
        into = _reference_in(found, move.tables[parent])
        if child not in move.tables or into.concern != _UNTOUCHED:
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
    written = _written(columns, table)
    if written:
        return Effect(f"The server looks up each {', '.join(written)} that is written.", "to know")
    if table.inserted is not None and set(columns) & set(table.inserted):
        return Effect("The server looks it up for each new row.", "to know")
    if table.inserted is not None:
        return Effect("New rows have its columns' defaults.")
    return Effect(f"{_names(columns)} not written: what it refers to stays.")


def _reference_in(found: CatalogObject, table: Touched) -> Effect:
    keys = tuple(found.facts["parent_columns"])
    if written := _written(keys, table):
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
    table, columns = _own(found, move)
    if written := _written(columns, table):
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
    return Effect(_nothing_written(table))


def _check(found: CatalogObject, move: Move) -> Effect:
    table, columns = _own(found, move)
    if not found.facts["enforced"]:
        return Effect("It is not enforced.")
    if written := _written(columns, table):
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
    return Effect(_nothing_written(table))


def _not_null(found: CatalogObject, move: Move) -> Effect:
    """One that was never validated; those that hold are told by column."""
    table, columns = _own(found, move)
    if not table.updated:
        return Effect(f"It was never validated. {_nothing_written(table)}")
    return Effect(
        f"It was never validated: a record without {', '.join(columns)} is refused when any column "
        f"of it is written, and put aside as refused_by_server.",
        "to do",
    )


def _index(found: CatalogObject, move: Move) -> Effect:
    if found.facts["unique"]:
        return _also(_unique(found, move), found)
    table, columns = _own(found, move)
    if written := _written(columns, table):
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
    return _also(Effect(_nothing_written(table)), found)


def _also(effect: Effect, found: CatalogObject) -> Effect:
    if found.facts["valid"]:
        return effect
    return Effect(
        f"{effect.text} It is invalid, as a CREATE INDEX CONCURRENTLY that failed leaves it: kept "
        "up and never used. Drop or REINDEX it.",
        "to do",
    )


def _trigger(found: CatalogObject, move: Move) -> Effect:
    facts = found.facts
    if facts["ours"]:
        return Effect("It is this tool's own, which keeps what comes new in step.", "to know")
    if facts["partition"] and not facts["type"] & _EACH_ROW:
        return Effect(
            "It is for statements on a partition, and rows are written through its table."
        )
    known = move.fired.get((facts["regclass"], found.name))
    if known is None:
        return _not_fired(found, move)
    rights = facts["owner"] if facts["definer"] else f"{move.resolved.role}, who writes"
    said = [f"Fires on what is written, with the rights of {rights}."]
    concern: Concern = "to know"
    changed, also = known["columns_changed"], known["tables_written"]
    if changed:
        said.append(f"It sets {', '.join(changed)}.")
    if also:
        said.append(f"It writes {', '.join(also)}.")
    if not known["understood"]:
        said.append("What it does cannot be read here: read it before.")
        concern = "to do"
    elif not changed and not also:
        said.append("It was not seen to write anything.")
    stock = {RECORDS, LEVELS} & set(_own(found, move)[0].roles)
    if stock and facts["type"] & _BEFORE and facts["type"] & _EACH_ROW:
        said.append("Were it to change a quantity, the chunk would be taken back.")
    if move.resolved.is_superuser and not facts["owner_is_superuser"]:
        said.append("The tool refuses to lend it a superuser's rights without --as-superuser.")
    return Effect(" ".join(said), concern)


def _not_fired(found: CatalogObject, move: Move) -> Effect:
    table, columns = _own(found, move)
    on, kind = found.facts["enabled"] in "OA", found.facts["type"]
    written = not columns or bool(_written(columns, table))
    if on and LEVELS in table.roles and table.updated and kind & _UPDATE and written:
        return Effect("Fires where the trigger of sync updates a level.", "to know")
    return Effect(_why_not_fired(found, move))


def _why_not_fired(found: CatalogObject, move: Move) -> str:
    table, columns = _own(found, move)
    enabled, kind = found.facts["enabled"], found.facts["type"]
    if enabled == "D":
        return "It is disabled."
    if enabled == "R":
        return "It fires on replicas only."
    if kind & _UPDATE and columns and table.updated:
        return f"It fires where {', '.join(columns)} is written, which is not."
    if table.inserted is not None and kind & _DELETE:
        return "Only a rollback fires it, which deletes rows that were made."
    events = [name for bit, name in _EVENTS.items() if kind & bit]
    return f"It fires on {' or '.join(events)}, which the migration does not do to this table."


def _rule(found: CatalogObject, move: Move) -> Effect:
    if found.facts["partition"] and found.facts["table"] in move.tables:
        return Effect("It is on a partition, and does not act where rows are written otherwise.")
    if found.facts["table"] in move.tables:
        return Effect(
            "The tool refuses a table with rewrite rules: writes would go astray. Replace it by a "
            "trigger.",
            "to do",
        )
    tables = [move.tables[oid] for oid in found.uses if oid in move.tables]
    text = f"It acts where {found.facts['said']} is written, which the migration does not do."
    if any(RECORDS in table.roles for table in tables):
        text += " Records that it makes are taken up as any others."
    return Effect(text)


def _generated(found: CatalogObject, move: Move) -> Effect:
    table, columns = _own(found, move)
    if written := _written(columns, table):
        return Effect(f"Follows {', '.join(written)}, which is written.", "to know")
    if table.inserted is not None:
        return Effect("The server computes it for each new row.")
    if table.updated:
        return Effect("Computed from columns that are not written: its value stays.")
    return Effect(_nothing_written(table))


def _sequence(found: CatalogObject, move: Move) -> Effect:
    table, columns = _own(found, move)
    if table.inserted is None:
        return Effect("Not used: no rows are made.")
    if set(columns) & set(table.inserted) and not _keyed(table, columns):
        return Effect("Not used: new rows are given a value.")
    return Effect(
        f"Gives each new row its {', '.join(columns)}; a rollback leaves a gap.", "to know"
    )


def _keyed(table: Touched, columns: tuple[str, ...]) -> bool:
    """Whether a column that is given a value is given its own default."""
    return any(
        (table.relation.columns[name].default or "").startswith("nextval") for name in columns
    )


def _partitioned(found: CatalogObject, move: Move) -> Effect:
    table, columns = _own(found, move)
    many = move.partitions[found.facts["table"]]
    count = f"{many} partition{'' if many == 1 else 's'}"
    if written := _written(columns, table):
        return Effect(
            f"{', '.join(written)} decides the partition: a written row may move to another of "
            f"{count}.",
            "to do",
        )
    if table.added:
        return Effect(f"{count}, each of which gets {', '.join(table.added)}.", "to know")
    return Effect(f"{count}; no row moves to another.")


def _partition_of(found: CatalogObject, move: Move) -> Effect:
    table, _ = _own(found, move)
    if table.added:
        return Effect(
            "The server adds no column to a partition alone: name the partitioned table in the "
            "mapping.",
            "to do",
        )
    if RECORDS in table.roles:
        return Effect("Records of its other partitions stay where they are.", "to know")
    return Effect("Other partitions are not looked at.")


def _inherits(found: CatalogObject, move: Move) -> Effect:
    table, _ = _own(found, move)
    if table.added:
        return Effect(f"{', '.join(table.added)} is added to this table, not to it.", "to know")
    return Effect("Rows that it has itself are not looked at.")


def _row_security(found: CatalogObject, move: Move) -> Effect:
    if found.facts["active"]:
        return Effect(
            f"It hides rows from {move.resolved.role}: the tool refuses until that role owns the "
            "table or may bypass it.",
            "to do",
        )
    return Effect(f"{move.resolved.role} is not subject to it and sees every row.")


def _policy(found: CatalogObject, move: Move) -> Effect:
    read = [
        f"{name} of {move.tables[oid].relation.name}"
        for oid, columns in found.uses.items()
        if oid in move.tables
        for name in columns
        if name in move.tables[oid].written
    ]
    off = "" if found.facts["on"] else " Row level security is off on its table."
    if read:
        return Effect(
            f"It decides by {', '.join(read)}, which is written: who sees what may change.{off}",
            "to do",
        )
    return Effect(f"It does not decide by what is written: who sees what stays.{off}")


def _publication(found: CatalogObject, move: Move) -> Effect:
    (oid,) = (oid for oid in found.uses if oid in move.tables)
    table, columns = move.tables[oid], found.uses[oid]
    if not table.written:
        return Effect(_nothing_written(table))
    if table.updated and found.facts["updates"] and not found.facts["identity"]:
        return Effect(
            "The server refuses every update: the table has no replica identity. Give it a primary "
            "key, or ALTER TABLE … REPLICA IDENTITY.",
            "to do",
        )
    listed = found.facts["columns"]
    if listed and not set(columns) & set(table.written):
        return Effect(
            f"Written rows are sent, as far as it lists columns: {', '.join(columns)}. "
            f"Subscribers do not get {', '.join(table.written)}.",
            "to know",
        )
    if table.added and not listed:
        return Effect(
            f"Rows are sent with {', '.join(table.added)}: add that to the subscribers' table "
            "before, or they stop.",
            "to do",
        )
    updates = table.updated and found.facts["updates"]
    if not updates and not (table.inserted is not None and found.facts["inserts"]):
        return Effect("It does not send what is written: subscribers do not get it.", "to know")
    return Effect("Written rows are sent to its subscribers.", "to know")


def _column_grant(found: CatalogObject, move: Move) -> Effect | None:
    (oid,) = found.uses
    table = move.tables[oid]
    if not table.added:
        return None
    return Effect(
        f"{found.name} has rights on single columns, and none on {', '.join(table.added)}: grant "
        "them where it must see locations.",
        "to do",
    )


def _grant(found: CatalogObject, move: Move) -> Effect | None:
    (oid,) = found.uses
    if not move.made or RECORDS not in move.tables[oid].roles:
        return None
    return Effect(
        f"{found.name} has rights on this table and will have none on {', '.join(move.made)}, "
        "which is made, unless its owner's default privileges say so: grant them.",
        "to do",
    )


def _statistics(found: CatalogObject, move: Move) -> Effect:
    table, columns = _own(found, move)
    if _written(columns, table) or table.inserted is not None:
        return Effect("Out of date until the table is analyzed again.")
    return Effect("Nothing that it measures is written.")


def _event_trigger(found: CatalogObject, move: Move) -> Effect | None:
    tags = found.facts["tags"]
    added = [name for table in move.tables.values() for name in table.added]
    done = {"ALTER TABLE": bool(added), "CREATE TABLE": True, "CREATE SCHEMA": True}
    if tags is not None and not any(done.get(tag) for tag in tags):
        return None
    what = ", ".join(("the tool's own tables", *move.made, *added))
    return Effect(f"Fires where the structure is changed, here by {what}.", "to know")


def _nothing_written(table: Touched) -> str:
    if RECORDS in table.roles:
        return "No column of a record is written."
    return _NOT_WRITTEN


def _names(columns: tuple[str, ...]) -> str:
    return f"{', '.join(columns)} {'is' if len(columns) == 1 else 'are'}"


def _joined(parts: list[Effect]) -> Effect:
    order: list[Concern] = ["to do", "to know", "untouched"]
    return Effect(
        " ".join(part.text for part in parts),
        min((part.concern for part in parts), key=order.index),
    )


_ACTIONS = {
    "a": "NO ACTION",
    "r": "RESTRICT",
    "c": "CASCADE",
    "n": "SET NULL",
    "d": "SET DEFAULT",
}

# As pg_trigger.tgtype has them.
_EACH_ROW, _BEFORE, _DELETE, _UPDATE = 1, 2, 8, 16
_EVENTS = {4: "INSERT", 8: "DELETE", 16: "UPDATE", 32: "TRUNCATE"}

_EFFECTS: Mapping[str, Callable[[CatalogObject, Move], Effect | None]] = {
    "foreign_key": _foreign_key,
    "primary": _unique,
    "unique": _unique,
    "exclusion": _unique,
    "check": _check,
    "not_null": _not_null,
    "index": _index,
    "trigger": _trigger,
    "rule": _rule,
    "generated": _generated,
    "sequence": _sequence,
    "partitioned": _partitioned,
    "partition_of": _partition_of,
    "inherits": _inherits,
    "row_security": _row_security,
    "policy": _policy,
    "publication": _publication,
    "column_grant": _column_grant,
    "grant": _grant,
    "statistics": _statistics,
    "event_trigger": _event_trigger,
}
