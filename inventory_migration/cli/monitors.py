"""The command `monitor`: whether migrated stock still is where it belongs, for cron and for CI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console

from inventory_migration.cli.metrics import pushed
from inventory_migration.cli.session import Mappings, Name, Session, verb
from inventory_migration.cli.terminal import moment, number, say, table
from inventory_migration.errors import CommandUnclear

REFUSED = 3


@verb
def monitor(
    session: Session,
    name: Name = None,
    mapping: Mappings = None,
    accept: Annotated[
        str | None,
        typer.Option(
            "--accept",
            metavar="REASON",
            help="The numbers are as they are meant to be, however far they have drifted.",
        ),
    ] = None,
) -> int:
    """Look whether migrated stock still is where it belongs, and how far it has drifted.

    Changes no stock; the ledger keeps what is found. With --accept later looks are compared with
    the numbers of this one; what is wrong with a record is not accepted by that.
    """
    from inventory_migration import monitoring

    if accept is not None and not accept.strip():
        raise CommandUnclear(
            "a reason is empty; say why the numbers are right with --accept REASON"
        )
    chosen = session.mapping(name, session.mappings(mapping))
    target = session.target()
    with pushed(session, chosen), session.watched():
        found = monitoring.monitor(target, chosen, accept=accept)
    session.show(found, render)
    return REFUSED if found["passed"] is False else 0


def render(screen: Console, found: Mapping[str, Any]) -> None:
    """What a look found, for a person."""
    from inventory_migration import monitoring

    if found["not_judged"]:
        say(screen, f"{found['mapping']}: not judged, {found['not_judged']}.")
    elif found["passed"]:
        say(screen, f"{found['mapping']}: all stock is where it belongs.")
    else:
        say(screen, f"{found['mapping']}: something is wrong.")
    for level, failed in (("wrong", found["failed"]), ("warning", found["warnings"])):
        for one in failed:
            (clause,) = monitoring.clauses([one])
            say(screen, f"  {level}: {clause}. {one['why']}")
    drift = found["drift"]
    rows = []
    for name in ("records", "units", "reserved"):
        told = drift[name] or {}
        percent = told.get("percent")
        rows.append(
            {
                "": name,
                "now": number(found[name]),
                "earlier": number(told["earlier"]) if told else "",
                "change": number(told["change"]) if told else "",
                "percent": "" if percent is None else f"{percent:+.2f}",
            }
        )
    table(screen, rows, right={"now", "earlier", "change", "percent"})
    if drift["since"] is None:
        say(screen, "There is no earlier look to compare with.")
    else:
        kind = {"verified": "a migration was verified", "monitored": "it was monitored"}
        say(screen, f"Compared with {moment(drift['since'])}, when {kind[drift['kind']]}.")
    for one in drift["by_company"]:
        say(
            screen,
            f"  company {one['company_key']}: {number(one['units_earlier'])} units then, "
            f"{number(one['units'])} now",
        )
    if not found["kept"]:
        say(screen, "The database has no ledger, so that nothing of this look was kept.")


COMMANDS = {"monitor": (monitor, "stock_items --json")}
