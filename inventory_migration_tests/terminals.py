"""Terminals for commands, and for parts of them: emulators that show what a person sees."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pyte
from rich.console import Console

from inventory_migration_tests.commands import PROGRAM, PROJECT
from inventory_migration_tests.sessions import until

CTRL_C = b"\x03"


class Screen(io.StringIO):
    """A terminal that shows at once what is written to it, and counts the writes."""

    def __init__(self, columns: int = 40, lines: int = 10) -> None:
        super().__init__()
        self.screen = pyte.Screen(columns, lines)
        self.screen.set_mode(pyte.modes.LNM)
        self.stream = pyte.Stream(self.screen)
        self.frames: list[str] = []
        self.console = Console(
            file=self, force_terminal=True, width=columns, height=lines, markup=False
        )

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if text:
            self.frames.append(text)
        self.stream.feed(text)
        return len(text)

    def resize(self, columns: int, lines: int) -> None:
        self.screen.resize(lines, columns)
        self.console.width, self.console.height = columns, lines

    def shows(self) -> list[str]:
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip().split("\n")


def _take_terminal() -> None:
    """Have the terminal control this process, also where the tests run in the background."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A command on a terminal of its own.

    Attributes:
        written: All that was written to the terminal, codes included.
    """

    def __init__(self, words: list[str], columns: int, lines: int, env: Mapping[str, str]) -> None:
        """Start the command; what it writes is taken in from now on."""
        self._screen = pyte.HistoryScreen(columns, lines, history=1000, ratio=0.5)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.written = b""
        self._master, slave = pty.openpty()
        self._measure(columns, lines)
        self.process = subprocess.Popen(
            [*PROGRAM, *words],
            cwd=PROJECT,
            env={**os.environ, "TERM": "xterm-256color", **env},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def lines(self) -> list[str]:
        """What is on the screen, without the blank lines below it."""
        with self._lock:
            return "\n".join(line.rstrip() for line in self._screen.display).rstrip().split("\n")

    def text(self) -> str:
        """What is on the screen, as one text."""
        return "\n".join(self.lines())

    def scrolled_off(self) -> str:
        """What has gone off the screen at its top."""
        with self._lock:
            rows = [
                "".join(row[column].data for column in range(self._screen.columns)).rstrip()
                for row in self._screen.history.top
            ]
        return "\n".join(rows)

    def until(self, condition: str | Callable[[str], object], seconds: float = 120) -> str:
        """Wait until a text, or what a condition says, is on the screen; the screen then."""
        seen = ""

        def there() -> object:
            nonlocal seen
            seen = self.text()
            return condition in seen if isinstance(condition, str) else condition(seen)

        try:
            until(there, f"{condition!r} on the screen", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; the screen:\n{self.text()}") from None
        return seen

    def press(self, keys: bytes) -> None:
        """Type something."""
        os.write(self._master, keys)

    def resize(self, columns: int, lines: int) -> None:
        """Change the terminal's size, as a person does with a window."""
        with self._lock:
            self._screen.resize(lines, columns)
            self._measure(columns, lines)
        self.process.send_signal(signal.SIGWINCH)

    def ended(self, seconds: float = 120) -> int:
        """Wait for the command to end, and return its exit code."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def close(self) -> None:
        """End the command, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(10)
        os.close(self._master)

    def _measure(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self) -> None:
        while True:
            try:
                some = os.read(self._master, 65536)
            except OSError:
                return
            if not some:
                return
            with self._lock:
                self.written += some
                self._stream.feed(some)


@contextmanager
def on_terminal(
    *words: object, columns: int = 80, lines: int = 24, **environment: str
) -> Iterator[Terminal]:
    """Run a command on a terminal of this size."""
    inherited = {name: "" for name in ("COLUMNS", "LINES", "NO_COLOR") if name in os.environ}
    made = Terminal([str(word) for word in words], columns, lines, {**inherited, **environment})
    try:
        yield made
    finally:
        made.close()
