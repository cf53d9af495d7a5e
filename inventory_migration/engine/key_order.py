"""The seals of live rows, read in the order of their keys: for records that were just compared.

Where the live records are those of a snapshot and no others, the place of each is its place in the
order of keys. So none has to be put beside its row of the snapshot, nor all of them be sorted: each
block is a range of an index, and several connections that see one moment read some each. Whether
the records are the same is for the caller to know; where they lie so that an index is no way to
read them all, or they are told otherwise, `evidence.live_now` reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import INTEGERS, TEXTS, ResolvedMapping
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import columns, control, evidence, holdings, staffing, untouched
from inventory_migration.engine.blocks import ROW_BYTES, Beside, Block, Rows
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.scans import FENCE
from inventory_migration.engine.shapes import shape_of

FEWEST_BLOCKS = 50
"""Of how many blocks there must be to be worth further connections."""

FEWEST_ON_PAGE = 4
"""Of how many records of a block one page has to hold, lest the index visits most pages often."""

LOOKED_AT = 10
"""At how many blocks that is seen."""

_SPELLED = INTEGERS | TEXTS | {
    *("uuid", "numeric", "date", "timestamp without time zone", "timestamp with time zone")
}  # fmt: skip
"""Types of keys that are the same once they were a text."""


@dataclass(frozen=True)
class Moment:
    """What a connection sees, for others to see as well.

    Attributes:
        reader: Where they connect; an engine that cannot write.
        snapshot: What the connection has exported.
    """

    reader: sa.Engine
    snapshot: str


def moment_of(connection: sa.Connection, reader: sa.Engine) -> Moment:
    """The moment that a transaction sees, which has not done anything yet."""
    exported = connection.execute(sa.text("SELECT pg_export_snapshot()")).scalar_one()
    return Moment(reader, exported)


def live_now(
    connection: sa.Connection,
    moment: Moment,
    resolved: ResolvedMapping,
    migration: Migration,
    sealed: Sequence[Block],
    *,
    each_row: bool = True,
) -> list[Block] | None:
    """What `evidence.live_now` returns, where live rows are those of a snapshot; None where not.

    Args:
        connection: A connection that sees one moment, at which nobody has written since all records
            of the snapshot were compared with all live ones; only read from.
        moment: The same.
        resolved: The mapping and its types.
        migration: Whose records.
        sealed: The blocks.
        each_row: Whether to keep something of each row.
    """
    if not _is_possible(connection, resolved, migration, sealed):
        return None
    query = _query(resolved, each_row=each_row)
    edges = _edges(connection, resolved, migration, sealed)
    with ThreadPoolExecutor(staffing.MOST) as pool, _seeing(moment) as beside:
        if not beside or edges is None:
            return None
        parts = _parts(edges, len(sealed), len(beside))
        if not _is_looked_up(beside[0], resolved, query, parts[0]):
            return None
        some = slice(0, None, -(-len(sealed) // LOOKED_AT))
        if not _is_orderly(beside[0], resolved, _at(edges, some)):
            return None
        connection.execute(_WAITING)
        read = [pool.submit(_read, *one, query) for one in zip(beside, parts, strict=False)]
        found = [block for part in read for block in part.result()]
    # Of as many records as it has places, each is at its own.
    sizes = [block.last - block.first + 1 for block in sealed]
    if [records for _, records in found] != sizes:
        return None
    return [block for block, _ in found]


def _is_possible(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    sealed: Sequence[Block],
) -> bool:
    if len(sealed) < FEWEST_BLOCKS or not shape_of(resolved).in_place:
        return False
    if not all(column.base_type in _SPELLED for column in resolved.key_columns):
        return False
    # Positions are in key order within a phase.
    if not untouched.has_one_phase(connection, migration):
        return False
    ends = [0, *(block.last for block in sealed)]
    return all(block.first == end + 1 for block, end in zip(sealed, ends, strict=False))


def _edges(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    sealed: Sequence[Block],
) -> dict[str, list[Any]] | None:
    """Of all blocks where they lie, and their first keys and their last ones, as texts.

    Columns, and not a row for each block: there are thousands of them. None where a block has lost
    its first record or its last one.
    """
    keys = columns.keys(resolved)
    texts = ", ".join(f"p.{key}::text AS {key}" for key in keys)
    firsts, lasts = [block.first for block in sealed], [block.last for block in sealed]
    query = (
        f"SELECT p.position, {texts} FROM {migration.snapshot} AS p "
        "WHERE p.position = ANY(CAST(:firsts AS bigint[])) "
        "OR p.position = ANY(CAST(:lasts AS bigint[])) ORDER BY p.position"
    )
    with evidence.plainly_spelled(connection):
        rows = evidence.streamed(connection, query, {"firsts": firsts, "lasts": lasts})
        found: dict[str, list[Any]] = {"first": firsts, "last": lasts}
        low, high = ([found.setdefault(f"{end}_{key}", []) for key in keys] for end in _ENDS)
        first, last = set(firsts), set(lasts)
        for position, *values in rows:
            for column, value in zip(low, values, strict=True) if position in first else ():
                column.append(value)
            for column, value in zip(high, values, strict=True) if position in last else ():
                column.append(value)
    return found if all(len(column) == len(sealed) for column in found.values()) else None


def _parts(edges: dict[str, list[Any]], blocks: int, parts: int) -> list[dict[str, list[Any]]]:
    """Blocks that follow each other, as many for each connection."""
    size = -(-blocks // parts)
    return [_at(edges, slice(start, start + size)) for start in range(0, blocks, size)]


def _at(edges: dict[str, list[Any]], some: slice) -> dict[str, list[Any]]:
    return {name: column[some] for name, column in edges.items()}


def _query(resolved: ResolvedMapping, *, each_row: bool) -> str:
    live, row = evidence.live_row(resolved)
    keys = [f"l.{name}" for name in columns.keys(resolved)]
    order = ", ".join(f"h.{name}" for name in columns.keys(resolved))
    rows = f"string_agg(substr(h.hash, 1, {ROW_BYTES}), ''::bytea ORDER BY {order})"
    return f"""
        SELECT b.first, b.last, im_b.records, im_b.sha256, im_b.rows
        FROM {_blocks(resolved)}
        CROSS JOIN LATERAL (
            SELECT count(*) AS records,
                   encode(sha256(string_agg(h.hash, ''::bytea ORDER BY {order})), 'hex') AS sha256,
                   {rows if each_row else "''::bytea"} AS rows
            FROM (SELECT {", ".join(keys)}, {evidence.hash_of(row)} AS hash
                  FROM ({escaped(live)}) AS l WHERE {_within(resolved, keys)} {FENCE}) AS h
        ) AS im_b"""


def _blocks(resolved: ResolvedMapping) -> str:
    """The relation `b` of blocks, from columns as `_edges` has them."""
    ends = [f"{end}_{key}" for end in _ENDS for key in columns.keys(resolved)]
    kinds = {"first": "bigint", "last": "bigint", **dict.fromkeys(ends, "text")}
    arrays = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in kinds.items())
    return f"unnest({arrays}) AS b({', '.join(kinds)})"


def _within(resolved: ResolvedMapping, keys: Sequence[str]) -> str:
    """The condition that a key lies in a block `b`."""
    named = [*zip(columns.keys(resolved), resolved.key_columns, strict=True)]
    low, high = (
        ", ".join(f"CAST(b.{end}_{name} AS {column.type})" for name, column in named)
        for end in _ENDS
    )
    key = ", ".join(keys)
    return f"ROW({key}) >= ROW({low}) AND ROW({key}) <= ROW({high})"


@contextmanager
def _seeing(moment: Moment) -> Iterator[list[sa.Connection]]:
    """Further connections that see a moment: as many as the server has cores for, and grants."""
    with ExitStack() as stack:
        found: list[sa.Connection] = []
        try:
            for _ in range(staffing.usual_workers(moment.reader)):
                opened = moment.reader.connect().execution_options(
                    isolation_level="REPEATABLE READ"
                )
                found.append(stack.enter_context(opened))
                found[-1].execute(sa.text(f"SET TRANSACTION SNAPSHOT '{moment.snapshot}'"))
        except sa.exc.DBAPIError:
            # None is left, or it is one to another of several servers.
            found = []
        for connection in found:
            stack.enter_context(control.cancelled_on_interrupt(connection))
            connection.execute(_SETTINGS)
            holdings.spell_plainly(connection)
        yield found


def _is_looked_up(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    query: str,
    part: dict[str, list[Any]],
) -> bool:
    """Whether an index is what a block's rows are found by."""
    explained = connection.execute(sa.text(f"EXPLAIN (FORMAT JSON) {query}"), part)

    def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield node
        for below in node.get("Plans", ()):
            yield from nodes(below)

    found = [*nodes(explained.scalar_one()[0]["Plan"])]
    read = [node for node in found if node.get("Relation Name") == resolved.source.name]
    return bool(read) and all("Index Cond" in n or "Recheck Cond" in n for n in read)


