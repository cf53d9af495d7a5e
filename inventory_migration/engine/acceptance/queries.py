"""The questions that are asked of stock: the same answers as before the move, and about as fast.

Four of them every mapping answers, by its canonical relations: stock by company, by item and by
location, and what is available to promise. Others are the application's own. Nothing is written.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import columns, coverage, places
from inventory_migration.engine.acceptance import stock
from inventory_migration.engine.failures import message, sqlstate
from inventory_migration.engine.shapes import shape_of
from inventory_migration.mapping import Acceptance
from inventory_migration.mapping.statements import without_end

RUNS = 5
"""How often a query is timed; it is the median that counts."""
FEWEST_RUNS = 3
PATIENCE_MS = 2_000.0
"""Where a query has taken so much by then, the fewest runs will do."""

SAMPLED = 5
"""How many rows of each kind are shown where answers differ."""


@dataclass(frozen=True)
class Question:
    """A query before and after the move.

    Attributes:
        name: What it is called.
        new: What is timed now.
        old: What was timed before; None where there was none.
        answer: What is compared of the new one; `new` itself if None.
        answer_before: What it must equal; `old` itself if None.
        built_in: Whether it comes from the mapping's canonical relations.
    """

    name: str
    new: str
    old: str | None = None
    answer: str | None = None
    answer_before: str | None = None
    built_in: bool = False


@dataclass
class Answered:
    """What came of a question.

    Attributes:
        question: Which.
        error: Why it has no answer.
        rows: How many rows each has, and how many have no match in the other.
        sample: Some of the latter.
        before_ms: What the old one takes.
        after_ms: What the new one takes.
        plans: The server's EXPLAIN of each.
        slower: Whether that is too much more.
    """

    question: Question
    error: dict[str, Any] | None = None
    rows: dict[str, int] | None = None
    sample: dict[str, list[Any]] = field(default_factory=dict)
    before_ms: float | None = None
    after_ms: float | None = None
    plans: dict[str, Any] = field(default_factory=dict)
    slower: bool = False

    @property
    def passed(self) -> bool:
        """Whether it has an answer, and the same as before."""
        differ = self.rows is not None and (self.rows["only_before"] or self.rows["only_after"])
        return self.error is None and not differ

    def to_json(self) -> dict[str, Any]:
        """One object for `--json`."""
        return {
            "name": self.question.name,
            "built_in": self.question.built_in,
            "passed": self.passed,
            "error": self.error,
            "rows": self.rows,
            "sample": self.sample,
            "milliseconds": {"before": self.before_ms, "after": self.after_ms},
            "slower": self.slower,
            "plans": self.plans,
        }


def ask(connection: sa.Connection, resolved: ResolvedMapping) -> list[Answered]:
    """Ask every question.

    Args:
        connection: A read-only transaction that sees one moment.
        resolved: The mapping and its types.
    """
    own = resolved.mapping.acceptance.queries.items()
    questions = [
        *_built_in(connection, resolved),
        *(
            Question(name, without_end(query.new), without_end(query.old) if query.old else None)
            for name, query in own
        ),
    ]
    return [_answered(connection, question, resolved.mapping.acceptance) for question in questions]


def _answered(connection: sa.Connection, question: Question, limits: Acceptance) -> Answered:
    found = Answered(question)
    try:
        with connection.begin_nested():
            if question.old is not None:
                _compare(connection, found)
            _time(connection, found)
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise
        found.error = {"sqlstate": sqlstate(error), "message": message(error)}
    if found.before_ms is not None and found.after_ms is not None:
        more = found.after_ms - found.before_ms
        found.slower = (
            more > limits.slower_by_ms and found.after_ms > limits.slower_than * found.before_ms
        )
    return found


def _compare(connection: sa.Connection, found: Answered) -> None:
    question = found.question
    before, after = question.answer_before or question.old, question.answer or question.new
    row = connection.execute(
        sa.text(
            escaped(f"""
            WITH im_before AS MATERIALIZED ({before}
                 ), im_after AS MATERIALIZED ({after}
                 ), only_before AS (SELECT * FROM im_before EXCEPT ALL SELECT * FROM im_after),
                 only_after AS (SELECT * FROM im_after EXCEPT ALL SELECT * FROM im_before)
            SELECT (SELECT count(*) FROM im_before) AS before,
                   (SELECT count(*) FROM im_after) AS after,
                   (SELECT count(*) FROM only_before) AS only_before,
                   (SELECT count(*) FROM only_after) AS only_after,
                   {_sampled("only_before")} AS sample_before,
                   {_sampled("only_after")} AS sample_after""")
        )
    ).one()
    names = ("before", "after", "only_before", "only_after")
    found.rows = {name: getattr(row, name) for name in names}
    found.sample = {
        name: rows
        for name, rows in (("before", row.sample_before), ("after", row.sample_after))
        if rows
    }


def _sampled(relation: str) -> str:
    return f"(SELECT jsonb_agg(to_jsonb(d)) FROM (SELECT * FROM {relation} LIMIT {SAMPLED}) AS d)"


def _time(connection: sa.Connection, found: Answered) -> None:
    """Time both by turns, so that what else the machine does falls on both."""
    asked = {"before": found.question.old, "after": found.question.new}
    took: dict[str, list[float]] = {name: [] for name, sql in asked.items() if sql}
    for run in range(RUNS):
        if run >= FEWEST_RUNS and max(map(sum, took.values())) > PATIENCE_MS:
            break
        for name, times in took.items():
            explained = connection.execute(
                sa.text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {escaped(asked[name] or '')}")
            ).scalar_one()
            times.append(explained[0]["Execution Time"])
            found.plans[name] = explained[0]
    found.before_ms = _median(took.get("before"))
    found.after_ms = _median(took["after"])


def _median(times: list[float] | None) -> float | None:
    return round(statistics.median(times), 3) if times else None


def _built_in(connection: sa.Connection, resolved: ResolvedMapping) -> list[Question]:
    """The questions of every mapping, compared over the records that were moved.

    What was put aside has no answer at a location, and what has arrived since had none before.
    """
    lines, records = stock.lines(resolved), stock.records(resolved)
    moved = stock.moved(resolved, coverage.dealt_with(connection, resolved))
    meant = f"EXISTS (SELECT FROM moved AS m WHERE {columns.same_key(resolved, 'm', 'r')})"
    if resolved.mapping.needs_write_stop:
        # The application writes levels alone from the cut-over on, and its records stay behind.
        moved = f"""
        SELECT n.* FROM ({moved}) AS n
        WHERE NOT EXISTS (SELECT FROM ({lines}) AS l
                          WHERE {columns.same_key(resolved, "n", "l")}
                            AND l.xmin IS DISTINCT FROM n.xid)"""
    known = f"WITH moved AS MATERIALIZED ({moved})"
    live, placed = "WHERE NOT r.skipped", "WHERE NOT r.skipped AND r.location_key IS NOT NULL"
    own = _own_company(resolved)
    found = []
    for name, keys, having in (
        ("stock_by_company", "company_key", ""),
        ("stock_by_item", "company_key, item_key", ""),
        (
            "available_to_promise",
            "company_key, item_key",
            "HAVING sum(r.on_hand - r.reserved) > 0",
        ),
    ):
        asked = _asked(keys, promised=bool(having))
        group = f"GROUP BY {keys} {having}"
        found.append(
            Question(
                name,
                new=f"{asked} FROM ({lines}) AS r {placed} {group}",
                old=f"{asked} FROM ({records}) AS r {live} {group}",
                answer=f"{known} {asked} FROM ({lines}) AS r {placed} AND {meant} {group}",
                answer_before=f"{known} {asked} FROM ({records}) AS r {live} AND {meant} {group}",
                built_in=True,
            )
        )
    # Before there was one location to a company; what lies at its locations now must add up to it.
    # Stock at another company's location, or at none, is no company's.
    by_company, at = _asked("company_key"), _asked("location_key")
    found.append(
        Question(
            "stock_by_location",
            new=f"{at} FROM ({lines}) AS r {placed} GROUP BY location_key",
            old=f"{by_company} FROM ({records}) AS r {live} GROUP BY company_key",
            answer=f"""{known} {_asked("own_company")}
                FROM (SELECT r.*, {own} AS own_company FROM ({lines}) AS r
                      {placed} AND {meant}) AS r GROUP BY own_company""",
            answer_before=f"""{known} {by_company} FROM ({records}) AS r {live} AND {meant}
                GROUP BY company_key""",
            built_in=True,
        )
    )
    return found


def _asked(keys: str, *, promised: bool = False) -> str:
    sums = "" if promised else "sum(r.on_hand) AS on_hand, sum(r.reserved) AS reserved, "
    return f"SELECT {keys}, {sums}sum(r.on_hand - r.reserved) AS available"


def _own_company(resolved: ResolvedMapping) -> str:
    """The company of a line `r`, where it lies at a location of that company."""
    if resolved.locations is None:
        return "NULL"
    here = shape_of(resolved).same_location("im_p.location_key", "r.location_key")
    belongs = places.belongs(resolved, "im_p", "r.company_key")
    return f"""CASE WHEN EXISTS (SELECT FROM ({places.places(resolved)}) AS im_p
                                  WHERE {here} AND {belongs}) THEN r.company_key END"""
