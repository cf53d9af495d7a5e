"""The SELECTs over the canonical relations: each returns aggregates, never rows.

What becomes of the numbers is in `profile.py`. The relations are a mapping's own SQL, trusted like
code, and names are quoted.
"""

# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Sequence

from inventory_migration.database import quoted
from inventory_migration.engine.scans import FENCE


def totals(records: str, companies: str, *, net: bool, top: int, along: Sequence[str] = ()) -> str:
    """Counts and sums over all records, of what is simply to be migrated, and by company.

    Of the companies those with most records. What is not simply to be migrated is few, and told
    apart by `put_aside`. Further counts over `r` come along as `along_0` and so on.
    """
    further = "".join(f", {sql} AS along_{number}" for number, sql in enumerate(along))
    sums = ", ".join(
        f"COALESCE(sum({name}), 0){'' if name in _UNITS else '::bigint'} AS {name}"
        for name in (*_UNITS, *_COUNTS, *(f"along_{number}" for number in range(len(along))))
    )
    units, reserved = (
        f"COALESCE(sum({name}) FILTER (WHERE {_IS_PLAIN}), 0)" for name in ("quantity", "reserved")
    )
    # First by company alone, which several processes can do: of its outcome the planner expects as
    # many as there are records.
    return f"""
        WITH fine AS MATERIALIZED (
            SELECT company_key, {_measures(net)},
                   count(*) FILTER (WHERE {_IS_PLAIN}) AS plain_records,
                   {units} AS plain_units, {reserved} AS plain_reserved,
                   {units} - {"0" if net else reserved} AS plain_available{further}
            FROM (SELECT * FROM ({records}
            ) AS r {FENCE}) AS r
            GROUP BY company_key
        ), grouped AS (
            SELECT CASE grouping(company_key) WHEN 0 THEN 'company' ELSE 'all' END AS level,
                   company_key, {sums}
            FROM fine
            GROUP BY GROUPING SETS ((), (company_key))
        ), ranked AS (
            SELECT *, row_number() OVER (
                PARTITION BY level ORDER BY records DESC, company_key) AS place
            FROM grouped
        )
        SELECT g.*, c.company_name, c.default_locations
        FROM ranked AS g
        LEFT JOIN ({companies}
        ) AS c ON g.level = 'company' AND c.company_key = g.company_key
        WHERE g.level <> 'company' OR g.place <= {top}
        ORDER BY g.level, g.place"""


def put_aside(records: str, *, net: bool) -> str:
    """By outcome and rule, what is not simply to be migrated."""
    return f"""
        SELECT outcome, rule, {_measures(net)}
        FROM ({records}
        ) AS r
        WHERE NOT {_IS_PLAIN}
        GROUP BY outcome, rule"""


# Of what is to be migrated no rule has anything to say.
_IS_PLAIN = "(outcome = 'migrated') IS TRUE"


def _measures(net: bool) -> str:
    # Not the sum of differences: that leaves out what is reserved where a quantity is missing.
    available = "0" if net else "COALESCE(sum(reserved), 0)"
    return f"""count(*) AS records,
                   COALESCE(sum(quantity), 0) AS units,
                   COALESCE(sum(reserved), 0) AS reserved,
                   COALESCE(sum(quantity), 0) - {available} AS available,
                   count(*) FILTER (WHERE company_key IS NULL) AS without_company,
                   count(*) FILTER (WHERE company_key IS NOT NULL AND company_found IS NOT TRUE)
                       AS of_unknown_company,
                   count(*) FILTER (WHERE quantity_state = 'missing') AS quantity_missing,
                   count(*) FILTER (WHERE quantity_state = 'not_a_number'
                                       OR reserved_state = 'not_a_number') AS not_a_number,
                   count(*) FILTER (WHERE quantity < 0) AS negative_quantity,
                   count(*) FILTER (WHERE scale(quantity) > 0 AND quantity <> trunc(quantity))
                       AS fractional_quantity,
                   count(*) FILTER (WHERE quantity >= 0 AND reserved > quantity)
                       AS reserved_exceeds_quantity,
                   count(*) FILTER (WHERE location_key IS NOT NULL) AS with_location,
                   count(*) FILTER (WHERE location_own IS FALSE) AS at_foreign_location"""


_UNITS = ("units", "reserved", "available", "plain_units", "plain_reserved", "plain_available")
_COUNTS = (
    *("records", "without_company", "of_unknown_company", "quantity_missing", "not_a_number"),
    *("negative_quantity", "fractional_quantity", "reserved_exceeds_quantity", "with_location"),
    *("at_foreign_location", "plain_records"),
)


def repeated_keys(records: str, keys: Sequence[str]) -> str:
    """Keys that more than one record has, and how many have them."""
    key = ", ".join(quoted(name) for name in keys)
    return f"""
        SELECT 'key' AS of, count(*) AS groups, COALESCE(sum(copies), 0)::bigint AS records
        FROM (SELECT count(*) AS copies FROM ({records}
              ) AS r GROUP BY {key} HAVING count(*) > 1) AS d"""


def live(records: str) -> str:
    """The records that are not skipped."""
    return f"""
        SELECT * FROM ({records}
        ) AS r WHERE outcome <> 'skipped'"""


def company_counts(companies: str) -> str:
    """How many companies there are, and how many of them stand out."""
    return f"""
        SELECT count(*) AS companies,
               count(*) FILTER (WHERE stock_records = 0) AS companies_without_stock,
               count(*) FILTER (WHERE default_locations = 0) AS companies_without_default_location,
               count(*) FILTER (WHERE default_locations > 1)
                   AS companies_with_several_default_locations
        FROM ({companies}
        ) AS c"""
