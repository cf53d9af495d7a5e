"""Counts in the place of expectations: the same verdict, of one scan, and nothing misread."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from inventory_migration.database import connection_parameters
from inventory_migration.quality import counting, folding
from inventory_migration.quality.judging import counts_of, judge
from inventory_migration.quality.suites import load_suite
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.test_verdict import query, suite_of

pytestmark = pytest.mark.one_server

VALUES = {"batch": "(SELECT 1)", "others": "(SELECT 2)", "$least": "3"}

EVEN = {"type": "comparison", "column": {"name": "n"}, "operator": "IN", "parameter": [2, 4, 6]}
SMALL = {
    "type": "and",
    "conditions": [
        {"type": "nullity", "column": {"name": "word"}, "is_null": False},
        {"type": "comparison", "column": {"name": "n"}, "operator": "<", "parameter": 5},
    ],
}


def of(kind: str, **kwargs: Any) -> dict[str, Any]:
    """An expectation about columns, its key made of what it says."""
    key = " ".join([kind, *map(str, kwargs.values())])
    return {"type": kind, "kwargs": kwargs, "meta": {"key": key}}


KINDS = [
    of("expect_column_values_to_not_be_null", column="word"),
    of("expect_column_values_to_not_be_null", column="n", row_condition=EVEN),
    of("expect_column_values_to_be_null", column="word", row_condition=SMALL),
    of("expect_column_values_to_be_in_set", column="word", value_set=["a", "it's"]),
    of("expect_column_values_to_be_in_set", column="yes", value_set=[True]),
    of("expect_column_values_to_not_be_in_set", column="n", value_set=[3, 4], row_condition=SMALL),
    of("expect_column_values_to_be_between", column="n", min_value=2, max_value=7),
    of("expect_column_values_to_be_between", column="n", max_value=8, strict_max=True),
    of("expect_column_values_to_be_between", column="exact", min_value=0.5),
    of("expect_column_pair_values_a_to_be_greater_than_b", column_A="n", column_B="other"),
    of(
        "expect_column_pair_values_a_to_be_greater_than_b",
        column_A="n", column_B="other", or_equal=True,
    ),
    of("expect_column_values_to_match_regex", column="word", regex="^[a-b]$"),
    of("expect_column_values_to_not_match_regex", column="word", regex="b"),
    of("expect_table_row_count_to_equal", value=8),
    of("expect_table_row_count_to_equal", value=9),
    of("expect_table_row_count_to_be_between", min_value=9),
    query("picked", "SELECT key_text, n FROM {batch} AS b WHERE n > 6 AND word IS NOT NULL"),
    query(
        "summed",
        "SELECT concat(few, ' of ', al) AS key_text FROM (SELECT count(*) AS al, sum(exact) AS x, "
        "count(*) FILTER (WHERE n < 3) AS few FROM {batch} AS r WHERE n <> 8) AS t WHERE few > 1",
    ),
]  # fmt: skip

BATCH = """
    SELECT n, n::text AS key_text, n / 3 AS yes_no, n % 2 = 0 AS yes, n * 0.25 AS exact,
           CASE n % 4 WHEN 1 THEN 'a' WHEN 2 THEN 'b' WHEN 3 THEN 'it''s' END AS word,
           CASE WHEN n <> 5 THEN 8 - n END AS other
    FROM generate_series(1, 8) AS n"""


def test_a_count_says_what_great_expectations_would_have_said(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = suite_of(tmp_path, *KINDS)
    arguments: dict[str, Any] = {
        "batch": BATCH,
        "parameters": {},
        "connection_parameters": connection_parameters(database.url),
    }
    counted = judge(suite, **arguments)
    monkeypatch.setattr(counting, "count", lambda *_: {})
    run = judge(suite, **arguments)
    assert {not found.success for found in run.expectations} == {True, False}
    for ours, theirs in zip(counted.expectations, run.expectations, strict=True):
        assert (ours.key, ours.success, ours.unexpected_count, ours.error) == (
            theirs.key, theirs.success, theirs.unexpected_count, None,
        )  # fmt: skip
        assert (ours.observed, ours.column) == (theirs.observed, theirs.column)
        assert {*ours.sample} == {*theirs.sample}
        assert {*ours.details} == {*theirs.details}


def test_one_scan_answers_all_that_is_asked_of_a_relation(
    database: Database, tmp_path: Path
) -> None:
    database.psql(f"CREATE TABLE looked_at AS {BATCH}")
    met = [e for e in KINDS if e["kwargs"].get("max_value") == 9] + [
        of("expect_column_values_to_not_be_null", column="n"),
        of("expect_column_values_to_be_between", column="n", min_value=1),
        of("expect_table_row_count_to_equal", value=8),
        query("picked", "SELECT key_text FROM {batch} AS b WHERE n > 8"),
        KINDS[-1] | {"kwargs": {"unexpected_rows_query": KINDS[-1]["kwargs"][
            "unexpected_rows_query"].replace("few > 1", "few > 2")}},
        query("others", "SELECT n FROM {more} AS m WHERE n > 8"),
        query("other ones", "SELECT n FROM {more} AS m WHERE n < 1"),
    ]  # fmt: skip
    scans = "SELECT sum(seq_scan) FROM pg_stat_user_tables"
    before = int(database.psql(scans))
    verdict = judge(
        suite_of(tmp_path, *met, relations={"more": "SELECT * FROM looked_at"}),
        batch="SELECT * FROM looked_at",
        parameters={},
        connection_parameters=connection_parameters(database.url),
    )
    assert verdict.failed == ()
    # One of the batch and one of the other relation.
    assert int(database.psql(scans)) - before == 2


def test_what_is_known_is_not_counted_again(database: Database, tmp_path: Path) -> None:
    asked = [of("expect_column_values_to_not_be_null", column="n"), KINDS[-1]]
    suite = suite_of(tmp_path, *asked[:1])
    [rows, nulls] = sorted(counts_of(suite, BATCH), key=len)
    verdict = judge(
        suite,
        batch="SELECT nothing",
        parameters={},
        connection_parameters=connection_parameters(database.url),
        known={rows: 8, nulls: 0},
    )
    assert verdict.failed == ()
    # Sums are exact numbers, and not among them.
    assert not any("sum" in sql for sql in counts_of(suite_of(tmp_path, *asked), BATCH))


def test_what_is_known_in_part_is_counted_in_whole(database: Database, tmp_path: Path) -> None:
    suite = suite_of(tmp_path, *KINDS)
    arguments: dict[str, Any] = {
        "batch": BATCH,
        "parameters": {},
        "connection_parameters": connection_parameters(database.url),
    }
    known = dict.fromkeys(counts_of(suite, BATCH), 0)
    assert judge(suite, known=known, **arguments) == judge(suite, **arguments)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT key_text FROM {batch} AS b",
        "SELECT DISTINCT key_text FROM {batch} AS b WHERE n > 1",
        "SELECT count(*) AS n FROM {batch} AS b WHERE n > 1",
        "SELECT key_text FROM {batch} AS b WHERE b.n > 1",
        "SELECT key_text FROM {batch} AS b WHERE n > 1 GROUP BY key_text",
        "SELECT key_text FROM {batch} AS b WHERE n > 1 ORDER BY n LIMIT 3",
        "SELECT key_text FROM {batch} AS b WHERE n > 1 UNION ALL SELECT 'x'",
        "SELECT key_text FROM {batch} AS b WHERE n > 1 -- or so",
        "SELECT key_text FROM {batch} AS b WHERE n IN (SELECT m FROM {others} AS o)",
        "SELECT key_text FROM {batch} AS b, {others} AS o WHERE n > 1",
        "SELECT a FROM (SELECT count(*) AS a FROM {batch} AS b GROUP BY n) AS t WHERE a > 1",
        "SELECT a FROM (SELECT avg(n) AS a FROM {batch} AS b) AS t WHERE a > 1",
        "SELECT a FROM (SELECT count(*) AS a, n FROM {batch} AS b) AS t WHERE a > 1",
        "SELECT a FROM (SELECT count(*) AS a FROM {batch} AS b) AS t, {batch} AS c",
    ],
)
def test_a_query_of_another_form_is_run_as_it_is(sql: str) -> None:
    expectation = query("q", sql)
    assert folding.rows_of(expectation, VALUES) is None
    assert folding.sums_of(expectation) is None


@pytest.mark.parametrize(
    "expectation",
    [
        of("expect_column_values_to_not_be_null", column="n", mostly=0.9),
        of("expect_column_values_to_not_be_null", column="n", row_condition="n > 1"),
        of("expect_column_values_to_be_in_set", column="n", value_set=[None, 1]),
        of("expect_column_values_to_be_in_set", column="n", value_set=[]),
        of("expect_column_values_to_be_unique", column="n"),
        of("expect_column_pair_values_a_to_be_greater_than_b", column_A="n", column_B="m",
           ignore_row_if="never"),
    ],
)  # fmt: skip
def test_what_is_no_plain_condition_is_left_to_great_expectations(
    expectation: Mapping[str, Any],
) -> None:
    assert folding.rows_of(expectation, VALUES) is None
    assert folding.row_count_of(expectation) is None


def test_nearly_all_that_ships_is_counted_in_one_scan() -> None:
    names = ("companies", "default_locations", "unbalanced", "balanced", "references", "moved")
    relations = dict.fromkeys(names, "SELECT 1")
    severities = {"default_location_ambiguous": "critical", "references_changed": "warning"}
    for name, others in (
        ("default_locations", {"default-location-own"}),
        ("transformed_stock", set()),
        ("reconciliation_report", {"balances-complete", "available-unchanged"}),
    ):
        suite = load_suite(name, severities=severities, relations=relations)
        values = {**dict.fromkeys([*relations, "batch"], "(SELECT 1)"), "$expected_records": "1"}
        left = {
            e["meta"]["key"]
            for e in suite.expectations
            if not folding.rows_of(e, values)
            and not folding.sums_of(e)
            and not e["type"].startswith("expect_table")
        }
        assert left == others
