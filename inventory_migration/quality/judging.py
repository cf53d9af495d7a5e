"""Judging a suite: running its expectations against a SELECT.

Numbers that one scan counts are judged by Great Expectations as numbers; what is no count it runs
in its own way. Statements run one by one, read-only; give a snapshot where they must all see one
moment. What came of it is a `Verdict`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from inventory_migration.database import quoted
from inventory_migration.errors import SuiteParametersMissing
from inventory_migration.quality import counting, queries
from inventory_migration.quality.counting import COUNT, SAMPLE_SIZE, Counted
from inventory_migration.quality.offenders import offenders_sql
from inventory_migration.quality.session import Session, opened_session
from inventory_migration.quality.suites import ROWS_QUERY, Suite
from inventory_migration.quality.verdict import ExpectationVerdict, Verdict

if TYPE_CHECKING:
    from great_expectations.datasource.fluent.interfaces import Batch

_KEY = "key_text"


def judge(
    suite: Suite,
    *,
    batch: str,
    parameters: Mapping[str, int | float | Decimal],
    connection_parameters: Mapping[str, str],
    snapshot: str | None = None,
    known: Mapping[str, int] | None = None,
) -> Verdict:
    """Run a suite against a relation.

    Args:
        suite: The suite, from `load_suite`.
        batch: The SELECT that it is about.
        parameters: The numbers that the suite needs, at least `suite.parameters`.
        connection_parameters: libpq's parameters, as `database.connection_parameters` has them.
        snapshot: A snapshot that another transaction exported and holds, for all statements to see.
        known: What was counted of this batch and still holds, as `counts_of` has it.

    Raises:
        SuiteParametersMissing: A parameter is missing or is not a number.
        DatabaseUnreachable: The server does not answer; so do the other errors of a connection.
    """
    numbers = {name: queries.number(parameters.get(name)) for name in sorted(suite.parameters)}
    missing = [name for name, value in numbers.items() if value is None]
    if missing:
        raise SuiteParametersMissing(suite.origin, missing)
    values = _values(suite, batch, numbers)
    ready = [_filled(expectation, parameters) for expectation in suite.expectations]
    with opened_session(connection_parameters, snapshot) as session:
        run = _Run(suite, session, batch, parameters)
        found = run.counted(ready, values, known)
        # What is no count is for Great Expectations to run, in its own way.
        left = [e for e in suite.expectations if e["meta"]["key"] not in found]
        by_kind: dict[str, list[Mapping[str, Any]]] = {"map": [], "query": [], "aggregate": []}
        for expectation in left:
            by_kind[_kind(expectation)].append(_ready(expectation, values, session))
        found |= {
            **run.maps(by_kind["map"]),
            **run.queries(by_kind["query"]),
            **run.aggregates(by_kind["aggregate"]),
        }
    return Verdict(
        suite.name,
        tuple(_told(e, found[e["meta"]["key"]], values) for e in suite.expectations),
    )


def counts_of(suite: Suite, batch: str) -> list[str]:
    """What a suite counts of its batch, each as SQL over `r`, as far as that needs no parameter.

    Args:
        suite: The suite, from `load_suite`.
        batch: The SELECT that it is about.
    """
    # With any number it is counted; one that depends on it is then another count than is asked for.
    numbers = dict.fromkeys(suite.parameters, 0)
    values = _values(suite, batch, numbers)
    return counting.counts_of_batch([_filled(e, numbers) for e in suite.expectations], values)


def _values(suite: Suite, batch: str, numbers: Mapping[str, object]) -> dict[str, str]:
    """What the placeholders of a suite's queries stand for."""
    return {
        **{name: queries.subquery(select) for name, select in suite.relations.items()},
        "batch": queries.subquery(batch),
        "keys": ", ".join(quoted(key) for key in suite.keys),
        **{f"${name}": str(value) for name, value in numbers.items()},
    }


