"""The SQL that shows the rows which an expectation is about, to be run by hand.

A query of a suite is such SQL already, once it is filled. For an expectation about columns it is
made here from what Great Expectations was told, so that a person needs to know nothing about it.
Running it does not belong here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from inventory_migration.database import quoted
from inventory_migration.quality import queries
from inventory_migration.quality.suites import ROWS_QUERY

_COMPARED = {"==": "=", "!=": "<>", "<": "<", ">": ">", "<=": "<=", ">=": ">="}


def offenders_sql(expectation: Mapping[str, Any], values: Mapping[str, str]) -> str:
    """Return a statement that shows the rows which are not as expected.

    Where a type of expectation has no such statement, the rows that it looks at are shown.

    Args:
        expectation: An expectation of a loaded suite.
        values: What its placeholders stand for; the batch is among them.
    """
    kwargs = expectation["kwargs"]
    if expectation["type"] == ROWS_QUERY:
        return queries.fill(kwargs["unexpected_rows_query"], values).strip() + ";"
    parts = (looked_at(kwargs.get("row_condition")), wrong(expectation["type"], kwargs))
    where = " AND ".join(f"({part})" for part in parts if part)
    shown = "count(*)" if expectation["type"].startswith("expect_table_row_count") else "r.*"
    return f"SELECT {shown} FROM {values['batch']} AS r{f' WHERE {where}' if where else ''};"  # noqa: S608


def wrong(kind: str, kwargs: Mapping[str, Any]) -> str | None:
    """When a row is not as an expectation about its columns says; None where that is not known."""
    name, first, second = (
        f"r.{quoted(str(kwargs[key]))}" if key in kwargs else ""
        for key in ("column", "column_A", "column_B")
    )
    if kind == "expect_column_values_to_not_be_null":
        return f"{name} IS NULL"
    if kind == "expect_column_values_to_be_null":
        return f"{name} IS NOT NULL"
    if kind in ("expect_column_values_to_be_in_set", "expect_column_values_to_not_be_in_set"):
        negated = "" if "not_be" in kind else "NOT "
        members = ", ".join(map(literal, kwargs["value_set"]))
        return f"{name} {negated}IN ({members})"
    if kind == "expect_column_values_to_be_between":
        return " OR ".join(_outside(name, kwargs))
    if kind == "expect_column_pair_values_a_to_be_greater_than_b":
        return f"{first} {'<' if kwargs.get('or_equal') else '<='} {second}"
    if kind in ("expect_column_values_to_match_regex", "expect_column_values_to_not_match_regex"):
        return f"{name} {'~' if 'not_match' in kind else '!~'} {literal(kwargs['regex'])}"
    return None


def _outside(name: str, kwargs: Mapping[str, Any]) -> Iterable[str]:
    for bound, strict, sign in (("min_value", "strict_min", "<"), ("max_value", "strict_max", ">")):
        if kwargs.get(bound) is not None:
            yield f"{name} {sign}{'=' if kwargs.get(strict) else ''} {literal(kwargs[bound])}"


def looked_at(said: Any) -> str | None:
    """A row condition of Great Expectations as SQL."""
    if not isinstance(said, Mapping):
        return None
    if said["type"] in ("and", "or"):
        parts = [f"({looked_at(part)})" for part in said["conditions"]]
        return f" {said['type'].upper()} ".join(parts)
    name = f"r.{quoted(str(said['column']['name']))}"
    if said["type"] == "nullity":
        return f"{name} IS {'' if said['is_null'] else 'NOT '}NULL"
    compared, parameter = said["operator"], said["parameter"]
    if compared in ("IN", "NOT IN"):
        return f"{name} {compared} ({', '.join(map(literal, parameter))})"
    return f"{name} {_COMPARED[compared]} {literal(parameter)}"


def literal(value: object) -> str:
    """A value of a suite's file as SQL."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if (number := queries.number(value)) is not None:
        return number
    return "'" + str(value).replace("'", "''") + "'"
