"""Documents as files: where those of a migration are, and how they are written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from inventory_migration.project import state_folder

ENDINGS = {"html": "html", "markdown": "md", "json": "json"}
"""What the file of each form of a report ends with."""

_HEAD = 1000
"""How much of a report's JSON is read to tell which one it is: that is said first."""


def report_paths(mapping: str, migration_id: int, folder: Path | None = None) -> dict[str, Path]:
    """Where each form of a migration's report is or will be; by default in the state folder."""
    folder = folder or state_folder() / "reports"
    return {form: folder / f"{mapping}-{migration_id}.{end}" for form, end in ENDINGS.items()}


def written_before(mapping: str, migration_id: int, report: str) -> dict[str, str] | None:
    """The paths of the forms of a report by its UUID; None unless all are there, of this one."""
    paths = report_paths(mapping, migration_id)
    try:
        with paths["json"].open(encoding="utf-8") as file:
            is_this = report in file.read(_HEAD)
    except (OSError, UnicodeDecodeError):
        return None
    if not is_this or not all(path.is_file() for path in paths.values()):
        return None
    return {form: str(path.absolute()) for form, path in paths.items()}


def written(path: Path, pieces: Iterable[str]) -> str:
    """Write at once or not at all, since somebody may be reading an earlier one; says where."""
    new, last = path.with_name(f".{path.name}.{os.getpid()}"), ""
    with new.open("w", encoding="utf-8") as file:
        for last in pieces:
            file.write(last)
        if not last.endswith("\n"):
            file.write("\n")
    new.replace(path)
    return str(path.absolute())
