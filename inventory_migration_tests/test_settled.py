"""Nothing left to do: told at once where it is so, and never where a run would find something."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from inventory_migration import inquiries, verbs
from inventory_migration.engine import coverage, settled, untouched
from inventory_migration.mapping import StockMapping
from inventory_migration.project import find
from inventory_migration_tests import stage
from inventory_migration_tests.commands import answer, mapping_file
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.one_server

CLEAN = "DELETE FROM stock_items WHERE id = 99; DELETE FROM companies WHERE id = 99"


def is_settled(database: Database, mapping: StockMapping = stage.MAPPING) -> bool:
    """Ask as `run` does."""
    return inquiries.is_settled(verbs.open_target(database.url), mapping)


def test_a_run_with_nothing_to_do_is_told_from_one_that_has(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.shop(database)
    # One is put aside and one skipped: neither is anything to do.
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id = 3")
    database.psql("UPDATE stock_items SET deleted_at = now() WHERE id = 4")
    assert not is_settled(database)
    verbs.run(verbs.open_target(database.url), stage.MAPPING)
    assert is_settled(database)
    database.psql("UPDATE stock_items SET quantity = quantity + 1 WHERE id = 5")
    assert is_settled(database)

    theirs = "(SELECT location_id FROM stock_items WHERE id = 2)"
    for change, back in (
        ("INSERT INTO stock_items (id, company_id, sku, quantity) VALUES (99, 1, 'NEW', 1)", CLEAN),
        ("INSERT INTO companies (id, name) VALUES (99, 'New')", CLEAN),
        ("UPDATE stock_items SET location_id = NULL WHERE id = 1",
         "UPDATE stock_items SET location_id = (SELECT location_id FROM stock_items WHERE id = 7) "
         "WHERE id = 1"),
        (f"UPDATE stock_items SET location_id = {theirs} WHERE id = 1",
         "UPDATE stock_items SET location_id = (SELECT location_id FROM stock_items WHERE id = 7) "
         "WHERE id = 1"),
        ("UPDATE stock_items SET quantity = 3 WHERE id = 3",
         "UPDATE stock_items SET quantity = NULL WHERE id = 3"),
        ("UPDATE stock_items SET deleted_at = NULL WHERE id = 4",
         "UPDATE stock_items SET deleted_at = now() WHERE id = 4"),
        ("INSERT INTO inventory_migration.gate (mapping, mapping_hash, suite) "
         "SELECT mapping, mapping_hash, suite FROM inventory_migration.gate "
         "ORDER BY gate_id DESC LIMIT 1",
         "DELETE FROM inventory_migration.gate WHERE passed IS NULL AND suite LIKE 'rec%' "
         "AND gate_id = (SELECT max(gate_id) FROM inventory_migration.gate)"),
    ):  # fmt: skip
        database.psql(change)
        assert not is_settled(database), change
        database.psql(back)
        assert is_settled(database), back

    rules = {"negative_quantity": "fail"}
    assert not is_settled(database, stage.mapping(rules=rules))
    loosened = {"loosen": {"record-not-skipped": {"to": "info", "reason": "Known."}}}
    assert not is_settled(database, stage.mapping(expectations=loosened))
    assert not is_settled(database, stage.mapping(guard=True))
    own = tmp_path / "own"
    own.mkdir()
    suite = find("expectations", "transformed_stock.json")
    monkeypatch.setenv("INVENTORY_EXPECTATIONS", str(own))
    shutil.copy(suite, own)
    assert is_settled(database)
    (own / suite.name).write_text(suite.read_text().replace("is lost to", "is hidden from"))
    assert not is_settled(database)


def test_what_counts_as_left_over_is_what_a_migration_would_take(database: Database) -> None:
    stage.shop(database)
    stage.migrate(database)
    with database.engine.connect() as connection:
        resolved = stage.plan.resolve(connection, stage.MAPPING)
        covered = coverage.dealt_with(connection, resolved)
        assert [*coverage.left_over(connection, resolved, covered, astray=True)] == [0, 0]
        assert [*coverage.left_over(connection, resolved, covered)] == [0, 0, 0]
    database.psql("UPDATE stock_items SET location_id = NULL WHERE id < 4")
    database.psql("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'A', 1)")
    with database.engine.connect() as connection:
        assert [*coverage.left_over(connection, resolved, covered)] == [0, 1, 4]


@pytest.mark.slow
def test_the_command_says_what_it_looked_at_and_starts_no_run(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    stage.shop(database)
    path = mapping_file(tmp_path)
    first = answer("run", "--mapping", path)
    written = Path(first["report"]["json"]).read_bytes()
    again = answer("run", "--mapping", path)
    assert (again["changed"], again["checked"]) == (False, [*settled.CHECKED])
    assert (again["report"], again["seal"]) == (first["report"], first["seal"])
    assert Path(first["report"]["json"]).read_bytes() == written
    gates = "SELECT count(*) FROM inventory_migration.gate WHERE passed"
    assert database.psql(gates) == "4"
    # A report that is gone is written anew; all steps are gone through where that is asked for.
    Path(first["report"]["html"]).unlink()
    anew = answer("run", "--mapping", path)
    assert Path(anew["report"]["html"]).is_file()
    assert anew["seal"]["report"] != first["seal"]["report"]
    whole = answer("run", "--mapping", path, "--all-steps")
    assert (whole["changed"], "checked" in whole) == (False, False)
    assert database.psql(gates) == "8"


def test_what_is_as_it_was_proved_is_looked_at_no_further(database: Database) -> None:
    stage.shop(database)
    mapping = stage.mapping(source={**stage.DEFINITION["source"], "skip": {}})
    verbs.run(verbs.open_target(database.url), mapping)

    def as_proved() -> bool:
        with database.engine.connect() as connection:
            resolved = stage.plan.resolve(connection, mapping)
            last = stage.ledger.find(connection, mapping="shop")
            assert last is not None
            return untouched.is_as_proved(connection, resolved, last)

    assert as_proved()
    database.psql("VACUUM FREEZE stock_items")
    database.psql("DELETE FROM stock_items WHERE id = 30")
    assert as_proved()
    # Each leaves a younger row, or fewer rows beside, or another database.
    ours = (
        "UPDATE inventory_migration.event SET detail = jsonb_set(detail, '{before,name}', '\"x\"')"
    )
    for change in (
        "UPDATE stock_items SET quantity = 1 WHERE id = 1",
        "UPDATE companies SET name = name",
        "INSERT INTO companies (name) VALUES ('New')",
        "UPDATE stock_items SET location_id = NULL; DELETE FROM locations WHERE id = 1",
        f"SET session_replication_role = replica; {ours} WHERE kind = 'verdict'",
    ):
        with database.engine.connect() as connection:
            resolved = stage.plan.resolve(connection, mapping)
            last = stage.ledger.find(connection, mapping="shop")
            assert last is not None
            assert untouched.is_as_proved(connection, resolved, last)
            connection.execute(sa.text(change))
            assert not untouched.is_as_proved(connection, resolved, last), change
            connection.rollback()
    assert is_settled(database, mapping)
    # What a skip looks at may be anywhere, and what was put aside may have been mended before.
    skip = {"deleted": {"sql": "COALESCE(s.deleted_at) IS NOT NULL"}}
    asking = stage.mapping(source={**stage.DEFINITION["source"], "skip": skip})
    with database.engine.connect() as connection:
        resolved = stage.plan.resolve(connection, asking)
        assert not untouched.is_as_proved(connection, resolved, last)
