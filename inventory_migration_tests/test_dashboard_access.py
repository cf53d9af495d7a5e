"""Who reaches the dashboard: requests made by hand, as an attacker would make them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from inventory_migration.dashboard import tokens
from inventory_migration.dashboard.access import SESSION_SECONDS, Access
from inventory_migration.dashboard.guard import VIEWER, Guard, cookie_name
from inventory_migration.dashboard.policy import Receive, Scope, Send
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.errors import TokensInvalid
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
        # A certificate is a minute old.
        self._client = httpx.Client(verify=False, timeout=60)  # noqa: S501

    def ask(self, method: str, path: str, *, body: object = None, **headers: str) -> httpx.Response:
        """Make one request with exactly these headers, and a form or a text."""
        form, text = (body, None) if isinstance(body, dict) else (None, body)
        answer = self._client.request(
            method, self.url + path, headers=headers, data=form, content=text
        )
        self._client.cookies.clear()
        return answer

    def log_in(self, token: str, **form: str) -> httpx.Response:
        """Send the form as a browser does."""
        return self.ask("POST", "/login", body={"token": token, **form}, origin=self.url)

    def cookie(self, token: str) -> str:
        """Log in, and return the cookie as a browser sends it back."""
        said = self.log_in(token).headers["set-cookie"]
        return said.partition(";")[0]

    def end(self) -> int:
        """Press Ctrl-C."""
        self._client.close()
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


ANNA, GUEST = "anna's-t0ken,-long-enough", "guests-t0ken-l0ng-enough"


@pytest.fixture(scope="module")
def asking(shop: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A dashboard that asks who somebody is, with a proxy in front that is believed."""
    folder = tmp_path_factory.mktemp("asking")
    tokens = folder / "tokens"
    tokens.write_text(f"# who may come in\nanna: {ANNA}\n")
    tokens.chmod(0o600)
    made = Served(
        shop, folder, "--token-file", str(tokens), "--behind-proxy", "--allow-host",
        "Shop.Example:8443", INVENTORY_DASHBOARD_TOKEN=f"guest: {GUEST} read-only",
    )  # fmt: skip
    yield made
    assert made.end() == 0


SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"


def test_a_page_is_served_and_says_what_browsers_must_not_do(served: Served) -> None:
    answer = served.ask("GET", "/")
    assert answer.status_code == 200
    said = answer.headers
    policy = said["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    (nonce,) = set(re.findall(r"<script nonce=\"([^\"]+)\"", answer.text))
    assert f"script-src 'self' 'nonce-{nonce}' 'unsafe-eval';" in policy
    assert "<script" not in answer.text.replace("<script nonce", "")
    again = served.ask("GET", "/", **{"accept-encoding": "gzip"})
    assert nonce not in again.text
    assert (said["x-content-type-options"], said["x-frame-options"]) == ("nosniff", "DENY")
    assert said["cache-control"] == "no-store"
    # The framework would write that into the page as it stands.
    assert "/evil" not in served.ask("GET", "/", **{"x-forwarded-prefix": "/evil"}).text
    assert "HttpOnly" in said["set-cookie"].replace("httponly", "HttpOnly")
    assert "samesite=strict" in said["set-cookie"].lower()


