"""The audit's documents and its command: what they say, alike in every form, and how it ends."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from inventory_migration import audits, verbs
from inventory_migration.audit import documents, html_page
from inventory_migration.audit.profile import MOST_COMPANIES
from inventory_migration.demo import create_demo
from inventory_migration.mapping import StockMapping, named_mapping
from inventory_migration_tests import stage
from inventory_migration_tests.commands import answer, im, mapping_file, sentence
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.documents import Document
from inventory_migration_tests.test_real_data import needs_data, northwind, saleor

pytestmark = pytest.mark.one_server

HOSTILE = "<script>alert(1)</script> | [x](javascript:1) `rm` \x1b[31m {0} %s"


@pytest.fixture(autouse=True)
def _here(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVENTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    monkeypatch.setenv("COLUMNS", "200")


def dirty(database: Database) -> None:
    """The shop with three defects, of which no rule refuses one, and names that are markup."""
    stage.shop(database, companies=3, items=12)
    spelled = HOSTILE.replace("\x1b", "")
    database.psql(f"""
        UPDATE companies SET name = $$Café {spelled}$$ || chr(27) WHERE id = 1;
        UPDATE stock_items SET sku = $${spelled}$$ WHERE id = 2;
        UPDATE stock_items SET quantity = NULL WHERE id = 5;
        UPDATE stock_items SET quantity = -4, reserved = 0 WHERE id IN (7, 8);
        UPDATE stock_items SET company_id = 99 WHERE id = 9;
        ALTER TABLE companies ADD contact_email text DEFAULT 'zq7@example.com';
    """)


def test_every_form_says_the_same_and_nothing_of_the_data_is_markup(
    database: Database, tmp_path: Path
) -> None:
    dirty(database)
    path = mapping_file(tmp_path)
    told = answer("audit", "--mapping", path, "--to", tmp_path / "out")
    paths = {form: Path(where) for form, where in told.pop("report").items()}
    assert {where.parent for where in paths.values()} == {tmp_path / "out"}
    assert json.loads(paths["json"].read_text()) == told
    source = paths["html"].read_text()
    page, text = Document(source), paths["markdown"].read_text()

    counts = {finding["key"]: finding["count"] for finding in told["findings"]}
    assert counts.items() >= {
        "quantity-present": 1, "quantity-not-negative": 2, "company-exists": 1
    }.items()  # fmt: skip
    assert told["counts"]["critical"] == 0
    assert told["gate"]["passed"]
    for finding in told["findings"]:
        for form in (page.text, text.replace("\\", "")):
            assert finding["key"] in form
            assert finding["advice"] in form
            assert finding["observed"] in form
    for conclusion in (page.text, text):
        assert told["conclusion"] in conclusion
    assert told["profile"]["totals"]["units"] == "50"
    assert "| units | 50 |" in text
    assert ["units", "50"] in [row for table in page.tables for row in table]
    names = [row["name"] for row in told["profile"]["references"]]
    assert names == ["company_id"]
    assert {one["table"] for one in told["profile"]["tables"]} == {
        "public.stock_items", "public.companies"
    }  # fmt: skip

    assert page.fetched == []
    assert all(link[1:] in page.ids for link in page.links)
    assert len(set(page.ids)) == len(page.ids)
    assert "<script>alert" not in source
    assert "\\<script\\>" in text
    assert "<script>alert" not in re.sub(r"```.*?```", "", text, flags=re.S)
    assert page.text.count("<script>alert(1)</script>") >= 2
    for form in (source, text, paths["json"].read_text()):
        assert "zq7" not in form
        assert "\x1b" not in form


@pytest.mark.one_server
def test_how_it_ends_says_how_grave_the_findings_are(database: Database, tmp_path: Path) -> None:
    dirty(database)
    path = mapping_file(tmp_path)
    assert re.search(
        r"\d findings \(.*; a migration may begin", im("audit", "--mapping", path).stdout
    )
    im("audit", "--mapping", path, "--fail-on", "critical")
    said = im("audit", "--mapping", path, "--fail-on", "warning", code=3).stdout
    assert "warning: quantity-not-negative: 2 of 12 rows" in said
    written = tmp_path / "home" / "reports" / "shop-audit.html"
    assert str(written) in said
    assert written.is_file()
    severe = mapping_file(tmp_path, name="severe", rules={"negative_quantity": "fail"})
    found = answer("audit", "--mapping", severe, "--fail-on", "critical", code=3)
    assert found["findings"][0]["key"] == "quantity-not-negative"
    assert not found["gate"]["passed"]
    assert "no migration may begin" in found["conclusion"]


@pytest.mark.one_server
def test_clean_stock_has_no_finding_before_a_migration_after_it_and_with_no_row(
    database: Database, tmp_path: Path
) -> None:
    stage.shop(database, items=0)
    path = mapping_file(tmp_path)
    for items in (0, 6):
        database.psql(
            "INSERT INTO stock_items (company_id, sku, quantity) "
            f"SELECT n % 3 + 1, 'SKU-' || n, n FROM generate_series(1, {items}) AS n"
        )
        found = answer("audit", "--mapping", path, "--fail-on", "warning")
        assert [f for f in found["findings"] if f["severity"] != "info"] == []
        assert found["profile"]["totals"]["records"] == items
    stage.migrate(database)
    found = answer("audit", "--mapping", path, "--fail-on", "warning")
    assert found["profile"]["totals"]["with_location"] == 6
    assert [one["table"] for one in found["profile"]["tables"]] == [
        "public.stock_items", "public.companies", "public.locations"
    ]  # fmt: skip


def test_what_cannot_be_audited_is_one_sentence(database: Database, tmp_path: Path) -> None:
    path = mapping_file(tmp_path)
    said = im("audit", "--mapping", path, code=2).stderr
    assert "there is no table stock_items" in said
    stage.shop(database, items=1)
    blocked = tmp_path / "file"
    blocked.write_text("")
    said = sentence(im("audit", "--mapping", path, "--to", blocked, code=2))
    assert f"written to {blocked}" in said
    assert "audit --to DIR" in said


@pytest.mark.slow
def test_five_thousand_companies_fit_into_a_page(database: Database) -> None:
    create_demo(verbs.open_target(database.url).engine, companies=5_000, items=20_000)
    found = audits.audit(verbs.open_target(database.url), named_mapping("stock_items"))
    begun = time.monotonic()
    page = html_page.page(found)
    assert time.monotonic() - begun < 10
    assert len(page.encode()) < 5_000_000
    left_out = found.profile.companies_left_out
    assert left_out > 5_000 / 2
    assert f"{left_out:,} companies more are not listed" in Document(page).text
    assert len(found.profile.companies) == MOST_COMPANIES
    assert f"{left_out:,} companies more are not listed" in documents.markdown(found)


def audited(database: Database, mapping: StockMapping) -> dict[str, Any]:
    """What an audit of published data says, as data."""
    return audits.audit(verbs.open_target(database.url), mapping).to_json()


@needs_data
@pytest.mark.slow
def test_what_is_known_of_northwind_is_found(database: Database) -> None:
    found = audited(database, northwind(database))
    counts = {finding["key"]: finding["count"] for finding in found["findings"]}
    assert counts["reserved-within-quantity"] == 17
    totals = found["profile"]["totals"]
    # Units on order are on their way in, and no stock.
    assert (totals["records"], totals["units"], totals["reserved"]) == (77, "3119", "1198")
    tables = {one["table"]: one for one in found["profile"]["tables"]}
    assert tables.keys() == {
        "public.products", "public.suppliers", "public.order_details", "public.orders"
    }  # fmt: skip
    columns = {row["column"]: row for row in tables["public.suppliers"]["columns"]}
    for name in ("contact_name", "phone", "address", "fax"):
        assert (columns[name]["shown"], columns[name]["minimum"]) == ("hidden", None)
    assert columns["company_name"]["minimum"] == "Aux joyeux ecclésiastiques"
    assert "Charlotte Cooper" not in json.dumps(found)


@needs_data
@pytest.mark.slow
def test_what_is_known_of_saleor_is_found(database: Database) -> None:
    found = audited(database, saleor(database))
    totals = found["profile"]["totals"]
    assert (totals["records"], totals["units"], totals["reserved"]) == (124, "1292802", "1297")
    tables = {one["table"]: one for one in found["profile"]["tables"]}
    assert tables["public.product_product"]["roles"] == ["read by its expressions and joins"]
    variants = {row["column"]: row for row in tables["public.product_productvariant"]["columns"]}
    assert variants["name"]["blank"] > 0
    assert variants["quantity"]["minimum"] == "0"
