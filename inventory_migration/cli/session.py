"""What every command has: options, a mapping, a database, a way to answer and a way to fail.

What a command does is in the modules beside this one.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from inventory_migration import logs, project
from inventory_migration.errors import CommandUnclear, MigrationError

if TYPE_CHECKING:
    import sqlalchemy as sa
    from rich.console import Console

    from inventory_migration import verbs
    from inventory_migration.mapping import StockMapping
    from inventory_migration.plain import PlainEngine, PlainTarget

logger = logging.getLogger(__name__)

INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended; a migration that it paused says 4."""


_NAMING = (
    "audit|test|grants|run|resume|pause|abort|status|validate|acceptance|monitor|report|rollback|show"
    "|archive"
    "|quarantine (?:list|show|retry|waive)|notifications (?:test|list)"
)
"""The commands that are told a mapping's name."""

_MANNERS = {3: "Refused", 4: "Stopped", 5: "Rolled back"}
"""What is no mistake of the user's is not called an error."""


Reached = TypeVar("Reached", "verbs.Target", "PlainTarget")


class LogFormat(StrEnum):
    """How log records look."""

    TEXT = "text"
    JSON = "json"


_PANEL = "Options of every command"

ENV_FILE = typer.Option(
    "--env-file", help="Read KEY=VALUE lines into the environment first.", rich_help_panel=_PANEL
)
DATABASE_URL = typer.Option(
    "--database-url",
    metavar="URL",
    help="Any libpq URL, instead of $INVENTORY_DATABASE_URL; other users of this machine can read "
    "a command line, so a password is better kept in the variable or in ~/.pgpass.",
    rich_help_panel=_PANEL,
)
LOG_FORMAT = typer.Option(
    "--log-format", help="Log lines to stderr, as text or JSON.", rich_help_panel=_PANEL
)
LOG_FILE = typer.Option("--log-file", help="Log into this file too.", rich_help_panel=_PANEL)
JSON = typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")

Name = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="The mapping; may be left out with one --mapping PATH."),
]
Mappings = Annotated[
    list[Path] | None,
    typer.Option("--mapping", metavar="PATH", help="A mapping file of your own; repeatable."),
]

_SHARED: dict[str, tuple[Any, Any]] = {
    "json_": (Annotated[bool, JSON], False),
    "env_file": (Annotated[Path | None, ENV_FILE], None),
    "database_url": (Annotated[str | None, DATABASE_URL], None),
    "log_format": (Annotated[LogFormat | None, LOG_FORMAT], None),
    "log_file": (Annotated[Path | None, LOG_FILE], None),
}


