"""What a module's tests share: one browser, one shop half done, and its dashboards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from inventory_migration.embedded import EmbeddedServer
from inventory_migration_tests.commands import mapping_file
from inventory_migration_tests.conftest import Database, made_database
from inventory_migration_tests.dashboard import shown
from inventory_migration_tests.dashboard.served import Served, dashboard
from inventory_migration_tests.dashboard.viewer import launched

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser, gone after the module: its driver's loop would be in the way of other tests."""
    with launched() as made:
        yield made


@pytest.fixture(scope="module")
def half_done(server: EmbeddedServer) -> Iterator[Database]:
    """A shop whose migration somebody has paused."""
    with made_database(server) as made:
        shown.half_done(made)
        yield made


@pytest.fixture(scope="module")
def shop_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop's mapping."""
    return mapping_file(tmp_path_factory.mktemp("mapping"), **shown.CHANGES)


@pytest.fixture(scope="module")
def served(
    chromium: Browser,  # noqa: ARG001 - without one there is nothing to serve for
    half_done: Database,
    shop_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    """The dashboard of that shop, for who may act."""
    folder = tmp_path_factory.mktemp("served")
    with dashboard(half_done, folder, "--mapping", str(shop_file)) as made:
        yield made
