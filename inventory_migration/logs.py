"""Log records on their way out: as text or JSON, to the console or a file, without passwords.

What is worth a record is decided where it happens; a record says in its `extra` fields which
migration, phase, chunk and company it is about. How a terminal shows progress belongs in `cli/`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

Form = Literal["text", "json"]

SUBJECTS = ("migration_id", "phase", "chunk", "company")
"""What a record may be about, as attributes that `extra` gives it."""

FIGURES = (
    "rows_total",
    "rows_done",
    "rows_migrated",
    "rows_already",
    "rows_skipped",
    "rows_quarantined",
    "rows_gone",
)
"""Numbers of records that `extra` gives a record, for machines; its message has them for people."""

_PACKAGE = "inventory_migration"
_HIDDEN = "***"

_PATTERNS = (
    # Greedy up to the last "@": people forget to percent-encode the one in their password. With one
    # slash it has been taken for a path. How a URL is written may be shown.
    (re.compile(r"(\w+://?[^\s:/@'\"]*:)(?!password@host)[^\s'\"]+@"), rf"\1{_HIDDEN}@"),
    (
        re.compile(r"(?i)(\b(?:ssl|pg)?password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&'\",;)]+)"),
        rf"\1{_HIDDEN}",
    ),
    (re.compile(r"(?i)(\bpassword['\"]\s*:\s*)(['\"])(?:(?!\2).)*\2"), rf"\1\2{_HIDDEN}\2"),
)


def plain(text: object) -> str:
    """A text on one line, with what a terminal might obey made visible."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(text))


_WITH_PASSWORDS = ("INVENTORY_DATABASE_URL", "INVENTORY_PUSHGATEWAY_URL")
"""The variables of the environment whose URLs may hold passwords."""


def hide_passwords(text: str, *, secrets: tuple[str, ...] | None = None) -> str:
    """Return a text without the passwords of connection URLs and settings, however they got in.

    Args:
        text: What is about to be shown.
        secrets: Passwords to hide wherever they stand; by default those of the environment.
    """
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return hide_secrets(text, known_secrets() if secrets is None else secrets)


def hide_within(value: Any, *, secrets: tuple[str, ...] | None = None) -> Any:
    """Return a value of JSON with no password in any of its texts; see `hide_passwords`."""
    hidden = known_secrets() if secrets is None else secrets
    if isinstance(value, str):
        return hide_passwords(value, secrets=hidden)
    if isinstance(value, Mapping):
        return {name: hide_within(item, secrets=hidden) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [hide_within(item, secrets=hidden) for item in value]
    return value


def hide_secrets(text: str, secrets: tuple[str, ...]) -> str:
    """Return a text without these passwords."""
    for secret in secrets:
        text = text.replace(secret, _HIDDEN)
    return text


def known_secrets(*urls: str) -> tuple[str, ...]:
    """Return the passwords of these URLs and of the environment, however they may be spelled.

    Very short ones are left out: hiding every "a" would hide the message.
    """
    found = {os.environ.get("PGPASSWORD", "")}
    of_environment = (os.environ.get(name, "") for name in _WITH_PASSWORDS)
    for url in (*urls, *of_environment):
        found |= set(_passwords(url))
    spelled = {spelling for secret in found for spelling in _spellings(secret)}
    return tuple(sorted((s for s in spelled if len(s) >= 6), key=len, reverse=True))


def _passwords(url: str) -> Iterator[str]:
    """The passwords in a URL or in keywords with values, decoded."""
    for value in _KEYWORD.findall(url):
        yield re.sub(r"\\(.)", r"\1", value[1:-1] if value.startswith("'") else value)
    # As it is written, which need not be how it should be.
    yield from re.findall(r"://[^:/@]*:(.*)@", url)
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    yield unquote(parts.password or "")
    for name, value in parse_qsl(parts.query):
        if name in {"password", "sslpassword"}:
            yield value


_KEYWORD = re.compile(r"(?:^|\s)(?:ssl)?password\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s\\]|\\.)+)")


def _spellings(secret: str) -> Iterator[str]:
    """A password as it stands, in a URL, in JSON, in Python and in a connection string."""
    yield secret
    yield from (quote(secret, safe=safe) for safe in ("", "/", "!$&'()*+,;=:"))
    yield quote_plus(secret)
    yield json.dumps(secret)[1:-1]
    yield repr(secret)[1:-1]
    yield secret.replace("\\", "\\\\").replace("'", "\\'")


class HidePasswords(logging.Filter):
    """Takes passwords out of a record: of its message, its arguments and its traceback."""

    def __init__(self, secrets: tuple[str, ...] | None = None) -> None:
        """Hide these wherever they stand, by default the environment's; and what looks like one."""
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record in place; it is never dropped."""
        record.msg = hide_passwords(record.getMessage(), secrets=self._secrets)
        record.args = None
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = hide_passwords(record.exc_text, secrets=self._secrets)
        return True


class TextFormatter(logging.Formatter):
    """One line a record: when, how grave, about what, the message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows on lines of its own."""
        when = datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "seconds")
        about = " ".join(f"{name} {value}" for name, value in subjects(record).items())
        about = about.replace("migration_id", "migration")
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        # A name out of a database must not begin a line that nobody has logged.
        line = f"{when}  {f'[{about}] ' if about else ''}{level}{plain(record.getMessage())}"
        return f"{line}\n{record.exc_text}" if record.exc_text else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line, for machines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object: time, level, logger, message, what it is about, and its figures."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **subjects(record),
            **_given(record, FIGURES),
        }
        if record.exc_text:
            said["traceback"] = record.exc_text
        return json.dumps(said, default=str)


def subjects(record: logging.LogRecord) -> dict[str, object]:
    """Return what a record is about, as far as it says so."""
    return _given(record, SUBJECTS)


def _given(record: logging.LogRecord, names: tuple[str, ...]) -> dict[str, object]:
    return {name: value for name in names if (value := getattr(record, name, None)) is not None}


class Logging:
    """Where the records of one command go; give it up with `close`.

    Args:
        form: How the console shows records; None is plain lines, unless `interactive` is given.
        file: A file that gets every record as well.
        interactive: What shows records to a person who watches.
        secrets: Passwords to hide wherever they stand; by default the environment's.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(
        self,
        *,
        form: Form | None = None,
        file: Path | None = None,
        interactive: logging.Handler | None = None,
        secrets: tuple[str, ...] | None = None,
    ) -> None:
        hide = HidePasswords(secrets)
        formatter = JsonFormatter() if form == "json" else TextFormatter()
        console = interactive if interactive and form is None else logging.StreamHandler(sys.stderr)
        self.handlers: list[logging.Handler] = [console]
        if file is not None:
            self.handlers.append(logging.FileHandler(file, encoding="utf-8"))
        for handler in self.handlers:
            handler.addFilter(hide)
            handler.setFormatter(formatter)
            logging.getLogger().addHandler(handler)
        # Other libraries' warnings are of interest, what they say all day is not.
        self._levels = {
            logger: logger.level for logger in (logging.getLogger(), logging.getLogger(_PACKAGE))
        }
        logging.getLogger().setLevel(logging.WARNING)
        logging.getLogger(_PACKAGE).setLevel(logging.INFO)

    def close(self) -> None:
        """Put logging back to what it was."""
        for handler in self.handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
        for logger, level in self._levels.items():
            logger.setLevel(level)
