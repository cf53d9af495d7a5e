"""The commands that stop a migration under way: for a while, or for good."""

from __future__ import annotations

from typing import Annotated

import typer

from inventory_migration.cli import answers
from inventory_migration.cli.session import Mappings, Name, Session, verb

Reason = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the audit trail.")
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Cancel what is under way, and end its sessions where that does not help."
    ),
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait", metavar="SECONDS", min=0.0, help="How long to wait for what is under way."
    ),
]

WAIT_SECONDS = 60.0
ASKED = "asked to"


@verb
def pause(
    session: Session,
    name: Name = None,
    mapping: Mappings = None,
    reason: Reason = None,
    force: Force = False,
    wait: Wait = WAIT_SECONDS,
) -> None:
    """Pause a migration; when this returns, no more stock moves until it is resumed.

    Nothing new begins from the first moment on; what is under way is waited for, and named.
    """
    from inventory_migration import steering

    target = session.plain_target(writes=True)
    chosen = session.name(name, mapping, target)
    session.note(f"Pausing {chosen}: waiting for the chunks under way.")
    found = steering.pause(
        target, chosen, reason=reason or ASKED, force=force, seconds=wait, tell=session.note
    )
    session.show(found, answers.pause)


@verb
def abort(
    session: Session,
    name: Name = None,
    mapping: Mappings = None,
    reason: Reason = None,
    force: Force = False,
    wait: Wait = WAIT_SECONDS,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> int:
    """End a migration for good; what it moved stays, and can still be rolled back."""
    from inventory_migration import inquiries, steering

    target = session.target(writes=True)
    chosen = session.name(name, mapping, target)
    wanted = inquiries.abortable(target, chosen)
    if wanted and not session.confirm(answers.aborting(chosen, wanted), yes=yes):
        return 1
    found = steering.abort(
        target, chosen, reason=reason or ASKED, force=force, seconds=wait, tell=session.note
    )
    session.show(found, answers.abort)
    return 0


COMMANDS = {
    "pause": (pause, "stock_items"),
    "abort": (abort, "stock_items --reason 'wrong mapping'"),
}
