"""What hangs on tables, as the catalog has it: one statement for each kind of object.

Only pg_catalog is read, which every role may, and never a row of the application. Views and
functions over the tables are in `readers.py`; what a migration does to any of it is judged in
`audit/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog.dependency_queries import OBJECTS, PARTS


@dataclass(frozen=True)
class CatalogObject:
    """An object that hangs on at least one of the tables that were asked about.

    Attributes:
        kind: What it is: `foreign_key`, `index`, `view` and so on.
        name: What it is called, with its schema where its name alone does not find it.
        uses: The columns that it uses, by table; a table without any is used as a whole.
        definition: How the server says it.
        facts: What else is known of an object of this kind.
    """

    kind: str
    name: str
    uses: Mapping[int, tuple[str, ...]]
    definition: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """A table, or a partition of one.

    Attributes:
        oid: Of the table itself.
        root: Of the table that was asked about.
    """

    oid: int
    root: int


def parts_of(connection: sa.Connection, oids: Sequence[int]) -> list[Part]:
    """The tables themselves, and every partition of them."""
    return [Part(*row) for row in connection.execute(PARTS, {"oids": list(oids)})]


def objects_on(
    connection: sa.Connection, parts: Sequence[Part], *, ledger: str, unread: list[str]
) -> list[CatalogObject]:
    """Everything that hangs on tables and their partitions, each object once.

    What a partition has from its parent is told of the parent alone.

    Args:
        connection: A connection; only read from.
        parts: The tables, from `parts_of`.
        ledger: The schema of the tool's own objects.
        unread: Takes what the role was not let read.
    """
    roots = {part.oid: part.root for part in parts}
    asked = {"oids": list(roots), "roots": list(set(roots.values())), "ledger": ledger}
    found: dict[tuple[str, int, str], CatalogObject] = {}
    for statement in OBJECTS:
        for row in readable_rows(connection, statement, asked, unread):
            facts = {
                name: roots.get(value, value) if name in {"table", "parent"} else value
                for name, value in row.facts.items()
            }
            uses = {
                roots.get(int(oid), int(oid)): tuple(columns or ())
                for oid, columns in row.uses.items()
            }
            key = (row.kind, row.oid, row.name)
            known = found.get(key)
            if known is not None:
                uses = {**known.uses, **uses}
            found[key] = CatalogObject(row.kind, row.name, uses, row.definition or "", facts)
    return list(found.values())


def readable_rows(
    connection: sa.Connection,
    statement: sa.TextClause,
    parameters: Mapping[str, Any],
    unread: list[str],
) -> Sequence[sa.Row[Any]]:
    """What a statement returns; nothing where the role is not let read part of the catalog.

    Args:
        connection: A connection within a transaction.
        statement: What to read.
        parameters: Its parameters.
        unread: Takes what the server said of what the role may not read.
    """
    try:
        with connection.begin_nested():
            return connection.execute(statement, parameters).all()
    except sa.exc.ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != _DENIED:
            raise
        unread.append(f"{str(error.orig).partition(chr(10))[0]}.")
        return []


_DENIED = "42501"
