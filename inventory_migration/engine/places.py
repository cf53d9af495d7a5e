"""Locations and whose they are, as relations: the one place that knows how a location says it.

A location says it in a column or by an expression. Which of them are default locations, and of
which company, is made of this in `canonical.py`.
"""

from __future__ import annotations

from inventory_migration.catalog import ResolvedMapping, literal
from inventory_migration.database import quoted
from inventory_migration.mapping import Expression


def places(resolved: ResolvedMapping) -> str:
    """Every location once: location_key, company_key, is_default."""
    named = resolved.mapping.locations
    return f"""
        SELECT l.{quoted(named.key)} AS location_key, {_owner(resolved)} AS company_key,
               {default_condition(resolved)} AS is_default
        FROM {resolved.locations_sql} AS l"""


def belongs(place: str, company: str) -> str:
    """The condition that a location belongs to a company, for WHERE: NULL means that it does not.

    Args:
        place: The alias of a row of `places`.
        company: A company's key, as SQL.
    """
    return f"{place}.company_key = {company}"


def owned(resolved: ResolvedMapping) -> str:
    """Every location with the company that it belongs to: location_key, company_key, is_default."""
    return places(resolved)


def default_condition(resolved: ResolvedMapping, alias: str = "l") -> str:
    """How a default location is recognised."""
    return " AND ".join(
        f"{alias}.{quoted(column)} IS NOT DISTINCT FROM {literal(value)}"
        for column, value in resolved.mapping.locations.default.items()
    )


def _owner(resolved: ResolvedMapping) -> str:
    """The company that a location `l` says itself."""
    company = resolved.mapping.locations.company
    return f"({company.sql}\n)" if isinstance(company, Expression) else f"l.{quoted(company)}"
