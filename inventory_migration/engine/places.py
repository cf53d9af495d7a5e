"""Locations and whose they are, as relations: the one place that knows how that is told.

A location tells it in a column or by an expression, and belongs to one company or to none; or a
table links the two, and then it may belong to several. Which of them are default locations, and of
which company, is made of this in `canonical.py`.
"""

from __future__ import annotations

from inventory_migration.catalog import ResolvedMapping, literal
from inventory_migration.database import quoted
from inventory_migration.mapping import Expression, LinkedPlaces


def places(resolved: ResolvedMapping) -> str:
    """Every location once: location_key, is_default, and company_key where it tells that itself."""
    named = resolved.mapping.locations
    company = _told(resolved)
    return f"""
        SELECT l.{quoted(named.key)} AS location_key,
               {f"{company} AS company_key," if company else ""}
               {_default_condition(resolved)} AS is_default
        FROM {resolved.locations_sql} AS l"""


def belongs(resolved: ResolvedMapping, place: str, company: str) -> str:
    """The condition that a location belongs to a company, for WHERE: NULL means that it does not.

    Args:
        resolved: The mapping and its types.
        place: The alias of a row of `places`.
        company: A company's key, as SQL.
    """
    if _told(resolved):
        return f"{place}.company_key = {company}"
    return (
        f"EXISTS (SELECT FROM ({_links(resolved)}) AS im_o "
        f"WHERE im_o.location_key = {place}.location_key AND im_o.company_key = {company})"
    )


def owned(resolved: ResolvedMapping) -> str:
    """Every location with each company that it belongs to: location_key, company_key, is_default.

    One that belongs to none has a row without a company.
    """
    if _told(resolved):
        return places(resolved)
    return f"""
        SELECT DISTINCT im_p.location_key, im_o.company_key, im_p.is_default
        FROM ({places(resolved)}) AS im_p
        LEFT JOIN ({_links(resolved)}) AS im_o ON im_o.location_key = im_p.location_key"""


def _told(resolved: ResolvedMapping) -> str | None:
    """The company that a location `l` tells itself, as SQL; None where links do."""
    company = resolved.mapping.locations.company
    if isinstance(company, LinkedPlaces):
        return None
    return f"({company.sql}\n)" if isinstance(company, Expression) else f"l.{quoted(company)}"


def _links(resolved: ResolvedMapping) -> str:
    """The links of locations to companies that count: location_key, company_key."""
    company, table = resolved.mapping.locations.company, resolved.place_links
    assert isinstance(company, LinkedPlaces)  # noqa: S101 - asked by those who call
    assert table is not None  # noqa: S101 - no mapping resolves without it
    link = company.through
    location_key, company_key = f"o.{quoted(link.location)}", f"o.{quoted(link.company)}"
    counts = f"AND ({link.where.sql}\n)" if link.where else ""
    return (
        f"SELECT {location_key} AS location_key, {company_key} AS company_key "
        f"FROM {table.sql} AS o WHERE {company_key} IS NOT NULL {counts}"
    )


def _default_condition(resolved: ResolvedMapping) -> str:
    """How a default location `l` is recognised."""
    return " AND ".join(
        f"l.{quoted(column)} IS NOT DISTINCT FROM {literal(value)}"
        for column, value in resolved.mapping.locations.default.items()
    )
