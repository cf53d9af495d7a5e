"""Finding the records that the server refuses, so that the others can go.

A chunk whose write failed on a record's own fault is tried under savepoints, all of which are
undone: what the server takes stays written while the rest is tried, what it refuses is tried by
halves. So one bad record costs as many statements as the chunk can be halved, and of records that
are good alone but not together the later ones are found. Then the chunk is written once more at top
level without the bad records, so that every record it writes carries the chunk's own transaction
id. Which failures are a record's fault is decided in `failures.py`.
"""

from __future__ import annotations

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


def write_without_bad(
    connection: sa.Connection, statements: ChunkStatements, chunk: int
) -> list[Bad]:
    """Write a locked chunk without the records that the server refuses; returns those.

    Raises:
        sqlalchemy.exc.DBAPIError: It failed on something that is no record's fault.
    """
    first, last = connection.execute(
        sa.text(
            f"SELECT min(position), max(position) FROM {statements.migration.snapshot} "
            "WHERE chunk = :chunk"
        ),
        {"chunk": chunk},
    ).one()
    connection.execute(_SAVEPOINT)
    bad = _refused(connection, statements, chunk, first, last)
    _forget(connection)
    statements.write(connection, [chunk], bad=bad)
    connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
    return bad


def _refused(
    connection: sa.Connection, statements: ChunkStatements, chunk: int, first: int, last: int
) -> list[Bad]:
    """Write what the server takes of a range of positions; returns what it refuses."""
    refusal = _refusal(connection, statements, chunk, first, last)
    if refusal is None:
        return []
    if first == last:
        return [refusal]
    middle = (first + last) // 2
    return [
        *_refused(connection, statements, chunk, first, middle),
        *_refused(connection, statements, chunk, middle + 1, last),
    ]


def _refusal(
    connection: sa.Connection, statements: ChunkStatements, chunk: int, first: int, last: int
) -> Bad | None:
    """Why the server refuses a range of positions; None where it takes them and has them."""
    connection.execute(_SAVEPOINT)
    try:
        swallowed = statements.write(connection, [chunk], first=first, last=last)
        connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
    except sa.exc.DBAPIError as error:
        state = sqlstate(error)
        if action_for(state) is not Action.ISOLATE:
            # Nothing more is said here: a connection that is lost would answer with another error.
            raise
        _forget(connection)
        return Bad(first, "refused_by_server", message(error), state, constraint(error))
    if swallowed:
        _forget(connection)
        return Bad(
            swallowed[0],
            "write_suppressed",
            "a trigger or rule of the application swallowed the write",
            SUPPRESSED,
        )
    connection.execute(_RELEASE)
    return None


def _forget(connection: sa.Connection) -> None:
    """Undo to the savepoint and leave it.

    Rolling back alone stays inside a subtransaction, whose id the rows written next would carry
    in place of the chunk's.
    """
    connection.execute(_BACK)
    connection.execute(_RELEASE)


_SAVEPOINT = sa.text("SAVEPOINT im_probe")
_BACK = sa.text("ROLLBACK TO SAVEPOINT im_probe")
_RELEASE = sa.text("RELEASE SAVEPOINT im_probe")
