"""Findings: one for each expectation that was not met, with all that a person needs to decide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inventory_migration import verbs
from inventory_migration.audit.findings import Finding, at_least, findings, to_json, to_markdown
from inventory_migration.defs.checks import expectations
from inventory_migration.demo import create_demo
from inventory_migration.engine import gates
from inventory_migration.errors import (
    GateRefused,
    LooseningRefused,
    MappingInvalid,
    SuiteInvalid,
)
from inventory_migration.mapping import Expectations, StockMapping, named_mapping
from inventory_migration_tests.canonical_tables import judged, make_tables
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.stage import MAPPING, mapping, shop

pytestmark = pytest.mark.one_server


def test_findings_are_ordered_by_consequence_and_say_what_will_be_done(database: Database) -> None:
    make_tables(database)
    database.psql(
        """
        UPDATE records SET quantity = -1, reserved = 0 WHERE key_1 IN (1, 2);
        UPDATE records SET quantity = NULL, quantity_state = 'missing' WHERE key_1 = 4;
        UPDATE companies SET default_locations = 2 WHERE company_key = 3;
        INSERT INTO default_locations VALUES (104, 9, false), (105, NULL, NULL);
        """
    )
    verdict = judged(database, "audit_profile")
    found = findings(verdict, MAPPING)
    assert [(f.severity, f.key, f.count, f.sample) for f in found] == [
        ("critical", "default-location-unambiguous", 1, ("3, Idle",)),
        ("critical", "default-location-of-a-company", 2, ("104", "105")),
        ("warning", "quantity-present", 1, ("4",)),
        ("warning", "quantity-not-negative", 2, ("1", "2")),
    ]
    assert [f.effect.split(":")[0] for f in found] == [
        "Refuses to start", "Refuses to start", "Puts them into quarantine",
        "Moves them as they are, and counts them in the report.",
    ]  # fmt: skip
    for finding in found:
        assert all((finding.why, finding.advice, finding.expected))
        shown = database.psql(finding.sql).splitlines()
        assert len(shown) == finding.count, finding.sql
    assert [f.key for f in at_least(found, "critical")] == [f.key for f in found[:2]]
    assert to_json(found)["counts"] == {"critical": 2, "warning": 2, "info": 0}


def test_what_the_tool_will_do_follows_the_mappings_own_rules(database: Database) -> None:
    make_tables(database)
    database.psql("UPDATE records SET quantity = -1 WHERE key_1 = 4")
    verdict = judged(database, "audit_profile")
    (careful,) = findings(verdict, mapping(rules={"negative_quantity": "quarantine"}))
    assert careful.effect.startswith("Puts them into quarantine")


def test_an_audit_without_findings_says_so_and_nothing_of_a_database_is_markup(
    database: Database,
) -> None:
    make_tables(database)
    assert findings(judged(database, "audit_profile"), MAPPING) == []
    assert to_markdown([]) == "## Findings\n\nNone: every expectation is met.\n"
    database.psql("UPDATE records SET key_text = '<b>|`x`', quantity = -1 WHERE key_1 = 4")
    said = to_markdown(findings(judged(database, "audit_profile"), MAPPING))
    assert r"- For example: \<b\>\|\`x\`" in said
    assert "```sql\nSELECT r.* FROM (" in said


def test_what_could_not_be_looked_at_is_critical_and_never_silent(database: Database) -> None:
    make_tables(database)
    database.psql("ALTER TABLE records DROP COLUMN quantity_state")
    found = [f for f in findings(judged(database, "audit_profile"), MAPPING) if f.error]
    assert {f.key for f in found} == {"quantity-present", "quantity-numeric"}
    assert {f.severity for f in found} == {"critical"}
    assert found[0].effect.startswith("Refuses to start: of what could not be looked at")


def found_in(database: Database, asked: StockMapping) -> dict[str, Finding]:
    """What the audit of a mapping finds, by key; each statement shows as many rows as it says."""
    target = verbs.open_target(database.url)
    found = findings(verbs.judge(target, asked, "audit_profile", keep=False), asked)
    for finding in found:
        shown = database.psql(finding.sql.rstrip(";").join(("SELECT count(*) FROM (", ") AS f")))
        assert finding.error is None
        assert int(shown) == finding.count, finding.key
    return {finding.key: finding for finding in found}


ITEMS, BATCHES = named_mapping("stock_items"), named_mapping("inventory_batches")
DRIFT = ITEMS.model_copy(
    update={
        "expectations": Expectations.model_validate(
            {
                "reserved": {
                    "sql": "(SELECT sum(d.quantity) FROM order_lines d JOIN orders o "
                    "ON o.id = d.order_id WHERE d.stock_item_id = s.id "
                    "AND o.status IN ('pending', 'paid'))"
                }
            }
        )
    }
)


@pytest.mark.slow
def test_a_clean_demo_has_no_finding_at_all_before_and_after_its_migration(
    database: Database,
) -> None:
    create_demo(database.engine, companies=12, items=300)
    assert found_in(database, DRIFT) == {}
    assert found_in(database, BATCHES) == {}
    verbs.run(verbs.open_target(database.url), ITEMS)
    assert found_in(database, ITEMS) == {}


@pytest.mark.parametrize("dirty", [0.05, 1.0])
def test_every_defect_of_a_dirty_demo_is_found_in_its_number(
    database: Database, dirty: float
) -> None:
    made = create_demo(database.engine, companies=30, items=900, dirty=dirty, broken=True)
    found = found_in(database, DRIFT)
    counts = {key: finding.count for key, finding in found.items()}
    planted = made.defects
    assert all(planted.values())
    assert counts.pop("quarantine-within-threshold", 1) == 1
    assert counts == {
        "quantity-present": planted["quantity_missing"],
        "quantity-not-negative": planted["negative_quantity"],
        "reserved-within-quantity": planted["reserved_exceeds_quantity"],
        "company-exists": planted["company_unknown"],
        "company-present": planted["company_null"],
        # Pairs, of which the demo counts both.
        "item-once-per-company": planted["item_duplicate"] // 2,
        "item-without-blanks": planted["sku_spaces"],
        "item-case-usual": planted["sku_case"],
        "record-not-skipped": planted["soft_deleted"],
        "company-with-stock": planted["company_without_stock"],
        "default-location-absent": planted["company_with_default_location"],
        "default-location-unambiguous": planted["default_location_ambiguous"],
        "default-location-of-a-company": planted["default_location_company_unknown"],
        # Two that follow from others: what is reserved over the quantity no order line says, and a
        # column with a missing quantity lets it be missing.
        "reserved-as-expected": planted["reserved_exceeds_quantity"],
        "quantity-column-not-null": 1,
    }
    severities = {key: finding.severity for key, finding in found.items()}
    assert severities["record-not-skipped"] == "info"
    assert severities["item-case-usual"] == "warning"
    assert found_in(database, BATCHES) == {}


ODD = """
    CREATE TABLE suppliers (id bigint PRIMARY KEY);
    INSERT INTO suppliers SELECT n FROM generate_series(1, 5) n;
    ALTER TABLE stock_items ALTER quantity TYPE numeric(12, 3), ADD supplier_id bigint,
        ADD product_id bigint, ADD price text, ADD bought text, ADD barcode text, ADD remark text,
        ADD label text NOT NULL DEFAULT 'x', ADD discontinued integer NOT NULL DEFAULT 0;
    CREATE TABLE product (id bigint PRIMARY KEY);
    UPDATE stock_items SET supplier_id = 1 + id % 5, product_id = 900 + id, price = '9.50',
        bought = '2024-01-0' || 1 + id % 9, barcode = '40123' || id, remark = 'is ' || id;
    UPDATE stock_items SET quantity = 0.5, reserved = 0 WHERE id = 7;
    UPDATE stock_items SET supplier_id = 99 WHERE id IN (3, 4);
    UPDATE stock_items SET label = '  ' WHERE id = 5;
    UPDATE stock_items SET discontinued = 1 WHERE id IN (8, 9);
    UPDATE stock_items SET quantity = 0, reserved = 0 WHERE id = 9;
    UPDATE stock_items SET price = 'dear' WHERE id = 1;
