"""Verdicts: what they say, what they weigh, and that no SQL of a user is misread on the way."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import psycopg
import pytest

from inventory_migration.database import connection_parameters
from inventory_migration.errors import (
    DatabaseMissing,
    DatabaseUnreachable,
    StatementFailed,
    SuiteParametersMissing,
)
from inventory_migration.quality import queries
from inventory_migration.quality.counting import SAMPLE_SIZE
from inventory_migration.quality.judging import judge
from inventory_migration.quality.suites import Suite, load_suite
from inventory_migration.quality.verdict import Verdict
from inventory_migration_tests.canonical_tables import judged, make_tables
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.one_server

NUMBERS = "SELECT n AS key_1, n::text AS key_text, n AS v FROM generate_series(1, 25) AS n"


def query(key: str, sql: str, **more: Any) -> dict[str, Any]:
    """Return an expectation that is a query."""
    kwargs = {"unexpected_rows_query": sql}
    return {
        "type": "unexpected_rows_expectation", "kwargs": kwargs, "meta": {"key": key}, **more
    }  # fmt: skip


def present(key: str, column: str, **more: Any) -> dict[str, Any]:
    """Return an expectation that a column is never NULL."""
    return {
        "type": "expect_column_values_to_not_be_null", "kwargs": {"column": column},
        "meta": {"key": key}, **more,
    }  # fmt: skip


def at_most(key: str, limit: float, **kwargs: Any) -> dict[str, Any]:
    """Return an expectation that v is small."""
    return {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "v", "max_value": limit, **kwargs}, "meta": {"key": key},
    }  # fmt: skip


def suite_of(tmp_path: Path, *expectations: dict[str, Any], **arguments: Any) -> Suite:
    """Return a suite of its own, through the loader."""
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"name": "mine", "expectations": expectations}))
    return load_suite("mine", severities={}, path=path, **{"relations": {}, **arguments})


def verdict_of(database: Database, suite: Suite, batch: str = NUMBERS, **more: Any) -> Verdict:
    """Judge a suite in a test's database."""
    arguments = {"parameters": {}, "connection_parameters": connection_parameters(database.url)}
    return judge(suite, batch=batch, **{**arguments, **more})


def test_a_warning_does_not_refuse(database: Database, tmp_path: Path) -> None:
    soft = query("soft", "SELECT key_text FROM {batch} AS b WHERE v = 7", severity="warning")
    verdict = verdict_of(database, suite_of(tmp_path, soft, at_most("hard", 25)))
    assert (verdict.passed, verdict.severity) == (True, "warning")
    assert [found.key for found in verdict.failed] == ["soft"]
    assert verdict.summary() == (
        "mine: passed with warnings, 1 of 2 expectations failed.\n"
        "  warning: soft (unexpected_rows_expectation): observed 1 row; for example 7."
    )


def test_one_critical_failure_refuses_and_comes_first(database: Database, tmp_path: Path) -> None:
    soft = query("soft", "SELECT key_text FROM {batch} AS b WHERE v = 7", severity="warning")
    hard = at_most("hard", 23)
    hard["meta"]["why"] = "More does not fit."
    verdict = verdict_of(database, suite_of(tmp_path, soft, hard))
    assert (verdict.passed, verdict.severity) == (False, "critical")
    first, second, third = verdict.summary().splitlines()
    assert first == "mine: refused, 2 of 2 expectations failed."
    assert second == (
        "  critical: hard (expect_column_values_to_be_between on v): observed 2 of 25 rows, "
        "expected max_value=23; for example 24; 25. More does not fit."
    )
    assert third.startswith("  warning: soft")


def test_a_verdict_without_failures_says_so(database: Database, tmp_path: Path) -> None:
    verdict = verdict_of(database, suite_of(tmp_path, at_most("hard", 25)))
    assert (verdict.passed, verdict.severity, verdict.failed) == (True, None, ())
    assert verdict.summary() == "mine: all 1 expectations are met."


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (present("b", "nowhere", severity="warning"), "nowhere"),
        (query("b", "SELECT nowhere FROM {batch} AS b", severity="warning"),
         'column "nowhere" does not exist'),
        (query("b", "SELECT 1 / (v - v) FROM {batch} AS b", severity="warning"),
         "division by zero"),
        (query("b", "SELECT FROM {batch} AS b WHERE", severity="warning"), "syntax error"),
    ],
    ids=["column", "query column", "at run time", "syntax"],
)  # fmt: skip
def test_what_cannot_run_is_critical_whatever_its_severity(
    database: Database, tmp_path: Path, broken: dict[str, Any], said: str
) -> None:
    verdict = verdict_of(database, suite_of(tmp_path, broken, at_most("fine", 25)))
    assert (verdict.passed, verdict.severity) == (False, "critical")
    (found,) = verdict.failed
    assert found.key == "b"
    assert found.severity == "warning"
    assert found.error is not None
    assert said in found.error
    assert "Traceback" not in found.error
    assert f"critical: b ({found.expectation}" in verdict.summary()
    assert "could not run: " in verdict.summary()


