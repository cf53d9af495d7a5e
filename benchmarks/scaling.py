"""Whether more records cost more each: time per record, and peak memory, at several sizes.

The engine alone moves inventories of several sizes, in turns, on one server; the order alternates
from round to round, and every round's figure is kept, so that growth can be told from chance. The
whole job runs on each size too, for the memory of the process that a user starts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from benchmarks import contenders, stock
from benchmarks.contenders import Took
from benchmarks.inventories import copied, fill
from benchmarks.machine import load, machine
from benchmarks.servers import temporary_server
from inventory_migration.embedded import EmbeddedServer

SIZES = (100_000, 1_000_000, 10_000_000)


def measure(server: EmbeddedServer, options: argparse.Namespace) -> dict[str, Any]:
    """Move inventories of all sizes, and return the figures that `--json` prints.

    Args:
        server: Where.
        options: What the command line says.
    """
    sizes: list[int] = sorted(set(options.sizes))
    before = load()
    engines: dict[int, list[Took]] = {rows: [] for rows in sizes}
    jobs: dict[int, list[Took]] = {rows: [] for rows in sizes}
    for rows in sizes:
        _say(f"an inventory of {rows:,} records")
        fill(server, rows)
    for turn in range(max(options.repeat, options.jobs)):
        for rows in sizes if turn % 2 == 0 else reversed(sizes):
            if turn < options.repeat:
                _say(f"round {turn + 1}: the engine, {rows:,} records")
                with copied(server, rows, options.shape) as copy:
                    engines[rows].append(contenders.engine(copy, options.workers))
            if turn < options.jobs:
                _say(f"round {turn + 1}: the whole job, {rows:,} records")
                with copied(server, rows, options.shape) as copy:
                    jobs[rows].append(contenders.job(copy))
    found = [_size(rows, engines[rows], jobs[rows]) for rows in sizes]
    return {
        "shape": options.shape,
        "workers": options.workers,
        "repeat": options.repeat,
        "sizes": found,
        "growth": [_growth(small, large) for small, large in pairwise(found)],
        "memory": {
            "engine": _memory(found, "engine_peak_rss_mb"),
            "job": _memory(found, "job_peak_rss_mb") if options.jobs else None,
        },
        "machine": machine(server.url),
        "load_before": before,
    }


def _size(rows: int, engines: Sequence[Took], jobs: Sequence[Took]) -> dict[str, Any]:
    """What was measured at a size: each round's figure, in the order of rounds."""
    each = [1_000_000 * took.seconds / rows for took in engines]
    return {
        "rows": rows,
        "engine_seconds": [took.seconds for took in engines],
        "job_seconds": [took.seconds for took in jobs],
        "microseconds_per_row": each,
        "median_microseconds_per_row": median(each),
        "spread": (max(each) - min(each)) / median(each),
        "engine_peak_rss_mb": [took.peak_rss_mb for took in engines],
        "job_peak_rss_mb": [took.peak_rss_mb for took in jobs],
    }


def _growth(small: Mapping[str, Any], large: Mapping[str, Any]) -> dict[str, Any]:
    """How much longer a record takes at the larger size, beside how far rounds lie apart."""
    before, after = (size["median_microseconds_per_row"] for size in (small, large))
    return {
        "from_rows": small["rows"],
        "to_rows": large["rows"],
        "growth": after / before - 1,
        "spread": max(small["spread"], large["spread"]),
    }


def _memory(sizes: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """The most memory at the smallest and at the largest size, and how far they differ."""
    least, most = (median(size[name]) for size in (sizes[0], sizes[-1]))
    return {
        "smallest_mb": least,
        "largest_mb": most,
        "difference": most / least - 1,
        "most_mb": max(mb for size in sizes for mb in size[name]),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _table(found: Mapping[str, Any]) -> str:
    """The figures for people, as Markdown."""
    lines = [
        f"Shape {found['shape']}, {found['workers']} workers, {found['repeat']} rounds",
        "",
        "| records | µs per record | least | most | spread | engine, MB | job, MB |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for size in found["sizes"]:
        each = size["microseconds_per_row"]
        job = f"{max(size['job_peak_rss_mb']):.0f}" if size["job_peak_rss_mb"] else ""
        lines.append(
            f"| {size['rows']:,} | {size['median_microseconds_per_row']:.2f} | {min(each):.2f} | "
            f"{max(each):.2f} | {size['spread']:.0%} | {max(size['engine_peak_rss_mb']):.0f} | "
            f"{job} |"
        )
    lines += [
        "",
        *(
            f"From {one['from_rows']:,} to {one['to_rows']:,} records: {one['growth']:+.0%} a "
            f"record; rounds lie {one['spread']:.0%} apart"
            for one in found["growth"]
        ),
        *(
            f"Peak memory of the {who}, smallest to largest: {one['difference']:+.1%}, at most "
            f"{one['most_mb']:.0f} MB"
            for who, one in found["memory"].items()
            if one is not None
        ),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table, or one JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="in records")
    parser.add_argument("--shape", choices=[*stock.SHAPES], default="location_column")
    parser.add_argument("--repeat", type=int, default=3, help="rounds of the engine")
    parser.add_argument("--jobs", type=int, default=1, help="rounds of the whole job; 0 for none")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.repeat < 1:
        parser.error("--repeat: at least one round is needed")
    with temporary_server("scaling-server") as (server, _):
        found = measure(server, options)
    print(json.dumps(found) if options.json else _table(found))


if __name__ == "__main__":
    main()
