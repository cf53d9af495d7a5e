"""Looks at migrated stock, kept in the ledger: totals, by company too, and what came of each look.

A look is compared with an earlier one: the last at which nothing was wrong, or whose numbers
somebody has accepted, or that a verification took. What is expected of stock is in `steady.py` and
its suite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping, literal
from inventory_migration.database import escaped
from inventory_migration.engine import ledger, steady
from inventory_migration.engine.ledger import SCHEMA, observation, observation_company
from inventory_migration.mapping import Monitor

MEASURES = ("records", "units", "reserved")

_SHOWN = 10


@dataclass(frozen=True)
class Totals:
    """What the stock of a mapping adds up to.

    Attributes:
        by_company: Records, units and reserved of each company, by its key as text.
        put_aside: Records that are skipped or in quarantine.
        locations: How many locations there are.
        companies: How many companies there are.
        rows: How many rows the table of the records has.
    """

    by_company: Mapping[str | None, tuple[int, Decimal, Decimal]]
    put_aside: int
    locations: int
    companies: int
    rows: int

    @property
    def sums(self) -> tuple[int, Decimal, Decimal]:
        """Records, units and reserved of all."""
        found = self.by_company.values()
        return (
            sum(one[0] for one in found),
            sum((one[1] for one in found), Decimal(0)),
            sum((one[2] for one in found), Decimal(0)),
        )


@dataclass(frozen=True)
class Earlier:
    """An earlier look to compare with."""

    observation_id: int
    kind: str
    at: datetime
    records: int
    units: Decimal
    reserved: Decimal


def read_totals(connection: sa.Connection, resolved: ResolvedMapping) -> Totals:
    """What the stock adds up to now, in one look at all records."""
    rows = connection.execute(
        sa.text(f"SELECT t.* FROM ({escaped(steady.totals(connection, resolved))}) AS t")
    ).all()
    locations = (
        f"FROM {resolved.locations_sql}" if resolved.locations is not None else "WHERE false"
    )
    counted = connection.execute(
        sa.text(
            escaped(
                f"SELECT (SELECT count(*) {locations}) AS locations, "
                f"(SELECT count(*) FROM {resolved.company.sql} AS c) AS companies, "
                f"(SELECT count(*) FROM {resolved.source.sql}) AS rows"
            )
        )
    ).one()
    return Totals(
        by_company={row.company_key: (row.records, row.units, row.reserved) for row in rows},
        put_aside=sum(row.put_aside for row in rows),
        locations=counted.locations,
        companies=counted.companies,
        rows=counted.rows,
    )


def keep(
    connection: sa.Connection,
    mapping: str,
    totals: Totals,
    *,
    kind: Literal["verified", "monitored"],
    run_id: str | None = None,
) -> int:
    """Keep what a look adds up to; what comes of it follows with `conclude`."""
    records, units, reserved = totals.sums
    standing = ledger.current(connection, mapping)
    number = connection.execute(
        sa.insert(observation)
        .values(
            mapping=mapping,
            kind=kind,
            migration_id=standing.migration_id if standing else None,
            run_id=run_id,
            records=records,
            units=units,
            reserved=reserved,
            companies=totals.companies,
            locations=totals.locations,
            passed=True if kind == "verified" else None,
        )
        .returning(observation.c.observation_id)
    ).scalar_one()
    listed = [
        {
            "observation_id": number,
            "number": place,
            "company_key": company,
            "records": found[0],
            "units": found[1],
            "reserved": found[2],
        }
        for place, (company, found) in enumerate(totals.by_company.items())
    ]
    if listed:
        connection.execute(sa.insert(observation_company), listed)
    return int(number)


def conclude(
    connection: sa.Connection,
    mapping: str,
    observation_id: int,
    monitor: Monitor,
    *,
    passed: bool | None,
    findings: int,
    found: Mapping[str, Any],
    accepted: str | None = None,
) -> None:
    """Keep what came of a look, and let go of what is older than the mapping wants to keep."""
    # One after the other: two that let go of the same looks would wait for each other.
    connection.execute(sa.text(f"LOCK TABLE {SCHEMA}.observation IN SHARE ROW EXCLUSIVE MODE"))
    connection.execute(
        sa.update(observation)
        .where(observation.c.observation_id == observation_id)
        .values(passed=passed, findings=findings, found=dict(found), accepted=accepted)
    )
    if accepted is not None:
        ledger.note(
            connection, "numbers_accepted", observation_id=observation_id, mapping=mapping,
            reason=accepted,
        )  # fmt: skip
    connection.execute(_LET_GO, {"mapping": mapping, "keep": monitor.keep})
    connection.execute(_LET_GO_OF_COMPANIES, {"mapping": mapping})


def earlier(
    connection: sa.Connection, mapping: str, since: str, *, before: int | None = None
) -> Earlier | None:
    """The look that a new one is compared with.

    Args:
        connection: A connection to the ledger.
        mapping: The mapping's name.
        since: As the mapping says it, `last` or `verified`.
        before: The look that is compared.
    """
    counts = sa.or_(observation.c.kind == "verified", observation.c.accepted.is_not(None))
    if since == "last":
        counts = sa.or_(counts, observation.c.passed)
    query = sa.select(
        *(observation.c[name] for name in ("observation_id", "kind", "at", *MEASURES))
    ).where(observation.c.mapping == mapping, counts)
    if before is not None:
        query = query.where(observation.c.observation_id < before)
    row = connection.execute(
        query.order_by(observation.c.observation_id.desc()).limit(1)
    ).one_or_none()
    return Earlier(*row) if row else None


def drift(monitor: Monitor, observation_id: int | None, compared: Earlier | None) -> str:
    """What has drifted further than it may: key_text, earlier, now, percent, allowed_percent."""
    bounds = monitor.bounds
    if observation_id is None or compared is None or not bounds:
        return (
            "SELECT NULL::text AS key_text, 0::numeric AS earlier, 0::numeric AS now, "
            "0::numeric AS percent, 0::numeric AS allowed_percent WHERE false"
        )
    scopes = [
        f"""SELECT '' AS scope, {_both()}
            FROM {SCHEMA}.observation AS a, {SCHEMA}.observation AS b
            WHERE a.observation_id = {compared.observation_id}
              AND b.observation_id = {observation_id}"""
    ]
    if monitor.per == "company":
        scopes.append(f"""
            SELECT concat(' of company ', COALESCE(a.company_key, b.company_key)), {_both()}
            FROM (SELECT * FROM {SCHEMA}.observation_company
                  WHERE observation_id = {compared.observation_id}) AS a
            FULL JOIN (SELECT * FROM {SCHEMA}.observation_company
                       WHERE observation_id = {observation_id}) AS b
              ON {_SAME_COMPANY}""")
    measured = "\nUNION ALL\n".join(
        f"SELECT {literal(measure)} || scope AS key_text, a_{measure} AS earlier, "
        f"b_{measure} AS now, {percent}::numeric AS allowed_percent FROM scopes"
        for measure, percent in bounds.items()
    )
    return f"""
        SELECT * FROM (
            WITH scopes AS ({" UNION ALL ".join(scopes)})
            SELECT key_text, earlier, now,
                   round(100 * (now - earlier) / earlier, 2) AS percent, allowed_percent
            FROM ({measured}) AS m
            WHERE earlier > 0 AND earlier >= {monitor.ignore_below}
              AND abs(now - earlier) * 100 > allowed_percent * earlier) AS d"""


def most_changed(
    connection: sa.Connection, observation_id: int, compared: Earlier
) -> list[dict[str, Any]]:
    """The companies whose units have changed most since an earlier look."""
    rows = connection.execute(
        _MOST_CHANGED,
        {"earlier": compared.observation_id, "now": observation_id, "shown": _SHOWN},
    )
    return [dict(row._mapping) for row in rows]


def listed(connection: sa.Connection, mapping: str, limit: int) -> Iterable[sa.Row[Any]]:
    """The newest looks first."""
    return connection.execute(
        sa.select(observation)
        .where(observation.c.mapping == mapping)
        .order_by(observation.c.observation_id.desc())
        .limit(limit)
    ).all()


def _both() -> str:
    return ", ".join(
        f"COALESCE({side}.{measure}, 0)::numeric AS {side}_{measure}"
        for measure in MEASURES
        for side in ("a", "b")
    )


_STANDARDS = f"""
    SELECT max(observation_id) FROM {SCHEMA}.observation WHERE mapping = :mapping
    UNION ALL
    SELECT max(observation_id) FROM {SCHEMA}.observation WHERE mapping = :mapping AND passed
    UNION ALL
    SELECT max(observation_id) FROM {SCHEMA}.observation
    WHERE mapping = :mapping AND (kind = 'verified' OR accepted IS NOT NULL)
    UNION ALL
    SELECT observation_id FROM {SCHEMA}.observation
    WHERE mapping = :mapping AND found = '{{}}' AND at > clock_timestamp() - interval '1 day'"""
"""The looks that later ones are compared with, and those that somebody is still taking."""

_LET_GO = sa.text(f"""
    DELETE FROM {SCHEMA}.observation
    WHERE mapping = :mapping
      AND observation_id <= (
          SELECT observation_id FROM {SCHEMA}.observation WHERE mapping = :mapping
          ORDER BY observation_id DESC OFFSET :keep LIMIT 1)
      AND observation_id NOT IN (SELECT * FROM ({_STANDARDS}) AS s (id) WHERE id IS NOT NULL)
