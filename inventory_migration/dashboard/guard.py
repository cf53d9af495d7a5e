"""What every request and every socket passes before the dashboard sees it, as an ASGI application.

Against other sites in the same browser: the name that it was reached by must be the dashboard's own
(a name pointed at this address is not), and whatever changes anything or opens a socket must come
from one of its own pages. Who somebody is and may do is in `access.py`, how they say so in
`login.py`.
"""

from __future__ import annotations

import re
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from inventory_migration.dashboard.access import Access, Viewer, host_name
from inventory_migration.dashboard.policy import (
    Application,
    Message,
    Receive,
    Scope,
    Send,
    with_headers,
)

VIEWER = "inventory_viewer"
"""Where a request's scope holds who it comes from; nobody yet on the way to logging in."""

ADDRESS = "inventory_address"
"""Where it holds the address that it comes from."""

LOGIN = "/login"

_ASSETS = "/_nicegui/"
_READING = ("GET", "HEAD")
_PROXIED = (b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"forwarded", b"via")

# What NiceGUI would write into its pages as it stands.
_DROPPED = (b"x-forwarded-prefix",)


class Guard:
    """Lets through what comes from the dashboard's own pages, and knows whom it comes from.

    Attributes:
        app: What is guarded.
    """

    def __init__(self, app: Application, access: Access, *, port: int) -> None:
        """Guard an application that is served at a port."""
        self.app, self._access, self._cookie = app, access, cookie_name(port)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or hand on with the viewer in the scope and the headers on the answer."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        sending = with_headers(scope, send, kept=_ASSETS)
        if self._access.behind_proxy:
            _believe_proxy(scope)
        refused = self._refusal(scope)
        if refused is not None:
            await _refuse(scope, sending, *refused)
            return
        scope[ADDRESS] = (scope.get("client") or ("?", 0))[0]
        viewer = self._access.viewer(scope[ADDRESS], _cookie(scope, self._cookie))
        scope["headers"] = [(k, v) for k, v in scope["headers"] if k.lower() not in _DROPPED]
        scope[VIEWER] = viewer
        if viewer is None and not (scope["type"] == "http" and scope["path"] == LOGIN):
            await _ask_who(scope, sending)
        elif viewer is not None and scope["type"] == "websocket":
            await self.app(scope, receive, self._while_here(viewer, sending))
        else:
            await self.app(scope, receive, sending)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        host = _only(scope, b"host")
        name = host_name(host)
        if name is None or not self._access.is_own_host(name):
            return 421, "This dashboard is not known by that name; see its --allow-host."
        if not self._access.asks and any(_all(scope, header) for header in _PROXIED):
            return 403, "A proxy is in front, and nobody is asked for a token; see --token-file."
        reads = scope["type"] == "http" and scope["method"] in _READING
        if scope["type"] == "http" and not reads and scope["method"] != "POST":
            return 405, "Only GET and POST are understood."
        origins = _all(scope, b"origin")
        if not reads and not origins:
            return 403, "A request that may change something must say which page it comes from."
        if not all(_is_own(origin, host, scope) for origin in origins):
            return 403, "That page is not one of this dashboard's."
        if not _from_own_page(scope, reads):
            return 403, "Another site's page has asked for this."
        return None

    def _while_here(self, viewer: Viewer, send: Send) -> Send:
        """A socket to somebody who has left ends with the next thing that it would have told."""

        async def sending(message: Message) -> None:
            if message["type"] == "websocket.send" and not self._access.is_here(viewer):
                message = {"type": "websocket.close", "code": 1008}
            await send(message)

        return sending


def cookie_name(port: int) -> str:
    """The session's cookie; browsers share cookies among all ports of a host."""
    return f"inventory_dashboard_{port}"


def is_own_path(path: str) -> bool:
    """Whether it is a path of the dashboard's: one slash, and nothing that is read as two."""
    return re.fullmatch(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*", path) is not None


def is_encrypted(scope: Scope) -> bool:
    """Whether a request came by TLS, to us or to the proxy that is believed."""
    return scope["scheme"] in {"https", "wss"}


def _believe_proxy(scope: Scope) -> None:
    """Take who asks, and how, from the proxy in front; what lies behind it is anybody's word."""
    forwarded = ",".join(_all(scope, b"x-forwarded-for")).split(",")[-1].strip()
    if forwarded:
        scope["client"] = (forwarded, 0)
    proto = ",".join(_all(scope, b"x-forwarded-proto")).split(",")[-1].strip().lower()
    if proto in {"http", "https"}:
        secure = proto == "https"
        plain = "ws" if scope["type"] == "websocket" else "http"
        scope["scheme"] = plain + "s" * secure


def _is_own(origin: str, host: str | None, scope: Scope) -> bool:
    """Whether a page of this origin is one of ours: of the very name and port that was asked."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    schemes = {"https"} if is_encrypted(scope) else {"http", "https"}
    return parts.scheme in schemes and parts.netloc.lower() == host


def _from_own_page(scope: Scope, reads: bool) -> bool:
    """Whether a browser that says where a request comes from names us, or the user's own doing."""
    if _only(scope, b"sec-fetch-site") in {None, "same-origin", "none"}:
        return True
    # A link on another page, that is followed.
    return reads and _only(scope, b"sec-fetch-dest") == "document"


def _cookie(scope: Scope, wanted: str) -> str | None:
    try:
        found = SimpleCookie("; ".join(_all(scope, b"cookie"))).get(wanted)
    except CookieError:
        return None
    return found.value if found else None


def _all(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted]


def _only(scope: Scope, wanted: bytes) -> str | None:
    """A header in lower case; None where there is none, or more than one."""
    found = _all(scope, wanted)
    return found[0].lower() if len(found) == 1 else None


async def _ask_who(scope: Scope, send: Send) -> None:
    """Send somebody whom nobody knows to where they can say who they are."""
    asks_for_page = scope["type"] == "http" and scope["method"] in _READING
    dest = _only(scope, b"sec-fetch-dest")
    if not asks_for_page or dest not in {None, "document"}:
        await _refuse(scope, send, 401, "Log in first.")
        return
    query = scope.get("query_string", b"").decode("latin-1")
    path = quote(scope["path"]) + (f"?{query}" if query else "")
    path = path if is_own_path(path) else "/"
    if _only(scope, b"sec-fetch-site") == "cross-site":
        # A strict cookie is not sent along a link on another site's page, but on from ours it is.
        body = f'<!doctype html><meta http-equiv="refresh" content="0; url={quote(path, "/%?=&")}">'
        headers = [(b"content-type", b"text/html; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body.replace("&", "&amp;").encode()})
        return
    where = LOGIN if path == "/" else f"{LOGIN}?next={quote(path, safe='')}"
    headers = [(b"location", where.encode("latin-1"))]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(scope: Scope, send: Send, status: int, sentence: str) -> None:
    if scope["type"] == "websocket":
        # Before it is accepted, so that the browser sees a refused handshake.
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{sentence}\n".encode()})
