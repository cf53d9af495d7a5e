"""Servers that messages are posted to: one that takes them, and ones that do all but that."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET_PATH = "s3cr3t-path"
MOST_SECONDS = 60.0


@dataclass(frozen=True)
class Got:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> dict[str, Any]:
        """Its JSON."""
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Receiver:
    """A server, what it got, and how it answers.

    Attributes:
        url: Where it is, with a path that is a secret.
        got: What it was sent, in the order of arrival.
        answers: Status and headers of the next answers; the last one stands for all that follow.
    """

    url: str
    got: list[Got] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=lambda: [(200, {})])
    hangs: threading.Event | None = None

    def answer(self, *found: int | tuple[int, dict[str, str]]) -> None:
        """Answer so from now on."""
        self.answers[:] = [one if isinstance(one, tuple) else (one, {}) for one in found]

    @property
    def events(self) -> list[str]:
        """The events that it was told of."""
        return [got.said["event"] for got in self.got]


@contextmanager
def receiving(*, hangs: bool = False) -> Iterator[Receiver]:
    """A server of our own machine.

    Args:
        hangs: Never answer, for as long as the test goes on.
    """
    let_go = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append(Got(self.path, dict(self.headers), body))
            if hangs:
                let_go.wait(MOST_SECONDS)
                return
            status, headers = receiver.answers[0]
            if len(receiver.answers) > 1:
                receiver.answers.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}/{SECRET_PATH}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        let_go.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def dripping() -> Iterator[str]:
    """A server whose answer comes a byte at a time and never ends; its URL."""
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 10_000:
                if over.wait(0.05):
                    return
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    return

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/{SECRET_PATH}"
        finally:
            over.set()
            thread.join()


def described(items: Sequence[Got]) -> list[tuple[str, str | None]]:
    """What was told, as event and state."""
    return [(got.said["event"], got.said["state"]) for got in items]
