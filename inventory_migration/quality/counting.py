"""Counting what a suite asks: one scan of a relation for all that can be folded into it.

Of the rows that are not as expected only the number is asked; some of them are fetched for what
failed alone. How an expectation becomes a count is in `folding.py`; whether the counts are as
expected is for Great Expectations to judge, in `verdict.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from inventory_migration.database import quoted
from inventory_migration.quality import folding, queries
from inventory_migration.quality.folding import BATCH, RowCount, Rows, Sums
from inventory_migration.quality.session import Session
from inventory_migration.quality.suites import ROWS_QUERY, Suite

SAMPLE_SIZE = 20
"""How many offending rows a verdict names."""

COUNT = "unexpected_count"
"""The column that tells of each row of a sample how many there are in all."""


@dataclass(frozen=True)
class Counted:
    """A number that an expectation is about.

    Attributes:
        number: The number; None where it could not be counted.
        least: The least that is as expected; None for any.
        most: The most that is as expected; None for any.
        among: Of how many rows, where only some are looked at.
        rows: Some of the rows that are not as expected, by column.
        error: Why it could not be counted.
    """

    number: int | None
    least: str | None = "0"
    most: str | None = "0"
    among: int | None = None
    rows: Sequence[Mapping[str, Any]] = field(default_factory=list)
    error: str | None = None


Folded = Rows | RowCount | Sums | None


def count(
    suite: Suite,
    expectations: Sequence[Mapping[str, Any]],
    session: Session,
    values: Mapping[str, str],
    known: Mapping[str, int] | None = None,
) -> dict[str, Counted]:
    """Count what can be counted; what is missing in the answer has to be run in another way.

    Args:
        suite: The suite.
        expectations: Its expectations with their parameters filled in.
        session: Where to ask.
        values: What placeholders of queries stand for.
        known: What is known already of the batch, by SQL as `counts_of_batch` has it.
    """
    asked = {e["meta"]["key"]: (e, _fold(e, values)) for e in expectations}
    figures = _figures(session, values, [folded for _, folded in asked.values()], known or {})
    found: dict[str, Counted] = {}
    for key, (expectation, folded) in asked.items():
        try:
            counted = _counted(suite, expectation, folded, session, values, figures)
        except psycopg.Error as error:
            counted = Counted(None, error=str(error).strip())
        if counted is not None:
            found[key] = counted
    return found


def counts_of_batch(
    expectations: Sequence[Mapping[str, Any]], values: Mapping[str, str]
) -> list[str]:
    """What is counted of the batch, each as SQL over `r`, for whoever reads it anyway.

    Args:
        expectations: The expectations of a suite with their parameters filled in.
        values: What placeholders of queries stand for.
    """
    asked = [pair for e in expectations for pair in _sums(_fold(e, values))]
    counts = {sql: None for relation, sql in asked if relation == BATCH and _is_count(sql)}
    return list(counts)


def _is_count(sql: str) -> bool:
    # Sums are exact numbers, which the ledger would keep as something else.
    return sql.startswith("count(*)")


def _fold(expectation: Mapping[str, Any], values: Mapping[str, str]) -> Folded:
    return (
        folding.row_count_of(expectation)
        or folding.rows_of(expectation, values)
        or folding.sums_of(expectation)
    )


def _figures(
    session: Session,
    values: Mapping[str, str],
    asked: Sequence[Folded],
    known: Mapping[str, int],
) -> dict[tuple[str, str], Any]:
    """Each sum by its relation and its SQL; none of a relation whose sums could not be taken."""
    sums: dict[str, dict[str, None]] = {}
    for folded in asked:
        for relation, sql in _sums(folded):
            sums.setdefault(relation, {})[sql] = None
    found: dict[tuple[str, str], Any] = {}
    for relation, wanted in sums.items():
        if relation != BATCH and len(wanted) == 1:
            # The rows themselves are as cheap to ask for.
            continue
        if relation == BATCH and wanted.keys() <= known.keys():
            found |= {(relation, sql): known[sql] for sql in wanted}
            continue
        query = f"SELECT {', '.join(wanted)} FROM {values[relation]} AS r"  # noqa: S608
        try:
            row = session.rows(query)[0]
        except psycopg.Error:
            # Which of them it is shows when they are run one by one.
            continue
        found |= {(relation, sql): value for sql, value in zip(wanted, row, strict=True)}
    return found


def _sums(folded: Folded) -> Iterator[tuple[str, str]]:
    if isinstance(folded, Rows):
        yield folded.relation, _number(folded)
        if folded.relation == BATCH:
            yield BATCH, _among(folded)
    elif isinstance(folded, RowCount):
        yield BATCH, "count(*)"
    elif isinstance(folded, Sums):
        yield from ((BATCH, sql) for sql in folded.sums.values())


def _number(folded: Rows) -> str:
    parts = [f"({part})" for part in (folded.among, folded.condition) if part]
    return f"count(*) FILTER (WHERE {' AND '.join(parts)})"


def _among(folded: Rows) -> str:
    return f"count(*) FILTER (WHERE {folded.among})" if folded.among else "count(*)"


def _counted(
    suite: Suite,
    expectation: Mapping[str, Any],
    folded: Folded,
    session: Session,
    values: Mapping[str, str],
    figures: Mapping[tuple[str, str], Any],
) -> Counted | None:
    is_query = expectation["type"] == ROWS_QUERY
    if any(asked not in figures for asked in _sums(folded)):
        folded = None
    if isinstance(folded, RowCount):
        return Counted(figures[BATCH, "count(*)"], folded.least, folded.most)
    if isinstance(folded, Rows):
        number = figures[folded.relation, _number(folded)]
        if not number:
            return Counted(0)
        if not is_query:
            return Counted(
                number,
                among=figures[BATCH, _among(folded)],
                rows=_sample(suite, folded, session, values),
            )
    if not is_query:
        return None
    query = expectation["kwargs"]["unexpected_rows_query"]
    if isinstance(folded, Sums):
        query = folded.query({name: figures[BATCH, sql] for name, sql in folded.sums.items()})
    # All offending rows are counted, and only a few of them leave the server.
    rows = session.named_rows(
        f"SELECT found.*, count(*) OVER () AS {COUNT} "  # noqa: S608
        f"FROM {queries.subquery(queries.fill(query, values))} AS found LIMIT {SAMPLE_SIZE}"
    )
    # The first look stands: without a snapshot, offenders may be gone by now.
    number = number if isinstance(folded, Rows) else int(rows[0][COUNT]) if rows else 0
    return Counted(number, rows=rows)


def _sample(
    suite: Suite, folded: Rows, session: Session, values: Mapping[str, str]
) -> list[dict[str, Any]]:
    parts = [f"({part})" for part in (folded.among, folded.condition) if part]
    names = ", ".join(f"r.{quoted(name)}" for name in suite.sample)
    return session.named_rows(
        f"SELECT {names} FROM {values[folded.relation]} AS r "  # noqa: S608
        f"WHERE {' AND '.join(parts)} LIMIT {SAMPLE_SIZE}"
    )
