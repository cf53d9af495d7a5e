"""Calling commands as a user does: in this process for speed, or as a program of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner, Result

from inventory_migration.cli import app
from inventory_migration_tests import stage

PROJECT = Path(__file__).resolve().parent.parent
PROGRAM = [sys.executable, "-c", "from inventory_migration.cli import main; main()"]


def im(*words: object, code: int = 0) -> Result:
    """Call a command in this process and expect it to end with this code."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result


def answer(*words: object, code: int = 0) -> Any:
    """Call a command with `--json` and return the one object that it prints on stdout."""
    return json.loads(im(*words, "--json", code=code).stdout)


def sentence(result: Result) -> str:
    """Return the one sentence on stderr that says what is wrong; the host may be named before."""
    lines = [
        line for line in result.stderr.splitlines() if not line.startswith(("Database: ", "20"))
    ]
    assert len(lines) == 1, result.stderr
    return lines[0]


def program(*words: str, **environment: str) -> subprocess.Popen[str]:
    """Start a command as a program of its own."""
    return subprocess.Popen(
        [*PROGRAM, *words],
        cwd=PROJECT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def mapping_file(folder: Path, **changes: Any) -> Path:
    """Write the shop's mapping into a file, with some of its parts replaced."""
    definition: Mapping[str, Any] = {**stage.DEFINITION, **changes}
    path = folder / f"{definition['name']}.yaml"
    path.write_text(yaml.safe_dump(dict(definition), sort_keys=False))
    return path
