"""The tables that a mapping touches, and what a migration writes in each of them.

What hangs on them is read in `catalog/`, and what the migration does to that is judged in
`effects.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from inventory_migration.catalog import Derived, Relation, ResolvedMapping
from inventory_migration.engine import columns, links, new_locations
from inventory_migration.mapping import StockLevel

RECORDS, COMPANIES, LOCATIONS, LEVELS = "stock records", "companies", "locations", "levels"
LINKS, OWNERS, EACH = "links of locations", "whose records are", "what locations are linked to"


@dataclass(frozen=True)
class Touched:
    """A table that a mapping names.

    Attributes:
        relation: The table.
        roles: What it is to the mapping.
        updated: The columns that are set in rows that are there.
        added: Those of them that are yet to be added.
        inserted: The columns that new rows are given; None where none are made.
    """

    relation: Relation
    roles: tuple[str, ...]
    updated: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    inserted: tuple[str, ...] | None = None

    @property
    def written(self) -> tuple[str, ...]:
        """Every column that a migration gives a value."""
        return tuple(dict.fromkeys((*self.updated, *(self.inserted or ()))))

    @property
    def said(self) -> str:
        """What is done to it."""
        done = []
        if self.added:
            done.append(f"gets the column {', '.join(self.added)}")
        if self.updated:
            done.append(f"{', '.join(self.updated)} set in the rows that are there")
        if self.inserted is not None:
            done.append(f"gets new rows, with {', '.join(self.inserted)}")
        if not done and RECORDS in self.roles:
            return "rows are locked while their levels are made; nothing is written"
        return "; ".join(done) or "only read"


def touched(resolved: ResolvedMapping) -> dict[int, Touched]:
    """Every table that a mapping names and that is there, by oid, the stock records first."""
    found: dict[int, Touched] = {}
    for one in _named(resolved):
        known = found.get(one.relation.oid)
        found[one.relation.oid] = one if known is None else _both(known, one)
    return found


def made(resolved: ResolvedMapping) -> dict[str, str]:
    """The tables that a migration makes, by name, with what each is to the mapping."""
    target, schema = resolved.mapping.target, resolved.source.schema
    found = {}
    if resolved.locations is None:
        table = resolved.mapping.locations.table
        found[f"{table.schema_ or schema}.{table.name}"] = LOCATIONS
    if isinstance(target, StockLevel) and resolved.levels is None:
        found[f"{target.table.schema_ or schema}.{target.table.name}"] = LEVELS
    return found


def _named(resolved: ResolvedMapping) -> Iterable[Touched]:
    mapping, target = resolved.mapping, resolved.mapping.target
    written = tuple(columns.written_columns(resolved))
    added = tuple(name for name in target.columns if name not in resolved.source.columns)
    yield Touched(resolved.source, (RECORDS,), written, added)
    if not isinstance(resolved.company, Derived):
        yield Touched(resolved.company, (COMPANIES,))
    if resolved.locations is not None:
        creates = mapping.locations.create is not None
        given = tuple(new_locations.inserted_columns(resolved)) if creates else None
        yield Touched(resolved.locations, (LOCATIONS,), inserted=given)
    if isinstance(target, StockLevel) and resolved.levels is not None:
        given = (*target.record, target.location, *target.numbers, *target.values)
        kept = (*target.numbers, *target.following) if target.sync else ()
        yield Touched(resolved.levels, (LEVELS,), kept, inserted=given)
    for number, table in resolved.link_tables.items():
        yield Touched(table, (LINKS,), inserted=tuple(links.inserted_columns(resolved, number)))
    if resolved.place_links is not None:
        yield Touched(resolved.place_links, (LINKS,))
    if resolved.owners is not None:
        yield Touched(resolved.owners, (OWNERS,))
    for link in resolved.links:
        if link.for_each is not None:
            yield Touched(link.for_each, (EACH,))


def _both(known: Touched, more: Touched) -> Touched:
    """One table in two roles."""
    inserted = known.inserted
    if more.inserted is not None:
        inserted = tuple(dict.fromkeys((*(known.inserted or ()), *more.inserted)))
    return replace(
        known,
        roles=tuple(dict.fromkeys((*known.roles, *more.roles))),
        updated=tuple(dict.fromkeys((*known.updated, *more.updated))),
        added=tuple(dict.fromkeys((*known.added, *more.added))),
        inserted=inserted,
    )
