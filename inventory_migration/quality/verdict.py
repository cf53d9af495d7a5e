"""Verdicts: what came of each expectation of a suite, what it weighs, and how it is told.

An expectation that could not run counts as critical, whatever its severity: nothing is known about
what it guards. How a suite is judged is in `judging.py`; what a verdict leads to, those say
who ask for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from inventory_migration.quality.suites import CRITICAL, INFO, WARNING

_SHOWN = 10


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


def from_json(said: Mapping[str, Any]) -> Verdict:
    """A verdict as `Verdict.to_json` tells it."""
    return Verdict(
        said["suite"],
        tuple(
            ExpectationVerdict(
                **{**e, "sample": tuple(e["sample"]), "details": tuple(e["details"])}
            )
            for e in said["expectations"]
        ),
    )


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
