"""The suites that ship, each expectation met and broken; and everything that the loader refuses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from inventory_migration.errors import ProjectFileMissing, SuiteInvalid
from inventory_migration.mapping import Rules
from inventory_migration.project import listing
from inventory_migration.quality.gate_suites import severity_of
from inventory_migration.quality.suites import load_suite
from inventory_migration_tests.canonical_tables import (
    BATCHES,
    ODDITIES,
    PARAMETERS,
    RELATIONS,
    SEVERITIES,
    judged,
    loaded,
    make_tables,
)
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.one_server


@dataclass(frozen=True)
class Break:
    """How an expectation is broken, and what its verdict must then say."""

    suite: str
    key: str
    sql: str
    observed: str
    sample: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    severity: str = "critical"

    def __str__(self) -> str:
        return f"{self.suite}/{self.key}"


AUDIT, LOCATIONS = "audit_profile", "default_locations"
STOCK, REPORT = "transformed_stock", "reconciliation_report"

BREAKS = [
    Break(AUDIT, "row-count", "DELETE FROM records WHERE key_1 = 4", "5"),
    Break(AUDIT, "key-unique-and-present", "UPDATE records SET key_1 = 1 WHERE key_1 = 2",
          "1 row", ("1",), ("records=2",)),
    Break(AUDIT, "key-unique-and-present", "UPDATE records SET key_1 = NULL WHERE key_1 = 2",
          "1 row", ("no key",), ("records=1",)),
    Break(AUDIT, "company-unambiguous",
          "UPDATE records SET company_key = NULL, company_found = false, companies = 2 "
          "WHERE key_1 = 1",
          "1 row", ("1",), ("companies=2",), severity="warning"),
    Break(AUDIT, "company-present",
          "UPDATE records SET company_key = NULL, company_found = false WHERE key_1 = 1",
          "1 of 4 rows", ("1",), severity="warning"),
    Break(AUDIT, "company-exists",
          "UPDATE records SET company_key = 99, company_found = false WHERE key_1 = 1",
          "1 of 4 rows", ("1",), severity="warning"),
    Break(AUDIT, "quantity-present",
          "UPDATE records SET quantity = NULL, quantity_state = 'missing' WHERE key_1 < 3",
          "2 of 4 rows", ("1", "2"), severity="warning"),
    Break(AUDIT, "quantity-numeric",
          "UPDATE records SET quantity = NULL, quantity_state = 'not_a_number' WHERE key_1 = 2",
          "1 of 4 rows", ("2",), severity="warning"),
    Break(AUDIT, "reserved-numeric",
          "UPDATE records SET reserved = 0, reserved_state = 'not_a_number' WHERE key_1 = 2",
          "1 of 4 rows", ("2",), severity="warning"),
    Break(AUDIT, "quantity-not-negative",
          "UPDATE records SET quantity = -0.001 WHERE key_1 = 4",
          "1 of 4 rows", ("4",), severity="warning"),
    Break(AUDIT, "reserved-within-quantity",
          "UPDATE records SET reserved = 7.000000000000000000001 WHERE key_1 = 3",
          "1 of 4 rows", ("3",), severity="warning"),
    Break(AUDIT, "item-once-per-company", "UPDATE records SET item_key = 'A-1' WHERE key_1 = 2",
          "1 row", ("1",), ("company_key=1, item_key=A-1, records=2",), severity="warning"),
    Break(AUDIT, "location-own", "UPDATE records SET location_own = false WHERE key_1 = 3",
          "1 of 4 rows", ("3",), severity="warning"),
    Break(AUDIT, "target-key-present",
          "UPDATE records SET rule = 'target_key_missing' WHERE key_1 = 2",
          "1 of 4 rows", ("2",), severity="warning"),
    Break(AUDIT, "target-key-unshared",
          "UPDATE records SET rule = 'target_key_shared' WHERE key_1 = 2",
          "1 of 4 rows", ("2",), severity="warning"),
    Break(AUDIT, "target-agrees",
          "UPDATE records SET rule = 'target_exists' WHERE key_1 = 2",
          "1 of 4 rows", ("2",), severity="warning"),
    Break(AUDIT, "quantity-exact",
          "UPDATE records SET rule = 'quantity_inexact' WHERE key_1 = 2",
          "1 of 4 rows", ("2",), severity="warning"),
    Break(AUDIT, "values-convertible",
          "UPDATE records SET rule = 'value_unconvertible' WHERE key_1 = 2",
          "1 of 4 rows", ("2",), severity="warning"),
    Break(AUDIT, "default-location-unambiguous",
          "UPDATE companies SET default_locations = 2 WHERE company_key = 2",
          "1 row", ("2, Bolt",), ("default_locations=2",)),
    Break(AUDIT, "default-location-of-a-company",
          "INSERT INTO default_locations VALUES (104, 9, false), (105, NULL, NULL)",
          "2 rows", ("104", "105"), ("company_key=9", "company_key=None")),
    Break(AUDIT, "quarantine-within-threshold",
          "UPDATE records SET outcome = 'quarantined' WHERE key_1 = 1",
          "1 row", ("1 of 6",), ("percent_allowed=10.0",)),
    Break(AUDIT, "record-not-skipped",
          "INSERT INTO skipped VALUES ('5', 'deleted')",
          "1 row", ("5",), ("reason=deleted",), severity="info"),
    Break(AUDIT, "location-absent", "UPDATE records SET located_before = true WHERE key_1 = 3",
          "1 of 4 rows", ("3",), severity="info"),
    Break(AUDIT, "item-without-blanks",
          "INSERT INTO item_blanks VALUES ('1', ' A-1')",
          "1 row", ("1",), ("item_key= A-1",), severity="warning"),
    Break(AUDIT, "item-case-usual",
          "INSERT INTO item_cases VALUES ('1', 'a-1')",
          "1 row", ("1",), ("item_key=a-1",), severity="warning"),
    Break(AUDIT, "quantity-whole",
          "INSERT INTO fractions VALUES ('1', 0.5)",
          "1 row", ("1",), ("quantity=0.5",), severity="warning"),
    Break(AUDIT, "texts-filled",
          "INSERT INTO blank_texts VALUES ('1', 'name')",
          "1 row", ("1",), ("column_name=name",), severity="info"),
    Break(AUDIT, "texts-of-their-own-type",
          "INSERT INTO typed_texts VALUES ('price', 'text', 'numbers', 9, 10)",
          "1 row", ("price",), ("column_type=text, looks_like=numbers, records=9, filled=10",),
          severity="info"),
    Break(AUDIT, "references-lead-somewhere",
          "INSERT INTO orphans VALUES ('1', 'product_id to products', '7')",
          "1 row", ("1",), ("reference=product_id to products, refers_to=7",), severity="warning"),
    Break(AUDIT, "retired-without-stock",
          "INSERT INTO retired_stock VALUES ('1', 'discontinued', 5)",
          "1 row", ("1",), ("column_name=discontinued, quantity=5",), severity="warning"),
    Break(AUDIT, "reserved-as-expected",
          "INSERT INTO reserved_drift VALUES ('1', 2, 3)",
          "1 row", ("1",), ("reserved=2, expected=3",), severity="warning"),
    Break(AUDIT, "quantity-column-not-null",
          "INSERT INTO nullable_quantity VALUES ('quantity', 'integer')",
          "1 row", ("quantity",), ("column_type=integer",), severity="info"),
    Break(AUDIT, "default-location-absent",
          "INSERT INTO located_companies VALUES ('1, Acme', '101')",
          "1 row", ("1, Acme",), ("location_key=101",), severity="info"),
    Break(AUDIT, "company-with-stock",
          "INSERT INTO idle_companies VALUES ('3, Idle')",
          "1 row", ("3, Idle",), ("",), severity="info"),
    Break(LOCATIONS, "row-count", "DELETE FROM companies WHERE company_key = 3", "2"),
    Break(LOCATIONS, "default-location-present",
          "UPDATE companies SET default_locations = 0, location_key = NULL WHERE company_key = 3",
          "1 of 3 rows", ("3, Idle",)),
    Break(LOCATIONS, "default-location-unambiguous",
          "UPDATE companies SET default_locations = 2, location_key = NULL WHERE company_key < 3",
          "2 of 3 rows", ("1, Acme", "2, Bolt")),
    Break(LOCATIONS, "default-location-own",
          "UPDATE companies SET location_key = 103 WHERE company_key = 1",
          "1 row", ("1, Acme",), ("location_key=103",)),
    Break(LOCATIONS, "default-location-of-a-company",
          "INSERT INTO default_locations VALUES (104, 9, false)",
          "1 row", ("104",), ("company_key=9",)),
    Break(STOCK, "row-count", "DELETE FROM moved WHERE outcome = 'gone'", "5"),
    Break(STOCK, "outcome-present", "UPDATE moved SET outcome = NULL WHERE position = 4",
          "1 of 6 rows", ("4",)),
    Break(STOCK, "outcome-known", "UPDATE moved SET outcome = 'lost' WHERE position = 4",
          "1 of 6 rows", ("4",)),
    Break(STOCK, "location-present", "UPDATE moved SET location_key = NULL WHERE position = 2",
          "1 of 3 rows", ("2",)),
    Break(STOCK, "location-exists", "UPDATE moved SET location_found = false WHERE position = 3",
          "1 of 3 rows", ("3",)),
    Break(STOCK, "location-owner-known",
          "UPDATE moved SET location_own = NULL WHERE position = 1", "1 of 3 rows", ("1",)),
    Break(STOCK, "location-own", "UPDATE moved SET location_own = false WHERE position IN (1, 3)",
          "2 of 3 rows", ("1", "3")),
    Break(STOCK, "totals-unchanged",
          "UPDATE moved SET quantity = 0.100000000000000000001 WHERE position = 2",
          "1 row", ("quantity",),
          ("before_migration=21.1, after_migration=21.100000000000000000001",)),
    Break(STOCK, "totals-unchanged",
          "UPDATE moved SET reserved = NULL, quantity = NULL WHERE position < 6",
          "2 rows", ("quantity", "reserved"),
          ("before_migration=21.1, after_migration=None",
           "before_migration=10, after_migration=None")),
    Break(REPORT, "row-count", "DELETE FROM differences", "0"),
    Break(REPORT, "differences-explained",
          "UPDATE differences SET explained = false",
          "1 row", ("2",), ("kind=changed, detail=sold by the application",)),
    Break(REPORT, "differences-explained", "UPDATE differences SET explained = NULL",
          "1 row", ("2",), ("kind=changed, detail=sold by the application",)),
    Break(REPORT, "balances-complete", "UPDATE balanced SET records = 1",
          "1 row", ("records=1, expected=2",)),
    Break(REPORT, "available-unchanged",
          "UPDATE balance SET explained = -1.9999999999999999999 WHERE company_key = 2",
          "1 row", ("2, B-1",),
          ("available_before=5, explained=-1.9999999999999999999, available_after=3",)),
    Break(REPORT, "available-unchanged",
          "UPDATE balance SET available_after = NULL WHERE company_key = 1",
          "1 row", ("1, A-1",),
          ("available_before=8, explained=0, available_after=None",)),
    Break(REPORT, "references-kept",
          "UPDATE \"references\" SET rows_after = 39 WHERE rows_before = 40",
          "1 row", ("order_lines_stock_item_id_fkey",), ("rows_before=40, rows_after=39",),
          severity="warning"),
    Break(REPORT, "references-intact",
          "UPDATE \"references\" SET orphans_after = 1 WHERE rows_before = 40",
          "1 row", ("order_lines_stock_item_id_fkey",), ("orphans_before=0, orphans_after=1",)),
]  # fmt: skip


@pytest.mark.parametrize("name", BATCHES)
def test_a_good_inventory_meets_every_expectation(database: Database, name: str) -> None:
    make_tables(database)
    verdict = judged(database, name)
    assert verdict.failed == (), verdict.summary()
    assert verdict.passed
    assert len(verdict.expectations) == len(loaded(name).expectations)


@pytest.mark.parametrize("name", BATCHES)
def test_an_empty_inventory_is_legal(database: Database, name: str) -> None:
    make_tables(database, empty=True)
    none = dict.fromkeys(PARAMETERS, 0)
    verdict = judged(database, name, **none)
    assert verdict.failed == (), verdict.summary()


@pytest.mark.parametrize("case", BREAKS, ids=str)
def test_a_violation_fails_its_expectation_and_is_named(database: Database, case: Break) -> None:
    make_tables(database)
    database.psql(case.sql)
    verdict = judged(database, case.suite)
    (found,) = verdict.noted if case.severity == "info" else verdict.failed
    assert found.key == case.key
    assert len([one for one in verdict.expectations if not one.success]) == 1
    assert found.error is None
    assert (found.observed, sorted(found.sample)) == (case.observed, sorted(case.sample))
    assert sorted(found.details) == sorted(case.details)
    assert found.severity == case.severity
    assert verdict.severity == (None if case.severity == "info" else case.severity)
    assert verdict.passed is (case.severity != "critical")


def test_a_repaired_reference_is_no_defect(database: Database) -> None:
    make_tables(database)
    database.psql('UPDATE "references" SET orphans_after = 0')
    assert judged(database, REPORT).failed == ()


def test_every_expectation_that_ships_is_broken_above() -> None:
    shipped = {(n, e["meta"]["key"]) for n in BATCHES for e in loaded(n).expectations}
    assert {(case.suite, case.key) for case in BREAKS} == shipped


@pytest.mark.parametrize(
    "parameters",
    [{"after_records": 7}, {"quarantined_percent": 100}, {"quarantined_percent": 16.67}],
    ids=["few records", "continue", "within"],
)
def test_the_threshold_holds_back_only_where_the_mapping_says(
    database: Database, parameters: dict[str, float]
) -> None:
    make_tables(database)
    database.psql("UPDATE records SET outcome = 'quarantined' WHERE key_1 = 1")
    assert judged(database, AUDIT, **parameters).failed == ()
    refused = judged(database, AUDIT, quarantined_percent=16.66)
    assert [found.key for found in refused.failed] == ["quarantine-within-threshold"]


ODD = {
    "record-not-skipped",
    "location-absent",
    "item-without-blanks",
    "item-case-usual",
    "quantity-whole",
    "texts-filled",
    "texts-of-their-own-type",
    "references-lead-somewhere",
    "retired-without-stock",
    "reserved-as-expected",
    "quantity-column-not-null",
    "default-location-absent",
    "company-with-stock",
}


def test_no_expectation_that_ships_softens_itself() -> None:
    for name in BATCHES:
        raw = json.loads(listing("expectations", ".json")[name].read_text())
        for expectation in raw["expectations"]:
            # What only the data's own habits tell refuses nothing; all else is up to the rules.
            soft = expectation["meta"]["key"] in ODD
            assert (expectation.get("severity") in ("warning", "info")) == soft
            assert not (soft and (set(expectation["meta"]) & {"rule", "integrity"}))
            assert expectation["meta"]["why"].endswith(".")
            assert expectation["description"].endswith(".")
        assert any("row_count" in e["type"] for e in raw["expectations"])


def test_every_rule_of_a_mapping_has_an_expectation() -> None:
    ruled = {e["meta"].get("rule") for e in loaded(AUDIT).expectations}
    assert ruled - {None} == set(Rules().actions())


def test_a_rule_that_fails_makes_its_expectations_critical() -> None:
    severities = {**SEVERITIES, "negative_quantity": severity_of("fail")}
    suite = load_suite(AUDIT, severities=severities, relations=RELATIONS | ODDITIES)
    found = {e["meta"]["key"]: e["severity"] for e in suite.expectations}
    assert found["quantity-not-negative"] == "critical"
    assert found["reserved-within-quantity"] == "warning"
    assert found["row-count"] == "critical"


def test_a_rule_that_does_not_apply_takes_its_expectations_away() -> None:
    suite = load_suite(
        AUDIT,
        severities=SEVERITIES,
        relations=RELATIONS | ODDITIES,
        without={"reserved_exceeds_quantity"},
    )
    keys = {e["meta"]["key"] for e in suite.expectations}
    assert "reserved-within-quantity" not in keys
    assert "quantity-not-negative" in keys


def test_a_suite_says_which_numbers_it_needs() -> None:
    assert {name: set(loaded(name).parameters) for name in BATCHES} == {
        AUDIT: {"expected_rows", "quarantined_percent", "after_records"},
        LOCATIONS: {"expected_companies"},
        STOCK: {"expected_rows"},
        REPORT: {"expected_differences", "expected_records"},
    }


def test_a_suite_of_the_environment_is_read_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = {"name": REPORT, "expectations": [rows_equal("mine")]}
    (tmp_path / f"{REPORT}.json").write_text(json.dumps(mine))
    monkeypatch.setenv("INVENTORY_EXPECTATIONS", str(tmp_path))
    assert [e["meta"]["key"] for e in loaded(REPORT).expectations] == ["mine"]
    with pytest.raises(ProjectFileMissing, match="no_such"):
        loaded("no_such")


def rows_equal(key: str, **more: Any) -> dict[str, Any]:
    """Return a sound expectation."""
    kwargs = {"value": {"$PARAMETER": "expected_rows"}}
    return {
        "type": "expect_table_row_count_to_equal", "kwargs": kwargs, "meta": {"key": key}, **more
    }  # fmt: skip


def query(sql: Any, **kwargs: Any) -> dict[str, Any]:
    """Return an expectation that is a query."""
    return {
        "type": "unexpected_rows_expectation",
        "kwargs": {"unexpected_rows_query": sql, **kwargs},
        "meta": {"key": "q"},
    }


def problems_of(tmp_path: Path, raw: object, **arguments: Any) -> list[str]:
    """Return what the loader says of a file."""
    path = tmp_path / "mine.json"
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw))
    with pytest.raises(SuiteInvalid) as caught:
        load_suite(
            "mine",
            severities={"negative_quantity": "warning"},
            relations={"companies": "SELECT 1"},
            path=path,
            **arguments,
        )
    assert caught.value.exit_code == 2
    assert all(line.startswith(str(path)) for line in str(caught.value).splitlines())
    return list(caught.value.problems)


REFUSED: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "is not JSON: line 1, column 2: Expecting property name enclosed in double"
                     " quotes"),
    "no object": ([], "is not a JSON object"),
    "no expectations": ({"name": "mine"}, "it expects nothing, so that it would always pass"),
    "empty": ({"name": "mine", "expectations": []},
              "it expects nothing, so that it would always pass"),
    "other name": ({"name": "yours", "expectations": [rows_equal("a")]},
                   'its name is "yours" and must be "mine"'),
    "unknown key": ({"name": "mine", "expectations": [rows_equal("a")], "data_asset": 1},
                    'unknown key "data_asset"'),
    "sample": ({"name": "mine", "expectations": [rows_equal("a")], "meta": {"sample": "id"}},
               "meta.sample must be a list of the columns that name an offending row"),
    "no object inside": ([3], "expectation 1: is not an object"),
    "unknown type": ([rows_equal("a", type="expect_table_row_count_to_eqal")],
                     'expectation 1 "a": unknown expectation type "expect_table_row_count_to_eqal";'
                     " did you mean expect_table_row_count_to_equal?"),
    "no type": ([{"kwargs": {}, "meta": {"key": "a"}}], 'expectation 1 "a": has no type'),
    "blind type": ([rows_equal("a", type="expect_query_results_to_match_comparison")],
                   'expectation 1 "a": expect_query_results_to_match_comparison compares the first'
                   " 200 rows only; write it as unexpected_rows_expectation"),
    "severity": ([rows_equal("a", severity="high")],
                 'expectation 1 "a": severity "high" must be critical, warning or info'),
    "kwargs list": ([rows_equal("a", kwargs=[])], 'expectation 1 "a": kwargs must be an object'),
    "kwargs missing": ([rows_equal("a", kwargs={})], 'expectation 1 "a": value: field required'),
    "kwargs unknown": ([rows_equal("a", kwargs={"value": 1, "column": "x"})],
                       'expectation 1 "a": column: extra fields not permitted'),
    "kwargs type": ([rows_equal("a", kwargs={"value": "many"})],
                    'expectation 1 "a": value: value is not a valid integer'),
    "kwargs range": ([{"type": "expect_column_values_to_be_between", "kwargs": {"column": "x"},
                       "meta": {"key": "a"}}],
                     'expectation 1 "a": min_value and max_value cannot both be None'),
    "parameter": ([rows_equal("a", kwargs={"value": {"$PARAM": "n"}})],
                  'expectation 1 "a": value is an object, but no {"$PARAMETER": "name"}'),
    "parameter name": ([rows_equal("a", kwargs={"value": {"$PARAMETER": "n + 1"}})],
                       'expectation 1 "a": value: a parameter is a name, not "n + 1"'),
    "unknown expectation key": ([rows_equal("a", expectation_type="x")],
                                'expectation 1 "a": unknown key "expectation_type"'),
    "no key": ([rows_equal("a", meta={})], "expectation 1: has no meta.key"),
    "empty key": ([rows_equal("a", meta={"key": ""})], 'expectation 1 "": meta.key must be text'),
    "meta list": ([rows_equal("a", meta=["key"])], "expectation 1: meta must be an object"),
    "meta unknown": ([rows_equal("a", meta={"key": "a", "rul": "x"})],
                     'expectation 1 "a": unknown key "meta.rul"'),
    "same key twice": ([rows_equal("a"), rows_equal("a")],
                       'expectation 2 "a": meta.key "a" is given twice'),
    "unknown rule": ([rows_equal("a", meta={"key": "a", "rule": "negative_quantities"})],
                     'expectation 1 "a": meta.rule "negative_quantities" is no rule of the mapping;'
                     " did you mean negative_quantity?"),
    "rule and severity": ([rows_equal("a", severity="warning",
                                      meta={"key": "a", "rule": "negative_quantity"})],
                          'expectation 1 "a": has a rule, so that the mapping decides its'
                          " severity; take severity away"),
    "unknown relation": ([query("SELECT 1 FROM {company} AS c")],
                         'expectation 1 "q": there is no relation {company};'
                         " did you mean companies?"),
    "no relation": ([query("SELECT 1 FROM stock_items")],
                    'expectation 1 "q": unexpected_rows_query reads no relation, neither {batch}'
                    " nor another"),
    "no alias": ([query("SELECT 1 FROM {batch} WHERE a > 1")],
                 'expectation 1 "q": write {batch} AS name: older servers refuse a subquery without'
                 " a name"),
    "no alias at the end": ([query("SELECT 1 FROM {companies}")],
                            'expectation 1 "q": write {companies} AS name: older servers refuse a'
                            " subquery without a name"),
    "open brace": ([query("SELECT '{' FROM {batch} AS b")],
                   'expectation 1 "q": unexpected_rows_query: unexpected \'{\' in field name'),
    "no placeholder": ([query("SELECT 'x{3}', '{a.b}' FROM {batch} AS b")],
                       'expectation 1 "q": unexpected_rows_query: {a.b} is no placeholder; double'
                       " the braces if they are meant"),
    "query no text": ([query({"$PARAMETER": "sql"})],
                      'expectation 1 "q": unexpected_rows_query must be text; write numbers as'
                      " {$name} inside it"),
    "query condition": ([query("SELECT 1 FROM {batch} AS b", row_condition={})],
                        'expectation 1 "q": row_condition: extra fields not permitted'),
}  # fmt: skip


@pytest.mark.parametrize(("content", "problem"), REFUSED.values(), ids=REFUSED)
def test_a_suite_that_would_mislead_is_refused(tmp_path: Path, content: Any, problem: str) -> None:
    # All cases but those about the file as a whole give only the expectations.
    bare = isinstance(content, list) and content
    raw = {"name": "mine", "expectations": content} if bare else content
    assert problem in problems_of(tmp_path, raw)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    raw = {"name": "yours", "expectations": [
        rows_equal("a", severity="high"), query("SELECT 1 FROM {nowhere} AS n"), rows_equal("a")
    ]}  # fmt: skip
    assert problems_of(tmp_path, raw) == [
        'its name is "yours" and must be "mine"',
        'expectation 1 "a": severity "high" must be critical, warning or info',
        'expectation 2 "q": there is no relation {nowhere}; known: batch, companies, keys',
        'expectation 3 "a": meta.key "a" is given twice',
    ]


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mine.json"
    folder.mkdir()
    with pytest.raises(SuiteInvalid, match=r"mine\.json: cannot be read: Is a directory"):
        load_suite("mine", severities={}, relations={}, path=folder)
    latin = tmp_path / "latin.json"
    latin.write_bytes(b'{"name": "\xe9"}')
    with pytest.raises(SuiteInvalid, match="is not UTF-8 text"):
        load_suite("latin", severities={}, relations={}, path=latin)


def test_the_expectations_of_a_users_own_rules_pass_the_same_guards(tmp_path: Path) -> None:
    raw = {"name": "mine", "expectations": [rows_equal("a")]}
    own = {**query("SELECT 1 FROM {batch} AS b"),
           "meta": {"key": "own", "rule": "negative_quantity"}}  # fmt: skip
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(raw))
    suite = load_suite(
        "mine", severities={"negative_quantity": "warning"}, relations={}, extra=[own], path=path
    )
    assert [(e["meta"]["key"], e["severity"]) for e in suite.expectations] == [
        ("a", "critical"), ("own", "warning"),
    ]  # fmt: skip
    assert problems_of(tmp_path, raw, extra=[rows_equal("a")]) == [
        'expectation 2 "a": meta.key "a" is given twice'
    ]


def test_a_users_expectation_may_be_a_warning_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(
        json.dumps({"name": "mine", "expectations": [rows_equal("a", severity="warning")]})
    )
    suite = load_suite("mine", severities={}, relations={}, path=path)
    assert suite.expectations[0]["severity"] == "warning"


def test_only_the_action_fail_refuses_a_gate() -> None:
    actions = {action: severity_of(action) for action in ("warn", "quarantine", "fail")}
    assert actions == {"warn": "warning", "quarantine": "warning", "fail": "critical"}
