"""The audit trail of a migration: who did what, when and why; newest first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from inventory_migration.dashboard import marks
from inventory_migration.dashboard.wording import Picture
from inventory_migration.report import html
from inventory_migration.report.text import printable

_LONGEST = 300


def events(picture: Picture) -> Markup:
    """All events that the picture has."""
    found = picture["events"]
    return marks.panel(
        "Audit trail",
        _table(found, "all-events"),
        testid="events",
        remark=f"The newest {len(found)}; the ledger keeps all, and the report has them",
    )


def latest(picture: Picture, count: int = 6) -> Markup:
    """The few newest events."""
    return marks.panel(
        "Latest events", _table(picture["events"][:count], "newest-events"), testid="latest-events"
    )


def _table(found: Sequence[Mapping[str, Any]], key: str) -> Markup:
    rows = [
        {
            "at": marks.moment(event["at"]),
            "what": printable(event["kind"]).replace("_", " "),
            "detail": told(event.get("detail")),
            "who": printable(event["who"]),
        }
        for event in found
    ]
    return html.table(rows, prose={"detail"}, cards=True, key=key, empty="No event yet.")


def told(detail: object) -> str:
    """An event's details as one line: names and values, what is long cut."""
    if not detail:
        return ""
    if not isinstance(detail, Mapping):
        return _cut(printable(detail))
    return _cut(
        ", ".join(
            f"{printable(name).replace('_', ' ')}: {_value(value)}"
            for name, value in detail.items()
            if value not in (None, "", [], {})
        )
    )


def _value(value: object) -> str:
    if isinstance(value, Mapping | list):
        return printable(json.dumps(value, ensure_ascii=False, default=str))
    return printable(value)


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
