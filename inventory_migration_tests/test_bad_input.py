"""Bad input of every kind: the exit code, one clear sentence for each problem, nothing changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from inventory_migration.embedded import EmbeddedServer
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import bad_calls, bad_mappings, stage
from inventory_migration_tests.bad_input import Case
from inventory_migration_tests.commands import im
from inventory_migration_tests.conftest import Database, made_database
from inventory_migration_tests.dagster_runs import dump
from inventory_migration_tests.roles import WorkedDatabase, worked_database

pytestmark = pytest.mark.one_server

CASES = [
    *bad_mappings.FILES,
    *bad_mappings.MAPPINGS,
    *bad_mappings.FITS,
    *bad_calls.DATA,
    *bad_calls.ENVIRONMENT,
    *bad_calls.LINES,
]


@pytest.fixture(scope="module")
def untouched(server: EmbeddedServer) -> Iterator[tuple[Database, str]]:
    """The shop for all cases that need nothing else of it, since none of them changes it."""
    with made_database(server) as database:
        stage.shop(database)
        yield database, dump(database, schema=None)


@pytest.fixture
def shop(
    server: EmbeddedServer, untouched: tuple[Database, str], case: Case
) -> Iterator[tuple[Database, str]]:
    """The shop as a case has it, and a dump of it."""
    if case.lacking:
        with worked_database(server) as worked:
            stage.shop(worked)
            worked.hand_over(StockMapping.model_validate(case.mapping()))
            worked.psql(case.sql)
            for grant in case.lacking:
                worked.psql(f"REVOKE {grant} FROM {worked.worker}")
            yield worked, dump(worked, schema=None)
    elif case.sql:
        with made_database(server) as own:
            stage.shop(own)
            own.psql(case.sql)
            yield own, dump(own, schema=None)
    else:
        yield untouched


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_told_in_one_sentence_a_problem_and_changes_nothing(
    case: Case,
    shop: tuple[Database, str],
    server: EmbeddedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database, before = shop
    home, path = tmp_path / "home", tmp_path / "shop.yaml"
    home.mkdir()
    path.write_bytes(content(case))
    for name, found in case.files.items():
        (home / name).write_bytes(found if isinstance(found, bytes) else found.encode())
    url = database.worker_url if isinstance(database, WorkedDatabase) else database.url
    urls = {
        "NO DATABASE": url.replace(f"/{database.name}?", "/nowhere?"),
        "NO ROLE": url.replace("postgres@", "nobody_knows@"),
    }
    monkeypatch.setenv("INVENTORY_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("INVENTORY_DATABASE_URL", url)
    for name, value in case.environment.items():
        monkeypatch.setenv(name, urls.get(value, value.replace("HOME", str(home))))
    words = [w.replace("HOME", str(home)).replace("MAPPING", str(path)) for w in case.words]

    result = im(*words, code=case.code)

    places = {"HOME": str(home), "MAPPING": str(path), "DB": database.name}
    places["SOCKET"] = str(server.socket_folder)
    if isinstance(database, WorkedDatabase):
        places["WORKER"] = database.worker
    assert told(result.stderr) == [pattern(line, places) for line in case.says]
    if case.says:
        assert result.stderr.splitlines()[-len(case.says)].startswith("Error: ")
    assert case.answer in result.stdout
    assert bool(case.answer) == bool(result.stdout)
    assert dump(database, schema=None) == before


def content(case: Case) -> bytes:
    """The mapping file of a case."""
    if isinstance(case.file, bytes):
        return case.file
    text = case.file
    if text is None:
        text = yaml.safe_dump(case.mapping(), sort_keys=False)
    return text.encode()


class Pattern(str):
    """A line in which `…` stands for what differs from run to run."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        parts = [re.escape(part) for part in self.split("…")]
        return re.fullmatch(".+".join(parts), str(other)) is not None

    __hash__ = str.__hash__


def pattern(line: str, places: dict[str, str]) -> Pattern:
    for name, place in places.items():
        line = re.sub(rf"\b{name}\b", lambda _, place=place: place, line)
    return Pattern(line)


def told(stderr: str) -> list[str]:
    """The sentences on stderr: without the host, and what a log tells while a command works."""
    lines = [
        line for line in stderr.splitlines() if not re.match(r"Database: |20\d\d-\d\d-\d\d ", line)
    ]
    return [lines[0].removeprefix("Error: "), *lines[1:]] if lines else []


def test_there_are_as_many_cases_as_are_promised_and_each_has_a_name_of_its_own() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 60
    assert {name.partition(":")[0] for name in names} == {
        "mapping",
        "mapping and database",
        "data",
        "environment",
        "command line",
    }
    assert all(case.says or case.answer for case in CASES)
