"""The statements of a migration as text, for those who must agree to them: `grants`, `test --sql`.

Three groups, apart from each other: what the tables' owner does once, what the worker's role needs
(listed in `privileges.py`), and what the engine then writes. They are made by the very functions
that execute them. Nothing is executed here but EXPLAIN.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import Column, Derived, Relation, ResolvedMapping
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import (
    canonical,
    chunk_statements,
    flags,
    guard,
    ledger,
    links,
    new_locations,
    privileges,
    references,
    schema_change,
    sync,
)
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.mapping import StockLevel

WORKER = "inventory_worker"
"""The role's name where nobody said another and the one at hand is not fit to be a worker."""


@dataclass(frozen=True)
class Statements:
    """What is executed, by whom.

    Attributes:
        role: The role that the grants are for.
        owner: Steps that need the tables' owner; empty where all is there.
        grants: The least that the role needs to migrate, validate and roll back.
        write_stop: What it needs besides where a write stop is declared, which locks tables.
        monitoring: What lets it see how the server is, which it can do without.
        acceptance: What it needs besides to try afterwards whether everything still works.
        unnamed_role: Whether that would execute operations with the worker's own rights.
        writes: What the engine executes as that role, with `:im_…` for bound parameters.
    """

    role: str
    owner: list[str]
    grants: list[str]
    write_stop: list[str]
    monitoring: list[str]
    acceptance: list[str]
    unnamed_role: bool
    writes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return asdict(self)

    def grants_script(self) -> str:
        """Return a script for psql of what is to be executed before a migration, and by whom."""
        parts = ["-- 1. Owner's steps: once, by the owner of the tables."]
        parts += [f"{s};" for s in self.owner] or ["-- Nothing is missing."]
        parts.append(f"\n-- 2. What the role {_on_one_line(self.role)} needs, and no more.")
        parts += [f"{s};" for s in self.grants]
        parts.append("\n-- And only to close under a write stop, which locks these tables:")
        parts += [_commented(f"{s};") for s in self.write_stop]
        parts.append(
            "\n-- And only to see replicas, other sessions and the disk (health in the mapping):"
        )
        parts += [_commented(f"{s};") for s in self.monitoring]
        if self.acceptance or self.unnamed_role:
            parts.append("\n-- And only to try what still works after the move (acceptance):")
            parts += [_commented(f"{s};") for s in self.acceptance]
        if self.unnamed_role:
            parts.append(
                "-- Its operations are executed with the worker's own rights, which should not be\n"
                "-- enough for them: name a role of the application in acceptance.role."
            )
        return "\n".join(parts) + "\n"

    def script(self) -> str:
        """Return the same with what the engine writes by itself, which stands in comments."""
        parts = ["\n-- 3. What a migration then writes; for reading, it executes these itself."]
        parts += [_commented(f"{statement};\n") for statement in self.writes]
        return self.grants_script() + "\n".join(parts) + "\n"


def statements(
    connection: sa.Connection, resolved: ResolvedMapping, *, role: str | None = None
) -> Statements:
    """The statements of a mapping against this database.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        role: The worker's role; by default the one connected, unless it owns the tables.
    """
    facts = connection.execute(
        _FACTS, {"source": resolved.source.oid, "schema": SCHEMA, "role": role}
    ).one()
    worker = role or (WORKER if facts.is_owner or resolved.is_superuser else resolved.role)
    exists = facts.role_exists if role else worker != WORKER or facts.worker_exists
    return Statements(
        role=worker,
        owner=list(_owner_steps(resolved)),
        grants=list(_grants(connection, resolved, facts, worker, exists=exists)),
        write_stop=list(_stop_grants(connection, resolved, worker)),
        monitoring=[privileges.monitoring_grant(worker)],
        acceptance=list(_acceptance_grants(connection, resolved, worker)),
        unnamed_role=bool(
            resolved.mapping.acceptance.operations and resolved.mapping.acceptance.role is None
        ),
        writes=[_tidy(statement) for statement in _writes(connection, resolved)],
    )


def tables_read(connection: sa.Connection, resolved: ResolvedMapping) -> list[tuple[str, str]]:
    """Every table that a migration reads, as schema and name: its own, joined, referenced."""
    found = _named_tables(resolved)
    queries = [canonical.records(resolved), references.foreign_keys(connection, resolved)]
    if (reserved := resolved.mapping.expectations.reserved) is not None:
        expected = f"({reserved.sql}\n) AS im_expected"
        queries.append(canonical.source_rows(resolved, extra=expected, hashed=False))
    for query in queries:
        found |= set(relations_of(connection, query))
    # A join that the planner can leave out needs its privilege all the same.
    words = set(re.findall(r"[\w$]+", " ".join(flags.fragments(resolved))))
    found |= {
        (row.schema, row.name)
        for row in connection.execute(_NAMED, {"names": sorted(words | {w.lower() for w in words})})
    }
    return sorted(found)


