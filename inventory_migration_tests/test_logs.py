"""Log records: their two forms, what they are about, and never a password."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inventory_migration import logs

pytestmark = pytest.mark.one_server

SECRET = "s3cr3t$pa:ss@x"


Console = pytest.CaptureFixture[str]


@contextmanager
def logging_to(**options: Any) -> Iterator[None]:
    """Log for a while; opened in the test, so that what it writes is captured."""
    opened = logs.Logging(**options)
    try:
        yield
    finally:
        opened.close()


def worker_says(
    message: str, *arguments: object, level: int = logging.INFO, **about: object
) -> None:
    logging.getLogger("inventory_migration.engine.worker").log(
        level, message, *arguments, extra=about
    )


def test_a_line_says_when_about_what_and_how_grave(capsys: Console) -> None:
    with logging_to():
        worker_says("chunk %d done", 7, migration_id=3, chunk=7, phase="pilot", company="4")
        worker_says("disk is full", level=logging.WARNING)
    first, second = capsys.readouterr().err.splitlines()
    assert first[10] == " "
    assert first.endswith("  [migration 3 phase pilot chunk 7 company 4] chunk 7 done")
    assert second.endswith("  warning: disk is full")


def test_json_lines_carry_what_a_record_is_about(capsys: Console) -> None:
    with logging_to(form="json"):
        worker_says("chunk %d done", 7, migration_id=3, chunk=7)
        try:
            raise ValueError("no\nway")
        except ValueError:
            logging.getLogger("inventory_migration").exception("failed")
    first, second = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "info",
        "logger": "inventory_migration.engine.worker",
        "message": "chunk 7 done",
        "migration_id": 3,
        "chunk": 7,
    }
    assert "ValueError: no\nway" in second["traceback"]


def test_json_lines_carry_the_figures_and_text_has_them_in_its_message(capsys: Console) -> None:
    figures = {"rows_total": 5, "rows_migrated": 4, "rows_quarantined": 0, "rows_gone": 1}
    for form in ("json", "text"):
        with logging_to(form=form):
            worker_says("chunk 7 done", chunk=7, **figures, something_else=3)
    as_json, as_text = capsys.readouterr().err.splitlines()
    said = json.loads(as_json)
    assert {name: said[name] for name in said if name.startswith("rows_")} == figures
    assert "something_else" not in said
    assert as_text.endswith("  [chunk 7] chunk 7 done")


def test_a_file_gets_what_the_console_gets(capsys: Console, tmp_path: Path) -> None:
    file = tmp_path / "run.log"
    for number in (1, 2):
        with logging_to(file=file):
            worker_says("chunk %d done", number)
    assert file.read_text() == capsys.readouterr().err
    assert len(file.read_text().splitlines()) == 2


def test_what_a_person_watches_replaces_the_lines_but_not_those_of_the_file(
    capsys: Console, tmp_path: Path
) -> None:
    seen: list[str] = []

    class Watching(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    file = tmp_path / "run.log"
    with logging_to(file=file, interactive=Watching()):
        worker_says("chunk 1 done")
    assert (seen, capsys.readouterr().err) == (["chunk 1 done"], "")
    assert "chunk 1 done" in file.read_text()


def test_other_libraries_are_heard_when_they_warn_and_only_then(capsys: Console) -> None:
    with logging_to():
        logging.getLogger("some.library").info("all day long")
        logging.getLogger("some.library").warning("this once")
    said = capsys.readouterr().err
    assert "all day" not in said
    assert "warning: this once" in said


def test_logging_is_put_back_to_what_it_was(capsys: Console) -> None:
    root, package = logging.getLogger(), logging.getLogger("inventory_migration")
    before = (list(root.handlers), root.level, package.level)
    logs.Logging().close()
    assert (list(root.handlers), root.level, package.level) == before
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://ann:{SECRET}@db.example:5432/shop",
        f"can not reach postgres+psycopg2://ann:{SECRET}@db, giving up",
        f"host=db user=ann password='{SECRET}' dbname=shop",
        "host=db user=ann password=s3cr3t dbname=shop",
        "PGPASSWORD=s3cr3t psql",
        "postgresql://db/shop?password=s3cr3t&sslmode=require",
        f"{{'user': 'ann', 'password': '{SECRET}'}}",
        '{"password": "s3cr3t", "user": "ann"}',
    ],
)
def test_a_password_is_hidden_whatever_way_it_is_written(text: str) -> None:
    hidden = logs.hide_passwords(text, secrets=())
    assert "s3cr3t" not in hidden
    assert "***" in hidden
    kept = [word for word in ("ann", "shop", "require", "psql", "giving up") if word in text]
    assert [word for word in kept if word not in hidden] == []


@pytest.mark.parametrize(
    "text",
    ["a socket postgresql://postgres@/inventory?host=%2Ftmp", "at 10:30:05 chunk 1: done", "a@b.c"],
)
def test_what_holds_no_password_stays_as_it_is(text: str) -> None:
    assert logs.hide_passwords(text, secrets=()) == text


def test_the_passwords_of_the_environment_are_hidden_wherever_they_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", "postgresql://ann:hunter%2D2x@db/shop")
    monkeypatch.setenv("PGPASSWORD", "correct horse")
    said = logs.hide_passwords("tried hunter-2x, then hunter%2D2x, then correct horse")
    assert said == "tried ***, then ***, then ***"
    # Hiding so short a word would hide the message.
    monkeypatch.setenv("PGPASSWORD", "a")
    assert logs.hide_passwords("a chunk") == "a chunk"


def test_arguments_and_tracebacks_of_a_record_hide_them_too(capsys: Console) -> None:
    with logging_to(secrets=(SECRET,)):
        worker_says("connecting to %s", f"postgresql://ann:{SECRET}@db/shop")
        try:
            raise ValueError(SECRET)
        except ValueError:
            logging.getLogger("inventory_migration").exception("failed with %r", SECRET)
    said = capsys.readouterr().err
    assert SECRET not in said
    assert "ValueError: ***" in said
    assert "postgresql://ann:***@db/shop" in said


def test_a_file_that_cannot_be_written_is_the_callers_to_explain(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        logs.Logging(file=tmp_path / "none" / "run.log")
