"""What leaves the database is archived and verified; nothing is lost by it or migrated twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from inventory_migration import acceptance, inquiries, keeping, quarantine, steering, verbs
from inventory_migration.cli import archive_answers
from inventory_migration.engine import control, rollback
from inventory_migration.engine.plan import Start
from inventory_migration.engine.quarantine import Filter
from inventory_migration.engine.undo_scope import Scope
from inventory_migration.errors import (
    ArchiveDiffers,
    LedgerNotOwned,
    MigrationError,
    MigrationPurged,
    PurgeRefused,
)
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage, test_shapes
from inventory_migration_tests.commands import answer, im, mapping_file, sentence
from inventory_migration_tests.conftest import Database

KEPT = {"keep_online": "90 days", "keep_archive": "7 years"}
LENIENT = {"thresholds": {"quarantined_percent": 100}, "retention": KEPT}
MAPPING = stage.mapping(**LENIENT)
ONLINE = """
    SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
    WHERE relnamespace = 'inventory_migration'::regnamespace AND relkind IN ('r', 'v')
      AND relname ~ '^(snapshot|covered)_|_record_status$'
"""


def age(database: Database, days: int = 100) -> None:
    """Let all that has ended have ended so long ago."""
    database.psql(f"""
        ALTER TABLE inventory_migration.event DISABLE TRIGGER append_only;
        UPDATE inventory_migration.event SET at = at - interval '{days} days';
        ALTER TABLE inventory_migration.event ENABLE TRIGGER append_only;
    """)


def purge(
    database: Database, kept: Path, mapping: StockMapping = MAPPING, migration_id: int | None = None
) -> list[dict[str, Any]]:
    """What `archive --purge` does."""
    target = verbs.open_target(database.url)
    due = keeping.due(target, mapping, migration_id=migration_id)
    archives = keeping.archive(target, mapping, kept, migration_id=migration_id)
    return keeping.purge_archived(target, mapping, due, archives)


def run(database: Database, mapping: StockMapping = MAPPING) -> int | None:
    """All steps where something is new; returns how many records that were."""
    found = stage.locations(database, mapping)
    if found is None:
        return None
    stage.transform(database, mapping)
    stage.close(database, mapping)
    snapshot = f"inventory_migration.snapshot_{found.migration_id}"
    return int(database.psql(f"SELECT count(*) FROM {snapshot}"))


@pytest.fixture
def shop(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A verified migration that ended long ago, with two records put aside, one of them waived."""
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    monkeypatch.setenv("INVENTORY_HOME", str(tmp_path / "home"))
    stage.shop(database, items=30)
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id IN (4, 5)")
    stage.migrate(database, MAPPING)
    quarantine.waive(verbs.open_target(database.url), "shop", ["4"], reason="lost")
    age(database)
    return database


def waive(database: Database, *keys: str) -> None:
    quarantine.waive(verbs.open_target(database.url), "shop", keys, reason="lost")


def test_a_purge_is_refused_with_all_that_would_be_lost(
    shop: Database, target: verbs.Target, tmp_path: Path
) -> None:
    with pytest.raises(PurgeRefused, match=r"give it 'retention: \{keep_online: 90 days\}'"):
        keeping.due(target, stage.MAPPING)
    shop.psql("""
        CREATE VIEW lost_units AS SELECT sum(quantity) FROM inventory_migration.snapshot_1;
        CREATE MATERIALIZED VIEW told AS SELECT * FROM inventory_migration.shop_record_status;
        CREATE FUNCTION f(inventory_migration.snapshot_1_location) RETURNS int
        LANGUAGE sql AS 'SELECT 1';
    """)
    with pytest.raises(PurgeRefused) as refused:
        purge(shop, tmp_path)
    assert [problem.partition(":")[0] for problem in refused.value.problems] == [
        "migration 1 has records in quarantine that are open (1)",
        "function f(inventory_migration.snapshot_1_location) reads what migration 1 has here",
        "materialized view told reads what migration 1 has here",
        "view lost_units reads what migration 1 has here",
    ]
    assert list(tmp_path.glob("shop-*")) == []
    shop.psql("DROP VIEW lost_units; DROP MATERIALIZED VIEW told;"
              "DROP FUNCTION f(inventory_migration.snapshot_1_location)")  # fmt: skip
    waive(shop, "5")
    # A record arrives, and another migration is under way.
    shop.psql("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'new', 7)")
    stage.locations(shop, MAPPING)
    with pytest.raises(PurgeRefused, match="migration 2 is planned on the same target"):
        purge(shop, tmp_path)
    stage.transform(shop, MAPPING)
    stage.close(shop, MAPPING)
    # Only what is old enough goes, and the rest says until when it stays.
    due = keeping.due(target, MAPPING)
    assert [migration.migration_id for migration in due.migrations] == [1]
    assert [*due.kept_until] == [2]
    with pytest.raises(PurgeRefused, match="migration 2 is kept online for 90 days, until 20"):
        keeping.due(target, MAPPING, migration_id=2)
    assert shop.psql(ONLINE).count("snapshot") == 4