def refuse_lack(
    connection: sa.Connection, resolved: ResolvedMapping, *, write_stop: bool = False
) -> None:
    """Refuse a role that would come to a halt halfway; see `privileges.refuse_lack`.

    Raises:
        PrivilegesMissing: With everything that it lacks.
    """
    # What is named can be asked about before the planner, which stops at the first lack.
    privileges.refuse_lack(connection, resolved, sorted(_named_tables(resolved)))
    privileges.refuse_lack(
        connection,
        resolved,
        tables_read(connection, resolved),
        stopped=tables_stopped(connection, resolved) if write_stop else (),
    )


def relations_of(connection: sa.Connection, query: str) -> list[tuple[str, str]]:
    """The tables that the planner would read for a query, as schema and name."""
    explained = connection.execute(
        sa.text(f"EXPLAIN (VERBOSE, FORMAT JSON) {escaped(query)}")
    ).scalar_one()
    return sorted(set(_relations(explained)))


def _named_tables(resolved: ResolvedMapping) -> set[tuple[str, str]]:
    """The tables that a mapping names by themselves, as far as they are there."""
    named = [resolved.source, resolved.locations, resolved.levels, resolved.owners]
    named.append(resolved.place_links)
    if not isinstance(resolved.company, Derived):
        named.append(resolved.company)
    named += [part for link in resolved.links for part in (link.table, link.for_each)]
    return {(relation.schema, relation.name) for relation in named if relation is not None}


def _owner_steps(resolved: ResolvedMapping) -> Iterator[str]:
    table, column = schema_change.add_locations(resolved), schema_change.add_column(resolved)
    if table:
        yield table
        yield schema_change.one_default_per_company(resolved)
    if column:
        yield column
    if levels := schema_change.add_levels(resolved):
        yield levels


def _grants(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    facts: sa.Row[Any],
    worker: str,
    *,
    exists: bool,
) -> Iterator[str]:
    role = quoted(worker)
    if not exists:
        yield f"CREATE ROLE {role} LOGIN"
    yield f"GRANT CONNECT ON DATABASE {quoted(facts.database)} TO {role}"
    if facts.ledger_exists:
        if facts.ledger_owner != worker:
            yield f"GRANT USAGE, CREATE ON SCHEMA {SCHEMA} TO {role}"
            yield (
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {SCHEMA} TO {role}"
            )
    else:
        # Made for the role, so that it needs no right to create schemas.
        yield f"CREATE SCHEMA {SCHEMA} AUTHORIZATION {role}"
    needed = privileges.of_worker(connection, resolved, tables_read(connection, resolved))
    yield from privileges.grant_statements(needed, worker)


def tables_stopped(connection: sa.Connection, resolved: ResolvedMapping) -> list[str]:
    """The tables that a write stop locks: records, what their numbers come from, and levels."""
    found = {(resolved.source.schema, resolved.source.name)}
    found |= set(relations_of(connection, canonical.source_rows(resolved)))
    if resolved.levels is not None:
        found.add((resolved.levels.schema, resolved.levels.name))
    return sorted(quoted(*table) for table in found)


def _stop_grants(
    connection: sa.Connection, resolved: ResolvedMapping, worker: str
) -> Iterator[str]:
    """A right that lets a role lock tables; from 17 on one that lets it write nothing."""
    version = connection.execute(_VERSION).scalar_one()
    right = "MAINTAIN" if version >= 170000 else "UPDATE"
    # Who may delete all rows of a table may lock it.
    tables = [
        table for table in tables_stopped(connection, resolved) if table != resolved.levels_sql
    ]
    if tables:
        yield f"GRANT {right} ON {', '.join(tables)} TO {quoted(worker)}"


def _acceptance_grants(
    connection: sa.Connection, resolved: ResolvedMapping, worker: str
) -> Iterator[str]:
    """What its queries name beside the migration's own tables, and whose rights operations take on.

    The tables may not be as its queries expect them yet, so that no planner can be asked; and where
    one is a view, it is the view that is read.
    """
    wanted = resolved.mapping.acceptance
    texts = [text for query in wanted.queries.values() for text in (query.old, query.new) if text]
    texts += [wanted.record.sql] if wanted.record else []
    words = set(re.findall(r"[\w$]+", " ".join(texts)))
    names = sorted(words | {word.lower() for word in words})
    read = tables_read(connection, resolved)
    named = {(row.schema, row.name) for row in connection.execute(_MEANT, {"names": names})}
    beside = sorted(named - {*read})
    schemas = sorted({schema for schema, _ in beside} - {schema for schema, _ in read})
    needed = [privileges.Privilege("USAGE", "SCHEMA", quoted(schema)) for schema in schemas]
    needed += [privileges.Privilege("SELECT", "TABLE", quoted(*table)) for table in beside]
    yield from privileges.grant_statements(needed, worker)
    if wanted.operations and wanted.role is not None and wanted.role != worker:
        version = connection.execute(_VERSION).scalar_one()
        # To take it on where it is tried, and nothing of it anywhere else.
        only = " WITH INHERIT FALSE, SET TRUE" if version >= 160000 else ""
        yield f"GRANT {quoted(wanted.role)} TO {quoted(worker)}{only}"


