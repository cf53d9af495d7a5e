"""The contract of a target shape: what every shape passes by being registered.

A shape that is added gets an entry in `TARGETS`; a shape without one fails the first test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from inventory_migration.database import escaped
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import (
    balances,
    control,
    ledger,
    phases,
    plan,
    prediction,
    story,
    trail,
)
from inventory_migration.engine.plan import Start
from inventory_migration.engine.reconcile import Reconciled
from inventory_migration.engine.shapes import SHAPES
from inventory_migration.engine.undo_scope import WHOLE, Scope
from inventory_migration.errors import GateRefused, MigrationPaused, StartRefused
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database, made_database
from inventory_migration_tests.test_rollback import foretell, undo, undone

pytestmark = pytest.mark.slow

TARGETS: dict[str, dict[str, Any]] = {
    "location_column": {"shape": "location_column", "column": "location_id", "add": True},
    "allocation_json": {
        "shape": "allocation_json",
        "column": "allocations",
        "transfers": "transfers",
        "add": True,
    },
    "stock_level": {
        "shape": "stock_level",
        "table": "stock_levels",
        "location": "location_id",
        "on_hand": "on_hand",
        "reserved": "reserved",
        "values": {"level_id": {"generate": "uuid", "prefix": "lev_"}},
        "add": True,
    },
}

# The same shape in another form.
FORMS: dict[str, dict[str, Any]] = {
    "allocation_list": {
        **TARGETS["allocation_json"],
        "as": "list",
        "entry": {
            "place": {"id": {"from": "location"}},
            "qty": {"from": "on_hand", "as": "text"},
            "promised": {"from": "reserved"},
            "by": {"from": "marker"},
        },
    },
}

# How a record shows that it is at its company's default location, and what it holds there.
PLACED = {
    "location_column": "SELECT s.id, s.quantity, s.reserved FROM stock_items s "
    "JOIN locations l ON l.id = s.location_id AND l.company_id = s.company_id",
    "allocation_json": "SELECT s.id, (a.value->>'allocated')::int, (a.value->>'reserved')::int "
    "FROM stock_items s, jsonb_each(s.allocations) a "
    "JOIN locations l ON true WHERE l.id::text = a.key AND l.company_id = s.company_id",
    "allocation_list": "SELECT s.id, (a->>'qty')::int, (a->'promised')::int "
    "FROM stock_items s, jsonb_array_elements(s.allocations) a "
    "JOIN locations l ON true WHERE to_jsonb(l.id) = a->'place'->'id' "
    "AND l.company_id = s.company_id",
    "stock_level": "SELECT s.id, t.on_hand::int, t.reserved::int FROM stock_items s "
    "JOIN stock_levels t ON {same} "
    "JOIN locations l ON l.id = t.location_id AND l.company_id = s.company_id",
}

KEYS = {
    "int": (["id"], "SELECT 1"),
    "uuid": (
        ["id"],
        "ALTER TABLE stock_items ALTER id DROP IDENTITY;"
        "ALTER TABLE stock_items ALTER id TYPE uuid USING md5(id::text)::uuid",
    ),
    "composite": (
        ["company_id", "sku"],
        "ALTER TABLE stock_items DROP CONSTRAINT stock_items_pkey;"
        "ALTER TABLE stock_items ADD PRIMARY KEY (company_id, sku)",
    ),
}

# A record that the application has taken to a shelf of its own, and what shows that it has.
TAKEN_FURTHER = {
    "location_column": "UPDATE stock_items SET location_id = 4 WHERE sku = 'SKU-1'",
    "allocation_json": "UPDATE stock_items SET allocations = '{\"4\": {}}' WHERE sku = 'SKU-1'",
    "allocation_list": 'UPDATE stock_items SET allocations = \'[{"place": {"id": 4}}]\' '
    "WHERE sku = 'SKU-1'",
    "stock_level": "UPDATE stock_levels SET location_id = 4 WHERE on_hand = 1",
}
# Which column shows it, and what of its text only the value has that we wrote.
MOVED_COLUMN = {
    "location_column": "location_id",
    "allocation_json": "allocations",
    "allocation_list": "allocations",
    "stock_level": "location_id",
}
WRITTEN = {
    "location_column": "1",
    "allocation_json": "SYSTEM_MIGRATION",
    "allocation_list": "SYSTEM_MIGRATION",
    "stock_level": "location 1",
}
LEFT_WRITTEN = {
    "location_column": "SELECT sku FROM stock_items WHERE location_id IS NOT NULL",
    "allocation_json": "SELECT sku FROM stock_items "
    "WHERE allocations IS NOT NULL OR transfers IS NOT NULL",
    "allocation_list": "SELECT sku FROM stock_items "
    "WHERE allocations IS NOT NULL OR transfers IS NOT NULL",
    "stock_level": "SELECT s.sku FROM stock_levels t JOIN stock_items s ON {same}",
}

Making = Callable[[EmbeddedServer], AbstractContextManager[Database]]

CASES = [
    (shape, keys, basis)
    for shape in TARGETS
    for keys, basis in (
        ("int", "gross"),
        ("int", "net"),
        ("uuid", "net"),
        ("composite", "gross"),
    )
]
CASES += [(form, "uuid", "net") for form in FORMS]
contract = pytest.mark.parametrize(("shape", "keys", "basis"), CASES)


def target(shape: str, keys: str) -> dict[str, Any]:
    """The shape's target; a level names the record by each column of its key."""
    if shape != "stock_level":
        return {**TARGETS, **FORMS}[shape]
    return {**TARGETS[shape], "record": {f"item_{key}": key for key in KEYS[keys][0]}}


