"""Reading a live catalog: which names exist, what types they have, what hangs on them.

`resolve` holds a mapping against a database and reports every problem at once, each with the
nearest existing name. It only reads. What is written to the database, and the SELECTs that a
mapping yields, do not belong here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

import sqlalchemy as sa

from inventory_migration.database import escaped, quoted
from inventory_migration.errors import MappingInvalid
from inventory_migration.mapping import (
    ColumnOrExpression,
    Expression,
    StockMapping,
    TableName,
    ValueOrExpression,
)

INTEGERS = {"smallint", "integer", "bigint"}
FLOATS = {"real", "double precision"}
TEXTS = {"text", "character varying", "character"}


@dataclass(frozen=True)
class Column:
    """A column as the catalog has it."""

    name: str
    type: str
    not_null: bool
    has_default: bool
    generated: bool

    @property
    def base_type(self) -> str:
        """The type without its modifier: `character varying(40)` is `character varying`."""
        return self.type.partition("(")[0]


@dataclass(frozen=True)
class Trigger:
    """A user's trigger that our writes will fire."""

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
    estimated_rows: int

    @property
    def sql(self) -> str:
        """The quoted name."""
        return quoted(self.schema, self.name)


@dataclass(frozen=True)
class ResolvedMapping:
    """A mapping whose every name was found, with the types that its SQL needs."""

    mapping: StockMapping
    source: Relation
    company: Relation
    locations: Relation | None
    locations_sql: str
    location_key_type: str
    company_key_type: str
    source_company_type: str
    quantity_type: str
    reserved_type: str | None
    target_exists: bool
    role: str
    is_superuser: bool
    value_types: dict[str, str] = field(default_factory=dict)

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The key of a stock record, in the mapping's order."""
        return tuple(self.source.columns[name] for name in self.mapping.source.key)

    @property
    def target(self) -> str:
        """What a migration writes, by name: one active migration per target."""
        return f"{self.source.schema}.{self.source.name}.{self.mapping.target.column}"


def column_sql(column: ColumnOrExpression, alias: str = "s") -> str:
    """The SQL of a column or expression of the source."""
    if isinstance(column, Expression):
        return f"({column.sql})"
    return f"{quoted(alias)}.{quoted(column)}"


def literal(value: ValueOrExpression) -> str:
    """The SQL of a constant, or of an expression as it stands."""
    if isinstance(value, Expression):
        return f"({value.sql})"
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        # Under E'' a backslash means the same whatever standard_conforming_strings says.
        return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
    return str(value)


def resolve(connection: sa.Connection, mapping: StockMapping) -> ResolvedMapping:
    """Hold a mapping against the live catalog.

    Args:
        connection: A connection to the application's database; only read from.
        mapping: The mapping to resolve.

    Raises:
        MappingInvalid: At least one name, type or property does not fit; lists all problems.
    """
    return _Resolver(connection, mapping).resolve()