def _writes(connection: sa.Connection, resolved: ResolvedMapping) -> Iterator[str]:
    resolved = _expanded(resolved)
    migration = _next_migration(connection, resolved)
    if resolved.mapping.locations.create is not None:
        yield from (_unescaped(s) for s in new_locations.create_locations(resolved))
    yield from links.insert_statements(resolved)
    if guard.wanted(resolved):
        yield from guard.install_statements(connection, resolved)
    if sync.wanted(resolved):
        yield from sync.install_statements(connection, resolved)
    yield _unescaped(chunk_statements.lock_statement(resolved, migration))
    yield _unescaped(chunk_statements.write_statement(resolved, migration))


def _expanded(resolved: ResolvedMapping) -> ResolvedMapping:
    """The mapping as it will be resolved once the owner's steps are done."""
    locations = resolved.locations
    if locations is None:
        named = resolved.mapping.locations
        key = Column(named.key, resolved.location_key_type, True, True, False)
        table = named.table
        locations = Relation(
            oid=0,
            schema=table.schema_ or resolved.source.schema,
            name=table.name,
            columns={named.key: key},
            unique_keys=((named.key,),),
            triggers=(),
            publications=(),
        )
    # Levels that are yet to be added are not looked at: there is none.
    target_exists = resolved.levels is not None or not isinstance(
        resolved.mapping.target, StockLevel
    )
    return replace(resolved, target_exists=target_exists, locations=locations)


def _next_migration(connection: sa.Connection, resolved: ResolvedMapping) -> Migration:
    last = None
    if ledger.installed(connection):
        last = connection.execute(sa.select(sa.func.max(ledger.migration.c.migration_id))).scalar()
    return Migration(
        migration_id=(last or 0) + 1,
        mapping=resolved.mapping.name,
        mapping_hash=resolved.mapping.hash,
        target=resolved.target,
        state="planned",
        reason=None,
        column_added=False,
    )


def _relations(plan: Any) -> Iterator[tuple[str, str]]:
    if isinstance(plan, list):
        for part in plan:
            yield from _relations(part)
    elif isinstance(plan, dict):
        if "Relation Name" in plan:
            yield plan["Schema"], plan["Relation Name"]
        for part in plan.values():
            yield from _relations(part)


def _commented(sql: str) -> str:
    """SQL that psql does not execute, whatever ends a line in the names that it holds."""
    lines = re.sub(r"\r\n?", "\n", sql)
    return textwrap.indent(lines, "-- ", lambda _: True).rstrip("- \n")


def _on_one_line(name: str) -> str:
    return " ".join(name.split())


def _unescaped(sql: str) -> str:
    return sql.replace(r"\:", ":")


def _tidy(sql: str) -> str:
    lines = [line.rstrip() for line in sql.strip("\n").splitlines() if line.strip()]
    first, rest = lines[0].strip(), textwrap.dedent("\n".join(lines[1:]))
    return f"{first}\n{textwrap.indent(rest, '    ')}" if rest else first


_FACTS = sa.text("""
    SELECT current_database() AS database,
           pg_has_role(current_user, c.relowner, 'USAGE') AS is_owner,
           to_regnamespace(:schema) IS NOT NULL AS ledger_exists,
           (SELECT r.rolname FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
             WHERE n.nspname = :schema) AS ledger_owner,
           EXISTS (SELECT FROM pg_roles WHERE rolname = :role) AS role_exists,
           EXISTS (SELECT FROM pg_roles WHERE rolname = 'inventory_worker') AS worker_exists
    FROM pg_class c
    WHERE c.oid = :source
""")

_VERSION = sa.text("SELECT current_setting('server_version_num')::integer")

_MEANT = sa.text("""
    SELECT n.nspname AS schema, c.relname AS name
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = ANY(:names) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND n.nspname NOT IN ('pg_catalog', 'information_schema')
      AND (pg_table_is_visible(c.oid) OR n.nspname = ANY(:names))
""")

_NAMED = sa.text("""
    SELECT n.nspname AS schema, c.relname AS name
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = ANY(:names) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND pg_table_is_visible(c.oid)
""")
