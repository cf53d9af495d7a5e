"""The command around the examples: what there is, a mapping to start from, tables to try it on."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inventory_migration.cli.proposals import write_new
from inventory_migration.cli.session import Session, verb
from inventory_migration.errors import CommandUnclear

if TYPE_CHECKING:
    from rich.console import Console

    from inventory_migration.examples import Example

PROGRAM = "inventory-migration"


@verb
def examples(
    session: Session,
    copy: Annotated[
        str | None,
        typer.Option("--copy", metavar="NAME", help="Write its mapping, to start from."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="PATH", help="To this file or folder; never over a file."),
    ] = None,
    load: Annotated[
        str | None,
        typer.Option("--load", metavar="NAME", help="Put its tables and data into the database."),
    ] = None,
    records: Annotated[
        int, typer.Option(min=0, max=100_000_000, help="How many stock records to load.")
    ] = 2000,
    seed: Annotated[
        int,
        typer.Option(min=-(2**63), max=2**63 - 1, help="The same seed makes the same data."),
    ] = 1,
) -> None:
    """List applications that made this very move; start from one, or try it.

    Each has a mapping, tables and data with the cases in which stock was lost in that move.
    """
    from inventory_migration.examples import EXAMPLES, named_example

    if copy is not None and load is not None:
        raise CommandUnclear("--copy and --load are two commands; give one, then the other")
    if out is not None and copy is None:
        raise CommandUnclear("--out says where a copy goes; name the example with --copy NAME")
    if copy is not None:
        url = f"$({PROGRAM} db url)" if session.embedded else "$INVENTORY_DATABASE_URL"
        session.show(_copied(named_example(copy), out), partial(_show_copy, f'psql "{url}"'))
    elif load is not None:
        session.show(_loaded(session, named_example(load), records, seed), _show_load)
    else:
        session.show({"examples": [_told(one) for one in EXAMPLES.values()]}, _show_list)


def _told(example: Example) -> dict[str, Any]:
    return {
        "name": example.name,
        "title": example.title,
        "source": example.source,
        "target": example.target,
        "tables": example.tables,
        "page": example.page,
        "cases": [
            {"name": case.name, "said": case.said, "key": case.key} for case in example.cases
        ],
    }


def _copied(example: Example, out: Path | None) -> dict[str, Any]:
    """Write the files side by side, or none of them."""
    mapping = out or Path()
    if mapping.is_dir():
        mapping /= f"{example.name}.yaml"
    named = {
        file: mapping
        if file.endswith(".yaml")
        else mapping.with_name(file.replace(example.name, mapping.stem, 1))
        for file in example.files
    }
    there = [str(path) for path in named.values() if path.exists()]
    if there:
        raise CommandUnclear(
            f"{', '.join(there)} is there already, and is not written over; name another place "
            "with --out"
        )
    for file, path in named.items():
        write_new(path, example.files[file])
    steps = {file.split(".")[1]: str(path) for file, path in named.items() if file.count(".") == 2}
    return {
        "example": example.name,
        "mapping": str(mapping),
        "prepare": steps.get("prepare"),
        "after": steps.get("after"),
        "page": example.page,
    }


def _loaded(session: Session, example: Example, records: int, seed: int) -> dict[str, Any]:
    from inventory_migration.examples.load import load_example

    target = session.target(writes=True)
    loaded = load_example(target.engine, example, records=records, seed=seed).to_dict()
    return {**loaded, "title": example.title}


def _show_list(screen: Console, found: dict[str, Any]) -> None:
    """Every example, and each of its cases in a line."""
    from inventory_migration.cli.terminal import pairs, say

    for one in found["examples"]:
        say(screen, f"{one['name']}: {one['title']}")
        rows = [("  from", one["source"]), ("  to", one["target"]), ("  page", one["page"])]
        pairs(screen, [*rows, ("  tables", ", ".join(one["tables"]))])
        say(screen, "  planted in its data:")
        keyed = {
            f"    {case['name']}": case["said"] + (f" ({case['key']})" if case["key"] else "")
            for case in one["cases"]
        }
        pairs(screen, keyed.items())
        say(screen)
    say(
        screen,
        f"Start from one: '{PROGRAM} examples --copy NAME'. Try it on data: "
        f"'{PROGRAM} examples --load NAME'.",
    )


def _show_copy(psql: str, screen: Console, found: dict[str, Any]) -> None:
    """What was written, and in which order it is used."""
    from inventory_migration.cli.terminal import pairs, say

    mapping = shlex.quote(found["mapping"])
    say(screen, f"{found['mapping']}: the mapping of {found['example']}; {found['page']} explains.")
    say(screen, "Next:")
    steps = [(f"  {PROGRAM} test --mapping {mapping}", "what a run would do")]
    if found["prepare"]:
        steps.insert(0, (f"  {psql} --file {shlex.quote(found['prepare'])}", "read it first"))
    steps.append((f"  {PROGRAM} run --mapping {mapping} --write-stop", "while the shop is stopped"))
    if found["after"]:
        steps.append((f"  {psql} --file {shlex.quote(found['after'])}", "once it is verified"))
    pairs(screen, steps)


def _show_load(screen: Console, found: dict[str, Any]) -> None:
    """What is in the database now."""
    from inventory_migration.cli.terminal import number, pairs, say

    say(screen, f"Tables of {found['title']}, with data ({found['elapsed_seconds']:.1f} s):")
    rows = {f"  {name}": number(count) for name, count in found["tables"].items() if count}
    pairs(screen, rows.items())
    if found["prepared"]:
        say(screen, f"{found['example']}.prepare.sql, which goes before a run, is done.")
    name = found["example"]
    say(
        screen,
        f"Next: '{PROGRAM} examples --copy {name}', then '{PROGRAM} test --mapping {name}.yaml'.",
    )


COMMANDS = {"examples": (examples, "--copy spree")}
