"""How fast stock moves, beside the naked SQL statement that does the same with no checks at all.

All contenders move the same data on the same server in one run; each begins on a fresh copy behind
a checkpoint, the order alternates from round to round, and medians are compared. Afterwards each
must have moved all records, and left the application's tables alike. Ratios say more than seconds:
a slow machine is slow for all.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

from benchmarks import contenders, stock
from benchmarks.contenders import Copy, Took
from benchmarks.inventories import copied, fill
from benchmarks.machine import load, machine
from benchmarks.servers import temporary_server
from inventory_migration.embedded import EmbeddedServer

SAMPLE_ROWS = 2_000
SAMPLE_OF_FRAMES = 50_000

SKIPPABLE = ("engine", "job", "rewrite", "rerun", "rollback", "row_by_row", "pandas", "imports")


def measure(server: EmbeddedServer, options: argparse.Namespace) -> dict[str, Any]:
    """Let all contenders move the same data, and return the figures that `--json` prints.

    Args:
        server: Where; what is there of earlier measurements goes.
        options: What the command line says.
    """
    skipped: set[str] = set(options.skip)
    before = load()
    fill(server, options.rows)
    rounds: dict[str, list[Took]] = {}
    reruns: list[float] = []
    for turn in range(options.repeat):
        going = list(_contenders(options, skipped))
        for name, contender in going if turn % 2 == 0 else reversed(going):
            _say(f"round {turn + 1} of {options.repeat}: {name}")
            with copied(server, options.rows, options.shape) as copy:
                rounds.setdefault(name, []).append(contender(copy))
                if name == "job" and "rerun" not in skipped:
                    reruns.append(contenders.rerun(copy).seconds)
    require_alike(rounds)
    samples: dict[str, float | None] = {"row_by_row": None, "pandas": None}
    for name, sampled, most in (
        ("row_by_row", contenders.row_by_row, SAMPLE_ROWS),
        ("pandas", contenders.pandas, SAMPLE_OF_FRAMES),
    ):
        if name not in skipped:
            _say(f"a sample: {name}")
            with copied(server, options.rows, options.shape) as copy:
                samples[name] = sampled(copy, min(options.rows, most))
    imported = None if "imports" in skipped else contenders.imports()
    return {
        **_figures(options, rounds, reruns, samples, imported),
        "machine": machine(server.url),
        "load_before": before,
    }


def require_alike(rounds: Mapping[str, Sequence[Took]]) -> None:
    """Refuse a contender that left out an index or a key: it has not done the same move.

    Args:
        rounds: What each took, by its name.
    """
    looks = {name: {took.structure for took in taken} for name, taken in rounds.items()}
    for name, found in looks.items():
        if found != looks["naked"]:
            differ = set.union(*map(set, found)) ^ set.union(*map(set, looks["naked"]))
            raise AssertionError(f"the tables differ between naked and {name}: {sorted(differ)}")


def _contenders(
    options: argparse.Namespace, skipped: set[str]
) -> Iterator[tuple[str, Callable[[Copy], Took]]]:
    yield "naked", contenders.naked
    for workers in options.workers if "engine" not in skipped else ():
        back = workers == max(options.workers) and "rollback" not in skipped
        yield f"engine {workers}", partial(contenders.engine, workers=workers, back=back)
    if "rewrite" not in skipped and options.shape == "location_column":
        yield "rewrite", contenders.rewrite
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
    engines = {
        name.removeprefix("engine "): _median(taken)
        for name, taken in rounds.items()
        if name.startswith("engine ")
    }
    most = f"engine {max(options.workers)}"
    forward = _median(rounds[most]) if most in rounds else None
    job = _median(rounds["job"]) if "job" in rounds else None
    rewrite = _median(rounds["rewrite"]) if "rewrite" in rounds else None
    rerun = median(reruns) if reruns else None
    ours = rounds.get(most) or rounds["job"]
    backs = [took.rollback_seconds for took in ours if took.rollback_seconds is not None]
    rollback = median(backs) if backs else None
    per_second = forward and options.rows / forward
    by_phase = rounds.get("job", ours)
    phases = _phases(by_phase)
    peaks = {
        name: max(took.peak_rss_mb or 0 for took in taken)
        for name, taken in rounds.items()
        if name != "naked"
    }
    wal = _each(options.rows, [took.wal_bytes for took in ours])
    naked_wal = _each(options.rows, [took.wal_bytes for took in rounds["naked"]])
    return {
        "rows": options.rows,
        "shape": options.shape,
        "repeat": options.repeat,
        "naked_seconds": naked,
        "engine_seconds": engines or None,
        "job_seconds": job,
        "rewrite_seconds": rewrite,
        "rerun_seconds": rerun,
        "rollback_seconds": rollback,
        "row_by_row_rows_per_second": samples["row_by_row"],
        "pandas_rows_per_second": samples["pandas"],
        "peak_rss_mb": max(peaks.values()),
        "peak_rss_mb_by_process": peaks,
        "wal_bytes_per_row": wal,
        "naked_wal_bytes_per_row": naked_wal,
        "ledger_bytes_per_row": _each(options.rows, [took.ledger_bytes for took in ours]),
        "phases_seconds": {**phases, **({} if imported is None else {"imports": imported})},
        "rewrite_phases_seconds": _phases(rounds.get("rewrite", ())),
        "ratios": {
            **{f"engine_{n}": seconds / naked for n, seconds in engines.items()},
            "job": job and job / naked,
            "rewrite": rewrite and rewrite / naked,
            "rerun": rerun and job and rerun / job,
            "rollback": rollback and forward and rollback / forward,
            "row_by_row": _times(per_second, samples["row_by_row"]),
            "pandas": _times(per_second, samples["pandas"]),
            "wal": wal / naked_wal,
        },
        "spread": {
            name: [round(took.seconds, 3) for took in taken] for name, taken in rounds.items()
        },
    }


def _median(taken: Sequence[Took]) -> float:
    return median(took.seconds for took in taken)


def _phases(taken: Sequence[Took]) -> dict[str, float]:
    names = taken[0].phases if taken else ()
    return {name: median(took.phases[name] for took in taken) for name in names}


def _each(rows: int, taken: Sequence[int | None]) -> float:
    """Bytes of a record, in the middle of all rounds."""
    return median(bytes_ or 0 for bytes_ in taken) / rows


def _times(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours / theirs


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
        **{f"engine, {n} workers": s for n, s in (found["engine_seconds"] or {}).items()},
        "rewrite in a window": found["rewrite_seconds"],
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
    peaks = ", ".join(f"{name} {mb:.0f}" for name, mb in found["peak_rss_mb_by_process"].items())
    lines += [
        "",
        f"Where the time goes (seconds): {phases}",
        f"Peak memory, MB: {peaks}; WAL {found['wal_bytes_per_row']:.0f} bytes a record "
        f"(naked {found['naked_wal_bytes_per_row']:.0f}); ledger "
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
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=sorted({1, 2, os.cpu_count() or 1}),
        help="of the engine, each measured by itself; by default 1, 2 and the number of cores",
    )
    parser.add_argument("--skip", nargs="+", choices=SKIPPABLE, default=[])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if {"engine", "job"} <= set(options.skip):
        parser.error("without engine and job nothing of ours is measured: skip one of them at most")
    with temporary_server("throughput-server") as (server, running):
        found = measure(server, options)
    if options.json:
        print(json.dumps(found))
    else:
        print(_table(found, f"{running.version}, {os.cpu_count()} cores"))


if __name__ == "__main__":
    main()
