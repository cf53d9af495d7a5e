"""Every command of the program in the order of a migration's life: a list that tests walk through.

A command that is added gets a step here; a command without one fails `test_every_command.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from typer.testing import Result

from inventory_migration.mapping import StockMapping
from inventory_migration_tests.commands import im
from inventory_migration_tests.conftest import Database


@dataclass(frozen=True)
class Step:
    """One call of a command on a mapping file.

    Attributes:
        command: The command.
        words: What it is told besides; `KEY` stands for a stock record's key, `PUT_ASIDE` for
            that of one in quarantine, `ARCHIVES` for a folder.
        code: How it ends.
        reads: Whether it only reads, and so must not begin a transaction that could write.
        closes: Whether it says that the application's writes are stopped, where that is needed.
        before: What the application or a person does with SQL before it.
        whole: Whether it is about the whole database, and is told no mapping.
    """

    command: str
    words: tuple[str, ...] = ()
    code: int = 0
    reads: bool = False
    closes: bool = False
    before: str = ""
    whole: bool = False


# A migration that is under way, as it is while another process moves its chunks.
UNDER_WAY = """
    UPDATE inventory_migration.control SET desired = 'run';
    UPDATE inventory_migration.migration SET state = 'running';
"""

ACCEPTANCE = {"queries": {"one": {"new": "SELECT 1"}}}
"""What a mapping's file must say for a trial to have something to ask."""

PUT_ASIDE = "SELECT min(key_text) FROM inventory_migration.outcome WHERE state = 'open'"

WAIVED = "UPDATE inventory_migration.outcome SET state = 'waived' WHERE state = 'open'"

STORY = [
    Step("grants", reads=True),
    Step("audit", ("--fail-on", "critical"), reads=True),
    Step("test", reads=True),
    Step("test", ("--sql",), reads=True),
    Step("status", reads=True),
    Step("run", ("--stop-after", "pilot"), code=4),
    Step("status", reads=True),
    Step("pause", before=UNDER_WAY),
    Step("resume", closes=True),
    Step("run", ("--workers", "1")),
    Step("show", ("KEY",), reads=True),
    Step("quarantine list", reads=True),
    Step("quarantine show", ("PUT_ASIDE",), reads=True),
    Step("quarantine retry", ("PUT_ASIDE", "--yes"), closes=True),
    Step("quarantine waive", ("PUT_ASIDE", "--reason", 'it\'s "lost"; %s {0}')),
    Step("quarantine list", ("--state", "waived"), reads=True),
    Step("notifications test", code=2),
    Step("notifications list", reads=True),
    Step("validate", reads=True),
    Step("acceptance"),
    Step("monitor"),
    Step("metrics", reads=True, whole=True),
    Step("grants", reads=True),
    Step("test", reads=True),
    Step("report"),
    Step("report", ("--summary",)),
    Step("archive", ("--to", "ARCHIVES")),
    Step("rollback", ("--dry-run",), reads=True),
    Step("rollback", ("--yes",)),
    Step("run", ("--stop-after", "pilot"), code=4),
    Step("abort", ("--yes", "--reason", 'it\'s "over"; %s')),
    Step("status", reads=True),
    Step("report"),
    Step("archive", ("--to", "ARCHIVES"), before=WAIVED),
    Step("ledger drop", ("--yes",), whole=True),
]

APART = {
    *("init", "examples", "demo", "dashboard", "verify-archive", "verify-report"),
    *("db start", "db stop", "db status", "db url", "db reset"),
}
"""The commands that know nothing of a mapping; `test_init.py` has `init`."""


def tell(
    database: Database, mapping: StockMapping, path: Path, key: str, *options: str
) -> Iterator[tuple[Step, Result]]:
    """Call one command after the other, and yield each with what it said.

    Args:
        database: Where it happens, with the rights of whoever the environment's URL names.
        mapping: What moves.
        path: The mapping's file.
        key: A stock record's key.
        options: What every command is told.
    """
    for step in STORY:
        if step.before:
            database.psql(step.before)
        named = {"KEY": key, "ARCHIVES": str(path.parent / "archives")}
        if "PUT_ASIDE" in step.words:
            named["PUT_ASIDE"] = database.psql(PUT_ASIDE)
        words = [named.get(word, word) for word in step.words]
        if step.closes and mapping.needs_write_stop:
            words.append("--write-stop")
        words += [] if step.whole else ["--mapping", str(path)]
        yield step, im(*step.command.split(), *words, *options, code=step.code)
