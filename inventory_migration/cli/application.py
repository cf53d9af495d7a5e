"""The program as a whole: its name, its options, how it ends.

A mistake in calling it is one sentence on stderr and exit code 2, as any other condition is; with
`--json` an object on stdout says the same.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from inventory_migration import __version__
from inventory_migration.cli import (
    acceptance,
    archives,
    audits,
    dashboards,
    evidence,
    examples,
    metrics,
    migrations,
    monitors,
    notify,
    proposals,
    quarantine,
    server,
    steer,
)
from inventory_migration.cli.session import (
    DATABASE_URL,
    ENV_FILE,
    LOG_FILE,
    LOG_FORMAT,
    LogFormat,
    complain,
)
from inventory_migration.cli.start import start_lightly
from inventory_migration.cli.unsaid import Command, spared

PROGRAM = "inventory-migration"


class Program(TyperGroup):
    """Ends with one sentence where it was called in a way that it does not understand."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options of the program, and none is converted that was not given."""
        return spared(super().get_params(ctx))

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> None:
        """Run and exit."""
        given = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        try:
            sys.exit(super().main(given, prog_name or PROGRAM, **extra) or 0)
        except typer.Abort:
            sys.exit(1)
        except typer.TyperException as error:
            context = getattr(error, "ctx", None)
            command = context.command_path if context else PROGRAM
            sentence = " ".join(error.format_message().split()).rstrip(".")
            sentence = sentence.replace("Value error, ", "").replace("Input should", "should")
            if not sentence or type(error).__name__ == "NoArgsIsHelpError":
                # Called without a command: the help is the answer.
                typer.echo(error.format_message())
            else:
                complain(
                    "UsageError",
                    f"{sentence}; '{command} --help' says what there is",
                    as_json="--json" in given,
                )
            sys.exit(error.exit_code)


app = typer.Typer(
    name=PROGRAM,
    cls=Program,
    help="Move stock that knows one location per company to a default location of each company, "
    "in its own PostgreSQL database and while the application runs, and prove that not one unit "
    "was lost.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage or connection, 3 a gate refused or something "
    "differs, 4 paused, 5 rolled back by a threshold.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(notify.app, name="notifications")
app.add_typer(server.app, name="db")
app.add_typer(archives.ledger, name="ledger")
_COMMANDS = {
    **proposals.COMMANDS,
    **examples.COMMANDS,
    **audits.COMMANDS,
    **migrations.COMMANDS,
    **acceptance.COMMANDS,
    **monitors.COMMANDS,
    **metrics.COMMANDS,
    **archives.COMMANDS,
    **evidence.COMMANDS,
    **steer.COMMANDS,
    **dashboards.COMMANDS,
    **server.COMMANDS,
}
for _name, (_command, _example) in _COMMANDS.items():
    app.command(_name, cls=Command, epilog=f"For example: {PROGRAM} {_name} {_example}")(_command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    env_file: Annotated[Path | None, ENV_FILE] = None,
    database_url: Annotated[str | None, DATABASE_URL] = None,
    log_format: Annotated[LogFormat | None, LOG_FORMAT] = None,
    log_file: Annotated[Path | None, LOG_FILE] = None,
    version: Annotated[  # noqa: ARG001 - eager: its callback prints and ends
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Keep what was said before the command; after it, it can be said as well."""
    context.obj = {
        "env_file": env_file,
        "database_url": database_url,
        "log_format": log_format,
        "log_file": log_file,
    }


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the program with the arguments of this process."""
    start_lightly()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A name that the terminal's encoding does not have must not end the command.
            stream.reconfigure(errors="backslashreplace")
    # Schedulers of all kinds end a program so: it stops as it does for Ctrl-C, and leaves no lock.
    signal.signal(signal.SIGTERM, _interrupt)
    app(prog_name=PROGRAM)