def query(text: str, keys: str) -> str:
    """A query over `s` and `t` that joins a record and its level by the key of the case."""
    return text.format(same=" AND ".join(f"t.item_{key} = s.{key}" for key in KEYS[keys][0]))


def prepared(database: Database, shape: str, keys: str, basis: str) -> StockMapping:
    """The shop with one record that breaks a rule and one that is skipped."""
    columns, change = KEYS[keys]
    stage.shop(database, companies=3, items=30)
    database.psql(
        f"{change}; UPDATE stock_items SET quantity = NULL WHERE sku = 'SKU-7';"
        "UPDATE stock_items SET deleted_at = now() WHERE sku = 'SKU-8'"
    )
    mapping = stage.mapping(
        source={**stage.DEFINITION["source"], "key": columns},
        target=target(shape, keys),
        quantity_basis=basis,
        thresholds={"quarantined_percent": 100},
        phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}],
    )
    database.hand_over(mapping)
    return mapping


def application(database: Database, mapping: StockMapping) -> str:
    """Every column of the application that the migration does not write."""
    dropped = "".join(f" - '{name}'" for name in mapping.target.columns)
    return database.psql(f"SELECT to_jsonb(s){dropped} AS r FROM stock_items s ORDER BY sku")


def placed(database: Database, shape: str, keys: str) -> list[str]:
    return database.psql(f"{query(PLACED[shape], keys)} ORDER BY s.sku").splitlines()


def test_every_registered_shape_has_its_place_in_this_contract() -> None:
    assert set(SHAPES) == set(TARGETS)
    assert {*TARGETS, *FORMS} == set(PLACED) == set(TAKEN_FURTHER) == set(LEFT_WRITTEN)


@dataclass(frozen=True)
class Migrated:
    """The shop after a migration, and what was known before it."""

    database: Database
    shape: str
    keys: str
    basis: str
    mapping: StockMapping
    before: str
    promised: str
    predicted: dict[str, Any]
    found: Reconciled

    def placed(self) -> list[str]:
        return placed(self.database, self.shape, self.keys)


@pytest.fixture(scope="module")
def made() -> Making:
    """How a database is made; `test_privileges.py` has another way."""
    return made_database


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def migrated(
    server: EmbeddedServer, made: Making, request: pytest.FixtureRequest
) -> Iterator[Migrated]:
    """One migration of each case, for all tests that only look at what it has left."""
    shape, keys, basis = request.param
    with made(server) as database:
        mapping = prepared(database, shape, keys, basis)
        taken = "" if basis == "net" else " - reserved"
        promised = database.psql(
            f"SELECT id, quantity{taken} FROM stock_items "
            "WHERE quantity IS NOT NULL AND deleted_at IS NULL ORDER BY sku"
        )
        before = application(database, mapping)
        with database.engine.connect() as connection:
            predicted = prediction.predict(connection, plan.resolve(connection, mapping))
        found = stage.migrate(database, mapping)
        yield Migrated(database, shape, keys, basis, mapping, before, promised, predicted, found)