class Session:
    """One command under way.

    Attributes:
        json: Whether the answer is one JSON object.
        database_url: What was given on the command line.
        reached: The database, once it is reached; not where that was done plainly.
        engine: What connects to it, once it is reached in either way.
        files: The mapping files that were given, by their mappings' names.
        so_far: What is told beside a condition that stops the command, with `--json`.
    """

    def __init__(self, *, as_json: bool, database_url: str | None, log_format: str | None) -> None:
        """Reach nothing yet."""
        self.json = as_json
        self.database_url = database_url
        self.log_format = log_format
        self.so_far: dict[str, Any] = {}
        self.reached: verbs.Target | None = None
        self.engine: sa.Engine | PlainEngine | None = None
        self.files: dict[str, Path] = {}

    @functools.cached_property
    def screen(self) -> Console:
        """Where answers for people go."""
        from inventory_migration.cli.terminal import console

        return console(sys.stdout, spell=self.spelled)

    def spelled(self, text: str) -> str:
        """Spell the commands in a text as they must be called: a file's mapping by its path."""
        for name, path in self.files.items():
            command = rf"((?:inventory-migration |')(?:{_NAMING}) ){re.escape(name)}\b"
            given = shlex.quote(str(path)).replace("\\", r"\\")
            text = re.sub(command, rf"\1--mapping {given}", text)
        return text

    @property
    def embedded(self) -> bool:
        """Whether the embedded server is used, for want of any URL."""
        return not (self.database_url or os.environ.get("INVENTORY_DATABASE_URL"))

    def target(self, *, writes: bool = False) -> verbs.Target:
        """Reach the database.

        Args:
            writes: Name host and database first, on stderr, and bring an older ledger up to date.
        """
        from inventory_migration import verbs

        self.reached = self._reach(verbs.open_target, writes=writes)
        return self.reached

    def plain_target(self, *, writes: bool = False) -> PlainTarget:
        """Reach the database as `target` does, for what answers at once: without SQLAlchemy."""
        from inventory_migration import plain

        return self._reach(plain.open_target, writes=writes)

    def _reach(self, opened: Callable[[str | None], Reached], *, writes: bool) -> Reached:
        from inventory_migration import database, embedded
        from inventory_migration.engine import ledger

        if self.embedded and embedded.status() is None:
            self.note("Starting the embedded PostgreSQL.")
        parameters = database.connection_parameters(self.database_url)
        if writes:
            self.note(f"Database: {database.describe(parameters)}")
        found = opened(self.database_url)
        self.engine = found.engine
        if writes:
            ledger.bring_up_to_date(found.engine)
        return found

    def mappings(self, paths: Sequence[Path] | None) -> dict[str, StockMapping]:
        """Read the mappings that were given by path, by their names."""
        if not paths:
            return {}
        from inventory_migration.mapping import load_mapping

        found: dict[str, StockMapping] = {}
        for path in paths:
            mapping = load_mapping(path)
            if mapping.name in found:
                raise CommandUnclear(
                    f"two of the mappings given are called {mapping.name}; give one of them"
                )
            found[mapping.name] = mapping
            self.files[mapping.name] = path
        return found

    def mapping(self, name: str | None, given: Mapping[str, StockMapping]) -> StockMapping:
        """Choose the mapping that is meant: by name, or the only one given."""
        from inventory_migration.mapping import named_mapping

        if name is None:
            if len(given) == 1:
                return next(iter(given.values()))
            known = ", ".join(given or project.listing("mappings", ".yaml")) or "none is known"
            raise CommandUnclear(f"say which mapping ({known}), or give one with --mapping PATH")
        return given[name] if name in given else named_mapping(name)

    def name(
        self, name: str | None, paths: Sequence[Path] | None, target: verbs.Target | PlainTarget
    ) -> str:
        """Choose a mapping's name where its file is not needed; the ledger may know others."""
        from inventory_migration import watching

        given = self.mappings(paths)
        if name is not None and name not in given and watching.is_known(target, name):
            return name
        return self.mapping(name, given).name

    def note(self, text: str) -> None:
        """Say something that is no part of the answer."""
        print(logs.plain(text), file=sys.stderr, flush=True)

    def show(self, found: Any, render: Callable[[Console, Any], None]) -> None:
        """Give the answer, as an object or for a person."""
        if self.json:
            print_json(found)
        else:
            render(self.screen, found)

    def confirm(
        self, consequence: str, *, yes: bool, otherwise: str = "Nothing was changed."
    ) -> bool:
        """Ask before something that is hard to undo, and say `otherwise` where it is not done.

        Raises:
            CommandUnclear: Nobody is there to ask, and `--yes` was not said.
        """
        if yes:
            return True
        if not sys.stdin.isatty():
            raise CommandUnclear(f"{consequence}; nobody is here to be asked, so say --yes")
        wanted = typer.confirm(f"{consequence[0].upper()}{consequence[1:]}. Go on?", err=True)
        if not wanted:
            self.note(otherwise)
        return wanted

    @contextmanager
    def watched(self, doing: str = "starting") -> Iterator[None]:
        """Show a person what is going on meanwhile; a log file and CI get plain lines instead."""
        if self.log_format is not None or not is_screen(sys.stderr):
            yield
            return
        from inventory_migration.cli.progress import shown

        with shown(self.reached, self.spelled, doing):
            yield


