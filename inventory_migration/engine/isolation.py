"""Finding the records that the server refuses, so that the others can go, or go back.

A chunk that failed on a record's own fault is tried under savepoints, all of which are undone: what
the server takes stays written while the rest is tried, what it refuses is tried by halves. So one
bad record costs as many statements as the chunk can be halved, and of records that are good alone
but not together the later ones are found. Whoever asks then does its work once more at top level
without the bad records, so that every record it writes carries the chunk's own transaction id.
Which failures are a record's fault is decided in `failures.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from inventory_migration.engine.chunk import Bad, ChunkStatements
from inventory_migration.engine.failures import (
    SUPPRESSED,
    Action,
    action_for,
    constraint,
    message,
    sqlstate,
)
from inventory_migration.engine.ledger import Migration

Attempt = Callable[[int, int], list[int]]
"""Tries the positions from first to last; returns those that were swallowed without an error."""


def write_without_bad(
    connection: sa.Connection, statements: ChunkStatements, chunk: int
) -> list[Bad]:
    """Write a locked chunk without the records that the server refuses; returns those.

    Raises:
        sqlalchemy.exc.DBAPIError: It failed on something that is no record's fault.
    """

    def attempt(first: int, last: int) -> list[int]:
        swallowed = statements.write(connection, [chunk], first=first, last=last)
        connection.execute(_CONSTRAINTS)
        return swallowed

    why = "a trigger or rule of the application swallowed the write"
    bad = refused(connection, statements.migration, chunk, attempt, swallowed=why)
    statements.write(connection, [chunk], bad=bad)
    connection.execute(_CONSTRAINTS)
    return bad


def refused(
    connection: sa.Connection,
    migration: Migration,
    chunk: int,
    attempt: Attempt,
    *,
    swallowed: str,
) -> list[Bad]:
    """The records of a locked chunk that the server refuses; all that was tried is undone.

    Args:
        connection: The transaction that holds the locks.
        migration: The migration.
        chunk: The chunk's number.
        attempt: What is tried, with constraints immediate.
        swallowed: What is said of a record whose write was swallowed.

    Raises:
        sqlalchemy.exc.DBAPIError: It failed on something that is no record's fault.
    """
    first, last = connection.execute(
        sa.text(f"SELECT min(position), max(position) FROM {migration.snapshot} WHERE chunk = :n"),
        {"n": chunk},
    ).one()
    connection.execute(_SAVEPOINT)
    bad = _halve(connection, attempt, first, last, swallowed)
    _forget(connection)
    return bad


def _halve(
    connection: sa.Connection, attempt: Attempt, first: int, last: int, swallowed: str
) -> list[Bad]:
    """Try a range of positions and leave written what the server takes; returns the others."""
    refusal = _refusal(connection, attempt, first, last, swallowed)
    if refusal is None:
        return []
    if first == last:
        return [refusal]
    middle = (first + last) // 2
    return [
        *_halve(connection, attempt, first, middle, swallowed),
        *_halve(connection, attempt, middle + 1, last, swallowed),
    ]


def _refusal(
    connection: sa.Connection, attempt: Attempt, first: int, last: int, swallowed: str
) -> Bad | None:
    """Why the server refuses a range of positions; None where it takes them and has them."""
    connection.execute(_SAVEPOINT)
    try:
        positions = attempt(first, last)
    except sa.exc.DBAPIError as error:
        state = sqlstate(error)
        if action_for(state) is not Action.ISOLATE:
            # Nothing more is said here: a connection that is lost would answer with another error.
            raise
        _forget(connection)
        return Bad(first, "refused_by_server", message(error), state, constraint(error))
    if positions:
        _forget(connection)
        return Bad(positions[0], "write_suppressed", swallowed, SUPPRESSED)
    connection.execute(_RELEASE)
    return None


def _forget(connection: sa.Connection) -> None:
    """Undo to the savepoint and leave it.

    Rolling back alone stays inside a subtransaction, whose id the rows written next would carry
    in place of the chunk's.
    """
    connection.execute(_BACK)
    connection.execute(_RELEASE)


_CONSTRAINTS = sa.text("SET CONSTRAINTS ALL IMMEDIATE")
_SAVEPOINT = sa.text("SAVEPOINT im_probe")
_BACK = sa.text("ROLLBACK TO SAVEPOINT im_probe")
_RELEASE = sa.text("RELEASE SAVEPOINT im_probe")
