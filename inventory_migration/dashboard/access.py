"""Who reaches the dashboard, under which names, and who of them may act.

What is asked of each request is in `guard.py`, what a token is in `tokens.py`; here is what they
are asked against: the tokens, the guesses and the sessions of one dashboard.
"""

from __future__ import annotations

import getpass
import hashlib
import ipaddress
import math
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from inventory_migration.dashboard.tokens import Token, find_token

LOOPBACK_NAMES = frozenset({"localhost"})
SESSION_SECONDS = 12 * 3600
"""How long somebody is known before they are asked again."""

GUESSES = 5
GUESS_SECONDS = 60.0
"""How many wrong tokens are taken from an address in how long a time."""

_MOST_ADDRESSES = 10_000
_MOST_SESSIONS = 10_000
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Viewer:
    """Who looks at a page.

    Attributes:
        name: What the trail calls them.
        address: Where they connect from.
        read_only: Whether they may only look.
        session: Which login this is; None where nobody is asked to log in.
    """

    name: str
    address: str
    read_only: bool
    session: str | None = field(default=None, repr=False)

    @property
    def described(self) -> str:
        """The viewer as the trail names them."""
        return f"{self.name} at {self.address}"


@dataclass(frozen=True)
class _Session:
    name: str
    read_only: bool
    ends: float


class Access:
    """What a dashboard asks of whoever reaches it.

    Attributes:
        read_only: Whether nobody may act.
        tokens: Those that let somebody in; with none, whoever reaches the port is let in.
        names: Other names under which browsers reach it, beside those of this machine alone.
        behind_proxy: Whether a proxy in front is believed who asks, and whether by TLS.
    """

    def __init__(
        self,
        *,
        read_only: bool = False,
        tokens: tuple[Token, ...] = (),
        names: Iterable[str] = (),
        behind_proxy: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Know nobody yet."""
        self.read_only, self.tokens, self.behind_proxy = read_only, tokens, behind_proxy
        self.names = LOOPBACK_NAMES | {host_name(name) or name for name in names}
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[str, _Session] = {}
        self._wrong: dict[str, deque[float]] = {}

    @property
    def asks(self) -> bool:
        """Whether people have to show who they are."""
        return bool(self.tokens)

    @property
    def is_told_of_others(self) -> bool:
        """Whether others than this machine's own are expected."""
        return self.behind_proxy or self.names > LOOPBACK_NAMES

    def is_own_host(self, name: str) -> bool:
        """Whether a browser that names this host means the dashboard.

        A page of somebody else's whose name has been pointed at this address would name its own. An
        address is nobody's name, but without a token only this machine's own will do.
        """
        if name in self.names or is_loopback(name):
            return True
        return self.asks and _is_address(name)

    def viewer(self, address: str, cookie: str | None) -> Viewer | None:
        """Who somebody is; None where they have to log in first.

        Without tokens, whoever reaches a port of this machine's own is who started the dashboard.
        """
        if not self.asks:
            return Viewer(operator(), address, self.read_only)
        session = _key(cookie) if cookie else ""
        with self._lock:
            found = self._live(session)
        if found is None:
            return None
        return Viewer(found.name, address, self.read_only or found.read_only, session)

    def may_act(self, viewer: Viewer) -> bool:
        """Whether this viewer may change anything now, and is still who they were."""
        return self.is_here(viewer) and not (self.read_only or viewer.read_only)

    def is_here(self, viewer: Viewer) -> bool:
        """Whether this viewer has not left since, and need not be asked again."""
        if not self.asks:
            return True
        with self._lock:
            return viewer.session is not None and self._live(viewer.session) is not None

    def log_in(self, given: str, name: str, address: str) -> str | None:
        """Begin a session and return the cookie for it; None where the token is wrong.

        Args:
            given: What was given as a token.
            name: What whoever gave it calls themselves, where the token does not say.
            address: Where they connect from.
        """
        token = find_token(self.tokens, given)
        now = self._clock()
        with self._lock:
            if token is None:
                self._count_wrong(address, now)
                return None
            cookie = secrets.token_urlsafe(32)
            while len(self._sessions) >= _MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            said = _tidy(name) or "somebody"
            self._sessions[_key(cookie)] = _Session(
                token.name or said, token.read_only, now + SESSION_SECONDS
            )
        return cookie

    def log_out(self, viewer: Viewer) -> None:
        """End a session: its cookie is worth nothing from here on, nor are its pages."""
        with self._lock:
            self._sessions.pop(viewer.session or "", None)

    def wait_seconds(self, address: str) -> int:
        """How long an address has to wait before it may give another token; 0 is not at all."""
        with self._lock:
            wrong = self._wrong.get(_network(address), deque())
            if len(wrong) < GUESSES:
                return 0
            return max(0, math.ceil(wrong[0] + GUESS_SECONDS - self._clock()))

    def _live(self, session: str) -> _Session | None:
        found = self._sessions.get(session)
        if found is not None and found.ends <= self._clock():
            del self._sessions[session]
            return None
        return found

    def _count_wrong(self, address: str, now: float) -> None:
        if len(self._wrong) >= _MOST_ADDRESSES:
            old = now - GUESS_SECONDS
            self._wrong = {key: wrong for key, wrong in self._wrong.items() if wrong[-1] > old}
        self._wrong.setdefault(_network(address), deque(maxlen=GUESSES)).append(now)


def operator() -> str:
    """The account that this process runs as."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


def host_name(host: str | None) -> str | None:
    """The name in what a browser calls a host, in lower case and without a port; or None."""
    form = r"[\w.\-]+(:\d+)?|\[[\da-f:.]+\](:\d+)?"
    if not host or re.fullmatch(form, host, flags=re.IGNORECASE) is None:
        return None
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def is_loopback(address: str) -> bool:
    """Whether an address is one of this machine alone."""
    return _is_address(address) and ipaddress.ip_address(address).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _network(address: str) -> str:
    """Whom guesses from an address are counted against: of IPv6 one has a whole network."""
    if not _is_address(address):
        return address
    found = ipaddress.ip_address(address)
    return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), False))


def _tidy(name: str) -> str:
    shown = "".join(c if c.isprintable() else " " for c in name)
    return " ".join(shown.split())[:_LONGEST_NAME]


def _key(cookie: str) -> str:
    """What a session is kept under, so that nothing in memory or on a page is a cookie."""
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).hexdigest()
