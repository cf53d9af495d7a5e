"""Who reaches the dashboard: requests made by hand, as an attacker would make them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from inventory_migration.embedded import EmbeddedServer
from inventory_migration_tests import stage
from inventory_migration_tests.commands import im, program, sentence
from inventory_migration_tests.conftest import made_database

pytestmark = pytest.mark.one_server


class Served:
    """A dashboard as a program of its own."""

    def __init__(self, database_url: str, home: Path, *words: str, **environment: str) -> None:
        self.process = program(
            "dashboard", "--port", "0", *words,
            INVENTORY_DATABASE_URL=database_url, INVENTORY_HOME=str(home), **environment,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("Dashboard: "), self.process.communicate()
        self.url = line.removeprefix("Dashboard: ").strip().rstrip("/")
        self.port = int(self.url.rpartition(":")[2])

    def ask(self, method: str, path: str, **headers: str) -> httpx.Response:
        """Make one request with exactly these headers."""
        return httpx.request(method, self.url + path, headers=headers, timeout=60)

    def end(self) -> int:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        _, err = self.process.communicate(timeout=120)
        assert "Traceback" not in err, err
        return self.process.returncode


@pytest.fixture(scope="module")
def shop(server: EmbeddedServer) -> Iterator[str]:
    """A shop that nothing was migrated of."""
    with made_database(server) as made:
        stage.shop(made, items=12)
        yield made.url


@pytest.fixture(scope="module")
def served(shop: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A dashboard for this machine alone; it ends as Ctrl-C asks it to, and leaves nothing."""
    home = tmp_path_factory.mktemp("home")
    made = Served(shop, home)
    yield made
    assert made.end() == 0
    assert [*(home / "dashboard").iterdir()] == []


SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"


def test_a_page_is_served_and_says_what_browsers_must_not_do(served: Served) -> None:
    answer = served.ask("GET", "/")
    assert answer.status_code == 200
    said = answer.headers
    assert "frame-ancestors 'none'" in said["content-security-policy"]
    assert (said["x-content-type-options"], said["x-frame-options"]) == ("nosniff", "DENY")
    assert said["cache-control"] == "no-store"
    assert "HttpOnly" in said["set-cookie"].replace("httponly", "HttpOnly")
    assert "samesite=strict" in said["set-cookie"].lower()


@pytest.mark.parametrize("path", ["/", SOCKET, "/_nicegui/3.18.0/static/nicegui.js"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "a@127.0.0.1", ""])
def test_a_name_that_somebody_has_pointed_here_is_refused(
    served: Served, path: str, host: str
) -> None:
    assert served.ask("GET", path, host=host).status_code == 421


def test_another_sites_page_can_neither_read_nor_change_nor_open_a_socket(served: Served) -> None:
    own = served.url
    for origin in ("http://evil.example", f"http://localhost:{served.port}", "null", f"{own}.evil"):
        assert served.ask("GET", SOCKET, origin=origin).status_code == 403
        assert served.ask("POST", SOCKET, origin=origin).status_code == 403
    assert served.ask("POST", SOCKET).status_code == 403
    assert served.ask("GET", SOCKET, origin=own).status_code == 200
    assert served.ask("DELETE", "/", origin=own).status_code == 405
    script = {"sec-fetch-site": "same-site", "sec-fetch-dest": "script"}
    assert served.ask("GET", SOCKET, **script).status_code == 403
    link = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "document"}
    assert served.ask("GET", "/", **link).status_code == 200


def test_an_address_that_can_not_be_served_is_one_sentence(
    served: Served, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", shop)
    taken = sentence(im("dashboard", "--port", served.port, code=2))
    assert "already in use" in taken
    assert "--port" in taken
    assert "127.0.0.1" in sentence(im("dashboard", "--port", 0, "--host", "::", code=2))
    monkeypatch.setenv("INVENTORY_DATABASE_URL", shop.replace("/test_", "/missing_test_"))
    assert "missing_test_" in sentence(im("dashboard", "--port", 0, code=2))


def test_a_termination_ends_it_as_well(shop: str, tmp_path: Path) -> None:
    made = Served(shop, tmp_path)
    made.process.terminate()
    assert made.process.wait(timeout=120) == 0
