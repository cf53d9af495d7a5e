"""The commands around notifications: try whether messages arrive, list what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console

from inventory_migration.cli.answers import PROGRAM
from inventory_migration.cli.session import Mappings, Name, Session, verb
from inventory_migration.cli.terminal import moment, say, table
from inventory_migration.errors import MessageNotDelivered, NobodyNotified

app = typer.Typer(
    help="Messages to people about what happens: try whether they arrive, list what was sent.",
    no_args_is_help=True,
)

_STATES = {"pending": "to be sent", "delivered": "arrived", "given_up": "not sent"}


@verb
def try_out(session: Session, name: Name = None, mapping: Mappings = None) -> None:
    """Send a test message to everybody who is told of a mapping's events, and say who got it.

    Without a mapping, to those alone whom the environment names for all of them.
    """
    from inventory_migration import database
    from inventory_migration.engine import notifications
    from inventory_migration.notifications.trial import try_channels

    given = session.mappings(mapping)
    chosen = session.mapping(name, given) if name or given else None
    channels = notifications.channels_of(chosen)
    if not channels:
        variables = tuple(channel.url_variable for channel in notifications.EVERYWHERE)
        raise NobodyNotified(variables=variables, mapping=chosen.name if chosen else None)
    # A message about nothing is no reason to start a server.
    where = (
        "the embedded database"
        if session.embedded
        else database.describe(database.connection_parameters(session.database_url))
    )
    found = try_channels(channels, mapping=chosen.name if chosen else None, database=where)
    failures = {one["url_variable"]: one["failure"] for one in found if not one["arrived"]}
    if failures:
        session.so_far = {"channels": found}
        if not session.json:
            _render_test(session.screen, found)
        raise MessageNotDelivered(failures=failures)
    session.show({"channels": found}, lambda screen, told: _render_test(screen, told["channels"]))


@verb
def list_(
    session: Session,
    name: Name = None,
    mapping: Mappings = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="How many messages to list.")
    ] = 50,
) -> None:
    """List the messages about events, newest first: whether each has arrived, or why not."""
    from inventory_migration import inquiries

    target = session.target()
    chosen = session.name(name, mapping, target) if name or mapping else None
    session.show(inquiries.list_notifications(target, chosen, limit=limit), _render_list)


def _render_test(screen: Console, found: Sequence[Mapping[str, Any]]) -> None:
    for one in found:
        what = "it arrived" if one["arrived"] else f"it did not arrive: {one['failure']}"
        say(screen, f"{one['url_variable']} ({one['format']}): {what}.")


def _render_list(screen: Console, found: Sequence[Mapping[str, Any]]) -> None:
    if not found:
        say(screen, "No event was told to anybody.")
        return
    rows = [
        {
            "at": moment(one["at"]),
            "event": one["event"].replace("_", " "),
            "mapping": one["mapping"],
            "migration": one["migration_id"] or "",
            "to": one["url_variable"],
            "state": _STATES[one["state"]],
            "attempts": one["attempts"],
            "failure": one["failure"] or "",
        }
        for one in found
    ]
    table(screen, rows, right={"migration", "attempts"})


COMMANDS = {
    "test": (try_out, "stock_items"),
    "list": (list_, "stock_items --limit 20"),
}
for _name, (_command, _example) in COMMANDS.items():
    app.command(_name, epilog=f"For example: {PROGRAM} notifications {_name} {_example}")(_command)
