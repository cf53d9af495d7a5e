"""Judging a suite: running its expectations against a SELECT, and what came of each.

An expectation that could not run counts as critical, whatever its severity: nothing is known about
what it guards. Statements run one by one, read-only; give a snapshot where they must all see one
moment. What a verdict leads to is decided by those who ask for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any

from inventory_migration.database import quoted
from inventory_migration.errors import SuiteParametersMissing
from inventory_migration.quality import queries
from inventory_migration.quality.offenders import offenders_sql
from inventory_migration.quality.session import Session, opened_session
from inventory_migration.quality.suites import CRITICAL, INFO, ROWS_QUERY, WARNING, Suite

SAMPLE_SIZE = 20
"""How many offending rows a verdict names."""

_SHOWN = 10
_COUNT = "unexpected_count"
_KEY = "key_text"


@dataclass(frozen=True)
class ExpectationVerdict:
    """What came of one expectation.

    Attributes:
        key: Its name within the suite.
        rule: The rule of the mapping that it stands for, if any.
        expectation: Its type.
        column: The column that it is about, if it is about one.
        severity: `critical`, `warning` or `info`.
        success: Whether the data is as expected.
        observed: What was found, in words.
        expected: What should have been found, in words.
        unexpected_count: How many rows are not as expected; None where it is not about rows.
        sample: The keys of the first offending rows.
        details: What else is known of those rows, one text each; empty where nothing is.
        why: Why it is expected.
        error: Why it could not run; None where it did.
        description: What is expected, in a sentence.
        effect: What the tool does about it, where no rule of the mapping says it.
        advice: What a person can do about it.
        sql: The statement that shows the rows which are not as expected; empty where all are.
        loosened: Why the mapping lets it count for less; empty where it does not.
    """

    key: str
    rule: str | None
    expectation: str
    column: str | None
    severity: str
    success: bool
    observed: str
    expected: str
    unexpected_count: int | None
    sample: tuple[str, ...]
    details: tuple[str, ...]
    why: str
    error: str | None = None
    description: str = ""
    effect: str = ""
    advice: str = ""
    sql: str = ""
    loosened: str = ""

    @property
    def weight(self) -> str | None:
        """What its failure counts as; None where it succeeded."""
        if self.success:
            return None
        return CRITICAL if self.error else self.severity


@dataclass(frozen=True)
class Verdict:
    """What came of a suite.

    Attributes:
        suite: The suite's name.
        expectations: One verdict for each of its expectations, in its order.
    """

    suite: str
    expectations: tuple[ExpectationVerdict, ...]

    @property
    def failed(self) -> tuple[ExpectationVerdict, ...]:
        """The expectations that were not met or could not run, of those that are of consequence."""
        return tuple(e for e in self.expectations if e.weight in (CRITICAL, WARNING))

    @property
    def noted(self) -> tuple[ExpectationVerdict, ...]:
        """The expectations that were not met, which is only worth knowing."""
        return tuple(e for e in self.expectations if e.weight == INFO)

    @property
    def severity(self) -> str | None:
        """The worst that failed: `critical`, `warning`, or None."""
        weights = {e.weight for e in self.failed}
        return next((level for level in (CRITICAL, WARNING) if level in weights), None)

    @property
    def passed(self) -> bool:
        """Whether a gate may open: nothing critical failed, and everything could run."""
        return self.severity != CRITICAL

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        expectations = [
            {**asdict(e), "sample": list(e.sample), "details": list(e.details)}
            for e in self.expectations
        ]
        return {
            "suite": self.suite,
            "passed": self.passed,
            "severity": self.severity,
            "expectations": expectations,
        }

    def summary(self) -> str:
        """Return what failed, what was observed and which rows, in a few lines."""
        count = len(self.expectations)
        if not self.failed:
            met = f"{count - len(self.noted)} of {count}" if self.noted else f"all {count}"
            lines = [f"{self.suite}: {met} expectations are met."]
        else:
            verdict = "passed with warnings" if self.passed else "refused"
            lines = [f"{self.suite}: {verdict}, {len(self.failed)} of {count} expectations failed."]
        for level in (CRITICAL, WARNING, INFO):
            lines += [_line(e) for e in self.expectations if e.weight == level]
        return "\n".join(lines)


def judge(
    suite: Suite,
    *,
    batch: str,
    parameters: Mapping[str, int | float | Decimal],
    connection_parameters: Mapping[str, str],
    snapshot: str | None = None,
) -> Verdict:
    """Run a suite against a relation.

    Args:
        suite: The suite, from `load_suite`.
        batch: The SELECT that it is about.
        parameters: The numbers that the suite needs, at least `suite.parameters`.
        connection_parameters: libpq's parameters, as `database.connection_parameters` has them.
        snapshot: A snapshot that another transaction exported and holds, for all statements to see.

    Raises:
        SuiteParametersMissing: A parameter is missing or is not a number.
        DatabaseUnreachable: The server does not answer; so do the other errors of a connection.
    """
    numbers = {name: queries.number(parameters.get(name)) for name in sorted(suite.parameters)}
    missing = [name for name, value in numbers.items() if value is None]
    if missing:
        raise SuiteParametersMissing(suite.origin, missing)
    values = {
        **{name: queries.subquery(select) for name, select in suite.relations.items()},
        "batch": queries.subquery(batch),
        "keys": ", ".join(quoted(key) for key in suite.keys),
        **{f"${name}": str(value) for name, value in numbers.items()},
    }
    by_kind: dict[str, list[Mapping[str, Any]]] = {"map": [], "query": [], "aggregate": []}
    with opened_session(batch, connection_parameters, snapshot) as session:
        for expectation in suite.expectations:
            by_kind[_kind(expectation)].append(_ready(expectation, values, session))
        run = _Run(suite, session, parameters)
        found = {
            **run.maps(by_kind["map"]),
            **run.queries(by_kind["query"]),
            **run.aggregates(by_kind["aggregate"]),
        }
    return Verdict(
        suite.name,
        tuple(_told(e, found[e["meta"]["key"]], values) for e in suite.expectations),
    )


class _Run:
    """The statements of one verdict, in the fewest passes that tell the offenders apart."""

    def __init__(self, suite: Suite, session: Session, parameters: Mapping[str, Any]) -> None:
        self.suite = suite
        self.batch = session.batch
        self.parameters = dict(parameters)

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
                counted = int(rows[0][_COUNT]) if rows else int(result.result["observed_value"])
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
        f"SELECT found.*, count(*) OVER () AS {_COUNT} "  # noqa: S608
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
    rest = {name: value for name, value in row.items() if name not in (_KEY, _COUNT)}
    return ", ".join(f"{name}={value}" for name, value in rest.items())


def _counted(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"


def _line(found: ExpectationVerdict) -> str:
    about = f" on {found.column}" if found.column else ""
    expected = f", expected {found.expected}" if found.expected else ""
    head = f"  {found.weight}: {found.key} ({found.expectation}{about})"
    if found.error:
        return f"{head} could not run: {found.error}"
    details = found.details or [""] * len(found.sample)
    rows = [
        f"{name} ({detail})" if detail else name
        for name, detail in zip(found.sample, details, strict=True)
    ]
    sample = f"; for example {'; '.join(rows[:_SHOWN])}" if rows else ""
    why = f" {found.why}" if found.why else ""
    loosened = f" Loosened by the mapping: {found.loosened}" if found.loosened else ""
    return f"{head}: observed {found.observed}{expected}{sample}.{why}{loosened}"
