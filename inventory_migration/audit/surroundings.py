"""What a migration does to what surrounds its tables: triggers, partitions, policies, grants.

Keys, constraints and indexes are judged in `constraints.py`, who reads a table in `readers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from inventory_migration.audit.effects import (
    Concern,
    Effect,
    EffectOn,
    Move,
    nothing_written,
    own_table,
    written_of,
)
from inventory_migration.audit.fields import meanings
from inventory_migration.audit.touched import LEVELS, RECORDS, Touched
from inventory_migration.catalog.dependencies import CatalogObject

# As pg_trigger.tgtype has them.
_EACH_ROW, _DELETE, _UPDATE = 1, 8, 16
_EVENTS = {4: "INSERT", 8: "DELETE", 16: "UPDATE", 32: "TRUNCATE"}


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
        told, harm = _changes(changed, own_table(found, move)[0], move)
        said.append(told)
        concern = "to do" if harm else concern
    if also:
        said.append(f"It writes {', '.join(also)}.")
    if not known["understood"]:
        said.append("What it does cannot be read here: read it before.")
        concern = "to do"
    elif not changed and not also:
        said.append("It was not seen to write anything.")
    if move.resolved.is_superuser and not facts["owner_is_superuser"]:
        said.append("The tool refuses to lend it a superuser's rights without --as-superuser.")
    return Effect(" ".join(said), concern)


def _changes(changed: list[str], table: Touched, move: Move) -> tuple[str, bool]:
    """What it means that a trigger sets columns, and whether a migration can come of it."""
    read = meanings(move.resolved) if RECORDS in table.roles else {}
    if {RECORDS, LEVELS} & {*table.roles}:
        wrong = [name for name in changed if name in read or name in table.written]
        if wrong:
            return (
                f"It sets {', '.join(wrong)}: where that changes what is moved or written, the "
                "chunk is taken back, or the last gate refuses.",
                True,
            )
    if RECORDS in table.roles:
        return f"It sets {', '.join(changed)}: told as changed_by_trigger, and explained.", False
    return f"It sets {', '.join(changed)}.", False


def _not_fired(found: CatalogObject, move: Move) -> Effect:
    table, columns = own_table(found, move)
    on, kind = found.facts["enabled"] in "OA", found.facts["type"]
    written = not columns or bool(written_of(columns, table))
    if on and LEVELS in table.roles and table.updated and kind & _UPDATE and written:
        return Effect("Fires where the trigger of sync updates a level.", "to know")
    return Effect(_why_not_fired(found, move))


def _why_not_fired(found: CatalogObject, move: Move) -> str:
    table, columns = own_table(found, move)
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
    table, columns = own_table(found, move)
    if written := written_of(columns, table):
        return Effect(f"Follows {', '.join(written)}, which is written.", "to know")
    if table.inserted is not None:
        return Effect("The server computes it for each new row.")
    if table.updated:
        return Effect("Computed from columns that are not written: its value stays.")
    return Effect(nothing_written(table))


def _sequence(found: CatalogObject, move: Move) -> Effect:
    table, columns = own_table(found, move)
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
    table, columns = own_table(found, move)
    many = move.partitions[found.facts["table"]]
    count = f"{many} partition{'' if many == 1 else 's'}"
    if written := written_of(columns, table):
        return Effect(
            f"{', '.join(written)} decides the partition: a written row may move to another of "
            f"{count}.",
            "to do",
        )
    if table.added:
        return Effect(f"{count}, each of which gets {', '.join(table.added)}.", "to know")
    return Effect(f"{count}; no row moves to another.")


def _partition_of(found: CatalogObject, move: Move) -> Effect:
    table, _ = own_table(found, move)
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
    table, _ = own_table(found, move)
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
        return Effect(nothing_written(table))
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
    table, columns = own_table(found, move)
    if written_of(columns, table) or table.inserted is not None:
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


EFFECTS: Mapping[str, EffectOn] = {
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
