"""The companies of a migration that a search fits: asked for on demand, never with a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from inventory_migration.dashboard.marks import NOTHING, figure
from inventory_migration.report import html
from inventory_migration.report.text import grouped, printable

LIMIT = 50
"""So many companies are shown at once, the largest."""

_LONGEST = 80
_COUNTS = ("snapshot", "migrated", "already", "skipped", "quarantined", "gone", "pending")


def table(found: Mapping[str, Any], search: str) -> Markup:
    """The companies that were found, with outcomes and units of each."""
    rows = []
    for company in found["companies"]:
        rows.append(
            {
                "company": _name(company["company_name"]),
                "key": printable(company["company_key"]) or "none",
                "default location": Markup("{} {}").format(
                    printable(company["location_key"]) or "–",
                    Markup('<span class="soft">{}</span>').format(
                        "created" if company["location_created"] else "adopted"
                    )
                    if company["location_key"] is not None
                    else NOTHING,
                ),
                **{"records" if name == "snapshot" else name: company[name] for name in _COUNTS},
                "units": company["units"],
                "reserved": company["reserved"],
            }
        )
    return html.table(
        rows,
        numbers={"records", *_COUNTS, "units", "reserved"},
        cards=True,
        key="companies-found",
        empty=f"No company whose name has “{printable(search)}” in it, or whose key is that."
        if search
        else "No company yet: they are known when the snapshot has been taken.",
    )


def said(found: Mapping[str, Any], search: str) -> Markup:
    """How many there are, and how many of them are shown."""
    total, shown = found["total"], len(found["companies"])
    what = "companies" if total != 1 else "company"
    more = f"; the {shown} largest are shown" if total > shown else ""
    fit = " found" if search else ""
    return Markup("{} {}{}{}").format(figure("companies-total", grouped(total)), what, fit, more)


def _name(name: object) -> str:
    shown = printable(name) or "without a name"
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
