"""Every command as a worker of least rights calls it, on plain and on hostile names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from inventory_migration.database import quoted
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.mapping import StockMapping, load_mapping
from inventory_migration_tests import hostile, stage, story, test_shapes
from inventory_migration_tests.commands import im
from inventory_migration_tests.roles import WorkedDatabase, worked_database
from inventory_migration_tests.test_docs import COMMANDS
from inventory_migration_tests.test_shapes import TARGETS

pytestmark = pytest.mark.one_server

SHAPES = [*TARGETS, "levels in step"]


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVENTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def database(server: EmbeddedServer) -> Iterator[WorkedDatabase]:
    """An empty database with an owner of the tables and a worker."""
    with worked_database(server) as made:
        yield made


def plain(database: WorkedDatabase, shape: str) -> dict[str, Any]:
    """The shop, with a mapping of one shape."""
    stage.shop(database, items=12)
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id = 5")
    step = shape == "levels in step"
    target = test_shapes.target("stock_level" if step else shape, "int")
    return {
        **stage.DEFINITION,
        "target": {**target, **({"sync": True} if step else {})},
        "phases": [{"name": "pilot", "companies": 1}, {"name": "rest"}],
    }


def written(folder: Path, definition: dict[str, Any]) -> tuple[StockMapping, Path]:
    """A mapping file, and what it says."""
    definition = {**definition, "acceptance": story.ACCEPTANCE}
    path = folder / f"{definition['name']}.yaml"
    path.write_text(yaml.safe_dump(definition, sort_keys=False), encoding="utf-8")
    return load_mapping(path), path


def handed_over(
    database: WorkedDatabase, mapping: StockMapping, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Execute with psql what `grants` prints: the owner's steps as the owner, the rest as a DBA."""
    database.printed(mapping)
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    script = im("grants", "--role", database.worker, "--mapping", path).stdout
    owners, _, rest = script.partition("\n-- 2. ")
    database.psql(f"SET ROLE {database.owner};\n{owners}")
    stop = "-- And only to close under a write stop, which locks these tables:\n"
    rest, _, locks = f"-- {rest}".partition(stop)
    locks, _, _ = locks.partition("\n-- And only ")
    database.psql(rest)
    if mapping.needs_write_stop:
        database.psql(re.sub("^-- ", "", locks, flags=re.MULTILINE))
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.worker_url)


def stock(database: WorkedDatabase) -> str:
    """All tables of the application, row by row."""
    rows = database.psql("""
        SELECT format('SELECT %L, to_jsonb(t)::text FROM %I.%I t ORDER BY 2',
                      relname, nspname, relname)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND n.nspname !~ '^(pg_|information_schema|inventory_migration)'
        ORDER BY c.relname \\gexec
    """)
    # What a rollback leaves: added columns, and tables without a row.
    return re.sub(r', "[^"]*": null', "", rows)


def test_every_command_has_its_place_in_the_story() -> None:
    assert {step.command for step in story.STORY} | story.APART == COMMANDS.keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "shape"), [("plain", "location_column"), *(("hostile", shape) for shape in SHAPES)]
)
def test_every_command_works_for_a_worker_that_owns_nothing(
    database: WorkedDatabase,
    names: str,
    shape: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if names == "plain":
        definition, key = plain(database, shape), "3"
    else:
        hostile.build(database)
        definition, key = hostile.definition(shape), hostile.SPELLS[4]
    mapping, path = written(tmp_path, definition)
    handed_over(database, mapping, path, monkeypatch)
    before = stock(database)
    said = {}
    for step, result in story.tell(database, mapping, path, key):
        said[step.command, *step.words] = result
        script = step.command == "grants" or "--sql" in step.words
        # Only a script for psql has names as they are; nothing else obeys or reorders them.
        shown = result.stderr + ("" if script else result.stdout)
        assert not {"\x1b", "\u202e", "\u2066", "\r"} & set(shown), step
        assert "Traceback" not in result.stderr
        if step.command == "rollback" and not step.reads:
            assert "0 records kept" in result.stdout
            assert stock(database) == before
    assert "every record is accounted for" in said["validate",].stdout


@pytest.mark.slow
def test_hostile_names_and_values_are_told_as_they_are(
    database: WorkedDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile.build(database)
    mapping, path = written(tmp_path, hostile.definition("location_column"))
    handed_over(database, mapping, path, monkeypatch)
    predicted = json.loads(im("test", "--mapping", path, "--json").stdout)
    names = {company["company_name"] for company in predicted["by_company"]}
    assert names == set(hostile.SPELLS)
    assert predicted["skipped"] == {hostile.REASON: 1}
    done = json.loads(im("run", "--mapping", path, "--json").stdout)
    assert done["records"]["migrated"] == 2 * len(hostile.SPELLS) + 2
    assert done["quarantined"] == {"company_missing": 1, "quantity_not_a_number": 1}
    created = database.psql(
        f"SELECT DISTINCT encode(convert_to({hostile.column('code')}, 'UTF8'), 'hex') "
        f"FROM {quoted(hostile.SCHEMA, hostile.LOCATIONS)}"
    )
    assert bytes.fromhex(created).decode() == hostile.CREATED["code"]
    report = Path(done["report"]["markdown"]).read_text()
    assert "\\<script\\>" in report
    assert "<script>" not in report
    for spell in hostile.SPELLS:
        told = json.loads(im("show", spell, "--mapping", path, "--json").stdout)
        assert (told["key"], told["now"]["company"], told["now"]["item"]) == (spell,) * 3
        assert told["history"][0]["outcome"] == "migrated"


@pytest.mark.slow
def test_a_hostile_text_that_does_not_convert_is_told_as_it_is(
    database: WorkedDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile.build(database)
    mapping, path = written(tmp_path, hostile.definition("stock_level"))
    handed_over(database, mapping, path, monkeypatch)
    done = json.loads(im("run", "--write-stop", "--mapping", path, "--json").stdout)
    assert done["quarantined"] == {
        "company_missing": 1, "quantity_not_a_number": 1, "value_unconvertible": 1
    }  # fmt: skip
    told = {
        record["key"]: record["reason"]
        for record in json.loads(im("quarantine", "list", "--mapping", path, "--json").stdout)[
            "records"
        ]
    }
    raw = "".join(hostile.SPELLS)
    assert told["no time"].endswith(f'{hostile.NAMES["counted"]} "{raw[:80]}..."')
    assert told["no number"].endswith(f'quantity "{hostile.SPELLS[2]}"')
    assert hostile.NAMES["counted"] not in Path(done["report"]["markdown"]).read_text()
    levels = quoted(hostile.SCHEMA, hostile.LEVELS)
    at = f"{hostile.column('counted')} AT TIME ZONE 'UTC'"
    assert database.psql(
        f"SELECT {at} FROM {levels} WHERE {hostile.column('counted')} IS NOT NULL"
    ) == ("2024-02-29 10:30:00")
