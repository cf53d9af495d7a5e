"""Seals hold whatever a session's settings are, follow late arrivals, and say where they lack."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.database import create_engine
from inventory_migration.engine import blocks, evidence, ledger
from inventory_migration.engine.blocks import Beside, Block, Rows, differing, some_of
from inventory_migration.engine.plan import Start
from inventory_migration.errors import MigrationPaused, ReportNotSealed
from inventory_migration.report import authenticity, facts, seal
from inventory_migration.report.documents import write_report, write_sealed
from inventory_migration_tests import stage
from inventory_migration_tests.commands import answer
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.one_server

MAPPING = stage.mapping(phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}])


@pytest.fixture
def shop(database: Database) -> Database:
    stage.shop(database)
    return database


def changed(database: Database) -> list[tuple[int, int]]:
    """The rows of the first snapshot that are not as they were sealed."""
    with database.engine.connect() as connection:
        migration = ledger.find(connection, migration_id=1)
        assert migration is not None
        sealed = evidence.sealed_snapshot(connection, migration)
        assert sealed
        now = evidence.snapshot_now(connection, migration, sealed)
        return [*differing(sealed, now)]


def test_late_arrivals_are_sealed_as_they_come_and_what_goes_again_is_no_change(
    shop: Database,
) -> None:
    with pytest.raises(MigrationPaused):
        stage.migrate(shop, MAPPING, stop_after="pilot")
    shop.psql("""
        INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'LATE-1', 1), (2, 'L', 2);
        DELETE FROM stock_items WHERE id = 30;
    """)
    stage.transform(shop, MAPPING, start=Start(resume=True))
    # What was moved elsewhere is taken into another chunk: its position stays.
    shop.psql("""
        INSERT INTO stock_items (id, company_id, sku, quantity) VALUES (30, 3, 'SKU-30', 30);
        UPDATE stock_items SET location_id = NULL WHERE id = 4;
    """)
    stage.close(shop, MAPPING)
    with shop.engine.connect() as connection:
        migration = ledger.find(connection, migration_id=1)
        assert migration is not None
        sealed = evidence.sealed_snapshot(connection, migration)
    assert sealed[-1].last == int(
        shop.psql("SELECT max(position) FROM inventory_migration.snapshot_1")
    )
    assert sealed[-1].last > 30
    assert int(shop.psql("SELECT max(phase) FROM inventory_migration.snapshot_1")) == 3
    assert changed(shop) == []
    shop.psql("UPDATE inventory_migration.snapshot_1 SET item_key = 'x' WHERE item_key = 'LATE-1'")
    (found,) = changed(shop)
    assert found[0] == found[1] > 30


def test_seals_hold_under_whatever_settings_a_role_has(shop: Database) -> None:
    shop.psql("ALTER TABLE stock_items ALTER quantity TYPE double precision USING quantity / 3.0")
    stage.migrate(shop, stage.mapping(touch={"updated_at": {"sql": "now()"}}))
    role = shop.psql("SELECT current_user")
    for setting in ("TimeZone = 'Asia/Tokyo'", "DateStyle = 'SQL, DMY'", "extra_float_digits = 0",
                    "IntervalStyle = 'iso_8601'", "bytea_output = 'escape'"):  # fmt: skip
        shop.psql(f"ALTER ROLE {role} IN DATABASE {shop.name} SET {setting}")
    shop.engine.dispose()
    assert shop.psql("SHOW timezone") == "Asia/Tokyo"
    assert changed(shop) == []
    with shop.engine.connect() as connection, evidence.plainly_spelled(connection):
        assert connection.execute(sa.text("SHOW timezone")).scalar_one() == "UTC"
    with shop.engine.connect() as connection:
        with evidence.plainly_spelled(connection):
            pass
        assert connection.execute(sa.text("SHOW timezone")).scalar_one() == "Asia/Tokyo"


def test_a_report_that_cannot_be_sealed_is_written_and_says_why(
    shop: Database, tmp_path: Path
) -> None:
    stage.migrate(shop, MAPPING)
    shop.psql("""
        CREATE ROLE auditor LOGIN;
        GRANT USAGE ON SCHEMA inventory_migration TO auditor;
        GRANT SELECT ON ALL TABLES IN SCHEMA inventory_migration, public TO auditor;
    """)
    try:
        as_auditor = shop.url.replace("postgres@", "auditor@") + "&user=auditor"
        target = verbs.open_target(as_auditor)
        with target.reader.connect() as connection:
            assert connection.execute(sa.text("SELECT current_user")).scalar_one() == "auditor"
        paths, told = write_sealed(target, MAPPING, tmp_path)
        assert told is not None
        assert told["kept"] is False
        assert told["reason"] == "the role may not write to the ledger"
        for path in filter(None, paths.values()):
            with pytest.raises(ReportNotSealed, match="may not write to the ledger"):
                authenticity.verify(target.reader, Path(path))
        content = json.loads(Path(paths["json"] or "").read_text())
        assert content["seal"]["sha256"] == seal.content_hash(content)
        assert shop.psql("SELECT count(*) FROM inventory_migration.seal") == "0"
        # Who may only read can verify what others have sealed.
        paths = write_report(verbs.open_target(shop.url), MAPPING, tmp_path)
        assert authenticity.verify(target.reader, Path(paths["html"] or ""))["genuine"]
    finally:
        shop.psql("DROP OWNED BY auditor; DROP ROLE auditor")
    reads = create_engine(shop.url, read_only=True)
    found = facts.read(reads, MAPPING)
    assert found is not None
    seal.seal(reads, found.facts, found.live, lambda _: {})
    assert found.facts["seal"]["reason"] == "the database can only be read, as a standby can"


def test_each_report_has_a_seal_and_unchanged_rows_are_kept_once(
    shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "BLOCK_ROWS", 5)
    stage.migrate(shop, MAPPING)
    target = verbs.open_target(shop.url)
    first, once = write_sealed(target, MAPPING, tmp_path / "first")
    rows = "SELECT count(*) FROM inventory_migration.sealed_rows WHERE kind = 'live'"
    kept = int(shop.psql(rows))
    second, again = write_sealed(target, MAPPING, tmp_path / "second")
    assert once is not None
    assert again is not None
    assert once["sha256"] != again["sha256"]
    assert int(shop.psql(rows)) == kept == 6
    assert shop.psql("SELECT count(*) FROM inventory_migration.seal") == "2"
    shop.psql("UPDATE stock_items SET quantity = 99 WHERE id = 8")
    write_report(target, MAPPING, tmp_path / "third")
    assert int(shop.psql(rows)) == kept + 1
    for path in (first["json"], second["html"]):
        found = authenticity.verify(target.reader, Path(path or ""))
        assert found["genuine"]
        assert [row["key"] for row in found["live"]["changed"]["shown"]] == ["8"]
        assert "Later reports of the same migration" in found["since"][0]
    verbs.roll_back(target, MAPPING)
    found = authenticity.verify(target.reader, Path(first["json"] or ""))
    assert found["genuine"]
    assert found["since"][0] == "Migration 1 was verified and is rolled back by now."
    assert found["live"]["changed"]["rows"] == 30


def test_a_snapshot_that_was_never_sealed_is_no_tampering(shop: Database, tmp_path: Path) -> None:
    stage.migrate(shop, MAPPING)
    shop.psql("""
        DROP TABLE inventory_migration.seal, inventory_migration.sealed_rows;
        UPDATE inventory_migration.version SET version = 5;
    """)
    target = verbs.open_target(shop.url)
    ledger.bring_up_to_date(target.engine)
    paths = write_report(target, MAPPING, tmp_path)
    found = authenticity.verify(target.reader, Path(paths["markdown"] or ""))
    assert (found["genuine"], found["tampered"]) == (True, False)
    assert found["snapshot"]["why"] == "it was written by an older version, which sealed none"
    assert found["live"]["compared"] is True
    with pytest.raises(AssertionError, match="seal is only ever added to"):
        shop.psql("DELETE FROM inventory_migration.seal")


def test_a_report_of_a_tampered_snapshot_has_not_passed(shop: Database, tmp_path: Path) -> None:
    stage.migrate(shop, MAPPING)
    shop.psql("UPDATE inventory_migration.snapshot_1 SET item_key = 'x' WHERE position = 3")
    paths = write_report(verbs.open_target(shop.url), MAPPING, tmp_path)
    told = json.loads(Path(paths["json"] or "").read_text())
    assert told["verdict"]["passed"] is False
    assert "rows of the snapshot were changed" in told["verdict"]["text"]
    assert told["seal"]["snapshot"]["intact"] is False
    assert [row["position"] for row in told["seal"]["snapshot"]["changed"]["shown"]] == [3]
    found = answer("verify-report", paths["json"], "--database-url", shop.url, code=3)
    assert (found["genuine"], found["tampered"]) == (True, True)


TAMPERED = {
    "": ("transactions", True),
    "UPDATE inventory_migration.snapshot_1 SET item_key = 'x' WHERE position = 3": (
        "hashes",
        False,
    ),
    "UPDATE inventory_migration.snapshot_1 SET chunk = chunk WHERE position = 3": ("hashes", True),
    "DELETE FROM inventory_migration.snapshot_1 WHERE position = 30": ("hashes", False),
    "INSERT INTO inventory_migration.snapshot_1 SELECT * FROM inventory_migration.snapshot_1 "
    "WHERE position = 4": ("hashes", False),
    "CREATE TABLE taken AS TABLE inventory_migration.snapshot_1;"
    "UPDATE taken SET item_key = 'x' WHERE position = 3; TRUNCATE inventory_migration.snapshot_1;"
    "INSERT INTO inventory_migration.snapshot_1 TABLE taken": ("hashes", False),
}


def test_rows_that_nobody_has_written_to_are_not_hashed_twice_in_one_run_and_a_report_says_so(
    shop: Database, tmp_path: Path
) -> None:
    stage.migrate(shop, MAPPING)
    target = verbs.open_target(shop.url)
    paths, _ = write_sealed(target, MAPPING, tmp_path, just_moved=True)
    for form in ("html", "markdown"):
        assert "no row has been written to since" in Path(paths[form] or "").read_text()
    assert authenticity.verify(target.reader, Path(paths["json"] or ""))["genuine"]
    paths, _ = write_sealed(target, MAPPING, tmp_path)
    assert "every row was hashed once more" in Path(paths["html"] or "").read_text()
    with shop.engine.connect() as connection:
        for written, known in TAMPERED.items():
            connection.execute(sa.text(written or "SELECT"))
            migration = ledger.find(connection, migration_id=1)
            assert migration is not None
            told = facts._snapshot(connection, migration, just_moved=True)
            connection.rollback()
            assert (told["checked"], told["intact"]) == known, written


def test_of_very_many_records_only_blocks_are_sealed(
    shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "BLOCK_ROWS", 5)
    monkeypatch.setattr(evidence, "MOST_LIVE_ROWS", 20)
    stage.migrate(shop, MAPPING)
    target = verbs.open_target(shop.url)
    paths = write_report(target, MAPPING, tmp_path)
    assert (
        authenticity.verify(target.reader, Path(paths["json"] or ""))["live"]["changed"]["rows"]
        == 0
    )
    shop.psql("UPDATE stock_items SET quantity = 99 WHERE id = 8")
    found = authenticity.verify(target.reader, Path(paths["json"] or ""))
    (row,) = found["live"]["changed"]["shown"]
    assert row["key"] is None
    assert row["through"] - row["position"] == 4


def test_two_rows_of_one_position_are_another_thing_than_one() -> None:
    one = _block(1, 2, "a", b"12345678" + b"abcdefgh")
    two = _block(1, 2, "b", b"12345678" * 2 + b"abcdefgh", (1, 1, 2))
    assert [*differing([one], [two])] == [(1, 1)]
    assert [*differing([one], [])] == [(1, 1), (2, 2)]
    assert [*differing([one], [one, _block(0, 0, "c", b"x" * 8)])] == [(0, 0)]
    assert [*differing([Block(1, 2, "a")], [Block(1, 2, "b")])] == [(1, 2)]


def _block(first: int, last: int, sha256: str, hashes: bytes, positions: Any = ()) -> Block:
    return Block(first, last, sha256, len(hashes) // 8, lambda: Rows(hashes, positions))


def test_rows_that_were_put_aside_are_read_back_as_they_were_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocks, "IN_MEMORY", 50)
    beside = Beside()
    wrote = [Rows(bytes([n]) * 8 * n, range(n) if n % 2 else ()) for n in range(12)]
    reads = [beside.put(rows) for rows in wrote]
    for rows, read in reversed([*zip(wrote, reads, strict=True)]):
        assert (read().hashes, [*read().positions]) == (rows.hashes, [*rows.positions])


def test_seals_of_many_rows_take_no_memory_but_for_their_blocks() -> None:
    beside = Beside()
    tracemalloc.start()
    for _ in range(1_000):
        beside.put(Rows(bytes(8_000), range(1_000)))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 1_500_000


def test_of_very_many_differences_all_are_counted_and_the_first_are_kept() -> None:
    assert some_of(((n, n) for n in range(7)), 2) == (7, [(0, 0), (1, 1)])
    assert some_of([], 2) == (0, [])
