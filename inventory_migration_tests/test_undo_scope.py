"""A rollback of some phases or companies: what it takes, what it leaves, and what may follow."""

from __future__ import annotations

from typing import Any

import pytest

from inventory_migration import inquiries, steering, verbs
from inventory_migration.engine import guard, ledger, plan, trail, undo_walk
from inventory_migration.engine.plan import Start
from inventory_migration.engine.undo_scope import WHOLE, Scope
from inventory_migration.errors import MappingInvalid, StartRefused
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.test_rollback import foretell, target, undo, undone

pytestmark = pytest.mark.one_server

PHASES = [{"name": "pilot", "companies": 1}, {"name": "rest"}]
SHOP = stage.mapping(phases=PHASES, thresholds={"quarantined_percent": 100})
LOCATED = "SELECT company_id, count(location_id) FROM stock_items GROUP BY 1 ORDER BY 1"
STATE = "SELECT string_agg(state, ',' ORDER BY migration_id) FROM inventory_migration.migration"
TOTALS = """
    SELECT sum(records - reopened), sum(migrated), sum(quarantined), sum(skipped),
           sum(units_before), sum(units_after), sum(reserved_before), sum(reserved_after),
           sum(not_numbers_before), sum(not_numbers_after), sum(located)
    FROM inventory_migration.chunk
"""
BY_CHUNK = """
    SELECT bool_and(k.records - k.reopened = p.n AND k.migrated = p.migrated
                    AND k.units_before = p.units AND k.units_after = p.units
                    AND k.reserved_before = p.reserved AND k.reserved_after = p.reserved)
    FROM inventory_migration.chunk k
    JOIN (SELECT p.chunk, count(*) AS n, count(*) - count(o.position) AS migrated,
                 sum(COALESCE(p.quantity, 0)) AS units, sum(p.reserved) AS reserved
          FROM inventory_migration.snapshot_1 p
          LEFT JOIN inventory_migration.outcome o USING (position) GROUP BY 1) p
      ON p.chunk = k.number
"""


def company(*keys: str) -> Scope:
    return Scope(companies=keys)


def test_chunks_that_companies_share_are_parted_and_their_totals_add_up(database: Database) -> None:
    stage.shop(database, companies=3, items=30)
    database.psql(
        "UPDATE stock_items SET quantity = NULL WHERE id = 5;"
        "UPDATE stock_items SET deleted_at = now() WHERE id = 8"
    )
    stage.migrate(database, SHOP)
    before = database.psql(TOTALS)
    undo(database, SHOP, scope=company("2"))
    assert database.psql(TOTALS) == before
    assert database.psql(BY_CHUNK) == "t"
    assert database.psql(LOCATED) == "1|10\n2|0\n3|10"
    assert stage.outcomes(database) == {
        "migrated": 20, "quarantined": 1, "skipped": 1, "undone": 8,
    }  # fmt: skip


def test_what_is_of_both_a_phase_and_a_company_goes_back(database: Database) -> None:
    stage.shop(database)
    stage.migrate(database, SHOP)
    nothing = Scope(phases=("pilot",), companies=("2",))
    assert undo(database, SHOP, scope=nothing) == []
    undo(database, SHOP, scope=Scope(phases=("rest",), companies=("2", "1")))
    assert database.psql(LOCATED) == "1|10\n2|0\n3|10"


def test_names_that_there_are_not_are_refused_all_at_once(database: Database) -> None:
    stage.shop(database, companies=1, items=2)
    database.psql("INSERT INTO companies (name) VALUES ('Without stock')")
    stage.migrate(database, SHOP)
    for ask in (foretell, undo):
        with pytest.raises(MappingInvalid) as refused:
            ask(database, SHOP, scope=Scope(phases=("pilot", "early"), companies=("1", "9", "x")))
        assert [problem.split(" in ")[0] for problem in refused.value.problems] == [
            "shop: there is no phase early; its phases are pilot, rest",
            "shop: there is no company 9",
            "shop: there is no company x",
        ]
    assert database.psql(STATE) == "verified"


