"""Holding a mapping against a database: every problem at once, with the nearest existing name."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from inventory_migration.catalog import places
from inventory_migration.catalog.conversions import raw_sql
from inventory_migration.catalog.findings import Findings
from inventory_migration.catalog.levels import check_levels, check_links, find_levels, find_links
from inventory_migration.catalog.resolved import ResolvedLink, ResolvedMapping, TargetKey, literal
from inventory_migration.catalog.tables import (
    FLOATS,
    INTEGERS,
    TEXTS,
    UPDATE,
    VARIABLE_TEXTS,
    Column,
    Derived,
    Relation,
    base_type,
    has_index,
)
from inventory_migration.catalog.target_keys import find_target_key
from inventory_migration.database import quoted
from inventory_migration.mapping import (
    CompanyQuery,
    Expression,
    LinkTable,
    Standardised,
    StockLevel,
    StockMapping,
    Through,
    Timestamptz,
    named_column,
)


def resolve(connection: sa.Connection, mapping: StockMapping) -> ResolvedMapping:
    """Hold a mapping against the live catalog.

    Args:
        connection: A connection to the application's database; only read from.
        mapping: The mapping to resolve.

    Raises:
        MappingInvalid: At least one name, type or property does not fit; lists all problems.
    """
    return _Resolver(connection, mapping).resolve()


class _Resolver(Findings):
    """Asks for everything that a mapping names."""

    _levels: Relation | None = None
    _links: Sequence[ResolvedLink] = ()
    _owners: Relation | None = None
    _place_links: Relation | None = None

    def resolve(self) -> ResolvedMapping:
        mapping = self.mapping
        source = self.relation(
            "source.table",
            mapping.source.table,
            fired_by=UPDATE if mapping.target.columns else 0,
            written=[*mapping.target.columns, *mapping.touch],
        )
        company = self._company()
        locations = places.find_locations(self, source)
        if source:
            self._check_source(source)
        if company:
            self.check_columns(company, {"company.key": mapping.company.key})
            self.check_columns(company, {"company.name": mapping.company.name})
        if company and not isinstance(company, Derived):
            self.check_key("company.key", company, (mapping.company.key,))
        if locations:
            places.check_names(self, locations)
        if source and isinstance(mapping.target, StockLevel):
            self._levels = find_levels(self, mapping.target, source)
        self._links = find_links(self)
        self._place_links = places.find_link(self, locations, company)
        if isinstance(mapping.source.company, Through):
            self._owners = self._find_owners(source, mapping.source.company.through)
        self.stop_if_any()
        assert source is not None  # noqa: S101 - for mypy: a missing table is a problem
        assert company is not None  # noqa: S101
        return self._typed(source, company, locations)

    def _company(self) -> Relation | None:
        """Who owns stock: a table, or what a SELECT gives, with the types that it has."""
        named = self.mapping.company
        if isinstance(named, CompanyQuery):
            columns = self.columns_of("company.sql", named.sql)
            if columns is None:
                return None
            return Derived(
                oid=0,
                schema="",
                name=str(named),
                columns=columns,
                unique_keys=(),
                triggers=(),
                publications=(),
                query=named.sql,
            )
        return self.relation("company.table", named.table)

    def _find_owners(self, source: Relation | None, link: LinkTable) -> Relation | None:
        """The table that links records to companies, with an index that finds a record's."""
        where = "source.company.through"
        found = self.relation(f"{where}.table", link.table)
        if found is None or source is None:
            return found
        named = {f"{where}.record.{name}": name for name in link.record}
        there = self.check_columns(found, {**named, f"{where}.company": link.company})
        own = {f"{where}.record.{name}": column for name, column in link.record.items()}
        if self.check_columns(source, own) and there:
            for name, column in link.record.items():
                self.check_comparable(
                    f"{where}.record.{name}",
                    found.columns[name].type,
                    f"{column} of {source.name}",
                    source.columns[column].type,
                )
            if not has_index(self.connection, found, list(link.record)):
                self.problem(
                    f"{where}.record",
                    f"each record would read all of {found.name}: create an index on "
                    f"({', '.join(link.record)})",
                )
        return found

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
        target = mapping.target
        levels_sql = ""
        if isinstance(target, StockLevel):
            beside = quoted(target.table.schema_ or source.schema, target.table.name)
            levels_sql = self._levels.sql if self._levels else beside
        self._check_joins(source)
        owner, expected = mapping.source.company, mapping.expectations.reserved
        types = self.expression_types(
            source,
            {
                **({} if isinstance(owner, Through) else {"source.company": owner}),
                "source.item": mapping.source.item,
                "source.quantity": mapping.source.quantity,
                **({"source.reserved": mapping.source.reserved} if mapping.source.reserved else {}),
                **{f"source.skip.{name}": when for name, when in mapping.source.skip.items()},
                **{f"rules.{name}.when": rule.when for name, rule in mapping.rules.own.items()},
                **({"expectations.reserved": expected} if expected else {}),
            },
        )
        if isinstance(owner, Through) and self._owners:
            types["source.company"] = self._owners.columns[owner.through.company].type
        conditions = [f"source.skip.{name}" for name in mapping.source.skip]
        for where in [*conditions, *(f"rules.{name}.when" for name in mapping.rules.own)]:
            if types[where] not in {None, "boolean"}:
                self.problem(where, f"is {types[where]}, not a condition")
        for touched, value in mapping.touch.items():
            self.probe(
                f"touch.{touched}",
                f"EXPLAIN UPDATE {source.sql} AS s "  # noqa: S608
                f"SET {quoted(touched)} = {literal(value)}",
            )
        self._check_standardised(source)
        if locations:
            places.check_values(self, locations, company)
        if self._place_links:
            places.check_link(self, self._place_links, company)
        if base_type(types.get("expectations.reserved") or "numeric") in TEXTS:
            self.problem("expectations.reserved", "is text; say how it becomes a number")
        for where in ("source.quantity", "source.reserved", "expectations.reserved"):
            kind = base_type(types.get(where) or "numeric")
            if kind not in INTEGERS | FLOATS | TEXTS | {"numeric"}:
                self.problem(where, f"is {kind}; a quantity is a number or text that holds one")
        self.check_comparable(
            "source.company", types.get("source.company"), "company.key", company_key_type
        )
        if locations:
            places.check_owner(self, locations, company_key_type)
        for where, name in self._target_columns().items():
            if name in source.columns:
                self._check_target(where, source.columns[name], location_key_type)
        canonical_types = {
            **dict.fromkeys(("quantity", "on_hand", "reserved", "available"), "numeric"),
            "company": types["source.company"] or company_key_type,
            "item": "text",
            "location": location_key_type,
        }
        target_key: tuple[TargetKey, ...] = ()
        if self._levels:
            check_levels(self, source, self._levels, canonical_types)
            target_key = find_target_key(self, source, self._levels)
        if locations:
            check_links(
                self,
                self._links,
                company,
                locations,
                {**canonical_types, "company": company_key_type},
            )
        self.stop_if_any()
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
            item_type=types["source.item"] or "text",
            quantity_type=base_type(types["source.quantity"] or "numeric"),
            reserved_type=base_type(types.get("source.reserved") or "") or None,
            target_exists=self._levels is not None
            if isinstance(target, StockLevel)
            else set(target.columns) <= set(source.columns),
            role=role,
            is_superuser=is_superuser,
            levels=self._levels,
            levels_sql=levels_sql,
            links=tuple(self._links),
            owners=self._owners,
            target_key=target_key,
            place_links=self._place_links,
        )

    def _check_source(self, source: Relation) -> None:
        mapping = self.mapping
        parts: dict[str, object] = {
            "source.company": mapping.source.company,
            "source.item": mapping.source.item,
            "source.quantity": mapping.source.quantity,
        }
        if mapping.source.reserved is not None:
            parts["source.reserved"] = mapping.source.reserved
        parts |= {f"target.values.{n}": v for n, v in mapping.converted_values.items()}
        if isinstance(mapping.target, StockLevel):
            parts |= {f"target.record.{n}": v for n, v in mapping.target.record.items()}
        self.check_columns(source, {w: c for w, p in parts.items() if (c := named_column(p))})
        self.check_columns(source, {f"touch.{name}": name for name in mapping.touch})
        if self.check_columns(
            source, {f"source.key[{i}]": k for i, k in enumerate(mapping.source.key)}
        ):
            self.check_key("source.key", source, tuple(mapping.source.key))
        if mapping.target.add:
            self.check_length(self._target_columns())
        else:
            self.check_columns(
                source, self._target_columns(), otherwise="; or say 'add: true' in target"
            )
        for name in mapping.touch:
            if name in source.columns and source.columns[name].generated:
                self.problem(f"touch.{name}", "is a generated column and cannot be set")

    def _target_columns(self) -> dict[str, str]:
        named = zip(
            ("target.column", "target.transfers"), self.mapping.target.columns, strict=False
        )
        return dict(named)

    def _check_target(self, where: str, column: Column, location_key_type: str) -> None:
        if column.generated:
            self.problem(where, f"{column.name} is generated and cannot be written")
        if self.mapping.target.shape == "allocation_json":
            if column.type != "jsonb":
                self.problem(where, f"{column.name} is {column.type}; allocations need jsonb")
            return
        both = {base_type(column.type), base_type(location_key_type)}
        alike = both <= INTEGERS or both <= VARIABLE_TEXTS
        if column.type != location_key_type and not alike:
            self.problem(
                where, f"{column.name} is {column.type}, but locations.key is {location_key_type}"
            )

    def _check_standardised(self, source: Relation) -> None:
        """Note what cannot be read as text of a number or of a point in time, and unknown zones."""
        named = self.mapping.source
        found: dict[str, Standardised] = {
            where: part
            for where, part in {
                "source.quantity": named.quantity,
                "source.reserved": named.reserved,
                **{f"target.values.{n}": v for n, v in self.mapping.converted_values.items()},
            }.items()
            if isinstance(part, Standardised)
        }
        if not found:
            return
        raw = {where: Expression(sql=raw_sql(part)) for where, part in found.items()}
        for where, kind in self.expression_types(source, raw).items():
            conversion = found[where].conversion
            timed = isinstance(conversion, Timestamptz)
            readable = TEXTS if timed else TEXTS | INTEGERS | FLOATS | {"numeric"}
            if kind is not None and base_type(kind) not in readable:
                what = "timestamptz reads text" if timed else "a number is read from text"
                self.problem(where, f"is {kind}; {what}")
            if isinstance(conversion, Timestamptz) and conversion.zone is not None:
                self.probe(where, f"SELECT now() AT TIME ZONE {literal(conversion.zone)}")

    def _check_joins(self, source: Relation) -> None:
        joins = self.mapping.source.joins
        if joins:
            self.probe("source.joins", f"SELECT FROM {source.sql} AS s {joins} LIMIT 0")
            self.stop_if_any()
