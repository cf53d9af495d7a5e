"""What the documentation names exists, and what exists is documented."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml
from pydantic import BaseModel

import inventory_migration
from inventory_migration import errors
from inventory_migration.cli import app
from inventory_migration.engine.measures import MEASURES
from inventory_migration.mapping import (
    AllocationJson,
    Link,
    LocationColumn,
    StockLevel,
    StockMapping,
    entries,
    parse_mapping,
)
from inventory_migration_tests.story import STORY

pytestmark = pytest.mark.one_server

PROJECT = Path(__file__).resolve().parent.parent
PAGES = [PROJECT / "README.md", PROJECT / "SECURITY.md", *sorted((PROJECT / "docs").rglob("*.md"))]
README = PAGES[0].read_text()
MAPPING = (PROJECT / "docs" / "mapping.md").read_text()
ENGINE = PROJECT / "inventory_migration" / "engine"
PROGRAM = typer.main.get_command(app)


def commands(found: Any = PROGRAM, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command by the words that call it."""
    for name, command in getattr(found, "commands", {}).items():
        words = f"{path} {name}".strip()
        if hasattr(command, "commands"):
            yield from commands(command, words)
        else:
            yield words, command


COMMANDS = dict(commands())
GROUPS = {name.partition(" ")[0] for name in COMMANDS if " " in name}


def options(command: Any) -> set[str]:
    """Return the options of a command, and of the program itself."""
    named = [*command.params, *PROGRAM.params]
    return {option for parameter in named for option in parameter.opts} | {"--help"}


