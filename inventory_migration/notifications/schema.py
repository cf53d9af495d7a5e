"""The published form of a JSON message: `schema.json` beside this module, a JSON Schema."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def text() -> str:
    """The schema as it is published."""
    return (files(__package__) / "schema.json").read_text(encoding="utf-8")


def load() -> dict[str, Any]:
    """The schema as JSON values."""
    found: dict[str, Any] = json.loads(text())
    return found
