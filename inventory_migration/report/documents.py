"""The report of a migration on disk: one document for people, one for programs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from inventory_migration.errors import ReportNotWritten
from inventory_migration.mapping import StockMapping
from inventory_migration.project import state_folder
from inventory_migration.report.facts import collect
from inventory_migration.report.page import page


class Readable(Protocol):
    """A database that can be read, such as `verbs.Target`."""

    @property
    def reader(self) -> sa.Engine:
        """An engine that cannot write."""


def write_report(
    target: Readable, mapping: StockMapping, folder: Path | None = None
) -> dict[str, str | None]:
    """Write the report of the mapping's newest migration, over an earlier one of the same.

    Args:
        target: The migrated database; only read from.
        mapping: The mapping.
        folder: Where to; by default `reports` in the state folder.

    Returns:
        The path of each form; None for those that were not written, all of them where nothing was
        ever migrated.

    Raises:
        ReportNotWritten: The folder can not be written.
    """
    facts = collect(target.reader, mapping)
    if facts is None:
        return {"html": None, "markdown": None, "json": None}
    folder = folder or state_folder() / "reports"
    stem = f"{mapping.name}-{facts['migration_id']}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        markdown = _written(folder / f"{stem}.md", page(facts))
        data = _written(folder / f"{stem}.json", json.dumps(facts, indent=2, ensure_ascii=False))
    except OSError as error:
        raise ReportNotWritten(folder=str(folder), why=error.strerror or str(error)) from None
    return {"html": None, "markdown": markdown, "json": data}


def _written(path: Path, text: str) -> str:
    """Write at once or not at all: somebody may be reading the earlier one."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text + ("" if text.endswith("\n") else "\n"), encoding="utf-8")
    new.replace(path)
    return str(path.absolute())
