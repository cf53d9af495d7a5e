"""What ships for Prometheus: rules that load, fire when they should, and lead to runbooks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from inventory_migration.metrics.catalogue import METRICS, PREFIX
from inventory_migration_tests.test_docs import headings
from inventory_migration_tests.test_metrics import PROMTOOL, WITHOUT_PROMTOOL

pytestmark = pytest.mark.one_server

PROJECT = Path(__file__).resolve().parent.parent
MONITORING = PROJECT / "deploy" / "monitoring"
RULES = yaml.safe_load((MONITORING / "alerts.yml").read_text())
ALERTS: list[dict[str, Any]] = [
    rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule
]
NAMES = {metric.full_name: metric for metric in METRICS.values()}


def asked(query: str) -> list[tuple[str, set[str]]]:
    """The figures that a query asks for, each with the labels by which it chooses."""
    found = re.findall(rf"\b({PREFIX}\w+)(?![:\w])(?:{{([^}}]*)}})?", query)
    return [(name, set(re.findall(r"(\w+)\s*!?=", labels))) for name, labels in found]


def promtool(*words: str) -> str:
    """Call promtool in the folder of what ships, and expect that it is content."""
    ended = subprocess.run(
        [str(PROMTOOL), *words], cwd=MONITORING, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.skipif(PROMTOOL is None, reason=WITHOUT_PROMTOOL)
@pytest.mark.parametrize(
    "words",
    [
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_is_content(words: tuple[str, ...]) -> None:
    assert "SUCCESS" in promtool(*words)


def test_each_alert_is_tried_on_what_it_fires_on_and_on_what_it_does_not() -> None:
    tried: dict[str, set[bool]] = {}
    for test in yaml.safe_load((MONITORING / "alerts.test.yml").read_text())["tests"]:
        for one in test["alert_rule_test"]:
            tried.setdefault(one["alertname"], set()).add(bool(one["exp_alerts"]))
    assert tried == {rule["alert"]: {True, False} for rule in ALERTS}


@pytest.mark.skipif(PROMTOOL is None, reason=WITHOUT_PROMTOOL)
def test_a_rule_that_fires_otherwise_would_be_seen(tmp_path: Path) -> None:
    tests = yaml.safe_load((MONITORING / "alerts.test.yml").read_text())
    (tmp_path / "alerts.test.yml").write_text(
        yaml.safe_dump({**tests, "tests": tests["tests"][:1]})
    )
    changed = (MONITORING / "alerts.yml").read_text().replace("units != 0", "units > 0")
    (tmp_path / "alerts.yml").write_text(changed)
    ended = subprocess.run(
        [str(PROMTOOL), "test", "rules", "alerts.test.yml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode
    assert "InventoryMigrationUnitsDiffer" in ended.stdout + ended.stderr


def test_alerts_ask_for_figures_and_labels_that_there_are() -> None:
    for rule in ALERTS:
        for name, labels in asked(rule["expr"]):
            assert name in NAMES, rule["alert"]
            assert labels - {"job"} <= set(NAMES[name].labels), rule["alert"]


def test_each_alert_leads_to_a_section_of_a_runbook_that_there_is() -> None:
    for rule in ALERTS:
        url = rule["annotations"]["runbook_url"]
        page, _, heading = url.removeprefix("https://docs.example/").partition("#")
        found = (PROJECT / "docs" / page).with_suffix(".md")
        assert found.is_file(), rule["alert"]
        assert heading in headings(found), rule["alert"]
        assert {"summary", "description"} < rule["annotations"].keys()
        assert rule["labels"]["severity"] in {"page", "warning"}


def test_each_alert_is_explained() -> None:
    page = (PROJECT / "docs" / "metrics.md").read_text()
    table = {
        cells[0].strip(" `"): cells[2].strip()
        for cells in (line.strip("|").split("|") for line in page.splitlines())
        if cells[0].strip(" `").startswith("InventoryMigration")
    }
    assert table == {rule["alert"]: rule["labels"]["severity"] for rule in ALERTS}
