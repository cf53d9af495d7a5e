"""A mapping whose names were found, and how its constants read as SQL."""

from __future__ import annotations

from dataclasses import dataclass

from inventory_migration.catalog.tables import Column, Relation
from inventory_migration.mapping import (
    Expression,
    Generated,
    Link,
    NewValue,
    StockLevel,
    StockMapping,
)

OWNERSHIP = -1
"""The number of the link that says whose a location is, beside those that a mapping lists."""


@dataclass(frozen=True)
class ResolvedLink:
    """A declared link of locations whose tables were found."""

    link: Link
    table: Relation
    for_each: Relation | None


@dataclass(frozen=True)
class TargetKey:
    """A column of a level that says whose it is, and its value as that column compares it."""

    column: str
    sql: str


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
    item_type: str
    quantity_type: str
    reserved_type: str | None
    target_exists: bool
    role: str
    is_superuser: bool
    levels: Relation | None = None
    levels_sql: str = ""
    links: tuple[ResolvedLink, ...] = ()
    owners: Relation | None = None
    target_key: tuple[TargetKey, ...] = ()
    place_links: Relation | None = None
    levels_alone: bool = False

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The key of a stock record, in the mapping's order."""
        return tuple(self.source.columns[name] for name in self.mapping.source.key)

    @property
    def target_types(self) -> dict[str, str]:
        """The type of each column that the shape writes."""
        target = self.mapping.target
        if target.shape == "location_column":
            return {target.column: self.location_key_type}
        return dict.fromkeys(target.columns, "jsonb")

    @property
    def target(self) -> str:
        """What a migration writes, by name: one active migration per target."""
        target = self.mapping.target
        if isinstance(target, StockLevel):
            schema = self.levels.schema if self.levels else target.table.schema_
            return f"{schema or self.source.schema}.{target.table.name}.{target.on_hand}"
        return f"{self.source.schema}.{self.source.name}.{target.column}"

    @property
    def link_tables(self) -> dict[int, Relation]:
        """The tables that get rows beside a new location, by the number that the ledger keeps."""
        found = {number: link.table for number, link in enumerate(self.links)}
        if self.place_links is not None and self.mapping.locations.create is not None:
            found[OWNERSHIP] = self.place_links
        return found

    @property
    def written(self) -> tuple[Relation, ...]:
        """The tables that a migration writes, as far as they are there."""
        found = (self.source, self.locations, self.levels, *self.link_tables.values())
        return tuple(relation for relation in found if relation is not None)


def literal(value: NewValue) -> str:
    """The SQL of a constant, of a key that nobody else has, or of an expression as it stands."""
    if isinstance(value, Expression):
        return f"({value.sql})"
    if isinstance(value, Generated):
        if value.prefix is None:
            return "gen_random_uuid()"
        return f"{literal(value.prefix)} || replace(gen_random_uuid()::text, '-', '')"
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        # Under E'' a backslash means the same whatever standard_conforming_strings says.
        return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
    return str(value)