def called(text: str) -> Iterator[list[str]]:
    """Yield the words behind the program's name, wherever a page shows a call of it."""
    for block in re.findall(
        r"^(?: {4}|```\w*\n)((?!\|).*inventory-migration .*)$", text, flags=re.M
    ):
        yield shlex.split(block.partition("inventory-migration ")[2], comments=True)
    for inline in re.findall(r"`inventory-migration ([^`]+)`", text):
        yield shlex.split(inline)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README + MAPPING, flags=re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_call_that_is_shown_can_be_made(page: Path) -> None:
    calls = list(called(page.read_text()))
    assert calls or page.name != "README.md"
    for words in calls:
        if words[0].startswith("-"):
            assert words[0] in options(PROGRAM), words
            continue
        name = " ".join(words[:2]) if words[0] in GROUPS else words[0]
        assert name in COMMANDS, words
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= options(COMMANDS[name]), words


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its head."""
    section = README.partition(f"{title}\n")[2].partition("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_table_of_commands_has_all_of_them_with_options_that_they_have() -> None:
    named: dict[str, set[str]] = {}
    for what, said in rows("### Commands"):
        given = set(re.findall(r"--[a-z-]+", said))
        for call in re.findall(r"`([^`]+)`", what):
            words = [word for word in call.split() if word.islower()]
            named[" ".join(words)] = given
    assert named.keys() == COMMANDS.keys()
    for name, given in named.items():
        known = options(COMMANDS["db reset" if name.startswith("db ") else name])
        assert given <= known, name


def test_every_option_is_named_somewhere() -> None:
    exist = {
        option
        for command in COMMANDS.values()
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--")
    }
    assert exist - set(re.findall(r"--[a-z-]+", README)) == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_says_what_it_does(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert all(getattr(parameter, "help", None) for parameter in command.params)
    assert name.startswith("db ") or "For example: inventory-migration" in command.epilog


def keys_of(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def test_the_reference_of_the_mapping_is_a_mapping_and_has_every_key() -> None:
    text = next(block for block in blocks("yaml") if "company:" in block)
    assert parse_mapping(text, "mapping.md").name == "stock_items"
    parts: dict[str, type[BaseModel]] = {
        name: field.annotation
        for name, field in StockMapping.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    written = yaml.safe_load(text)
    assert written.keys() == keys_of(StockMapping)
    own = [name for name, rule in written["rules"].items() if isinstance(rule, dict)]
    assert [written["rules"].pop(name)["do"] for name in own] == ["quarantine"]
    for name, model in parts.items():
        assert written[name].keys() == keys_of(model), name
    assert written["target"].keys() == keys_of(LocationColumn)
    for name in keys_of(AllocationJson) - keys_of(LocationColumn):
        assert f"`{name}: " in text


def test_the_reference_of_levels_and_links_fits_the_mapping_and_has_every_key() -> None:
    whole = yaml.safe_load(next(block for block in blocks("yaml") if "company:" in block))
    target = next(block for block in blocks("yaml") if "shape: stock_level" in block)
    links = next(block for block in blocks("yaml") if "for_each:" in block)
    whole["target"] = yaml.safe_load(target)["target"]
    whole["locations"] |= yaml.safe_load(links)["locations"]
    found = parse_mapping(yaml.safe_dump(whole), "mapping.md")
    assert found.target.shape == "stock_level"
    assert whole["target"].keys() == keys_of(StockLevel)
    assert whole["locations"]["links"][0].keys() == keys_of(Link)


def test_what_the_page_calls_the_usual_entry_is_what_a_mapping_without_one_writes() -> None:
    page = (PROJECT / "docs" / "json-templates.md").read_text()
    target = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, flags=re.S)[0])["target"]
    shown = AllocationJson.model_validate(target)
    assert target.keys() == keys_of(AllocationJson) - {"add"}
    assert shown.entry == AllocationJson(shape=shown.shape, column=shown.column).fields
    values = set(re.findall(r"^\| `\{from: (\w+)\}`", page, flags=re.M))
    assert values == set(get_args(entries.Meaning))


def test_the_configuration_of_a_job_has_options_that_it_has() -> None:
    from inventory_migration.defs.options import RunOptions

    text = next(block for block in blocks("yaml") if "explicit:" in block)
    assert yaml.safe_load(text).keys() < RunOptions.model_fields.keys()


def test_the_functions_that_are_shown_are_public() -> None:
    for block in blocks("python"):
        compile(block, "README.md", "exec")
        imported = re.findall(r"^    (\w+),$", block, flags=re.M)
        assert imported
        assert set(imported) <= set(inventory_migration.__all__)


def test_the_targets_of_make_that_are_named_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (PROJECT / "Makefile").read_text(), flags=re.M))
    named = set(re.findall(r"(?:^ {4}|`)make (\w+)", README, flags=re.M))
    assert {"migrate", "test", "ui"} <= named <= targets


def test_every_exit_code_is_explained() -> None:
    explained = {int(code) for code, _ in rows("### Exit codes")}
    conditions = [
        found
        for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, errors.MigrationError)
    ]
    assert len(conditions) > 20
    assert {0, *(condition.exit_code for condition in conditions)} <= explained
    assert {"2 usage", "3 a gate", "4 paused", "5 rolled"} <= set(
        re.findall(r"\d [a-z]+(?: gate)?", PROGRAM.epilog)
    )


def headings(page: Path) -> set[str]:
    """The names under which the headings of a page can be linked to."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        path, _, heading = link.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), link
        assert not heading or heading in headings(found), link


def test_every_measure_of_health_is_explained() -> None:
    page = (PROJECT / "docs" / "reliability.md").read_text()
    table = page.partition("## Health\n")[2].partition("\n## ")[0]
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| ([^|]+) \|", table, flags=re.M)))
    assert named == [measure.name for measure in MEASURES]


def test_what_the_page_on_security_names_exists() -> None:
    page = (PROJECT / "SECURITY.md").read_text()
    looking = re.search(r"^((?:`[\w ]+`(?:,\s| and )?)+) begin no\s+transaction", page, flags=re.M)
    assert looking
    assert set(re.findall(r"`([^`]+)`", looking[1])) == {
        "init",
        *(step.command for step in STORY if step.reads and step.words != ("--dry-run",)),
    }
    assert "it is with `rollback --dry-run`." in page
    definer = {path.name for path in ENGINE.rglob("*.py") if "SECURITY DEFINER" in path.read_text()}
    assert definer == {"guard.py", "sync.py"}
    for name in re.findall(r"`(enforce_\w+|append_\w+)`", page):
        assert any(f".{name}()" in path.read_text() for path in ENGINE.rglob("*.py")), name
    assert "[SECURITY.md](SECURITY.md)" in README
