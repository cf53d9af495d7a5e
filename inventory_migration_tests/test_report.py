"""The report says what the tables say, in both forms, whatever names the data brings along."""

from __future__ import annotations

import hashlib
import json
import re
import tracemalloc
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from inventory_migration import verbs
from inventory_migration.demo import create_demo
from inventory_migration.engine import trail
from inventory_migration.engine.told_rows import ToldRows
from inventory_migration.errors import MigrationPaused, MigrationRolledBack, ReportNotWritten
from inventory_migration.mapping import StockMapping, named_mapping
from inventory_migration.report import encoded, facts, page, schema
from inventory_migration.report.documents import write_report
from inventory_migration.report.markdown import cell, table
from inventory_migration.report.reconciliation import document
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.documents import Document

pytestmark = pytest.mark.one_server

VALID = jsonschema.Draft202012Validator(schema.load())
HOSTILE = "<script>alert(1)</script> | [x](javascript:1) `rm` *b* _u_ $x$ ~s~ \\ \x1b[31m\n# head"


@pytest.fixture
def mapping() -> StockMapping:
    return stage.mapping(phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}])


@pytest.fixture
def target(database: Database) -> verbs.Target:
    stage.shop(database, companies=3, items=300)
    return verbs.open_target(database.url)


def written(
    target: verbs.Target, mapping: StockMapping, folder: Path
) -> tuple[dict[str, Any], str]:
    paths = write_report(target, mapping, folder)
    assert paths["html"] is not None
    assert paths["json"] is not None
    assert paths["markdown"] is not None
    found: dict[str, Any] = json.loads(Path(paths["json"]).read_text())
    VALID.validate(found)
    # Whatever became of a migration, its document is whole, and made of the facts alone.
    source = Path(paths["html"]).read_text()
    assert source == document(found)
    shown = Document(source)
    assert shown.fetched == []
    assert all(link[1:] in shown.ids for link in shown.links)
    assert found["verdict"]["text"] in shown.text
    return found, Path(paths["markdown"]).read_text()


def figure(markdown: str, name: str) -> list[str]:
    """Return the cells of a table's row by its first one."""
    row = re.search(rf"^\| {re.escape(name)} \|(.*)\|$", markdown, flags=re.MULTILINE)
    assert row is not None, name
    return [cell.strip() for cell in row[1].split(" | ")]


def test_a_verified_migration_is_told_in_numbers_from_the_tables(
    database: Database, tmp_path: Path
) -> None:
    create_demo(database.engine, companies=6, items=400, dirty=0.005)
    target, mapping = verbs.open_target(database.url), named_mapping("stock_items")
    done = verbs.run(target, mapping)
    told, markdown = written(target, mapping, tmp_path)
    assert told["verdict"] == {
        "state": "verified",
        "passed": True,
        "text": "Verified: every record is accounted for and not one unit was lost.",
        "reason": None,
    }
    units = database.psql("SELECT sum(quantity) FROM stock_items")
    assert told["summary"]["units"] == {"before": units, "after": units}
    assert told["summary"]["records"] == done["records"]
    assert figure(markdown, "units") == [units, units]
    # By company, the parts add up to the whole.
    for name in ("snapshot", "migrated", "skipped", "quarantined"):
        assert sum(company[name] for company in told["companies"]) == done["records"][name]
    assert sum(int(company["units"]) for company in told["companies"]) == int(units)
    assert all(c["available_before"] == c["available_after"] for c in told["companies"])
    assert told["differences"] == []
    assert [gate["suite"] for gate in told["gates"]] == [
        "audit_profile",
        "default_locations",
        "transformed_stock",
        "reconciliation_report",
    ]
    assert [phase["name"] for phase in told["phases"]] == ["pilot", "early", "rest"]
    assert sum(phase["records"] for phase in told["phases"]) == done["records"]["snapshot"]
    assert told["events"][0]["kind"] == "planned"
    assert told["events"][-1]["kind"] == "state_verified"
    assert told["origin"]["mapping_hash"] == mapping.hash
    assert told["origin"]["definition"]["source"]["table"]["name"] == "stock_items"
    assert told["database"]["name"] == database.name
    assert told["versions"]["server"] == database.psql("SHOW server_version")
    assert len(told["rests_on"]) == 5
    shown = Document(document(told))
    for key in told["references"]:
        counts = [
            key[f"{what}_{when}"] for what in ("rows", "orphans") for when in ("before", "after")
        ]
        assert figure(markdown, cell(key["name"])) == [*(f"{n:,}" for n in counts), "yes"]
        assert any(
            [key["name"], *(f"{n:,}" for n in counts)] == r[:5] for t in shown.tables for r in t
        )
    assert told["references"]
    for gate in told["gates"]:
        assert gate["results"]
        for one in gate["results"]:
            result = "✓ met" if one["success"] else f"! {one['severity']}"
            assert any([one["key"], result] == row[:2] for t in shown.tables for row in t), one
    assert told["not_checked"]


