"""What is asked of a migration under way: to pause, or to end for good.

Neither needs the mapping's file, and both answer at once: nothing slow is imported for them. Going
on again is a start like any other, see `verbs.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from inventory_migration import project
from inventory_migration.engine import control, ledger, summary
from inventory_migration.errors import StartRefused
from inventory_migration.plain import PlainEngine, PlainTarget

if TYPE_CHECKING:
    import sqlalchemy as sa

    from inventory_migration.verbs import Target


def pause(
    target: Target | PlainTarget,
    mapping: str,
    *,
    migration_id: int | None = None,
    reason: str = "asked to",
    force: bool = False,
    seconds: float = control.BARRIER_SECONDS,
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Pause a mapping's migration; when this returns, nothing commits until it is resumed.

    Where none is under way there is nothing to do.

    Args:
        target: The database.
        mapping: The mapping's name.
        migration_id: Only this migration; where another one is under way by now, nothing is done.
        reason: Why, for the trail.
        force: Cancel what is under way, and end its sessions where that does not help.
        seconds: How long to wait for it.
        tell: Told who is waited for.

    Raises:
        StartRefused: It is being rolled back, which is not to be left half done.
        StillBusy: Somebody's transaction did not end in time; nothing new begins all the same.
    """
    ledger.bring_up_to_date(target.engine)
    with target.reader.connect() as connection:
        found = _meant(ledger.current(connection, mapping), migration_id)
    _refuse_rolling_back(found, "cannot be paused")
    under_way = found is not None and found.state in control.UNDER_WAY
    if found is not None and under_way:
        with _told(target.engine):
            control.pause(
                target.engine,
                found.migration_id,
                reason=reason,
                force=force,
                seconds=seconds,
                tell=tell,
            )
    with target.reader.connect() as connection:
        now = ledger.current(connection, mapping)
        # It may have ended meanwhile.
        changed = under_way and now is not None and now.state == "paused"
        return summary.summarize(connection, now, mapping=mapping, changed=changed)


def abort(
    target: Target,
    mapping: str,
    *,
    migration_id: int | None = None,
    reason: str = "asked to",
    force: bool = False,
    seconds: float = control.BARRIER_SECONDS,
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """End a mapping's migration for good, and leave what it moved where it is.

    Triggers of ours go; a rollback still takes back what was moved, and only an explicit run begins
    another migration. Where none is active there is nothing to do.

    Args:
        target: The database.
        mapping: The mapping's name.
        migration_id: Only this migration; where another one is under way by now, nothing is done.
        reason: Why, for the trail.
        force: Cancel what is under way, and end its sessions where that does not help.
        seconds: How long to wait for it.
        tell: Told who is waited for.

    Raises:
        StartRefused: It is being rolled back, which is not to be left half done.
        StillBusy: Somebody's transaction did not end in time; nothing new begins all the same.
        LockNotObtained: The application held the table too long for its triggers to go.
    """
    from inventory_migration.engine import ending

    ledger.bring_up_to_date(target.engine)
    with target.reader.connect() as connection:
        found = _meant(ending.abortable(connection, mapping), migration_id)
    _refuse_rolling_back(found, "cannot be aborted")
    if found is not None:
        with _told(target.engine):
            ending.abort(
                target.engine, found, reason=reason, force=force, seconds=seconds, tell=tell
            )
    with target.reader.connect() as connection:
        last = ledger.find(connection, mapping=mapping) if ledger.installed(connection) else None
        return summary.summarize(connection, last, mapping=mapping, changed=found is not None)


@contextmanager
def _told(engine: sa.Engine | PlainEngine) -> Iterator[None]:
    """Tell people of what happens meanwhile; where there is nobody, without what telling needs."""
    if isinstance(engine, PlainEngine):
        if not _anybody(engine):
            yield
            return
        engine = engine.with_sqlalchemy()
    from inventory_migration.notifications import delivering

    with delivering(engine):
        yield


def _anybody(engine: PlainEngine) -> bool:
    """Whether this process knows how to reach anybody who is to be told."""
    with engine.connect() as connection:
        variables = {*project.NOTIFIED_EVERYWHERE, *ledger.channel_variables(connection)}
    return any(os.environ.get(variable) for variable in variables)


def _meant(found: ledger.Migration | None, migration_id: int | None) -> ledger.Migration | None:
    return found if found and migration_id in {None, found.migration_id} else None


def _refuse_rolling_back(found: ledger.Migration | None, why: str) -> None:
    if found is not None and found.state == "rolling_back":
        raise StartRefused(
            mapping=found.mapping,
            migration_id=found.migration_id,
            why=f"is being rolled back and {why}",
            command=f"rollback {found.mapping}",
        )
