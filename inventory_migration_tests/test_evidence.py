"""A report is known as genuine or forged, and what was changed since is told row by row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from inventory_migration import verbs
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.mapping import StockMapping
from inventory_migration.report.documents import write_report
from inventory_migration_tests import stage, test_shapes
from inventory_migration_tests.commands import answer, im, sentence
from inventory_migration_tests.conftest import Database, made_database

pytestmark = pytest.mark.one_server

SHAPES = [*test_shapes.TARGETS]

# One unit more in a target, as somebody would write it by hand.
ONE_MORE = {
    "location_column": "UPDATE stock_items SET quantity = quantity + 1 WHERE id = 7",
    "allocation_json": "UPDATE stock_items SET allocations = replace(allocations::text, "
    "'\"allocated\": 7', '\"allocated\": 8')::jsonb WHERE id = 7",
    "stock_level": "UPDATE stock_levels SET on_hand = on_hand + 1 WHERE item_id = 7",
}


@dataclass
class Kept:
    """A migrated shop with its report, which tests forge copies of."""

    database: Database
    mapping: StockMapping
    paths: dict[str, Path]

    def verify(self, path: Path, code: int = 0) -> dict[str, Any]:
        return answer(  # type: ignore[no-any-return]
            "verify-report", path, "--database-url", self.database.url, code=code
        )


@pytest.fixture(scope="module", params=SHAPES)
def kept(
    server: EmbeddedServer, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kept]:
    mapping = stage.mapping(target=test_shapes.target(request.param, "int"))
    with made_database(server) as made:
        stage.shop(made)
        stage.migrate(made, mapping)
        folder = tmp_path_factory.mktemp("reports")
        paths = write_report(verbs.open_target(made.url), mapping, folder)
        yield Kept(made, mapping, {form: Path(path) for form, path in paths.items() if path})


def forged(path: Path, folder: Path, before: str, after: str) -> Path:
    """A copy in which one number is another one."""
    text = path.read_text(encoding="utf-8")
    assert before in text
    copy = folder / path.name
    copy.write_text(text.replace(before, after, 1), encoding="utf-8")
    return copy


def test_what_was_written_is_genuine_in_every_form(kept: Kept) -> None:
    assert {"markdown", "json"} <= kept.paths.keys()
    for form, path in kept.paths.items():
        found = kept.verify(path)
        assert (found["form"], found["genuine"], found["tampered"]) == (form, True, False)
        assert found["snapshot"] == {"compared": True, "why": None,
                                     "changed": {"rows": 0, "shown": []}}  # fmt: skip
        assert found["live"] == found["snapshot"]
    # The same facts in another spelling, and lines as another system ends them.
    told = json.loads(kept.paths["json"].read_text())
    again = kept.paths["json"].with_name("again.json")
    again.write_text(json.dumps(dict(reversed(told.items()))))
    assert kept.verify(again)["genuine"]
    windows = kept.paths["markdown"].with_name("windows.md")
    windows.write_bytes(kept.paths["markdown"].read_bytes().replace(b"\n", b"\r\n"))
    assert kept.verify(windows)["genuine"]


def test_one_number_changed_in_any_form_is_forged_and_told(kept: Kept, tmp_path: Path) -> None:
    units = kept.database.psql("SELECT sum(quantity) FROM stock_items")
    for form, path in kept.paths.items():
        if form == "json":
            found = kept.verify(forged(path, tmp_path, f'"{units}"', f'"{units}0"'), code=3)
            (differs,) = found["differs"]
            assert differs["file"] == f"{units}0"
            assert differs["sealed"] == units
            assert "." in differs["where"]
        else:
            found = kept.verify(forged(path, tmp_path, units, f"{int(units) + 1}"), code=3)
            assert found["differs"][0]["where"].startswith("line ")
            assert str(int(units) + 1) in found["differs"][0]["file"]
            assert units in found["differs"][0]["sealed"]
        assert found["genuine"] is False
        assert "says something else than was sealed" in found["why"][0]


def test_a_row_of_the_snapshot_that_was_changed_is_named(kept: Kept) -> None:
    snapshot = "inventory_migration.snapshot_1"
    kept.database.psql(f"CREATE TABLE saved AS SELECT * FROM {snapshot}")
    try:
        for change, keys in (
            (f"UPDATE {snapshot} SET quantity = quantity + 1 WHERE position = 12", [12]),
            (f"DELETE FROM {snapshot} WHERE position IN (1, 12, 30)", [1, 12, 30]),
            (f"INSERT INTO {snapshot} SELECT * FROM {snapshot} WHERE position = 12", [12]),
        ):
            kept.database.psql(change)
            found = kept.verify(kept.paths["json"], code=3)
            assert found["genuine"] is True, "the document itself is untouched"
            assert found["tampered"] is True
            shown = found["snapshot"]["changed"]["shown"]
            assert [row["position"] for row in shown] == keys
            if "UPDATE" in change:
                key = kept.database.psql(f"SELECT key_1 FROM {snapshot} WHERE position = 12")
                assert (shown[0]["key"], shown[0]["chunk"]) == (key, 3)
                told = im("verify-report", kept.paths["json"], "--database-url",
                          kept.database.url, code=3).stdout  # fmt: skip
                assert "Snapshot tampered with since it was written: 1." in told
                assert f"{key} (chunk 3, position 12)" in told
            kept.database.psql(f"TRUNCATE {snapshot}; INSERT INTO {snapshot} TABLE saved")
    finally:
        kept.database.psql("DROP TABLE saved")
    assert kept.verify(kept.paths["json"])["tampered"] is False


def test_a_row_of_the_target_that_was_changed_is_listed_and_no_forgery(kept: Kept) -> None:
    shape = kept.mapping.target.shape
    kept.database.psql(ONE_MORE[shape])
    found = kept.verify(kept.paths["json"])
    assert found["genuine"] is True
    assert [row["key"] for row in found["live"]["changed"]["shown"]] == ["7"]
    told = im("verify-report", kept.paths["markdown"], "--database-url", kept.database.url).stdout
    assert "Live rows changed since the report: 1." in told
    # As it was before: nothing is another any more.
    kept.database.psql(
        {
            "location_column": "UPDATE stock_items SET quantity = 7 WHERE id = 7",
            "allocation_json": "UPDATE stock_items SET allocations = replace(allocations::text, "
            "'\"allocated\": 8', '\"allocated\": 7')::jsonb WHERE id = 7",
            "stock_level": "UPDATE stock_levels SET on_hand = 7 WHERE item_id = 7",
        }[shape]
    )
    assert kept.verify(kept.paths["json"])["live"]["changed"]["rows"] == 0


def test_what_is_no_sealed_report_of_this_database_is_one_sentence(
    kept: Kept, tmp_path: Path, database: Database
) -> None:
    url = ("--database-url", kept.database.url)
    cases = {
        "it is no report of this program": "# Shopping list\n",
        "it is no report of this program: it is cut off, or no JSON any more": '{"a": ',
    }
    for why, text in cases.items():
        path = tmp_path / "file"
        path.write_text(text)
        assert why in sentence(im("verify-report", path, *url, code=2))
    missing = im("verify-report", tmp_path / "missing.json", *url, code=2)
    assert "no such file" in sentence(missing)
    nothing = im("verify-report", kept.paths["json"], "--database-url", database.url, code=2)
    assert "nothing was ever migrated in" in sentence(nothing)
    # A file that was cut off still shows which report it was.
    for form, path in kept.paths.items():
        text = path.read_text()
        cut = tmp_path / path.name
        cut.write_text(text[: int(len(text) * 0.99)] if form != "json" else text[:-500])
        assert kept.verify(cut, code=3)["genuine"] is False
    told = json.loads(kept.paths["json"].read_text())
    path = tmp_path / "other.json"
    told["seal"]["report"] = "0" * 8 + told["seal"]["report"][8:]
    path.write_text(json.dumps(told))
    assert "knows no such report" in kept.verify(path, code=3)["why"][0]
    told["database"]["fingerprint"]["database_oid"] += 1
    path.write_text(json.dumps(told))
    assert "is of another database" in sentence(im("verify-report", path, *url, code=2))
    # Two values of one name: a reader sees the first, a program takes the last.
    twice = forged(
        kept.paths["json"], tmp_path, '"schema_version"', '"schema_version": 9,\n"schema_version"'
    )
    assert "twice" in kept.verify(twice, code=3)["differs"][0]["file"]


def test_seals_that_were_changed_are_seen_as_far_as_they_can(kept: Kept) -> None:
    ledger = "inventory_migration"
    kept.database.psql(f"ALTER TABLE {ledger}.seal DISABLE TRIGGER ALL; "
                       f"ALTER TABLE {ledger}.sealed_rows DISABLE TRIGGER ALL;")  # fmt: skip
    try:
        kept.database.psql(f"UPDATE {ledger}.seal SET sha256 = repeat('0', 64)")
        found = kept.verify(kept.paths["markdown"], code=3)
        assert "the seal in the ledger was changed" in found["why"][0]
        told = json.loads(kept.paths["json"].read_text())
        kept.database.psql(f"UPDATE {ledger}.seal SET sha256 = '{told['seal']['sha256']}'")
        kept.database.psql(
            f"UPDATE {ledger}.sealed_rows SET sha256 = reverse(sha256) WHERE kind = 'snapshot'"
        )
        found = kept.verify(kept.paths["json"], code=3)
        assert found["snapshot"]["why"] == "its seals are not those that the report tells of"
    finally:
        kept.database.psql(
            f"UPDATE {ledger}.sealed_rows SET sha256 = reverse(sha256) WHERE kind = 'snapshot'"
            f"; ALTER TABLE {ledger}.seal ENABLE TRIGGER ALL;"
            f"ALTER TABLE {ledger}.sealed_rows ENABLE TRIGGER ALL;"
        )
    assert kept.verify(kept.paths["json"])["genuine"]


@pytest.mark.parametrize("table", ["seal", "sealed_rows"])
def test_what_is_sealed_is_only_ever_added_to(kept: Kept, table: str) -> None:
    for change in (f"UPDATE inventory_migration.{table} SET who = 'me'",
                   f"DELETE FROM inventory_migration.{table}",
                   f"TRUNCATE inventory_migration.{table}"):  # fmt: skip
        with pytest.raises(AssertionError, match=f"{table} is only ever added to"):
            kept.database.psql(change)


def test_a_snapshot_is_sealed_once(kept: Kept) -> None:
    with pytest.raises(AssertionError, match="sealed_rows_one_of_snapshot"):
        kept.database.psql("""
            INSERT INTO inventory_migration.sealed_rows
            SELECT migration_id, kind, first_position, repeat('0', 64), last_position, rows, at, who
            FROM inventory_migration.sealed_rows WHERE kind = 'snapshot' LIMIT 1
        """)
