"""The command that serves the dashboard."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import typer

from inventory_migration.cli import answers
from inventory_migration.cli.session import Mappings, Session, verb
from inventory_migration.cli.work_options import AsSuperuser, Workers
from inventory_migration.errors import CommandUnclear

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
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="PATH",
            help="Who may come in: lines of 'name: token', and 'read-only' behind it for who may "
            "only look. Asked for at any address that others reach; $INVENTORY_DASHBOARD_TOKEN "
            "says the same.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="Another name under which browsers reach it; repeatable.",
        ),
    ] = None,
    behind_proxy: Annotated[
        bool,
        typer.Option(
            "--behind-proxy",
            help="Believe X-Forwarded-For and X-Forwarded-Proto of the proxy in front.",
        ),
    ] = False,
    tls_cert: Annotated[
        Path | None,
        typer.Option("--tls-cert", metavar="PATH", help="A certificate, to be served by TLS."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="PATH", help="The certificate's key.")
    ] = None,
    workers: Workers = None,
    as_superuser: AsSuperuser = False,
    open_: Annotated[
        bool, typer.Option("--open", help="Open it in this machine's browser.")
    ] = False,
) -> None:
    """Serve pages on which migrations are watched and steered, until Ctrl-C."""
    given = session.mappings(mapping)
    if (tls_cert is None) != (tls_key is None):
        raise CommandUnclear("--tls-cert and --tls-key go together; one of them is missing")
    # A second of imports, which only this command pays.
    from inventory_migration.dashboard import server, tokens
    from inventory_migration.dashboard.access import Access, host_name, is_loopback
    from inventory_migration.dashboard.processes import Options

    for name in allow_host or ():
        if host_name(name) is None:
            raise CommandUnclear(f"--allow-host {name}: give the name alone, as in stock.example")
    known = tokens.read_tokens(token_file)
    if token_file is not None and tokens.is_open_to_others(token_file):
        session.note(f"Other accounts of this machine can read {token_file}: chmod 600 keeps it.")
    encrypted = tls_cert is not None or behind_proxy
    if known and not encrypted and not is_loopback(host) and host != "localhost":
        session.note("Tokens travel unencrypted; --tls-cert, or a proxy in front, would hide them.")
    names = [*(allow_host or ()), *([host, socket.gethostname()] if known else ())]
    access = Access(read_only=read_only, tokens=known, names=names, behind_proxy=behind_proxy)
    target = session.target(writes=not read_only)

    def opened(url: str) -> None:
        session.show({"url": url, "read_only": read_only}, answers.dashboard)
        if open_:
            typer.launch(url)

    server.serve(
        target,
        given,
        files=session.files,
        options=Options(workers=workers, as_superuser=as_superuser),
        host=host,
        port=port,
        access=access,
        tls=server.Tls(tls_cert, tls_key) if tls_cert and tls_key else None,
        opened=opened,
    )


COMMANDS = {"dashboard": (dashboard, "--port 8642")}
