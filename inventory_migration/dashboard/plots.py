"""Plots over time as SVG that stretches to its panel, with axes as text, and the same as a table.

A plot is some kilobytes that a browser patches in place (`live.js`), so nothing flickers, nothing
is fetched, and whoever can not see it reads the table below it. Documents have theirs in
`report/plots.py`: of a fixed size, since paper is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from inventory_migration.dashboard.marks import NOTHING, figure, moment
from inventory_migration.dashboard.wording import nothing, rate
from inventory_migration.report import html
from inventory_migration.report.text import grouped, printable

_HIGH = 100.0
_GAP = 2.5
"""A line breaks where nothing moved for so many times as long as a moment lasts."""

_LATEST = 12
"""So many of the newest moments are in the table that stands for the plots."""


def over_time(
    title: str,
    timeline: Sequence[Mapping[str, Any]],
    values: Sequence[float | None],
    *,
    unit: str,
    testid: str,
    most: Sequence[float | None] = (),
) -> Markup:
    """A line over time with what lies below it, and a second line above where there is a most.

    Args:
        title: What is plotted.
        timeline: The moments, oldest first.
        values: A value for each; None where there was none.
        unit: What the values are in.
        testid: How tests find the plot.
        most: The largest value at each moment, where the others are the middle ones.
    """
    known = [value for value in [*values, *most] if value is not None]
    top = _round_up(max(known, default=0))
    places = _places(timeline)
    latest = next((value for value in reversed(values) if value is not None), None)
    drawn = NOTHING
    if known:
        line = _path(places, values, top)
        drawn = Markup('<path class="area" d="{}"/>').format(
            "".join(f"{part}V{_HIGH:g}H{start:g}Z" for part, start in line)
        )
        if most:
            drawn += Markup('<path class="most" d="{}"/>').format(
                "".join(part for part, _ in _path(places, most, top))
            )
        drawn += Markup('<path class="trace" d="{}"/>').format("".join(part for part, _ in line))
    said = (
        f"{title}: {_short(latest)} {unit} at last, between {_short(_least(values))} and "
        f"{_short(max(known))} {unit} so far"
        if latest is not None
        else f"{title}: nothing measured yet"
    )
    shown = (
        Markup("{} <small>{}</small>").format(figure(testid, _short(latest)), unit)
        if latest is not None
        else Markup("–")
    )
    return _framed(title, shown, drawn, top, timeline, said, f"plot-{testid}")


def conservation(timeline: Sequence[Mapping[str, Any]], difference: str) -> Markup:
    """The difference in units over time: a flat zero, and loud where it is not."""
    values = [_number(point.get("difference")) for point in timeline]
    far = max((abs(value) for value in values if value is not None), default=0.0)
    top = _round_up(far) if far else 1.0
    places = _places(timeline)
    middle = _HIGH / 2
    drawn = Markup('<path class="zero" d="M0 {0:g}H1000"/>').format(middle)
    line = _path(places, [None if v is None else v + top for v in values], 2 * top)
    flat = nothing(difference) and not far
    drawn += Markup('<path class="trace {}" d="{}"/>').format(
        "good" if flat else "bad", "".join(part for part, _ in line)
    )
    said = (
        "Difference in units between snapshot and what is accounted for: zero all the time"
        if flat
        else f"Difference in units: {grouped(difference)} now, up to {_short(far)} so far"
    )
    sign = Markup('<span class="badge {}">{}</span>').format(
        "good" if flat else "bad", "✓ flat zero" if flat else "✕ not zero"
    )
    return _framed(
        "Conservation: difference in units", sign, drawn, top, timeline, said, "plot-difference",
        least=-top, classes=" flat",
    )  # fmt: skip


def as_table(timeline: Sequence[Mapping[str, Any]]) -> Markup:
    """What the plots show, as a table of the latest moments."""
    rows = [
        {
            "at": moment(point["at"]),
            "records": point["records"],
            "records per second": rate(point["records_per_second"]),
            "chunk time, middle (s)": _short(point["seconds_median"]),
            "longest (s)": _short(point["seconds_max"]),
            "records per chunk": _short(point["records_per_chunk"]),
            "workers": point["workers"],
            "difference": point["difference"],
        }
        for point in reversed(timeline[-_LATEST:])
    ]
    return html.table(
        rows,
        numbers=set(rows[0]) - {"at"} if rows else (),
        caption=f"The latest {len(rows)} of {len(timeline)} moments of the plots",
        empty="Nothing has moved yet.",
    )


def _framed(
    title: str,
    shown: Markup,
    drawn: Markup,
    top: float,
    timeline: Sequence[Mapping[str, Any]],
    said: str,
    testid: str,
    *,
    least: float = 0,
    classes: str = "",
) -> Markup:
    ends = (timeline[0]["at"], timeline[-1]["at"]) if timeline else (None, None)
    return Markup(
        '<figure class="plot{}" data-testid="{}"><figcaption><span>{}</span><b>{}</b></figcaption>'
        '<div class="canvas"><div class="scale" aria-hidden="true"><span>{}</span><span>{}</span>'
        '</div><svg role="img" aria-label="{}" viewBox="0 0 1000 {:g}" preserveAspectRatio="none">'
        '<path class="grid" d="M0 0H1000M0 {:g}H1000M0 {:g}H1000"/>{}</svg></div>'
        '<div class="ends" aria-hidden="true"><span>{}</span><span>{}</span></div></figure>'
    ).format(
        classes,
        testid,
        title,
        shown,
        _axis(top),
        _axis(least),
        printable(said),
        _HIGH,
        _HIGH / 2,
        _HIGH,
        drawn,
        _time(ends[0]),
        _time(ends[1]),
    )


def _time(at: str | None) -> Markup:
    if not at:
        return NOTHING
    return Markup('<time datetime="{}" data-as="time">{}</time>').format(at, at[11:19])


@dataclass(frozen=True)
class _Place:
    """A stretch of time from left to right, and whether nothing moved before it."""

    begin: float
    end: float
    after_gap: bool


def _places(timeline: Sequence[Mapping[str, Any]]) -> list[_Place]:
    """Where the stretches lie; those in which nothing moved are not among them."""
    if not timeline:
        return []
    began = [datetime.fromisoformat(point["at"]).timestamp() for point in timeline]
    lasted = [float(point["seconds"]) for point in timeline]
    longest, first = max(lasted), began[0]
    span = max(began[-1] + lasted[-1] - first, 1e-3)

    def place(moment: float) -> float:
        return round(1000 * (moment - first) / span, 1)

    ends = [at + seconds for at, seconds in zip(began, lasted, strict=True)]
    gaps = [later - at > _GAP * longest for at, later in pairwise(began)]
    return [
        _Place(
            begin=place(at),
            # Up to the next one, so that no rounding shows between two neighbours.
            end=place(ends[n] if n + 1 == len(began) or gaps[n] else began[n + 1]),
            after_gap=n > 0 and gaps[n - 1],
        )
        for n, at in enumerate(began)
    ]


def _path(
    places: Sequence[_Place], values: Sequence[float | None], top: float
) -> list[tuple[str, float]]:
    """A line for each run of known values, with where it begins; a value holds for its stretch."""
    found: list[tuple[str, float]] = []
    part, start = "", 0.0
    for place, value in zip(places, values, strict=True):
        if part and (value is None or place.after_gap):
            found.append((part, start))
            part = ""
        if value is None:
            continue
        y = round(_HIGH - _HIGH * max(0.0, min(value, top)) / top, 1)
        if not part:
            part, start = f"M{place.begin:g} {y:g}", place.begin
        else:
            part += f"V{y:g}"
        part += f"H{place.end:g}"
    if part:
        found.append((part, start))
    return found


def _round_up(value: float) -> float:
    """The next number that reads well on an axis."""
    if value <= 0 or not math.isfinite(value):
        return 1.0
    size = 10.0 ** math.floor(math.log10(value))
    return next(
        step * size for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if value <= step * size * 1.0000001
    )


def _least(values: Sequence[float | None]) -> float:
    return min(value for value in values if value is not None)


def _number(spelled: object) -> float | None:
    return None if spelled is None else float(Decimal(str(spelled)))


def _axis(value: float) -> str:
    """A round number in the little room beside a plot."""
    for size, sign in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * size or (size > 1e3 and abs(value) >= size):
            return f"{value / size:,g}{sign}"
    return _short(value)


def _short(value: float | None) -> str:
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 10:
        return f"{value:,.0f}"
    return f"{value:.2g}" if abs(value) < 1 else f"{value:.1f}".removesuffix(".0")
