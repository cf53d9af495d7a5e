"""Settings of transactions that read whole tables, once: how much room, how many processes.

What is read does not belong here, nor what a chunk's transaction may wait for.
"""

from __future__ import annotations

import sqlalchemy as sa

FENCE = "OFFSET '0'"
"""Ends a subquery that the planner must not merge with what is around it.

As text it is a constant from the first. OFFSET 0 is one only after it has been decided which parts
of a query several processes may do, which what has a limit is none of.
"""


def with_room(connection: sa.Connection) -> None:
    """Let this transaction sort in memory, and read with more than one process where it may.

    The planner does not know how dear it is to convert and hash a record. Nor does it know, before
    the next vacuum, that whoever reads an index alone has to look up each row that was just written
    in its table, which takes many times what reading the table takes.
    """
    connection.execute(_WITH_ROOM)


_WITH_ROOM = sa.text("""
    SELECT set_config('work_mem', (GREATEST(64 * 1024 * 1024,
                      pg_size_bytes(current_setting('work_mem'))) / 1024)::text, true),
           set_config('parallel_setup_cost', '100', true),
           set_config('parallel_tuple_cost', '0.001', true),
           set_config('enable_indexonlyscan', 'off', true)
""")
