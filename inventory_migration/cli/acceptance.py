"""The command that tries whether an application still works after the move."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console

from inventory_migration.cli.migrations import REFUSED
from inventory_migration.cli.session import Mappings, Name, Session, verb
from inventory_migration.cli.terminal import duration, number, say, table
from inventory_migration.cli.work_options import AsSuperuser


class FailOn(StrEnum):
    """From which severity of a finding on the exit code says so."""

    WARNING = "warning"
    CRITICAL = "critical"


@verb
def acceptance(
    session: Session,
    name: Name = None,
    mapping: Mappings = None,
    fail_on: Annotated[
        FailOn,
        typer.Option("--fail-on", help="End with 3 from this severity of a finding on."),
    ] = FailOn.CRITICAL,
    as_superuser: AsSuperuser = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> int:
    """Try the application's operations in a transaction that is rolled back, and ask its reports.

    What each operation does to the totals is held against what the mapping says; queries must give
    the same answers as before the move. Nothing stays but the result, as an event of the ledger.
    """
    from inventory_migration import acceptance as verbs

    chosen = session.mapping(name, session.mappings(mapping))
    target = session.target(writes=True)
    is_demo = verbs.is_ready(target, chosen, as_superuser=as_superuser)
    wanted = chosen.acceptance.operations
    if wanted and not is_demo:
        question = (
            f"this executes {number(len(wanted))} operations ({', '.join(wanted)}) on a record of "
            f"{chosen.source.table}, in a transaction that is rolled back"
        )
        if not session.confirm(question, yes=yes, otherwise="Nothing was tried."):
            return 1
    with session.watched():
        found = verbs.accept(target, chosen)
    session.show(found, _shown)
    critical = {"critical"} if fail_on is FailOn.CRITICAL else {"critical", "warning"}
    return REFUSED if any(f["severity"] in critical for f in found["findings"]) else 0


def _shown(screen: Console, found: Mapping[str, Any]) -> None:
    record = found["record"]
    if record:
        made = ", made for the trial" if record["second_location_made"] else ""
        second = record["second_location"]
        say(
            screen,
            f"Tried on record {record['key']} of company {record['company']}: "
            f"{number(record['on_hand'])} on hand and {number(record['reserved'])} reserved at "
            f"location {record['location']}; second location {second or 'none'}{made}.",
        )
        say(screen)
        table(screen, [_operation(trial) for trial in found["operations"]])
        say(screen)
    elif not found["operations"]:
        say(screen, "No operation was tried: no record was moved, or the mapping names none.")
        say(screen)
    table(screen, [_query(query) for query in found["queries"]], right={"rows", "before", "after"})
    say(screen)
    for finding in found["findings"]:
        said = f"{finding['subject']} ({finding['kind'].replace('_', ' ')}): {finding['said']}"
        say(screen, f"{finding['severity']}: {said}")
    verdict = "All works as expected" if found["passed"] else "Something does not work as expected"
    say(screen, f"{verdict}; everything was rolled back, in {duration(found['elapsed_seconds'])}.")


def _operation(trial: Mapping[str, Any]) -> dict[str, object]:
    return {
        "operation": trial["name"],
        "result": "ok" if trial["passed"] else "failed" if trial["error"] else "differs",
        "expected": _effect(trial["expected"]),
        "observed": _effect(trial["observed"]) if trial["observed"] else "",
    }


def _effect(totals: Mapping[str, Mapping[str, str]]) -> str:
    """What is told of an effect: the totals that change, and what comes to the second location."""
    told = [
        f"{measure.replace('_', ' ')} {_signed(value)}"
        for measure, value in totals["total"].items()
        if value != "0"
    ]
    moved = totals["second_location"]["on_hand"]
    told += [f"{number(moved)} moved"] if moved != "0" else []
    return ", ".join(told) or "nothing"


def _signed(value: str) -> str:
    return value if value.startswith("-") else f"+{value}"


def _query(query: Mapping[str, Any]) -> dict[str, object]:
    took = query["milliseconds"]
    answers = "same" if query["rows"] else "not compared"
    if not query["passed"]:
        answers = "failed" if query["error"] else "differ"
    return {
        "query": query["name"],
        "answers": answers + (", slower" if query["slower"] else ""),
        "rows": number(query["rows"]["after"]) if query["rows"] else "",
        "before": "" if took["before"] is None else f"{took['before']:.1f} ms",
        "after": "" if took["after"] is None else f"{took['after']:.1f} ms",
    }


COMMANDS = {"acceptance": (acceptance, "stock_items")}
