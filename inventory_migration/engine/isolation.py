"""Finding the record that the server refuses, so that the others can go.

A chunk whose write failed on a record's own fault is tried by halves under savepoints, all of which
are undone; then the chunk is written once more at top level without the bad records, so that every
record it writes carries the chunk's own transaction id. Which failures are a record's fault is
decided in `failures.py`.
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
    bad = _halve(connection, statements, chunk, first, last)
    if _refusal(connection, statements, chunk, first, last, bad) is not None:
        # Good on their own but not together, a unique pair for instance: the later ones lose.
        bad = _one_by_one(connection, statements, chunk, first, last, bad)
    statements.write(connection, [chunk], bad=bad)
    connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
    return bad


def _halve(
    connection: sa.Connection, statements: ChunkStatements, chunk: int, first: int, last: int
) -> list[Bad]:
    refusal = _refusal(connection, statements, chunk, first, last, [])
    if refusal is None:
        return []
    if first == last:
        return [refusal]
    middle = (first + last) // 2
    return [
        *_halve(connection, statements, chunk, first, middle),
        *_halve(connection, statements, chunk, middle + 1, last),
    ]


def _one_by_one(
    connection: sa.Connection,
    statements: ChunkStatements,
    chunk: int,
    first: int,
    last: int,
    known: list[Bad],
) -> list[Bad]:
    """Add record after record and keep those that are refused beside the ones before them."""
    bad = list(known)
    connection.execute(_SAVEPOINT)
    for position in range(first, last + 1):
        if any(record.position == position for record in known):
            continue
        refusal = _refusal(connection, statements, chunk, position, position, [], keep_if_good=True)
        if refusal is not None:
            bad.append(refusal)
    _forget(connection)
    return bad


def _refusal(
    connection: sa.Connection,
    statements: ChunkStatements,
    chunk: int,
    first: int,
    last: int,
    bad: list[Bad],
    *,
    keep_if_good: bool = False,
) -> Bad | None:
    """Why the server refuses a range of positions; None where it takes them."""
    connection.execute(_SAVEPOINT)
    try:
        swallowed = statements.write(connection, [chunk], bad=bad, first=first, last=last)
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
    if keep_if_good:
        connection.execute(_RELEASE)
    else:
        _forget(connection)
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
