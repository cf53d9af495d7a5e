"""Findings: what an audit found that is not as it should be, told to whoever has to decide.

A finding is made from the verdict by which the gate itself is judged, one for each expectation of
the suite `audit_profile` that was not met, so that gate and report cannot disagree:

    verdict = verbs.judge(target, mapping, "audit_profile", keep=False)
    found = findings(verdict, mapping)          # list[Finding], ordered by consequence
    to_json(found), to_markdown(found)          # the same as data and as a document
    at_least(found, "warning")                  # what `--fail-on warning` fails on

The texts come from the suite's file, what the tool will do from the mapping's own rules. What is
expected, and how it is judged, belong in `expectations/` and `quality/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from inventory_migration.mapping import StockMapping
from inventory_migration.quality.suites import SEVERITIES
from inventory_migration.quality.verdict import ExpectationVerdict, Verdict
from inventory_migration.report.markdown import cell, code, table

SHOWN = 10
"""How many keys of a finding a document lists."""

LONGEST = 2_000
"""Longer texts are cut: keys of several columns can be long."""

_EFFECTS: Final = {
    "fail": "Refuses to start: nothing is moved while one is there.",
    "quarantine": "Puts them into quarantine: they stay as they are, each listed with its reason, "
    "and all others move.",
    "warn": "Moves them as they are, and counts them in the report.",
}
"""What each action of a rule does."""

_BROKEN = "Refuses to start: of what could not be looked at, nothing is known."


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        key: The expectation that was not met.
        rule: The rule of the mapping that it stands for, if any.
        severity: `critical`, `warning` or `info`.
        expected: What should be, in a sentence.
        count: How many rows are not so; None where it is not about rows.
        observed: What was found, in words.
        sample: The keys of the first rows that are not as expected.
        details: What else is known of those rows, one text each; empty where nothing is.
        why: Why it matters here.
        effect: What the tool will do about it.
        advice: What a person can do about it.
        sql: The statement that shows the rows, as it can be given to psql.
        error: Why the expectation could not be looked at; None where it was.
        loosened: Why the mapping lets it count for less; empty where it does not.
    """

    key: str
    rule: str | None
    severity: str
    expected: str
    count: int | None
    observed: str
    sample: tuple[str, ...]
    details: tuple[str, ...]
    why: str
    effect: str
    advice: str
    sql: str
    error: str | None = None
    loosened: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {**asdict(self), "sample": list(self.sample), "details": list(self.details)}


def findings(verdict: Verdict, mapping: StockMapping) -> list[Finding]:
    """Return what a verdict found, by consequence: what refuses first, then what stays behind.

    Args:
        verdict: What came of the suite `audit_profile`.
        mapping: The mapping that it was judged under.
    """
    actions = dict(mapping.rules.actions())
    found = [_finding(e, actions) for e in verdict.expectations if not e.success]
    behind = list(_EFFECTS)

    def consequence(finding: Finding) -> tuple[int, int, int, str]:
        action = actions.get(finding.rule or "", "warn")
        return (
            SEVERITIES.index(finding.severity),
            behind.index(action),
            -(finding.count or 0),
            finding.key,
        )

    return sorted(found, key=consequence)


def at_least(found: Sequence[Finding], severity: str) -> list[Finding]:
    """Return those of a severity or worse."""
    return [f for f in found if SEVERITIES.index(f.severity) <= SEVERITIES.index(severity)]


def to_json(found: Sequence[Finding]) -> dict[str, Any]:
    """Return findings as plain JSON values, with how many there are of each severity."""
    return {
        "counts": {level: sum(f.severity == level for f in found) for level in SEVERITIES},
        "findings": [finding.to_json() for finding in found],
    }


def to_markdown(found: Sequence[Finding]) -> str:
    """Return findings as Markdown: an overview, then each with all that is to be said."""
    if not found:
        return "## Findings\n\nNone: every expectation is met.\n"
    overview = [
        {
            "severity": finding.severity,
            "finding": finding.key,
            "observed": finding.error or finding.observed,
            "not as expected": finding.expected,
        }
        for finding in found
    ]
    parts = ["## Findings", table(overview)]
    for finding in found:
        parts += [f"### {cell(finding.key)}", *_paragraphs(finding)]
    return "\n\n".join(parts) + "\n"


def _finding(found: ExpectationVerdict, actions: dict[str, Any]) -> Finding:
    action = actions.get(found.rule or "", "warn")
    if found.loosened and action == "fail":
        # What no longer refuses a gate is put aside record by record.
        action = "quarantine"
    effect = found.effect or _EFFECTS[action]
    return Finding(
        key=found.key,
        rule=found.rule,
        severity=found.weight or found.severity,
        expected=found.description,
        count=found.unexpected_count,
        observed=found.observed,
        sample=found.sample,
        details=found.details,
        why=found.why,
        effect=_BROKEN if found.error else effect,
        advice=found.advice,
        sql=found.sql,
        error=found.error,
        loosened=found.loosened,
    )


def _paragraphs(finding: Finding) -> list[str]:
    told = {
        "Expected": finding.expected,
        "Could not be looked at": finding.error,
        "Observed": finding.observed,
        "For example": "; ".join(_examples(finding)),
        "Why it matters": finding.why,
        "What the tool will do": finding.effect,
        "What to do": finding.advice,
        "Loosened by the mapping": finding.loosened,
    }
    listed = [f"- {name}: {cell(text, LONGEST)}" for name, text in told.items() if text]
    return ["\n".join(listed), *([code(finding.sql)] if finding.sql else [])]


def _examples(finding: Finding) -> list[str]:
    details = finding.details or ("",) * len(finding.sample)
    pairs = list(zip(finding.sample, details, strict=True))[:SHOWN]
    return [f"{key} ({detail})" if detail else key for key, detail in pairs]
