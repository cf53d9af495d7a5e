"""Options that were left out: they are taken as they are, without what it takes to convert them.

Typer has pydantic convert every option and argument, also those that were not given. That takes
longer to import than a short command takes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from typer.core import TyperCommand


class Command(TyperCommand):
    """A command that converts what was given, and nothing else."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options and arguments, the one for help included."""
        return spared(super().get_params(ctx))


def spared(parameters: list[Any]) -> list[Any]:
    """Let parameters convert only what has to be."""
    for parameter in parameters:
        if not isinstance(parameter.process_value, partial):
            parameter.process_value = partial(_processed, parameter, parameter.process_value)
    return parameters


def _processed(parameter: Any, process: Callable[..., Any], ctx: Any, value: Any) -> Any:
    if value is None and not parameter.required:
        value = () if parameter.multiple or parameter.nargs == -1 else None
    elif type(value) is not parameter.type_descriptor.annotation:
        return process(ctx, value)
    return value if parameter.callback is None else parameter.callback(ctx, parameter, value)