class _Run:
    """The statements of one verdict, in the fewest passes that tell the offenders apart."""

    def __init__(
        self, suite: Suite, session: Session, batch: str, parameters: Mapping[str, Any]
    ) -> None:
        self.suite = suite
        self.session = session
        self.parameters = dict(parameters)
        self._select = batch

    @cached_property
    def batch(self) -> Batch:
        """The batch, as Great Expectations reads it; only where something is left to be run so."""
        return self.session.batch_of(self._select)

    def counted(
        self,
        expectations: Sequence[Mapping[str, Any]],
        values: Mapping[str, str],
        known: Mapping[str, int] | None,
    ) -> dict[str, ExpectationVerdict]:
        """Expectations that are counts; Great Expectations judges the numbers."""
        counts = counting.count(self.suite, expectations, self.session, values, known)
        met = self._within_bounds({k: c for k, c in counts.items() if c.error is None})
        return {
            e["meta"]["key"]: _of_count(e, counts[e["meta"]["key"]], met, self.suite)
            for e in expectations
            if e["meta"]["key"] in counts
        }

    def _within_bounds(self, counts: Mapping[str, Counted]) -> dict[str, bool]:
        """Whether each number is one that is expected: a column for all that have the same bounds.

        An expectation costs as much as a statement, however few numbers it is about.
        """
        import great_expectations as gx

        if not counts:
            return {}
        columns: dict[tuple[str | None, str | None], str] = {}
        for count in counts.values():
            columns.setdefault((count.least, count.most), f"figure_{len(columns)}")
        rows = ", ".join(
            f"({place}, {', '.join(_in_column(count, bounds) for bounds in columns)})"
            for place, count in enumerate(counts.values())
        )
        suite = gx.ExpectationSuite(
            name=self.suite.name,
            expectations=[
                {
                    "type": "expect_column_values_to_be_between",
                    "kwargs": {
                        "column": column,
                        "min_value": None if least is None else Decimal(least),
                        "max_value": None if most is None else Decimal(most),
                    },
                    "meta": {"column": column},
                }
                for (least, most), column in columns.items()
            ],
        )
        figures = self.session.batch_of(
            f"SELECT * FROM (VALUES {rows}) "  # noqa: S608 - numbers alone
            f"AS f (place, {', '.join(columns.values())})"
        )
        named = {
            "result_format": "SUMMARY",
            "unexpected_index_column_names": ["place"],
            "partial_unexpected_count": len(counts),
            "return_unexpected_index_query": False,
        }
        results: list[Any] = figures.validate(suite, result_format=named).results
        wrong = {result.expectation_config.meta["column"]: _wrong(result) for result in results}
        return {
            key: (found := wrong[columns[count.least, count.most]]) is not None
            and place not in found
            for place, (key, count) in enumerate(counts.items())
        }

    def maps(self, expectations: Sequence[Mapping[str, Any]]) -> dict[str, ExpectationVerdict]:
        """Expectations about each row: one aggregate for all, then keys for those that failed."""
        found = {
            key: _outline(result)
            for key, result in self._validated(expectations, "BOOLEAN_ONLY").items()
        }
        again = []
        for expectation in expectations:
            key = expectation["meta"]["key"]
            # One that tolerates some offenders still has to count them.
            tolerant = expectation["kwargs"].get("mostly") is not None
            if found[key].error is None and (tolerant or not found[key].success):
                again.append(expectation)
            elif found[key].success:
                found[key] = replace(found[key], observed=_counted(0), unexpected_count=0)
        # Not COMPLETE: that fetches the value of every offender to this side first.
        keyed = {
            "result_format": "SUMMARY",
            "unexpected_index_column_names": list(self.suite.sample),
            "partial_unexpected_count": SAMPLE_SIZE,
            "return_unexpected_index_query": False,
        }
        for key, result in self._validated(again, keyed).items():
            # The first look stands: without a snapshot the offenders may be gone by now.
            second = _outline(result)
            success = found[key].success and second.error is None
            found[key] = replace(second, success=success, **_rows_of(result, self.suite))
        return found

    def queries(self, expectations: Sequence[Mapping[str, Any]]) -> dict[str, ExpectationVerdict]:
        """Queries for rows that should not be there."""
        found = {}
        for key, result in self._validated(expectations, "COMPLETE").items():
            outline = _outline(result)
            if outline.error is None:
                rows = result.result["details"]["unexpected_rows"]
                counted = int(rows[0][COUNT]) if rows else int(result.result["observed_value"])
                outline = replace(
                    outline,
                    observed=_counted(counted),
                    unexpected_count=counted,
                    sample=tuple(_name_of(row) for row in rows),
                    details=tuple(_rest_of(row) for row in rows if _KEY in row),
                )
            found[key] = outline
        return found

    def aggregates(
        self, expectations: Sequence[Mapping[str, Any]]
    ) -> dict[str, ExpectationVerdict]:
        """Expectations about one number of the whole relation."""
        found = {}
        for key, result in self._validated(expectations, "SUMMARY").items():
            observed = result.result.get("observed_value")
            said = "" if observed is None else str(observed)
            found[key] = replace(_outline(result), observed=said)
        return found

    def _validated(
        self, expectations: Sequence[Mapping[str, Any]], result_format: Any
    ) -> dict[str, Any]:
        import great_expectations as gx

        if not expectations:
            return {}
        suite = gx.ExpectationSuite(
            name=self.suite.name, expectations=[dict(e) for e in expectations]
        )
        results: list[Any] = self.batch.validate(
            suite, result_format=result_format, expectation_parameters=self.parameters
        ).results
        # They come in an order of their own.
        return {result.expectation_config.meta["key"]: result for result in results}


