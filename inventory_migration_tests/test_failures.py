"""Which SQLSTATE leads to which action."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from inventory_migration.engine.failures import FAILURES, Action, action_for, message, sqlstate
from inventory_migration_tests.conftest import Database

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("state", "action"),
    [
        ("40001", Action.RETRY),
        ("40P01", Action.RETRY),
        ("55P03", Action.RETRY),
        ("57014", Action.SHRINK),
        ("57P01", Action.RECONNECT),
        ("25P03", Action.RECONNECT),
        ("25P04", Action.RECONNECT),
        ("25006", Action.STOP),
        ("08006", Action.RECONNECT),
        ("22P02", Action.ISOLATE),
        ("23505", Action.ISOLATE),
        ("P0001", Action.ISOLATE),
        ("44000", Action.ISOLATE),
        ("53100", Action.HOLD),
        ("58030", Action.HOLD),
        ("42501", Action.STOP),
        ("XX000", Action.STOP),
        (None, Action.STOP),
    ],
)
def test_each_state_has_its_action(state: str | None, action: Action) -> None:
    assert action_for(state) is action


def test_the_documentation_has_the_very_table_that_the_code_has() -> None:
    documented = [
        tuple(cell.strip(" `") for cell in line.strip("|").split("|"))
        for line in (ROOT / "docs" / "reliability.md").read_text().splitlines()
        if re.match(r"\| `[0-9A-Z]{2,5}` \|", line)
    ]
    coded = [(f.state, f.condition, f.action.value) for f in FAILURES]
    assert documented == coded


def test_a_state_is_listed_once() -> None:
    assert len({failure.state for failure in FAILURES}) == len(FAILURES)


def test_an_error_of_the_server_gives_state_words_and_constraint(database: Database) -> None:
    database.psql("CREATE TABLE t (n int CONSTRAINT positive CHECK (n > 0))")
    with database.engine.connect() as connection, pytest.raises(sa.exc.DBAPIError) as caught:
        connection.execute(sa.text("INSERT INTO t VALUES (-1)"))
    assert sqlstate(caught.value) == "23514"
    assert "constraint positive" in message(caught.value)
    assert "INSERT" not in message(caught.value)


def test_a_lost_connection_counts_as_a_connection_failure() -> None:
    assert action_for(sqlstate(psycopg.OperationalError("server closed"))) is Action.RECONNECT
