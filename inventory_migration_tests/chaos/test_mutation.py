"""Every guard taken away in turn: its test has to fail on what is left."""

from __future__ import annotations

import os

import pytest

from inventory_migration_tests.chaos import cases
from inventory_migration_tests.mutation.guards import GUARDS, Guard
from inventory_migration_tests.mutation.remove import failed_without

pytestmark = pytest.mark.chaos


SEED = os.environ.get("SEED", "20261126")
EVERY = max(1, int(os.environ.get("EVERY", "1")) // 12)
"""Of the guards, one in so many: each takes some ten seconds, far less than the failures of one."""

TRIED = cases.drawn(SEED).sample(GUARDS, -(-len(GUARDS) // EVERY))


@pytest.mark.parametrize("guard", TRIED, ids=[guard.name for guard in TRIED])
def test_a_guard_that_is_taken_away_is_missed(guard: Guard, request: pytest.FixtureRequest) -> None:
    noticed, said = failed_without(guard, server=request.config.getoption("--server"))
    assert noticed, said
