"""A mistake in calling a command is one sentence, exit code 2, and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inventory_migration import watching
from inventory_migration.embedded import EmbeddedServer
from inventory_migration_tests import stage
from inventory_migration_tests.commands import (
    PROGRAM,
    PROJECT,
    answer,
    im,
    mapping_file,
    sentence,
)
from inventory_migration_tests.conftest import SECRET, Database

pytestmark = pytest.mark.one_server

NO_PORT = "postgresql://ann:Sup3rS3cret@127.0.0.1:1/shop"


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVENTORY_HOME", str(tmp_path / "home"))


@pytest.fixture
def shop(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    stage.shop(database)
    return database


@pytest.mark.usefixtures("shop")
class TestOfAMapping:
    """What is wrong with a mapping, or with the choice of one."""

    @pytest.mark.parametrize("verb", ["test", "run", "validate", "rollback"])
    def test_a_misspelt_column_names_the_nearest(self, tmp_path: Path, verb: str) -> None:
        source = {**stage.DEFINITION["source"], "quantity": "quantitty"}
        told = im(verb, "--mapping", mapping_file(tmp_path, source=source), code=2)
        assert sentence(told) == (
            "Error: shop: source.quantity: table stock_items has no column quantitty; "
            "did you mean quantity?"
        )

    def test_all_problems_are_told_at_once(self, tmp_path: Path) -> None:
        source = {**stage.DEFINITION["source"], "quantity": "quantitty", "item": "skuu"}
        told = im("run", "--mapping", mapping_file(tmp_path, source=source), code=2)
        assert "no column quantitty" in told.stderr
        assert "no column skuu" in told.stderr

    def test_malformed_yaml_is_named_with_file_and_line(self, tmp_path: Path) -> None:
        path = tmp_path / "broken.yaml"
        path.write_text("name: shop\ncompany: {table: companies\nsource: x\n")
        assert sentence(im("run", "--mapping", path, code=2)).startswith(
            f"Error: {path}, line 3: no YAML: "
        )

    def test_an_unknown_key_is_named_with_file_and_line(self, tmp_path: Path) -> None:
        path = mapping_file(tmp_path, chunk={"row": 5})
        told = sentence(im("test", "--mapping", path, code=2))
        assert f"{path}, line " in told
        assert told.endswith("chunk.row: unknown key")

    def test_an_unknown_mapping_is_told_with_those_that_are_known(self) -> None:
        for verb in ("test", "run", "status", "pause", "report"):
            told = sentence(im(verb, "shopp", code=2))
            assert told.startswith("Error: no mapping shopp: known mappings: ")
            assert "stock_items" in told

    def test_a_mapping_has_to_be_chosen(self, tmp_path: Path) -> None:
        assert "say which mapping (" in sentence(im("run", code=2))
        other = mapping_file(tmp_path, name="other")
        both = ["--mapping", mapping_file(tmp_path), "--mapping", other]
        assert "say which mapping (shop, other)" in sentence(im("test", *both, code=2))
        assert "mapping other" not in im("test", "shop", *both).stdout
        assert "two of the mappings given are called other" in sentence(
            im("test", "--mapping", other, "--mapping", other, code=2)
        )

    def test_a_phase_that_does_not_exist_is_refused_at_once(self, tmp_path: Path) -> None:
        path = mapping_file(tmp_path)
        told = sentence(im("run", "--mapping", path, "--stop-after", "pilott", code=2))
        assert told == "Error: shop: there is no phase pilott; its phases are rest"

    def test_what_was_never_migrated_has_no_report_and_nothing_to_resume(
        self, tmp_path: Path
    ) -> None:
        for verb in ("report", "resume"):
            told = sentence(im(verb, "--mapping", mapping_file(tmp_path), code=2))
            assert told.startswith("Error: nothing was ever migrated with shop")
        assert "Nothing to do" in im("rollback", "--mapping", mapping_file(tmp_path)).stdout

    def test_a_record_that_nobody_knows(self, tmp_path: Path) -> None:
        path = mapping_file(tmp_path)
        told = sentence(im("show", "4711", "--mapping", path, code=2))
        assert told.startswith("Error: shop: no stock record with key 4711;")
        assert "would make it migrated" in im("show", "shop", 7, "--mapping", path).stdout
        assert "not 3 words" in sentence(im("show", "shop", 1, 2, "--mapping", path, code=2))

    def test_a_migration_that_cannot_be_rolled_back(self, shop: Database, tmp_path: Path) -> None:
        mapping = ["--mapping", mapping_file(tmp_path)]
        stage.migrate(shop)
        told = sentence(im("rollback", "--id", 9, "--yes", *mapping, code=2))
        assert told.startswith("Error: shop has no migration 9;")
        im("rollback", "--id", 1, "--yes", *mapping)
        told = sentence(im("rollback", "--id", 1, "--yes", *mapping, code=4))
        assert told.startswith("Stopped: migration 1 of shop is rolled back and cannot be undone")
        told = sentence(im("resume", *mapping, code=4))
        assert "go on with 'inventory-migration run --mapping " in told


class TestOfADatabase:
    """What is wrong with a connection; no sentence and no object has the password."""

    def test_a_server_that_is_down(self) -> None:
        told = im("status", "--database-url", NO_PORT, "--json", code=2)
        assert sentence(told).startswith(
            "Error: Can not reach the database (host 127.0.0.1:1, database shop): "
        )
        found = json.loads(told.stdout)["error"]
        assert (found["kind"], found["retryable"]) == ("DatabaseUnreachable", True)
        assert "Sup3rS3cret" not in told.stdout + told.stderr

    def test_a_wrong_password(self, guarded: EmbeddedServer, tmp_path: Path) -> None:
        wrong = SECRET[::-1]
        url = f"host={guarded.socket_folder} user=ann dbname=inventory password='{wrong}'"
        log = tmp_path / "log"
        told = im("run", "stock_items", "--database-url", url, "--log-file", log, code=2)
        assert 'refuses role "ann"' in sentence(told)
        assert told.stderr.startswith("Database: socket ")
        assert wrong not in told.stdout + told.stderr + log.read_text()

    def test_a_privilege_that_is_missing(self, guarded: EmbeddedServer) -> None:
        url = f"host={guarded.socket_folder} user=ann dbname=closed password='{SECRET}'"
        told = sentence(im("status", "--database-url", url, code=2))
        assert told.startswith('Error: Role "ann" lacks a privilege')
        assert "'inventory-migration grants'" in told

    def test_a_statement_that_the_server_refuses_halfway(
        self, shop: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(target: Any) -> None:
            with target.reader.connect() as connection:
                connection.exec_driver_sql("SELECT 1 / 0")

        monkeypatch.setattr(watching, "glance", refused)
        told = im("status", "--database-url", shop.url, code=1)
        assert "refused a statement: division by zero (22012)" in sentence(told)

    def test_a_url_of_another_kind(self) -> None:
        told = im("status", "--database-url", "mysql://ann:Sup3rS3cret@h/x", code=2)
        assert '"mysql" is not PostgreSQL' in sentence(told)
        assert "Sup3rS3cret" not in told.stderr
        assert "postgresql://user:password@host" in told.stderr


class TestOfTheCall:
    """What is wrong with words and options."""

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["rum"], "No such command 'rum'"),
            (["run", "a", "b"], "unexpected extra argument"),
            (["run", "--workers", "many"], "Invalid value for '--workers'"),
            (["run", "--workers", "0"], "Invalid value for '--workers'"),
            (["run", "--jsn"], "No such option"),
            (["run", "--json=yes"], "'--json' does not take a value"),
            (["run", "--log-format", "xml"], "Invalid value for '--log-format'"),
            (["show"], "Missing argument"),
            (["db", "restart"], "No such command 'restart'"),
        ],
    )
    def test_a_mistake_is_one_sentence(self, words: list[str], said: str) -> None:
        told = im(*words, code=2)
        assert told.stdout == ""
        assert said in sentence(told)
        assert "--help' says what there is" in sentence(told)

    def test_with_json_it_is_an_object_too(self) -> None:
        found = json.loads(im("run", "--jsn", "--json", code=2).stdout)
        assert found["error"]["kind"] == "UsageError"
        assert "--jsn" in found["error"]["message"]

    def test_files_that_cannot_be_read_or_written(self, tmp_path: Path) -> None:
        missing = tmp_path / "none" / "x"
        told = sentence(im("status", "--env-file", missing, code=2))
        assert told == f"Error: {missing}: can not be read: no such file or directory."
        told = sentence(im("status", "--log-file", missing, code=2))
        assert told.startswith(f"Error: the log file {missing} can not be written: ")

    def test_help_and_version_are_answers(self) -> None:
        assert im("--version").stdout == "inventory-migration 0.1.0\n"
        for words in (["--help"], [], ["run", "--help"], ["db", "--help"]):
            told = im(*words, code=0 if words else 2)
            assert "Usage: inventory-migration" in told.stdout

    def test_a_mistake_of_the_program_is_logged_and_told(
        self, shop: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(_target: Any) -> None:
            raise KeyError("surprise")

        monkeypatch.setattr(watching, "glance", broken)
        told = im("status", "--json", code=1)
        assert 'raise KeyError("surprise")' in told.stderr
        assert told.stderr.splitlines()[-1] == (
            "Error: KeyError: 'surprise'; this is a mistake of the program, please report it with "
            "the lines above"
        )
        assert json.loads(told.stdout)["error"]["kind"] == "KeyError"
        assert shop.psql("SELECT to_regnamespace('inventory_migration') IS NULL") == "t"


def test_an_env_file_says_which_database(
    shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INVENTORY_DATABASE_URL")
    # Set and taken away, so that what the command sets does not outlive the test.
    file = tmp_path / "shop.env"
    file.write_text(f"export INVENTORY_DATABASE_URL='{shop.url}'\n")
    mapping = mapping_file(tmp_path)
    for words in (["--env-file", file, "test"], ["test", "--env-file", file]):
        told = im(*words, "--mapping", mapping, "--sql")
        assert f'DATABASE "{shop.name}"' in told.stdout
        monkeypatch.delenv("INVENTORY_DATABASE_URL")


def test_the_statements_are_a_script_that_the_server_takes(shop: Database, tmp_path: Path) -> None:
    role = f"dba_{os.getpid()}"
    told = im("test", "--sql", "--role", role, "--mapping", mapping_file(tmp_path))
    assert told.stderr == ""
    shop.psql(told.stdout)
    assert shop.psql("SELECT to_regclass('locations') IS NOT NULL") == "t"
    shop.psql(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role};")


def test_the_demo_is_loaded_where_asked_for_and_by_default_nowhere_else(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    told = answer("demo", "--if-empty")
    assert told["created"] is False
    assert "one of your own" in told["why"]
    assert database.psql(tables) == "0"
    made = answer("demo", "--items", 300, "--companies", 4, "--seed", 7, "--dirty", 0.02)
    assert (made["created"], made["items"], made["companies"]) == (True, 300, 4)
    assert sum(made["defects"].values()) > 0
    told = im("demo", code=2)
    assert "--replace' drops it" in told.stderr
    told = im("demo", "--replace", "--items", 10, "--dirty", 1)
    assert "Defects planted:" in told.stdout
    assert "expected a share from 0 to 1" in sentence(im("demo", "--dirty", 2, code=2))


def test_the_embedded_server_is_started_told_about_and_deleted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The session's private one, which other tests may have started and which ends with it.
    monkeypatch.setenv("INVENTORY_HOME", str(folder / "home"))
    monkeypatch.delenv("INVENTORY_DATABASE_URL", raising=False)
    started = answer("db", "start")
    assert started["running"]
    assert answer("db", "status") == started
    assert im("db", "url").stdout == f"{started['url']}\n"
    assert answer("db", "url") == {"url": started["url"]}
    assert (
        "A demo of 3 companies" in im("demo", "--if-empty", "--companies", 3, "--items", 30).stdout
    )
    assert "was not loaded: the embedded server has companies" in im("demo", "--if-empty").stdout
    assert "No migration yet." in im("status").stdout
    monkeypatch.setenv("INVENTORY_DATABASE_URL", NO_PORT)
    assert "other commands use that database" in im("db", "status").stderr
    monkeypatch.delenv("INVENTORY_DATABASE_URL")
    assert "its data stay" in im("db", "stop").stdout
    assert answer("db", "status")["running"] is False
    assert "does not run" in im("db", "stop").stdout
    told = sentence(im("db", "reset", code=2))
    assert "this deletes the embedded server's database in " in told
    assert Path(started["folder"]).exists()
    im("db", "reset", "--yes")
    assert not (Path(started["folder"]) / "data").exists()


@pytest.mark.parametrize("words", [["--help"], ["status"], ["pause", "stock_items"],
                                   ["test", "stock_items", "--sql"]])  # fmt: skip
def test_what_answers_at_once_imports_nothing_slow(
    database: Database, words: list[str], tmp_path: Path
) -> None:
    database.psql("CREATE TABLE IF NOT EXISTS nothing ()")
    script = (
        "import sys\nfrom inventory_migration.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "slow = {'dagster', 'great_expectations', 'pandas', 'plotly'} & sys.modules.keys()\n"
        "print(sorted(slow), file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=PROJECT,
        env={
            **os.environ,
            "INVENTORY_DATABASE_URL": database.url,
            "INVENTORY_HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stderr.splitlines()[-1] == "[]"


def test_an_encoding_without_the_letters_of_a_name_ends_no_command(
    shop: Database, tmp_path: Path
) -> None:
    shop.psql("UPDATE stock_items SET sku = '倉庫 Ünal' WHERE id = 1")
    mapping = str(mapping_file(tmp_path))
    for extra in ([], ["--json"]):
        ended = subprocess.run(
            [*PROGRAM, "show", "shop", "1", "--mapping", mapping, *extra],
            cwd=PROJECT,
            env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
            capture_output=True,
            check=True,
        )
        assert ended.stdout.isascii()


def test_the_next_command_is_spelled_as_a_mapping_of_ones_own_needs_it(
    shop: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "my maps\\1"
    folder.mkdir()
    path = mapping_file(folder)
    stage.migrate(shop)
    told = im("report", "--mapping", path, "--summary")
    assert f"inventory-migration rollback --mapping '{path}'\n" in told.stdout
    assert "Migration 1 of shop is verified" in told.stdout
    im("rollback", "--mapping", path, "--yes")
    refused = sentence(im("resume", "--mapping", path, code=4))
    assert refused.endswith(f"go on with 'inventory-migration run --mapping '{path}''")
