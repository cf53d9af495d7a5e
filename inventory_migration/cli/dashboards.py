"""The command that serves the dashboard."""

from __future__ import annotations

from typing import Annotated

import typer

from inventory_migration.cli import answers
from inventory_migration.cli.migrations import AsSuperuser, Workers
from inventory_migration.cli.session import Mappings, Session, verb

PORT = 8642


@verb
def dashboard(
    session: Session,
    mapping: Mappings = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Where; 0 takes a free one.")
    ] = PORT,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="The address to listen at.")
    ] = "127.0.0.1",
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Show everything, and let nobody act.")
    ] = False,
    workers: Workers = 2,
    as_superuser: AsSuperuser = False,
    open_: Annotated[
        bool, typer.Option("--open", help="Open it in this machine's browser.")
    ] = False,
) -> None:
    """Serve pages on which migrations are watched and steered, until Ctrl-C."""
    given = session.mappings(mapping)
    target = session.target(writes=not read_only)
    # A second of imports, which only this command pays.
    from inventory_migration.dashboard import server
    from inventory_migration.dashboard.access import Access
    from inventory_migration.dashboard.processes import Options

    def opened(url: str) -> None:
        session.show({"url": url, "read_only": read_only}, answers.dashboard)
        if open_:
            typer.launch(url)

    access = Access(read_only=read_only)
    server.serve(
        target,
        given,
        files=session.files,
        options=Options(workers=workers, as_superuser=as_superuser),
        host=host,
        port=port,
        access=access,
        opened=opened,
    )


COMMANDS = {"dashboard": (dashboard, "--port 8642")}
