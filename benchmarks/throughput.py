"""How fast stock moves, beside the naked SQL statement that does the same with no checks at all.

All contenders move the same data on the same server in one run; each begins on a fresh copy behind
a checkpoint, the order alternates from round to round, and medians are compared. Ratios say more
than seconds: a slow machine is slow for all.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from benchmarks import contenders, stock
from benchmarks.contenders import Copy, Took
from benchmarks.servers import temporary_server
from inventory_migration.embedded import EmbeddedServer

SAMPLE_ROWS = 2_000
SAMPLE_OF_FRAMES = 50_000

SKIPPABLE = ("job", "rerun", "rollback", "row_by_row", "pandas", "imports")


def measure(server: EmbeddedServer, options: argparse.Namespace) -> dict[str, Any]:
    """Let all contenders move the same data, and return the figures that `--json` prints."""
    skipped: set[str] = set(options.skip)
    _fill(server, options.rows)
    rounds: dict[str, list[Took]] = {}
    reruns: list[float] = []
    for turn in range(options.repeat):
        going = list(_contenders(options, skipped))
        for name, contender in going if turn % 2 == 0 else reversed(going):
            _say(f"round {turn + 1} of {options.repeat}: {name}")
            with _copy(server, options.shape) as copy:
                rounds.setdefault(name, []).append(contender(copy))
                if name == "job" and "rerun" not in skipped:
                    reruns.append(contenders.rerun(copy).seconds)
    samples: dict[str, float | None] = {"row_by_row": None, "pandas": None}
    for name, sampled, most in (
        ("row_by_row", contenders.row_by_row, SAMPLE_ROWS),
        ("pandas", contenders.pandas, SAMPLE_OF_FRAMES),
    ):
        if name not in skipped:
            _say(f"a sample: {name}")
            with _copy(server, options.shape) as copy:
                samples[name] = sampled(copy, min(options.rows, most))
    imported = None if "imports" in skipped else contenders.imports()
    return _figures(options, rounds, reruns, samples, imported)


def _contenders(
    options: argparse.Namespace, skipped: set[str]
) -> Iterator[tuple[str, Callable[[Copy], Took]]]:
    yield "naked", contenders.naked
    for workers in options.workers:
        back = workers == max(options.workers) and "rollback" not in skipped
        yield f"engine {workers}", partial(contenders.engine, workers=workers, back=back)
    if "job" not in skipped:
        yield "job", contenders.job


def _figures(
    options: argparse.Namespace,
    rounds: Mapping[str, Sequence[Took]],
    reruns: Sequence[float],
    samples: Mapping[str, float | None],
    imported: float | None,
) -> dict[str, Any]:
    naked = _median(rounds["naked"])
    engines = {str(n): _median(rounds[f"engine {n}"]) for n in options.workers}
    most = rounds[f"engine {max(options.workers)}"]
    job = _median(rounds["job"]) if "job" in rounds else None
    rerun = median(reruns) if reruns else None
    backs = [took.rollback_seconds for took in most if took.rollback_seconds is not None]
    rollback = median(backs) if backs else None
    forward = engines[str(max(options.workers))]
    per_second = options.rows / forward
    by_phase = rounds.get("job", most)
    phases = {name: median(t.phases[name] for t in by_phase) for name in by_phase[0].phases}
    return {
        "rows": options.rows,
        "shape": options.shape,
        "naked_seconds": naked,
        "engine_seconds": engines,
        "job_seconds": job,
        "rewrite_seconds": None,
        "rerun_seconds": rerun,
        "rollback_seconds": rollback,
        "row_by_row_rows_per_second": samples["row_by_row"],
        "pandas_rows_per_second": samples["pandas"],
        "peak_rss_mb": max(took.peak_rss_mb or 0 for took in most),
        "wal_bytes_per_row": median(took.wal_bytes or 0 for took in most) / options.rows,
        "ledger_bytes_per_row": median(took.ledger_bytes or 0 for took in most) / options.rows,
        "phases_seconds": {**phases, **({} if imported is None else {"imports": imported})},
        "ratios": {
            **{f"engine_{n}": seconds / naked for n, seconds in engines.items()},
            "job": job and job / naked,
            "rewrite": None,
            "rerun": rerun and job and rerun / job,
            "rollback": rollback and rollback / forward,
            "row_by_row": _times(per_second, samples["row_by_row"]),
            "pandas": _times(per_second, samples["pandas"]),
            "naked_wal_bytes_per_row": median(t.wal_bytes or 0 for t in rounds["naked"])
            / options.rows,
        },
        "spread": {
            name: [round(took.seconds, 3) for took in taken] for name, taken in rounds.items()
        },
    }


def _median(taken: Sequence[Took]) -> float:
    return median(took.seconds for took in taken)


def _times(ours: float, theirs: float | None) -> float | None:
    return None if theirs is None else ours / theirs


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


TEMPLATE = "stock_before"


def _fill(server: EmbeddedServer, rows: int) -> None:
    """Make the inventory once; everybody gets a copy of these very files."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {TEMPLATE}")
        connection.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
    with psycopg.connect(_address(server, TEMPLATE), autocommit=True) as connection:
        text = stock.APPLICATION.format(companies=stock.COMPANIES, rows=rows)
        for statement in text.split(";\n"):
            connection.execute(statement)