class _Resolver:
    """Collects problems on the way, so that a user sees all of them at once."""

    def __init__(self, connection: sa.Connection, mapping: StockMapping) -> None:
        self.connection = connection
        self.mapping = mapping
        self.problems: list[str] = []

    def resolve(self) -> ResolvedMapping:
        mapping = self.mapping
        source = self._relation("source.table", mapping.source.table)
        company = self._relation("company.table", mapping.company.table)
        locations = self._relation(
            "locations.table", mapping.locations.table, may_be_added=mapping.locations.add
        )
        if source:
            self._check_source(source)
        if company:
            self._columns(company, {"company.key": mapping.company.key})
            self._columns(company, {"company.name": mapping.company.name})
            self._check_key("company.key", company, (mapping.company.key,))
        if locations:
            self._check_locations(locations)
        self._stop_if_any()
        assert source is not None  # noqa: S101 - for mypy: a missing table is a problem
        assert company is not None  # noqa: S101
        return self._typed(source, company, locations)

    def _stop_if_any(self) -> None:
        if self.problems:
            raise MappingInvalid(origin=self.mapping.name, problems=self.problems)

    def _problem(self, where: str, what: str) -> None:
        self.problems.append(f"{self.mapping.name}: {where}: {what}")

    def _typed(
        self, source: Relation, company: Relation, locations: Relation | None
    ) -> ResolvedMapping:
        mapping = self.mapping
        company_key_type = company.columns[mapping.company.key].type
        if locations:
            location_key_type = locations.columns[mapping.locations.key].type
            locations_sql = locations.sql
        else:
            location_key_type = "bigint"
            schema = mapping.locations.table.schema_ or source.schema
            locations_sql = quoted(schema, mapping.locations.table.name)
        types = {
            where: self._expression_type(where, source, column)
            for where, column in {
                "source.company": mapping.source.company,
                "source.item": mapping.source.item,
                "source.quantity": mapping.source.quantity,
                **({"source.reserved": mapping.source.reserved} if mapping.source.reserved else {}),
            }.items()
        }
        for name, condition in mapping.source.skip.items():
            kind = self._expression_type(f"source.skip.{name}", source, condition)
            if kind not in {None, "boolean"}:
                self._problem(f"source.skip.{name}", f"is {kind}, not a condition")
        touched = {
            name: self._expression_type(f"touch.{name}", source, value)
            for name, value in mapping.touch.items()
            if isinstance(value, Expression)
        }
        for where in ("source.quantity", "source.reserved"):
            kind = (types.get(where) or "numeric").partition("(")[0]
            if kind not in INTEGERS | FLOATS | TEXTS | {"numeric"}:
                self._problem(where, f"is {kind}; a quantity is a number or text that holds one")
        self._check_comparable(
            "source.company", types.get("source.company"), "company.key", company_key_type
        )
        if locations:
            self._check_comparable(
                "locations.company",
                locations.columns[mapping.locations.company].type,
                "company.key",
                company_key_type,
            )
        existing = source.columns.get(mapping.target.column)
        if existing:
            self._check_target(existing, location_key_type)
        self._stop_if_any()
        role, is_superuser = self.connection.execute(
            sa.text("SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user")
        ).one()
        return ResolvedMapping(
            mapping=mapping,
            source=source,
            company=company,
            locations=locations,
            locations_sql=locations_sql,
            location_key_type=location_key_type,
            company_key_type=company_key_type,
            source_company_type=types["source.company"] or company_key_type,
            quantity_type=(types["source.quantity"] or "numeric").partition("(")[0],
            reserved_type=(types.get("source.reserved") or "").partition("(")[0] or None,
            target_exists=existing is not None,
            role=role,
            is_superuser=is_superuser,
            value_types={name: kind for name, kind in touched.items() if kind},
        )

    def _check_source(self, source: Relation) -> None:
        mapping = self.mapping
        parts: dict[str, ColumnOrExpression] = {
            "source.company": mapping.source.company,
            "source.item": mapping.source.item,
            "source.quantity": mapping.source.quantity,
        }
        if mapping.source.reserved is not None:
            parts["source.reserved"] = mapping.source.reserved
        self._columns(source, {w: c for w, c in parts.items() if isinstance(c, str)})
        self._columns(source, {f"touch.{name}": name for name in mapping.touch})
        if self._columns(source, {f"source.key[{i}]": k for i, k in enumerate(mapping.source.key)}):
            self._check_key("source.key", source, tuple(mapping.source.key))
        if not mapping.target.add:
            self._columns(source, {"target.column": mapping.target.column})
        for name in mapping.touch:
            if name in source.columns and source.columns[name].generated:
                self._problem(f"touch.{name}", "is a generated column and cannot be set")

    def _check_locations(self, locations: Relation) -> None:
        named = self.mapping.locations
        self._columns(
            locations,
            {
                "locations.key": named.key,
                "locations.company": named.company,
                **{f"locations.default.{name}": name for name in named.default},
                **{f"locations.create.{name}": name for name in named.create or {}},
            },
        )
        if named.key in locations.columns:
            self._check_key("locations.key", locations, (named.key,))
        if named.create is None:
            return
        given = {named.company, *named.default, *named.create}
        for column in locations.columns.values():
            if column.name in given or column.has_default or column.generated:
                continue
            if column.name == named.key and column.type == "uuid":
                continue
            if column.not_null:
                self._problem(
                    "locations.create",
                    f"column {column.name} of {locations.name} needs a value and has no default; "
                    "add it to create",
                )

    def _check_target(self, column: Column, location_key_type: str) -> None:
        if column.generated:
            self._problem("target.column", f"{column.name} is generated and cannot be written")
        same = column.type == location_key_type
        if not same and not {column.type, location_key_type} <= INTEGERS:
            self._problem(
                "target.column",
                f"{column.name} is {column.type}, but locations.key is {location_key_type}",
            )

    def _check_comparable(self, where: str, kind: str | None, other: str, other_kind: str) -> None:
        if kind is None:
            return
        nested = self.connection.begin_nested()
        try:
            self.connection.execute(
                sa.text(f"SELECT NULL::{escaped(kind)} = NULL::{escaped(other_kind)}")
            )
        except sa.exc.DBAPIError:
            self._problem(where, f"is {kind} and cannot be compared with {other}, {other_kind}")
        finally:
            nested.rollback()

    def _expression_type(
        self, where: str, source: Relation, column: ColumnOrExpression
    ) -> str | None:
        """The type of an expression over the source, by asking the server to plan it."""
        joins = self.mapping.source.joins
        query = f"SELECT {column_sql(column)} FROM {source.sql} AS s {joins} LIMIT 0"  # noqa: S608
        nested = self.connection.begin_nested()
        try:
            result = self.connection.execute(sa.text(escaped(query)))
            code = result.cursor.description[0][1]
            result.close()
            return str(
                self.connection.execute(
                    sa.text("SELECT format_type(:oid, NULL)"), {"oid": code}
                ).scalar_one()
            )
        except sa.exc.DBAPIError as error:
            first = str(error.orig).strip().partition("\n")[0]
            self._problem(where, f"the server refuses it: {first}")
            return None
        finally:
            nested.rollback()

    def _columns(self, relation: Relation, wanted: dict[str, str]) -> bool:
        missing = {where: name for where, name in wanted.items() if name not in relation.columns}
        for where, name in missing.items():
            hint = _nearest(name, relation.columns)
            self._problem(where, f"table {relation.name} has no column {name}{hint}")
        return not missing

    def _check_key(self, where: str, relation: Relation, key: tuple[str, ...]) -> None:
        if any(name not in relation.columns for name in key):
            return
        nullable = [name for name in key if not relation.columns[name].not_null]
        if nullable:
            self._problem(where, f"{', '.join(nullable)} of {relation.name} may be NULL")
        elif not any(set(unique) <= set(key) for unique in relation.unique_keys):
            self._problem(
                where,
                f"nothing makes {', '.join(key)} unique in {relation.name}; "
                "a key needs a primary key or a unique index",
            )

    def _relation(
        self, where: str, name: TableName, *, may_be_added: bool = False
    ) -> Relation | None:
        found = self.connection.execute(
            _TABLE, {"name": name.name, "schema": name.schema_}
        ).one_or_none()
        if found is None:
            if not may_be_added:
                tables = self.connection.execute(_TABLE_NAMES).scalars().all()
                self._problem(where, f"there is no table {name}{_nearest(str(name), tables)}")
            return None
        if found.relkind not in {"r", "p"}:
            kinds = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
            what = kinds.get(found.relkind, "no table")
            self._problem(where, f"{name} is {what}; name the table behind it")
            return None
        if found.rules:
            self._problem(
                where, f"{name} has rewrite rules ({found.rules}); writes would go astray"
            )
        if found.row_security:
            self._problem(where, f"row level security hides rows of {name} from this role")
        rows = self.connection.execute(_COLUMNS, {"oid": found.oid}).all()
        return Relation(
            oid=found.oid,
            schema=found.nspname,
            name=found.relname,
            columns={r.attname: Column(*r) for r in rows},
            unique_keys=tuple(
                tuple(r.columns) for r in self.connection.execute(_UNIQUE, {"oid": found.oid})
            ),
            triggers=tuple(
                Trigger(*r) for r in self.connection.execute(_TRIGGERS, {"oid": found.oid})
            ),
            publications=tuple(
                self.connection.execute(
                    _PUBLICATIONS, {"schema": found.nspname, "name": found.relname}
                ).scalars()
            ),
            estimated_rows=max(0, int(found.reltuples)),
        )


