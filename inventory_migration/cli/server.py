"""The commands around the database itself: the demo inventory, and the embedded server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inventory_migration.cli import answers
from inventory_migration.cli.session import Session, verb

if TYPE_CHECKING:
    from inventory_migration.embedded import Server

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@verb
def demo(
    session: Session,
    companies: Annotated[int, typer.Option(help="How many companies.")] = 50,
    items: Annotated[int, typer.Option(help="How many stock items in total.")] = 10_000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same data.")] = 1,
    dirty: Annotated[
        float, typer.Option(help="Share of the items, 0 to 1, with a defect to survive.")
    ] = 0.0,
    broken: Annotated[
        bool, typer.Option("--broken", help="Plant what a gate must refuse as well.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Drop an earlier demo first, and nothing else.")
    ] = False,
    if_empty: Annotated[
        bool,
        typer.Option("--if-empty", help="Only in the embedded server, and only if it has none."),
    ] = False,
) -> None:
    """Make a believable single-location inventory to try this on."""
    from inventory_migration import watching
    from inventory_migration.demo import create_demo
    from inventory_migration.demo.schema import taken_names

    if if_empty and not session.embedded:
        why = "the database is one of your own, and the demo is for the embedded server alone"
        session.show({"created": False, "why": why}, answers.demo)
        return
    target = session.target(writes=not if_empty)
    if if_empty:
        with target.reader.connect() as connection:
            taken = taken_names(connection)
        if taken:
            why = f"the embedded server has {', '.join(taken)} already"
            session.show({"created": False, "why": why}, answers.demo)
            return
    made = create_demo(
        target.engine,
        companies=companies,
        items=items,
        seed=seed,
        dirty=dirty,
        broken=broken,
        replace=replace,
    )
    session.show({"created": True, "why": None, **made.to_dict()}, answers.demo)
    if replace and watching.is_known(target, "stock_items"):
        session.note(
            "The ledger still tells of the former demo's migrations, and a run takes only what is "
            "new to them; 'inventory-migration db reset' starts from nothing."
        )


app = typer.Typer(help="The embedded PostgreSQL, which needs no set-up.", no_args_is_help=True)


@app.command()
@verb
def start(session: Session) -> None:
    """Start the embedded server, or find that it runs; it goes on after this command."""
    from inventory_migration import embedded

    _hint(session)
    session.show(_described(embedded.start()), answers.server)


@app.command()
@verb
def stop(session: Session) -> None:
    """Stop the embedded server; its data stay."""
    from inventory_migration import embedded

    ran = embedded.stop()
    session.show({**_described(None), "changed": ran}, answers.server)


@app.command()
@verb
def status(session: Session) -> None:
    """Say whether the embedded server runs, and where."""
    from inventory_migration import embedded

    _hint(session)
    session.show(_described(embedded.status()), answers.server)


@app.command()
@verb
def url(session: Session) -> None:
    """Print the embedded server's URL, for psql and other programs; starts it if need be."""
    from inventory_migration import embedded

    session.show({"url": embedded.start().url}, answers.url)


@app.command()
@verb
def reset(session: Session, yes: Yes = False) -> int:
    """Stop the embedded server and delete its data, with every migration's ledger."""
    from inventory_migration import embedded

    folder = embedded.project_server().folder
    consequence = f"this deletes the embedded server's database in {folder}"
    if not session.confirm(consequence, yes=yes, otherwise="Nothing was deleted."):
        return 1
    embedded.reset()
    session.show({**_described(None), "folder": str(folder), "changed": True}, answers.server)
    return 0


COMMANDS = {"demo": (demo, "--companies 200 --items 1000000 --dirty 0.005")}


def _hint(session: Session) -> None:
    if os.environ.get("INVENTORY_DATABASE_URL"):
        session.note("INVENTORY_DATABASE_URL is set: other commands use that database, not this.")


def _described(server: Server | None) -> dict[str, Any]:
    if server is None:
        return {"running": False, "url": None, "folder": None, "pid": None, "version": None}
    return {
        "running": True,
        "url": server.url,
        "folder": str(server.folder),
        "pid": server.pid,
        "version": server.version,
    }
