"""What a command costs before it does anything, in CPU seconds.

Measured are the commands that answer at once, and the smallest whole job beside what it costs to
import Dagster and Great Expectations alone. CPU seconds are those of the process and of what it has
started, user and system together; the server's own are not among them. Each round measures
everything once, in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.servers import temporary_server
from inventory_migration.database import create_engine
from inventory_migration.demo import create_demo
from inventory_migration.embedded import EmbeddedServer

RECORDS = 77
COMPANIES = 5
MAPPING = "stock_items"

PROGRAM = [str(Path(sys.executable).with_name("inventory-migration"))]
"""As a user starts it: what looks for the source of a program that is only `-c` costs more."""

IMPORTS = [sys.executable, "-c", "import dagster, great_expectations"]

AT_ONCE = {
    "help": ["--help"],
    "status": ["status"],
    "pause": ["pause", MAPPING],
}
"""The commands that answer at once."""

LIMIT_SECONDS = 0.5
"""What each of them may cost."""

JOB = ["run", MAPPING, "--json"]


def cpu_seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """What a program of ours costs, with all that it starts; it has to end well."""
    process = subprocess.Popen(  # noqa: S603 - this very program
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None  # noqa: S101 - it was asked for
    with process.stderr:
        said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        what = " ".join(command)
        raise RuntimeError(f"{what} ended with {process.returncode}: {said.decode()}")
    return used.ru_utime + used.ru_stime


def measure(server: EmbeddedServer, home: Path, rounds: int) -> dict[str, Any]:
    """Measure everything, each in turn; medians of all rounds but one that warms up."""
    engine = create_engine(server.url)
    environment = {"INVENTORY_DATABASE_URL": server.url, "INVENTORY_HOME": str(home)}
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA IF EXISTS inventory_migration CASCADE")
        create_demo(engine, companies=COMPANIES, items=RECORDS, replace=True)
        used = {
            "imports": cpu_seconds(IMPORTS, environment),
            "smallest_job": cpu_seconds([*PROGRAM, *JOB], environment),
            **{
                name: cpu_seconds([*PROGRAM, *words], environment)
                for name, words in AT_ONCE.items()
            },
        }
        if number:
            for name, seconds in used.items():
                found.setdefault(name, []).append(seconds)
    seconds = {name: round(median(measured), 3) for name, measured in found.items()}
    return {
        "rounds": rounds,
        "records": RECORDS,
        **{f"{name}_cpu_seconds": seconds[name] for name in (*AT_ONCE, "imports", "smallest_job")},
        "ratios": {
            "smallest_job": round(seconds["smallest_job"] / seconds["imports"], 3),
            **{name: round(seconds[name] / LIMIT_SECONDS, 3) for name in AT_ONCE},
        },
        "measured": {name: [round(one, 3) for one in all_] for name, all_ in found.items()},
    }


def _print(found: Mapping[str, Any]) -> None:
    print("| what | CPU seconds | all rounds | beside |")
    print("|---|---|---|---|")
    for name in (*AT_ONCE, "imports", "smallest_job"):
        beside = f"{LIMIT_SECONDS} s" if name in AT_ONCE else "imports"
        ratio = found["ratios"].get(name)
        print(
            f"| {name.replace('_', ' ')} | {found[f'{name}_cpu_seconds']:.2f} | "
            f"{', '.join(f'{one:.2f}' for one in found['measured'][name])} | "
            f"{f'{ratio:.2f} of {beside}' if ratio is not None else '–'} |"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often; one more warms up")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    chosen = parser.parse_args(arguments)
    with temporary_server("startup") as (server, _):
        found = measure(server, server.folder.parent / "home", chosen.rounds)
    if chosen.json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)


if __name__ == "__main__":
    main()
