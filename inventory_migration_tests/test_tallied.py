"""What the last gate has added up, and when a report says the same without counting once more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import ledger, plan, tallied, untouched
from inventory_migration.report import facts
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database, made_database

pytestmark = pytest.mark.one_server

SOURCE = {name: said for name, said in stage.DEFINITION["source"].items() if name != "skip"}
PLAIN = stage.mapping(source=SOURCE)
"""What decides about a record stands in columns: the rows' own transactions tell of all of it."""

KEPT = (
    "UPDATE inventory_migration.gate SET verdict = jsonb_set(verdict, '{tally,total,5}', '\"7\"')"
)
"""As the total of units is kept that a report takes over, and no other."""


@pytest.fixture(scope="module")
def judged(server: EmbeddedServer) -> Iterator[Database]:
    """A shop whose migration is verified and judged, with a total kept that gives itself away."""
    with made_database(server) as database:
        stage.shop(database)
        stage.migrate(database, PLAIN)
        target = verbs.open_target(database.url)
        assert verbs.judge(target, PLAIN, "reconciliation_report").passed
        database.psql(KEPT)
        yield database


def units_now(database: Database, written: str = "") -> str:
    """The units that a report tells, where something was written before and is taken back."""
    resolved = plan.read_mapping(database.engine, PLAIN)
    with database.engine.connect() as connection:
        connection.execute(sa.text(written or "SELECT"))
        migration = ledger.find(connection, migration_id=1)
        assert migration is not None
        found = tallied.again(connection, resolved, migration)
        connection.rollback()
    return str(found.tally.total["after"]["units"])


@pytest.mark.parametrize(
    ("written", "units"),
    [
        ("UPDATE stock_items SET quantity = quantity - 1 WHERE id = 3", "464"),
        ("DELETE FROM stock_items WHERE id = 3", "462"),
        ("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'new', 5)", "465"),
        ("UPDATE locations SET name = name WHERE company_id = 1", "465"),
        ("UPDATE inventory_migration.snapshot_1 SET quantity = 9 WHERE position = 1", "465"),
        ("DELETE FROM inventory_migration.snapshot_1 WHERE position = 2", "463"),
        ("UPDATE inventory_migration.chunk SET xid = '1' WHERE number = 1", "465"),
        (
            "INSERT INTO inventory_migration.outcome (migration_id, position, chunk, key_text, "
            "outcome) VALUES (1, 3, 1, '3', 'already')",
            "465",
        ),
        ("UPDATE inventory_migration.migration SET mapping_hash = mapping_hash", "7"),
    ],
)
def test_a_report_counts_once_more_whoever_has_written_what_was_counted(
    judged: Database, written: str, units: str
) -> None:
    assert units_now(judged, written) == units


def test_where_nobody_has_written_a_report_tells_what_the_gate_has_counted(
    judged: Database,
) -> None:
    found = facts.collect(verbs.open_target(judged.url).reader, PLAIN)
    assert found is not None
    assert found["totals"]["after"]["units"] == "7"
    units = [company["after"]["units"] for company in found["companies"]]
    assert sorted(units) == ["145", "155", "165"]
    assert found["differences"] == []


def test_what_has_moved_and_changed_is_added_up_by_both_companies(judged: Database) -> None:
    resolved = plan.read_mapping(judged.engine, PLAIN)
    with judged.engine.connect() as connection:
        for written in (
            "UPDATE stock_items SET company_id = 2 WHERE id = 1",
            "UPDATE stock_items SET quantity = NULL WHERE id = 4",
            "UPDATE stock_items SET quantity = 100, reserved = 10 WHERE id = 2",
            "DELETE FROM stock_items WHERE id = 30",
        ):
            connection.execute(sa.text(written))
        migration = ledger.find(connection, migration_id=1)
        assert migration is not None
        found = tallied.again(connection, resolved, migration)
        connection.rollback()
    counted = {key: (e["before"], e["after"]) for key, e in found.tally.companies.items()}
    assert found.tally.total["changed_by_application"] == str(88 - 3 - 23)
    assert {key: (b["records"], a["records"]) for key, (b, a) in counted.items()} == {
        "1": (10, 9), "2": (10, 11), "3": (10, 9),
    }  # fmt: skip
    assert {key: (b["units"], a["units"]) for key, (b, a) in counted.items()} == {
        "1": ("145", "140"), "2": ("155", "254"), "3": ("165", "135"),
    }  # fmt: skip
    assert (found.tally.compared, found.tally.unequal, found.tally.differing) == (30, 4, 4)


def test_the_last_gate_takes_over_what_the_phases_proof_has_counted_and_a_validation_does_not(
    database: Database,
) -> None:
    stage.shop(database)
    stage.migrate(database, PLAIN)
    target = verbs.open_target(database.url)
    # As a record is missing in what was kept, the gate that reads it must say so.
    database.psql(KEPT_AT_CHECKPOINT)
    judged = verbs.judge(target, PLAIN, "reconciliation_report")
    assert [found.key for found in judged.failed] == ["balances-complete"]
    assert verbs.judge(target, PLAIN, "reconciliation_report", keep=False).passed
    database.psql("UPDATE stock_items SET updated_at = now() WHERE id = 3")
    assert verbs.judge(target, PLAIN, "reconciliation_report").passed


KEPT_AT_CHECKPOINT = """
    UPDATE inventory_migration.gate SET verdict = jsonb_set(verdict, '{tally,counts,0}', '29')
    WHERE passed IS NULL
"""


@pytest.fixture
def at_once(database: Database) -> Database:
    """A shop whose migration was judged just now, so that no row has to be asked."""
    stage.shop(database)
    stage.migrate(database, PLAIN)
    target = verbs.open_target(database.url)
    assert verbs.judge(target, PLAIN, "reconciliation_report").passed
    return database


def asked_rows(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Each time that rows are asked whether anybody has written them."""
    asked: list[object] = []
    still = untouched.still

    def of_rows(*arguments: object) -> bool:
        asked.append(arguments)
        return still(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(untouched, "still", of_rows)
    return asked


def test_a_report_right_after_its_gate_asks_no_row_whether_it_was_written(
    at_once: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asked_rows(monkeypatch)
    assert units_now(at_once) == "465"
    assert not asked
    # Whoever writes anything at all has rows asked.
    at_once.psql("CREATE TABLE elsewhere ()")
    assert units_now(at_once) == "465"
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("written", "units"),
    [
        ("UPDATE stock_items SET quantity = quantity - 1 WHERE id = 3", "464"),
        ("DELETE FROM stock_items WHERE id = 3", "462"),
    ],
)
def test_a_report_right_after_its_gate_sees_what_was_written_between(
    at_once: Database, written: str, units: str
) -> None:
    # What the reader itself has written, and then what another has.
    assert units_now(at_once, written) == units
    at_once.psql(written)
    assert units_now(at_once) == units


def test_a_report_sees_what_was_being_written_as_its_gate_judged(database: Database) -> None:
    stage.shop(database)
    stage.migrate(database, PLAIN)
    target = verbs.open_target(database.url)
    with database.engine.connect() as writer:
        writer.execute(sa.text("UPDATE stock_items SET quantity = quantity - 1 WHERE id = 3"))
        # Of two that write, the later one is over first.
        database.psql("CREATE TABLE elsewhere ()")
        assert verbs.judge(target, PLAIN, "reconciliation_report").passed
        writer.commit()
    assert units_now(database) == "464"