def test_a_company_without_stock_loses_its_created_location(database: Database) -> None:
    stage.shop(database, companies=2, items=1)
    stage.migrate(database, SHOP)
    assert foretell(database, SHOP, scope=company("2"))["undone"]["locations"] == 1
    assert undo(database, SHOP, scope=company("2")) != []
    assert database.psql("SELECT company_id FROM locations") == "1"


def test_conflicts_of_a_part_are_told_apart_from_those_of_another(database: Database) -> None:
    stage.shop(database)
    stage.migrate(database, SHOP)
    database.psql(
        "INSERT INTO locations (company_id, name) VALUES (1, 'Shelf');"
        "UPDATE stock_items SET location_id = 4 WHERE id IN (1, 2)"
    )
    first = verbs.roll_back(target(database), SHOP, scope=company("1"))
    assert [(c["key"], c["written"], c["found"]) for c in first["conflicts"]] == [("1", "1", "4")]
    told = foretell(database, SHOP, scope=company("2"))
    second = verbs.roll_back(target(database), SHOP, scope=company("2"))
    assert second["conflicts"] == told["conflicts"]
    assert [conflict["key"] for conflict in second["conflicts"]] == ["2"]
    assert undone(database) == {"records": 18, "kept": 2, "locations": 2}


def test_the_guard_and_others_locations_stay_until_all_goes_back(database: Database) -> None:
    stage.shop(database)
    guarded = stage.mapping(phases=PHASES, guard=True)
    stage.migrate(database, guarded)
    undo(database, guarded, scope=Scope(phases=("pilot",)))
    assert database.psql("SELECT company_id FROM locations ORDER BY 1") == "2\n3"
    with database.engine.connect() as connection:
        assert guard.installed(connection, plan.resolve(connection, guarded))
    insert = "INSERT INTO stock_items (company_id, sku, quantity) VALUES ({0}, 'N', 1)"
    database.psql(f"{insert.format(1)}; {insert.format(2)}")
    assert database.psql("SELECT company_id, location_id FROM stock_items WHERE sku = 'N'") == (
        "1|\n2|2"
    )
    undo(database, guarded)
    with database.engine.connect() as connection:
        assert not guard.installed(connection, plan.resolve(connection, guarded))
        migration = ledger.find(connection, migration_id=1)
        assert migration
        listed = trail.undone(connection, [migration], WHOLE)["conflicts"]
    assert [(c["kind"], c["found"]) for c in listed] == [("arrived_with_location", "2")]
    assert database.psql("SELECT company_id FROM locations") == "2"


def test_several_migrations_give_up_what_they_have_of_a_company(database: Database) -> None:
    stage.shop(database)
    stage.migrate(database, SHOP)
    database.psql("INSERT INTO stock_items (company_id, sku, quantity) VALUES (2, 'N', 1)")
    stage.migrate(database, SHOP)
    assert foretell(database, SHOP, scope=company("2"))["undone"]["records"] == 11
    assert [m.migration_id for m in undo(database, SHOP, scope=company("2"))] == [2, 1]
    assert database.psql(LOCATED) == "1|10\n2|0\n3|10"
    assert database.psql(STATE) == "verified,verified"
    assert undo(database, SHOP, scope=company("2")) == []
    assert [m.migration_id for m in undo(database, SHOP, scope=company("1"))] == [1]
    assert stage.migrate(database, SHOP).proof.passed
    assert database.psql(LOCATED) == "1|10\n2|11\n3|10"
    # Once an explicit run has followed, any start may.
    assert stage.locations(database, SHOP, Start()) is None


def test_a_part_that_was_undone_is_no_longer_proved(database: Database) -> None:
    stage.shop(database)
    stage.migrate(database, SHOP)
    undo(database, SHOP, scope=company("2"))
    found = verbs.validate(target(database), SHOP)
    assert found["passed"] is False
    assert [(d["kind"], d["records"]) for d in found["differences"]] == [("not_migrated", 10)]
    listed = inquiries.list_migrations(target(database))[0]
    assert (listed["state"], listed["reason"]) == ("verified", "company 2 undone: asked to")


