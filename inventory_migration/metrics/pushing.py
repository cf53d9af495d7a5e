"""Pushing a mapping's figures to a Pushgateway, for runs that are over before anybody scrapes.

Nothing that goes wrong here changes how a command ends: it is one warning. The gateway's URL may
hold a password, which is sent and never shown.
"""

from __future__ import annotations

import base64
import logging
import os
import threading
import time
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from inventory_migration import logs
from inventory_migration.metrics import exposition, reading

logger = logging.getLogger(__name__)

VARIABLE = "INVENTORY_PUSHGATEWAY_URL"

JOB = "inventory-migration-push"

TRIES = 2
TRY_SECONDS = 3.0
PAUSE_SECONDS = 0.5
WHOLE_SECONDS = 10.0
"""How long a command waits for its figures to be pushed, whatever hangs: database or gateway."""

_ABOUT_A_SCRAPE = ("up", "scrape_duration_seconds")


@dataclass(frozen=True)
class Gateway:
    """Where figures are pushed to.

    Attributes:
        address: Its URL without name and password.
        credentials: What it is told of who pushes, as a header's value.
    """

    address: str
    credentials: str | None = field(default=None, repr=False)


def push(mapping: str, database_url: str | None = None) -> bool:
    """Push the figures of a mapping where a gateway is set; False where that was not done.

    They replace those that were pushed of the same mapping before.
    """
    url = os.environ.get(VARIABLE, "").strip()
    if not url:
        return False
    ended: list[Exception | None] = []

    def attempt() -> None:
        try:
            _push(gateway(url), mapping, reading.hurried(database_url))
        except Exception as error:
            # Whatever it is, the command has done its work.
            ended.append(error)
        else:
            ended.append(None)

    # A thread of its own, since a stalled database or gateway keeps nobody.
    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(WHOLE_SECONDS)
    if ended and ended[0] is None:
        return True
    why = _why(ended[0]) if ended and ended[0] else f"no end within {WHOLE_SECONDS:.0f} s"
    logger.warning("the figures of %s were not pushed to $%s: %s", mapping, VARIABLE, why)
    return False


def gateway(url: str) -> Gateway:
    """Read a gateway's URL.

    Raises:
        ValueError: It is none; the message does not repeat it.
    """
    text = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("it is not a well-formed URL") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise ValueError("it is no http:// or https:// URL of a host")
    where = f"[{host}]" if ":" in host else host
    address = f"{parts.scheme}://{where}{f':{port}' if port else ''}{parts.path.rstrip('/')}"
    if parts.username is None and parts.password is None:
        return Gateway(address)
    told = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return Gateway(address, f"Basic {base64.b64encode(told.encode()).decode()}")


def _push(to: Gateway, mapping: str, target: Any) -> None:
    from prometheus_client import push_to_gateway

    found = [s for s in reading.read(target, mapping) if s.name not in _ABOUT_A_SCRAPE]
    registry = exposition.registry(lambda: found)
    for number in range(1, TRIES + 1):
        try:
            push_to_gateway(
                to.address,
                job=JOB,
                registry=registry,
                grouping_key={"mapping": mapping},
                timeout=TRY_SECONDS,
                handler=_handler(to),
            )
            return
        except OSError as error:
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if refused or number == TRIES:
                raise
            time.sleep(PAUSE_SECONDS)


def _handler(to: Gateway) -> Callable[..., Callable[[], None]]:
    from prometheus_client.exposition import default_handler

    def handler(url: str, method: str, timeout: Any, headers: Any, data: bytes) -> Any:
        known = [("Authorization", to.credentials)] if to.credentials else []
        return default_handler(url, method, timeout, [*headers, *known], data)

    return handler


def _why(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"it answers {error.code}"
    if isinstance(error, urllib.error.URLError):
        why: object = error.reason
    elif isinstance(error, OSError | ValueError):
        why = error
    else:
        return logs.plain(logs.hide_passwords(reading.reason(error)))
    said = getattr(why, "strerror", None) or str(why) or type(why).__name__
    return logs.plain(logs.hide_passwords(str(said)))
