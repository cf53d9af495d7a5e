"""Ending a migration for good without taking it back: the last word on what is left undone.

What was moved stays, and can still be rolled back. Taking it back belongs in `rollback.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from inventory_migration.database import escaped, quoted
from inventory_migration.engine import control, ledger, schema_change
from inventory_migration.engine.ledger import SCHEMA, Migration


def abortable(connection: sa.Connection, mapping: str) -> Migration | None:
    """The migration that an abort would end; None where none is active."""
    if not ledger.installed(connection):
        return None
    return ledger.find(connection, mapping=mapping, states=ledger.ACTIVE)


def abort(
    engine: sa.Engine,
    migration: Migration,
    *,
    reason: str,
    seconds: float = control.BARRIER_SECONDS,
    force: bool = False,
    tell: Callable[[str], None] | None = None,
) -> None:
    """End a migration: when this returns, nothing of it commits any more, and its triggers are off.

    Args:
        engine: Where to connect.
        migration: Which one.
        reason: Why, for the trail.
        seconds: How long to wait for transactions under way.
        force: Cancel them, and end their sessions where that does not help.
        tell: Told every few seconds who is waited for.

    Raises:
        StillBusy: Somebody's transaction did not end in time; nothing new begins all the same.
        LockNotObtained: The application held the table too long for its triggers to go.
    """
    number = migration.migration_id
    with engine.begin() as connection:
        control.desire(connection, number, "abort", reason=reason)
    with control.barrier(engine, number, seconds=seconds, force=force, tell=tell):
        pass
    schema_change.execute_briefly(
        engine,
        [escaped(statement) for statement in triggers_off(migration.mapping)],
        what=f"take the triggers of {migration.mapping} off",
    )
    with control.exclusive(engine, number, wanted="abort") as connection:
        control.durably(connection)
        ledger.set_state(connection, number, "aborted", reason=reason)


def triggers_off(mapping: str) -> list[str]:
    """The statements that take off whatever triggers a mapping's migration has put on.

    What the trigger has noted of its levels stays, for a rollback to tell them from others.
    """
    return [
        f"DROP FUNCTION IF EXISTS {quoted(SCHEMA, f'{kind}_{mapping}')} CASCADE"
        for kind in ("sync", "guard")
    ]
