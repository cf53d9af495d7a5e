"""Taking a guard away: a copy of the project without it, on which its test has to fail.

`python -m inventory_migration_tests.mutation.remove [NAME…]` tries the guards one after another and
prints what came of each.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from inventory_migration_tests.mutation.guards import GUARDS, Guard

PROJECT = Path(__file__).parents[2]
_COPIED = ("inventory_migration", "inventory_migration_tests", "expectations")
_FILES = ("pyproject.toml", "workspace.yaml", "README.md", "Makefile")
_SECONDS = 120
_TEST_SECONDS = 25
_PYTEST = (
    "import os, sys, pytest; ended = pytest.main(sys.argv[1:]); sys.stdout.flush(); os._exit(ended)"
)
"""A program without the guard may have threads that never end."""

_ENDLESS = "+ Timeout +"
"""What pytest says of a test that it has ended with its process, workers and all."""


def source(guard: Guard) -> str:
    """The module that a guard stands in."""
    return (PROJECT / "inventory_migration" / guard.module).read_text(encoding="utf-8")


def copy_without(guard: Guard, folder: Path) -> None:
    """Copy what the tests need, with the guard taken away.

    Raises:
        ValueError: The guard's text is not found exactly once.
    """
    text = source(guard)
    if text.count(guard.text) != 1:
        raise ValueError(f"{guard.name}: found {text.count(guard.text)} times in {guard.module}")
    # With what is compiled already, by the time of each file, so that the changed one is compiled
    # anew; without what another process is just writing.
    for name in _COPIED:
        unfinished = shutil.ignore_patterns("*.pyc.*")
        shutil.copytree(PROJECT / name, folder / name, ignore=unfinished)
    for name in _FILES:
        shutil.copy(PROJECT / name, folder / name)
    changed = text.replace(guard.text, guard.instead)
    (folder / "inventory_migration" / guard.module).write_text(changed, encoding="utf-8")


def failed_without(guard: Guard, *, server: str = "embedded") -> tuple[bool, str]:
    """Whether the guard's test fails on the copy, and what pytest said at its end.

    Only a test that fails counts: one that is not found, or cannot be collected, shows nothing.
    """
    with tempfile.TemporaryDirectory(prefix="mutation-") as made:
        folder = Path(made)
        copy_without(guard, folder)
        ended = subprocess.run(
            [sys.executable, "-c", _PYTEST, "-q", "-x", "-p", "no:cacheprovider",
             f"--server={server}", f"--timeout={_TEST_SECONDS}", "--timeout-method=thread",
             f"inventory_migration_tests/{guard.test}"],
            cwd=folder, text=True, capture_output=True, check=False, timeout=_SECONDS,
        )  # fmt: skip
    said = ended.stdout.strip().rpartition("\n")[2] or ended.stderr.strip()
    if _ENDLESS in ended.stdout + ended.stderr:
        said = f"failed: not at its end after {_TEST_SECONDS} s"
    return ended.returncode == 1 and "failed" in said, said


def main(names: list[str]) -> int:
    """Try the named guards, or all; returns how many were not missed."""
    survived = 0
    for guard in GUARDS:
        if names and guard.name not in names:
            continue
        noticed, said = failed_without(guard)
        survived += not noticed
        print(f"{'noticed' if noticed else 'NOT NOTICED'}: {guard.name} ({said})", flush=True)
    return survived


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
