"""Serving the dashboard: one process, one port, everything it needs from its own disk.

Who may reach it is decided in `guard.py`; what is seen is drawn in `pages.py`.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import shutil
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from inventory_migration import project
from inventory_migration.dashboard.access import Access, is_loopback
from inventory_migration.dashboard.actions import Actions
from inventory_migration.dashboard.guard import Guard
from inventory_migration.dashboard.policy import Nonces
from inventory_migration.dashboard.processes import Options
from inventory_migration.errors import AddressNotServed, CertificateInvalid, TokenMissing
from inventory_migration.notifications import delivering
from inventory_migration.watching import Poller

if TYPE_CHECKING:
    from fastapi import FastAPI

    from inventory_migration.mapping import StockMapping
    from inventory_migration.verbs import Target

TITLE = "inventory-migration"
GRACE_SECONDS = 2
"""How long viewers' connections are waited for at the end; they connect again by themselves."""


@dataclass(frozen=True)
class Tls:
    """Files of a certificate and its key, in PEM form."""

    certificate: Path
    key: Path

    def check(self) -> None:
        """See that they serve, before anything else is made.

        Raises:
            CertificateInvalid: They do not.
        """
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            # Asked for a passphrase, nobody would answer.
            context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
        except ssl.SSLError as error:
            raise CertificateInvalid(why=(error.reason or str(error)).lower()) from None
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise CertificateInvalid(why=why.lower()) from None


def serve(
    target: Target,
    mappings: Mapping[str, StockMapping],
    *,
    files: Mapping[str, Path],
    options: Options,
    host: str,
    port: int,
    access: Access,
    tls: Tls | None,
    opened: Callable[[str], None],
) -> None:
    """Serve the dashboard until the process is told to end.

    Args:
        target: The database.
        mappings: Those that were given by path, by name.
        files: Their paths.
        options: What is given to a process that goes on with a migration.
        host: The address to listen at.
        port: Its port; 0 takes one that is free.
        access: Who may reach it, and act.
        tls: By which certificate; None serves it unencrypted.
        opened: Told the dashboard's URL as soon as it is reachable.

    Raises:
        AddressNotServed: The address is taken, or is none of this machine's.
        CertificateInvalid: Certificate and key do not serve.
        TokenMissing: Others than this machine's would reach it, and nobody would be asked.
    """
    if tls is not None:
        tls.check()
    listening = listen(host, port)
    # One that may act stays, and so tells what others had no time to tell.
    telling = nullcontext() if access.read_only else delivering(target.engine)
    with listening, _storage(), telling, closing(Poller(target)) as poller:
        port = listening.getsockname()[1]
        alone = is_loopback(listening.getsockname()[0])
        if not access.asks and (not alone or access.is_told_of_others):
            raise TokenMissing(host=host if not alone else "a proxy in front")
        application = build(
            target,
            mappings,
            files=files,
            options=options,
            access=access,
            poller=poller,
            port=port,
        )
        config = uvicorn.Config(
            Guard(application, access, port=port),
            ws="wsproto",
            # What it has to say goes where everything does, and without passwords.
            log_config=None,
            log_level="warning",
            ssl_certfile=tls.certificate if tls else None,
            ssl_keyfile=tls.key if tls else None,
            access_log=False,
            server_header=False,
            # Who asks is what the connection says, unless the guard is told to believe a proxy.
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        # However it was told to end, that is what was wanted.
        with suppress(KeyboardInterrupt):
            _Server(config, lambda: opened(url(listening, tls))).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Tells when it is reachable, and by then answers to signals."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()


def build(
    target: Target,
    mappings: Mapping[str, StockMapping],
    *,
    files: Mapping[str, Path],
    options: Options,
    access: Access,
    poller: Poller,
    port: int,
) -> FastAPI:
    """Put the application together: NiceGUI with the pages, inside of one of our own.

    NiceGUI knows one application for each process, and so is there one dashboard.
    """
    from fastapi import FastAPI
    from nicegui import app, ui

    from inventory_migration.dashboard import login, pages, sockets, theme
    from inventory_migration.dashboard.context import Context

    application = FastAPI(title=TITLE, docs_url=None, redoc_url=None, openapi_url=None)
    context = Context(
        target=target,
        mappings=mappings,
        access=access,
        poller=poller,
        actions=Actions(target, files, access, options),
    )
    login.register(application, access, port=port)
    pages.register(context)
    sockets.keep_apart(access)
    # A bar over requests, without a name, that says nothing of what the page waits for.
    app.config.quasar_config["loadingBar"]["skipHijack"] = True
    # Before NiceGUI's own, so that they are inside of what compresses.
    app.add_middleware(Nonces)
    ui.run_with(
        application,
        title=TITLE,
        favicon=theme.ICON,
        language="en-US",
        # The pages have rules of their own, and some seconds less to wait for.
        tailwind=False,
        storage_secret=secrets.token_urlsafe(32),
        session_middleware_kwargs={
            # Cookies are shared by all ports of a host.
            "session_cookie": f"inventory_tab_{port}",
            "same_site": "strict",
        },
        show_welcome_message=False,
    )
    return application


def listen(host: str, port: int) -> socket.socket:
    """Take the address, so that it is known to be ours before anything else is made.

    Raises:
        AddressNotServed: It is taken, or is none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        # Else a port stays taken for a minute after each end.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError as error:
        raise AddressNotServed(host=host, port=port, why=error.strerror or str(error)) from None
    return listening


def url(listening: socket.socket, tls: Tls | None = None) -> str:
    """The URL of a server's own address; of all addresses, this machine's name."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = socket.gethostname()
    scheme = "https" if tls else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/"


@contextmanager
def _storage() -> Iterator[None]:
    """What NiceGUI keeps of its viewers lies with our state, and no longer than they are served."""
    parent = project.state_folder() / "dashboard"
    parent.mkdir(exist_ok=True)
    folder = tempfile.mkdtemp(prefix="viewers-", dir=parent)
    # Read as it is imported.
    os.environ["NICEGUI_STORAGE_PATH"] = folder
    from nicegui.storage import Storage

    Storage.path = Path(folder)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
