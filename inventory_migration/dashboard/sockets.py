"""Keeping a page's messages to whoever opened the page.

NiceGUI takes a message for the page that it names, whichever socket it came by. That name is a
secret of the page, but here it is not relied on: the socket's viewer must be the page's, and here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import socketio
from nicegui import Client, core

from inventory_migration.dashboard.access import Access, Viewer
from inventory_migration.dashboard.guard import VIEWER

Handler = Callable[..., Any]
MESSAGES = ("handshake", "event", "javascript_response", "ack", "log")


def keep_apart(access: Access) -> None:
    """Let nobody speak for another's page, nor for their own once they have left."""
    server = core.sio
    connect = server.handlers["/"]["connect"]

    async def on_connect(sid: str, environ: dict[str, Any], auth: Any = None) -> Any:
        query = parse_qs(environ.get("QUERY_STRING", ""))
        named = query.get("client_id", [""])[0]
        if "implicit_handshake" in query and not _may_speak(access, environ, named):
            raise socketio.exceptions.ConnectionRefusedError("that page is another viewer's")
        return await connect(sid, environ, auth)

    server.on("connect", on_connect)
    for name in MESSAGES:
        server.on(name, _kept_apart(access, server, server.handlers["/"][name]))


def _kept_apart(
    access: Access, server: socketio.AsyncServer, handler: Handler
) -> Callable[..., Awaitable[Any]]:
    async def handling(sid: str, message: Any) -> Any:
        environ = server.get_environ(sid)
        named = str(message.get("client_id", "")) if isinstance(message, dict) else None
        if named is not None and _may_speak(access, environ, named):
            try:
                found = handler(sid, message)
                return await found if isinstance(found, Awaitable) else found
            except (LookupError, TypeError, ValueError):
                # Made by hand: it speaks of what its page does not have.
                pass
        await server.disconnect(sid)
        return False

    return handling


def _may_speak(access: Access, environ: dict[str, Any] | None, client_id: str) -> bool:
    """Whether a socket's viewer is a page's, and has not left; of a page that is gone, anybody."""
    client = Client.instances.get(client_id)
    if client is None:
        return True
    socket_of = (environ or {}).get("asgi.scope", {}).get(VIEWER)
    page_of = client.request.scope.get(VIEWER)
    if not isinstance(socket_of, Viewer) or not isinstance(page_of, Viewer):
        return False
    return socket_of.session == page_of.session and access.is_here(socket_of)
