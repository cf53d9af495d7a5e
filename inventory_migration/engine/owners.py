"""The company of a record as SQL: by the record itself, or by a table that links the two.

A link table may have no company for a record, or several; either way the record comes once, and
how many companies it has is a column of it.
"""

from __future__ import annotations

from inventory_migration.catalog import ResolvedMapping, column_sql
from inventory_migration.database import quoted
from inventory_migration.mapping import Through


def company_key(resolved: ResolvedMapping) -> str:
    """The key of a source row's only company; NULL where it has none, or several."""
    company = resolved.mapping.source.company
    if isinstance(company, Through):
        return "CASE WHEN im_o.companies = 1 THEN im_o.company_key END"
    return column_sql(company)


def count(resolved: ResolvedMapping) -> str:
    """How many companies a link table has for a source row; 1 where the row says it itself."""
    return "im_o.companies" if isinstance(resolved.mapping.source.company, Through) else "1"


def join(resolved: ResolvedMapping) -> str:
    """What `company_key` and `count` need beside the source: a row for each record, always."""
    company = resolved.mapping.source.company
    if not isinstance(company, Through) or resolved.owners is None:
        return ""
    link = company.through
    owner = f"o.{quoted(link.company)}"
    of_record = " AND ".join(
        f"o.{quoted(theirs)} = s.{quoted(ours)}" for theirs, ours in link.record.items()
    )
    return f"""
        CROSS JOIN LATERAL (
            SELECT count(DISTINCT {owner}) AS companies,
                   (array_agg({owner} ORDER BY {owner}))[1] AS company_key
            FROM {resolved.owners.sql} AS o
            WHERE {of_record} AND {owner} IS NOT NULL) AS im_o"""