"""


def test_what_is_odd_beside_the_rules_is_told_and_what_only_looks_so_is_not(
    database: Database,
) -> None:
    shop(database)
    database.psql(ODD)
    found = found_in(database, MAPPING)
    assert {key: (f.sample, f.details) for key, f in found.items()} == {
        "quantity-whole": (("7",), ("quantity=0.500",)),
        "texts-filled": (("5",), ("column_name=label",)),
        "texts-of-their-own-type": (
            ("price", "bought"),
            (
                "column_type=text, looks_like=numbers, records=29, filled=30",
                "column_type=text, looks_like=dates, records=30, filled=30",
            ),
        ),
        # product_id leads nowhere at all, so that its name does not mean the table of products.
        "references-lead-somewhere": (
            ("3", "4"),
            ("reference=supplier_id to suppliers, refers_to=99",) * 2,
        ),
        "retired-without-stock": (("8",), ("column_name=discontinued, quantity=8.000",)),
        "quantity-column-not-null": (("quantity",), ("column_type=numeric(12,3)",)),
    }


def test_blanks_are_found_wherever_they_stand(database: Database) -> None:
    shop(database)
    odd = [" A", "A ", "\tA", "A\t", "A\n", "A\r", " A ", " "]
    fine = ["A B", "\xa0A", "é", "a", "é é", ":", "~"]
    database.psql("ALTER TABLE stock_items ADD label text NOT NULL DEFAULT 'x'")
    with database.engine.begin() as connection:
        for key, text in enumerate([*odd, *fine], start=1):
            change = f"UPDATE stock_items SET sku = %s, label = %s WHERE id = {key}"
            connection.exec_driver_sql(change, (text, text))
    found = found_in(database, MAPPING)
    assert found["item-without-blanks"].count == len(odd)
    assert found["texts-filled"].count == 2  # Item and label.


def loosening(**said: Any) -> StockMapping:
    return mapping(expectations=said)


def test_a_loosened_expectation_counts_for_less_and_says_why(database: Database) -> None:
    shop(database)
    database.psql("UPDATE stock_items SET quantity = -1, reserved = 0 WHERE id = 3")
    target = verbs.open_target(database.url)
    strict = {"negative_quantity": "fail"}
    refusing = mapping(rules=strict)
    assert not verbs.judge(target, refusing, "audit_profile").passed
    why = {"quantity-not-negative": {"to": "info", "reason": "A known return is under way."}}
    letting = mapping(rules=strict, expectations={"loosen": why})
    # Nothing else moves, so that a migration under way goes on; the verdict is another.
    assert letting.hash == refusing.hash
    verdict = verbs.judge(target, letting, "audit_profile")
    assert verdict.passed
    assert "Loosened by the mapping: A known return is under way." in verdict.summary()
    (finding,) = [f for f in findings(verdict, letting) if f.rule]
    assert (finding.severity, finding.loosened) == ("info", "A known return is under way.")
    assert finding.effect.startswith("Puts them into quarantine")
    assert "Loosened by the mapping: A known return" in to_markdown([finding])
    with target.engine.connect() as connection:
        resolved = verbs.resolve(connection, letting)
        gates.require(connection, resolved, "audit_profile")
        with pytest.raises(GateRefused, match="what it judged has changed"):
            gates.require(connection, verbs.resolve(connection, refusing), "audit_profile")


def test_what_cannot_be_loosened_is_refused_at_once(database: Database) -> None:
    shop(database)
    said = {"to": "info", "reason": "Because."}
    wrong = loosening(
        loosen={
            "row-count": said,
            "item-once-per-compny": said,
            "texts-filled": {**said, "to": "warning"},
            # Of another shape: no record can break it here, so that there is nothing to refuse.
            "target-agrees": said,
        }
    )
    with pytest.raises(LooseningRefused) as caught:
        verbs.judge(verbs.open_target(database.url), wrong, "audit_profile", keep=False)
    row_count, unknown, tightened = caught.value.problems
    assert row_count.startswith("row-count cannot be loosened")
    assert unknown.endswith("did you mean item-once-per-company?")
    assert tightened == "texts-filled is info as it is, and warning is no loosening"
    assert caught.value.exit_code == 2


OWN = {
    "type": "unexpected_rows_expectation",
    "kwargs": {
        "unexpected_rows_query": "SELECT key_text FROM {batch} AS r WHERE quantity = 0",
    },
    "severity": "info",
    "description": "Nothing is sold out.",
    "meta": {"key": "sold-out", "why": "W.", "effect": "E.", "advice": "A."},
}


def test_a_mapping_adds_a_suite_of_its_own(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop(database)
    database.psql("UPDATE stock_items SET quantity = 0, reserved = 0 WHERE id IN (1, 2)")
    monkeypatch.setenv("INVENTORY_EXPECTATIONS", str(tmp_path))

    def own(*added: dict[str, Any]) -> None:
        raw = {"name": "my_shop", "expectations": added}
        (tmp_path / "my_shop.json").write_text(json.dumps(raw))

    own(OWN)
    asked = loosening(suite="my_shop")
    finding = found_in(database, asked)["sold-out"]
    assert (finding.severity, finding.count, finding.sample) == ("info", 2, ("1", "2"))
    # The gate of Dagster has a check for each, and no other gate is concerned.
    assert expectations(asked, "audit_profile")["sold-out"] == "Nothing is sold out."
    assert "sold-out" not in expectations(asked, "default_locations")

    own({**OWN, "meta": {**OWN["meta"], "key": "row-count"}})  # type: ignore[dict-item]
    with pytest.raises(SuiteInvalid, match=r'"row-count" is one of audit_profile already'):
        found_in(database, asked)
    own({**OWN, "description": "", "meta": {"key": "sold-out"}})
    with pytest.raises(SuiteInvalid) as caught:
        found_in(database, asked)
    assert [problem.split(" has no ")[1].split(",")[0] for problem in caught.value.problems] == [
        "description", "meta.why", "meta.advice", "meta.effect",
    ]  # fmt: skip


def test_what_is_expected_of_reserved_must_be_a_number_that_the_server_can_read(
    database: Database,
) -> None:
    shop(database)
    target = verbs.open_target(database.url)
    for sql, said in (("s.nowhere", "nowhere"), ("now()", "a quantity is a number"),
                      ("s.sku", "say how it becomes a number")):  # fmt: skip
        with pytest.raises(MappingInvalid, match=said):
            verbs.test(target, loosening(reserved={"sql": sql}))
