"""What a page says when it can not know, or when nobody works: at once, and never old figures."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from inventory_migration_tests.conftest import Database
from inventory_migration_tests.dashboard import figures, shown
from inventory_migration_tests.dashboard.driver import driving
from inventory_migration_tests.dashboard.served import dashboard, stalled
from inventory_migration_tests.dashboard.viewer import Viewer, viewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.one_server]

SAYS_WITHIN = 5.0
"""In so many seconds a page says that nobody works."""

STALE_WITHIN = 9.0
"""In so many that what it shows is old: some seconds after the newest figures were fresh."""


def test_a_page_says_that_the_database_stalls_that_nobody_works_and_that_it_is_lost(
    chromium: Browser, database: Database, shop_file: Path, tmp_path: Path
) -> None:
    shown.shop(database, items=30_000)
    with (
        driving(database, shop_file, rate=300) as driver,
        dashboard(database, tmp_path) as served,
        viewer(chromium, served.url) as one,
    ):
        one.wait(lambda: figures.accounted(database) > 0, "work", 60)
        one.open("/migrations/1")
        _moves(one)

        for harm in (stalled, _locked):
            with harm(database):
                _says_stale(one)
            one.wait(lambda: not one.shows("truth-stale"), f"an end of {harm.__name__}")
            _moves(one)

        assert not one.shows("truth-nobody")
        driver.send_signal(signal.SIGKILL)
        one.wait(lambda: one.shows("truth-nobody"), "that nobody works", SAYS_WITHIN)
        assert "inventory-migration run shop" in one.text("truth-nobody")
        with viewer(chromium, served.url) as another:
            another.open("/")
            another.wait(lambda: "nobody" in another.text("run-1-working"), "the same in front")

        served.process.terminate()
        served.process.wait(20)
        one.wait(lambda: one.shows("truth-lost"), "that the dashboard is gone", STALE_WITHIN)


@contextmanager
def _locked(database: Database) -> Iterator[None]:
    """Keep everybody away from the ledger, as a migration of the application's own schema may."""
    with psycopg.connect(database.url) as connection:
        connection.execute("LOCK TABLE inventory_migration.migration IN ACCESS EXCLUSIVE MODE")
        yield


def _says_stale(one: Viewer) -> None:
    """The page says that its figures are old, and by how much, which grows."""
    began = time.monotonic()
    one.wait(lambda: one.shows("truth-stale"), "that figures are old", STALE_WITHIN)
    first = one.text("truth-stale")
    one.wait(lambda: one.text("truth-stale") != first, "a growing age")
    assert time.monotonic() - began < 2 * STALE_WITHIN


def _moves(one: Viewer) -> None:
    before = one.number("records-accounted")
    one.wait(lambda: one.number("records-accounted") > before, "figures that move again")
