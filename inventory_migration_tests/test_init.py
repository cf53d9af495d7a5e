"""The command `init`: where the proposal goes, what is said beside it, how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from inventory_migration import verbs
from inventory_migration.mapping import load_mapping, parse_mapping
from inventory_migration_tests import hostile, stage
from inventory_migration_tests.commands import answer, im, sentence
from inventory_migration_tests.conftest import SECRET, Database
from inventory_migration_tests.test_read_only import violations

pytestmark = pytest.mark.one_server

NO_OWNER = "CREATE TABLE stock (id int PRIMARY KEY, quantity int)"


@pytest.fixture(autouse=True)
def _url(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)


def test_the_proposal_is_all_of_stdout_and_a_mapping(database: Database) -> None:
    stage.shop(database)
    said = im("init")
    assert said.stderr == ""
    mapping = parse_mapping(said.stdout, "stdout")
    assert verbs.test(verbs.open_target(database.url), mapping)["gate"]["passed"]


def test_a_file_is_written_once_and_never_over(database: Database, tmp_path: Path) -> None:
    stage.shop(database)
    path = tmp_path / "my shop.yaml"
    said = im("init", "--out", path)
    assert said.stdout.splitlines()[0].startswith(f"{path}: a mapping for the stock records of ")
    assert f"'inventory-migration test --mapping '{path}''" in said.stdout
    assert load_mapping(path).source.table.name == "stock_items"
    path.write_text("mine")
    refused = im("init", "--out", path, code=2)
    assert sentence(refused).startswith(f"Error: {path} is there already")
    assert path.read_text() == "mine"


def test_a_file_that_comes_meanwhile_is_not_written_over(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)
    path = tmp_path / "shop.yaml"
    path.write_text("mine")
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert "can not be written" in sentence(im("init", "--out", path, code=2))
    assert path.read_text() == "mine"


@pytest.mark.parametrize("where", ["stdout", "file", "json"])
def test_what_is_open_ends_with_3_and_one_sentence(
    database: Database, where: str, tmp_path: Path
) -> None:
    database.psql(NO_OWNER)
    path = tmp_path / "stock.yaml"
    if where == "json":
        told = answer("init", code=3)
        assert told["error"]["kind"] == "MappingUndecided"
        assert [one["key"] for one in told["undecided"]] == ["company", "source.company"]
        assert parse_mapping(told["yaml"], "json").name == told["mapping"] == "stock"
        return
    said = im("init", *(["--out", path] if where == "file" else []), code=3)
    told = sentence(said)
    assert told.startswith("Refused: stock: not decided: company: nothing that stock refers to")
    assert told.endswith(f"--mapping {path if where == 'file' else 'FILE'}'")
    text = path.read_text() if where == "file" else said.stdout
    assert "# UNDECIDED: " in text
    assert "Next:" not in said.stdout


def test_another_table_is_chosen_by_its_name(database: Database) -> None:
    stage.shop(database)
    database.psql("CREATE TABLE batches (id int PRIMARY KEY, company_id int, remaining int)")
    told = answer("init")
    assert [one["table"] for one in told["candidates"]] == ["stock_items", "batches"]
    assert answer("init", "--table", "batches")["table"] == "batches"


def test_what_to_look_at_is_said_beside_it(database: Database) -> None:
    stage.shop(database)
    database.psql("ALTER TABLE stock_items ADD backorderable boolean NOT NULL DEFAULT true")
    said = im("init")
    assert sentence(said).startswith("Look at source: backorderable of stock_items")
    assert parse_mapping(said.stdout, "stdout").name == "stock_items"
    assert len(answer("init")["notes"]) == 1


def test_it_begins_no_transaction_that_could_write(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)
    monkeypatch.setenv("PGOPTIONS", "-c log_statement=all")
    log = database.server.log
    begin = log.stat().st_size
    im("init")
    with log.open("rb") as file:
        file.seek(begin)
        said = file.read().decode(errors="replace")
    assert "pg_get_keywords" in said
    assert list(violations(said)) == []


def test_a_terminal_gets_nothing_that_it_might_obey(database: Database) -> None:
    hostile.build(database)
    for words in (["--table", hostile.STOCK], ["--table", "no\x1bne"], ["--json"]):
        said = im("init", *words, code=3 if words[1:2] == [hostile.STOCK] else 2)
        assert not {"\x1b", "\u202e", "\u2066", "\r"} & set(said.stdout + said.stderr), words


def test_a_password_does_not_show(database: Database, tmp_path: Path) -> None:
    stage.shop(database)
    url = database.url.replace("postgres@", f"postgres:{SECRET.replace(':', '%3A')}@")
    path = tmp_path / "shop.yaml"
    said = im("init", "--database-url", url, "--out", path)
    database.psql("DROP TABLE stock_items")
    refused = im("init", "--database-url", url, code=2)
    for text in (said.stdout, said.stderr, refused.stderr, path.read_text()):
        assert SECRET not in text
        assert SECRET.replace(":", "%3A") not in text