def test_a_batch_that_cannot_be_read_breaks_every_expectation(
    database: Database, tmp_path: Path
) -> None:
    suite = suite_of(
        tmp_path,
        at_most("map", 25),
        query("query", "SELECT 1 FROM {batch} AS b"),
        {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 1}, "meta": {"key": "n"}},
    )
    verdict = verdict_of(database, suite, "SELECT * FROM no_such_table")
    assert not verdict.passed
    assert len(verdict.failed) == 3
    assert all("no_such_table" in str(found.error) for found in verdict.failed)


def test_a_sample_is_capped_and_the_count_is_not(database: Database, tmp_path: Path) -> None:
    suite = suite_of(
        tmp_path, at_most("map", 0), query("query", "SELECT key_text FROM {batch} AS b")
    )
    for found in verdict_of(database, suite).expectations:
        assert len(found.sample) == SAMPLE_SIZE < 25
        assert found.unexpected_count == 25


def test_a_tolerant_expectation_counts_what_it_tolerates(
    database: Database, tmp_path: Path
) -> None:
    verdict = verdict_of(database, suite_of(tmp_path, at_most("map", 24, mostly=0.9)))
    (found,) = verdict.expectations
    assert (found.success, found.observed, found.sample) == (True, "1 of 25 rows", ("25",))


def test_rows_without_a_key_are_shown_whole(database: Database, tmp_path: Path) -> None:
    sql = "SELECT v, v * 1.10 AS more FROM {batch} AS b WHERE v < 3 ORDER BY v"
    (found,) = verdict_of(database, suite_of(tmp_path, query("q", sql))).expectations
    assert found.sample == ("v=1, more=1.10", "v=2, more=2.20")
    assert found.details == ()


