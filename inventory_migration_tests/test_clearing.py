"""The ledger goes whole and alone, and not while anything would be lost by it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from inventory_migration import clearing, inquiries, keeping, quarantine, verbs
from inventory_migration.engine.plan import Start
from inventory_migration.errors import LedgerMissing, LedgerNotDropped
from inventory_migration_tests import stage, test_purge, test_shapes
from inventory_migration_tests.commands import answer, im, mapping_file, sentence
from inventory_migration_tests.conftest import Database

GUARDED = stage.mapping(guard=True, thresholds={"quarantined_percent": 100})
OURS = """
    SELECT count(*) FROM pg_depend WHERE refobjid = to_regnamespace('inventory_migration')
"""
TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'stock_items'::regclass"


@pytest.fixture
def shop(database: Database) -> Database:
    """A verified migration behind a guard, with a record in quarantine."""
    stage.shop(database, items=12)
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id = 4")
    stage.migrate(database, GUARDED)
    return database


def refusal(target: verbs.Target) -> tuple[str, ...]:
    with pytest.raises(LedgerNotDropped) as refused:
        clearing.ready(target)
    return refused.value.problems


def archived(target: verbs.Target, folder: Path) -> Path:
    return Path(keeping.archive(target, GUARDED, folder)[-1]["path"])


def test_all_that_stands_against_it_is_told_at_once_and_then_it_goes(
    shop: Database, target: verbs.Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", shop.url)
    monkeypatch.setenv("INVENTORY_HOME", str(tmp_path / "home"))
    shop.psql("""
        INSERT INTO stock_items (company_id, sku, quantity, deleted_at) VALUES (1, 'x', 7, NULL);
        UPDATE stock_items SET location_id = NULL WHERE sku = 'x';
    """)
    stage.locations(shop, GUARDED)
    shop.psql("""
        CREATE TABLE inventory_migration.notes (id int PRIMARY KEY, text text);
        CREATE VIEW seen AS SELECT * FROM inventory_migration.event;
        CREATE FUNCTION inventory_migration.append_only(int) RETURNS int LANGUAGE sql
        AS 'SELECT 1';
        CREATE TYPE inventory_migration.feeling AS ENUM ('glad');
        CREATE TABLE signed (migration bigint REFERENCES inventory_migration.migration);
    """)
    told = refusal(target)
    assert [problem.partition(":")[0] for problem in told] == [
        "migration 2 of shop is planned",
        "records of shop are open in quarantine (1)",
        "trigger zz_guard_shop on stock_items is what keeps new stock in place",
        "function inventory_migration.append_only(integer) is not the tool's",
        "table inventory_migration.notes is not the tool's",
        "type inventory_migration.feeling is not the tool's",
        "constraint signed_migration_fkey on table signed is not the tool's",
        "view seen is not the tool's",
        "migration 1 of shop is not archived",
    ]
    assert im("ledger", "drop", "--yes", code=3).stderr.endswith("the ledger stays as it is\n")
    assert len(answer("ledger", "drop", "--yes", code=3)["error"]["problems"]) == len(told)

    # One after the other is done away with.
    verbs.roll_back(target, GUARDED, migration_id=2)
    quarantine.waive(target, "shop", ["4"], reason="lost")
    shop.psql("""
        DROP TABLE inventory_migration.notes, signed; DROP VIEW seen;
        DROP FUNCTION inventory_migration.append_only(int); DROP TYPE inventory_migration.feeling;
    """)
    archived(target, tmp_path / "archives")
    assert "DROP FUNCTION inventory_migration.guard_shop CASCADE" in refusal(target)[0]
    assert len(refusal(target)) == 1
    shop.psql("DROP FUNCTION inventory_migration.guard_shop CASCADE")
    before = [stage.table(shop, name) for name in ("stock_items", "locations", "companies")]
    assert "this removes the schema" in sentence(im("ledger", "drop", code=2))
    done = im("ledger", "drop", "--yes")
    assert "Your tables stay." in done.stdout
    assert f"shop 1: {tmp_path}/archives/shop-1" in done.stdout
    after = [stage.table(shop, name) for name in ("stock_items", "locations", "companies")]
    assert after == before
    assert (shop.psql(OURS), shop.psql(TRIGGERS)) == ("0", "0")
    assert shop.psql("SELECT to_regnamespace('inventory_migration')") == ""
    assert im("status").stdout == "No migration yet.\n"
    assert "this database has no ledger" in sentence(im("ledger", "drop", "--yes", code=2))
    with pytest.raises(LedgerMissing):
        clearing.ready(target)

    # A run begins anew, and finds everything where it is.
    path = mapping_file(tmp_path, thresholds={"quarantined_percent": 100})
    shop.psql("UPDATE stock_items SET location_id = (SELECT min(id) FROM locations "
              "WHERE company_id = stock_items.company_id) WHERE sku = 'x'")  # fmt: skip
    assert len(inquiries.list_migrations(target)) == 0
    stage.migrate(shop, stage.mapping(thresholds={"quarantined_percent": 100}))
    found = answer("report", "--mapping", path, "--summary")
    assert found["records"] == {
        "snapshot": 13, "migrated": 0, "already": 12, "skipped": 0, "quarantined": 1, "gone": 0,
        "pending": 0,
    }  # fmt: skip


def test_an_archive_counts_only_where_it_is_whole_here_and_says_what_the_ledger_says(
    shop: Database, target: verbs.Target, tmp_path: Path
) -> None:
    quarantine.waive(target, "shop", ["4"], reason="lost")
    shop.psql("DROP FUNCTION inventory_migration.guard_shop CASCADE")
    path = archived(target, tmp_path)
    assert clearing.ready(target).keys() == {1}
    away = path.rename(tmp_path / "away")
    (told,) = refusal(target)
    assert f"its archive {path} can not be read here: 'inventory-migration verify-archive" in told
    away.rename(path)
    shop.psql("INSERT INTO inventory_migration.event (migration_id, who, kind) "
              "VALUES (1, 'x', 'signed')")  # fmt: skip
    (told,) = refusal(target)
    assert f"has changed since it was archived in {path} (event): 'inventory-migration" in told
    newer = archived(target, tmp_path)
    assert clearing.ready(target)[1].path == newer == path.with_name("shop-1.2")
    # Another's archive in its place is not it.
    shutil.rmtree(newer)
    path.rename(newer)
    assert "is another one than the ledger knows" in refusal(target)[0]


def test_what_was_purged_is_only_dropped_while_its_archive_is_there(
    shop: Database, target: verbs.Target, tmp_path: Path
) -> None:
    quarantine.waive(target, "shop", ["4"], reason="lost")
    shop.psql("DROP FUNCTION inventory_migration.guard_shop CASCADE")
    test_purge.age(shop)
    test_purge.purge(shop, tmp_path, stage.mapping(**test_purge.LENIENT))
    (tmp_path / "shop-1").rename(tmp_path / "lost")
    assert "can not be read here" in refusal(target)[0]
    (tmp_path / "lost").rename(tmp_path / "shop-1")
    assert "covered_1" in clearing.drop_ledger(target, clearing.ready(target))["dropped"]


def test_nothing_goes_where_something_has_changed_since_it_was_looked_at(
    shop: Database, target: verbs.Target, tmp_path: Path
) -> None:
    quarantine.waive(target, "shop", ["4"], reason="lost")
    shop.psql("DROP FUNCTION inventory_migration.guard_shop CASCADE")
    archived(target, tmp_path)
    ready = clearing.ready(target)
    objects = shop.psql(OURS)
    shop.psql("UPDATE inventory_migration.outcome SET reason = 'x' WHERE key_text = '4'")
    with pytest.raises(LedgerNotDropped, match="migration 1 of shop has changed meanwhile"):
        clearing.drop_ledger(target, ready)
    archived(target, tmp_path)
    ready = clearing.ready(target)
    # What the look does not see is found by the server, and stays as well.
    shop.psql("CREATE TABLE mine (id bigint "
              "DEFAULT nextval('inventory_migration.event_event_id_seq'))")  # fmt: skip
    with pytest.raises(LedgerNotDropped, match="default value for column id of table mine"):
        clearing.drop_ledger(target, ready)
    assert shop.psql(OURS) == objects


def test_a_role_that_does_not_own_the_ledger_is_told_who_does(shop: Database) -> None:
    role = f"guest_{shop.name}"
    shop.psql(f"""
        CREATE ROLE {role} LOGIN;
        GRANT USAGE ON SCHEMA inventory_migration TO {role};
        GRANT SELECT ON ALL TABLES IN SCHEMA inventory_migration TO {role};
    """)
    guest = verbs.open_target(shop.url.replace("postgres@", f"{role}@"))
    try:
        told = [problem for problem in refusal(guest) if role in problem]
        assert told == [
            f"the role {role} does not own the schema inventory_migration: connect as postgres, "
            "with --database-url or INVENTORY_DATABASE_URL"
        ]
    finally:
        for engine in (guest.engine, guest.reader):
            engine.dispose()
        shop.psql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_levels_that_a_trigger_keeps_in_step_are_cut_over_first(
    database: Database, target: verbs.Target, tmp_path: Path
) -> None:
    mapping = stage.mapping(target={**test_shapes.target("stock_level", "int"), "sync": True})
    stage.shop(database, items=6)
    stage.migrate(database, mapping)
    keeping.archive(target, mapping, tmp_path)
    (told,) = refusal(target)
    assert "zz_sync_shop_delete, zz_sync_shop_write on stock_items" in told
    assert "'inventory-migration run shop --write-stop' cuts over" in told
    stage.close(database, mapping, Start(explicit=True, write_stop=True))
    keeping.archive(target, mapping, tmp_path)
    levels = database.psql("SELECT count(*), sum(on_hand) FROM stock_levels")
    clearing.drop_ledger(target, clearing.ready(target))
    assert database.psql("SELECT count(*), sum(on_hand) FROM stock_levels") == levels == "6|21"
    assert database.psql(TRIGGERS + " AND NOT tgisinternal") == "0"
