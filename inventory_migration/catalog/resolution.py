"""Holding a mapping against a database: every problem at once, with the nearest existing name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from inventory_migration.catalog.resolved import ResolvedMapping, column_sql, literal
from inventory_migration.catalog.tables import (
    DELETE,
    FLOATS,
    INSERT,
    INTEGERS,
    TEXTS,
    UPDATE,
    VARIABLE_TEXTS,
    Column,
    Relation,
    base_type,
    find_table,
    schema_exists,
    table_names,
)
from inventory_migration.database import escaped, explain, quoted
from inventory_migration.errors import MappingInvalid
from inventory_migration.mapping import ColumnOrExpression, StockMapping, TableName


def resolve(connection: sa.Connection, mapping: StockMapping) -> ResolvedMapping:
    """Hold a mapping against the live catalog.

    Args:
        connection: A connection to the application's database; only read from.
        mapping: The mapping to resolve.

    Raises:
        MappingInvalid: At least one name, type or property does not fit; lists all problems.
    """
    return _Resolver(connection, mapping).resolve()


# A write is planned under a lock that an index build or a standby refuses, and by a role that may
# only want to look: then the mapping is not at fault.
_NO_FAULT = {"42501", "55000", "55P03"}


class _Resolver:
    """Collects problems on the way, so that a user sees all of them at once."""

    def __init__(self, connection: sa.Connection, mapping: StockMapping) -> None:
        self.connection = connection
        self.mapping = mapping
        self.problems: list[str] = []

    def resolve(self) -> ResolvedMapping:
        mapping = self.mapping
        source = self._relation(
            "source.table",
            mapping.source.table,
            fired_by=UPDATE,
            written=[*mapping.target.columns, *mapping.touch],
        )
        company = self._relation("company.table", mapping.company.table)
        locations = self._locations(source)
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

    def _locations(self, source: Relation | None) -> Relation | None:
        """The table of locations; None where it is missing and may be added."""
        named = self.mapping.locations
        events = INSERT | DELETE if named.create is not None else 0
        if not named.add:
            return self._relation("locations.table", named.table, fired_by=events)
        found = self._relation("locations.table", named.table, fired_by=events, required=False)
        if found is not None or source is None or self.problems:
            return found
        if named.table.schema_ is None:
            # It is added beside the source, where the search path need not find it afterwards.
            beside = TableName(schema=source.schema, name=named.table.name)
            return self._relation("locations.table", beside, fired_by=events, required=False)
        if not schema_exists(self.connection, named.table.schema_):
            self._problem("locations.table", f"there is no schema {named.table.schema_} to add to")
        return None

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
        self._check_joins(source)
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
        for touched, value in mapping.touch.items():
            self._probe(
                f"touch.{touched}",
                f"EXPLAIN UPDATE {source.sql} AS s "  # noqa: S608
                f"SET {quoted(touched)} = {literal(value)}",
            )
        if locations:
            self._check_values(locations, company)
        for where in ("source.quantity", "source.reserved"):
            kind = base_type(types.get(where) or "numeric")
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
        for where, name in self._target_columns().items():
            if name in source.columns:
                self._check_target(where, source.columns[name], location_key_type)
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
            quantity_type=base_type(types["source.quantity"] or "numeric"),
            reserved_type=base_type(types.get("source.reserved") or "") or None,
            target_exists=set(mapping.target.columns) <= set(source.columns),
            role=role,
            is_superuser=is_superuser,
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
            self._columns(source, self._target_columns())
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

    def _target_columns(self) -> dict[str, str]:
        named = zip(
            ("target.column", "target.transfers"), self.mapping.target.columns, strict=False
        )
        return dict(named)

    def _check_target(self, where: str, column: Column, location_key_type: str) -> None:
        if column.generated:
            self._problem(where, f"{column.name} is generated and cannot be written")
        if self.mapping.target.shape == "allocation_json":
            if column.type != "jsonb":
                self._problem(where, f"{column.name} is {column.type}; allocations need jsonb")
            return
        both = {base_type(column.type), base_type(location_key_type)}
        alike = both <= INTEGERS or both <= VARIABLE_TEXTS
        if column.type != location_key_type and not alike:
            self._problem(
                where, f"{column.name} is {column.type}, but locations.key is {location_key_type}"
            )

    def _check_values(self, locations: Relation, company: Relation) -> None:
        """Ask the server whether constants and expressions fit the columns of the locations."""
        named = self.mapping.locations
        for name, value in named.default.items():
            self._probe(
                f"locations.default.{name}",
                f"SELECT FROM {locations.sql} AS l "  # noqa: S608
                f"WHERE l.{quoted(name)} IS NOT DISTINCT FROM {literal(value)} LIMIT 0",
            )
        for name, given in (named.create or {}).items():
            self._probe(
                f"locations.create.{name}",
                f"EXPLAIN INSERT INTO {locations.sql} ({quoted(name)}) "  # noqa: S608
                f"SELECT {literal(given)} FROM {company.sql} AS c",
            )

    def _check_joins(self, source: Relation) -> None:
        joins = self.mapping.source.joins
        if joins:
            self._probe("source.joins", f"SELECT FROM {source.sql} AS s {joins} LIMIT 0")
            self._stop_if_any()

    def _probe(self, where: str, query: str) -> None:
        """Have the server plan a statement, which changes nothing, and note what it objects to."""
        nested = self.connection.begin_nested()
        try:
            self.connection.execute(sa.text("SET LOCAL lock_timeout = '200ms'"))
            self.connection.execute(sa.text(escaped(query)))
        except sa.exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in _NO_FAULT:
                self._problem(where, f"the server refuses it: {_first_line(error)}")
        finally:
            nested.rollback()

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
            if getattr(error.orig, "sqlstate", None) == "42501":
                raise explain(error, self.connection.engine) from None
            self._problem(where, f"the server refuses it: {_first_line(error)}")
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
        self,
        where: str,
        name: TableName,
        *,
        required: bool = True,
        fired_by: int = 0,
        written: Sequence[str] = (),
    ) -> Relation | None:
        found = find_table(self.connection, name, fired_by=fired_by, written=written)
        if found is None:
            if required:
                hint = _nearest(str(name), table_names(self.connection))
                self._problem(where, f"there is no table {name}{hint}")
            return None
        for objection in found.objections:
            self._problem(where, objection)
        return found.relation


def _first_line(error: sa.exc.DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]


def _nearest(name: str, known: Iterable[str]) -> str:
    lowered = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean {lowered[close[0]]}?" if close else ""
