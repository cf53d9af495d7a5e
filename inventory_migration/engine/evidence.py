"""Hashes of rows, kept in the ledger: of each snapshot as it is written, of live rows by a report.

Rows are sealed in blocks, in order of their positions: a block has one SHA-256, over those of its
rows, and the first bytes of each of these, by which it can be said which row is another one by now.
Chunks change with what is reopened; positions do not. What a
report says of this, and what it seals of itself, is in `report/seal.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import psycopg
import sqlalchemy as sa
from psycopg.rows import namedtuple_row

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import canonical, columns, holdings, ledger
from inventory_migration.engine.blocks import ROW_BYTES, Beside, Block, Kept, Rows
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.shapes import shape_of

MOST_LIVE_ROWS = 5_000_000
"""Of more records than this, a report seals only blocks, and not each row of them."""

BLOCK_ROWS = 1000
"""The size of a block, also where a snapshot of an older version was never sealed."""

# What a migration itself writes into its snapshot later: where a record waits, and with whom. And
# which version of a row was planned, which a snapshot of an older version of the tool does not say.
_CHANGING = "'^(chunk|phase|row_version|shared_with|shared_key|record_[0-9]+)$'"

Kind = Literal["snapshot", "live"]


def seal_snapshot(connection: sa.Connection, migration: Migration) -> None:
    """Seal the rows of a snapshot that are not sealed yet, in the transaction that wrote them."""
    # Asked first: of a number the planner knows how many rows lie behind it.
    sealed = connection.execute(
        sa.text(f"""
            SELECT COALESCE(max(last_position), 0) FROM {SCHEMA}.sealed_rows
            WHERE migration_id = :migration_id AND kind = 'snapshot'
        """),
        {"migration_id": migration.migration_id},
    ).scalar_one()
    rows = f"""
        SELECT (p.position - 1) / {BLOCK_ROWS} AS block, p.position,
               ROW({_sealed_columns(connection, migration)}) AS row
        FROM {migration.snapshot} AS p WHERE p.position > {int(sealed)}"""
    made = quoted(SCHEMA, f"sealing_{migration.migration_id}")
    with plainly_spelled(connection):
        # By itself first: the server reads with more than one process only for a new table.
        connection.execute(sa.text(f"CREATE TABLE {made} AS {_hashed(rows)}"))
    connection.execute(
        sa.text(f"""
            INSERT INTO {SCHEMA}.sealed_rows
                (migration_id, kind, first_position, last_position, sha256, rows, who)
            SELECT :migration_id, 'snapshot', first_position, last_position, sha256, rows,
                   {ledger.WHO}
            FROM {made} ORDER BY first_position
        """),
        {"migration_id": migration.migration_id},
    )
    connection.execute(sa.text(f"DROP TABLE {made}"))


def sealed_snapshot(connection: sa.Connection, migration: Migration) -> Sequence[Block]:
    """The seals of a snapshot, in order; none where an older version has written it.

    Of blocks that the ledger keeps, rows are read by the connection that they were read by.
    """
    return _kept(connection, migration, "snapshot")


def snapshot_now(
    connection: sa.Connection, migration: Migration, sealed: Sequence[Block]
) -> list[Block]:
    """The blocks of a snapshot as it is, as they were sealed."""
    rows = f"""
        SELECT width_bucket(p.position, CAST(:firsts AS bigint[])) AS block, p.position,
               ROW({_sealed_columns(connection, migration)}) AS row
        FROM {migration.snapshot} AS p"""
    return _blocks(connection, _hashed(rows), sealed)


def live_now(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    sealed: Sequence[Block],
    *,
    each_row: bool = True,
) -> list[Block]:
    """The blocks of the live rows of a snapshot's records: what a mapping reads and writes of them.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        migration: Whose records.
        sealed: The blocks.
        each_row: Whether to keep something of each row.
    """
    live, row = live_row(resolved)
    rows = f"""
        SELECT width_bucket(p.position, CAST(:firsts AS bigint[])) AS block, p.position,
               {row} AS row
        FROM {migration.snapshot} AS p
        LEFT JOIN ({escaped(live)}) AS l ON {columns.same_key(resolved, "l", "p")}"""
    return _blocks(connection, _hashed(rows, each_row=each_row), sealed)


def live_row(resolved: ResolvedMapping) -> tuple[str, str]:
    """The SELECT of live rows `l`, and what is sealed of one, as a row."""
    shape = shape_of(resolved)
    live = canonical.source_rows(resolved, extra=shape.as_targets(), hashed=False)
    said = [
        *("company_key", "item_key", "quantity", "reserved", "location_key"),
        *("held_quantity", "held_reserved", "target_rows"),
        *columns.targets(resolved, "target"),
    ]
    return live, f"ROW(l.key_1 IS NOT NULL, {', '.join(f'l.{name}' for name in said)})"


def hash_of(row: str) -> str:
    """The hash of a row, as it is sealed."""
    return f"sha256(convert_to({row}::text, 'UTF8'))"


def blocks_of(connection: sa.Connection, migration: Migration) -> Sequence[Block]:
    """The blocks that a migration's records are looked at in, by its seals or without any."""
    sealed = sealed_snapshot(connection, migration)
    if sealed:
        return sealed
    count = sa.text(f"SELECT COALESCE(max(position), 0) FROM {migration.snapshot}")
    last = connection.execute(count).scalar_one()
    return [
        Block(first, min(first + BLOCK_ROWS - 1, last), "")
        for first in range(1, last + 1, BLOCK_ROWS)
    ]


