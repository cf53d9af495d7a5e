"""What has to be called at once where a migration met a threshold: a command, or a webhook.

The migration waits for it, for a few seconds; whatever becomes of it is noted in the trail and
stops nothing. Neither a command's output nor a URL is kept or logged: both may hold secrets. Who is
merely told of events, and never waited for, is in `notifications/`.
"""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from inventory_migration.database import describe
from inventory_migration.engine import ledger, posting
from inventory_migration.engine.ledger import Migration
from inventory_migration.mapping import StockMapping
from inventory_migration.mapping.limits import Hook, Occasion

logger = logging.getLogger(__name__)

SECONDS = 10.0


def tell(
    engine: sa.Engine,
    mapping: StockMapping,
    migration: Migration,
    occasion: Occasion,
    **facts: Any,
) -> None:
    """Call every hook that wants to know, and note how each went.

    Args:
        engine: The database, whose name is told.
        mapping: Whose hooks.
        migration: What it is about.
        occasion: What happened.
        facts: What is told besides, such as reason and action.
    """
    told = {
        "occasion": occasion,
        "mapping": migration.mapping,
        "migration_id": migration.migration_id,
        "database": describe(engine),
        **facts,
    }
    for hook in mapping.thresholds.hooks:
        if hook.occasions is not None and occasion not in hook.occasions:
            continue
        failure = _called(hook, told)
        name = hook.url_variable or (hook.command or ["?"])[0]
        if failure:
            logger.warning("hook %s: %s", name, failure)
        with engine.begin() as connection:
            ledger.note(
                connection,
                "hook",
                migration_id=migration.migration_id,
                occasion=occasion,
                hook=name,
                failure=failure,
            )


def _called(hook: Hook, told: Mapping[str, Any]) -> str | None:
    """Call a hook; returns what went wrong, None where nothing did."""
    body = json.dumps(told, default=str).encode()
    if hook.command is not None:
        return _run(hook.command, body)
    return _post(str(hook.url_variable), body)


def _run(command: list[str], body: bytes) -> str | None:
    try:
        ended = subprocess.run(  # noqa: S603 - a mapping is trusted like code
            command, input=body, capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {SECONDS:.0f} s"
    except OSError as error:
        return f"it cannot be started: {error.strerror}"
    return f"it ended with exit code {ended.returncode}" if ended.returncode else None


def _post(variable: str, body: bytes) -> str | None:
    url = posting.url_of(variable)
    if url is None:
        return posting.no_url(variable)
    return posting.Posting(url, body, seconds=SECONDS).wait().failure
