"""The pages of reference, made from what they are about: `python -m docs.reference` writes them.

A test holds the pages in `docs/reference/` against what is made here, so that they are read as they
are on any page, and are never behind the code. What explains, and what advises, is written by hand.
"""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel, RootModel
from pydantic.types import Discriminator

from inventory_migration import errors
from inventory_migration.cli import app
from inventory_migration.defs import metadata as shown
from inventory_migration.engine import measures
from inventory_migration.engine.ledger import tables
from inventory_migration.mapping import StockMapping
from inventory_migration.mapping.parts import Action
from inventory_migration.metrics import catalogue

FOLDER = Path(__file__).resolve().parent / "reference"
PROJECT = FOLDER.parent.parent
NOTE = "<!-- Made by `make reference` from the code: change it there. -->\n\n"

_SIMPLE = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def pages() -> dict[str, str]:
    """Every page by its name in the folder."""
    made = {
        "mapping.md": mapping(),
        "commands.md": commands(),
        "conditions.md": conditions(),
        "ledger.md": ledger(),
        "expectations.md": expectations(),
        "metrics.md": metrics(),
    }
    return {name: NOTE + "\n".join(lines).rstrip() + "\n" for name, lines in made.items()}


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def mapping() -> Iterator[str]:
    """Every key of a mapping file: a table for each part of it."""
    yield from _heading(
        "Every key of a mapping",
        "What each part of a mapping file holds. How they go together is told, with examples, in "
        "[the mapping file](../mapping.md). A key that is not listed here is refused, with the "
        "nearest one that is.",
    )
    for model in _models():
        yield from (f"## {model.__name__}", "", _prose(model), "")
        if issubclass(model, RootModel):
            yield from (f"It takes {_takes(model.model_fields['root'].annotation)}.", "")
        else:
            yield from _table(["key", "what it takes", "usually", "meaning"], _keys(model))


def commands() -> Iterator[str]:
    """Every command, its arguments and its options."""
    program = typer.main.get_command(app)
    yield from _heading(
        "Commands",
        "Every command of `inventory-migration`, with what `--help` says of it. All of them take "
        "`--json`, `--env-file`, `--database-url`, `--log-format` and `--log-file`, and "
        "`--mapping` where they are about a mapping.",
    )
    shared = {"json_", "env_file", "database_url", "log_format", "log_file"}
    for name, command in _commands(program):
        yield f"## {name}"
        yield ""
        yield " ".join(str(command.help).split())
        yield ""
        if command.epilog:
            example = str(command.epilog).partition("For example: ")[2]
            if example:
                yield from (f"    {example}", "")
        rows = [
            [_code(_spelled(parameter)), str(parameter.help)]
            for parameter in command.params
            if parameter.name not in shared
        ]
        if rows:
            yield from _table(["argument or option", "what it does"], rows)


def conditions() -> Iterator[str]:
    """Every condition that ends a command, by the exit code that it ends with."""
    yield from _heading(
        "Exit codes and conditions",
        "What ends a command with another code than 0. The name of the condition is "
        "`error.kind` of `--json`, and the class in `inventory_migration.errors`. *Retryable* are "
        "those that may pass by themselves.",
    )
    found = [
        condition
        for condition in vars(errors).values()
        if isinstance(condition, type)
        and issubclass(condition, errors.MigrationError)
        and condition is not errors.MigrationError
    ]
    for code in sorted({condition.exit_code for condition in found}):
        yield f"## Exit code {code}"
        yield ""
        rows = [
            [_code(c.__name__), _first(c), "yes" if c.retryable else ""]
            for c in sorted(found, key=lambda c: c.__name__)
            if c.exit_code == code
        ]
        yield from _table(["condition", "when", "retryable"], rows)


def ledger() -> Iterator[str]:
    """Every table of the ledger, with its columns."""
    yield from _heading(
        "The ledger's tables",
        f"What the tool keeps in the migrated database, in the schema `{tables.SCHEMA}`. Beside "
        "these there is a table `snapshot_<migration id>` for each migration, a row for each "
        "stock record as it stood, and a view `<mapping>_record_status` for each mapping, which "
        "says of any key what became of it. States change by the table `transition`, which a "
        "trigger enforces; `event` is only ever added to.",
    )
    for table in sorted(tables.metadata.tables.values(), key=lambda table: table.name):
        yield f"## {table.name}"
        yield ""
        yield f"{table.comment}"
        yield ""
        yield from _table(
            ["column", "type", ""],
            [
                [_code(column.name), str(column.type).lower().replace("datetime", "timestamptz"),
                 "key" if column.primary_key else "" if column.nullable else "not null"]
                for column in table.columns
            ],
        )  # fmt: skip


def expectations() -> Iterator[str]:
    """Every expectation of every suite that ships."""
    yield from _heading(
        "Expectations",
        "What the gates ask, and with what severity. Where an expectation stands for a rule, the "
        "mapping's action decides: `fail` refuses, `quarantine` and `warn` warn.",
    )
    for path in sorted((PROJECT / "expectations").glob("*.json")):
        suite = json.loads(path.read_text(encoding="utf-8"))
        yield f"## {suite['name']}"
        yield ""
        yield _cell(suite.get("notes", ""))
        yield ""
        yield from _table(
            ["expectation", "severity", "what is expected", "why"],
            [
                [
                    _code(one["meta"]["key"]),
                    f"by rule `{one['meta']['rule']}`"
                    if "rule" in one["meta"]
                    else one.get("severity", "critical"),
                    one.get("description", ""),
                    one["meta"].get("why", ""),
                ]
                for one in suite["expectations"]
            ],
        )


