"""The commands around records that could not be migrated: look, try again, leave in place."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from inventory_migration.cli import quarantine_answers
from inventory_migration.cli.answers import PROGRAM
from inventory_migration.cli.metrics import pushed
from inventory_migration.cli.migrations import Record, finish, name_and_key, told_beside
from inventory_migration.cli.session import Mappings, Name, Session, verb
from inventory_migration.cli.work_options import AsSuperuser, Window, Workers, WriteStop


class State(StrEnum):
    """What has become of a record in quarantine."""

    OPEN = "open"
    RETRIED = "retried"
    WAIVED = "waived"


Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME] [KEY]...", help="The mapping, and the records' keys."),
]

app = typer.Typer(
    help="Records that could not be migrated: look, try again, leave in place.",
    no_args_is_help=True,
)


@verb
def list_(
    session: Session,
    name: Name = None,
    mapping: Mappings = None,
    rule: Annotated[
        str | None, typer.Option("--rule", metavar="RULE", help="Only records of this rule.")
    ] = None,
    state: Annotated[
        State | None, typer.Option("--state", help="Only records in this state.")
    ] = None,
    company: Annotated[
        str | None,
        typer.Option("--company", metavar="KEY", help="Only records of the company with this key."),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=0, help="How many records to list.")
    ] = 50,
) -> None:
    """List the records in quarantine: counted by rule and state, then one by one."""
    from inventory_migration import quarantine

    target = session.target()
    chosen = session.name(name, mapping, target)
    found = quarantine.list_records(
        target, chosen, rule=rule, state=state and state.value, company=company, limit=limit
    )
    session.show(found, quarantine_answers.listing)


@verb
def show(
    session: Session,
    words: Record,
    mapping: Mappings = None,
) -> None:
    """Tell everything about one record in quarantine: why, as it was kept, and as it is now."""
    from inventory_migration import quarantine

    chosen, key = name_and_key(session, words, mapping)
    found = quarantine.show_record(session.target(), chosen, key)
    found["next"] = session.spelled(quarantine_answers.next_command(found))
    session.show(found, quarantine_answers.record)


@verb
def retry(
    session: Session,
    words: Words = None,
    mapping: Mappings = None,
    rule: Annotated[
        str | None, typer.Option("--rule", metavar="RULE", help="All open records of this rule.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All open records.")] = False,
    workers: Workers = None,
    window: Window = False,
    as_superuser: AsSuperuser = False,
    write_stop: WriteStop = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> int:
    """Try records in quarantine again, in a migration of their own with all its gates and proofs.

    What goes is out of quarantine; what does not stays in it, with the reason as it is now.
    """
    from inventory_migration import inquiries, quarantine

    name, keys = _name_and_keys(session, words or [], mapping)
    wanted = quarantine.selection(keys, rule=rule, everything=everything)
    chosen = session.mapping(name, session.mappings(mapping))
    target = session.target(writes=True)
    wanted, records = quarantine.selected(target, chosen, wanted)
    if records:
        inquiries.is_startable(
            target, chosen, resume=False, write_stop=write_stop, as_superuser=as_superuser
        )
        question = quarantine_answers.retrying(chosen.name, records)
        if not session.confirm(question, yes=yes):
            return 1
    with pushed(session, chosen), told_beside(session, target, chosen), session.watched():
        found = quarantine.retry(
            target,
            chosen,
            wanted,
            workers=workers,
            maintenance_window=window,
            as_superuser=as_superuser,
            write_stop=write_stop,
        )
    finish(session, target, chosen, found, quarantine_answers.retried)
    return 0


@verb
def waive(
    session: Session,
    words: Annotated[
        list[str],
        typer.Argument(metavar="[NAME] KEY...", help="The mapping, and the records' keys."),
    ],
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; kept with each record.")
    ],
    mapping: Mappings = None,
) -> None:
    """Accept that records stay where they are: nothing tries them again by itself."""
    from inventory_migration import quarantine

    name, keys = _name_and_keys(session, words, mapping)
    target = session.target(writes=True)
    chosen = session.name(name, mapping, target)
    session.show(quarantine.waive(target, chosen, keys, reason=reason), quarantine_answers.waived)


def _name_and_keys(
    session: Session, words: list[str], paths: list[Path] | None
) -> tuple[str | None, list[str]]:
    """Tell a mapping's name, which may be left out where a file is given, from keys."""
    given = session.mappings(paths)
    if words and (len(given) != 1 or words[0] in given):
        return words[0], words[1:]
    return None, words


COMMANDS = {
    "list": (list_, "stock_items --rule quantity_missing"),
    "show": (show, "stock_items 4711"),
    "retry": (retry, "stock_items --rule quantity_missing"),
    "waive": (waive, "stock_items 4711 --reason 'written off'"),
}
for _name, (_command, _example) in COMMANDS.items():
    app.command(_name, epilog=f"For example: {PROGRAM} quarantine {_name} {_example}")(_command)