def test_a_purge_needs_who_owns_what_goes(shop: Database, tmp_path: Path) -> None:
    waive(shop, "5")
    role = f"archivist_{shop.name}"
    shop.psql(f"""
        CREATE ROLE {role} LOGIN;
        GRANT USAGE ON SCHEMA inventory_migration TO {role};
        GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA inventory_migration TO {role};
    """)
    archivist = verbs.open_target(shop.url.replace("postgres@", f"{role}@"))
    try:
        assert keeping.archive(archivist, MAPPING, tmp_path)[0]["written"]
        with pytest.raises(LedgerNotOwned) as refused:
            keeping.due(archivist, MAPPING)
        assert "ownership of inventory_migration.snapshot_1" in refused.value.lacking
        assert "DELETE ON inventory_migration.outcome" in refused.value.lacking
        assert "connect as postgres, who owns the ledger" in str(refused.value)
    finally:
        for engine in (archivist.engine, archivist.reader):
            engine.dispose()
        shop.psql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_what_the_archive_does_not_say_any_more_is_not_purged(
    shop: Database, target: verbs.Target, tmp_path: Path
) -> None:
    waive(shop, "5")
    due, archives = keeping.due(target, MAPPING), keeping.archive(target, MAPPING, tmp_path)
    shop.psql("UPDATE inventory_migration.outcome SET decision = 'found' WHERE key_text = '5'")
    with pytest.raises(PurgeRefused, match=r"migration 1 has changed .*\(outcome\)"):
        keeping.purge_archived(target, MAPPING, due, archives)
    # The next archive stands beside the first; a file of it that is damaged keeps the records here.
    archives = keeping.archive(target, MAPPING, tmp_path)
    damaged = Path(archives[0]["path"]) / "snapshot.parquet"
    assert damaged.parent.name == "shop-1.2"
    os.truncate(damaged, 100)
    with pytest.raises(ArchiveDiffers, match=r"snapshot\.parquet"):
        keeping.purge_archived(target, MAPPING, due, archives)
    assert shop.psql(ONLINE) == "shop_record_status snapshot_1 snapshot_1_location"
    assert shop.psql("SELECT count(*) FROM inventory_migration.outcome") == "2"
    # While somebody drives the target, nothing goes either.
    with control.Claim(target.engine) as claim:
        claim.take(due.migrations[0].target)
        with pytest.raises(MigrationError, match="another process is migrating"):
            keeping.purge_archived(
                target, MAPPING, due, keeping.archive(target, MAPPING, tmp_path / "again")
            )


@pytest.mark.slow
def test_after_a_purge_every_verb_works_or_says_where_the_records_are(
    shop: Database, target: verbs.Target, tmp_path: Path
) -> None:
    waive(shop, "5")
    kept = tmp_path / "archives"
    path = mapping_file(tmp_path, **LENIENT)
    before = answer("report", "--mapping", path, "--summary")
    listed = inquiries.list_migrations(target)
    asked = im("archive", "--mapping", path, "--to", kept, "--purge", code=2)
    assert "this removes the records of migration 1 of shop" in sentence(asked)
    done = im("archive", "--mapping", path, "--to", kept, "--purge", "--yes")
    assert "Migration 1 was purged: 38 rows are only there now." in done.stdout
    assert shop.psql(ONLINE) == "covered_1"
    counts = "SELECT count(*) FROM inventory_migration.{} WHERE migration_id = 1"
    assert [shop.psql(counts.format(name)) for name in ("outcome", "chunk", "after_image")] == [
        "0"
    ] * 3
    event = json.loads(
        shop.psql("SELECT detail FROM inventory_migration.event WHERE kind = 'purged'")
    )
    assert event["path"] == f"{kept}/shop-1"
    assert event["removed"]["snapshot"] == 30
    tried = {"operations": {"look": {"sql": "SELECT :record"}}}
    works = acceptance.accept(target, stage.mapping(**LENIENT, acceptance=tried))
    assert works["passed"]
    assert works["queries"][1]["rows"] == {
        "before": 28, "after": 28, "only_before": 0, "only_after": 0
    }  # fmt: skip

    # All numbers are what they were.
    archived = {"path": f"{kept}/shop-1"}
    after = answer("report", "--mapping", path, "--summary")
    assert after.pop("archived")["path"] == archived["path"]
    # No report is written of what is not there any more, and so none is sealed.
    assert after["seal"] is None
    unlike = {name: before[name] for name in ("archived", "report", "seal")}
    assert {**after, **unlike} == before
    (row,) = answer("status", "shop")
    assert row.pop("archived")["path"] == archived["path"]
    assert (row.pop("percent"), row.pop("eta")) == (100.0, None)
    assert row.pop("rate") == {"now": 0.0, "average": 0.0}
    assert {**row, "archived": None} == listed[0]
    assert f"1: its records are archived in {kept}/shop-1" in im("status").stdout
    refused = sentence(im("report", "--mapping", path, code=2))
    assert refused.endswith(f"its records are in {kept}/shop-1")
    assert "archived; its story is in" in im("show", "--mapping", path, "9").stdout
    assert im("quarantine", "list", "--mapping", path, "--json").exit_code == 0
    checked = verbs.validate(target, MAPPING)
    assert checked["passed"]
    assert checked["archived"] == [{"migration_id": 1, **archived}]
    assert checked["units"] == before["units"]
    again = answer("archive", "--mapping", path, "--to", kept, "--purge", "--yes")
    assert (again["changed"], again["purged"]) == (False, [])
    assert again["archives"][0]["purged_at"]

    # What is new is taken, and nothing else: not what was moved, emptied or waived.
    assert im("run", "--mapping", path).stdout.startswith("Nothing to do")
    shop.psql("""
        INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'new', 7);
        UPDATE stock_items SET quantity = 1 WHERE id = 4;
    """)
    taken = answer("run", "--mapping", path)
    assert (taken["migration_id"], taken["records"]["snapshot"]) == (2, 1)
    assert shop.psql("SELECT count(*) FROM stock_items WHERE location_id IS NULL") == "2"
    assert shop.psql(ONLINE) == "covered_1 shop_record_status snapshot_2 snapshot_2_location"

    # What came after it goes back alone.
    for scope in (Scope(), Scope(companies=("1",))):
        with pytest.raises(MigrationPurged, match=r"one by one with --id N; its records are in"):
            verbs.roll_back(target, MAPPING, scope=scope)
    with pytest.raises(MigrationPurged, match=f"rolled back from here; .* in {kept}/shop-1"):
        verbs.roll_back(target, MAPPING, migration_id=1)
    assert "--id N" in sentence(im("rollback", "--mapping", path, "--yes", code=2))
    assert verbs.roll_back(target, MAPPING, migration_id=2)["state"] == "rolled_back"
    assert shop.psql("SELECT count(*) FROM stock_items WHERE location_id IS NULL") == "3"


