"""Removing the ledger from a database, with nothing that is not the tool's.

What the tool has put on the application's own tables are triggers, whose functions are in the
ledger's schema; added columns, locations and levels are the application's stock by now, and stay.
Nothing is ever dropped with CASCADE: what somebody else has made is named instead. Whether what
goes is in archives is asked in `keeping.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import sqlalchemy as sa

from inventory_migration.database import escaped, quoted
from inventory_migration.engine import ledger, quarantine
from inventory_migration.engine.dependents import dependents
from inventory_migration.engine.failures import sqlstate
from inventory_migration.engine.ledger import SCHEMA
from inventory_migration.errors import LedgerNotDropped

_DEPENDENT = "2BP01"
_SNAPSHOT = re.compile(r"(?:snapshot_[0-9]+(?:_location)?|covered_[0-9]+)")
_OF_THE_LEDGER = ("append_only", "enforce_transition")


def mappings(connection: sa.Connection) -> list[str]:
    """The mappings that the ledger knows."""
    return [
        *connection.execute(
            sa.select(ledger.migration.c.mapping).distinct().order_by(ledger.migration.c.mapping)
        ).scalars()
    ]


def problems(connection: sa.Connection) -> Iterator[str]:
    """What keeps the ledger here, but for what is not archived; each with the next command."""
    yield from _under_way(connection)
    yield from _open_quarantines(connection)
    yield from _triggers(connection)
    yield from _strangers(connection)
    yield from _lacking(connection)


def lock(connection: sa.Connection) -> None:
    """Keep everybody from the ledger's migrations until this transaction ends."""
    connection.execute(sa.text("SET LOCAL lock_timeout = '2s'"))
    connection.execute(sa.text(f"LOCK TABLE {SCHEMA}.migration IN ACCESS EXCLUSIVE MODE"))


def drop(connection: sa.Connection) -> list[str]:
    """Drop all that is ours, and the schema; returns what that was.

    Raises:
        LedgerNotDropped: Something depends on it that was not seen before.
    """
    tables, views = _relations(connection, "r"), _relations(connection, "v")
    functions = _functions(connection)
    statements = [f"DROP VIEW {quoted(SCHEMA, view)}" for view in views]
    statements.append(f"DROP TABLE {', '.join(quoted(SCHEMA, table) for table in tables)}")
    statements += [f"DROP FUNCTION {quoted(SCHEMA, function)}()" for function in functions]
    statements.append(f"DROP SCHEMA {SCHEMA}")
    try:
        for statement in statements:
            connection.execute(sa.text(escaped(statement)))
    except sa.exc.DBAPIError as error:
        if sqlstate(error) != _DEPENDENT or not isinstance(error.orig, psycopg.Error):
            raise
        detail = error.orig.diag.message_detail or error.orig.diag.message_primary or ""
        raise LedgerNotDropped(
            problems=[f"{line}: drop it first" for line in detail.splitlines()]
        ) from None
    return [*views, *tables, *functions]


def _under_way(connection: sa.Connection) -> Iterator[str]:
    rows = connection.execute(
        sa.select(
            ledger.migration.c.migration_id, ledger.migration.c.mapping, ledger.migration.c.state
        )
        .where(ledger.migration.c.state.in_(ledger.ACTIVE))
        .order_by(ledger.migration.c.migration_id)
    )
    for row in rows:
        ends = "rollback" if row.state == "rolling_back" else "resume, abort or rollback"
        yield (
            f"migration {row.migration_id} of {row.mapping} is {row.state.replace('_', ' ')}: "
            f"bring it to its end with 'inventory-migration {ends} {row.mapping}'"
        )


def _open_quarantines(connection: sa.Connection) -> Iterator[str]:
    for mapping in mappings(connection):
        records = quarantine.records(connection, mapping)
        count = connection.execute(
            sa.text(f"SELECT count(*) FROM ({records}) AS q WHERE state = 'open'"),
            {"im_mapping": mapping},
        ).scalar_one()
        if count:
            yield (
                f"records of {mapping} are open in quarantine ({count:,}): 'inventory-migration "
                f"quarantine list {mapping} --state open', then retry or waive them"
            )


