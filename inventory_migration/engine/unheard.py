"""A COMMIT whose answer never arrived: whether it has happened is asked once the server is back.

What is done until then, and afterwards, is decided in `worker.py`.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa

from inventory_migration.engine.failures import Action, action_for, sqlstate
from inventory_migration.engine.ledger import SCHEMA

logger = logging.getLogger(__name__)

LOOK_UP_SECONDS = 60


def settle(connection: sa.Connection, migration_id: int, chunks: list[int]) -> None:
    """Look chunks up whose COMMIT was under way when the connection was lost, and log the answer.

    By a row lock: the process at the server that was to commit may still be at it, and to a plain
    look its chunks are pending until it has ended. Nothing is decided here: what has not happened
    is claimed like any pending chunk, and what is still held is passed over by every claim.
    """
    try:
        connection.execute(_PATIENTLY)
        found = connection.execute(_LOOK_UP, {"migration_id": migration_id, "chunks": chunks}).all()
    except sa.exc.DBAPIError as error:
        connection.rollback()
        if action_for(sqlstate(error)) not in {Action.RETRY, Action.SHRINK}:
            raise
        for chunk in chunks:
            _tell(migration_id, chunk, "is still under way at the server")
        return
    connection.rollback()
    for number, state in found:
        happened = state == "done"
        _tell(migration_id, number, "had happened" if happened else "had not happened")


def _tell(migration_id: int, chunk: int, what: str) -> None:
    logger.warning(
        "chunk %d: the COMMIT whose answer was lost %s",
        chunk,
        what,
        extra={"migration_id": migration_id, "chunk": chunk},
    )


_PATIENTLY = sa.text(f"SET LOCAL lock_timeout = '{LOOK_UP_SECONDS}s'")

_LOOK_UP = sa.text(f"""
    SELECT number, state FROM {SCHEMA}.chunk
    WHERE migration_id = :migration_id AND number = ANY(:chunks)
    ORDER BY number
    FOR SHARE
""")
