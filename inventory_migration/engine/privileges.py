"""What a worker's role needs of the database, and no more: as GRANTs, and as what it still lacks.

Both are made from one list, so that what is printed for a DBA is what a run asks for before it
writes anything. Which tables a migration reads is found out in `statements.py`; what the owner of
the tables has to do first is written in `schema_change.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import sqlalchemy as sa

from inventory_migration.catalog import Derived, Relation, ResolvedMapping
from inventory_migration.database import quoted
from inventory_migration.engine import columns, guard, links, new_locations, schema_change, sync
from inventory_migration.engine.ledger import SCHEMA
from inventory_migration.engine.measures import MONITORING
from inventory_migration.errors import PrivilegesMissing
from inventory_migration.mapping import StockLevel

Kind = Literal["DATABASE", "SCHEMA", "TABLE", "SEQUENCE"]


@dataclass(frozen=True)
class Privilege:
    """A right on one object, or on some columns of a table.

    Attributes:
        right: The right, as GRANT spells it.
        kind: What it is a right on.
        name: The object's quoted name.
        columns: The columns that it is limited to; none stands for the whole object.
    """

    right: str
    kind: Kind
    name: str
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The right as GRANT spells it, with what it is a right on."""
        return f"{self.spelled} ON {'' if self.kind == 'TABLE' else f'{self.kind} '}{self.name}"

    @property
    def spelled(self) -> str:
        """The right with its columns."""
        listed = ", ".join(quoted(column) for column in self.columns)
        return f"{self.right} ({listed})" if listed else self.right


def grant_statements(privileges: Iterable[Privilege], role: str) -> Iterator[str]:
    """The GRANTs of privileges, one for each object."""
    for (kind, name), group in groupby(privileges, key=lambda p: (p.kind, p.name)):
        rights = ", ".join(privilege.spelled for privilege in group)
        of_what = "" if kind == "TABLE" else f"{kind} "
        yield f"GRANT {rights} ON {of_what}{name} TO {quoted(role)}"


def monitoring_grant(role: str) -> str:
    """What lets a role see what the health gate looks at; without it some of that is unknown."""
    return f"GRANT {MONITORING} TO {quoted(role)}"


def of_worker(
    connection: sa.Connection, resolved: ResolvedMapping, read: Sequence[tuple[str, str]]
) -> list[Privilege]:
    """What a worker needs in the application's schemas to migrate, to prove and to roll back.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        read: Every table that a migration reads, as schema and name.
    """
    schemas = sorted({schema for schema, _ in read})
    tables: dict[str, list[Privilege]] = {}
    for table in read:
        tables[quoted(*table)] = [Privilege("SELECT", "TABLE", quoted(*table))]
    for privilege in _writes(resolved):
        # A table that is yet to be added is not found among those that are read.
        rights = tables.setdefault(privilege.name, [Privilege("SELECT", "TABLE", privilege.name)])
        rights.append(privilege)
    return [
        *(Privilege("USAGE", "SCHEMA", quoted(schema)) for schema in schemas),
        *(privilege for rights in tables.values() for privilege in rights),
        *(
            Privilege("USAGE", "SEQUENCE", quoted(row.schema, row.name))
            for relation in _inserted(resolved)
            for row in connection.execute(
                _SEQUENCES, {"oid": relation.oid, "identity": _identity(resolved, relation)}
            )
        ),
    ]


def refuse_lack(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    read: Sequence[tuple[str, str]],
    *,
    stopped: Sequence[str] = (),
) -> None:
    """Refuse a role that would come to a halt halfway, with everything that it lacks.

    Args:
        connection: A connection of the role's; only read from.
        resolved: The mapping and its types.
        read: Every table that a migration reads, as schema and name.
        stopped: The quoted tables that a write stop locks, where one is declared.

    Raises:
        PrivilegesMissing: It lacks a privilege, or what only the owner of the tables can do is not
            done.
    """
    wanted = of_worker(connection, resolved, read)
    lacking = [
        str(privilege)
        for privilege in [*_ledger(connection), *_owner(resolved), *wanted]
        if not _has(connection, privilege)
    ]
    lacking += [
        f"a right to lock {table}"
        for table in stopped
        if not connection.execute(_MAY_LOCK, {"name": table}).scalar_one()
    ]
    if (
        schema_change.add_column(resolved)
        and not connection.execute(_OWNS, {"oid": resolved.source.oid}).scalar_one()
    ):
        lacking.append(f"ownership of {resolved.source.sql}, to add the target's columns")
    if lacking:
        raise PrivilegesMissing(
            mapping=resolved.mapping.name, role=resolved.role, privileges=lacking
        )


def _writes(resolved: ResolvedMapping) -> Iterator[Privilege]:
    """What is written, table by table."""
    mapping, target = resolved.mapping, resolved.mapping.target
    # Who may update no column of a record at all may not lock it either.
    named = columns.written_columns(resolved) or mapping.source.key[:1]
    yield Privilege("UPDATE", "TABLE", resolved.source.sql, tuple(named))
    if guard.wanted(resolved) or sync.wanted(resolved):
        yield Privilege("TRIGGER", "TABLE", resolved.source.sql)
    if mapping.locations.create is not None:
        inserted = tuple(new_locations.inserted_columns(resolved))
        yield Privilege("INSERT", "TABLE", resolved.locations_sql, inserted)
        yield Privilege("DELETE", "TABLE", resolved.locations_sql)
    for number, table in resolved.link_tables.items():
        given = links.inserted_columns(resolved, number)
        yield Privilege("INSERT", "TABLE", table.sql, tuple(given))
        yield Privilege("DELETE", "TABLE", table.sql)
    if isinstance(target, StockLevel):
        given = [*target.record, target.location, *target.numbers, *target.values]
        # Without a trigger that keeps them in step, levels are locked and never updated.
        kept = [*target.numbers, *target.following] if target.sync else target.numbers[:1]
        yield Privilege("INSERT", "TABLE", resolved.levels_sql, tuple(given))
        yield Privilege("UPDATE", "TABLE", resolved.levels_sql, tuple(kept))
        yield Privilege("DELETE", "TABLE", resolved.levels_sql)


