"""Tables whose rows belong to a stock record, and which will need to say a location too.

They are known by a foreign key, or by a column that is named like one. Whether one counts stock is
judged by names, which is why nothing is ever done to any of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import sqlalchemy as sa

from inventory_migration.audit.effects import CONCERNS, Concern
from inventory_migration.audit.readers import names_table
from inventory_migration.audit.touched import Touched
from inventory_migration.catalog import Column, ResolvedMapping
from inventory_migration.engine import flags
from inventory_migration.mapping import Expression, StockLevel, StockMapping
from inventory_migration.proposal import words
from inventory_migration.proposal.survey import Survey, Table, alike, is_number, survey

COUNTS = 5
"""How surely a number's name must say that it is an amount."""

_NO_AMOUNT = (
    "price", "cost", "tax", "discount", "rate", "value", "weight", "width", "height", "length",
    "volume", "per", "percent", "factor", "ratio", "min", "max", "minimum", "maximum", "limit",
    "threshold", "reorder", "required", "safety", "capacity", "average", "id", "sort", "position",
)  # fmt: skip
_MOVES = frozenset(
    (
        "adjustment", "allocation", "delivery", "fulfillment", "fulfilment", "inventory", "line",
        "movement", "picking", "receipt", "reservation", "return", "serial", "shipment", "stock",
        "transfer", "unit",
    )
)  # fmt: skip
"""Last words of a table whose rows are units or movements, though none of its columns counts."""

_GATHERS = frozenset(
    (
        "delivery",
        "fulfillment",
        "fulfilment",
        "picking",
        "receipt",
        "return",
        "shipment",
        "transfer",
    )
)
"""Last words of a table whose rows gather such rows, and happen at a place."""

Kind = Literal["record", "level", "item", "product", "rows"]


@dataclass(frozen=True)
class Child:
    """A table whose rows belong to a stock record, to its level or product, or gather such rows.

    Attributes:
        table: What it is called.
        columns: The columns that say to what; those of the gathered rows, for what gathers them.
        refers_to: The table that they name; for what gathers rows, the table of these.
        kind: What that table's rows are.
        known_by: A foreign key, or the column's name alone.
        quantities: The columns that count something.
        locations: The columns that say a location.
        covered: What the mapping has to do with it; empty where it has nothing.
        advice: What to do about it.
        concern: Whether somebody has to do something about it, should know of it, or neither.
        readable: Whether the role may read its rows.
        types: The type of each of its columns.
    """

    table: str
    columns: tuple[str, ...]
    refers_to: str
    kind: Kind
    known_by: str
    quantities: tuple[str, ...]
    locations: tuple[str, ...]
    covered: str
    advice: str
    concern: Concern
    readable: bool
    types: Mapping[str, str]

    @property
    def declared(self) -> bool:
        """Whether a foreign key says so."""
        return self.known_by == _FOREIGN_KEY

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        lists = ("columns", "quantities", "locations")
        return {**asdict(self), **{name: list(getattr(self, name)) for name in lists}}

    def row(self) -> dict[str, str]:
        """Return it as a row for reading."""
        how = "gathers rows of" if self.kind == "rows" else "belongs to"
        return {
            "concern": self.concern,
            "table": self.table,
            "belongs to": f"{how} {self.refers_to} by {', '.join(self.columns)}",
            "known by": self.known_by,
            "counts": ", ".join(self.quantities),
            "says a location": ", ".join(self.locations) or "no",
            "covered by the mapping": self.covered or "no",
            "what to do": self.advice,
        }


def find(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    tables: Mapping[int, Touched],
    others: Sequence[StockMapping] = (),
) -> tuple[list[Child], list[str]]:
    """The tables below the stock records, and what could not be looked at; what needs most first.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        tables: The tables that the mapping touches, which are left out.
        others: Other mappings of this database.
    """
    all_tables = survey(connection)
    found = _Search(resolved, all_tables, tables, others)
    children = [child for table in found.below() if (child := found.judged(table)) is not None]
    children += found.above(children)
    unread = [
        f"Schema {name}: {resolved.role} may not use it; no child tables were looked for there."
        for name in connection.execute(_CLOSED).scalars()
    ]
    if all_tables.left_out:
        unread.append(
            f"{all_tables.left_out} tables off the search path: there are too many to look for "
            "child tables there."
        )
    return sorted(children, key=lambda one: (CONCERNS.index(one.concern), one.table)), unread


_FOREIGN_KEY, _NAME = "a foreign key", "the column's name"


