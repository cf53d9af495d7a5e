"""What a run of chaos says of itself: the seed that repeats it, and how much was tried."""

from __future__ import annotations

from collections import Counter

import pytest

from inventory_migration_tests.chaos.test_failpoints import DEEP, SEED


def pytest_report_header() -> str:
    deep = " DEEP=1" if DEEP else ""
    return f"chaos: SEED={SEED}{deep}; the same again: make chaos SEED={SEED}{deep}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    cases: Counter[str] = Counter()
    failpoints: set[str] = set()
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if report.when == "call" and name == "cases":
                cases[report.nodeid.partition("::")[2].partition("[")[0]] += int(str(value))
            elif name == "failpoints":
                failpoints.add(str(value))
    for line in sorted(failpoints):
        terminalreporter.write_line(f"failpoints of {line}")
    for name, count in sorted(cases.items()):
        terminalreporter.write_line(f"{name}: {count} cases")
