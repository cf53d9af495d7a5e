"""What browsers are told that they must not do with a page of the dashboard.

Who gets a page at all is decided in `guard.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = "content-security-policy"

NOTHING = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
"""The policy of what is no page: nothing in it is executed, shown or framed."""

FORM = f"{NOTHING}; style-src 'unsafe-inline'; form-action 'self'"
"""The policy of a page that is a form and nothing else."""

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer, under which browsers call the origin of our own forms null.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    POLICY: NOTHING,
}
"""What every answer says that does not say something else itself."""

_PAGE = "x-nicegui-content"


def page_policy(nonce: str) -> str:
    """The policy of a page whose own scripts carry a nonce: others in it are not executed.

    The pages compile their templates in the browser, which is eval by another name.
    """
    return "; ".join(
        (
            NOTHING,
            f"script-src 'self' 'nonce-{nonce}' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "form-action 'self'",
        )
    )


def with_headers(scope: Scope, send: Send, *, kept: str) -> Send:
    """Send answers with the headers that they lack.

    Args:
        scope: The request.
        send: Where answers go.
        kept: How the paths begin whose answers browsers may keep, as they say themselves.
    """
    headers = {k.encode(): v.encode() for k, v in HEADERS.items()}
    if scope["path"].startswith(kept):
        del headers[b"cache-control"]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            said = [(name.lower(), value) for name, value in message.get("headers", ())]
            # Only a policy may be another: a page needs more, a form less.
            own = {name for name, _ in said if name == POLICY.encode()}
            message["headers"] = [
                *((name, value) for name, value in said if name in own or name not in headers),
                *((name, value) for name, value in headers.items() if name not in own),
            ]
        await send(message)

    return sending


class Nonces:
    """Gives the scripts that a page comes with a nonce, and the page the policy that asks for it.

    Whatever of the database would ever get into a page as markup has none.

    Attributes:
        app: What makes the pages.
    """

    def __init__(self, app: Application) -> None:
        """Wrap an application, inside of whatever compresses its answers."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, and change pages on their way out."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        held: Message | None = None
        body = b""

        async def sending(message: Message) -> None:
            nonlocal held, body
            if message["type"] == "http.response.start" and _is_page(message):
                held = message
            elif held is not None and message["type"] == "http.response.body":
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    start, page = _with_nonce(held, body)
                    await send(start)
                    await send({"type": "http.response.body", "body": page})
            else:
                await send(message)

        await self.app(scope, receive, sending)


def _is_page(message: Message) -> bool:
    return any(name.decode().lower() == _PAGE for name, _ in message.get("headers", ()))


def _with_nonce(start: Message, body: bytes) -> tuple[Message, bytes]:
    nonce = secrets.token_urlsafe(16)
    body = body.replace(b"<script", f'<script nonce="{nonce}"'.encode())
    changed = {b"content-length", POLICY.encode()}
    headers = [(name, value) for name, value in start["headers"] if name.lower() not in changed]
    headers += [
        (b"content-length", str(len(body)).encode()),
        (POLICY.encode(), page_policy(nonce).encode()),
    ]
    return {**start, "headers": headers}, body