@pytest.mark.parametrize("shape", [*test_shapes.TARGETS])
def test_nothing_is_migrated_twice_under_any_shape(
    shape: str, database: Database, tmp_path: Path
) -> None:
    mapping = stage.mapping(**LENIENT, target=test_shapes.target(shape, "int"))
    stage.shop(database, items=12)
    stage.migrate(database, mapping)
    # Sold out by the application, whose row it was by then.
    emptied = {
        "stock_level": "DELETE FROM stock_levels WHERE item_id IN (3, 4)",
        "allocation_json": "UPDATE stock_items SET allocations = '{}' WHERE id IN (3, 4)",
        "location_column": "DELETE FROM stock_items WHERE id IN (3, 4)",
    }
    database.psql(emptied[shape])
    age(database)
    purge(database, tmp_path, mapping)
    assert run(database, mapping) == (None if shape != "allocation_json" else 2)
    database.psql("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'new', 7)")
    assert run(database, mapping) == 1


def test_what_was_tried_again_goes_with_what_tried_it(
    shop: Database, target: verbs.Target, tmp_path: Path
) -> None:
    shop.psql("UPDATE stock_items SET quantity = 5 WHERE id = 5")
    stage.locations(shop, MAPPING, Start(explicit=True, retry=Filter(keys=("5",))))
    stage.transform(shop, MAPPING)
    stage.close(shop, MAPPING)
    with pytest.raises(PurgeRefused, match="migration 2 has tried records of migration 1 again"):
        purge(shop, tmp_path)
    age(shop)
    due = keeping.due(target, MAPPING)
    assert "migrations 1" not in archive_answers.purging("shop", due)
    assert [one["migration_id"] for one in purge(shop, tmp_path)] == [2, 1]
    assert shop.psql(ONLINE) == "covered_1 covered_2"
    assert run(shop) is None
    with control.Claim(target.engine) as claim, pytest.raises(MigrationPurged, match="migration 2"):
        rollback.roll_back(target.engine, MAPPING, claim)


def test_what_went_back_or_was_aborted_leaves_no_more_than_it_has_to(
    shop: Database, target: verbs.Target, tmp_path: Path
) -> None:
    verbs.roll_back(target, MAPPING)
    shop.psql("UPDATE stock_items SET quantity = NULL WHERE id IN (6, 7)")
    stage.locations(shop, MAPPING)
    stage.transform(shop, MAPPING, stop_after=None)
    waive(shop, "6")
    waive(shop, "4", "5", "7")
    steering.abort(target, "shop", reason="enough")
    age(shop)
    assert [one["migration_id"] for one in purge(shop, tmp_path)] == [2, 1]
    assert shop.psql(ONLINE) == "covered_2"
    assert shop.psql("SELECT string_agg(key_1::text, ' ' ORDER BY key_1) "
                     "FROM inventory_migration.covered_2 WHERE waived") == "4 5 6 7"  # fmt: skip
    shop.psql("UPDATE stock_items SET quantity = 1 WHERE id IN (6, 7)")
    assert run(shop) == 26