def test_pages_and_what_they_load_name_no_other_host(served: Served) -> None:
    waiting, seen = ["/"], set[str]()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        answer = served.ask("GET", path)
        assert answer.status_code == 200, path
        if not answer.headers["content-type"].startswith(("text/html", "text/css")):
            continue
        loaded = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", answer.text)
        loaded += re.findall(r"""["'](/_nicegui/[^"']+\.(?:js|css))["']""", answer.text)
        local = [urljoin(path, found) for found in loaded if not found.startswith(("data:", "#"))]
        assert [found for found in local if not found.startswith("/")] == []
        waiting += {found for found in local if not found.endswith(".map")} - seen - {*waiting}
    assert len(seen) > 10


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
    assert served.ask("OPTIONS", SOCKET, origin=own).status_code == 405
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
    for words in (("--host", "::"), ("--allow-host", "shop.example"), ("--behind-proxy",)):
        assert "--token-file" in sentence(im("dashboard", "--port", 0, *words, code=2))
    missing = ("--tls-cert", "missing.pem", "--tls-key", "missing.pem")
    assert "no such file" in sentence(im("dashboard", "--port", 0, *missing, code=2))
    url = ("--allow-host", "https://shop.example")
    assert "give the name alone" in sentence(im("dashboard", *url, code=2))
    assert "go together" in sentence(im("dashboard", *missing[:2], code=2))
    monkeypatch.setenv("INVENTORY_DATABASE_URL", shop.replace("/test_", "/missing_test_"))
    assert "missing_test_" in sentence(im("dashboard", "--port", 0, code=2))


def test_without_a_token_nothing_is_seen_but_the_form(asking: Served) -> None:
    page = asking.ask("GET", "/migrations/7?tab=trail")
    assert page.status_code == 303
    assert page.headers["location"] == "/login?next=%2Fmigrations%2F7%3Ftab%3Dtrail"
    forged = f"inventory_dashboard_{asking.port}=forged"
    for headers in ({}, {"cookie": forged}):
        assert asking.ask("GET", SOCKET, **headers).status_code in {303, 401}
        assert asking.ask("GET", "/_nicegui/3.18.0/static/nicegui.js", **headers).status_code == 303
        assert asking.ask("POST", "/logout", origin=asking.url, **headers).status_code == 401
        assert asking.ask("POST", SOCKET, origin=asking.url, **headers).status_code == 401
    form = asking.ask("GET", "/login")
    assert form.status_code == 200
    assert "script" not in form.text
    policy = form.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "Your name" not in form.text


def test_the_form_lets_somebody_in_for_as_long_as_they_stay(asking: Served) -> None:
    assert asking.ask("GET", f"/login?token={ANNA}").status_code == 200
    assert "set-cookie" not in asking.ask("GET", f"/login?token={ANNA}").headers
    entered = asking.log_in(ANNA, next="/migrations/7")
    assert (entered.status_code, entered.headers["location"]) == (303, "/migrations/7")
    said = entered.headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= {part.strip() for part in said.split(";")}
    assert "Secure" not in said
    cookie = said.partition(";")[0]
    assert asking.ask("GET", "/", cookie=cookie).status_code == 200
    assert asking.ask("GET", "/logout", cookie=cookie).status_code == 404
    left = asking.ask("POST", "/logout", cookie=cookie, origin=asking.url)
    assert (left.status_code, left.headers["location"]) == (303, "/login")
    assert asking.ask("GET", "/", cookie=cookie).status_code == 303


@pytest.mark.parametrize("away", ["//evil.example", "/\\evil.example", "https://evil.example", ""])
def test_the_form_sends_nobody_to_another_site(asking: Served, away: str) -> None:
    assert asking.log_in(ANNA, next=away).headers["location"] == "/"


def test_a_link_on_another_site_finds_who_is_logged_in(asking: Served) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "document"}
    page = asking.ask("GET", "/migrations/7?a=1&b=2", **link)
    assert page.status_code == 200
    assert 'content="0; url=/migrations/7?a=1&amp;b=2"' in page.text
    assert 'url=/"' in asking.ask("GET", "//evil.example", **link).text