def test_an_aborted_migration_stays_aborted(database: Database) -> None:
    stage.shop(database)
    stage.locations(database, SHOP)
    with pytest.raises(Exception, match="stopped after phase pilot"):
        stage.transform(database, SHOP, stop_after="pilot")
    steering.abort(target(database), "shop")
    undo(database, SHOP, scope=Scope(phases=("pilot",)))
    assert database.psql(STATE) == "aborted"
    assert database.psql(LOCATED) == "1|0\n2|0\n3|0"
    with pytest.raises(StartRefused, match="only an explicit run"):
        stage.locations(database, SHOP, Start())
    assert stage.migrate(database, SHOP).proof.passed


def test_a_resumed_migration_forgets_what_the_rollback_of_a_part_has_listed(
    database: Database,
) -> None:
    stage.shop(database)
    stage.locations(database, SHOP)
    with pytest.raises(Exception, match="stopped after phase pilot"):
        stage.transform(database, SHOP, stop_after="pilot")
    database.psql(
        "INSERT INTO locations (company_id, name) VALUES (1, 'Shelf');"
        "UPDATE stock_items SET location_id = 4 WHERE id = 1;"
        "UPDATE stock_items SET quantity = 77 WHERE id = 4"
    )
    undo(database, SHOP, scope=company("1"))
    conflicts = "SELECT string_agg(kind, ',' ORDER BY kind) FROM inventory_migration.conflict"
    assert database.psql(conflicts) == "moved_since,touched_since"
    done = stage.migrate(database, SHOP, start=Start(resume=True))
    assert done.proof.passed
    assert stage.outcomes(database) == {"already": 1, "migrated": 29}
    assert database.psql(conflicts) == ""
    assert database.psql("SELECT location_id FROM stock_items WHERE id = 4") == "5"
    undo(database, SHOP)
    assert database.psql("SELECT id, location_id FROM stock_items WHERE location_id > 0") == "1|4"


class Killed(BaseException):
    """What ends a process in the middle."""


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let a rollback die after its first transaction."""

    def dies(database: Database, scope: Scope) -> None:
        some, turns = undo_walk.undo_some, iter(range(100))

        def first_only(*arguments: Any, **options: Any) -> bool:
            if next(turns) == 1:
                raise Killed
            return bool(some(*arguments, **options))

        with monkeypatch.context() as patch:
            patch.setattr(undo_walk, "CHUNKS_AT_ONCE", 1)
            patch.setattr(undo_walk, "undo_some", first_only)
            with pytest.raises(Killed):
                undo(database, SHOP, scope=scope)
        assert database.psql(STATE) == "rolling_back"

    return dies


@pytest.mark.parametrize(
    ("then", "state", "located"),
    [
        (company("2"), "verified", "1|10\n2|0\n3|10"),
        (company("3"), "verified", "1|10\n2|0\n3|0"),
        (WHOLE, "rolled_back", "1|0\n2|0\n3|0"),
    ],
    ids=str,
)
def test_a_killed_rollback_of_a_part_goes_on_and_may_grow(
    database: Database, killed: Any, then: Scope, state: str, located: str
) -> None:
    stage.shop(database)
    stage.migrate(database, SHOP)
    killed(database, company("2"))
    undo(database, SHOP, scope=then)
    assert database.psql(f"{STATE}; {LOCATED}") == f"{state}\n{located}"
    # Also the location that the first command was to take.
    assert "2" not in database.psql("SELECT company_id FROM locations").splitlines()


def test_a_killed_rollback_of_everything_does_not_become_one_of_a_part(
    database: Database, killed: Any
) -> None:
    stage.shop(database)
    stage.migrate(database, SHOP)
    killed(database, WHOLE)
    for ask in (foretell, undo):
        with pytest.raises(StartRefused, match=r"rolled back whole, and not company 2 alone"):
            ask(database, SHOP, scope=company("2"))
    undo(database, SHOP)
    assert database.psql(f"{STATE}; {LOCATED}") == "rolled_back\n1|0\n2|0\n3|0"