""")

# What belongs to no company is compared with what belonged to none. A full join needs equalities.
_SAME_COMPANY = (
    "COALESCE(b.company_key, '') = COALESCE(a.company_key, '') "
    "AND (b.company_key IS NULL) = (a.company_key IS NULL)"
)

_LET_GO_OF_COMPANIES = sa.text(f"""
    DELETE FROM {SCHEMA}.observation_company AS c
    USING {SCHEMA}.observation AS o
    WHERE o.observation_id = c.observation_id AND o.mapping = :mapping
      AND o.observation_id NOT IN (SELECT * FROM ({_STANDARDS}) AS s (id) WHERE id IS NOT NULL)
""")

_MOST_CHANGED = sa.text(f"""
    SELECT COALESCE(a.company_key, b.company_key) AS company_key,
           COALESCE(a.units, 0) AS units_earlier, COALESCE(b.units, 0) AS units
    FROM (SELECT * FROM {SCHEMA}.observation_company WHERE observation_id = :earlier) AS a
    FULL JOIN (SELECT * FROM {SCHEMA}.observation_company WHERE observation_id = :now) AS b
      ON {_SAME_COMPANY}
    WHERE COALESCE(a.units, 0) <> COALESCE(b.units, 0)
    ORDER BY abs(COALESCE(b.units, 0) - COALESCE(a.units, 0)) DESC, 1
    LIMIT :shown
""")
