"""The report of a migration on disk: one document for people, one for programs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from inventory_migration.errors import ReportNotWritten
from inventory_migration.mapping import StockMapping
from inventory_migration.report import encoded, seal
from inventory_migration.report.facts import read
from inventory_migration.report.files import report_paths, written
from inventory_migration.report.page import page
from inventory_migration.report.reconciliation import document


class Database(Protocol):
    """A database that can be read and written, such as `verbs.Target`."""

    @property
    def engine(self) -> sa.Engine:
        """An engine that writes: what a report says is sealed in the ledger."""

    @property
    def reader(self) -> sa.Engine:
        """An engine that cannot write."""


def write_report(
    target: Database, mapping: StockMapping, folder: Path | None = None
) -> dict[str, str | None]:
    """Write the report of the mapping's newest migration, over an earlier one of the same.

    Args:
        target: The migrated database; nothing but the report's seal is written to it.
        mapping: The mapping.
        folder: Where to; by default `reports` in the state folder.

    Returns:
        The path of each form; None for those that were not written, all of them where nothing was
        ever migrated.

    Raises:
        ReportNotWritten: The folder can not be written.
    """
    return write_sealed(target, mapping, folder)[0]


def write_sealed(
    target: Database,
    mapping: StockMapping,
    folder: Path | None = None,
    *,
    just_moved: bool = False,
) -> tuple[dict[str, str | None], dict[str, Any] | None]:
    """The same, and the seal: `report`, `sha256`, `kept`, and `reason` where it was not kept.

    Args:
        target: As above.
        mapping: As above.
        folder: As above.
        just_moved: As for `facts.read`.

    Raises:
        ReportNotWritten: The folder can not be written, or that of temporary files.
    """
    try:
        found = read(target.reader, mapping, just_moved=just_moved)
    except OSError as error:
        why = error.strerror or str(error)
        raise ReportNotWritten(folder=tempfile.gettempdir(), why=why) from None
    if found is None:
        return {"html": None, "markdown": None, "json": None}, None
    facts = found.facts
    places = report_paths(mapping.name, facts["migration_id"], folder)
    folder = places["json"].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        forms = seal.seal(target.engine, facts, found.live, for_reading)
        paths = {form: written(places[form], [text]) for form, text in forms.items()}
        paths["json"] = written(places["json"], encoded.indented(facts))
    except OSError as error:
        raise ReportNotWritten(folder=str(folder), why=error.strerror or str(error)) from None
    told = {name: facts["seal"][name] for name in ("report", "sha256", "kept", "reason")}
    return dict(paths), told


def for_reading(facts: Mapping[str, Any]) -> dict[str, str]:
    """The forms for people, made of a report's facts and of nothing else: the same each time."""
    return {"html": document(facts), "markdown": page(facts)}
