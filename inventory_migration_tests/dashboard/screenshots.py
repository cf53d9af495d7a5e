"""Takes the dashboard's pictures, for whoever changes it: `make screenshots`.

A demo inventory on a server of its own is migrated slowly enough to be looked at; pages are taken
wide and narrow, light and dark, while records move, while it is paused, and once it is verified.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from inventory_migration.demo import create_demo
from inventory_migration.embedded import EmbeddedServer
from inventory_migration_tests.commands import PROJECT
from inventory_migration_tests.conftest import FAST, Database
from inventory_migration_tests.dashboard.figures import accounted
from inventory_migration_tests.dashboard.served import Served, dashboard, ended, started
from inventory_migration_tests.dashboard.viewer import SCHEMES, WIDTHS, Viewer, launched, viewer
from inventory_migration_tests.sessions import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FOLDER = PROJECT / "build" / "screenshots"
TABS = ("overview", "problems", "companies", "server", "trail")
RECORDS = 40_000
RATE = 400


def take(folder: Path = FOLDER) -> Iterator[Path]:
    """Take all pictures; yields where each is."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        home = Path(name)
        # The account of a server that root has started must reach it.
        home.chmod(0o711)
        os.environ["INVENTORY_HOME"] = str(home / "home")
        server = EmbeddedServer(home / "postgres", settings=FAST)
        server.start()
        try:
            yield from _walk(Database("inventory", server.url, server), home, folder)
        finally:
            server.reset()


def _walk(database: Database, home: Path, folder: Path) -> Iterator[Path]:
    create_demo(database.engine, companies=120, items=RECORDS, dirty=0.01)
    log = home / "run.log"
    with dashboard(database, home) as served, launched() as chromium:
        run = ("run", "stock_items", f"--max-rows-per-second={RATE}")
        with started(database, log, *run) as process:
            until(lambda: accounted(database) > 0.2 * RECORDS, "records that move", 300)
            yield from _pages(chromium, served, folder, "moving", ("overview",))
            _pause(chromium, served)
            _let_end(process, log, 4)
        yield from _pages(chromium, served, folder, "paused", TABS, ask="rollback")
        with started(database, log, "resume", "stock_items") as process:
            _let_end(process, log, 0)
        yield from _pages(chromium, served, folder, "verified", ("overview",))


def _let_end(process: subprocess.Popen[bytes], log: Path, code: int) -> None:
    if ended(process, log, 300) != code:
        raise SystemExit(log.read_text()[-3000:])


def _pause(chromium: Browser, served: Served) -> None:
    with viewer(chromium, served.url) as one:
        one.open("/migrations/1").act("pause")
        one.wait(lambda: one.text("state") == "paused", "the pause")


def _pages(
    chromium: Browser, served: Served, folder: Path, when: str, tabs: tuple[str, ...], ask: str = ""
) -> Iterator[Path]:
    for width in WIDTHS:
        for scheme in SCHEMES:
            with viewer(chromium, served.url, width=width, scheme=scheme) as one:
                name = f"{width}-{scheme}.png"
                one.open("/").find("run-1").wait_for()
                yield _taken(one, folder / f"{when}-front-{name}")
                one.open("/migrations/1").find("state").wait_for()
                for tab in tabs:
                    one.tab(tab)
                    yield _taken(one, folder / f"{when}-{tab}-{name}")
                if ask:
                    one.find(f"act-{ask}").click()
                    one.find("ask").wait_for()
                    yield _taken(one, folder / f"{when}-ask-{ask}-{name}", whole=False)


def _taken(one: Viewer, path: Path, *, whole: bool = True) -> Path:
    # Whatever is asked for on demand has come by then.
    one.page.wait_for_timeout(500)
    one.page.screenshot(path=path, full_page=whole)
    return path


if __name__ == "__main__":
    for picture in take():
        sys.stdout.write(f"{picture}\n")
        sys.stdout.flush()