def test_each_chunk_is_told_with_its_outcomes_and_units(
    database: Database, target: verbs.Target, mapping: StockMapping, tmp_path: Path
) -> None:
    """What a chunk did, what it still has to do, and what it failed on."""
    database.psql(
        "UPDATE stock_items SET quantity = NULL WHERE id = 4; "
        "UPDATE stock_items SET deleted_at = now() WHERE id = 7; "
        "ALTER TABLE stock_items ALTER quantity TYPE numeric; "
        "UPDATE stock_items SET quantity = 12345678901234567890.25 WHERE id = 1"
    )
    limits = mapping.thresholds.model_copy(update={"action": "continue"})
    lenient = mapping.model_copy(update={"thresholds": limits})
    with pytest.raises(MigrationPaused):
        stage.migrate(database, lenient, stop_after="pilot")
    database.psql(
        "UPDATE inventory_migration.chunk SET attempts = 2, last_error = '40P01' WHERE number = 21"
    )
    told, _ = written(target, lenient, tmp_path)
    chunks = told["chunks"]
    assert [chunk["number"] for chunk in chunks] == list(range(1, 61))
    first, waiting = chunks[0], chunks[20]
    assert first.pop("elapsed_seconds") > 0
    assert first.pop("started_at") >= told["phases"][0]["started_at"]
    assert first == {
        "number": 1, "phase": "pilot", "state": "done", "records": 5, "migrated": 3, "already": 0,
        "skipped": 1, "quarantined": 1, "gone": 0, "attempts": 0, "last_error": None,
        "units": {"before": "12345678901234567920.25", "after": "12345678901234567920.25"},
        "reserved": {"before": "7", "after": "7"},
    }  # fmt: skip
    assert (waiting["phase"], waiting["state"], waiting["migrated"]) == ("rest", "pending", 0)
    assert (waiting["attempts"], waiting["last_error"]) == (2, "40P01")
    assert waiting["started_at"] is None
    assert (waiting["elapsed_seconds"], waiting["units"]) == (None, {"before": None, "after": None})
    for name in ("migrated", "skipped", "quarantined"):
        assert sum(chunk[name] for chunk in chunks) == told["summary"]["records"][name]
    with target.reader.connect() as connection:
        few = trail.chunks(connection, told["migration_id"], limit=7)
    assert [chunk["number"] for chunk in few] == list(range(1, 8))


