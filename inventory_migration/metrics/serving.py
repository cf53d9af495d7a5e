"""The exporter: figures over HTTP for whoever scrapes, and whether this process lives.

It answers GET of two addresses and of a page that names them, and nothing that it answers depends
on what is asked.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from inventory_migration.errors import AddressNotServed
from inventory_migration.metrics.exposition import registry
from inventory_migration.metrics.samples import Sample

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

HANDS_OFF_SECONDS = 10.0
"""For how long a client may say nothing before its connection is closed."""

_HOME = b"""<!doctype html><html lang="en"><title>inventory-migration metrics</title>
<h1>inventory-migration</h1>
<p><a href="metrics">Metrics</a> for Prometheus. <a href="-/healthy">Whether this lives</a>.</html>
"""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # Half of those who scrape at once would be turned away with the usual five.
    request_queue_size = 128


class _Handler(WSGIRequestHandler):
    timeout = HANDS_OFF_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a scrape is no news."""


def serve(
    ask: Callable[[], Iterable[Sample]],
    *,
    host: str,
    port: int,
    ready: Callable[[str], None],
) -> None:
    """Serve until the process is interrupted.

    Args:
        ask: What the figures are.
        host: Where to listen.
        port: The port; 0 for any that is free.
        ready: Told the address once it is served.

    Raises:
        AddressNotServed: It is taken, or is none of this machine's.
    """
    with exporter(ask, host=host, port=port) as server:
        ready(address(host, server.server_port))
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def exporter(ask: Callable[[], Iterable[Sample]], *, host: str, port: int) -> WSGIServer:
    """A server that listens, and serves once somebody lets it."""

    class Server(_Server):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def server_bind(self) -> None:
            # The usual one asks for the machine's name, which may take a resolver its time.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(self.server_address)
            self.server_address = self.socket.getsockname()
            self.server_name, self.server_port = host, self.server_address[1]
            self.setup_environ()

    try:
        return make_server(host, port, _application(ask), Server, _Handler)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise AddressNotServed(host=host, port=port, why=why, command="metrics") from None


def address(host: str, port: int) -> str:
    """The URL of the figures."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"


def _application(ask: Callable[[], Iterable[Sample]]) -> WSGIApplication:
    from prometheus_client.exposition import make_wsgi_app

    metrics = make_wsgi_app(registry(ask))

    def application(environment: WSGIEnvironment, respond: StartResponse) -> Iterable[bytes]:
        path = environment["PATH_INFO"]
        if path == "/metrics":
            found: Iterable[bytes] = metrics(environment, respond)
            return found
        pages = {"/": ("text/html; charset=utf-8", _HOME), "/-/healthy": ("text/plain", b"OK\n")}
        kind, body = pages.get(path, ("text/plain", b"There is nothing here but /metrics.\n"))
        status = "200 OK" if path in pages else "404 Not Found"
        if environment["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            status, body = "405 Method Not Allowed", b""
        respond(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [] if environment["REQUEST_METHOD"] == "HEAD" else [body]

    return application
