"""What whoever starts work may say at the command line, for every command that starts any."""

from __future__ import annotations

from typing import Annotated

import typer

StopAfter = Annotated[
    str | None,
    typer.Option("--stop-after", metavar="PHASE", help="Pause when this phase is done."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        max=64,
        help="How many move chunks at the same time; by default as many as the server, if it is "
        "on this machine, has cores, from 2 to 8, and 4 elsewhere.",
    ),
]
MaxRowsPerSecond = Annotated[
    int | None,
    typer.Option(
        "--max-rows-per-second",
        metavar="N",
        min=1,
        help="How many records move at most, instead of what the mapping says.",
    ),
]
Window = Annotated[
    bool,
    typer.Option(
        "--window",
        help="This is a maintenance window, in which nobody waits: take longer transactions. "
        "Neither opens nor lifts the hours of the mapping's health.window.",
    ),
]
Rewrite = Annotated[
    bool,
    typer.Option(
        "--rewrite",
        help="Move all records at once by a rewrite of their table, which nobody can use "
        "meanwhile; only with --window. What it costs is told by 'test'.",
    ),
]
NoWindow = Annotated[
    bool,
    typer.Option(
        "--no-window", help="Work outside of the hours of the mapping's health.window as well."
    ),
]
AsSuperuser = Annotated[
    bool,
    typer.Option(
        "--as-superuser", help="Let the application's triggers run with a superuser's rights."
    ),
]
WriteStop = Annotated[
    bool,
    typer.Option(
        "--write-stop",
        help="The application's writes are stopped: lock its tables for the last pass and the "
        "proof.",
    ),
]
AllSteps = Annotated[
    bool,
    typer.Option(
        "--all-steps",
        help="Go through every step, with its gates and the proof, though nothing is left to do.",
    ),
]
