"""Figures pushed at the end of a run: what arrives, and that a failure changes nothing."""

from __future__ import annotations

import base64
import logging
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from inventory_migration import logs
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.metrics import pushing
from inventory_migration_tests import stage
from inventory_migration_tests.commands import im, mapping_file
from inventory_migration_tests.conftest import Database, made_database
from inventory_migration_tests.dagster_runs import execute
from inventory_migration_tests.test_metrics import figures, value

pytestmark = pytest.mark.one_server

PUSHGATEWAY = shutil.which("prometheus-pushgateway") or shutil.which("pushgateway")
PASSWORD = "t0p/s3cr3t@gate"
TOLD = "bob:t0p%2Fs3cr3t%40gate"
ONE = {"mapping": "shop", "migration_id": "1"}


@dataclass
class Gateway:
    """What takes pushes here: its address, what it got, and what it answers."""

    port: int
    got: list[tuple[str, str, str | None, bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def url(self, path: str = "/behind/a/proxy/") -> str:
        return f"http://{TOLD}@127.0.0.1:{self.port}{path}"


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.got.append((self.command, self.path, self.headers["Authorization"], body))
            self.send_response(made.answers.pop(0) if made.answers else 200)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    made = Gateway(server.server_port)
    monkeypatch.setenv(pushing.VARIABLE, made.url())
    monkeypatch.setattr(pushing, "PAUSE_SECONDS", 0.01)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def migrated(server: EmbeddedServer) -> Iterator[Database]:
    with made_database(server) as database:
        stage.shop(database)
        stage.migrate(database)
        yield database


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_commands_and_jobs_push_the_figures_of_their_mapping_when_they_end(
    database: Database, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    monkeypatch.setenv("INVENTORY_HOME", str(tmp_path))
    path = mapping_file(tmp_path)
    stage.shop(database)
    stage.migrate(database)

    def pushed(state: str) -> None:
        method, where, credentials, body = gateway.got.pop()
        assert (method, where) == (
            "PUT", "/behind/a/proxy/metrics/job/inventory-migration-push/mapping/shop"
        )  # fmt: skip
        assert credentials is not None
        assert base64.b64decode(credentials.removeprefix("Basic ")).decode() == f"bob:{PASSWORD}"
        found = figures(body.decode())
        assert value(found, "state", state=state, **ONE) == 1
        assert value(found, "snapshot_records", **ONE) == 30
        # A gateway's own scrape goes well however the run's went.
        assert {"up", "scrape_duration_seconds"} & {name for name, _ in found} == set()
        assert gateway.got == []

    im("run", "--mapping", path, "--stop-after", "nowhere", code=2)
    pushed("verified")
    im("rollback", "--mapping", path, "--yes")
    pushed("rolled_back")
    im("rollback", "--mapping", path, "--dry-run")
    im("status")
    assert gateway.got == []
    assert execute(database, "rollback_shop").success
    pushed("rolled_back")


def test_a_gateway_that_fails_once_is_tried_again(
    migrated: Database, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.answers = [503]
    assert pushing.push("shop", migrated.url)
    assert len(gateway.got) == 2
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ("answers", "tries", "said"),
    [([503, 500], 2, "it answers 500"), ([400], 1, "it answers 400"), ([307], 1, "answers 307")],
)
def test_a_failure_is_one_warning_without_the_password(
    migrated: Database,
    gateway: Gateway,
    caplog: pytest.LogCaptureFixture,
    answers: list[int],
    tries: int,
    said: str,
) -> None:
    gateway.answers = [*answers]
    assert not pushing.push("shop", migrated.url)
    assert len(gateway.got) == tries
    (warning,) = warnings(caplog)
    assert said in warning
    assert "s3cr3t" not in caplog.text
    assert pushing.VARIABLE in warning


def test_no_failure_changes_how_a_command_ends(
    migrated: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", migrated.url)
    monkeypatch.setenv("INVENTORY_HOME", str(tmp_path))
    path = mapping_file(tmp_path)
    refused = ("run", "--stop-after", "nowhere")
    for url, said, words, code in (
        (f"http://{TOLD}@127.0.0.1:1", "refused", ("resume",), 0),
        (f"ftp://{TOLD}@host", "no http", refused, 2),
        (f"http://{TOLD}@host:{PASSWORD}", "URL", refused, 2),
        (f"http://{TOLD}@no.such.host.invalid", "", refused, 2),
    ):
        monkeypatch.setenv(pushing.VARIABLE, url)
        ended = im(*words, "--mapping", path, "--log-format", "text", code=code)
        told = [line for line in ended.stderr.splitlines() if "not pushed" in line]
        assert len(told) == 1, ended.stderr
        assert said in told[0]
        assert "s3cr3t" not in ended.stderr + ended.stdout


def test_a_gateway_and_a_database_that_say_nothing_keep_nobody(
    migrated: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pushing, "WHOLE_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv(pushing.VARIABLE, where)
        for url in (migrated.url, f"postgresql://ann@{where}/shop"):
            began = time.monotonic()
            assert not pushing.push("shop", url)
            assert time.monotonic() - began < 2
    assert len(warnings(caplog)) == 2


def test_without_a_gateway_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(pushing.VARIABLE, raising=False)
    assert not pushing.push("shop", "postgresql://nobody@127.0.0.1:1/nothing")


def test_a_gateways_url_is_read_without_its_password() -> None:
    found = pushing.gateway("https://bob:pass%20word@[::1]:9091/a/")
    assert found.address == "https://[::1]:9091/a"
    assert "Basic" not in repr(found)
    assert pushing.gateway("push:9091") == pushing.Gateway("http://push:9091")


def test_a_gateways_password_is_hidden_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pushing.VARIABLE, f"http://{TOLD}@host")
    assert PASSWORD not in logs.hide_passwords(f"it says: {PASSWORD}!")


@pytest.mark.skipif(
    PUSHGATEWAY is None, reason="Pushgateway is not there: apt-get install prometheus-pushgateway"
)
def test_a_real_pushgateway_takes_them(migrated: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{free.getsockname()[1]}"
    with subprocess.Popen(
        [str(PUSHGATEWAY), f"--web.listen-address={where}"], stderr=subprocess.DEVNULL
    ) as running:
        try:
            monkeypatch.setenv(pushing.VARIABLE, where)
            deadline = time.monotonic() + 60
            # It refuses until it listens; twice, so that a second push replaces the first.
            while not pushing.push("shop", migrated.url):
                assert time.monotonic() < deadline
            assert pushing.push("shop", migrated.url)
            with urllib.request.urlopen(f"http://{where}/metrics", timeout=30) as kept:
                found = figures(kept.read().decode())
            pushed = {**ONE, "job": pushing.JOB, "instance": ""}
            assert value(found, "state", state="verified", **pushed) == 1
        finally:
            running.kill()
