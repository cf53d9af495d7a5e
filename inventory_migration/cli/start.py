"""How the program starts: what costs seconds of every command, and is needed by none.

Only for processes of our own. Who imports the package, or runs its jobs from Dagster's UI, decides
for themselves.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

SELDOM = frozenset({"scipy.stats", "altair"})
"""What Great Expectations imports for expectations and plots that no suite here has: a quarter of
all that it takes to import it. Whoever uses them has them loaded then."""

THRESHOLDS = (50_000, 20, 50)
"""How many new objects a look for garbage waits for. What is imported stays, so that looking
through it again and again is for nothing."""


class Seldom:
    """Finds what is seldom used as modules that are loaded once one of their names is asked for."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find such a module; None for any other."""
        if name not in SELDOM:
            return None
        found = PathFinder.find_spec(name, path, target)
        if found is not None and found.loader is not None:
            found.loader = LazyLoader(found.loader)
        return found


def start_lightly() -> None:
    """Let this process import and collect no more than it has to."""
    gc.set_threshold(*THRESHOLDS)
    # Before it ends an interpreter looks through all that was ever imported, for a second: what it
    # would free is the system's a moment later. What is registered first is called last.
    atexit.register(gc.freeze)
    sys.meta_path.insert(0, Seldom)