def test_the_proxy_that_is_believed_says_how_and_from_where(asking: Served) -> None:
    through = {"host": "shop.example", "x-forwarded-proto": "https", "x-forwarded-for": "6.6.6.6"}
    origin = {"origin": "https://shop.example"}
    form = {"token": ANNA}
    entered = asking.ask("POST", "/login", body=form, **through, **origin)
    assert "Secure" in entered.headers["set-cookie"]
    plain = {**through, "origin": "http://shop.example"}
    assert asking.ask("POST", "/login", body=form, **plain).status_code == 403
    spoofed = {**through, **origin, "x-forwarded-for": "9.9.9.9, 6.6.6.7"}
    for _ in range(5):
        wrong = asking.ask("POST", "/login", body={"token": "no"}, **spoofed)
        assert wrong.status_code == 401
    spoofed["x-forwarded-for"] = "8.8.8.8, 6.6.6.7"
    slower = asking.ask("POST", "/login", body=form, **spoofed)
    assert slower.status_code == 429
    assert 0 < int(slower.headers["retry-after"]) <= 60
    # Nobody else waits for it.
    assert asking.ask("POST", "/login", body=form, **through, **origin).is_redirect


def test_a_socket_is_its_viewers_alone(asking: Served) -> None:
    anna, guest = asking.cookie(ANNA), asking.cookie(GUEST)
    page = asking.ask("GET", "/", cookie=anna).text
    client = re.findall(r"client_id\W+([0-9a-f-]{36})", page)[0]
    query = f"client_id={client}&implicit_handshake=true&tab_id=t&document_id=d&next_message_id=0"

    def open_socket(cookie: str) -> tuple[str, dict[str, str]]:
        headers = {"cookie": cookie, "origin": asking.url}
        opened = asking.ask("GET", f"{SOCKET}&{query}", **headers)
        sid = json.loads(opened.text[1:])["sid"]
        where = f"{SOCKET}&sid={sid}"
        assert send(where, headers, "40").status_code == 200
        return where, headers

    def send(where: str, headers: dict[str, str], text: str) -> httpx.Response:
        return asking.ask("POST", where, body=text, **headers)

    where, headers = open_socket(guest)
    assert "that page is another viewer's" in asking.ask("GET", where, **headers).text
    where, headers = open_socket(anna)
    assert '40{"sid"' in asking.ask("GET", where, **headers).text
    # Without the handshake a socket is let in, and its messages for another's page are not.
    query = ""
    where, headers = open_socket(guest)
    assert '40{"sid"' in asking.ask("GET", where, **headers).text
    send(where, headers, "42" + json.dumps(["event", {"client_id": client, "id": 1}]))
    assert "41" in asking.ask("GET", where, **headers).text


def test_another_page_gets_no_websocket(asking: Served, served: Served) -> None:
    cookie = asking.cookie(ANNA)
    path = SOCKET.replace("polling", "websocket")
    for made, headers in (
        (served, {"Origin": "http://evil.example"}),
        (served, {}),
        (served, {"Origin": served.url, "Host": "evil.example"}),
        (asking, {"Origin": asking.url}),
        (asking, {"Origin": asking.url, "Cookie": cookie + "x"}),
        (asking, {"Origin": "http://evil.example", "Cookie": cookie}),
    ):
        assert shaken_hands(made, path, headers) == 403
    assert shaken_hands(served, path, {"Origin": served.url}) == 101
    assert shaken_hands(asking, path, {"Origin": asking.url, "Cookie": cookie}) == 101


def shaken_hands(made: Served, path: str, headers: dict[str, str]) -> int:
    """Ask for a websocket by hand, and return the status of the answer."""
    asked = {
        "Host": f"127.0.0.1:{made.port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
        "Sec-WebSocket-Version": "13",
        **headers,
    }
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in asked.items())]
    with socket.create_connection(("127.0.0.1", made.port), timeout=60) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return int(connection.recv(4096).split(b" ")[1])


