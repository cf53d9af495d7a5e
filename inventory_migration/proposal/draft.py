"""A mapping proposed from the live catalog, each of its choices with what it rests on.

Here the parts come together: the source, its owner, its locations and its target, held against the
database as `test` would. How each part is found is in the modules beside this one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import resolve
from inventory_migration.database import describe
from inventory_migration.errors import (
    MappingInvalid,
    NoStockFound,
    PrivilegeMissing,
    TableUnknown,
    nearest,
)
from inventory_migration.mapping import parse_mapping
from inventory_migration.proposal import (
    companies,
    document,
    places,
    records,
    sources,
    targets,
)
from inventory_migration.proposal.companies import Ownership
from inventory_migration.proposal.document import Part
from inventory_migration.proposal.glance import Glance
from inventory_migration.proposal.sources import Candidate
from inventory_migration.proposal.survey import Survey, Table, survey

SHOWN = 5
"""How many other candidates are named."""


@dataclass
class Proposal:
    """A proposed mapping.

    Attributes:
        name: What the mapping is called.
        table: The table of the stock records, as a person says it.
        yaml: The document.
        undecided: What a person has to decide, by the key of the mapping.
        notes: What a person should look at.
        candidates: The tables that were considered, the likeliest first.
    """

    name: str
    table: str
    yaml: str = ""
    undecided: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    candidates: list[dict[str, Any]] = field(default_factory=list)


def propose(connection: sa.Connection, table: str | None = None) -> Proposal:
    """Propose a mapping for the database; writes nothing and reads a bounded part of it.

    Args:
        connection: A transaction that need not be able to write.
        table: The table of the stock records, where the likeliest is not the one.

    Raises:
        NoStockFound: No table looks like stock, and none was named.
        TableUnknown: There is no such table, or there are several.
    """
    found = survey(connection)
    ranked = sources.candidates(found)
    chosen = _chosen(found, ranked, table, describe(connection.engine))
    return _Draft(connection, found, ranked, chosen).proposal()


def _chosen(found: Survey, ranked: list[Candidate], name: str | None, where: str) -> Candidate:
    if name is None:
        if not ranked or ranked[0].score < sources.LIKELY:
            raise NoStockFound(where=where, tables=[c.table.said for c in ranked[:SHOWN]])
        return ranked[0]
    meant = found.named(name)
    if len(meant) != 1:
        known = [table.said for table in found.tables.values()]
        raise TableUnknown(
            table=name, several=[f"{t.schema}.{t.name}" for t in meant], hint=nearest(name, known)
        )
    judged = [candidate for candidate in ranked if candidate.table is meant[0]]
    return judged[0] if judged else sources.by_references(found, sources.by_name(meant[0]))


class _Draft:
    """One proposal in the making."""

    def __init__(
        self, connection: sa.Connection, found: Survey, ranked: list[Candidate], chosen: Candidate
    ) -> None:
        self._connection = connection
        self._survey = found
        self._ranked = ranked
        self._chosen = chosen
        self._glance = Glance(connection)
        self._proposal = Proposal(name=name_of(chosen.table), table=chosen.table.said)

    def proposal(self) -> Proposal:
        """Put the parts together, hold them against the database, and write them down."""
        table, told = self._chosen.table, self._proposal
        owned = companies.ownership(self._survey, self._glance, self._chosen)
        columns = records.choose(self._survey, self._glance, self._chosen, owned)
        locations, target = self._locations_and_target(table, owned, columns.read)
        carried = target.find("values")
        note = records.say_flags(
            columns, table, set(carried.value if carried is not target else ())
        )
        told.notes += [*owned.notes, *([note] if note else [])]
        parts = [
            Part("name", told.name),
            owned.company,
            locations,
            columns.part,
            target,
            Part("quantity_basis", columns.basis, [columns.why_basis]),
            Part("phases", [{"name": "pilot", "companies": 1}, {"name": "rest"}]),
        ]
        whole = Part("", parts)
        if not any(_undecided(whole, "")):
            self._hold_against_the_database(whole)
        told.undecided = [{"key": key, "why": why} for key, why in _undecided(whole, "")]
        others = [other for other in self._ranked if other.table is not table]
        told.candidates = [
            {"table": one.table.said, "score": one.score, "because": list(one.because)}
            for one in [self._chosen, *others[: SHOWN - 1]]
        ]
        told.yaml = document.written(parts, self._heading(others[: SHOWN - 1]))
        return told

    def _heading(self, others: list[Candidate]) -> list[str]:
        lines = [
            "Proposed by 'inventory-migration init' from the catalog and some rows. Comments "
            "say what each choice rests on. Look it through, mend it, and see what it would do: "
            "'inventory-migration test --mapping FILE'.",
            f"Stock records: {self._chosen.said}.",
        ]
        if others:
            listed = "; ".join(other.said for other in others)
            lines.append(f"Also considered, for 'init --table NAME': {listed}.")
        if self._survey.left_out:
            lines.append(
                f"Of this database, {self._survey.left_out:,} tables off the search path were not "
                "looked at."
            )
        return lines

    def _locations_and_target(
        self, table: Table, owned: Ownership, read: set[str]
    ) -> tuple[Part, Part]:
        """The parts `locations` and `target`."""
        found = places.places(self._survey, table, owned)
        if found:
            part = places.existing(found[0], owned, self._glance)
            if len(found) > 1:
                listed = ", ".join(other.table.said for other in found[1:])
                part.comments.append(f"Also considered: {listed}.")
            located = found[0].table.name
        else:
            part = places.added(self._survey, table, owned, self._taken(table))
            spelled = part.value[0].value
            located = spelled["name"] if isinstance(spelled, dict) else spelled
        place = found[0] if found else None
        return part, targets.target(self._survey, self._glance, table, place, located, read=read)

    def _taken(self, table: Table) -> set[str]:
        """The names that a new table beside this one, or found without its schema, cannot have."""
        return set(
            self._connection.execute(
                _TAKEN, {"schema": table.schema, "names": list(places.NEW)}
            ).scalars()
        )

    def _hold_against_the_database(self, whole: Part) -> None:
        """Resolve what is written as `test` will, and note at its key what does not fit."""
        name = self._proposal.name
        try:
            resolve(self._connection, parse_mapping(document.written(whole.value, []), name))
        except MappingInvalid as error:
            for problem in error.problems:
                where, _, why = problem.removeprefix(f"{name}: ").partition(": ")
                whole.find(where).undecided.append(why)
        except PrivilegeMissing as error:
            whole.find("source").undecided.append(f"this role cannot say whether it fits: {error}")


def name_of(table: Table) -> str:
    """A name for the mapping, from the table's."""
    plain = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", table.name).lower()
    plain = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    plain = re.sub(r"^[^a-z]+", "", plain)
    return plain[:40].rstrip("_") or "stock"


def _undecided(part: Part, path: str) -> Any:
    here = ".".join(filter(None, (path, part.key)))
    for why in part.undecided:
        yield here, why
    for inner in document.inner(part):
        yield from _undecided(inner, here)


_TAKEN = sa.text("""
    SELECT DISTINCT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = ANY(CAST(:names AS text[]))
      AND (n.nspname = :schema OR pg_table_is_visible(c.oid))
""")