def test_conservation(migrated: Migrated) -> None:
    database, basis = migrated.database, migrated.basis
    assert migrated.found.proof.differences == []
    assert stage.outcomes(database) == {"migrated": 28, "quarantined": 1, "skipped": 1}
    assert application(database, migrated.mapping) == migrated.before
    rows = [row.split("|") for row in migrated.placed()]
    own = basis == "gross" or migrated.shape == "location_column"
    expected = database.psql(
        f"SELECT count(*), sum({'quantity' if own else 'quantity + reserved'}), sum(reserved) "
        "FROM stock_items WHERE quantity IS NOT NULL AND deleted_at IS NULL"
    )
    assert expected == "|".join(
        str(n) for n in (len(rows), sum(int(r[1]) for r in rows), sum(int(r[2]) for r in rows))
    )


def test_available_stays_the_same_for_each_company_and_item(migrated: Migrated) -> None:
    """What can be promised is read from the target where the target holds numbers."""
    own = migrated.basis == "net" and migrated.shape == "location_column"
    after = [row.split("|") for row in migrated.placed()]
    assert migrated.promised.splitlines() == [
        f"{key}|{int(on_hand) - (0 if own else int(reserved))}" for key, on_hand, reserved in after
    ]
    with migrated.database.engine.connect() as connection:
        resolved = plan.resolve(connection, migrated.mapping)
        current = ledger.current(connection, migrated.mapping.name)
        balance = balances.balance(connection, resolved, current)
        rows = connection.execute(sa.text(escaped(balance))).all()
    assert len(rows) == 30
    assert [row for row in rows if row.available_before != row.available_after] == []


def test_quarantine(migrated: Migrated) -> None:
    assert (
        migrated.database.psql(
            "SELECT rule, record->>'sku' FROM inventory_migration.outcome "
            "WHERE outcome = 'quarantined'"
        )
        == "quantity_missing|SKU-7"
    )


def test_dry_run(migrated: Migrated) -> None:
    assert {
        name: count
        for name, count in migrated.predicted["records"].items()
        if count and name != "snapshot"
    } == stage.outcomes(migrated.database)


def test_status_of_a_record(migrated: Migrated) -> None:
    columns = ", ', ', ".join(KEYS[migrated.keys][0])
    told = {}
    for sku in ("SKU-1", "SKU-7"):
        wanted = f"SELECT concat({columns}) FROM stock_items WHERE sku = '{sku}'"
        key = migrated.database.psql(wanted)
        with migrated.database.engine.connect() as connection:
            resolved = plan.resolve(connection, migrated.mapping)
            found = story.show_record(connection, resolved, key)
        told[sku] = [(h["outcome"], h["rule"], h["location_after"]) for h in found["history"]]
    assert told == {
        "SKU-1": [("migrated", None, "1")],
        "SKU-7": [("quarantined", "quantity_missing", None)],
    }


def test_idempotence(migrated: Migrated) -> None:
    whole = LEFT_WRITTEN[migrated.shape].replace("sku FROM", "* FROM").replace("s.*", "t.*")
    left = f"{query(whole, migrated.keys)} ORDER BY sku"
    after = migrated.placed(), migrated.database.psql(left)
    assert stage.migrate(migrated.database, migrated.mapping).changed is False
    assert (migrated.placed(), migrated.database.psql(left)) == after


@contract
def test_resume(database: Database, shape: str, keys: str, basis: str) -> None:
    mapping = prepared(database, shape, keys, basis)
    stage.locations(database, mapping)
    with pytest.raises(MigrationPaused):
        stage.transform(database, mapping, stop_after="pilot")
    assert 0 < len(placed(database, shape, keys)) < 28
    stage.transform(database, mapping, start=Start(resume=True))
    assert stage.close(database, mapping).proof.differences == []
    assert len(placed(database, shape, keys)) == 28


@contract
def test_rollback(database: Database, shape: str, keys: str, basis: str) -> None:
    mapping = prepared(database, shape, keys, basis)
    before = application(database, mapping)
    stage.migrate(database, mapping)
    foretold = foretell(database, mapping)
    undo(database, mapping)
    assert foretold["undone"] == {"records": 28, "kept": 0, "locations": 3}
    assert undone(database) == foretold["undone"]
    assert placed(database, shape, keys) == []
    assert application(database, mapping) == before
    assert database.psql(query(LEFT_WRITTEN[shape], keys)) == ""
    assert database.psql("SELECT count(*) FROM locations") == "0"
    assert database.psql("SELECT count(*) FROM inventory_migration.conflict") == "0"