def test_a_suite_names_the_columns_that_name_an_offender(
    database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "mine.json"
    meta = {"sample": ["v", "key_text"]}
    raw = {"name": "mine", "meta": meta, "expectations": [at_most("map", 24)]}
    path.write_text(json.dumps(raw))
    suite = load_suite("mine", severities={}, relations={}, path=path)
    assert verdict_of(database, suite).expectations[0].sample == ("25, 25",)


def test_keys_of_several_columns_are_compared_as_they_are(
    database: Database, tmp_path: Path
) -> None:
    sql = "SELECT {keys} FROM {batch} AS b GROUP BY {keys} HAVING count(*) > 1"
    batch = "SELECT * FROM (VALUES ('a, b', 'c'), ('a', 'b, c'), ('x', 'y')) AS t (key_1, key_2)"
    suite = suite_of(tmp_path, query("q", sql), keys=["key_1", "key_2"])
    assert verdict_of(database, suite, batch).passed
    twice = f"{batch} UNION ALL SELECT 'x', 'y'"
    assert verdict_of(database, suite, twice).expectations[0].sample == ("key_1=x, key_2=y",)


HOSTILE = r"""%s %% 100% {batch} {x} {{}} :x ::y \:z $HOME ${HOME} "q" -- /* ; 'quoted' relation_"""


def test_nothing_in_a_users_sql_is_misread(database: Database, tmp_path: Path) -> None:
    database.psql(
        r'CREATE TABLE "We::ird %s {Table} :t" (id bigint, "co:l %(x)s {y}" text);'
        r'CREATE TABLE "other %" (id bigint);'
    )
    with psycopg.connect(database.url) as connection:
        connection.execute(
            'INSERT INTO "We::ird %s {Table} :t" VALUES (1, %s), (2, %s)'.replace("d %s", "d %%s"),
            [HOSTILE, HOSTILE],
        )
    literal = "'" + HOSTILE.replace("'", "''") + "'"
    records = f"""
        WITH r AS (SELECT id, "co:l %(x)s {{y}}" AS v FROM "We::ird %s {{Table}} :t")
        SELECT r.v || r.id::text AS key_text, r.id % 2 AS odd, r.v = {literal} AS same
        FROM r WHERE r.v LIKE '%:x%' AND ARRAY[1,2,3]::int[] = '{{1,2,3}}' -- comment {{ at :end"""
    suite = suite_of(
        tmp_path,
        query("relation", "SELECT key_text FROM {companies} AS c WHERE odd = 1"),
        query("batch", "SELECT key_text FROM {batch} AS b WHERE odd = {$one} AND '{{:x}} 5%' > ''"),
        query("both", "SELECT b.key_text FROM {batch} AS b JOIN {companies} AS c USING (key_text)"),
        {"type": "expect_column_values_to_be_in_set",
         "kwargs": {"column": "odd", "value_set": [0]}, "meta": {"key": "map"}},
        {"type": "expect_column_values_to_be_in_set",
         "kwargs": {"column": "same", "value_set": [True]}, "meta": {"key": "same"}},
        relations={"companies": records},
    )  # fmt: skip
    verdict = verdict_of(database, suite, records + ";", parameters={"one": 1})
    found = {one.key: one for one in verdict.expectations}
    assert [one.error for one in verdict.expectations] == [None] * 5
    assert found["relation"].sample == found["batch"].sample == (HOSTILE + "1",)
    assert found["map"].sample == (HOSTILE + "1",)
    assert sorted(found["both"].sample) == [HOSTILE + "1", HOSTILE + "2"]
    assert found["same"].success


def test_a_password_and_parameters_reach_the_driver_untouched(
    database: Database, tmp_path: Path
) -> None:
    parameters = {
        **connection_parameters(database.url),
        "password": "p$ss${HOME}:@/%40",
        "application_name": "gate %s {x} $HOME",
    }
    sql = "SELECT current_setting('application_name') AS key_text FROM {batch} AS b LIMIT 1"
    verdict = verdict_of(
        database, suite_of(tmp_path, query("q", sql)), connection_parameters=parameters
    )
    assert verdict.expectations[0].sample == ("gate %s {x} $HOME",)


def test_a_server_that_does_not_answer_is_one_sentence_without_password(
    database: Database, tmp_path: Path
) -> None:
    suite = suite_of(tmp_path, at_most("a", 1))
    gone = {"host": "/no/such/folder", "user": "ann", "dbname": "shop", "password": "s3cr3t"}
    with pytest.raises(DatabaseUnreachable, match="socket /no/such/folder, database shop") as told:
        verdict_of(database, suite, connection_parameters=gone)
    assert "s3cr3t" not in str(told.value)
    missing = {**connection_parameters(database.url), "dbname": "no_such"}
    with pytest.raises(DatabaseMissing, match="no_such"):
        verdict_of(database, suite, connection_parameters=missing)


def test_all_statements_can_see_the_moment_of_a_snapshot(
    database: Database, tmp_path: Path
) -> None:
    database.psql("CREATE TABLE t AS SELECT 1 AS v, '1' AS key_text")
    count = {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 1},
             "meta": {"key": "count"}}  # fmt: skip
    suite = suite_of(tmp_path, at_most("map", 1), count, query("q", "SELECT 1 FROM {t} AS t "
                     "HAVING count(*) > 1"), relations={"t": "SELECT * FROM t"})  # fmt: skip
    with psycopg.connect(database.url) as holder:
        holder.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        row = holder.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        database.psql("INSERT INTO t VALUES (2, '2')")
        then = verdict_of(database, suite, "SELECT * FROM t", snapshot=row[0])
        now = verdict_of(database, suite, "SELECT * FROM t")
    assert then.failed == (), then.summary()
    assert {found.key for found in now.failed} == {"map", "count", "q"}


def test_a_snapshot_that_is_gone_is_not_a_verdict(database: Database, tmp_path: Path) -> None:
    suite = suite_of(tmp_path, at_most("map", 25))
    with pytest.raises(StatementFailed, match="snapshot"):
        verdict_of(database, suite, snapshot="00000003-0000001B-1")


def test_a_verdict_writes_nothing(database: Database, tmp_path: Path) -> None:
    database.psql(
        "CREATE TABLE log (n int);"
        "CREATE FUNCTION spy() RETURNS int LANGUAGE sql VOLATILE AS "
        "'INSERT INTO log VALUES (1) RETURNING n';"
    )
    suite = suite_of(tmp_path, query("q", "SELECT spy() FROM {batch} AS b"))
    (found,) = verdict_of(database, suite).failed
    assert "read-only transaction" in str(found.error)
    assert database.psql("SELECT count(*) FROM log") == "0"


