"""How many workers move chunks where nobody says so: as many as the server has cores for.

PostgreSQL tells nobody its cores. A server on this machine has the ones of this machine; of any
other only its number of connections is known. What workers do is in `worker.py`.
"""

from __future__ import annotations

import os

import sqlalchemy as sa

from inventory_migration.engine.measures import is_local

FEWEST = 2
"""One waits for its COMMIT while the other works, also on one core."""

MOST = 8
MOST_ELSEWHERE = 4
CONNECTIONS_SHARE = 10
"""At most one connection in so many that the server grants."""


def usual_workers(engine: sa.Engine) -> int:
    """How many workers a migration of this database has, unless somebody says a number."""
    with engine.connect() as connection:
        backend, connections = connection.execute(
            sa.text("SELECT pg_backend_pid(), current_setting('max_connections')::int")
        ).one()
        here = is_local(connection, backend)
    return fitting_workers(_cores() if here else None, connections)


def fitting_workers(cores: int | None, connections: int) -> int:
    """How many workers fit a server of so many cores, None where they are not known."""
    wanted = min(max(cores, FEWEST), MOST) if cores is not None else MOST_ELSEWHERE
    return max(1, min(wanted, connections // CONNECTIONS_SHARE))


def _cores() -> int:
    """The cores that this process may use, which is less than the machine's in a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or FEWEST