def _nearest(name: str, known: Iterable[str]) -> str:
    lowered = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean {lowered[close[0]]}?" if close else ""


_TABLE = sa.text("""
    SELECT c.oid::bigint AS oid, n.nspname, c.relname, c.relkind::text AS relkind, c.reltuples,
           row_security_active(c.oid) AS row_security,
           (SELECT string_agg(r.rulename, ', ') FROM pg_rewrite r
             WHERE r.ev_class = c.oid AND c.relkind IN ('r', 'p')) AS rules
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = :name
      AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND CASE WHEN CAST(:schema AS text) IS NULL THEN pg_table_is_visible(c.oid)
               ELSE n.nspname = :schema END
""")

_TABLE_NAMES = sa.text(r"""
    SELECT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname
                ELSE n.nspname || '.' || c.relname END
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^(pg_|information_schema)'
""")

_COLUMNS = sa.text("""
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           a.atthasdef OR a.attidentity <> '', a.attgenerated <> ''
    FROM pg_attribute a
    WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
""")

_UNIQUE = sa.text("""
    SELECT array_agg(a.attname::text ORDER BY k.place) AS columns
    FROM pg_index i
    CROSS JOIN LATERAL unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(attnum, place)
    LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = :oid AND i.indisunique AND i.indisvalid AND i.indimmediate
      AND i.indpred IS NULL AND i.indexprs IS NULL
    GROUP BY i.indexrelid
""")

_TRIGGERS = sa.text("""
    SELECT t.tgname, pg_get_triggerdef(t.oid), r.rolsuper
    FROM pg_trigger t
    JOIN pg_proc f ON f.oid = t.tgfoid
    JOIN pg_roles r ON r.oid = f.proowner
    WHERE t.tgrelid = :oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'
    ORDER BY t.tgname
""")

_PUBLICATIONS = sa.text("""
    SELECT pubname FROM pg_publication_tables
    WHERE schemaname = :schema AND tablename = :name
    ORDER BY pubname
""")
