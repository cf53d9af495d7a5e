"""Hooks: who is told, in which words, and that a hook which fails stops nothing."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from inventory_migration.engine import hooks
from inventory_migration.errors import MappingInvalid, MigrationPaused
from inventory_migration.mapping import StockMapping, parse_mapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.one_server

NOTED = """
    SELECT detail->>'occasion', detail->>'hook', detail->>'failure'
    FROM inventory_migration.event WHERE kind = 'hook' ORDER BY event_id
"""


def hooked(*found: dict[str, Any]) -> StockMapping:
    """The shop's mapping, which pauses on its first quarantined record and tells these hooks."""
    limits = {"quarantined_percent": 1, "after_records": 1, "action": "pause", "hooks": found}
    return stage.mapping(thresholds=limits)


def pause_on_threshold(database: Database, mapping: StockMapping) -> None:
    stage.shop(database)
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id = 7")
    stage.locations(database, mapping)
    with pytest.raises(MigrationPaused, match="were quarantined"):
        stage.transform(database, mapping)
    assert database.psql("SELECT state FROM inventory_migration.migration") == "paused"


@pytest.fixture
def listener() -> Iterator[tuple[str, list[dict[str, Any]], list[int]]]:
    """A server that keeps what is posted to it; its URL, what it got, and what it answers."""
    got: list[dict[str, Any]] = []
    answers = [204]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(answers[0])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/s3cr3t-path", got, answers
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_command_reads_what_happened(database: Database, tmp_path: Path) -> None:
    out = tmp_path / "told.json"
    script = f"import sys; open({str(out)!r}, 'w').write(sys.stdin.read())"
    pause_on_threshold(database, hooked({"command": [sys.executable, "-c", script]}))
    told = json.loads(out.read_text())
    assert (told["occasion"], told["mapping"], told["migration_id"], told["action"]) == (
        "quarantined",
        "shop",
        1,
        "pause",
    )
    assert "1 of 30 records of the migration were quarantined" in told["reason"]
    assert database.name in told["database"]
    assert database.psql(NOTED) == f"quarantined|{sys.executable}|"


def test_a_webhook_is_posted_to_the_url_that_a_variable_holds(
    database: Database,
    listener: tuple[str, list[dict[str, Any]], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, got, _ = listener
    monkeypatch.setenv("ALERT_URL", url)
    pause_on_threshold(
        database, hooked({"url_variable": "ALERT_URL", "occasions": ["quarantined"]})
    )
    assert [told["occasion"] for told in got] == ["quarantined"]
    assert database.psql(NOTED) == "quarantined|ALERT_URL|"
    # Whoever knows such a URL may post to it.
    assert "s3cr3t-path" not in database.psql("SELECT detail FROM inventory_migration.event")


@pytest.mark.parametrize(
    ("hook", "failure"),
    [
        ({"command": ["/nonexistent/program"]}, "it cannot be started: No such file"),
        ({"command": [sys.executable, "-c", "raise SystemExit(3)"]}, "ended with exit code 3"),
        ({"url_variable": "NOBODY_SET_THIS"}, "NOBODY_SET_THIS holds no http:// or https://"),
    ],
    ids=["missing", "failing", "unset"],
)
def test_a_hook_that_fails_is_noted_and_stops_nothing(
    database: Database, hook: dict[str, Any], failure: str
) -> None:
    pause_on_threshold(database, hooked(hook))
    assert failure in database.psql(NOTED)


def test_neither_a_refused_nor_an_unreachable_webhook_shows_its_url(
    database: Database,
    listener: tuple[str, list[dict[str, Any]], list[int]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url, _, answers = listener
    answers[0] = 500
    monkeypatch.setenv("REFUSES", url)
    monkeypatch.setenv("IS_AWAY", "http://127.0.0.1:9/s3cr3t-path")
    caplog.set_level(logging.DEBUG)
    pause_on_threshold(database, hooked({"url_variable": "REFUSES"}, {"url_variable": "IS_AWAY"}))
    refused, away = database.psql(NOTED).splitlines()
    assert refused == "quarantined|REFUSES|it answered 500"
    assert away.startswith("quarantined|IS_AWAY|it does not answer: ")
    assert "s3cr3t-path" not in refused + away + caplog.text


def test_a_hook_that_hangs_is_given_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "SECONDS", 0.5)
    pause_on_threshold(database, hooked({"command": ["sleep", "60"]}))
    assert "it did not end within" in database.psql(NOTED)


def test_a_hook_hears_only_of_what_it_asked_for(database: Database) -> None:
    pause_on_threshold(database, hooked({"command": ["true"], "occasions": ["verification"]}))
    assert database.psql(NOTED) == ""


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("{}", "a hook needs either command or url_variable"),
        ("{command: [a], url_variable: B}", "a hook needs either command or url_variable"),
        ("{url_variable: 'https://hooks.example'}", "url_variable"),
        ("{command: [a], occasions: [weather]}", "'quarantined', 'failed_attempts'"),
    ],
)
def test_a_hook_that_makes_no_sense_is_refused_with_the_mapping(hook: str, said: str) -> None:
    text = json.dumps(stage.DEFINITION)[:-1] + ', "thresholds": {"hooks": [HOOK]}}'
    with pytest.raises(MappingInvalid, match=said):
        parse_mapping(text.replace("HOOK", hook), origin="shop.yaml")