def _in_column(count: Counted, bounds: tuple[str | None, str | None]) -> str:
    """A number in the column of its bounds; nothing in the others."""
    belongs = (count.least, count.most) == bounds
    return f"{count.number if belongs else 'NULL'}::bigint"


def _wrong(result: Any) -> set[int] | None:
    """The places of the numbers that are out of bounds; None where it is not known of each."""
    if _error_of(result.exception_info) is not None:
        return None
    rows = result.result.get("partial_unexpected_index_list") or []
    found = {int(row["place"]) for row in rows}
    known = result.success is True and not found
    return found if known or len(found) == result.result.get("unexpected_count") else None


def _filled(
    expectation: Mapping[str, Any], parameters: Mapping[str, int | float | Decimal]
) -> Mapping[str, Any]:
    """An expectation with its numbers in the place of their names, but for those of its query."""
    kwargs = {
        name: parameters[value["$PARAMETER"]]
        if isinstance(value, Mapping) and list(value) == ["$PARAMETER"]
        else value
        for name, value in expectation["kwargs"].items()
    }
    return {**expectation, "kwargs": kwargs}


def _of_count(
    expectation: Mapping[str, Any], counted: Counted, met: Mapping[str, bool], suite: Suite
) -> ExpectationVerdict:
    """The verdict on an expectation of which a number was counted."""
    kwargs, meta, kind = expectation["kwargs"], expectation["meta"], expectation["type"]
    named = [str(kwargs[n]) for n in ("column", "column_A", "column_B") if kwargs.get(n)]
    about_rows = kind == ROWS_QUERY or bool(named)
    is_query = kind == ROWS_QUERY
    observed = ""
    if counted.error is None:
        observed = _counted(counted.number or 0) if about_rows else str(counted.number)
        if counted.number and not is_query and counted.among is not None:
            observed = f"{counted.number} of {_counted(counted.among)}"
    rows = counted.rows
    name = _name_of if is_query else partial(_sample_of, suite=suite)
    return ExpectationVerdict(
        key=meta["key"],
        rule=meta.get("rule"),
        expectation=kind,
        column=", ".join(named) or None,
        severity=expectation["severity"],
        success=counted.error is None and met.get(meta["key"], False),
        observed=observed,
        expected=_expected(kwargs),
        unexpected_count=counted.number if about_rows and counted.error is None else None,
        sample=tuple(name(row) for row in rows),
        details=tuple(_rest_of(row) for row in rows if _KEY in row) if is_query else (),
        why=meta.get("why", ""),
        error=None if counted.error is None else _short(counted.error),
    )


def _sample_of(row: Mapping[str, Any], suite: Suite) -> str:
    return ", ".join(str(row[name]) for name in suite.sample)


