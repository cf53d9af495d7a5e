"""The dashboard that ships for Grafana: whole, of figures that there are, of any data source."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from inventory_migration.metrics.catalogue import METRICS
from inventory_migration_tests.test_alerts import ALERTS, MONITORING, NAMES, asked

pytestmark = pytest.mark.one_server

DASHBOARD: dict[str, Any] = json.loads((MONITORING / "grafana.json").read_text())
PANELS: list[dict[str, Any]] = [p for p in DASHBOARD["panels"] if p["type"] != "row"]

CHOSEN = {
    "$datasource": "prometheus",
    "$job": "inventory-migration",
    "$mapping": ".+",
    "$migration_id": ".+",
    "$__rate_interval": "1m",
}
"""What Grafana puts in place of variables, where all is chosen."""


def queries() -> list[tuple[str, str]]:
    """Every query as Prometheus gets it, with the title of its panel."""
    found = []
    for panel in PANELS:
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in CHOSEN.items():
                query = re.sub(rf"{re.escape(name)}\b", value, query)
            found.append((panel["title"], query))
    return found


def test_it_asks_for_figures_and_labels_that_there_are() -> None:
    assert len(queries()) > 50
    for title, query in queries():
        assert "$" not in query, title
        for name, labels in asked(query):
            assert name in NAMES, title
            assert labels - {"job"} <= set(NAMES[name].labels), title
        # A legend tells apart by labels that the answer has.
    for panel in PANELS:
        for target in panel["targets"]:
            legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"])) - {"instance"}
            known = {label for name, _ in asked(target["expr"]) for label in NAMES[name].labels}
            assert legend <= known, panel["title"]


def test_every_figure_is_shown() -> None:
    shown = {name for _, query in queries() for name, _ in asked(query)}
    assert shown == NAMES.keys()
    assert len(shown) == len(METRICS)


def test_every_query_goes_to_the_data_source_that_is_chosen() -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert {f"${name}" for name in variables} | {"$__rate_interval"} == CHOSEN.keys()
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    asking = [*PANELS, *(target for panel in PANELS for target in panel["targets"])]
    asking += [v for v in variables.values() if v["type"] == "query"]
    asking += DASHBOARD["annotations"]["list"]
    assert all(one["datasource"] == chosen for one in asking)
    assert DASHBOARD["id"] is None


def test_panels_have_a_place_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    titles = {rule["alert"] for rule in ALERTS}
    (annotated,) = DASHBOARD["annotations"]["list"]
    pattern = re.search(r'alertname=~"([^"]+)"', annotated["expr"])
    assert pattern
    assert all(re.fullmatch(pattern[1], title) for title in titles)
