"""Which SQLSTATE leads to which action: one table, used by every loop that writes.

What an action does is written where it is taken, in `worker.py` and `isolation.py`;
`docs/reliability.md` has the same table for operators.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import psycopg

from inventory_migration.database import original


class Action(enum.Enum):
    """What to do after a statement failed."""

    RETRY = "retry"
    SHRINK = "shrink"
    RECONNECT = "reconnect"
    ISOLATE = "isolate"
    HOLD = "hold"
    STOP = "stop"


@dataclass(frozen=True)
class Failure:
    """A line of the table.

    Attributes:
        state: A SQLSTATE, or the two characters of its class.
        condition: What happened, as the documentation says it.
        action: What is done.
    """

    state: str
    condition: str
    action: Action


SUPPRESSED = "IM003"
"""Our own state for a write that a trigger of the application swallowed without an error."""

FAILURES = (
    Failure("40001", "serialization failure", Action.RETRY),
    Failure("40P01", "deadlock", Action.RETRY),
    Failure("55P03", "lock not available in time", Action.RETRY),
    Failure("57014", "statement timeout, or a cancel", Action.SHRINK),
    Failure("08", "connection lost", Action.RECONNECT),
    Failure("57", "shutdown, crash, or ended by an administrator", Action.RECONNECT),
    Failure("25P03", "idle in transaction for too long", Action.RECONNECT),
    Failure("25P04", "transaction timeout", Action.RECONNECT),
    Failure("22", "data exception", Action.ISOLATE),
    Failure("23", "integrity constraint", Action.ISOLATE),
    Failure("P0001", "RAISE EXCEPTION in a trigger of the application", Action.ISOLATE),
    Failure("44000", "WITH CHECK OPTION of a view", Action.ISOLATE),
    Failure(SUPPRESSED, "a trigger or rule swallowed the write", Action.ISOLATE),
    Failure("53", "disk, memory or connections used up", Action.HOLD),
    Failure("58", "system error outside PostgreSQL", Action.HOLD),
)
"""A whole SQLSTATE goes before its class; what is not listed stops the migration."""

_ACTIONS = {failure.state: failure.action for failure in FAILURES}


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of an error; a lost connection has none and counts as 08006."""
    cause = original(error)
    if isinstance(cause, psycopg.Error):
        if cause.sqlstate:
            return cause.sqlstate
        if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
            return "08006"
    return None


def action_for(state: str | None) -> Action:
    """The action for a SQLSTATE; one that nobody foresaw stops the migration."""
    if state is None:
        return Action.STOP
    return _ACTIONS.get(state) or _ACTIONS.get(state[:2], Action.STOP)


def passes(error: BaseException) -> bool:
    """Whether the same may go well in a moment: the server has answered, and undone it."""
    return action_for(sqlstate(error)) in {Action.RETRY, Action.SHRINK}


def lets_nobody_through(error: BaseException) -> bool:
    """Whether it is the server, and no record or statement, that stands in the way for longer."""
    return action_for(sqlstate(error)) not in {Action.ISOLATE, Action.STOP}


def constraint(error: BaseException) -> str | None:
    """The constraint that refused, where one did."""
    cause = original(error)
    return cause.diag.constraint_name if isinstance(cause, psycopg.Error) else None


def message(error: BaseException) -> str:
    """The server's own words, with the constraint where one refused, and no statement text."""
    cause = original(error)
    if isinstance(cause, psycopg.Error) and cause.diag.message_primary:
        constraint = cause.diag.constraint_name
        named = f" (constraint {constraint})" if constraint else ""
        return f"{cause.diag.message_primary}{named}"
    return str(cause).strip().partition("\n")[0] or type(error).__name__