def keep_live(connection: sa.Connection, migration: Migration, blocks: Sequence[Block]) -> None:
    """Keep the seals of live rows; what an earlier report has sealed alike is there already."""
    who = ledger.who(connection)
    statement = sa.dialects.postgresql.insert(ledger.sealed_rows).on_conflict_do_nothing()
    for start in range(0, len(blocks), _AT_ONCE):
        connection.execute(
            statement,
            [
                {
                    "migration_id": migration.migration_id,
                    "kind": "live",
                    "first_position": block.first,
                    "last_position": block.last,
                    "sha256": block.sha256,
                    "rows": block.read().hashes or None,
                    "who": who,
                }
                for block in blocks[start : start + _AT_ONCE]
            ],
        )


def sealed_live(
    connection: sa.Connection, migration: Migration, wanted: Sequence[tuple[int, str]]
) -> list[Block]:
    """The seals of live rows that a report names: by first position and hash."""
    of_report = dict(wanted)
    kept = _kept(connection, migration, "live")
    return [block for block in kept if of_report.get(block.first) == block.sha256]


def named(
    connection: sa.Connection, migration: Migration, ranges: Sequence[tuple[int, int]]
) -> list[dict[str, Any]]:
    """The records at positions: position, chunk, key.

    A block of which no more is known has no key, and `through`, its last position.

    Args:
        connection: A connection; only read from.
        migration: Whose snapshot; the key is None where it has no row there any more.
        ranges: As `differing` returns them.
    """
    keys = connection.execute(
        sa.text("""
            SELECT count(*) FROM pg_attribute
            WHERE attrelid = to_regclass(:snapshot) AND attname ~ '^key_[0-9]+$'
        """),
        {"snapshot": migration.snapshot},
    ).scalar_one()
    parts = ", ".join(f"p.key_{number}::text" for number in range(1, keys + 1))
    rows = connection.execute(
        sa.text(
            f"SELECT w.position, min(p.chunk) AS chunk, min(concat_ws(', ', {parts})) AS key "
            "FROM unnest(CAST(:positions AS bigint[])) AS w(position) "
            f"LEFT JOIN {migration.snapshot} AS p ON p.position = w.position GROUP BY w.position"
        ),
        {"positions": [first for first, _ in ranges]},
    )
    found = {row.position: row for row in rows}
    return [
        {
            "position": first,
            "chunk": found[first].chunk,
            "key": (found[first].key or None) if first == last else None,
            "through": None if first == last else last,
        }
        for first, last in ranges
    ]


def database_fingerprint(connection: sa.Connection) -> dict[str, Any]:
    """What tells this database from another of the same name."""
    row = connection.execute(
        sa.text("""
            SELECT current_database() AS name, has_function_privilege(
                       'pg_catalog.pg_control_system()', 'EXECUTE') AS readable,
                   (SELECT oid::bigint FROM pg_database WHERE datname = current_database()) AS oid
        """)
    ).one()
    identifier = None
    if row.readable:
        identifier = connection.execute(
            sa.text("SELECT system_identifier::text FROM pg_catalog.pg_control_system()")
        ).scalar_one()
    return {"system_identifier": identifier, "database_oid": row.oid, "name": row.name}