@dataclass(frozen=True)
class _Link:
    """A table whose columns name a row of another."""

    table: Table
    columns: tuple[str, ...]
    parent: str
    kind: Kind
    known_by: str


class _Search:
    """Looks for tables that belong to those of a mapping."""

    def __init__(
        self,
        resolved: ResolvedMapping,
        found: Survey,
        tables: Mapping[int, Touched],
        others: Sequence[StockMapping],
    ) -> None:
        self._resolved, self._survey, self._touched = resolved, found, tables
        self._others = others
        self._fragments = tuple(flags.fragments(resolved))
        target = resolved.mapping.target
        record = target.record if isinstance(target, StockLevel) else ()
        self._item_columns = {name for name in record if words.stem(name)}
        self._parents: dict[int, Kind] = {resolved.source.oid: "record"}
        if resolved.levels is not None:
            self._parents[resolved.levels.oid] = "level"
        for table in [found.tables[oid] for oid in self._parents if oid in found.tables]:
            for oid in {foreign.references for foreign in table.foreign_keys}:
                if oid not in tables and words.head(found.tables[oid].name, words.RECORDS):
                    self._parents.setdefault(oid, "product")

    def below(self) -> Iterator[_Link]:
        """Each table that belongs to a record, a level or a product, by what leads nearest."""
        nearest: tuple[Kind, ...] = ("record", "level", "item", "product")
        for table in self._survey.tables.values():
            if table.oid not in self._touched:
                links = [*self._declared(table), *self._named(table)]
                if links:
                    yield min(links, key=lambda link: nearest.index(link.kind))

    def judged(self, link: _Link) -> Child | None:
        """A child and what to do about it; None for what has nothing to do with an amount."""
        referring = {name for foreign in link.table.foreign_keys for name in foreign.columns}
        quantities = tuple(
            name
            for name, column in link.table.columns.items()
            if name not in {*link.columns, *referring} and _counts(name, column)
        )
        counts = bool(quantities) or _head(link.table.name) in _MOVES
        if link.kind in {"item", "product"} and not quantities:
            return None
        locations = tuple(self._locations(link.table))
        advice, concern = self._advice(link, locations, counts=counts)
        return self._child(link, quantities, locations, advice, concern)

    def above(self, children: Iterable[Child]) -> Iterator[Child]:
        """The tables that gather rows of children that count: a shipment of its units."""
        by_name = {_said(table): table for table in self._survey.tables.values()}
        known = {child.table for child in children}
        for child in list(children):
            table = by_name[child.table]
            if child.concern == "untouched" or child.kind in {"item", "product"}:
                continue
            for link in self._leading_up(table):
                if _said(link.table) in known or _head(link.table.name) not in _GATHERS:
                    continue
                known.add(_said(link.table))
                locations = tuple(self._locations(link.table))
                advice, concern = self._advice(link, locations, counts=True)
                yield self._child(link, (), locations, advice, concern)

    def _declared(self, table: Table) -> Iterator[_Link]:
        for foreign in table.foreign_keys:
            kind = self._parents.get(foreign.references)
            if kind is not None:
                parent = _said(self._survey.tables[foreign.references])
                yield _Link(table, foreign.columns, parent, kind, _FOREIGN_KEY)

    def _named(self, table: Table) -> Iterator[_Link]:
        """Columns without a foreign key that are named like the key of a record or a level."""
        for name, column in self._free(table):
            for meant in self._meant(name, table):
                kind = self._parents.get(meant.oid)
                if kind in {"record", "level"} and self._fits(column, meant):
                    yield _Link(table, (name,), _said(meant), kind, _NAME)
            levels = self._resolved.levels
            shared = levels is not None and name in self._item_columns
            if levels is not None and shared and alike(column, levels.columns[name]):
                parent = levels.full_name
                yield _Link(table, (name,), parent, "item", _NAME)

    def _leading_up(self, table: Table) -> Iterator[_Link]:
        for foreign in table.foreign_keys:
            above = self._survey.tables.get(foreign.references)
            if above is not None and above.oid not in self._touched:
                yield _Link(above, foreign.columns, _said(table), "rows", _FOREIGN_KEY)
        for name, column in self._free(table):
            for meant in self._meant(name, table):
                if meant.oid not in self._touched and self._fits(column, meant):
                    yield _Link(meant, (name,), _said(table), "rows", _NAME)

    def _free(self, table: Table) -> Iterator[tuple[str, Column]]:
        """The columns that no foreign key says anything of."""
        referring = {name for foreign in table.foreign_keys for name in foreign.columns}
        for name, column in table.columns.items():
            if name not in referring:
                yield name, column

    def _meant(self, column: str, table: Table) -> list[Table]:
        """The tables that a column means by its name: one of just that name, if there is one."""
        found = self._survey.meant(column, table.schema)
        exact = [one for one in found if words.words(one.name) == words.stem(column)]
        return [one for one in exact or found if one.oid != table.oid]

    def _fits(self, column: Column, parent: Table) -> bool:
        key = self._key_of(parent)
        return key is not None and alike(column, parent.columns[key])

    def _key_of(self, table: Table) -> str | None:
        if table.oid == self._resolved.source.oid:
            key = self._resolved.mapping.source.key
            return key[0] if len(key) == 1 else None
        return table.sole_key

    def _locations(self, table: Table) -> Iterator[str]:
        """The columns that name a location: by a foreign key, or as applications call it."""
        places = self._resolved.locations
        named = self._resolved.mapping.locations.table.name
        declared = {
            name
            for foreign in table.foreign_keys
            if places is not None and foreign.references == places.oid
            for name in foreign.columns
        }
        for name in table.columns:
            stem = "".join(words.stem(name))
            surely = words.weight(name, words.LOCATIONS) >= words.LOCATIONS["depot"]
            if name in declared or (stem and (surely or stem in words.endings(named))):
                yield name

    def _covered(self, table: Table) -> Iterator[str]:
        reserved = self._resolved.mapping.source.reserved
        if isinstance(reserved, Expression) and _named_in(reserved.sql, table):
            yield "read for what is reserved"
        elif any(_named_in(fragment, table) for fragment in self._fragments):
            yield "read by its expressions"
        for other in self._others:
            named = other.source.table
            if other.name != self._resolved.mapping.name and (
                named.name == table.name and named.schema_ in {None, table.schema}
            ):
                yield f"records of the mapping {other.name}"

    def _advice(
        self, link: _Link, locations: tuple[str, ...], *, counts: bool
    ) -> tuple[str, Concern]:
        if not counts:
            return "It counts nothing and moves nothing, as far as names tell: nothing.", (
                "untouched"
            )
        if locations:
            return (
                f"It says a location in {', '.join(locations)}, which the migration does not fill: "
                "see that the application does, and fill what is NULL.",
                "to know",
            )
        by = ", ".join(link.columns)
        if link.kind == "rows":
            return (
                "What it gathers leaves from a place or comes to one, and it does not say which: "
                f"add a column here, or in {link.parent}.",
                "to know",
            )
        if link.kind == "level":
            return (
                "The level that a row belongs to says the location. The migration makes no rows "
                "here: see whether the application expects any for levels that it finds.",
                "to know",
            )
        if link.kind in {"item", "product"}:
            return (
                f"Its rows name a row of {link.parent} and no record: from which location stock "
                "goes, they will not say. Add a column where that must be known.",
                "to know",
            )
        if self._resolved.mapping.target.shape == "location_column":
            return (
                f"A row is where its record is: join by {by}. Add a column of its own before "
                "records move between locations, or past rows would move along.",
                "to know",
            )
        return (
            "A record can be at several locations, and a row does not say at which: add a column "
            "here or to what gathers its rows, and fill it with its company's default one.",
            "to do",
        )

    def _child(
        self,
        link: _Link,
        quantities: tuple[str, ...],
        locations: tuple[str, ...],
        advice: str,
        concern: Concern,
    ) -> Child:
        return Child(
            table=_said(link.table),
            columns=link.columns,
            refers_to=link.parent,
            kind=link.kind,
            known_by=link.known_by,
            quantities=quantities,
            locations=locations,
            covered=", ".join(self._covered(link.table)),
            advice=advice,
            concern=concern,
            readable=link.table.readable,
            types={name: column.type for name, column in link.table.columns.items()},
        )


def _counts(name: str, column: Column) -> bool:
    amount = words.weight(name, words.QUANTITIES) >= COUNTS
    return (
        is_number(column) and amount and not words.stem(name) and not words.says(name, _NO_AMOUNT)
    )


def _head(name: str) -> str:
    return (words.words(name) or ("",))[-1]


def _named_in(code: str, table: Table) -> bool:
    return names_table(code, table.schema, table.name)


def _said(table: Table) -> str:
    return f"{table.schema}.{table.name}"


_CLOSED = sa.text("""
    SELECT n.nspname::text
    FROM pg_namespace n
    WHERE n.nspname !~ '^(pg_|information_schema$)' AND NOT has_schema_privilege(n.oid, 'USAGE')
      AND EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p'))
    ORDER BY 1
""")