def _triggers(connection: sa.Connection) -> Iterator[str]:
    """Triggers of ours on tables of the application, on which what is verified rests."""
    for row in connection.execute(_TRIGGERS, {"schema": SCHEMA}):
        kind, _, mapping = row.function.partition("_")
        ends = f"DROP FUNCTION {row.spelled} CASCADE takes it off"
        if kind == "sync":
            ends = f"'inventory-migration run {mapping} --write-stop' cuts over and takes it off"
        elif kind == "guard":
            ends = f"say guard: false in the mapping, and {ends}"
        yield f"trigger {row.triggers} on {row.table} is what keeps new stock in place: {ends}"


def _strangers(connection: sa.Connection) -> Iterator[str]:
    """What is in the ledger's schema and not ours, or depends on what is."""
    own = [*_relations(connection, "r"), *_relations(connection, "v")]
    functions = _functions(connection)
    inside = connection.execute(
        _INSIDE, {"schema": SCHEMA, "relations": own, "functions": functions}
    ).scalars()
    for name in dict.fromkeys([*inside, *dependents(connection, own)]):
        yield f"{name} is not the tool's: drop it first, or move it to another schema"


def _lacking(connection: sa.Connection) -> Iterator[str]:
    row = connection.execute(_OWNER, {"schema": SCHEMA}).one()
    if not row.owns:
        yield (
            f"the role {row.role} does not own the schema {SCHEMA}: connect as {row.owner}, with "
            "--database-url or INVENTORY_DATABASE_URL"
        )


def _relations(connection: sa.Connection, kind: str) -> list[str]:
    """Our tables (r) or views (v) that there are."""
    known = {table.name for table in ledger.metadata.sorted_tables}
    known |= {f"synced_{mapping}" for mapping in mappings(connection)}
    views = {f"{mapping}_record_status" for mapping in mappings(connection)}
    names = connection.execute(_NAMES, {"schema": SCHEMA, "kind": kind}).scalars()
    if kind == "v":
        return [name for name in names if name in views]
    return [name for name in names if name in known or _SNAPSHOT.fullmatch(name)]


def _functions(connection: sa.Connection) -> list[str]:
    """Our functions that there are; none takes an argument."""
    known = {
        *_OF_THE_LEDGER,
        *(f"{kind}_{mapping}" for mapping in mappings(connection) for kind in ("guard", "sync")),
    }
    names = connection.execute(_FUNCTION_NAMES, {"schema": SCHEMA}).scalars()
    return [name for name in names if name in known]


_NAMES = sa.text("""
    SELECT c.relname::text FROM pg_class c
    WHERE c.relnamespace = to_regnamespace(:schema) AND c.relkind = :kind ORDER BY c.relname
""")

_FUNCTION_NAMES = sa.text("""
    SELECT p.proname::text FROM pg_proc p
    WHERE p.pronamespace = to_regnamespace(:schema) AND p.pronargs = 0
      AND p.prorettype = 'trigger'::regtype
    ORDER BY p.proname
""")

_TRIGGERS = sa.text("""
    SELECT string_agg(t.tgname, ', ' ORDER BY t.tgname) AS triggers, c.oid::regclass::text AS table,
           f.proname::text AS function, f.oid::regproc::text AS spelled
    FROM pg_trigger t
    JOIN pg_proc f ON f.oid = t.tgfoid
    JOIN pg_class c ON c.oid = t.tgrelid
    WHERE f.pronamespace = to_regnamespace(:schema)
      AND c.relnamespace <> to_regnamespace(:schema) AND t.tgparentid = 0
    GROUP BY c.oid, f.oid, f.proname
    ORDER BY 2, 3
""")

_INSIDE = sa.text("""
    SELECT pg_describe_object(d.classid, d.objid, d.objsubid)
    FROM pg_depend d
    LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
    LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
    WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = to_regnamespace(:schema)
      AND (c.relname = ANY(:relations) AND c.relkind IN ('r', 'v')) IS NOT TRUE
      AND (p.proname = ANY(:functions) AND p.pronargs = 0) IS NOT TRUE
      -- Sequences of our own columns.
      AND NOT EXISTS (SELECT FROM pg_depend o JOIN pg_class t ON t.oid = o.refobjid
                      WHERE o.classid = d.classid AND o.objid = d.objid
                        AND o.refclassid = 'pg_class'::regclass AND o.deptype IN ('a', 'i')
                        AND t.relnamespace = to_regnamespace(:schema)
                        AND t.relname = ANY(:relations))
    ORDER BY 1
""")

_OWNER = sa.text("""
    SELECT current_user::text AS role, pg_get_userbyid(nspowner)::text AS owner,
           pg_has_role(nspowner, 'USAGE') AS owns
    FROM pg_namespace WHERE nspname = :schema
""")
