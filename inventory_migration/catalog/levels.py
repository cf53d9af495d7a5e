"""Holding the tables beside the stock records against a mapping: levels, and links of locations.

Only what `target: {shape: stock_level}` and `locations.links` name is judged here.
"""

# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inventory_migration.catalog.conversions import column_sql
from inventory_migration.catalog.findings import Findings
from inventory_migration.catalog.resolved import ResolvedLink, literal
from inventory_migration.catalog.tables import (
    DELETE,
    FLOATS,
    INSERT,
    INTEGERS,
    UPDATE,
    Column,
    Relation,
    schema_exists,
)
from inventory_migration.database import quoted
from inventory_migration.mapping import (
    Canonical,
    Expression,
    RecordValue,
    Standardised,
    StockLevel,
    TableName,
)


def find_levels(findings: Findings, target: StockLevel, source: Relation) -> Relation | None:
    """The table of levels; None where it is missing, which is a problem unless it may be added."""
    events = INSERT | DELETE | (UPDATE if target.sync else 0)

    def find(name: TableName) -> Relation | None:
        return findings.relation(
            "target.table",
            name,
            required=not target.add,
            fired_by=events,
            written=target.numbers,
        )

    found = find(target.table)
    if found is None and target.add and target.table.schema_ is None:
        # It is added beside the source, where the search path need not find it afterwards.
        found = find(TableName(schema=source.schema, name=target.table.name))
    if found is None and target.add:
        findings.check_length({"target.table": target.table.name, **_names(target)})
        schema = target.table.schema_
        if schema is not None and not schema_exists(findings.connection, schema):
            findings.problem("target.table", f"there is no schema {schema} to add to")
        for name, value in target.values.items():
            if isinstance(value, Expression):
                findings.problem(
                    f"target.values.{name}",
                    f"nobody knows the type that {name} should have in a table that is yet to be "
                    "added; create the table first, or leave the column out",
                )
    if found is not None:
        _check_names(findings, target, found)
    return found


def find_links(findings: Findings) -> list[ResolvedLink]:
    """The declared links with their tables, as far as these are there; a lack is a problem."""
    found = []
    for number, link in enumerate(findings.mapping.locations.links):
        where = f"locations.links[{number}]"
        table = findings.relation(f"{where}.table", link.table, fired_by=INSERT | DELETE)
        each = findings.relation(f"{where}.for_each", link.for_each) if link.for_each else None
        if table is None:
            continue
        found.append(ResolvedLink(link, table, each))
        names = {f"{where}.values.{name}": name for name in link.values}
        if findings.check_columns(table, names):
            check_given(findings, f"{where}.values", table, set(link.values))
    return found


def check_levels(
    findings: Findings,
    source: Relation,
    levels: Relation,
    types: Mapping[str, str],
) -> None:
    """Ask the server whether keys, location and values fit the columns of the levels.

    Args:
        findings: Where problems are noted.
        source: The table of the stock records.
        levels: The table of levels.
        types: The type of each canonical value, by its name.
    """
    target = findings.mapping.target
    assert isinstance(target, StockLevel)  # noqa: S101 - only such a target has levels
    for name, given in target.record.items():
        _probe(findings, f"target.record.{name}", source, levels, name, column_sql(given))
    _probe(
        findings,
        "target.location",
        source,
        levels,
        target.location,
        f"NULL::{types['location']}",
    )
    findings.check_comparable(
        "target.location",
        levels.columns[target.location].type,
        "locations.key",
        types["location"],
    )
    for name, value in target.values.items():
        _probe(findings, f"target.values.{name}", source, levels, name, _typed(value, types))


def check_links(
    findings: Findings,
    links: Sequence[ResolvedLink],
    company: Relation,
    locations: Relation,
    types: Mapping[str, str],
) -> None:
    """Ask the server whether the values of the declared links fit."""
    for number, found in enumerate(links):
        each = f", {found.for_each.sql} AS f" if found.for_each else ""
        source = f"{locations.sql} AS l, {company.sql} AS c{each}"
        where = f"locations.links[{number}]"
        if found.link.where is not None:
            findings.probe(
                f"{where}.where",
                f"SELECT FROM {source} WHERE {found.link.where.sql} LIMIT 0",
            )
        for name, value in found.link.values.items():
            findings.probe(
                f"{where}.values.{name}",
                f"EXPLAIN INSERT INTO {found.table.sql} ({quoted(name)}) "
                f"SELECT {_typed(value, types)} FROM {source}",
            )


def _names(target: StockLevel) -> dict[str, str]:
    """Every column of a level that the mapping names, by its key."""
    return {
        **{f"target.record.{name}": name for name in target.record},
        "target.location": target.location,
        "target.on_hand": target.on_hand,
        **({"target.reserved": target.reserved} if target.reserved else {}),
        **{f"target.values.{name}": name for name in target.values},
    }


def _check_names(findings: Findings, target: StockLevel, levels: Relation) -> None:
    named = _names(target)
    if not findings.check_columns(levels, named):
        return
    for where, name in named.items():
        if levels.columns[name].generated:
            findings.problem(where, f"{name} is generated and cannot be written")
    numbers = {"target.on_hand": target.on_hand}
    if target.reserved:
        numbers["target.reserved"] = target.reserved
    for where, name in numbers.items():
        column = levels.columns[name]
        if column.base_type not in INTEGERS | FLOATS | {"numeric"}:
            findings.problem(where, f"{name} is {column.type}; a quantity is a number")
    check_given(findings, "target.values", levels, set(named.values()))
    _check_unique(findings, target, levels)


def check_given(
    findings: Findings, where: str, relation: Relation, given: set[str], *, to: str = ""
) -> None:
    """Note columns that need a value and would get none; `to` says what to add it to."""
    for column in relation.columns.values():
        if column.not_null and column.name not in given and not _filled(column):
            findings.problem(
                where,
                f"column {column.name} of {relation.name} needs a value and has no default; "
                f"add it{to}",
            )


def _filled(column: Column) -> bool:
    return column.has_default or column.generated


def _check_unique(findings: Findings, target: StockLevel, levels: Relation) -> None:
    key = {*target.record, target.location}
    listed = ", ".join([*target.record, target.location])
    whole = any(set(unique) == key for unique in levels.unique_keys)
    if target.sync and not whole:
        findings.problem(
            "target.sync",
            f"levels are kept in step by their key, and no unique index of {levels.name} has just "
            f"the columns {listed}; create one",
        )
        return
    either = (*levels.unique_keys, *levels.partly_unique_keys)
    if not any(set(unique) <= key for unique in either):
        findings.problem(
            "target.record",
            f"nothing keeps a record from having two levels at one location: create a unique "
            f"index on ({listed}) of {levels.name}",
        )


def _probe(
    findings: Findings, where: str, source: Relation, levels: Relation, name: str, given: str
) -> None:
    joins = findings.mapping.source.joins
    findings.probe(
        where,
        f"EXPLAIN INSERT INTO {levels.sql} ({quoted(name)}) "
        f"SELECT {given} FROM {source.sql} AS s {joins}",
    )


def _typed(value: RecordValue, types: Mapping[str, str]) -> str:
    if isinstance(value, Standardised):
        return column_sql(value)
    return f"NULL::{types[value.from_]}" if isinstance(value, Canonical) else literal(value)
