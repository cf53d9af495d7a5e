"""The command `metrics`: figures for Prometheus, once or for as long as it is scraped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inventory_migration.cli.session import Session, print_json, verb
from inventory_migration.errors import CommandUnclear

if TYPE_CHECKING:
    from inventory_migration.mapping import StockMapping

LOOPBACK = "127.0.0.1"


@verb
def metrics(
    session: Session,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="N",
            min=0,
            max=65535,
            help="Serve them at /metrics on this port, 0 for any that is free.",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help=f"Where to listen, by default {LOOPBACK}; whoever reaches it reads the figures.",
        ),
    ] = None,
) -> None:
    """Give the figures of all mappings for Prometheus: printed once, or served with --port.

    Reads only. Served, it goes on until Ctrl-C, and says `inventory_migration_up 0` while the
    database does not answer.
    """
    from inventory_migration.metrics import exposition, reading, serving

    if port is None:
        if host is not None:
            raise CommandUnclear("--host says where to serve; say the port too, with --port N")
        session.target()
        found = reading.read(reading.hurried(session.database_url))
        session.show(_plain(found) if session.json else exposition.text(found), _printed)
        return
    # A database that is away is no reason not to serve: that it is away is a figure.
    target = reading.hurried(session.database_url)
    reader = reading.Reader(lambda: reading.read(target))

    def ready(url: str) -> None:
        if session.json:
            print_json({"url": url})
        session.note(f"Serving {url} until Ctrl-C.")

    serving.serve(reader.latest, host=host or LOOPBACK, port=port, ready=ready)


@contextmanager
def pushed(session: Session, mapping: StockMapping) -> Iterator[None]:
    """Push a mapping's figures where a gateway is set, once a command has come to its end."""
    try:
        yield
    finally:
        if os.environ.get("INVENTORY_PUSHGATEWAY_URL"):
            from inventory_migration.metrics import pushing

            pushing.push(mapping.name, session.database_url)


def _printed(_screen: Any, text: str) -> None:
    # As it is: a terminal's width is no reason to break a line.
    print(text, end="", flush=True)


def _plain(found: Any) -> dict[str, Any]:
    from inventory_migration.metrics.catalogue import METRICS

    return {
        "metrics": [
            {
                "name": METRICS[sample.name].full_name,
                "labels": dict(zip(METRICS[sample.name].labels, sample.labels, strict=True)),
                "value": sample.value,
            }
            for sample in found
        ]
    }


COMMANDS = {"metrics": (metrics, "--port 9642")}