def metrics() -> Iterator[str]:
    """Every figure that is measured again and again, with its unit."""
    yield from _heading(
        "Metrics",
        "Figures with a name and a unit that stay the same wherever they are shown.",
    )
    yield from ("## The server's health", "")
    yield (
        "Looked at every `health.look_seconds`; `status` shows each with its limits, and the "
        "ledger keeps the last look in `health`."
    )
    yield ""
    yield from _table(
        ["measure", "unit", "what is said when it is too much"],
        [[_code(m.name), m.unit, m.text] for m in measures.MEASURES],
    )
    yield from ("## In Prometheus", "")
    yield (
        "What `inventory-migration metrics` prints and serves, and what is pushed; how to, in "
        "[Metrics and alerts](../metrics.md). All are gauges but those that end in `_total`. Those "
        "of a migration are there for the last one of each mapping and for each that is active."
    )
    yield ""
    yield from _table(
        ["metric", "labels", "what it says"],
        [
            [_code(m.full_name), ", ".join(map(_code, m.labels)), m.meaning]
            for m in catalogue.METRICS.values()
        ],
    )
    yield from ("## In Dagster", "")
    yield (
        "Metadata of the assets' materializations and observations, which the UI plots over time; "
        "counts are numbers, and sums of units are exact."
    )
    yield ""
    yield from _table(
        ["figure", "of"],
        [[_code(name), what] for name, what in shown.FIGURES.items()],
    )


def _heading(title: str, said: str) -> Iterator[str]:
    yield from (f"# {title}", "", said, "")


def _models() -> Iterator[type[BaseModel]]:
    """The mapping's models, each once, in the order in which its keys lead to them."""
    waiting, seen = [StockMapping], set()
    while waiting:
        model = waiting.pop(0)
        if model in seen:
            continue
        seen.add(model)
        yield model
        found = [
            inner for field in model.model_fields.values() for inner in _within(field.annotation)
        ]
        extra = inspect.get_annotations(model, eval_str=True).get("__pydantic_extra__")
        waiting[:0] = [*found, *_within(extra)]


def _within(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _within(inner)


def _keys(model: type[BaseModel]) -> Iterator[list[str]]:
    meanings = attributes(model)
    for name, field in model.model_fields.items():
        takes = _discriminated(field.metadata) or _takes(field.annotation)
        if discriminator := field.discriminator:
            takes = _discriminated([discriminator]) or takes
        usual = "" if field.is_required() else _usual(field.get_default(call_default_factory=True))
        yield [
            _code(field.alias or name),
            takes,
            "**required**" if field.is_required() else usual,
            meanings[name],
        ]


def attributes(model: type[BaseModel]) -> dict[str, str]:
    """What the docstring of a model says of each of its fields."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        said = inspect.cleandoc(one.__doc__ or "").partition("Attributes:\n")[2]
        parts = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", said, flags=re.M)
        found |= {name: " ".join(text.split()) for name, text in parts}
    return found


def _takes(annotation: Any) -> str:
    """What a key takes, in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is Action:
        return "`quarantine`, `warn` or `fail`"
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    if origin is Annotated:
        return _discriminated(inner[1:]) or _takes(inner[0])
    if origin is Literal:
        return " or ".join(_code(str(value)) for value in inner)
    if origin in (Union, types.UnionType):
        # One form said twice, as a constant is, says nothing more the second time.
        said = dict.fromkeys(_takes(one) for one in inner if one is not type(None))
        return " or ".join(said)
    if origin is list:
        return f"list of {_takes(inner[0])}"
    if origin is dict:
        return f"names, each with {_takes(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation.__name__ == "TableName":
            return "table"
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return {"time": "time of day", "Decimal": "number"}.get(
        getattr(annotation, "__name__", ""), str(annotation)
    )


def _discriminated(found: Any) -> str | None:
    """The forms of a value as a refusal names them."""
    for one in found:
        if isinstance(one, Discriminator) and one.custom_error_message:
            return (
                one.custom_error_message.removeprefix("should be ")
                .replace("{", "`{")
                .replace("}", "}`")
            )
    return None


def _usual(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return _code(json.dumps(value)) if value else ""
    if isinstance(value, list | tuple):
        plain = [
            v.model_dump(exclude_defaults=True) if isinstance(v, BaseModel) else v for v in value
        ]
        return _code(json.dumps(plain))
    return _code(json.dumps(value) if isinstance(value, bool) else str(value))


def _commands(found: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in getattr(found, "commands", {}).items():
        words = f"{path} {name}".strip()
        if hasattr(command, "commands"):
            yield from _commands(command, words)
        else:
            yield words, command


def _spelled(parameter: Any) -> str:
    """An option as it is given, or an argument's place."""
    if not parameter.opts[0].startswith("-"):
        return str(parameter.metavar or parameter.name.upper())
    flag = getattr(parameter, "is_flag", False)
    return ", ".join(parameter.opts) + ("" if flag else f" {parameter.metavar or 'VALUE'}")


def _first(found: type) -> str:
    return (inspect.getdoc(found) or "").partition("\n\n")[0].replace("\n", " ")


def _prose(model: type[BaseModel]) -> str:
    """What a model's docstring says before it goes through the fields."""
    said = (inspect.getdoc(model) or "").partition("Attributes:\n")[0]
    return "\n\n".join(" ".join(part.split()) for part in said.split("\n\n") if part.strip())


def _table(head: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    main()
