"""Measure everything that the page of figures tells, part by part, and make the page.

Each part writes its result at once; a part whose result is there, measured by the same call, is not
measured again. So whoever was interrupted calls it once more. Each part takes up to twenty minutes
on two cores, on a machine that should have nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks import page
from benchmarks.goals import SHAPES


@dataclass(frozen=True)
class Part:
    """A call of a benchmark whose result has a file.

    Attributes:
        name: The file's name.
        words: Module and options; numbers of records are given as numbers.
    """

    name: str
    words: tuple[str | int, ...]

    def call(self, divide: int, more: Sequence[str]) -> list[str]:
        """The words behind `python -m benchmarks.`, with so many times fewer records.

        Args:
            divide: By how much the numbers of records are divided.
            more: Further options.
        """
        words = [str(word // divide) if isinstance(word, int) else word for word in self.words]
        return [*words, *more, "--json"]


PARTS = (
    *(
        Part(f"throughput-{shape}", ("throughput", "--rows", 2_000_000, "--shape", shape))
        for shape in SHAPES
    ),
    Part(
        "whole-job",
        (
            *("throughput", "--rows", 5_000_000),
            *("--skip", "engine", "rewrite", "rollback", "row_by_row", "pandas", "imports"),
        ),
    ),
    Part("scaling", ("scaling", "--sizes", 100_000, 1_000_000, 10_000_000)),
    Part("startup", ("startup",)),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not there yet, and make the page."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.figures", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    parser.add_argument("--again", action="store_true", help="also what is there")
    parser.add_argument("--results", type=Path, default=page.RESULTS, help="a folder of its own")
    parser.add_argument("--divide", type=int, default=1, help="so many times fewer records, to try")
    parser.add_argument("more", nargs="*", help="behind --: further options of these parts")
    options = parser.parse_args(arguments)
    if options.divide > 1 and options.results == page.RESULTS:
        parser.error("--divide is for trying: give --results a folder that the page is not made of")
    signal.signal(signal.SIGTERM, _leave)
    options.results.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        if part.name in options.parts:
            _measure(part, options)
    if options.results == page.RESULTS:
        page.main([])


def _measure(part: Part, options: argparse.Namespace) -> None:
    path: Path = options.results / f"{part.name}.json"
    call = part.call(options.divide, options.more)
    command = f"python -m benchmarks.{' '.join(call)}"
    if path.exists() and not options.again and json.loads(path.read_text())["command"] == command:
        _say(f"{part.name}: is there")
        return
    _say(f"{part.name}: {command}")
    began = time.monotonic()
    printed = _printed(part, call)
    found = {
        "command": command,
        "measured_on": date.today().isoformat(),
        "figures": json.loads(printed),
    }
    made = path.with_suffix(".new")
    made.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    made.replace(path)
    _say(f"{part.name}: {time.monotonic() - began:.0f} s")


def _printed(part: Part, call: Sequence[str]) -> str:
    """What a benchmark prints. Whoever interrupts it waits until its server is gone."""
    module, *words = call
    with subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", f"benchmarks.{module}", *words],
        cwd=page.PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            printed, _ = running.communicate()
        except SystemExit:
            running.terminate()
            raise
        finally:
            running.wait()
    if running.returncode:
        raise SystemExit(
            f"{part.name} ended with {running.returncode}; what is measured so far is kept"
        )
    return printed


def _leave(*_: Any) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
