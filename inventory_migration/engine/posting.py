"""One POST to somebody else's server, which may answer, refuse, hang or never be found.

Whoever knows such a URL may post to it: no URL, nor any part of one, is in what comes back. What is
posted, and whether it is tried again, is decided elsewhere.
"""

from __future__ import annotations

import base64
import http.client
import os
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

SECONDS = 10.0
"""How long all of one POST may take."""

MOST_RETRY_AFTER = 3600.0

_PASSES = frozenset({408, 425, 429})
"""What says that the same message may be taken later; as does whatever begins with a 5."""


@dataclass(frozen=True)
class Answer:
    """What came of a POST.

    Attributes:
        failure: What went wrong; None where it was taken.
        again: Whether trying again can help.
        after: How many seconds the receiver wants to be left alone, as far as it says so.
    """

    failure: str | None = None
    again: bool = False
    after: float | None = None


def url_of(variable: str) -> str | None:
    """The URL that an environment variable holds; None where it holds none that is of use."""
    url = os.environ.get(variable, "").strip()
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return url if usable else None


def no_url(variable: str) -> str:
    """What is wrong where `url_of` finds none."""
    return f"the environment variable {variable} holds no http:// or https:// URL"


class Posting:
    """A POST under way on a thread of its own, which nobody has to wait for.

    A name that is never resolved, or an answer that comes a byte a second, holds that thread and
    nothing else: the process may end meanwhile.
    """

    def __init__(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        seconds: float | None = None,
    ) -> None:
        """Begin."""
        self._seconds = SECONDS if seconds is None else seconds
        self._deadline = time.monotonic() + self._seconds
        self._answer: Answer | None = None
        given = {"Content-Type": "application/json", **(headers or {})}
        self._thread = threading.Thread(
            target=self._run, args=(url, body, given), name="posting", daemon=True
        )
        self._thread.start()

    def _run(self, url: str, body: bytes, headers: dict[str, str]) -> None:
        self._answer = _posted(url, body, headers, self._seconds)

    def answer(self, *, wait: float = 0.0) -> Answer | None:
        """What came of it; None while it is under way.

        Args:
            wait: How many seconds to wait for it at the most.
        """
        left = self._deadline - time.monotonic()
        self._thread.join(max(0.0, min(wait, left)))
        if self._answer is None and time.monotonic() >= self._deadline:
            return Answer(f"it does not answer: nothing within {self._seconds:g} s", again=True)
        return self._answer

    def wait(self) -> Answer:
        """What came of it, once that is known, or its time is up."""
        while (found := self.answer(wait=self._seconds)) is None:
            pass
        return found


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: what is told is meant for nobody but the URL that was given."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _posted(url: str, body: bytes, headers: dict[str, str], seconds: float) -> Answer:
    try:
        plain, authorization = _without_password(url)
        request = urllib.request.Request(  # noqa: S310 - `url_of` looks at the scheme
            plain, data=body, headers={**headers, **authorization}
        )
        with urllib.request.build_opener(_StayHere).open(request, timeout=seconds):
            return Answer()
    except urllib.error.HTTPError as error:
        with error:
            return _refused(error)
    except (http.client.InvalidURL, UnicodeError):
        return Answer("it is no usable URL")
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Answer(f"it does not answer: {_why(error, seconds)}", again=True)


def _without_password(url: str) -> tuple[str, dict[str, str]]:
    """A URL without name and password, and the header that says them instead."""
    parts = urllib.parse.urlsplit(url)
    if parts.username is None:
        return url, {}
    named = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    encoded = base64.b64encode(named.encode()).decode()
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=place).geturl(), {"Authorization": f"Basic {encoded}"}


def _refused(error: urllib.error.HTTPError) -> Answer:
    moved = " (no redirect is followed)" if 300 <= error.code < 400 else ""
    return Answer(
        f"it answered {error.code}{moved}",
        again=error.code >= 500 or error.code in _PASSES,
        after=_retry_after(error.headers.get("Retry-After")),
    )


def _retry_after(said: str | None) -> float | None:
    """How many seconds a Retry-After header asks for, which says a number or a date."""
    if not said:
        return None
    try:
        seconds = float(said)
    except ValueError:
        try:
            when = parsedate_to_datetime(said)
        except ValueError:
            return None
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), MOST_RETRY_AFTER) if seconds == seconds else None


def _why(error: BaseException, seconds: float) -> str:
    """Why there was no answer, in words that hold nothing of the URL."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"nothing within {seconds:g} s"
    if isinstance(cause, socket.gaierror):
        return "its name is not known"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "its certificate is not trusted"
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno).lower()
    return type(cause if isinstance(cause, BaseException) else error).__name__
