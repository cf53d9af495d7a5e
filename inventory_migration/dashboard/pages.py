"""What a viewer sees: the list of migrations in front, and a page for each.

Words and markup are made in the panels (`views.py` names them), buttons and dialogs in
`controls.py`; here they are put on pages, and kept up to date once a second from what the poller
has seen, for the database is asked by nobody else. Who may see and act is decided in `guard.py` and
`actions.py`.

What tests and scripts find by `data-testid`, each holding its figure alone:

- everywhere: `truth-stale`, `truth-lost` (the page has lost the dashboard), `as-of`, `database`,
  `read-only`, `viewer`, `log-out`, `colours`;
- the front: `runs`, `run-<id>`, `run-<id>-state`, `run-<id>-percent`, `run-<id>-done`,
  `run-<id>-working`, `no-runs`, `waiting` (mappings without a migration);
- a migration's head: `title`, `state`, `working`, `stage`, `reason`, `restraint`, `desired`,
  `percent`, `records-accounted`, `records-snapshot`, `eta`, `eta-band`, `rate-now`,
  `rate-average`, `active`, `elapsed`, `workers`, `tile-quarantined`, `attempts-failed`,
  `attempts-per-minute`,
  `units-difference`; of one that goes back `records-undone` and `records-written`;
  `truth-nobody`, `truth-difference`, `truth-missing` where they are true;
- its tabs: `tab-overview`, `tab-problems`, `tab-companies`, `tab-server`, `tab-trail`;
- overview: `phases`, `phase-<number>-done`, `phase-<number>-state`, `records-<outcome>`,
  `records-total`, `units-snapshot`, `units-accounted`, `units-off`,
  `reserved-snapshot`, `reserved-accounted`, `reserved-off`, `plot-difference`, `plot-rate`,
  `plot-chunk-seconds`, `plot-chunk-records`, `plot-timeline-workers`, `latest-events`, `about`;
- the others: `quarantine`, `attempts`, `companies`, `companies-search`, `companies-total`,
  `health`, `health-verdict`, `gates`, `gate-<suite>`, `events`;
- what may be done: `act-pause`, `act-resume`, `act-abort`, `act-rollback`; in the dialog `ask`,
  `ask-name`, `ask-reason`, `ask-confirm`, `ask-cancel`, `ask-error`; afterwards `did`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from nicegui import context, ui

from inventory_migration import project
from inventory_migration.dashboard import front, views, wording
from inventory_migration.dashboard.context import Context
from inventory_migration.dashboard.elements import Live, Tag
from inventory_migration.dashboard.frame import Frame
from inventory_migration.dashboard.migration import MigrationPage
from inventory_migration.watching import FRONT, Seen

TICK_SECONDS = 1.0
FIRST_SECONDS = 2.0
"""How long a page waits for something to show before it is sent without."""


def register(app: Context) -> None:
    """Make the pages known to the server."""
    gallery = views.Gallery()

    @ui.page("/", title="Migrations")
    async def index() -> None:
        _look_at(app, FRONT)
        await _until(lambda: _known(app.poller.listed()))
        _keep(_front(app))

    @ui.page("/migrations/{migration_id}", title="Migration")
    async def migration(migration_id: int, tab: str = "overview", search: str = "") -> None:
        _look_at(app, migration_id)
        await _until(lambda: _known(app.poller.latest(migration_id)))
        page = MigrationPage(app, gallery, migration_id, tab=tab, search=search)
        await page.find()
        _keep(page.tick)


def _known(seen: Seen[Any]) -> bool:
    return seen.picture is not None or seen.error is not None


def _front(app: Context) -> Callable[[], None]:
    """The list of migrations and mappings; returns what keeps it up to date."""
    frame = Frame(app)
    known = [*app.mappings, *project.listing("mappings", ".yaml")]
    with frame.sheet:
        Tag("h1", "Migrations", data_testid="title")
        runs, waiting = Live("subhead"), Live("subhead")

    def tick() -> None:
        seen = app.poller.listed()
        listed = seen.picture
        frame.tick(
            wording.stale(
                listed is not None,
                seen.age_seconds,
                seen.error,
                patience=wording.LIST_STALE_SECONDS,
            ),
            seen.age_seconds,
            title="Migrations",
        )
        if listed is not None:
            runs.show(front.runs(listed))
            waiting.show(front.waiting(known, listed))

    return tick


def _look_at(app: Context, migration_id: int | None) -> None:
    """Have the poller ask for it for as long as this viewer is there."""
    app.poller.subscribe(migration_id)
    context.client.on_delete(lambda: app.poller.unsubscribe(migration_id))


async def _until(known: Callable[[], object]) -> None:
    """Wait a little for something to show, so that a page comes with its figures."""
    until = time.monotonic() + FIRST_SECONDS
    while not known() and time.monotonic() < until:
        await asyncio.sleep(0.05)


def _keep(tick: Callable[[], None]) -> None:
    """Bring a page up to date, now and from now on; one timer for each viewer."""
    tick()
    ui.timer(TICK_SECONDS, tick)