def test_a_proxy_in_front_of_one_that_asks_nobody_is_refused(served: Served) -> None:
    assert served.ask("GET", "/", **{"x-forwarded-for": "6.6.6.6"}).status_code == 403


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("anna: short", "line 1: a token has at least 16 characters"),
        ("\nanna: aaaaaaaaaaaaaaaaaaaa", "line 2: that token could be guessed"),
        (f"anna: {ANNA} readonly", "line 1: expected 'name: token'"),
        (f"anna: {ANNA}\nbob: {ANNA}", "line 2: the same token is given twice"),
        (f"anna: {ANNA}\nanna: {GUEST}", "line 2: anna is named twice"),
        ("# nothing yet", "holds no token"),
    ],
)
def test_tokens_that_could_not_be_relied_on_are_refused_without_being_shown(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(TokensInvalid, match=problem) as refused:
        tokens.read_tokens(path)
    assert not {ANNA, GUEST, "short"} & set(re.split(r"[\s:]", str(refused.value)))


def test_tokens_say_who_and_whether_they_may_act(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"Ann Lee: {ANNA}\n{GUEST} read-only\n")
    known = tokens.read_tokens(path)
    assert [(token.name, token.read_only) for token in known] == [("Ann Lee", False), (None, True)]
    now = [0.0]
    access = Access(tokens=known, clock=lambda: now[0])
    assert access.viewer("6.6.6.6", "forged") is None
    ann = access.viewer("6.6.6.6", access.log_in(ANNA, "", "6.6.6.6"))
    guest = access.viewer("::1", access.log_in(GUEST, " Bob\n\x1b[1m ", "::1"))
    assert ann is not None
    assert guest is not None
    assert (ann.described, access.may_act(ann)) == ("Ann Lee at 6.6.6.6", True)
    assert (guest.described, access.may_act(guest)) == ("Bob [1m at ::1", False)
    # A page that was opened by then may do nothing any more.
    now[0] = SESSION_SECONDS
    assert not access.may_act(ann)
    assert access.viewer("6.6.6.6", None) is None


def test_a_socket_to_somebody_who_has_left_ends_with_what_it_would_have_told_next() -> None:
    access = Access(tokens=(tokens.Token("anna", False, hashlib.sha256(ANNA.encode()).digest()),))
    cookie = f"{cookie_name(1)}={access.log_in(ANNA, '', '127.0.0.1')}"
    sent: list[MutableMapping[str, Any]] = []

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "websocket.send", "text": "before"})
        access.log_out(scope[VIEWER])
        await send({"type": "websocket.send", "text": "afterwards"})

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    said = {"host": "localhost:1", "origin": "http://localhost:1", "cookie": cookie}
    scope: Scope = {
        "type": "websocket",
        "scheme": "ws",
        "path": "/",
        "client": ("127.0.0.1", 2),
        "headers": [(name.encode(), value.encode()) for name, value in said.items()],
    }
    asyncio.run(Guard(app, access, port=1)(scope, receive, send))
    assert sent == [
        {"type": "websocket.send", "text": "before"},
        {"type": "websocket.close", "code": 1008},
    ]


def test_guesses_are_few_from_an_address_and_from_a_network_of_them() -> None:
    now = [0.0]
    access = Access(tokens=(tokens.Token("anna", False, b""),), clock=lambda: now[0])
    for n in range(5):
        assert access.wait_seconds("2001:db8::1") == 0
        assert access.log_in("wrong", "", f"2001:db8::{n}") is None
        now[0] += 1
    assert access.wait_seconds("2001:db8::ffff") == 55
    assert access.wait_seconds("2001:db8:0:1::1") == 0
    now[0] = 60.0
    assert access.wait_seconds("2001:db8::1") == 0


@pytest.mark.slow
def test_by_tls_the_cookie_is_kept_to_it_and_a_termination_ends_it(
    shop: str, tmp_path: Path
) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    files = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    made = Served(shop, tmp_path, *files, INVENTORY_DASHBOARD_TOKEN=ANNA)
    assert made.url.startswith("https://")
    assert "Secure" in made.log_in(ANNA).headers["set-cookie"]
    # A scheduler ends it in this way.
    made.process.terminate()
    assert made.process.wait(timeout=120) == 0
