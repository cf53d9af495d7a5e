"""Tables as the catalog has them: columns, keys, triggers, publications.

What a mapping wants of a table is judged in `resolution.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from inventory_migration.database import quoted
from inventory_migration.mapping import TableName

INTEGERS = {"smallint", "integer", "bigint"}
FLOATS = {"real", "double precision"}
VARIABLE_TEXTS = {"text", "character varying"}
TEXTS = VARIABLE_TEXTS | {"character"}

# As pg_trigger.tgtype has them.
INSERT, DELETE, UPDATE = 4, 8, 16


@dataclass(frozen=True)
class Column:
    """A column as the catalog has it; its default as SQL, the next value of an identity too."""

    name: str
    type: str
    not_null: bool
    has_default: bool
    generated: bool
    default: str | None = None

    @property
    def base_type(self) -> str:
        """The type without its modifier: `timestamp(3) with time zone` has one in its middle."""
        return base_type(self.type)


@dataclass(frozen=True)
class Trigger:
    """A trigger that our writes will fire."""

    name: str
    definition: str
    function_owner_is_superuser: bool


@dataclass(frozen=True)
class Relation:
    """A table as the catalog has it."""

    oid: int
    schema: str
    name: str
    columns: dict[str, Column]
    unique_keys: tuple[tuple[str, ...], ...]
    triggers: tuple[Trigger, ...]
    publications: tuple[str, ...]
    partly_unique_keys: tuple[tuple[str, ...], ...] = ()

    @property
    def sql(self) -> str:
        """The quoted name."""
        return quoted(self.schema, self.name)

    @property
    def full_name(self) -> str:
        """What a person is told, with the schema."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Derived(Relation):
    """What a SELECT of the mapping gives, in the place of a table; nothing is written to it."""

    query: str = ""

    @property
    def sql(self) -> str:
        """The SELECT, as a FROM clause takes it."""
        # On a line of its own: the last one may end in a comment.
        return f"({self.query}\n)"

    @property
    def full_name(self) -> str:
        """What a person is told: the mapping's key, since there is no schema."""
        return self.name


@dataclass(frozen=True)
class Found:
    """A table of that name, and what makes it unfit to be read or written."""

    relation: Relation | None
    objections: tuple[str, ...] = ()


def find_table(
    connection: sa.Connection,
    name: TableName,
    *,
    fired_by: int = 0,
    written: Sequence[str] = (),
) -> Found | None:
    """Read a table from the catalog; None where there is nothing of that name.

    Args:
        connection: A connection; only read from.
        name: The table.
        fired_by: Which events of ours fire its triggers: INSERT, DELETE, UPDATE, added up.
        written: The columns that an UPDATE of ours sets.
    """
    row = connection.execute(
        _TABLE,
        {
            "name": name.name,
            "schema": name.schema_,
            "events": fired_by,
            "written": list(written),
        },
    ).one_or_none()
    if row is None:
        return None
    if row.relkind not in {"r", "p"}:
        kinds = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
        what = kinds.get(row.relkind, "no table")
        return Found(None, (f"{name} is {what}; name the table behind it",))
    objections = []
    if row.rules:
        objections.append(f"{name} has rewrite rules ({row.rules}); writes would go astray")
    if row.inherited:
        objections.append(
            f"{name} has tables that inherit from it, in which its keys can come again"
        )
    if row.row_security:
        objections.append(f"row level security hides rows of {name} from this role")
    relation = Relation(
        oid=row.oid,
        schema=row.nspname,
        name=row.relname,
        columns={column[0]: Column(*column) for column in row.columns},
        unique_keys=tuple(tuple(columns) for columns, partial in row.unique_keys if not partial),
        partly_unique_keys=tuple(tuple(columns) for columns, partial in row.unique_keys if partial),
        triggers=tuple(Trigger(*trigger) for trigger in row.triggers),
        publications=tuple(row.publications),
    )
    return Found(relation, tuple(objections))


def has_index(connection: sa.Connection, relation: Relation, columns: Sequence[str]) -> bool:
    """Whether an index begins with just these columns, in whatever order."""
    return bool(
        connection.execute(_INDEXED, {"oid": relation.oid, "columns": sorted(columns)}).scalar_one()
    )


def closed_schemas(connection: sa.Connection, name: TableName) -> list[str]:
    """The schemas with a table of that name which the role may not even look into."""
    return list(connection.execute(_CLOSED, {"name": name.name, "schema": name.schema_}).scalars())


