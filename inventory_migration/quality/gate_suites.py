"""The suite of a gate as a mapping would have it: its rules, its own suite, what it loosens.

How a suite's file is read is in `suites.py`, and how it is judged in `verdict.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from inventory_migration.errors import LooseningRefused, SuiteInvalid
from inventory_migration.mapping import StockMapping
from inventory_migration.project import find
from inventory_migration.quality.suites import (
    CRITICAL,
    ROWS_QUERY,
    SEVERITIES,
    WARNING,
    Suite,
    load_suite,
    nearest,
)

FIRST = "audit_profile"
"""The gate that judges what is there already, and that a mapping may add to or loosen."""


def suite_of_gate(
    mapping: StockMapping, suite: str, relations: Mapping[str, str], keys: Sequence[str]
) -> Suite:
    """Read the suite of a gate, and make of it what the mapping says.

    Args:
        mapping: The mapping to judge under.
        suite: The suite's name.
        relations: The SELECTs that queries may name.
        keys: The key columns of the batch.

    Raises:
        ProjectFileMissing: There is no such file.
        SuiteInvalid: A file has problems; lists all of them.
        LooseningRefused: The mapping loosens what is not there, or what the engine rests upon.
    """
    severities = {rule: severity_of(action) for rule, action in mapping.rules.actions().items()}

    def load(name: str, extra: Sequence[Mapping[str, Any]] = ()) -> Suite:
        return load_suite(
            name,
            severities={**severities, "references_changed": WARNING},
            relations=relations,
            keys=keys,
            without=mapping.rules_without_meaning,
            extra=extra,
            told=suite == FIRST,
        )

    found = load(suite, own_expectations(suite, mapping.rules.own))
    if suite != FIRST:
        return found
    if mapping.expectations.suite is not None:
        found = _together(found, load(mapping.expectations.suite))
    return _loosened(mapping, found)


def listed(mapping: StockMapping, suite: str) -> dict[str, str]:
    """What the suite of a gate expects, a key and a sentence each, whether it can run or not.

    Raises:
        MigrationError, OSError, ValueError, LookupError, TypeError, AttributeError: A file has
            problems, which `suite_of_gate` tells.
    """
    own = mapping.expectations.suite if suite == FIRST else None
    raw = [
        expectation
        for name in (suite, own)
        if name is not None
        for expectation in json.loads(
            find("expectations", f"{name}.json").read_text(encoding="utf-8")
        )["expectations"]
    ]
    return {
        str(expectation["meta"]["key"]): str(
            expectation.get("description") or expectation["meta"]["key"]
        )
        for expectation in [*raw, *own_expectations(suite, mapping.rules.own)]
        if expectation["meta"].get("rule") not in mapping.rules_without_meaning
    }


def digest(mapping: StockMapping, suite: str) -> str:
    """What tells the suite of a gate as it is from any other version of it, whether it can run.

    Raises:
        ProjectFileMissing: There is no such file.
    """
    names = [suite, mapping.expectations.suite if suite == FIRST else None]
    told = hashlib.sha256()
    for name in names:
        if name is not None:
            told.update(find("expectations", f"{name}.json").read_bytes())
    return told.hexdigest()


def severity_of(action: str) -> str:
    """Return the severity of a rule's expectations: only the action `fail` refuses a gate."""
    return CRITICAL if action == "fail" else WARNING


def own_expectations(suite: str, rules: Iterable[str]) -> list[dict[str, Any]]:
    """Return the expectations of a mapping's own rules, which the first gate judges."""
    if suite != "audit_profile":
        return []
    return [
        {
            "type": ROWS_QUERY,
            "kwargs": {
                # A rule's name holds letters, digits and _ alone.
                "unexpected_rows_query": "SELECT key_text FROM {batch} AS r "  # noqa: S608
                f"WHERE outcome <> 'skipped' AND '{rule}' = ANY(own_rules)"
            },
            "meta": {
                "key": f"own-{rule}".replace("_", "-"),
                "rule": rule,
                "why": _OWN_RULE,
                "advice": f"Mend the records, or change rules.{rule} of the mapping.",
            },
            "description": f"No stock record breaks the mapping's own rule {rule}.",
        }
        for rule in rules
    ]


_OWN_RULE = "The mapping says so."


def _together(suite: Suite, own: Suite) -> Suite:
    """A suite and one of the mapping's own, which says nothing under a key that is taken."""
    keys = {expectation["meta"]["key"] for expectation in suite.expectations} | suite.left_out
    twice = [e["meta"]["key"] for e in own.expectations if e["meta"]["key"] in keys]
    if twice:
        raise SuiteInvalid(
            own.origin, [f'meta.key "{key}" is one of {suite.name} already' for key in twice]
        )
    return replace(
        suite,
        expectations=(*suite.expectations, *own.expectations),
        parameters=suite.parameters | own.parameters,
        left_out=suite.left_out | own.left_out,
    )


def _loosened(mapping: StockMapping, suite: Suite) -> Suite:
    """A suite in which the mapping's loosened expectations count for less."""
    loosen = mapping.expectations.loosen
    known = {e["meta"]["key"]: e for e in suite.expectations}
    problems = []
    for key, said in loosen.items():
        if key in suite.left_out:
            continue
        if key not in known:
            problems.append(f"{key} is no expectation of {suite.name}{nearest(key, known)}")
        elif known[key]["meta"].get("integrity"):
            problems.append(
                f"{key} cannot be loosened: without it, no migration could be proved or undone"
            )
        elif SEVERITIES.index(said.to) < SEVERITIES.index(known[key]["severity"]):
            problems.append(
                f"{key} is {known[key]['severity']} as it is, and {said.to} is no loosening"
            )
    if problems:
        raise LooseningRefused(mapping=mapping.name, problems=problems)
    return replace(
        suite,
        expectations=tuple(
            {
                **expectation,
                "severity": loosen[key].to,
                "meta": {**expectation["meta"], "loosened": loosen[key].reason},
            }
            if key in loosen
            else expectation
            for key, expectation in known.items()
        ),
    )
