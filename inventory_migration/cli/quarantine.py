"""The commands around records that could not be migrated: look, try again, leave in place."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from inventory_migration.cli import quarantine_answers
from inventory_migration.cli.answers import PROGRAM
from inventory_migration.cli.session import Mappings, Name, Session, verb
from inventory_migration.errors import CommandUnclear


class State(StrEnum):
    """What has become of a record in quarantine."""

    OPEN = "open"
    RETRIED = "retried"
    WAIVED = "waived"


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
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME] KEY",
            help="The mapping, and the record's key; the parts of a key of several columns are "
            "separated by commas.",
        ),
    ],
    mapping: Mappings = None,
) -> None:
    """Tell everything about one record in quarantine: why, as it was kept, and as it is now."""
    from inventory_migration import quarantine

    if len(words) > 2:
        raise CommandUnclear(f"give NAME and KEY, not {len(words)} words; quote a key with blanks")
    *names, key = words
    chosen = session.mapping(names[0] if names else None, session.mappings(mapping))
    found = quarantine.show_record(session.target(), chosen, key)
    found["next"] = session.spelled(quarantine_answers.next_command(found))
    session.show(found, quarantine_answers.record)


COMMANDS = {
    "list": (list_, "stock_items --rule quantity_missing"),
    "show": (show, "stock_items 4711"),
}
for _name, (_command, _example) in COMMANDS.items():
    app.command(_name, epilog=f"For example: {PROGRAM} quarantine {_name} {_example}")(_command)