def _kind(expectation: Mapping[str, Any]) -> str:
    from great_expectations.expectations import expectation as base
    from great_expectations.expectations.registry import get_expectation_impl

    if expectation["type"] == ROWS_QUERY:
        return "query"
    implementation = get_expectation_impl(expectation["type"])
    maps = (
        base.ColumnMapExpectation,
        base.ColumnPairMapExpectation,
        base.MulticolumnMapExpectation,
    )
    return "map" if issubclass(implementation, maps) else "aggregate"


def _ready(
    expectation: Mapping[str, Any], values: Mapping[str, str], session: Session
) -> Mapping[str, Any]:
    """An expectation with its query finished."""
    if expectation["type"] != ROWS_QUERY:
        return expectation
    query = queries.fill(expectation["kwargs"]["unexpected_rows_query"], values)
    # All offending rows are counted, and only a few of them leave the server. The placeholder takes
    # no character of the batch; without one, a remark is printed where a command's JSON belongs.
    limited = (
        f"SELECT found.*, count(*) OVER () AS {COUNT} "  # noqa: S608
        f"FROM {session.name(query)} AS found LIMIT {SAMPLE_SIZE} {{batch:.0}}"
    )
    return {**expectation, "kwargs": {**expectation["kwargs"], "unexpected_rows_query": limited}}


def _told(
    expectation: Mapping[str, Any], found: ExpectationVerdict, values: Mapping[str, str]
) -> ExpectationVerdict:
    """A verdict with what its suite says about it, and the way to see for oneself."""
    return replace(
        found,
        description=expectation.get("description", ""),
        effect=expectation["meta"].get("effect", ""),
        advice=expectation["meta"].get("advice", ""),
        loosened=expectation["meta"].get("loosened", ""),
        sql="" if found.success else offenders_sql(expectation, values),
    )


def _outline(result: Any) -> ExpectationVerdict:
    """What every result tells, without counts and rows."""
    config = result.expectation_config
    error = _error_of(result.exception_info)
    columns = [config.kwargs.get(name) for name in ("column", "column_A", "column_B")]
    return ExpectationVerdict(
        key=config.meta["key"],
        rule=config.meta.get("rule"),
        expectation=config.type,
        column=", ".join(str(c) for c in columns if c) or None,
        severity=str(getattr(config.severity, "value", config.severity)),
        success=bool(result.success) and error is None,
        observed="",
        expected=_expected(config.kwargs),
        unexpected_count=None,
        sample=(),
        details=(),
        why=config.meta.get("why", ""),
        error=error,
    )


def _rows_of(result: Any, suite: Suite) -> dict[str, Any]:
    """Counts and keys of an expectation about each row."""
    found = result.result
    if "unexpected_count" not in found:
        return {}
    rows = found.get("partial_unexpected_index_list") or []
    return {
        "observed": f"{found['unexpected_count']} of {_counted(found['element_count'])}",
        "unexpected_count": int(found["unexpected_count"]),
        "sample": tuple(", ".join(str(row[name]) for name in suite.sample) for row in rows),
    }


def _error_of(info: Mapping[str, Any]) -> str | None:
    if info.get("raised_exception") is False:
        return None
    nested = [value for value in info.values() if isinstance(value, Mapping)]
    messages = {str(value.get("exception_message")) for value in nested or [info]}
    return "; ".join(sorted({_short(message) for message in messages}))


def _short(message: str) -> str:
    """The server's own words out of a message that repeats the statement and a traceback."""
    servers = re.search(r"psycopg\.errors\.\w+\) *([^\n]+)", message)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    said = servers[1] if servers else lines[0] if lines else "no reason given"
    return said.strip()[:300]


def _expected(kwargs: Mapping[str, Any]) -> str:
    hidden = {"column", "column_A", "column_B", "row_condition", "unexpected_rows_query"}
    return ", ".join(
        f"{name}={value}" for name, value in kwargs.items() if name not in hidden | {"batch_id"}
    )


def _name_of(row: Mapping[str, Any]) -> str:
    return str(row[_KEY]) if _KEY in row else _rest_of(row)


def _rest_of(row: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in row.items() if name not in (_KEY, COUNT)}
    return ", ".join(f"{name}={value}" for name, value in rest.items())


def _counted(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"