@contextmanager
def _copy(server: EmbeddedServer, shape: str) -> Iterator[Copy]:
    """A copy of the inventory, in a server that has nothing else to write."""
    name = "stock_moving"
    folder = Path(tempfile.mkdtemp(prefix="throughput-"))
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
        connection.execute("CHECKPOINT")
        try:
            yield Copy(_address(server, name), shape, folder)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
            shutil.rmtree(folder)


def _address(server: EmbeddedServer, database: str) -> str:
    return server.url.replace("/inventory?", f"/{database}?")


def _table(found: Mapping[str, Any], machine: str) -> str:
    """The figures for people, as Markdown."""
    rows, naked = found["rows"], found["naked_seconds"]
    lines = [
        f"{rows:,} records, shape {found['shape']}, {machine}",
        "",
        "| who | seconds | records per second | ÷ naked |",
        "|---|---:|---:|---:|",
    ]
    timed = {
        "naked statement": naked,
        **{f"engine, {n} workers": s for n, s in found["engine_seconds"].items()},
        "whole job": found["job_seconds"],
        "rollback": found["rollback_seconds"],
        "rerun with nothing to do": found["rerun_seconds"],
    }
    for who, seconds in timed.items():
        if seconds is not None:
            lines.append(
                f"| {who} | {seconds:.2f} | {rows / seconds:,.0f} | {seconds / naked:.2f} |"
            )
    for who in ("row_by_row", "pandas"):
        rate = found[f"{who}_rows_per_second"]
        if rate is not None:
            lines.append(
                f"| {who.replace('_', ' ')} (sample) | | {rate:,.0f} | {rows / rate / naked:.0f} |"
            )
    phases = ", ".join(f"{name} {s:.2f}" for name, s in found["phases_seconds"].items())
    lines += [
        "",
        f"Where the time goes (seconds): {phases}",
        f"Peak memory {found['peak_rss_mb']:.0f} MB; WAL {found['wal_bytes_per_row']:.0f} bytes a "
        f"record (naked {found['ratios']['naked_wal_bytes_per_row']:.0f}); ledger "
        f"{found['ledger_bytes_per_row']:.0f} bytes a record",
        f"Each round, seconds: {json.dumps(found['spread'])}",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table, or one JSON object."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--shape", choices=[*stock.SHAPES], default="location_column")
    parser.add_argument("--repeat", type=int, default=3, help="rounds; medians are compared")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--skip", nargs="+", choices=SKIPPABLE, default=[])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    with temporary_server("throughput-server") as (server, running):
        found = measure(server, options)
    if options.json:
        print(json.dumps(found))
    else:
        print(_table(found, f"{running.version}, {os.cpu_count()} cores"))


if __name__ == "__main__":
    main()
