"""What the pages are given: the database, who watches it, and what may be done.

It holds no state of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nicegui import context

from inventory_migration.dashboard.access import Access, Viewer
from inventory_migration.dashboard.guard import VIEWER

if TYPE_CHECKING:
    from inventory_migration.dashboard.actions import Actions
    from inventory_migration.mapping import StockMapping
    from inventory_migration.verbs import Target
    from inventory_migration.watching import Poller


@dataclass(frozen=True)
class Context:
    """One dashboard, as its pages see it.

    Attributes:
        target: The database.
        mappings: Those that were given by path, by name.
        access: Who may reach it, and act.
        poller: Who asks the database on behalf of all viewers.
        actions: What viewers may do.
    """

    target: Target
    mappings: Mapping[str, StockMapping]
    access: Access
    poller: Poller
    actions: Actions

    def viewer(self) -> Viewer:
        """Who looks at the page that is being built, or at the one whose event is handled."""
        found = context.client.request.scope[VIEWER]
        assert isinstance(found, Viewer)  # noqa: S101 - the guard has put it there
        return found
