"""The page of figures, its plots, and the README's sentence, made from what was measured.

`python -m benchmarks.page` writes them anew from `benchmarks/results/`; a test holds them against
it, so that no page says what nobody has measured. Measuring belongs in `figures.py`, what is to be
reached in `goals.py`.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import plots
from benchmarks.goals import SHAPES, Results, figures, throughput

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = PROJECT / "benchmarks" / "results"
PAGE = "docs/performance.md"
README = "README.md"
PLOTS = {name: f"docs/performance-{name}.svg" for name in ("ratios", "time", "sizes")}

NOTE = "<!-- Made by `python -m benchmarks.page` from benchmarks/results: change it there. -->\n"
_BETWEEN = re.compile(r"(<!-- figures -->\n).*?(<!-- /figures -->)", flags=re.S)
_WHO = {"rewrite": "rewrite in a window", "job": "whole job", "rollback": "rollback"}


INTRODUCTION = """\
# Performance

Safe must be the fast way too, or somebody writes the one-line `UPDATE` instead. So the yardstick is
that statement: the same move by hand, with no checks, no ledger and no way back, measured beside
the tool in the same run. Ratios say more than seconds: 1 is as fast as the naked statement, less is
faster.
"""

METHOD = """\
## How it is measured

- Each contender begins on a fresh copy of the same files, made by the server, behind a checkpoint,
  in a server that has nothing else to do.
- They take turns, in one run on one server; {rounds} rounds, every other one in reverse order;
  medians are compared, and each round's figure is shown.
- Both sides are alike: the same columns, indexes, foreign keys, `NOT NULL` and triggers, compared
  afterwards as the catalog has them. The naked statement runs in the transaction that it needs,
  with the column, the default locations and its commit.
- Afterwards, and outside what is timed, everybody's work is looked at in the data: every record is
  at the default location of its own company, with the units that it had. After a rollback none is.
- The engine is timed from its plan to its final proof, in a process of its own; the whole job as a
  user starts it, `inventory-migration run`, from the start of the process to its end. Levels move
  under `--write-stop`.
- The script that goes row by row (batches of 100; of each record it looks up the location, writes
  it and commits) and pandas (`read_sql`, `to_sql`, one `UPDATE`) move a sample: all of it would
  take hours.
- Memory is the largest resident set of our process, as the kernel counted it. WAL is how far the
  server's log went on.

## Measure it yourself

    make bench ROWS=200000
    make bench ROWS=200000 BENCH_ARGS='--shape stock_level --repeat 5 --json'
    .venv/bin/python -m benchmarks.scaling --sizes 100000 1000000

