"""Expectations as counts: what many of them ask of one relation, so that one scan answers it.

An expectation about columns is a condition on a row, and so is a query that only picks rows; a
query over one row of sums needs these sums. What has another form is left to be run by itself, and
so is all of a relation whose counts could not be taken. Nothing here connects; see `counting.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from inventory_migration.quality import offenders, queries
from inventory_migration.quality.suites import ROWS_QUERY

BATCH = "batch"
"""The name of the relation that expectations about columns are about."""

_KWARGS = {
    "expect_column_values_to_not_be_null": {"column"},
    "expect_column_values_to_be_null": {"column"},
    "expect_column_values_to_be_in_set": {"column", "value_set"},
    "expect_column_values_to_not_be_in_set": {"column", "value_set"},
    "expect_column_values_to_be_between": {
        *("column", "min_value", "max_value", "strict_min", "strict_max"),
    },
    "expect_column_pair_values_a_to_be_greater_than_b": {"column_A", "column_B", "or_equal"},
    "expect_column_values_to_match_regex": {"column", "regex"},
    "expect_column_values_to_not_match_regex": {"column", "regex"},
}
_ROW_COUNTS = {
    "expect_table_row_count_to_equal": {"value"},
    "expect_table_row_count_to_be_between": {"min_value", "max_value"},
}

# A query that only picks rows: plain columns, one relation, a condition on a row of it.
_PICKS = re.compile(
    r"""\s*SELECT\s+[\w\s,."]+?\s+FROM\s+\{(?P<relation>\w+)\}\s+AS\s+(?P<alias>\w+)
        \s+WHERE\s+(?P<condition>.+?)\s*\Z""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_MORE_THAN_A_CONDITION = re.compile(
    r"\b(SELECT|GROUP|ORDER|HAVING|LIMIT|OFFSET|FETCH|WINDOW|OVER|UNION|INTERSECT|EXCEPT|FOR)\b|--|/\*",
    re.IGNORECASE,
)
_DISTINCT = re.compile(r"\s*SELECT\s+DISTINCT\b", re.IGNORECASE)

# One row of sums over the batch, as a relation of its own within a query.
_SUMS = re.compile(
    r"""\(\s*SELECT\s+(?P<sums>(?:[^(){}]|\([^(){}]*\))+?)\s+FROM\s+\{batch\}\s+AS\s+\w+
        (?:\s+WHERE\s+(?P<condition>[^(){}]+?))?\s*\)(?=\s+AS\s)""",
    re.IGNORECASE | re.VERBOSE,
)
_SUM = re.compile(
    r"""\s*(?P<what>(?:count|sum|min|max)\s*\([\w*\s]+\))
        (?:\s+FILTER\s*\(\s*WHERE\s+(?P<condition>[^()]+)\))?\s+AS\s+(?P<name>\w+)\s*\Z""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class Rows:
    """An expectation that no row of a relation meets a condition.

    Attributes:
        relation: The relation's name.
        condition: When a row is not as expected.
        among: Which rows are looked at at all; None where all are.
    """

    relation: str
    condition: str
    among: str | None


@dataclass(frozen=True)
class RowCount:
    """An expectation about how many rows the batch has: between two numbers, with both of them."""

    least: str | None
    most: str | None


@dataclass(frozen=True)
class Sums:
    """A query for which one row of sums over the batch is all that has to be read of it.

    Attributes:
        before: The query up to that row.
        after: The query behind it.
        sums: Each sum as SQL, by its name in the row.
    """

    before: str
    after: str
    sums: Mapping[str, str]

    def query(self, found: Mapping[str, Any]) -> str:
        """The query over the sums as they were found."""
        row = ", ".join(f"{_value(found[name])} AS {name}" for name in self.sums)
        return f"{self.before}(SELECT {row}){self.after}"


def rows_of(expectation: Mapping[str, Any], values: Mapping[str, str]) -> Rows | None:
    """An expectation as a condition on rows; None where it is not one.

    Args:
        expectation: An expectation of a loaded suite, its parameters filled in.
        values: What placeholders of queries stand for.
    """
    kwargs = expectation["kwargs"]
    if expectation["type"] == ROWS_QUERY:
        return _picking(kwargs["unexpected_rows_query"], values)
    known = _KWARGS.get(expectation["type"])
    if known is None or not {*kwargs} - {"row_condition"} <= known:
        return None
    said = kwargs.get("row_condition")
    try:
        among = offenders.looked_at(said)
        condition = offenders.wrong(expectation["type"], kwargs)
    except (KeyError, TypeError):
        return None
    if condition is None or (said is not None and among is None):
        return None
    if None in kwargs.get("value_set", ()) or not kwargs.get("value_set", [0]):
        return None
    return Rows(BATCH, condition, among)


def row_count_of(expectation: Mapping[str, Any]) -> RowCount | None:
    """An expectation as one about the number of rows; None where it is not one."""
    kwargs = expectation["kwargs"]
    known = _ROW_COUNTS.get(expectation["type"])
    if known is None or not {*kwargs} <= known:
        return None
    bounds = [kwargs.get("value", kwargs.get(bound)) for bound in ("min_value", "max_value")]
    numbers = [queries.number(bound) for bound in bounds]
    if any(n is None and b is not None for n, b in zip(numbers, bounds, strict=True)):
        return None
    return RowCount(*numbers)


def sums_of(expectation: Mapping[str, Any]) -> Sums | None:
    """A query as one over sums of the batch; None where it is not one."""
    if expectation["type"] != ROWS_QUERY:
        return None
    query = expectation["kwargs"]["unexpected_rows_query"]
    if query.count("{batch}") != 1 or (found := _SUMS.search(query)) is None:
        return None
    outer = found["condition"]
    if _MORE_THAN_A_CONDITION.search(f"{found['sums']} {outer or ''}"):
        return None
    sums = {}
    for part in _parts(found["sums"]):
        one = _SUM.fullmatch(part)
        if one is None:
            return None
        conditions = [f"({text})" for text in (outer, one["condition"]) if text]
        only = f" FILTER (WHERE {' AND '.join(conditions)})" if conditions else ""
        sums[one["name"]] = f"{one['what']}{only}"
    return Sums(query[: found.start()], query[found.end() :], sums)


def _picking(query: str, values: Mapping[str, str]) -> Rows | None:
    found = _PICKS.fullmatch(query)
    if found is None or found["relation"] not in values or _DISTINCT.match(query):
        return None
    condition = found["condition"]
    # An alias would be another one beside other expectations.
    named = re.search(rf"\b{re.escape(found['alias'])}\b", condition, re.IGNORECASE)
    if named or _MORE_THAN_A_CONDITION.search(condition):
        return None
    return Rows(found["relation"], queries.fill(condition, values), None)


def _parts(text: str) -> list[str]:
    """What commas outside of brackets part."""
    return re.split(r",(?![^()]*\))", text)


def _value(value: Any) -> str:
    if value is None:
        return "NULL::numeric"
    kind = {int: "::bigint", Decimal: "::numeric", float: "::float8"}.get(type(value), "")
    return f"'{value}'{kind}" if kind else offenders.literal(value)
