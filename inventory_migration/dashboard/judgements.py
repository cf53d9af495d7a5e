"""What is judged while a migration goes: the server's health, and the gates between the steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from inventory_migration.dashboard import marks
from inventory_migration.dashboard.wording import Picture
from inventory_migration.report import html
from inventory_migration.report.html import Tone
from inventory_migration.report.text import printable

_LEVELS: dict[str, tuple[str, Tone]] = {
    "well": ("well", "good"),
    "slow": ("slows down", "warn"),
    "hold": ("waits", "bad"),
}
_SUFFIXES = {"s": "_seconds", "MB": "_megabytes", "MB/s": "_megabytes_per_second"}
"""What a measure's name says of its unit, which stands beside each value."""

_EXPECTED = 3


def health(picture: Picture) -> Markup:
    """Each measure of the server with what was observed, its limits and the verdict."""
    found = picture.get("health")
    if not found:
        return marks.panel(
            "Health of the server",
            html.paragraph(
                "Nothing has been measured: the server is looked at every two seconds while "
                "records move.",
                soft=True,
            ),
            testid="health",
        )
    observed = found["observed"] or {}
    word, tone = _LEVELS.get(found["verdict"], (printable(found["verdict"]), "plain"))
    rows = [_measure(measure) for measure in observed.get("measures") or []]
    limit = observed.get("max_rows_per_second")
    return marks.panel(
        "Health of the server",
        html.paragraph(
            marks.badge(word, tone, "health-verdict"),
            Markup("since {}, measured {}.").format(
                marks.moment(found.get("since")), marks.moment(found.get("at"))
            ),
            f"At most {limit:,} records per second are allowed." if limit else None,
        ),
        html.bullets(reason["text"] for reason in found.get("reasons") or []),
        html.table(
            rows,
            numbers={"observed", "slows down at", "waits at"},
            cards=True,
            key="measures",
            empty="No measure has been taken yet.",
        ),
        testid="health",
        remark="Where one is too much, workers rest between chunks, or wait until it is better",
    )


def _measure(measure: Mapping[str, Any]) -> dict[str, Any]:
    word, tone = _LEVELS.get(measure["level"], (printable(measure["level"]), "plain"))
    unknown, unit = measure.get("unknown"), printable(measure["unit"])
    value = measure["value"]
    if value is None:
        observed = "unknown" if unknown else "none"
    else:
        observed = ("at least " if unknown else "") + _spelled(value, unit)
    if value is None and unknown:
        word, tone = "not known", "plain"
    return {
        "measure": printable(measure["measure"])
        .removesuffix(_SUFFIXES.get(unit, ""))
        .replace("_", " "),
        "observed": observed,
        "slows down at": _spelled(measure["slow"], unit),
        "waits at": _spelled(measure["hold"], unit),
        "verdict": marks.badge(word, tone),
        "what": printable(measure.get("what") or unknown or ""),
    }


def _spelled(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:,.1f}".removesuffix(".0") + f" {unit}"


def gates(picture: Picture) -> Markup:
    """The verdict of each gate, with the expectations that were not met."""
    rows = []
    for gate in picture["gates"]:
        passed = gate["passed"]
        rows.append(
            {
                "gate": printable(gate["suite"]).replace("_", " "),
                "verdict": marks.badge(
                    "passed" if passed else "not judged" if passed is None else "refused",
                    "good" if passed else "plain" if passed is None else "bad",
                    f"gate-{gate['suite']}",
                ),
                "expectations": gate["expectations"],
                "not met": len(gate["failed"]),
                "judged": marks.moment(gate["judged_at"]),
                "not met, and why": _failed(gate["failed"]),
            }
        )
    return marks.panel(
        "Gates",
        html.table(
            rows,
            numbers={"expectations", "not met"},
            cards=True,
            key="gates-table",
            empty="No gate has judged yet.",
        ),
        testid="gates",
        remark="Nothing is written behind a gate that has not passed",
    )


def _failed(failed: list[Mapping[str, Any]]) -> Markup:
    shown = [
        f"{printable(found.get('rule') or found.get('key') or 'expectation')}"
        f" ({printable(found.get('severity') or 'critical')})"
        + (f": {printable(found['error'])}" if found.get("error") else _observed(found))
        for found in failed[:_EXPECTED]
    ]
    more = len(failed) - len(shown)
    if more > 0:
        shown.append(f"and {more} more")
    return html.bullets(shown) or Markup("")


def _observed(found: Mapping[str, Any]) -> str:
    observed = found.get("observed")
    return "" if observed is None else f": observed {printable(observed)}"