def is_screen(stream: IO[str]) -> bool:
    """Whether a person sees what is written, on a terminal where one can write over it."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in {"dumb", "unknown"}


def verb(function: Callable[..., int | None]) -> Callable[..., None]:
    """Make a command of a function over a session; what it returns is the exit code."""
    own = dict(list(inspect.signature(function, eval_str=True).parameters.items())[1:])
    context = inspect.Parameter(
        "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    shared = {
        name: inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
        )
        for name, (annotation, default) in _SHARED.items()
    }
    own = {
        name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in own.items()
    }

    def command(context: typer.Context, **given: Any) -> None:
        said = {name: given.pop(name) for name in _SHARED}
        before = context.obj or {}
        said |= {name: value for name, value in before.items() if said.get(name) is None}
        code = _executed(function, given, said)
        if code:
            raise typer.Exit(code)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    parameters = {"context": context, **own, **shared}
    command.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    command.__annotations__ = {name: p.annotation for name, p in parameters.items()}
    return command


def complain(
    kind: str,
    sentence: str,
    *,
    as_json: bool,
    facts: Mapping[str, Any] | None = None,
    beside: Mapping[str, Any] | None = None,
    url: str | None = None,
) -> None:
    """Say what is wrong: on stderr for people, with `--json` on stdout for programs as well."""
    # Sentences are made without passwords; a URL may still have got into one on the way, such as
    # one that was given where a name belongs.
    secrets = logs.known_secrets(*([url] if url else []))
    said = logs.hide_passwords(sentence, secrets=secrets)
    how = _MANNERS.get((facts or {}).get("exit_code", 1), "Error")
    shown = "\n".join(logs.plain(line) for line in said.split("\n"))
    print(f"{how}: {shown}", file=sys.stderr, flush=True)
    if as_json:
        hidden = logs.hide_within(facts or {}, secrets=secrets)
        print_json({**(beside or {}), "error": {"kind": kind, "message": said, **hidden}})


def print_json(found: Any) -> None:
    """Print one object; in plain ASCII, which every terminal and every parser takes."""
    print(json.dumps(found, indent=2, default=str), flush=True)


def _executed(
    function: Callable[..., int | None], given: Mapping[str, Any], said: Mapping[str, Any]
) -> int:
    session = Session(
        as_json=said["json_"], database_url=said["database_url"], log_format=said["log_format"]
    )
    try:
        if said["env_file"]:
            project.load_env_file(said["env_file"])
        with _logging(said):
            return _guarded(function, session, given)
    except MigrationError as error:
        facts = {
            name: value
            for name, value in vars(error).items()
            if isinstance(value, str | int | float | bool | list | tuple | dict | None)
        }
        complain(
            type(error).__name__,
            session.spelled(str(error)),
            as_json=session.json,
            facts={"exit_code": error.exit_code, "retryable": error.retryable, **facts},
            beside=session.so_far,
            url=session.database_url,
        )
        return error.exit_code


def _guarded(
    function: Callable[..., int | None], session: Session, given: Mapping[str, Any]
) -> int:
    try:
        return function(session, **given) or 0
    except (MigrationError, typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        complain(
            "Interrupted",
            "interrupted; 'inventory-migration status' says where things stand",
            as_json=session.json,
        )
        return INTERRUPTED
    except Exception as error:
        explained = _explained(error, session)
        if explained is not None:
            raise explained from None
        logger.exception("this is a mistake of the program")
        complain(
            type(error).__name__,
            f"{type(error).__name__}: {error}; this is a mistake of the program, please report it "
            "with the lines above",
            as_json=session.json,
            url=session.database_url,
        )
        return 1


def _explained(error: Exception, session: Session) -> MigrationError | None:
    """A database's error as its condition; None for any other error."""
    if "psycopg" not in sys.modules:
        return None
    import psycopg

    from inventory_migration.database import explain, original

    cause = original(error)
    if not isinstance(cause, psycopg.Error):
        return None
    return explain(cause, session.engine)


@contextmanager
def _logging(said: Mapping[str, Any]) -> Iterator[None]:
    interactive = None
    if is_screen(sys.stderr):
        from inventory_migration.cli.progress import handler

        interactive = handler()
    url = said["database_url"]
    try:
        opened = logs.Logging(
            form=said["log_format"],
            file=said["log_file"],
            interactive=interactive,
            secrets=logs.known_secrets(*([url] if url else [])),
        )
    except OSError as error:
        raise CommandUnclear(
            f"the log file {said['log_file']} can not be written: "
            f"{(error.strerror or str(error)).lower()}; name another with --log-file"
        ) from None
    try:
        yield
    finally:
        opened.close()