def test_rows_that_a_policy_hides_are_not_taken_for_absent(
    database: Database, tmp_path: Path
) -> None:
    role = f"limited_{database.name}"
    database.psql(
        "CREATE TABLE t (key_text text, v int); INSERT INTO t VALUES ('1', 99);"
        f"CREATE ROLE {role}; GRANT SELECT ON t TO {role};"
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY;"
    )
    limited = {**connection_parameters(database.url), "options": f"-c role={role}"}
    suite = suite_of(tmp_path, at_most("map", 1))
    try:
        verdict = verdict_of(database, suite, "SELECT * FROM t", connection_parameters=limited)
    finally:
        database.psql(f"DROP OWNED BY {role}; DROP ROLE {role};")
    assert not verdict.passed
    assert "row-level security" in str(verdict.failed[0].error)


def test_a_suite_is_not_judged_without_its_numbers(database: Database, tmp_path: Path) -> None:
    count = {"type": "expect_table_row_count_to_equal",
             "kwargs": {"value": {"$PARAMETER": "expected_rows"}},
             "meta": {"key": "count"}}  # fmt: skip
    suite = suite_of(tmp_path, count, query("q", "SELECT 1 FROM {batch} AS b WHERE v > {$most}"))
    with pytest.raises(SuiteParametersMissing, match="needs a number for expected_rows, most"):
        verdict_of(database, suite)
    injected = {"expected_rows": 25, "most": "0; DROP TABLE t"}
    with pytest.raises(SuiteParametersMissing, match="needs a number for most"):
        verdict_of(database, suite, parameters=injected)
    assert verdict_of(database, suite, parameters={"expected_rows": 25, "most": 25}).passed


@pytest.mark.parametrize(
    ("value", "sql"),
    [(3, "3"), (0.1, "0.1"), (1e-7, "0.0000001"), (True, None), ("1", None), (None, None),
     (float("nan"), None), (float("inf"), None)],
)  # fmt: skip
def test_only_numbers_become_sql(value: object, sql: str | None) -> None:
    assert queries.number(value) == sql


def test_nothing_is_printed_logged_or_left_connected(
    database: Database,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    suite = suite_of(
        tmp_path,
        at_most("map", 0),
        query("relation", "SELECT 1 FROM {companies} AS c"),
        query("broken", "SELECT nowhere FROM {batch} AS b"),
        relations={"companies": "SELECT 1"},
    )
    with caplog.at_level(logging.DEBUG, logger="inventory_migration"):
        verdict_of(database, suite)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.name.startswith("great_expect")] == []
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
    assert database.psql(f"{others} pg_backend_pid()") == "0"


def test_a_verdict_as_json_says_it_all(database: Database) -> None:
    make_tables(database)
    database.psql("UPDATE records SET item_key = 'A-1' WHERE key_1 = 2")
    verdict = judged(database, "audit_profile")
    said = json.loads(json.dumps(verdict.to_json()))
    assert {name: said[name] for name in ("suite", "passed", "severity")} == {
        "suite": "audit_profile", "passed": True, "severity": "warning",
    }  # fmt: skip
    (found,) = [one for one in said["expectations"] if not one["success"]]
    assert found.pop("why").startswith("Two records of one item")
    assert found.pop("description").startswith("No company has the same item")
    assert found.pop("advice").startswith("Merge the records")
    assert database.psql(found.pop("sql")) == "1|1|A-1|2"
    assert found == {
        "key": "item-once-per-company",
        "rule": "item_duplicate",
        "expectation": "unexpected_rows_expectation",
        "column": None,
        "severity": "warning",
        "success": False,
        "observed": "1 row",
        "expected": "",
        "unexpected_count": 1,
        "sample": ["1"],
        "details": ["company_key=1, item_key=A-1, records=2"],
        "error": None,
        "effect": "",
        "loosened": "",
    }


def test_a_relation_is_not_fetched_to_learn_its_columns(database: Database, tmp_path: Path) -> None:
    # Great Expectations reads a query whole for that; here each row that is read raises an error.
    batch = f"SELECT b.*, 1 / (v - v) AS unread FROM ({NUMBERS}) AS b"
    assert verdict_of(database, suite_of(tmp_path, at_most("map", 25)), batch).failed == ()
