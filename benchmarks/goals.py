"""The figures that are to be reached, and what was measured: met, or missed by how much.

Only judged here: measuring belongs in the benchmarks themselves, the page that shows it in
`page.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, Mapping[str, Any]]
"""What each part measured, by the part's name (see `figures.py`); a part may not be there."""

SHAPES = ("location_column", "stock_level", "allocation_json")

MEMORY_MB = 400
MEMORY_DIFFERENCE = 0.10


@dataclass(frozen=True)
class Figure:
    """One figure and what became of it.

    Attributes:
        name: What is measured.
        at: With how many records it was, as it is read; empty where it was not, or says it itself.
        measured: The value as it is read; "not measured" where it was not.
        goal: What is to be reached, as it is read.
        met: Whether it is; None where it was not measured.
        missed_by: By how much not, as it is read.
    """

    name: str
    at: str
    measured: str
    goal: str
    met: bool | None
    missed_by: str = ""

    @property
    def verdict(self) -> str:
        """What the table says."""
        if self.met is None:
            return "not measured"
        return "met" if self.met else f"**missed** by {self.missed_by}"


def figures(results: Results) -> list[Figure]:
    """All figures, in the order in which they were set.

    Args:
        results: What was measured.
    """
    return [
        *(_engine(results, shape) for shape in SHAPES),
        _job(results),
        _rewrite(results),
        _row_by_row(results),
        _rerun(results),
        _rollback(results),
        _memory(results),
        _growth(results),
        _smallest_job(results),
    ]


def throughput(results: Results, shape: str) -> Mapping[str, Any]:
    """What was measured of a shape; empty where nothing was.

    Args:
        results: What was measured.
        shape: The shape.
    """
    return results.get(f"throughput-{shape}", {})


def _engine(results: Results, shape: str) -> Figure:
    goal = 0.75 if shape == "location_column" else 0.9
    found = throughput(results, shape)
    return _at_most(
        f"engine, 2 workers ÷ naked statement, `{shape}`",
        found,
        found.get("ratios", {}).get("engine_2"),
        goal,
    )


def _job(results: Results) -> Figure:
    found = results.get("whole-job", {})
    name = "whole job (audit, gates, plan, chunks, proof, report) ÷ naked statement"
    return _at_most(name, found, found.get("ratios", {}).get("job"), 1.0)


def _rewrite(results: Results) -> Figure:
    found = throughput(results, "location_column")
    name = "rewrite profile ÷ naked statement"
    return _at_most(name, found, found.get("ratios", {}).get("rewrite"), 0.25)


def _row_by_row(results: Results) -> Figure:
    name, goal = "engine ÷ row-by-row script, records per second", 100
    worst = _worst(results, "row_by_row", min)
    if worst is None:
        return Figure(name, "", "not measured", f"≥ {goal}", None)
    shape, found, value = worst
    return Figure(
        f"{name}, the least of all shapes (`{shape}`)",
        _rows(found),
        f"{value:.0f}",
        f"≥ {goal}",
        value >= goal,
        f"{goal - value:.0f} ({1 - value / goal:.0%})",
    )


def _rerun(results: Results) -> Figure:
    found = results.get("whole-job", {})
    name = "rerun with nothing to do ÷ first run"
    return _at_most(name, found, found.get("ratios", {}).get("rerun"), 0.03)


def _rollback(results: Results) -> Figure:
    name, worst = "rollback ÷ forward", _worst(results, "rollback", max)
    if worst is None:
        return _at_most(name, {}, None, 1.0)
    shape, found, value = worst
    return _at_most(f"{name}, the most of all shapes (`{shape}`)", found, value, 1.0)


def _memory(results: Results) -> Figure:
    found = results.get("scaling", {})
    memory = found.get("memory", {}).get("job") or found.get("memory", {}).get("engine")
    name = "peak memory of our process, smallest and largest inventory"
    goal = f"equal within {MEMORY_DIFFERENCE:.0%}, under {MEMORY_MB} MB"
    if memory is None:
        return Figure(name, "", "not measured", goal, None)
    apart, most = abs(memory["difference"]), memory["most_mb"]
    missed = [
        *([f"{apart - MEMORY_DIFFERENCE:.1%} of difference"] if apart > MEMORY_DIFFERENCE else []),
        *([f"{most - MEMORY_MB:.0f} MB"] if most >= MEMORY_MB else []),
    ]
    return Figure(
        name,
        f"{found['sizes'][0]['rows']:,} and {found['sizes'][-1]['rows']:,} records",
        f"{memory['smallest_mb']:.0f} and {memory['largest_mb']:.0f} MB "
        f"({memory['difference']:+.1%})",
        goal,
        not missed,
        " and ".join(missed),
    )


def _growth(results: Results) -> Figure:
    found = results.get("scaling", {})
    name, goal = "time per record, growth", "not beyond the spread of repeated runs"
    if not found.get("growth"):
        return Figure(name, "", "not measured", goal, None)
    last = found["growth"][-1]
    return Figure(
        name,
        f"{last['from_rows']:,} and {last['to_rows']:,} records",
        f"{last['growth']:+.1%}, runs lie {last['spread']:.1%} apart",
        goal,
        last["growth"] <= last["spread"],
        f"{last['growth'] - last['spread']:.1%}",
    )


def _smallest_job(results: Results) -> Figure:
    found = results.get("startup", {})
    job, imports = found.get("smallest_job_cpu_seconds"), found.get("imports_cpu_seconds")
    name = "smallest whole job ÷ importing dagster and great_expectations, CPU seconds"
    value = job / imports if job and imports else None
    return _at_most(name, {}, value, 1.3, at=f"{found['records']} records" if found else "")


def _worst(
    results: Results, ratio: str, worst: Callable[..., tuple[float, str]]
) -> tuple[str, Mapping[str, Any], float] | None:
    """The shape that is furthest from a goal that is for all of them."""
    values = [(value, shape) for shape, value in _ratios(results, ratio)]
    if not values:
        return None
    value, shape = worst(values)
    return shape, throughput(results, shape), value


def _ratios(results: Results, ratio: str) -> Iterator[tuple[str, float]]:
    for shape in SHAPES:
        value = throughput(results, shape).get("ratios", {}).get(ratio)
        if value is not None:
            yield shape, value


def _at_most(
    name: str,
    found: Mapping[str, Any],
    value: float | None,
    goal: float,
    *,
    at: str | None = None,
) -> Figure:
    """A figure that is the better the smaller it is."""
    shown = f"≤ {goal:g}" if goal % 1 else f"≤ {goal:.1f}"
    if value is None:
        return Figure(name, "", "not measured", shown, None)
    over = value - goal
    return Figure(
        name,
        _rows(found) if at is None else at,
        f"{value:.3f}",
        shown,
        value <= goal,
        f"{over:.3f} ({over / goal:.0%})",
    )


def _rows(found: Mapping[str, Any]) -> str:
    return f"{found['rows']:,} records" if "rows" in found else ""