`make figures` measures everything on this page, part by part, and makes the page anew. A part that
is there is not measured again, so an interrupted one goes on where it was;
`FIGURES_ARGS=--again` measures all of it, `FIGURES_ARGS='--again --parts startup'` one part.
"""


class Unlike(Exception):
    """Results that were not measured on the same machine, and so say nothing beside each other."""


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """What was measured, by part.

    Args:
        folder: Where the results are.
    """
    kept = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return {name: found["figures"] for name, found in kept.items()}


def made(folder: Path = RESULTS) -> dict[str, str]:
    """Every file that is made from results, by its path in the project.

    Args:
        folder: Where the results are.
    """
    results = read(folder)
    missed = folder / "missed.md"
    why = missed.read_text(encoding="utf-8").strip() if missed.exists() else ""
    return {
        PAGE: NOTE + "\n" + "\n".join(_page(results, why)).rstrip() + "\n",
        PLOTS["ratios"]: _ratios_plot(results),
        PLOTS["time"]: _time_plot(results),
        PLOTS["sizes"]: _sizes_plot(results),
        README: _BETWEEN.sub(
            lambda found: found[1] + headline(results) + found[2],
            (PROJECT / README).read_text(encoding="utf-8"),
        ),
    }


def headline(results: Results) -> str:
    """The figures that the README tells, in a few lines.

    Args:
        results: What was measured.
    """
    if not results:
        return "Not measured yet: `make figures` does.\n"
    of_shapes = [
        (shape, found["rows"], found["ratios"].get("engine_2"))
        for shape in SHAPES
        if (found := throughput(results, shape))
    ]
    lines = ["The hand-written statement that does the same move with no checks takes 1:", ""]
    lines += [
        f"- engine with 2 workers, plan to proof, `{shape}`, {rows:,} records: {ratio:.2f}"
        for shape, rows, ratio in of_shapes
        if ratio is not None
    ]
    column = throughput(results, "location_column")
    if column.get("ratios", {}).get("rewrite") is not None:
        lines.append(
            f"- rewrite in a maintenance window, {column['rows']:,} records: "
            f"{column['ratios']['rewrite']:.2f}"
        )
    job = results.get("whole-job", {})
    if job.get("ratios", {}).get("job") is not None:
        lines.append(
            f"- whole job with audit, gates, proof and report, {job['rows']:,} records: "
            f"{job['ratios']['job']:.2f}"
        )
    judged = figures(results)
    met = sum(figure.met is True for figure in judged)
    open_ = sum(figure.met is None for figure in judged)
    unknown = f" {open_} are not measured." if open_ else ""
    lines += ["", f"{met} of {len(judged)} figures that were set are met.{unknown}"]
    return "\n".join(lines) + "\n"


def _page(results: Results, why: str) -> Iterator[str]:
    yield from (
        INTRODUCTION,
        "## What was to be reached",
        "",
        "| figure | at | measured | goal | |",
        "|---|---|---|---|---|",
        *(
            f"| {one.name} | {one.at} | {one.measured} | {one.goal} | {one.verdict} |"
            for one in figures(results)
        ),
        "",
    )
    if why:
        yield from ("## Where a figure is missed", "", why, "")
    yield from _by_shape(results)
    yield from _time(results)
    yield from _sizes(results)
    yield from _startup(results)
    yield from _method(results)
    yield from _machine(results)


def _by_shape(results: Results) -> Iterator[str]:
    yield from (
        "## By shape",
        "",
        f"![Seconds by shape, the naked statement being 1]({_beside('ratios')})",
        "",
    )
    for shape in SHAPES:
        found = throughput(results, shape)
        if found:
            yield from (f"### `{shape}`, {found['rows']:,} records", "", *_contenders(found), "")
    found = results.get("whole-job", {})
    if found:
        yield from (
            f"### The whole job, `{found['shape']}`, {found['rows']:,} records",
            "",
            *_contenders(found),
            "",
        )


def _contenders(found: Mapping[str, Any]) -> Iterator[str]:
    rows, naked = found["rows"], found["naked_seconds"]
    yield from ("| who | seconds | records per second | ÷ naked | each round, seconds |",)
    yield "|---|---:|---:|---:|---|"
    for who, seconds, rounds in _timed(found):
        each = ", ".join(f"{one:.2f}" for one in rounds)
        yield (
            f"| {who} | {seconds:.2f} | {rows / seconds:,.0f} | {seconds / naked:.2f} | {each} |"
        )
    for who in ("row_by_row", "pandas"):
        rate = found[f"{who}_rows_per_second"]
        if rate is not None:
            name = {"row_by_row": "row by row", "pandas": "pandas"}[who]
            yield f"| {name}, on a sample | | {rate:,.0f} | {rows / rate / naked:,.0f} | |"
    rewrite = found["rewrite_phases_seconds"]
    if rewrite:
        parts = ", ".join(
            f"{name.replace('chunks', 'the pass itself')} {seconds:.2f} "
            f"({seconds / naked:.2f} of the naked statement)"
            for name, seconds in rewrite.items()
        )
        yield from ("", f"Of the rewrite, seconds: {parts}.")
    peaks = ", ".join(
        f"{_engine(who[7:]) if who.startswith('engine ') else _WHO[who]} {mb:.0f}"
        for who, mb in found["peak_rss_mb_by_process"].items()
    )
    yield from (
        "",
        f"WAL, bytes a record: {found['wal_bytes_per_row']:.0f}, naked statement "
        f"{found['naked_wal_bytes_per_row']:.0f}. Ledger with snapshot, bytes a record: "
        f"{found['ledger_bytes_per_row']:.0f}. Peak memory of our process, MB: {peaks}.",
    )


def _timed(found: Mapping[str, Any]) -> Iterator[tuple[str, float, Sequence[float]]]:
    """Who was timed, the middle of its rounds, and each of them where it is known."""
    spread = found["spread"]
    yield "naked statement", found["naked_seconds"], spread["naked"]
    for number, seconds in (found["engine_seconds"] or {}).items():
        yield _engine(number), seconds, spread[f"engine {number}"]
    for who, name in _WHO.items():
        seconds = found[f"{who}_seconds"]
        if seconds is not None:
            yield name, seconds, spread.get(who, [])
    if found["rerun_seconds"] is not None:
        yield "rerun with nothing to do", found["rerun_seconds"], []


def _engine(workers: str) -> str:
    return f"engine, {workers} worker{'' if workers == '1' else 's'}"


def _time(results: Results) -> Iterator[str]:
    jobs = list(_jobs(results))
    if not jobs:
        return
    parts = [name for name in jobs[0][1] if name != "imports"]
    yield from (
        "## Where the time goes",
        "",
        "Seconds of the whole job, from its log and its ledger. *Start* is Python, Dagster and the "
        "mapping until the audit begins.",
        "",
        f"![Where the time of a whole job goes]({_beside('time')})",
        "",
        f"| job | {' | '.join(parts)} |",
        f"|---|{'---:|' * len(parts)}",
        *(
            f"| {name} | {' | '.join(f'{phases[part]:.2f}' for part in parts)} |"
            for name, phases in jobs
        ),
        "",
    )


def _jobs(results: Results) -> Iterator[tuple[str, Mapping[str, float]]]:
    for part in (*(f"throughput-{shape}" for shape in SHAPES), "whole-job"):
        found = results.get(part, {})
        if found.get("job_seconds") is not None:
            yield f"{found['shape']}, {found['rows']:,}", found["phases_seconds"]


def _sizes(results: Results) -> Iterator[str]:
    found = results.get("scaling", {})
    if not found:
        return
    yield from (
        "## Small and large inventories",
        "",
        f"The engine with {found['workers']} workers, `{found['shape']}`, {found['repeat']} runs "
        "at each size, in turns; the whole job for the memory of the process that a user starts.",
        "",
        f"![Time per record by size of the inventory]({_beside('sizes')})",
        "",
        "| records | µs per record | least to most | spread | peak memory of the engine, MB "
        "| of the whole job, MB |",
        "|---:|---:|---|---:|---|---|",
    )
    for size in found["sizes"]:
        each = size["microseconds_per_row"]
        yield (
            f"| {size['rows']:,} | {size['median_microseconds_per_row']:.2f} | "
            f"{min(each):.2f} to {max(each):.2f} | {size['spread']:.1%} | "
            f"{_listed(size['engine_peak_rss_mb'])} | {_listed(size['job_peak_rss_mb'])} |"
        )
    yield ""
    for one in found["growth"]:
        yield (
            f"From {one['from_rows']:,} to {one['to_rows']:,} records a record takes "
            f"{one['growth']:+.1%} of time; repeated runs lie {one['spread']:.1%} apart.\n"
        )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.0f}" for value in values)


def _startup(results: Results) -> Iterator[str]:
    found = results.get("startup", {})
    if not found:
        return
    names = {
        "help": "`inventory-migration --help`",
        "status": "`inventory-migration status`",
        "pause": "`inventory-migration pause stock_items`",
        "imports": "importing dagster and great_expectations",
        "smallest_job": f"smallest whole job, {found['records']} records",
    }
    yield from (
        "## Start-up",
        "",
        "| what | CPU seconds | each round |",
        "|---|---:|---|",
        *(
            f"| {name} | {found[f'{key}_cpu_seconds']:.2f} | "
            f"{', '.join(f'{one:.2f}' for one in found['measured'][key])} |"
            for key, name in names.items()
        ),
        "",
    )


def _method(results: Results) -> Iterator[str]:
    repeats = sorted({found["repeat"] for found in results.values() if "repeat" in found})
    rounds = " or ".join(map(str, repeats)) or "several"
    yield METHOD.format(rounds=rounds)


def _machine(results: Results) -> Iterator[str]:
    known = [found for found in results.values() if "machine" in found]
    if not known:
        return
    first = known[0]["machine"]
    if any(found["machine"] != first for found in known):
        raise Unlike("the parts were measured on different machines or settings: measure all again")
    busiest = max(found["load_before"] for found in known)
    settings = ", ".join(f"`{name} = {value}`" for name, value in first["settings"].items())
    yield from (
        "## The machine",
        "",
        f"{first['system']}, {first['cores']} cores, {first['memory_gb']} GB of memory, Python "
        f"{first['python']}, PostgreSQL {first['postgresql']}: the embedded server with the "
        "settings that it ships with, client and server on the same cores. Load before a part: at "
        f"most {busiest:.1f}.",
        "",
        f"Settings that are not PostgreSQL's own: {settings}.",
    )


def _ratios_plot(results: Results) -> str:
    groups = {}
    for shape in SHAPES:
        found = throughput(results, shape)
        if found:
            naked = found["naked_seconds"]
            groups[f"{shape}, {found['rows']:,} records"] = {
                who: seconds / naked
                for who, seconds, _ in _timed(found)
                if not who.startswith(("naked", "rerun"))
            }
    found = results.get("whole-job", {})
    if found:
        groups[f"{found['shape']}, {found['rows']:,} records"] = {
            "whole job": found["job_seconds"] / found["naked_seconds"]
        }
    return plots.bars("Seconds ÷ seconds of the naked statement", groups, mark="naked statement")


def _time_plot(results: Results) -> str:
    jobs = {
        name: {part: seconds for part, seconds in phases.items() if part != "imports"}
        for name, phases in _jobs(results)
    }
    return plots.stacked("Where the time of a whole job goes", jobs)


def _sizes_plot(results: Results) -> str:
    sizes = {
        f"{size['rows']:,} records": size["microseconds_per_row"]
        for size in results.get("scaling", {}).get("sizes", [])
    }
    return plots.runs("Time per record, each run a point", sizes, unit="µs")


def _beside(plot: str) -> str:
    return PLOTS[plot].removeprefix("docs/")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files anew."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page", description=__doc__.splitlines()[0]
    )
    parser.parse_args(arguments)
    try:
        files = made()
    except Unlike as unlike:
        raise SystemExit(str(unlike)) from None
    for path, text in files.items():
        (PROJECT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