def _is_orderly(
    connection: sa.Connection, resolved: ResolvedMapping, some: dict[str, list[Any]]
) -> bool:
    """Whether the rows of a block lie together, as some blocks show."""
    keys = [f"s.{quoted(column.name)}" for column in resolved.key_columns]
    found = connection.execute(
        sa.text(f"""
            SELECT count(*) AS records, count(DISTINCT (s.ctid::text::point)[0]) AS pages
            FROM {_blocks(resolved)}
            JOIN {escaped(resolved.source.sql)} AS s ON {escaped(_within(resolved, keys))}
            GROUP BY b.first"""),
        some,
    ).all()
    records, pages = (sum(int(row[place]) for row in found) for place in (0, 1))
    return records >= FEWEST_ON_PAGE * pages


def _read(
    connection: sa.Connection, part: dict[str, list[Any]], query: str
) -> list[tuple[Block, int]]:
    """The blocks of a part, and how many records each has."""
    beside, found = Beside(), []
    for row in evidence.streamed(connection, query, part):
        rows = Rows(bytes(row.rows or b""))
        records = len(rows.hashes) // ROW_BYTES
        read = beside.put(rows) if records else Rows
        block = Block(row.first, row.last, row.sha256 or "", records, read)
        found.append((block, row.records))
    return found


_ENDS = ("low", "high")

# While others read for it, whoever has exported a moment has nothing to do.
_WAITING = sa.text("SELECT set_config('idle_in_transaction_session_timeout', '0', true)")

# An index is asked for a block at a time, which the planner does not know is all there is.
_SETTINGS = sa.text("""
    SELECT set_config('row_security', 'off', true), set_config('statement_timeout', '0', true),
           set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)
""")