def table_names(connection: sa.Connection) -> list[str]:
    """Every table that could have been meant, as a mapping would spell it."""
    return list(connection.execute(_TABLE_NAMES).scalars())


def schema_exists(connection: sa.Connection, name: str) -> bool:
    """Whether the database has a schema of that name."""
    return bool(connection.execute(_SCHEMA_EXISTS, {"schema": name}).scalar_one())


def base_type(kind: str) -> str:
    """A type without its modifier."""
    return re.sub(r"\(.*?\)", "", kind)


# All at once: a mapping names several tables, and each is read at every step.
_TABLE = sa.text("""
    SELECT c.oid::bigint AS oid, n.nspname, c.relname, c.relkind::text AS relkind,
           row_security_active(c.oid) AS row_security,
           c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)
               AS inherited,
           (SELECT string_agg(r.rulename, ', ') FROM pg_rewrite r
             WHERE r.ev_class = c.oid AND c.relkind IN ('r', 'p')) AS rules,
           (SELECT COALESCE(jsonb_agg(jsonb_build_array(
                       a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                       a.atthasdef OR a.attidentity <> '', a.attgenerated <> '',
                       CASE WHEN a.attidentity <> ''
                            THEN format('nextval(%L::regclass)', pg_get_serial_sequence(
                                     a.attrelid::regclass::text, a.attname))
                            ELSE pg_get_expr(d.adbin, d.adrelid) END) ORDER BY a.attnum), '[]')
            FROM pg_attribute a
            LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
           (SELECT COALESCE(jsonb_agg(jsonb_build_array(
                       (SELECT jsonb_agg(a.attname ORDER BY k.place)
                        FROM unnest(i.indkey[0:i.indnkeyatts - 1])
                             WITH ORDINALITY AS k(attnum, place)
                        LEFT JOIN pg_attribute a
                          ON a.attrelid = i.indrelid AND a.attnum = k.attnum),
                       i.indpred IS NOT NULL) ORDER BY i.indexrelid), '[]')
            FROM pg_index i
            WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
              AND i.indexprs IS NULL) AS unique_keys,
           (SELECT COALESCE(jsonb_agg(jsonb_build_array(
                       t.tgname, pg_get_triggerdef(t.oid), r.rolsuper) ORDER BY t.tgname), '[]')
            FROM pg_trigger t
            JOIN pg_proc f ON f.oid = t.tgfoid
            JOIN pg_roles r ON r.oid = f.proowner
            WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgenabled IN ('O', 'A')
              AND t.tgrelid IN (SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid))
              AND (t.tgtype & CAST(:events AS integer) & ~16 <> 0
                   OR t.tgtype & CAST(:events AS integer) & 16 <> 0
                      AND (cardinality(t.tgattr::smallint[]) = 0
                           OR EXISTS (SELECT FROM pg_attribute a
                                      WHERE a.attrelid = t.tgrelid
                                        AND a.attnum = ANY(t.tgattr::smallint[])
                                        AND a.attname = ANY(CAST(:written AS text[]))))))
               AS triggers,
           (SELECT COALESCE(jsonb_agg(p.pubname ORDER BY p.pubname), '[]')
            FROM pg_publication_tables p
            WHERE p.schemaname = n.nspname AND p.tablename = c.relname) AS publications
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = :name
      AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND CASE WHEN CAST(:schema AS text) IS NULL THEN pg_table_is_visible(c.oid)
               ELSE n.nspname = :schema END
""")

_CLOSED = sa.text("""
    SELECT n.nspname
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = :name AND c.relkind IN ('r', 'p')
      AND COALESCE(n.nspname = CAST(:schema AS text), n.nspname <> 'pg_toast')
      AND NOT has_schema_privilege(n.oid, 'USAGE')
    ORDER BY 1
""")

_INDEXED = sa.text("""
    SELECT EXISTS (
        SELECT FROM pg_index i
        WHERE i.indrelid = :oid AND i.indisvalid AND i.indpred IS NULL
          AND (SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE "C")
               FROM unnest(i.indkey[0:cardinality(CAST(:columns AS text[])) - 1]) AS k(attnum)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum)
              = CAST(:columns AS text[]))
""")

_TABLE_NAMES = sa.text(r"""
    SELECT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname
                ELSE n.nspname || '.' || c.relname END
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^(pg_|information_schema)'
""")

_SCHEMA_EXISTS = sa.text("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = :schema)")
