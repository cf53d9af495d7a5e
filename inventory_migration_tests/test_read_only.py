"""What only reads begins no transaction that could write: told by the server, not by the program.

The server logs every statement of the worker's sessions, those that Great Expectations opens
included; each must stand between a BEGIN that says READ ONLY and its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from inventory_migration_tests import story
from inventory_migration_tests.roles import WorkedDatabase
from inventory_migration_tests.test_every_command import (  # noqa: F401
    _own_home,
    database,
    handed_over,
    plain,
    written,
)

pytestmark = pytest.mark.one_server

_LOGGED = re.compile(r"^\S+ \S+ \S+ \[(\d+)\] [^\n]*?: LOG:  (?:statement|execute [^:]*): (.*)$")


def violations(log: str) -> Iterator[str]:
    """Yield each statement of a server's log that could have written something."""
    reading: set[str] = set()
    for line in log.splitlines():
        if (logged := _LOGGED.match(line)) is None:
            continue
        session, statement = logged[1], logged[2].strip()
        words = statement.upper()
        if words.startswith(("BEGIN", "START TRANSACTION")) and "READ ONLY" in words:
            reading.add(session)
        elif re.match(r"(COMMIT|END|ABORT)\b|ROLLBACK(?! TO)", words):
            reading.discard(session)
        elif words == "DEALLOCATE ALL":
            continue  # the driver's own, of prepared statements
        elif session not in reading or re.search(r"\bREAD WRITE\b", words):
            yield statement


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["location_column", "levels in step"])
def test_every_command_that_only_reads_does_so_in_transactions_that_cannot_write(
    database: WorkedDatabase,  # noqa: F811
    shape: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mapping, path = written(tmp_path, plain(database, shape))
    handed_over(database, mapping, path, monkeypatch)
    database.psql(f"ALTER ROLE {database.worker} SET log_statement = 'all'")
    log = database.server.log
    begin, seen = log.stat().st_size, set()
    for step, _ in story.tell(database, mapping, path, "3"):
        with log.open("rb") as file:
            file.seek(begin)
            said = file.read().decode(errors="replace")
            begin = file.tell()
        # What is refused for what it was told asks no server.
        assert "LOG:  " in said or (step.code == 2 and not step.reads), step
        wrote = list(violations(said))
        if step.reads:
            assert wrote == [], step
            seen.add(step.command)
        elif step.command in {"run", "rollback"}:
            # Otherwise the log would not be understood.
            assert any("BEGIN" in statement for statement in wrote), step
    assert seen == {step.command for step in story.STORY if step.reads}


@pytest.mark.parametrize(
    ("log", "found"),
    [
        ("BEGIN READ ONLY|SELECT 1|SAVEPOINT a|ROLLBACK TO a|SELECT 2|COMMIT", []),
        ("BEGIN|SELECT 1|COMMIT", ["BEGIN", "SELECT 1"]),
        ("SELECT 1", ["SELECT 1"]),
        ("BEGIN READ ONLY|COMMIT|SELECT 1", ["SELECT 1"]),
        ("BEGIN READ ONLY|SET TRANSACTION READ WRITE|COMMIT", ["SET TRANSACTION READ WRITE"]),
    ],
)
def test_a_statement_that_could_write_would_be_seen(log: str, found: list[str]) -> None:
    lines = [
        f"2026-11-24 10:00:00.000 UTC [17] inventory-migration: LOG:  statement: {statement}"
        for statement in log.split("|")
    ]
    assert list(violations("\n".join(lines))) == found
