"""The documents of an audit: one page for people in two forms, and the same as data for programs.

Each is made from one `Audit`, so that they cannot disagree; how the HTML page is put together is in
`html_page.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inventory_migration.audit import findings
from inventory_migration.audit.audit import Audit
from inventory_migration.audit.html_page import page
from inventory_migration.errors import ReportNotWritten
from inventory_migration.project import state_folder
from inventory_migration.report.files import written
from inventory_migration.report.markdown import cell


def make_folder(folder: Path | None = None) -> Path:
    """Make the folder for documents, so that nothing is looked at in vain where that fails.

    Args:
        folder: Which; by default `reports` in the state folder.

    Raises:
        ReportNotWritten: It can not be made.
    """
    folder = folder or state_folder() / "reports"
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def write(found: Audit, folder: Path) -> dict[str, str]:
    """Write an audit in all its forms, over an earlier one of the same mapping; says where.

    Raises:
        ReportNotWritten: The folder can not be written.
    """
    stem = f"{found.mapping}-audit"
    data = json.dumps(found.to_json(), indent=2, ensure_ascii=False)
    with _writing(folder):
        return {
            "html": written(folder / f"{stem}.html", page(found)),
            "markdown": written(folder / f"{stem}.md", markdown(found)),
            "json": written(folder / f"{stem}.json", data),
        }


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReportNotWritten(
            folder=str(folder), why=error.strerror or str(error), command="audit --to DIR"
        ) from None


def markdown(found: Audit) -> str:
    """The audit as a Markdown page, findings first."""
    about = "\n".join(f"- {name}: {cell(value)}" for name, value in found.about().items())
    parts = [
        f"# Audit of {cell(found.mapping)}",
        f"**{cell(found.conclusion)}**",
        about,
        findings.to_markdown(found.findings).rstrip(),
        found.profile.to_markdown().rstrip(),
        found.dependencies.to_markdown().rstrip(),
    ]
    return "\n\n".join(parts) + "\n"