def test_facts_are_encoded_in_pieces_as_they_are_in_one(
    database: Database, target: verbs.Target, mapping: StockMapping, tmp_path: Path
) -> None:
    stage.migrate(database, mapping)
    told, _ = written(target, mapping, tmp_path)
    told["names"] = {"b": HOSTILE, "a": [[], {}, 0.1, 10**20, None, True], "ä": "é\u2028"}
    assert "".join(encoded.indented(told)) == json.dumps(told, indent=2, ensure_ascii=False)
    canonical = json.dumps(told, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert encoded.sha256(told) == hashlib.sha256(canonical.encode()).hexdigest()
    plain = zlib.decompress(encoded.packed(told)).decode()
    assert plain == json.dumps(told, ensure_ascii=False)
    assert encoded.unpacked(encoded.packed(told)) == told
    with pytest.raises(ValueError, match="not JSON compliant"):
        encoded.sha256({"rate": float("nan")})


@pytest.mark.parametrize("form", ["indented", "sha256", "packed"])
def test_json_of_many_chunks_takes_little_memory(form: str) -> None:
    rows = [(number, "done") for number in range(50_000)]
    told = {"chunks": ToldRows(rows, lambda number, state: {"number": number, "state": state})}
    encode = getattr(encoded, form)
    deque(encode(told), maxlen=0)
    tracemalloc.start()
    deque(encode(told), maxlen=0)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < len("".join(encoded.indented(told))) / 3


def test_rows_that_are_kept_as_tuples_are_told_as_a_list_of_dicts() -> None:
    rows = ToldRows([(1, "a"), (2, "b"), (3, "c")], lambda n, name: {"n": n, "name": name})
    told = [{"n": 1, "name": "a"}, {"n": 2, "name": "b"}, {"n": 3, "name": "c"}]
    assert [*rows] == told
    assert (rows[-1], [*rows[1:]], len(rows)) == (told[-1], told[1:], 3)
    for form in ("indented", "sha256", "packed"):
        once, again = ([*getattr(encoded, form)({"of": ["x", some]})] for some in (rows, told))
        assert once == again
    nothing = ToldRows([], dict)
    assert "".join(encoded.indented(nothing)) == "[]"
    # Elsewhere they are refused, and never left out.
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps(rows)
    with pytest.raises(TypeError, match="set is no JSON value"):
        encoded.sha256({1})


def test_the_lists_of_a_report_have_an_end(
    database: Database,
    target: verbs.Target,
    mapping: StockMapping,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(facts, "MOST_ROWS", 2)
    with pytest.raises(MigrationPaused):
        stage.migrate(database, mapping, stop_after="pilot")
    found = facts.collect(target.reader, mapping)
    assert found is not None
    assert len(found["chunks"]) == 2


def test_every_quarantined_record_is_listed_with_rule_and_reason(
    database: Database, target: verbs.Target, mapping: StockMapping, tmp_path: Path
) -> None:
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id IN (3, 5)")
    limits = mapping.thresholds.model_copy(update={"action": "continue"})
    stage.migrate(database, mapping.model_copy(update={"thresholds": limits}))
    told, markdown = written(target, mapping, tmp_path)
    missing = [row for row in told["quarantine"] if row["rule"] == "quantity_missing"]
    assert {"3", "5"} <= {row["key"] for row in missing}
    assert {row["reason"] for row in missing} == {"the quantity is NULL or blank"}
    assert len(told["quarantine"]) == told["summary"]["records"]["quarantined"]
    by_rule = {row["rule"]: row["records"] for row in told["put_aside"]}
    assert by_rule["quantity_missing"] == len(missing)
    assert figure(markdown, "3")[:2] == [r"quantity\_missing", "the quantity is NULL or blank"]
    assert "record" not in told["quarantine"][0], "whole rows stay in the database"


def test_the_page_shows_a_hundred_rows_and_says_that_there_are_more(
    database: Database, target: verbs.Target, mapping: StockMapping, tmp_path: Path
) -> None:
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id <= 150")
    limits = mapping.thresholds.model_copy(update={"action": "continue"})
    stage.migrate(database, mapping.model_copy(update={"thresholds": limits}))
    told, markdown = written(target, mapping, tmp_path)
    total = told["summary"]["records"]["quarantined"]
    assert len(told["quarantine"]) == total >= 150
    quarantine = markdown.partition("### Quarantine")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\| ", quarantine, flags=re.MULTILINE)) == 102
    assert f"The first 100 of {total}" in quarantine


def test_a_rollback_tells_what_was_kept(
    database: Database, target: verbs.Target, mapping: StockMapping, tmp_path: Path
) -> None:
    stage.migrate(database, mapping)
    database.psql("""
        INSERT INTO locations (company_id, name) SELECT company_id, 'Annex'
            FROM stock_items WHERE id = 9;
        UPDATE stock_items SET location_id = (SELECT max(id) FROM locations) WHERE id = 9;
        UPDATE stock_items SET quantity = quantity + 1 WHERE id = 10;
    """)
    before, _ = written(target, mapping, tmp_path)
    touched = {d["kind"]: d for d in before["differences"]}["touched_since"]
    assert (touched["records"], touched["explained"], touched["sample"]) == (2, True, ["10", "9"])
    verbs.roll_back(target, mapping, reason="a test")
    told, markdown = written(target, mapping, tmp_path)
    assert told["verdict"]["state"] == "rolled_back"
    assert told["verdict"]["passed"] is None
    assert told["differences"] is None
    assert told["conflicts"]["by_kind"] == {"moved_since": 1, "touched_since": 1}
    assert "Records kept, since the application has moved them: 1" in markdown
    assert "Reason: a test." in markdown
    assert figure(markdown, "9")[0] == r"moved\_since"


def test_a_unit_lost_after_the_verdict_is_a_difference_that_nobody_explains(
    database: Database, target: verbs.Target, mapping: StockMapping, tmp_path: Path
) -> None:
    stage.migrate(database, mapping)
    database.psql("UPDATE stock_items SET location_id = NULL WHERE id = 11")
    told, markdown = written(target, mapping, tmp_path)
    assert told["verdict"]["passed"] is False
    lost = {d["kind"]: d for d in told["differences"]}["location_lost"]
    assert (lost["explained"], lost["sample"]) == (False, ["11"])
    assert figure(markdown, "location lost") == ["**no**", "1", "11"]


def test_an_unfinished_and_an_automatically_undone_migration_have_reports_too(
    database: Database, target: verbs.Target, mapping: StockMapping, tmp_path: Path
) -> None:
    with pytest.raises(MigrationPaused):
        stage.migrate(database, mapping, stop_after="pilot")
    told, markdown = written(target, mapping, tmp_path)
    assert told["verdict"]["text"] == "Not finished: paused."
    assert told["summary"]["records"]["pending"] > 0
    assert "stopped after phase pilot" in markdown
    verbs.roll_back(target, mapping)
    limits = {"quarantined_percent": 0, "after_records": 0}
    strict = mapping.model_copy(update={"thresholds": mapping.thresholds.model_copy(update=limits)})
    database.psql("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF NEW.id = 20 THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION refuse();
    """)
    with pytest.raises(MigrationRolledBack):
        stage.migrate(database, strict)
    told, markdown = written(target, mapping, tmp_path)
    assert told["verdict"]["state"] == "rolled_back"
    assert "were quarantined" in told["verdict"]["reason"]
    assert [row["reason"] for row in told["quarantine"]] == ["not this one"]
    assert told["triggers"][0]["name"] == "refuse"
    assert "refuse" in markdown.partition("## What the writes set off")[2]


def test_a_report_outlives_the_tables_that_it_is_about(
    database: Database, target: verbs.Target, mapping: StockMapping, tmp_path: Path
) -> None:
    stage.migrate(database, mapping)
    database.psql("DROP TABLE stock_items")
    told, markdown = written(target, mapping, tmp_path)
    assert "there is no table stock_items" in told["not_comparable"]
    assert told["summary"]["records"]["migrated"] > 0
    assert "no longer fits" in markdown


def test_names_from_the_database_are_text_and_never_markup(
    database: Database, target: verbs.Target, mapping: StockMapping, tmp_path: Path
) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE companies SET name = %s WHERE id = 1", (HOSTILE,))
    stage.migrate(database, mapping)
    told, markdown = written(target, mapping, tmp_path)
    assert HOSTILE in {company["company_name"] for company in told["companies"]}
    assert "\x1b" not in markdown
    assert not re.search(r"(?<!\\)<script", markdown)
    row = next(line for line in markdown.splitlines() if "alert" in line)
    source = document(told)
    plain = [{**company, "company_name": "plain"} for company in told["companies"]]
    assert Document(source).tags == Document(document({**told, "companies": plain})).tags
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in source
    assert "\x1b" not in source
    # As many columns as every other row: a bar in a name does not start a new one.
    title = markdown.partition("## Companies\n\n")[2].splitlines()[0]
    assert len(re.findall(r"(?<!\\)\|", row)) == len(re.findall(r"(?<!\\)\|", title))


def test_nothing_is_written_where_nothing_was_migrated(
    target: verbs.Target, mapping: StockMapping, tmp_path: Path
) -> None:
    folder = tmp_path / "none"
    assert set(write_report(target, mapping, folder).values()) == {None}
    assert not folder.exists()


def test_an_empty_inventory_has_a_report(
    database: Database, target: verbs.Target, mapping: StockMapping, tmp_path: Path
) -> None:
    database.psql("TRUNCATE stock_items")
    stage.migrate(database, mapping)
    told, markdown = written(target, mapping, tmp_path)
    assert told["verdict"]["passed"] is True
    assert figure(markdown, "snapshot") == ["0"]


def test_a_folder_that_cannot_be_written_is_one_sentence(
    database: Database, target: verbs.Target, mapping: StockMapping, tmp_path: Path
) -> None:
    with pytest.raises(MigrationPaused):
        stage.migrate(database, mapping, stop_after="pilot")
    occupied = tmp_path / "file"
    occupied.write_text("")
    with pytest.raises(ReportNotWritten, match="--out DIR"):
        write_report(target, mapping, occupied / "reports")


def test_a_report_is_replaced_as_a_whole(
    database: Database, target: verbs.Target, mapping: StockMapping, tmp_path: Path
) -> None:
    with pytest.raises(MigrationPaused):
        stage.migrate(database, mapping, stop_after="pilot")
    first, _ = written(target, mapping, tmp_path)
    verbs.roll_back(target, mapping)
    second, _ = written(target, mapping, tmp_path)
    assert (first["verdict"]["state"], second["verdict"]["state"]) == ("paused", "rolled_back")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "shop-1.html",
        "shop-1.json",
        "shop-1.md",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        ("a\nb\tc", "a b c"),
        ("a|b", r"a\|b"),
        ("\x00\x1b", "\N{REPLACEMENT CHARACTER}" * 2),
        ("x" * 300, "x" * 199 + "…"),
        ("Ünïcode 倉庫", "Ünïcode 倉庫"),
    ],
)
def test_a_cell_is_one_line_of_plain_text(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_a_table_has_a_title_for_every_column() -> None:
    assert table([{"a": 1, "b": None}]) == "| a | b |\n| --- | --- |\n| 1 |  |"
    assert table([]) == "None."


def test_page_and_facts_come_from_the_same_reading(
    database: Database, target: verbs.Target, mapping: StockMapping
) -> None:
    with pytest.raises(MigrationPaused):
        stage.migrate(database, mapping, stop_after="pilot")
    found = facts.collect(target.reader, mapping)
    assert found is not None
    # Whatever the page shows is in the JSON document: it can be made again from that alone.
    assert page.page(json.loads("".join(encoded.indented(found)))) == page.page(found)


def test_the_published_schema_allows_no_key_and_no_value_that_it_does_not_know(
    database: Database, target: verbs.Target, mapping: StockMapping, tmp_path: Path
) -> None:
    jsonschema.Draft202012Validator.check_schema(schema.load())
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id = 3")
    with pytest.raises(MigrationPaused):
        stage.migrate(database, mapping, stop_after="pilot")
    told, _ = written(target, mapping, tmp_path)

    def objects(value: Any) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict):
            yield value
        for part in value.values() if isinstance(value, dict) else value:
            if isinstance(part, dict | list):
                yield from objects(part)

    free = [told["origin"]["definition"], *(event["detail"] for event in told["events"])]
    by_name = [told["summary"]["quarantined"], told["summary"]["warnings"]]
    by_name.append(told["conflicts"]["by_kind"])
    inside = {id(part) for value in free for part in objects(value)} | {id(v) for v in by_name}
    # One of each kind: what is true of a chunk is true of the next.
    kinds = {frozenset(one): one for one in objects(told) if id(one) not in inside}
    assert len(kinds) > 15
    for part in kinds.values():
        part["invented"] = 1
        assert not VALID.is_valid(told), part
        del part["invented"]
    assert VALID.is_valid(told)
    for change in (
        {"as_of": "yesterday"},
        {"migration_id": "1"},
        {"verdict": {**told["verdict"], "state": "fine"}},
        {"summary": {**told["summary"], "units": {"before": 1, "after": "1"}}},
    ):
        assert not VALID.is_valid({**told, **change}), change
    for name in ("verdict", "summary", "not_checked"):
        assert not VALID.is_valid({key: told[key] for key in told if key != name})
    page_of_it = (Path(__file__).parent.parent / "docs" / "report.md").read_text()
    first = re.findall(r"^\| (`.*?`) \|", page_of_it.partition("| key |")[2], flags=re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(first))) == schema.load()["properties"].keys()