def _inserted(resolved: ResolvedMapping) -> list[Relation]:
    """The tables that get new rows, as far as they are there."""
    mapping = resolved.mapping
    found = [*resolved.link_tables.values()]
    if mapping.locations.create is not None and resolved.locations is not None:
        found.append(resolved.locations)
    if isinstance(mapping.target, StockLevel) and resolved.levels is not None:
        found.append(resolved.levels)
    return found


def _identity(resolved: ResolvedMapping, relation: Relation) -> str | None:
    """The identity column whose next value we ask for; for those that fill themselves none need."""
    named = resolved.mapping.locations
    ours = relation is resolved.locations and new_locations.keyed_beforehand(resolved)
    return named.key if ours and named.key not in (named.create or {}) else None


def _ledger(connection: sa.Connection) -> list[Privilege]:
    """What it takes to make the ledger, where there is not even a schema for it."""
    facts = connection.execute(_LEDGER, {"schema": SCHEMA}).one()
    if facts.exists:
        return [
            Privilege("USAGE", "SCHEMA", SCHEMA),
            Privilege("CREATE", "SCHEMA", SCHEMA),
        ]
    return [Privilege("CREATE", "DATABASE", quoted(facts.database))]


def _owner(resolved: ResolvedMapping) -> Iterator[Privilege]:
    """What the owner's steps take where they are not done yet, but for owning tables."""
    mapping = resolved.mapping
    if schema_change.add_locations(resolved):
        schema = mapping.locations.table.schema_ or resolved.source.schema
        yield Privilege("CREATE", "SCHEMA", quoted(schema))
        if not isinstance(resolved.company, Derived):
            yield Privilege("REFERENCES", "TABLE", resolved.company.sql, (mapping.company.key,))
    if schema_change.add_levels(resolved):
        assert isinstance(mapping.target, StockLevel)  # noqa: S101 - only such a target has levels
        schema = mapping.target.table.schema_ or resolved.source.schema
        yield Privilege("CREATE", "SCHEMA", quoted(schema))
        yield Privilege("REFERENCES", "TABLE", resolved.source.sql, tuple(mapping.source.key))
        if resolved.locations is not None:
            key = (mapping.locations.key,)
            yield Privilege("REFERENCES", "TABLE", resolved.locations_sql, key)


def _has(connection: sa.Connection, privilege: Privilege) -> bool:
    """Whether the role has a privilege; on what is yet to be added, its owner has it."""
    asked = {"name": privilege.name, "right": privilege.right}
    if privilege.kind != "TABLE":
        found = connection.execute(_HAS[privilege.kind], asked).scalar_one()
    elif privilege.columns:
        found = connection.execute(
            _HAS_COLUMNS, {**asked, "columns": list(privilege.columns)}
        ).scalar_one()
    else:
        found = connection.execute(_HAS["TABLE"], asked).scalar_one()
    return bool(found)


_HAS = {
    "TABLE": sa.text("""
        SELECT COALESCE(has_table_privilege(to_regclass(:name), :right), true)
            OR :right = 'SELECT' AND has_any_column_privilege(to_regclass(:name), :right)
    """),
    "SCHEMA": sa.text("SELECT has_schema_privilege(to_regnamespace(:name), :right)"),
    "SEQUENCE": sa.text("SELECT has_sequence_privilege(to_regclass(:name), :right)"),
    "DATABASE": sa.text("SELECT has_database_privilege(current_database(), :right)"),
}

_HAS_COLUMNS = sa.text("""
    SELECT COALESCE(bool_and(has_column_privilege(a.attrelid, a.attnum, :right)), true)
    FROM pg_attribute a
    WHERE a.attrelid = to_regclass(:name) AND a.attname = ANY(:columns) AND NOT a.attisdropped
""")

_MAY_LOCK = sa.text("""
    SELECT has_table_privilege(
        to_regclass(:name),
        'UPDATE, DELETE, TRUNCATE' || CASE WHEN current_setting('server_version_num')::int >= 170000
                                           THEN ', MAINTAIN' ELSE '' END)
""")

_OWNS = sa.text("""
    SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = CAST(:oid AS oid)
""")

_LEDGER = sa.text("""
    SELECT to_regnamespace(:schema) IS NOT NULL AS exists, current_database() AS database
""")

_SEQUENCES = sa.text("""
    SELECT n.nspname AS schema, q.relname AS name
    FROM pg_attrdef f
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
    JOIN pg_class q ON q.oid = d.refobjid AND q.relkind = 'S'
    JOIN pg_namespace n ON n.oid = q.relnamespace
    WHERE f.adrelid = CAST(:oid AS oid) AND d.refclassid = 'pg_class'::regclass
    UNION
    SELECT n.nspname, q.relname
    FROM pg_attribute a
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid
                    AND d.refobjsubid = a.attnum AND d.deptype = 'i'
    JOIN pg_class q ON d.classid = 'pg_class'::regclass AND q.oid = d.objid AND q.relkind = 'S'
    JOIN pg_namespace n ON n.oid = q.relnamespace
    WHERE a.attrelid = CAST(:oid AS oid) AND a.attname = CAST(:identity AS text)
    ORDER BY 1, 2
""")