@contract
def test_provenance(database: Database, shape: str, keys: str, basis: str) -> None:
    """A record that the application took further is neither undone nor overlooked."""
    mapping = prepared(database, shape, keys, basis)
    stage.migrate(database, mapping)
    database.psql(f"INSERT INTO locations (company_id, name) VALUES (1, 'Shelf'); "
                  f"{TAKEN_FURTHER[shape]}")  # fmt: skip
    foretold = foretell(database, mapping)
    undo(database, mapping)
    assert database.psql(query(LEFT_WRITTEN[shape], keys)) == "SKU-1"
    with database.engine.connect() as connection:
        migration = ledger.find(connection, migration_id=1)
        assert migration is not None
        listed = trail.undone(connection, [migration], WHOLE)
    assert {name: foretold[name] for name in listed} == listed
    assert foretold["undone"] == undone(database) == {"records": 27, "kept": 1, "locations": 3}
    (conflict,) = listed["conflicts"]
    assert (conflict["kind"], conflict["column"]) == ("moved_since", MOVED_COLUMN[shape])
    assert [WRITTEN[shape] in conflict[name] for name in ("written", "found")] == [True, False]


@contract
def test_partial_rollback(database: Database, shape: str, keys: str, basis: str) -> None:
    """A company goes back, comes again by an explicit run, and all go back in the end."""
    mapping = prepared(database, shape, keys, basis)
    before = application(database, mapping)
    stage.migrate(database, mapping)
    everywhere = placed(database, shape, keys)
    one = Scope(companies=("2",))
    foretold = foretell(database, mapping, scope=one)
    undo(database, mapping, scope=one)
    assert foretold["undone"] == undone(database) == {"records": 9, "kept": 0, "locations": 1}
    others = placed(database, shape, keys)
    assert len(others) == 19
    assert set(others) < set(everywhere)
    assert database.psql("SELECT company_id FROM locations ORDER BY 1") == "1\n3"
    assert database.psql("SELECT state FROM inventory_migration.migration") == "verified"
    with pytest.raises(StartRefused, match="only an explicit run"):
        stage.locations(database, mapping, Start())
    again = stage.migrate(database, mapping)
    assert [d for d in again.proof.differences if not d.explained] == []
    assert (again.migration and again.migration.migration_id, again.changed) == (2, True)
    assert stage.outcomes(database, 2) == {"migrated": 9}
    assert placed(database, shape, keys) == everywhere
    undo(database, mapping)
    assert placed(database, shape, keys) == []
    assert application(database, mapping) == before
    assert database.psql(query(LEFT_WRITTEN[shape], keys)) == ""
    assert database.psql("SELECT count(*) FROM locations") == "0"
    assert database.psql("SELECT DISTINCT state FROM inventory_migration.migration") == (
        "rolled_back"
    )


@contract
def test_partial_rollback_under_way(database: Database, shape: str, keys: str, basis: str) -> None:
    """A phase of a migration under way goes back, and is taken up again by whoever resumes."""
    mapping = prepared(database, shape, keys, basis)
    stage.locations(database, mapping)
    with pytest.raises(MigrationPaused):
        stage.transform(database, mapping, stop_after="pilot")
    undo(database, mapping, scope=Scope(phases=("pilot",)))
    assert placed(database, shape, keys) == []
    assert database.psql("SELECT state FROM inventory_migration.migration") == "paused"
    with pytest.raises(MigrationPaused, match="phase pilot undone"):
        stage.locations(database, mapping)
    done = stage.migrate(database, mapping, start=Start(resume=True, write_stop=True))
    assert done.proof.differences == []
    assert (done.migration and done.migration.migration_id) == 1
    assert len(placed(database, shape, keys)) == 28
    assert stage.outcomes(database) == {"migrated": 28, "quarantined": 1, "skipped": 1}
    undo(database, mapping)
    assert placed(database, shape, keys) == []
    assert database.psql("SELECT count(*) FROM locations") == "0"


@contract
def test_gates(database: Database, shape: str, keys: str, basis: str) -> None:
    """No step writes before the gate in front of it has passed, whatever the shape."""
    mapping = prepared(database, shape, keys, basis)
    tables = "SELECT oid, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    before = database.psql(tables)
    with control.Claim(database.engine) as claim, pytest.raises(GateRefused, match="audit_profile"):
        plan.prepare_locations(database.engine, mapping, claim, Start(explicit=True))
    assert database.psql(tables) == before
    stage.locations(database, mapping)
    database.psql("INSERT INTO companies VALUES (77, 'Late')")
    database.psql("INSERT INTO locations (company_id, is_default) VALUES (77, true)")
    with control.Claim(database.engine) as claim, pytest.raises(GateRefused, match="stale"):
        phases.transform_stock(database.engine, mapping, claim, Start(explicit=True))
    assert placed(database, shape, keys) == []