@contextmanager
def plainly_spelled(connection: sa.Connection) -> Iterator[None]:
    """Let values be spelled the same way everywhere, and as before once this is over.

    What the transaction does next may read texts as the session's settings say.
    """
    before = {
        name: connection.execute(
            sa.text("SELECT current_setting(:name)"), {"name": name}
        ).scalar_one()
        for name in holdings.SPELLING
    }
    holdings.spell_plainly(connection)
    yield
    for name, value in before.items():
        connection.execute(
            sa.text("SELECT set_config(:name, :value, true)"), {"name": name, "value": value}
        )


def _sealed_columns(connection: sa.Connection, migration: Migration) -> str:
    """The columns of a snapshot that nobody changes, in their order."""
    names = connection.execute(
        sa.text(f"""
            SELECT attname::text FROM pg_attribute
            WHERE attrelid = to_regclass(:snapshot) AND attnum > 0 AND NOT attisdropped
              AND attname !~ {_CHANGING}
            ORDER BY attnum
        """),
        {"snapshot": migration.snapshot},
    ).scalars()
    return ", ".join(f"p.{quoted(name)}" for name in names)


def _hashed(rows: str, *, each_row: bool = True) -> str:
    """Blocks of rows: first_position, last_position, sha256, rows; in one scan.

    Args:
        rows: A relation with `block`, `position` and `row`.
        each_row: Whether to keep something of each row.
    """
    kept = f"string_agg(substr(hash, 1, {ROW_BYTES}), ''::bytea ORDER BY position)"
    return f"""
        SELECT block, min(position) AS first_position, max(position) AS last_position,
               encode(sha256(string_agg(hash, ''::bytea ORDER BY position)), 'hex') AS sha256,
               {kept if each_row else "''::bytea"} AS rows,
               CASE WHEN count(*) <> max(position) - min(position) + 1
                    THEN array_agg(position ORDER BY position) END AS positions
        FROM (SELECT block, position, {hash_of("row")} AS hash
              FROM ({rows}) AS r
              -- A fence: each row is hashed once, by several processes that sort a part each.
              ORDER BY block, position OFFSET 0) AS h
        GROUP BY block
        ORDER BY first_position"""


def _blocks(connection: sa.Connection, query: str, sealed: Sequence[Block]) -> list[Block]:
    found: list[Block] = []
    if not sealed:
        return found
    beside = Beside()
    with plainly_spelled(connection):
        for row in streamed(connection, query, {"firsts": [block.first for block in sealed]}):
            # Where its first rows are missing, a block is still the same one.
            first = sealed[row.block - 1].first if row.block else row.first_position
            positions = row.positions or ()
            if row.first_position != first and not positions:
                positions = range(row.first_position, row.last_position + 1)
            rows = Rows(bytes(row.rows), positions)
            records = len(rows.hashes) // ROW_BYTES
            read = beside.put(rows) if records else Rows
            found.append(Block(first, row.last_position, row.sha256, records, read))
    return found


def streamed(connection: sa.Connection, query: str, parameters: dict[str, Any]) -> Iterator[Any]:
    """Rows as they come; what a cursor of the server's reads, is read by one process alone."""
    statement = sa.text(query).compile(dialect=connection.dialect)
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor(row_factory=namedtuple_row) as cursor:
            yield from cursor.stream(str(statement), parameters, binary=True)
    except psycopg.Error as error:
        raise sa.exc.DBAPIError.instance(
            query, None, error, psycopg.Error, hide_parameters=True
        ) from error


def _kept(connection: sa.Connection, migration: Migration, kind: Kind) -> Kept:
    kept = ledger.sealed_rows.c
    rows = connection.execute(
        sa.select(
            kept.first_position,
            kept.last_position,
            kept.sha256,
            sa.func.least(
                sa.func.coalesce(sa.func.octet_length(kept.rows, type_=sa.BigInteger), 0)
                // ROW_BYTES,
                kept.last_position - kept.first_position + 1,
            ),
        )
        .where(kept.migration_id == migration.migration_id, kept.kind == kind)
        .order_by(kept.first_position)
        # Of thousands, the rows would take more memory than the blocks.
        .execution_options(stream_results=True, yield_per=500)
    )

    def read(first: int, sha256: str) -> Rows:
        found = connection.execute(
            sa.select(kept.rows)
            .where(kept.migration_id == migration.migration_id, kept.kind == kind)
            .where(kept.first_position == first, kept.sha256 == sha256)
        ).scalar_one()
        return Rows(bytes(found or b""))

    blocks = Kept(read)
    for row in rows:
        blocks.add(*row)
    return blocks


_AT_ONCE = 100
"""How many blocks are written by one statement."""
