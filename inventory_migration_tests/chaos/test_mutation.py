"""Every guard taken away in turn: its test has to fail on what is left."""

from __future__ import annotations

import pytest

from inventory_migration_tests.mutation.guards import GUARDS, Guard
from inventory_migration_tests.mutation.remove import failed_without

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("guard", GUARDS, ids=[guard.name for guard in GUARDS])
def test_a_guard_that_is_taken_away_is_missed(guard: Guard, request: pytest.FixtureRequest) -> None:
    noticed, said = failed_without(guard, server=request.config.getoption("--server"))
    assert noticed, said
