"""Who owns the records, as a mapping says it: a table, the values of a column, or nobody yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from inventory_migration.catalog import Column
from inventory_migration.database import quoted
from inventory_migration.proposal.document import PLACEHOLDER, Part
from inventory_migration.proposal.glance import Glance, Seen
from inventory_migration.proposal.owners import Route, own_columns
from inventory_migration.proposal.sources import Candidate
from inventory_migration.proposal.survey import Survey, Table, is_text
from inventory_migration.proposal.words import NAMES, weight, words

SHOWN = 5
"""How many other owners are named."""


@dataclass(frozen=True)
class Ownership:
    """Who owns the records of a table.

    Attributes:
        company: The part `company`.
        source: The parts of `source` that say how a record leads to it.
        said: The owners, for a person.
        key: The column of a company that is its key.
        table: The table of owners, where they have one.
        column: The column of the records that holds the owner's key, where it is one of theirs.
        notes: What a person should look at.
    """

    company: Part
    source: list[Part]
    said: str
    key: str = "key"
    table: Table | None = None
    column: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> Mapping[str, Column]:
        """What a company has, as far as it is known."""
        return self.table.columns if self.table else {}


def ownership(survey: Survey, glance: Glance, chosen: Candidate) -> Ownership:
    """Say who owns a candidate's records: the likeliest whose values are found in them."""
    for route in chosen.routes:
        if route.fit and not _leads_nowhere(glance, route):
            return _by_route(survey, glance, chosen, route)
    own = own_columns(chosen.table)
    if own:
        return _by_column(survey, glance, chosen.table, own)
    return _unknown(chosen)


def _by_route(survey: Survey, glance: Glance, chosen: Candidate, route: Route) -> Ownership:
    owner, key = route.owner, route.link.keys[0]
    comments = [f"By {route.said}."]
    others = [other.said for other in chosen.routes if other is not route]
    if others:
        comments.append(f"Also considered: {'; '.join(others[:SHOWN])}.")
    notes = []
    if not route.named:
        notes.append(
            f"company: nothing here is called as owners of stock are; {owner.said} was taken "
            f"since {chosen.table.said} leads to it; look whether it is who owns stock"
        )
        comments.append("Nothing here is called as owners of stock are: look whether it is.")
    named = Part("name", company_name(owner, key))
    return Ownership(
        company=Part("company", [Part("table", owner.spelled), Part("key", key), named], comments),
        source=_leading(survey, glance, route),
        said=owner.said,
        key=key,
        table=owner,
        column=route.link.columns[0] if route.through is None else None,
        notes=notes,
    )


def _by_column(survey: Survey, glance: Glance, table: Table, own: list[str]) -> Ownership:
    name = own[0]
    column = survey.column("s", name)
    query = (
        f"SELECT DISTINCT {column} AS key, {column} AS name FROM {survey.table(table)} AS s "
        f"WHERE {column} IS NOT NULL"
    )
    seen = glance.look(table, {"companies": f"count(DISTINCT s.{quoted(name)})"})
    count = f" ({seen.values['companies']:,} in {seen.of})" if seen is not None else ""
    comments = [f"No table of owners is referred to; {table.said}.{name} names them{count}."]
    if is_text(table.columns[name]):
        comments.append(
            "Spellings that differ are companies of their own; to make them one, put the same "
            "expression, such as lower(trim(...)), here and into source.company."
        )
    if own[1:]:
        comments.append(f"Also considered: {', '.join(own[1:])}.")
    return Ownership(
        company=Part("company", [Part("sql", query)], comments),
        source=[Part("company", name)],
        said=f"the values of {table.said}.{name}",
        column=name,
        notes=[
            f"company: no table of owners is referred to, so each value of {table.said}.{name} is "
            "taken for a company"
        ],
    )


def _unknown(chosen: Candidate) -> Ownership:
    table = chosen.table
    why = (
        f"nothing that {table.said} refers to looks like the owner of stock; name the table of "
        "companies, and say in source.company how a record leads to it"
    )
    parts = [Part(key, PLACEHOLDER) for key in ("table", "key", "name")]
    one = (
        "Where all stock is one owner's: company: {sql: \"SELECT 1 AS key, 'The shop' AS name\"}, "
        'and under source company: {sql: "1"}.'
    )
    comments = [one]
    if chosen.routes:
        listed = "; ".join(route.said for route in chosen.routes[:SHOWN])
        comments.append(f"Considered: {listed}.")
    how = "say how a record leads to its company, by a column or {sql: ...}"
    return Ownership(
        company=Part("company", parts, comments, [why]),
        source=[Part("company", PLACEHOLDER, undecided=[how])],
        said="a company",
    )


def _leads_nowhere(glance: Glance, route: Route) -> bool:
    """Whether no value that was seen is a key of the owner's: then its name is a coincidence."""
    if route.link.declared:
        return False
    seen = _owned(glance, route)
    return seen is not None and seen.values["given"] > 0 and seen.values["found"] == 0


def company_name(owner: Table, key: str) -> str:
    """The column that holds what a company is called: a name, or else its key."""
    texts = [name for name, column in owner.columns.items() if is_text(column)]
    named = [name for name in texts if weight(name, NAMES)]
    # `name` before `company_name` before `contact_name`.
    own = set(words(owner.name)) | {"company"}

    def order(name: str) -> tuple[int, int]:
        foreign = [word for word in words(name)[:-1] if word not in own]
        return (-weight(words(name)[-1], NAMES) + 3 * len(foreign), len(words(name)))

    return min(named, key=order) if named else key


def _leading(survey: Survey, glance: Glance, route: Route) -> list[Part]:
    """The parts of `source` that say how a record leads to its owner."""
    seen = _owned(glance, route)
    said = []
    if seen is not None and seen.rows:
        said = [f"{seen.values['found']:,} of {seen.of} have a company that is there."]
    column = route.link.columns[0]
    if route.through is None:
        return [Part("company", column, said)]
    step = route.through
    same = " AND ".join(
        f"{survey.column('p', theirs)} = {survey.column('s', mine)}"
        for mine, theirs in zip(step.columns, step.keys, strict=True)
    )
    certain = step.declared and all(route.source.columns[name].not_null for name in step.columns)
    joins = f"{'JOIN' if certain else 'LEFT JOIN'} {survey.table(step.table)} AS p ON {same}"
    return [Part("company", {"sql": survey.column("p", column)}, said), Part("joins", joins)]


def _owned(glance: Glance, route: Route) -> Seen | None:
    """How many records have an owner that is there."""
    owner, key = route.owner, route.link.keys[0]
    if not (owner.readable and route.holder.readable):
        return None
    if route.through is None:
        value = f"s.{quoted(route.link.columns[0])}"
    else:
        same = " AND ".join(
            f"p.{quoted(theirs)} = s.{quoted(mine)}"
            for mine, theirs in zip(route.through.columns, route.through.keys, strict=True)
        )
        value = (
            f"(SELECT p.{quoted(route.link.columns[0])} FROM {route.through.table.sql} AS p "
            f"WHERE {same})"
        )
    there = f"EXISTS (SELECT FROM {owner.sql} AS c WHERE c.{quoted(key)} = {value})"
    return glance.look(
        route.source,
        {"given": f"count({value})", "found": f"count(*) FILTER (WHERE {there})"},
    )
