"""Documents as files."""

from __future__ import annotations

import os
from pathlib import Path


def written(path: Path, text: str) -> str:
    """Write at once or not at all, since somebody may be reading an earlier one; says where."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text + ("" if text.endswith("\n") else "\n"), encoding="utf-8")
    new.replace(path)
    return str(path.absolute())
