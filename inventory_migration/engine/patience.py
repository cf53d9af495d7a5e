"""How long to wait before trying again, and steps that are taken again until what was wrong passes.

Which failures pass is said in `failures.py`. Chunks have a loop of their own, in `worker.py`, since
they are counted in the ledger; here is what lies between them.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from inventory_migration.engine.failures import message, passes

logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 60.0
"""How long a server may be away: a restart takes seconds, a standby's take-over a minute."""

T = TypeVar("T")


def backoff(attempts: int) -> float:
    """How many seconds to wait before trying again, longer with each attempt; with jitter."""
    longest = min(2.0, 0.02 * 2 ** min(attempts, 8))
    return random.uniform(longest / 2, longest)  # noqa: S311 - jitter, no secret


def patiently(step: Callable[[], T], *, tries: int) -> T:
    """Take a step again while it fails on what passes by itself, such as a lock or a cancel.

    The server has undone what failed. A lost connection is not among it: whether a COMMIT has
    happened is not known then.

    Args:
        step: Does all that it does in one transaction.
        tries: How often it is taken again.

    Raises:
        sqlalchemy.exc.DBAPIError: It failed on something else, or too often.
    """
    for attempt in range(1, tries + 1):
        try:
            return step()
        except sa.exc.DBAPIError as error:
            if not passes(error):
                raise
            logger.info("%s, tried again", message(error))
            time.sleep(backoff(attempt))
    return step()
