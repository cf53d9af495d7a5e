"""How a level says whose it is: the values of its key columns, compared as these columns do.

Nothing needs to be told apart where a level holds the key of its record, column by column, with the
same equality: then two records have two keys. Everything else may let two records meet on one
level, which only the columns of the levels can tell: by their type and collation.
"""

from __future__ import annotations

import sqlalchemy as sa

from inventory_migration.catalog.conversions import column_sql
from inventory_migration.catalog.findings import Findings
from inventory_migration.catalog.resolved import TargetKey
from inventory_migration.catalog.tables import INTEGERS, TEXTS, VARIABLE_TEXTS, Column, Relation
from inventory_migration.mapping import StockLevel


def find_target_key(
    findings: Findings, source: Relation, levels: Relation
) -> tuple[TargetKey, ...]:
    """What names a level, column by column; nothing where it is the record's own key.

    Args:
        findings: Where problems are noted.
        source: The table of the stock records.
        levels: The table of levels.
    """
    target = findings.mapping.target
    assert isinstance(target, StockLevel)  # noqa: S101 - only such a target has levels
    ours, theirs = (_collations(findings.connection, table) for table in (source, levels))
    wheres = {name: f"target.record.{name}" for name in target.record}
    types = findings.expression_types(
        source, {wheres[name]: value for name, value in target.record.items()}
    )
    for name, value in target.record.items():
        told = f"source.key {value}" if value in findings.mapping.source.key else "its value"
        findings.check_comparable(
            wheres[name], levels.columns[name].type, told, types[wheres[name]] or "unknown"
        )
    if target.keyed_by(findings.mapping.source.key) and all(
        _alike(source.columns[key], ours.get(key), levels.columns[name], theirs.get(name))
        for name, key in target.record_columns.items()
    ):
        return ()
    if target.sync:
        findings.problem(
            "target.sync",
            "the trigger tells records apart by their key, which the columns of "
            f"{levels.name} in target.record may hold to be the same; leave sync out, and end with "
            "--write-stop",
        )
    found = []
    for name, value in target.record.items():
        column, kind = levels.columns[name], types[wheres[name]]
        sql = column_sql(value)
        if _is_text(column):
            # Cast to no length: a text that is too long is for the server to refuse, not to be cut.
            bare = "bpchar" if column.base_type == "character" else column.base_type
            sql = f"({sql})::text::{bare} COLLATE {theirs[name]}"
        elif kind not in {None, column.base_type} and not {kind, column.base_type} <= INTEGERS:
            findings.problem(
                wheres[name],
                f"is {kind}, and {name} of {levels.name} is {column.type}: say how it converts, by "
                "{sql: ...}",
            )
        found.append(TargetKey(name, f"({sql})"))
    return tuple(found)


def _alike(
    ours: Column, our_collation: str | None, theirs: Column, their_collation: str | None
) -> bool:
    """Whether a level's column tells apart what the record's own does."""
    if not _is_text(theirs) and not _is_text(ours):
        return True
    both = {ours.base_type, theirs.base_type}
    return (len(both) == 1 or both <= VARIABLE_TEXTS) and our_collation == their_collation


def _is_text(column: Column) -> bool:
    return column.base_type in TEXTS or column.base_type.rpartition(".")[2] == "citext"


def _collations(connection: sa.Connection, relation: Relation) -> dict[str, str]:
    """The quoted collation of each column that has one."""
    return dict(map(tuple, connection.execute(_COLLATIONS, {"oid": relation.oid})))


_COLLATIONS = sa.text("""
    SELECT a.attname, format('%I.%I', n.nspname, c.collname)
    FROM pg_attribute a
    JOIN pg_collation c ON c.oid = a.attcollation
    JOIN pg_namespace n ON n.oid = c.collnamespace
    WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped
""")
