"""What every request and every socket passes before the dashboard sees it, as an ASGI application.

Against other sites in the same browser: the name that it was reached by must be the dashboard's own
(a name pointed at this address is not), and whatever changes anything or opens a socket must come
from one of its own pages. Who may do what is in `access.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from inventory_migration.dashboard.access import Access

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

VIEWER = "inventory_viewer"
"""Where a request's scope holds who it comes from."""

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer, under which browsers call the origin of our own forms null.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # The pages compile their templates in the browser, which is eval by another name.
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    ),
}
_ASSETS = "/_nicegui/"
_READING = ("GET", "HEAD")


class Guard:
    """Lets through what comes from the dashboard's own pages, and knows whom it comes from.

    Attributes:
        app: What is guarded.
    """

    def __init__(self, app: Application, access: Access) -> None:
        """Guard an application."""
        self.app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or hand on with the viewer in the scope and the headers on the answer."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        refused = self._refusal(scope)
        if refused is not None:
            await _refuse(scope, send, *refused)
            return
        client = scope.get("client") or ("?", 0)
        scope[VIEWER] = self._access.viewer(client[0])
        await self.app(scope, receive, _with_headers(scope, send))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        host = _only(scope, b"host")
        name = _host_name(host)
        if name is None or not self._access.is_own_host(name):
            return 421, "This dashboard is not known by that name."
        reads = scope["type"] == "http" and scope["method"] in _READING
        if scope["type"] == "http" and not reads and scope["method"] != "POST":
            return 405, "Only GET and POST are understood."
        origins = _all(scope, b"origin")
        if not reads and not origins:
            return 403, "A request that may change something must say which page it comes from."
        if any(urlsplit(origin).netloc.lower() != host for origin in origins):
            return 403, "That page is not one of this dashboard's."
        if not _from_own_page(scope, reads):
            return 403, "Another site's page has asked for this."
        return None


def _from_own_page(scope: Scope, reads: bool) -> bool:
    """Whether a browser that says where a request comes from names us, or the user's own doing."""
    site = _only(scope, b"sec-fetch-site")
    if site in {None, "same-origin", "none"}:
        return True
    # A link on another page, that is followed.
    return reads and _only(scope, b"sec-fetch-dest") == "document"


def _host_name(host: str | None) -> str | None:
    """The name in a Host header, without its port; None where it is none."""
    if not host or any(character in host for character in "/@?#\\, "):
        return None
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _all(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted]


def _only(scope: Scope, wanted: bytes) -> str | None:
    """A header in lower case; None where there is none, or more than one."""
    found = _all(scope, wanted)
    return found[0].lower() if len(found) == 1 else None


def _with_headers(scope: Scope, send: Send) -> Send:
    headers = dict(HEADERS)
    if not scope["path"].startswith(_ASSETS):
        headers["cache-control"] = "no-store"

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            said = message.get("headers", ())
            message["headers"] = [
                *((name, value) for name, value in said if name.decode().lower() not in headers),
                *((name.encode(), value.encode()) for name, value in headers.items()),
            ]
        await send(message)

    return sending


async def _refuse(scope: Scope, send: Send, status: int, sentence: str) -> None:
    if scope["type"] == "websocket":
        # Before it is accepted, so that the browser sees a refused handshake.
        await send({"type": "websocket.close", "code": 1008})
        return
    sending = _with_headers(scope, send)
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await sending({"type": "http.response.start", "status": status, "headers": headers})
    await sending({"type": "http.response.body", "body": f"{sentence}\n".encode()})
