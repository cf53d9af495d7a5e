"""The HTML report: every number of the facts is in it, and a browser shows all of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from inventory_migration import verbs
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.report import facts
from inventory_migration.report.reconciliation import document
from inventory_migration.report.text import grouped
from inventory_migration_tests import browser, stage
from inventory_migration_tests.conftest import made_database
from inventory_migration_tests.documents import Document

pytestmark = pytest.mark.one_server


@pytest.fixture(scope="module")
def migrated(server: EmbeddedServer) -> Iterator[dict[str, Any]]:
    """What a report states about a verified migration in two phases, with records put aside."""
    mapping = stage.mapping(
        phases=[{"name": "pilot", "companies": 1}, {"name": "rest"}],
        thresholds={"action": "continue"},
    )
    with made_database(server) as database:
        stage.shop(database, companies=3, items=60)
        database.psql("UPDATE stock_items SET quantity = NULL WHERE id IN (3, 5, 8)")
        stage.migrate(database, mapping)
        found = facts.collect(verbs.open_target(database.url).reader, mapping)
        assert found is not None
        yield found


@pytest.fixture
def told(migrated: dict[str, Any]) -> dict[str, Any]:
    """The same, for a test to change."""
    return deepcopy(migrated)


def rows(shown: Document, *head: str) -> list[dict[str, str]]:
    """Return the rows of the table that begins with these columns."""
    found = next(t for t in shown.tables if t[0][: len(head)] == list(head))
    return [dict(zip(found[0], row, strict=True)) for row in found[1:]]


def test_the_html_document_has_the_numbers_of_the_json(told: dict[str, Any]) -> None:
    shown = Document(document(told))
    summary = told["summary"]
    totals = {row[""]: row for row in rows(shown, "", "before", "after")}
    for name in ("units", "reserved", "available"):
        assert totals[name]["before"] == grouped(summary[name]["before"])
        assert totals[name]["after"] == grouped(summary[name]["after"])
        assert totals[name]["unexplained"] == "✓ 0"
    companies = rows(shown, "company", "key")
    assert [(c["key"], c["records"], c["migrated"]) for c in companies] == [
        (c["company_key"] or "", grouped(c["snapshot"]), grouped(c["migrated"]))
        for c in told["companies"]
    ]
    assert {row["outcome"]: row["records"] for row in rows(shown, "outcome", "records")} == {
        name: grouped(n) for name, n in summary["records"].items() if name != "pending"
    }
    assert [row["key"] for row in rows(shown, "key", "rule")] == [
        row["key"] for row in told["quarantine"]
    ]
    assert [(p["phase"], p["records"]) for p in rows(shown, "phase", "companies")] == [
        (phase["name"], grouped(phase["records"])) for phase in told["phases"]
    ]
    assert [c["records"] for c in rows(shown, "chunk", "phase")] == [
        grouped(chunk["records"]) for chunk in told["chunks"]
    ]
    assert [(g["gate"], g["verdict"]) for g in rows(shown, "gate", "verdict")] == [
        (gate["suite"], "✓ passed") for gate in told["gates"]
    ]
    assert len(rows(shown, "when", "who")) == len(told["events"])
    for said in (
        *told["rests_on"], *told["not_checked"], *summary["warnings"],
        told["origin"]["mapping_hash"], *told["origin"]["run_ids"], "location_id",
        told["versions"]["server"], told["database"]["where"],
    ):  # fmt: skip
        assert said in shown.text


def test_a_unit_that_nobody_accounts_for_stands_out(told: dict[str, Any]) -> None:
    told["summary"]["units"]["after"] = str(int(told["summary"]["units"]["before"]) - 1)
    shown = Document(document(told))
    assert rows(shown, "", "before", "after")[-3]["unexplained"] == "✕ -1"


def test_a_sample_is_shown_row_by_row_with_a_place_for_initials(told: dict[str, Any]) -> None:
    state = {"units": "5", "location": None}
    row = {"key": "4711", "before": state, "after": {**state, "location": "7"}, "agrees": True}
    told["sample"] = {"seed": "abc", "disagreements": [], "records": [row, {**row, "key": "<b>"}]}
    shown = Document(document(told))
    first, second = rows(shown, "key", "before units")
    assert "before location" not in first, "nobody has one"
    assert (first["before units"], first["after location"]) == ("5", "7")
    assert (first["agrees"], first["checked by"], second["key"]) == ("✓ yes", "", "<b>")
    assert "abc" in shown.text
    told["sample"] = None
    assert "checked by" not in document(told)


def test_thousands_of_companies_and_chunks_stay_small(
    told: dict[str, Any],
) -> None:
    few = len(document(told).encode())
    company, chunk = told["companies"][0], told["chunks"][0]
    told["companies"] = [{**company, "company_key": str(n)} for n in range(5000)]
    told["chunks"] = [
        {**chunk, "number": n, "attempts": n % 100 == 0, "elapsed_seconds": 0.1 + n % 7}
        for n in range(1, 10_001)
    ]
    for name in ("companies", "chunks"):
        told["listed"][name] = dict.fromkeys(("shown", "total"), len(told[name]))
    source = document(told)
    assert len(source.encode()) - few < 2_000_000
    by_company = source.partition('<table id="by-company">')[2].partition("</tbody>")[0]
    assert by_company.count("<tr>") == 1 + 5000
    chunks = source[source.index('<table id="chunks">') :].partition("</table>")[0] + "</table>"
    listed = [int(row["chunk"].replace(",", "")) for row in rows(Document(chunks), "chunk")]
    assert set(range(100, 10_001, 100)) <= set(listed)
    assert len(listed) <= 200
    pictures = re.findall(r"<svg.*?</svg>", source, flags=re.S)
    assert len(pictures) == 4
    assert max(map(len, pictures)) < 5000
    assert all("<title>" in picture and "<desc>" in picture for picture in pictures)


@pytest.mark.slow
def test_a_browser_shows_and_prints_all_of_it_at_any_width(
    told: dict[str, Any], tmp_path: Path
) -> None:
    told["companies"][0]["company_name"] = "W" * 300
    told["quarantine"] *= 20
    source = document(told)
    for shown in browser.laid_out(source, [1280, 390], tmp_path, wanted="quantity_missing"):
        assert shown["content"] <= shown["width"], shown
        assert shown["wide"] == []
        assert shown["small"] >= 11
        assert shown["found"] == len(told["quarantine"])
    pages = re.findall(rb"/Type\s*/Page\b", browser.printed(source, tmp_path))
    assert len(pages) >= 4
