"""Who reaches the dashboard, under which names, and who of them may act.

What is asked of each request is in `guard.py`; here is what it is asked against.
"""

from __future__ import annotations

import getpass
import ipaddress
from dataclasses import dataclass

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
"""What a browser on this machine may call the dashboard, whatever the port is forwarded to."""


@dataclass(frozen=True)
class Viewer:
    """Who looks at a page.

    Attributes:
        name: What the trail calls them.
        address: Where they connect from.
        read_only: Whether they may only look.
    """

    name: str
    address: str
    read_only: bool

    @property
    def described(self) -> str:
        """The viewer as the trail names them."""
        return f"{self.name} at {self.address}"


@dataclass(frozen=True)
class Access:
    """What a dashboard asks of whoever reaches it.

    Attributes:
        read_only: Whether nobody may act.
    """

    read_only: bool = False

    def is_own_host(self, name: str) -> bool:
        """Whether a browser that names this host means the dashboard.

        A page of somebody else's whose name has been pointed at this address would name its own.
        """
        return name in LOOPBACK_NAMES or is_loopback(name)

    def may_act(self, viewer: Viewer) -> bool:
        """Whether this viewer may change anything now."""
        return not (self.read_only or viewer.read_only)

    def viewer(self, address: str) -> Viewer:
        """Whoever reaches a port of this machine's own is whoever started the dashboard."""
        return Viewer(name=operator(), address=address, read_only=self.read_only)


def operator() -> str:
    """The account that this process runs as."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


def is_loopback(address: str) -> bool:
    """Whether an address is one of this machine alone."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
