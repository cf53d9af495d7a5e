"""What one scan tells of a migration's records: totals of each company, differences, what moved.

Snapshot and live table are compared record by record, as the proof does, and added up by company.
What is not as it was is few, or nothing: it is looked at again by itself, and only where there is
any. How records are compared is said in `proof.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import balances, canonical, coverage, matched, proof
from inventory_migration.engine.compared import compared_records
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.proof import Difference
from inventory_migration.engine.summary import exact
from inventory_migration.mapping import StockLevel

_MEASURES = ("units", "reserved", "available")


@dataclass(frozen=True)
class Tally:
    """What one scan has counted.

    Attributes:
        total: `before` and `after` (records, units, reserved, available; numbers of units as exact
            decimal strings) and `changed_by_application`, how much of what is available now the
            application has changed.
        companies: The same of each company, by its key as text.
        compared: How many records of the snapshot were compared.
        unequal: How many of them are not in the same balance with the same number as before.
        differing: How many of them differ in any kind.
    """

    total: dict[str, Any]
    companies: Mapping[str | None, dict[str, Any]]
    compared: int
    unequal: int
    differing: int


def tally(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> Tally:
    """Compare and add up; the snapshot exists."""
    found = _first_look(connection, resolved, migration)
    if found.odd:
        found = _added_up(connection, _query(connection, resolved, migration, odd=True))
    return found.tally


def regular(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> Tally | None:
    """The same where every record is as it was, in one look; None where any is not."""
    found = _first_look(connection, resolved, migration)
    return None if found.odd else found.tally


@dataclass(frozen=True)
class _Look:
    """A tally, and how many records are not as they were, as far as it takes them for that."""

    tally: Tally
    odd: int


def _first_look(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> _Look:
    """All records taken for as they were, and how many are not."""
    if matched.is_possible(connection, resolved, migration):
        noted = matched.by_company(resolved, migration)
        return _added_up(connection, f"WITH {_regular(resolved, noted)}) {_TOTALLED}")
    return _added_up(connection, _query(connection, resolved, migration, odd=False))


def _added_up(connection: sa.Connection, query: str) -> _Look:
    total: dict[str, Any] = {}
    found: dict[str | None, dict[str, Any]] = {}
    compared = unequal = differing = odd = 0
    for row in connection.execute(sa.text(escaped(query))):
        entry: dict[str, Any] = {
            moment: {
                "records": int(getattr(row, f"records_{moment}") or 0),
                **{name: exact(getattr(row, f"{name}_{moment}")) for name in _MEASURES},
            }
            for moment in ("before", "after")
        }
        entry["changed_by_application"] = exact(row.changed)
        if row.is_total:
            total = entry
            compared, odd = int(row.records_before or 0), int(row.odd or 0)
            unequal, differing = int(row.unequal or 0), int(row.differing or 0)
        else:
            found[row.company_key] = entry
    return _Look(Tally(total, found, compared, unequal, differing), odd)


def differences(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    counted: Tally,
) -> list[Difference]:
    """The differences by kind, as `proof.prove` tells them; looked for only where there are any.

    Args:
        connection: A connection that sees the moment of the tally.
        resolved: The mapping and its types.
        migration: Whose records.
        counted: What the scan has counted.
    """
    # Levels of records that are gone are no records that could be compared.
    if not counted.differing and not isinstance(resolved.mapping.target, StockLevel):
        covered = coverage.dealt_with_beside(connection, resolved, migration)
        if not coverage.count_never_seen(connection, resolved, covered):
            return []
    return proof.prove(connection, resolved, migration).differences


def unbalanced(resolved: ResolvedMapping, migration: Migration, counted: Tally) -> str:
    """The relation `unbalanced`: available per company and item, of the records that moved in it.

    A record that is in the same balance with the same number on both sides leaves it as it is, so
    what it would add to both is left out.
    """
    if not counted.unequal:
        return balances.no_balance()
    compared = compared_records(resolved, migration)
    moved = f"SELECT * FROM ({compared}) AS c WHERE {_unequal(resolved)}"
    return balances.balance_of(resolved, moved)


def _available(resolved: ResolvedMapping) -> tuple[str, str]:
    return (
        canonical.available(resolved, "quantity_before", "reserved_before"),
        canonical.available(resolved, "quantity_after", "reserved_after"),
    )


def _unequal(resolved: ResolvedMapping) -> str:
    """When a record is in another balance than before, or in the same with another number."""
    before, after = _available(resolved)
    return (
        "(changed OR NOT live OR company_before IS DISTINCT FROM company_key "
        "OR item_before IS DISTINCT FROM item_key "
        f"OR COALESCE({before}, 0) IS DISTINCT FROM COALESCE({after}, 0))"
    )


def _as_it_was(kind: str) -> str:
    """When a record differs in nothing that is compared, added up or balanced."""
    return f"""(
        NOT changed AND live AND company_before IS NOT DISTINCT FROM company_key
        AND item_before IS NOT DISTINCT FROM item_key
        AND quantity_before IS NOT DISTINCT FROM quantity_after
        AND reserved_before IS NOT DISTINCT FROM reserved_after
        AND {kind} IS NULL) IS TRUE"""


def _query(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration, *, odd: bool
) -> str:
    """Each company and all together.

    All records are taken for as they were, so that one sum is that of before and of now, by one
    company that several processes can add up by; and it is counted for how many that is not so.
    What these were is then taken away again, and what they are added.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        migration: Whose records.
        odd: Whether to look at those that are not as they were.
    """
    # What has to be looked through counts as odd at first, and so is looked at.
    compared = compared_records(resolved, migration, looked_through=odd)
    kind = proof.kind(connection, resolved, migration)
    regular = _as_it_was(kind)
    noted = f"""
            SELECT company_before::text AS company_key, count(*) AS records,
                   count(*) FILTER (WHERE NOT {regular}) AS odd,
                   COALESCE(sum(quantity_before), 0) AS units,
                   COALESCE(sum(reserved_before), 0) AS reserved,
                   COALESCE(sum(quantity_before) FILTER (WHERE reserved_before IS NULL), 0)
                       AS units_alone,
                   COALESCE(sum(reserved_before) FILTER (WHERE quantity_before IS NULL), 0)
                       AS reserved_alone
            FROM ({compared}) AS c
            GROUP BY company_before"""
    return f"""
        WITH {_apart(resolved, compared, kind, regular) if odd else ""}
        {_regular(resolved, noted)}{_OF_APART if odd else ""})
        {_TOTALLED}"""


def _regular(resolved: ResolvedMapping, noted: str) -> str:
    """What each company has by `noted`, taken for what it had; an open CTE, to which more goes."""
    # Not the sum of differences, of which each is dear: without what one of the two is missing of.
    available = (
        "units"
        if resolved.mapping.quantity_basis == "net"
        else "units - units_alone - (reserved - reserved_alone)"
    )
    return f"""
        noted AS MATERIALIZED ({noted}),
        entries AS (
            SELECT company_key, records AS records_before,
                   records AS records_after, units AS units_before, units AS units_after,
                   reserved AS reserved_before, reserved AS reserved_after,
                   {available} AS available_before, {available} AS available_after,
                   0::numeric AS changed, 0::bigint AS unequal, 0::bigint AS differing, odd
            FROM noted"""


def _apart(resolved: ResolvedMapping, compared: str, kind: str, regular: str) -> str:
    """The records that are not as they were, by the companies that each has gone between."""
    before, after = _available(resolved)

    def summed(sql: str, only: str) -> str:
        return f"COALESCE(sum({sql}) FILTER (WHERE {only}), 0)"

    return f"""
        apart AS MATERIALIZED (
            SELECT company_before::text AS company_before, company_key::text AS company_now,
                   count(*) AS records_before, count(*) FILTER (WHERE live) AS records_after,
                   {summed("quantity_before", "true")} AS units_before,
                   {summed("quantity_after", "live")} AS units_after,
                   {summed("reserved_before", "true")} AS reserved_before,
                   {summed("reserved_after", "live")} AS reserved_after,
                   {summed(before, "true")} AS available_before,
                   {summed(after, "live")} AS available_after,
                   {summed(before, "changed")} AS changed_before,
                   {summed(after, "changed AND live")} AS changed_after,
                   count(*) FILTER (WHERE {_unequal(resolved)}) AS unequal,
                   count(*) FILTER (WHERE {kind} IS NOT NULL) AS differing
            FROM ({compared}) AS c
            WHERE NOT {regular}
            GROUP BY 1, 2),"""


_OF_APART = """
            UNION ALL
            SELECT company_before, 0, -records_before, 0, -units_before, 0, -reserved_before,
                   0, -available_before, -changed_before, unequal, differing, 0
            FROM apart
            UNION ALL
            SELECT company_now, 0, records_after, 0, units_after, 0, reserved_after,
                   0, available_after, changed_after, 0, 0, 0
            FROM apart WHERE records_after > 0"""

_SUMS = ", ".join(
    f"sum({name}_{moment}) AS {name}_{moment}"
    for name in ("records", *_MEASURES)
    for moment in ("before", "after")
)

_TOTALLED = f"""
        SELECT company_key, GROUPING(company_key) = 1 AS is_total, {_SUMS},
               sum(changed) AS changed, sum(unequal) AS unequal, sum(differing) AS differing,
               sum(odd) AS odd
        FROM entries
        GROUP BY GROUPING SETS ((company_key), ())"""
