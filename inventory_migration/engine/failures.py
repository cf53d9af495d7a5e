"""Which SQLSTATE leads to which action: one table, used by every loop that writes.

What an action does is written where it is taken, in `worker.py` and `isolation.py`.
"""

from __future__ import annotations

import enum

import psycopg
import sqlalchemy as sa


class Action(enum.Enum):
    """What to do after a statement failed."""

    RETRY = "retry"
    SHRINK = "shrink"
    RECONNECT = "reconnect"
    ISOLATE = "isolate"
    HOLD = "hold"
    STOP = "stop"


SUPPRESSED = "IM003"
"""Our own state for a write that a trigger of the application swallowed without an error."""

_BY_STATE = {
    "40001": Action.RETRY,  # serialization failure
    "40P01": Action.RETRY,  # deadlock
    "55P03": Action.RETRY,  # lock not available
    "57014": Action.SHRINK,  # statement timeout or cancel
    "P0001": Action.ISOLATE,  # RAISE EXCEPTION in a trigger of the application
    "44000": Action.ISOLATE,  # WITH CHECK OPTION
    SUPPRESSED: Action.ISOLATE,
}

_BY_CLASS = {
    "08": Action.RECONNECT,
    "57": Action.RECONNECT,  # shutdown, crash, terminated by an administrator
    "22": Action.ISOLATE,
    "23": Action.ISOLATE,
    "53": Action.HOLD,  # disk, memory, connections: nobody's bad row
    "58": Action.HOLD,
}


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of an error; a lost connection has none and counts as 08006."""
    original = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    if isinstance(original, psycopg.Error):
        if original.sqlstate:
            return original.sqlstate
        if isinstance(original, psycopg.OperationalError | psycopg.InterfaceError):
            return "08006"
    return None


def action_for(state: str | None) -> Action:
    """The action for a SQLSTATE; one that nobody foresaw stops the migration."""
    if state is None:
        return Action.STOP
    return _BY_STATE.get(state) or _BY_CLASS.get(state[:2], Action.STOP)


def message(error: BaseException) -> str:
    """The server's own words, with the constraint where one refused, and no statement text."""
    original = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    if isinstance(original, psycopg.Error) and original.diag.message_primary:
        constraint = original.diag.constraint_name
        named = f" (constraint {constraint})" if constraint else ""
        return f"{original.diag.message_primary}{named}"
    return str(original).strip().partition("\n")[0] or type(error).__name__
