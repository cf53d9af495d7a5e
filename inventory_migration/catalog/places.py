"""Holding the locations against a mapping: their table, whose they are, what a new one is given.

Only what `locations` names is judged here; its links are in `levels.py`.
"""

# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterable

from inventory_migration.catalog.findings import Findings
from inventory_migration.catalog.levels import check_given
from inventory_migration.catalog.resolved import literal
from inventory_migration.catalog.tables import DELETE, INSERT, Relation, has_index, schema_exists
from inventory_migration.database import quoted
from inventory_migration.mapping import Expression, LinkedPlaces, TableName


def find_locations(findings: Findings, source: Relation | None) -> Relation | None:
    """The table of locations; None where it is missing, which is a problem unless it may be added.

    Args:
        findings: Where problems are noted.
        source: The table of the stock records, as far as it was found.
    """
    named = findings.mapping.locations
    events = INSERT | DELETE if named.create is not None else 0
    if not named.add:
        return findings.relation("locations.table", named.table, fired_by=events)
    findings.check_length({"locations.table": named.table.name, **_names(findings)})
    found = findings.relation("locations.table", named.table, fired_by=events, required=False)
    if found is not None or source is None or findings.problems:
        return found
    if named.table.schema_ is None:
        # It is added beside the source, where the search path need not find it afterwards.
        beside = TableName(schema=source.schema, name=named.table.name)
        return findings.relation("locations.table", beside, fired_by=events, required=False)
    if not schema_exists(findings.connection, named.table.schema_):
        findings.problem("locations.table", f"there is no schema {named.table.schema_} to add to")
    return None


def check_names(findings: Findings, locations: Relation) -> None:
    """Note columns that are not there, a key that is none, and what a new location would lack."""
    named = findings.mapping.locations
    findings.check_columns(locations, _names(findings))
    if named.key in locations.columns:
        findings.check_key("locations.key", locations, (named.key,))
    if named.create is None:
        return
    own = [named.company] if isinstance(named.company, str) else []
    given = {*own, *named.default, *named.create}
    if named.key in locations.columns and locations.columns[named.key].type == "uuid":
        given.add(named.key)
    check_given(findings, "locations.create", locations, given, to=" to create")


def find_link(
    findings: Findings, locations: Relation | None, company: Relation | None
) -> Relation | None:
    """The table that links locations to companies, with an index that finds those of a location."""
    named = findings.mapping.locations
    if not isinstance(named.company, LinkedPlaces):
        return None
    link, where = named.company.through, "locations.company.through"
    events = INSERT | DELETE if named.create is not None else 0
    found = findings.relation(f"{where}.table", link.table, fired_by=events)
    if found is None:
        return None
    columns = {
        f"{where}.location": link.location,
        f"{where}.company": link.company,
        **{f"{where}.values.{name}": name for name in link.values},
    }
    if not findings.check_columns(found, columns):
        return found
    for part, column, other, key, relation in (
        ("location", link.location, "locations.key", named.key, locations),
        ("company", link.company, "company.key", findings.mapping.company.key, company),
    ):
        if relation is not None and key in relation.columns:
            kind = relation.columns[key].type
            findings.check_comparable(f"{where}.{part}", found.columns[column].type, other, kind)
    if not has_index(findings.connection, found, [link.location]):
        findings.problem(
            f"{where}.location",
            f"each record would read all of {found.name}: create an index on ({link.location})",
        )
    if named.create is not None:
        check_given(findings, f"{where}.values", found, set(link.columns))
    return found


def check_owner(findings: Findings, locations: Relation, company_key_type: str) -> None:
    """Note where what a location tells of its company cannot be a company's key."""
    company = findings.mapping.locations.company
    if isinstance(company, LinkedPlaces):
        return
    if isinstance(company, Expression):
        given = findings.columns_of(
            "locations.company", f"SELECT ({company.sql}\n) AS owner FROM {locations.sql} AS l"
        )
        kind: str | None = given["owner"].type if given else None
    else:
        kind = locations.columns[company].type
    findings.check_comparable("locations.company", kind, "company.key", company_key_type)


def check_values(findings: Findings, locations: Relation, company: Relation) -> None:
    """Ask the server whether constants and expressions fit the columns of the locations."""
    named = findings.mapping.locations
    conditions = {
        f"locations.default.{name}": f"l.{quoted(name)} IS NOT DISTINCT FROM {literal(value)}"
        for name, value in named.default.items()
    }
    select = f"SELECT FROM {locations.sql} AS l WHERE "
    findings.probe_together(
        f"{select}{' AND '.join(conditions.values())} LIMIT 0",
        {where: f"{select}{wanted} LIMIT 0" for where, wanted in conditions.items()},
    )
    given = {quoted(name): literal(value) for name, value in (named.create or {}).items()}

    def insert(names: Iterable[str], values: Iterable[str]) -> str:
        return (
            f"EXPLAIN INSERT INTO {locations.sql} ({', '.join(names)}) "
            f"SELECT {', '.join(values)} FROM {company.sql} AS c"
        )

    findings.probe_together(
        insert(given.keys(), given.values()),
        {
            f"locations.create.{name}": insert([quoted(name)], [literal(value)])
            for name, value in (named.create or {}).items()
        },
    )


def check_link(findings: Findings, link: Relation, company: Relation) -> None:
    """Ask the server which links count, and whether what a new one is given fits."""
    named = findings.mapping.locations.company
    assert isinstance(named, LinkedPlaces)  # noqa: S101 - only such locations have links
    where, through = "locations.company.through", named.through
    if through.where is not None:
        findings.probe(
            f"{where}.where",
            f"SELECT FROM {link.sql} AS o WHERE ({through.where.sql}\n) LIMIT 0",
        )
    for name, value in through.values.items():
        findings.probe(
            f"{where}.values.{name}",
            f"EXPLAIN INSERT INTO {link.sql} ({quoted(name)}) "
            f"SELECT {literal(value)} FROM {company.sql} AS c",
        )


def _names(findings: Findings) -> dict[str, str]:
    """Every column of a location that the mapping names, by its key."""
    named = findings.mapping.locations
    return {
        "locations.key": named.key,
        **({"locations.company": named.company} if isinstance(named.company, str) else {}),
        **{f"locations.default.{name}": name for name in named.default},
        **{f"locations.create.{name}": name for name in named.create or {}},
    }
