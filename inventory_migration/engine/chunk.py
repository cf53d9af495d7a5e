"""One chunk, one transaction: claim, lock, classify and write, read back, mark done.

Most chunks need no lock first: one statement writes what has not changed since it was looked at,
or refuses itself (`fast_path.py`). Where it does, locking is a statement of its own, so that the
next one sees the records as they are locked. Every number stays in the server. What to do when a
statement fails is decided in `worker.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine import (
    chunk_statements,
    columns,
    fast_path,
    retries,
    target_keys,
)
from inventory_migration.engine.control import keepalives
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.parameters import parametrised
from inventory_migration.engine.shapes import shape_of
from inventory_migration.engine.summary import OUTCOMES
from inventory_migration.errors import ControlTotalsDiffer

LOCK_TIMEOUT_MS = 40
"""Well below half of deadlock_timeout: longer waits made the application the deadlock's victim."""

STATEMENT_TIMEOUT_MS = 60_000
LAST_POSITION = 2**62


@dataclass(frozen=True)
class Claimed:
    """Chunks whose rows this transaction holds."""

    numbers: list[int]
    attempts: int = 0
    last_error: str | None = None


@dataclass(frozen=True)
class Finished:
    """A chunk as the ledger has it once its transaction commits: its records by outcome."""

    number: int
    records: int
    outcomes: Mapping[str, int]


@dataclass(frozen=True)
class Bad:
    """A record that the server refused, or that a trigger swallowed."""

    position: int
    rule: str
    reason: str
    sqlstate: str | None
    constraint: str | None = None


class ChunkStatements:
    """The statements of one migration's chunks, built once and executed with parameters."""

    def __init__(self, resolved: ResolvedMapping, migration: Migration) -> None:
        """Build the statements."""
        self.resolved = resolved
        self.migration = migration
        self.migration_id = migration.migration_id
        self._lock = sa.text(chunk_statements.lock_statement(resolved, migration))
        self._follow = self._meet = None
        if resolved.target_key:
            self._follow = sa.text(parametrised(target_keys.follow_statement(resolved, migration)))
            self._meet = sa.text(parametrised(target_keys.meet_statement(resolved, migration)))
        self._write = sa.text(chunk_statements.write_statement(resolved, migration))
        fast = fast_path.fast_statement(resolved, migration)
        self._fast = sa.text(fast) if fast else None
        self._settle = sa.text(parametrised(retries.settle_statement(migration)))
        self._read_back = sa.text(chunk_statements.read_back_statement(resolved, migration))
        shape = shape_of(resolved)
        after = shape.after_write(migration.snapshot, migration.planned_locations)
        self._before = [sa.text(parametrised(s)) for s in shape.before_write(migration.snapshot)]
        self._after = [sa.text(parametrised(s)) for s in after]

    def begin(self, connection: sa.Connection) -> None:
        """Limit what this transaction may wait for; everything ends with it."""
        connection.execute(SETTINGS)

    def claim(self, connection: sa.Connection, phase: int, limit: int) -> Claimed | None:
        """Take up to `limit` pending chunks by row lock; None where none is free.

        A chunk that failed before is claimed alone, so that it cannot take others down with it.
        """
        rows = connection.execute(
            _CLAIM, {"migration_id": self.migration_id, "phase": phase, "limit": limit}
        ).all()
        if not rows:
            return None
        if rows[0].attempts:
            return Claimed([rows[0].number], rows[0].attempts, rows[0].last_error)
        fresh: list[int] = []
        for row in rows:
            if row.attempts:
                break
            fresh.append(row.number)
        return Claimed(fresh)

    @property
    def fast(self) -> bool:
        """Whether records can be written without having been locked before."""
        return self._fast is not None

    def write_unlocked(
        self, connection: sa.Connection, chunks: Sequence[int]
    ) -> Sequence[sa.Row[Any]] | None:
        """Classify, write and count the chunks in one statement.

        Returns:
            What `finish` wants to know; None where a record changed meanwhile, or its write was
            swallowed: then nothing may commit, and the chunks are done again, locked first.
        """
        assert self._fast is not None  # noqa: S101 - asked for only where it is
        parameters = {"im_migration_id": self.migration_id, "im_chunks": list(chunks)}
        rows = connection.execute(self._fast, parameters).all()
        migrated = sum(row.migrated for row in rows)
        others = sum(row.already + row.skipped + row.quarantined for row in rows)
        whole = sum(row.records - row.reopened for row in rows)
        if len(rows) < len(chunks) or migrated + others < whole:
            return None
        if (rows[0].moved, rows[0].kept) != (migrated, others):
            return None
        return rows

    def lock_records(self, connection: sa.Connection, chunks: Sequence[int]) -> None:
        """Lock the live records of the chunks in key order, as they are now."""
        connection.execute(self._lock, {"im_chunks": list(chunks)})
        if self._follow is not None and self._meet is not None:
            changed = connection.execute(self._follow, {"im_chunks": list(chunks)}).scalars().all()
            if changed:
                # All records are looked at, which most chunks have no reason for.
                connection.execute(self._meet, {"im_positions": list(changed)})
        for statement in self._before:
            connection.execute(statement, {"im_chunks": list(chunks)})

    def write(
        self,
        connection: sa.Connection,
        chunks: Sequence[int],
        *,
        bad: Sequence[Bad] = (),
        first: int = 0,
        last: int = LAST_POSITION,
    ) -> list[int]:
        """Give each record its outcome and write those to be migrated.

        Args:
            connection: The transaction that holds the locks.
            chunks: Numbers of the claimed chunks.
            bad: Records to quarantine whatever the rules say.
            first: First position to take.
            last: Last position to take.

        Returns:
            Positions whose write was swallowed without an error; they keep no outcome.
        """
        found = connection.execute(
            self._write,
            {
                "im_migration_id": self.migration_id,
                "im_chunks": list(chunks),
                "im_first": first,
                "im_last": last,
                "im_bad": [record.position for record in bad],
                "im_bad_rules": [record.rule for record in bad],
                "im_bad_reasons": [record.reason for record in bad],
                "im_bad_states": [record.sqlstate for record in bad],
                "im_bad_constraints": [record.constraint for record in bad],
            },
        ).scalar_one()
        return list(found or [])

    def described(
        self, connection: sa.Connection, positions: Sequence[int]
    ) -> dict[int, tuple[str, str | None]]:
        """Key and company that each of these records had when it was planned, as text."""
        rows = connection.execute(
            sa.text(
                f"SELECT position, {columns.key_text(self.resolved)}, company_key::text "
                f"FROM {self.migration.snapshot} WHERE position = ANY(:positions)"
            ),
            {"positions": list(positions)},
        )
        return {position: (key_text, company) for position, key_text, company in rows}

    def finish(
        self,
        connection: sa.Connection,
        chunks: Sequence[int],
        counted: Sequence[sa.Row[Any]] | None = None,
    ) -> list[Finished]:
        """Read the target back, mark the chunks done, and hold the totals against each other.

        Args:
            connection: The transaction that wrote the chunks.
            chunks: Their numbers.
            counted: What `write_unlocked` has counted and marked already; read once more only where
                a trigger may have changed it since.

        Returns:
            What the database counted of each chunk.

        Raises:
            ControlTotalsDiffer: The transaction must not commit.
        """
        parameters = {"im_migration_id": self.migration_id, "im_chunks": list(chunks)}
        if counted and not counted[0].heard:
            connection.execute(self._settle, parameters)
            return self._conserved(chunks, counted)
        for statement in self._after:
            connection.execute(statement, parameters)
        connection.execute(self._settle, parameters)
        return self._conserved(chunks, connection.execute(self._read_back, parameters).all())

    def _conserved(self, chunks: Sequence[int], rows: Sequence[sa.Row[Any]]) -> list[Finished]:
        if sorted(row.number for row in rows) != sorted(chunks):
            found = [row.number for row in rows]
            raise ControlTotalsDiffer(
                migration_id=self.migration_id,
                chunk=chunks[0],
                differences={"chunks": (sorted(chunks), sorted(found))},
            )
        for row in rows:
            assert_conserved(self.migration_id, row._asdict())
        return [
            Finished(row.number, row.records, {name: getattr(row, name) for name in OUTCOMES})
            for row in sorted(rows, key=lambda row: int(row.number))
        ]


def assert_conserved(migration_id: int, row: Mapping[str, Any]) -> None:
    """Hold the totals of a chunk's row against each other.

    Raises:
        ControlTotalsDiffer: The transaction must not commit.
    """
    pairs = {
        "records": (row["records"] - row["reopened"], sum(row[name] for name in OUTCOMES)),
        "records at their location": (row["migrated"], row["located"]),
        "units": (row["units_before"], row["units_after"]),
        "reserved": (row["reserved_before"], row["reserved_after"]),
        "records without a number": (row["not_numbers_before"], row["not_numbers_after"]),
    }
    differences = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if differences:
        raise ControlTotalsDiffer(
            migration_id=migration_id, chunk=row["number"], differences=differences
        )


SETTINGS = sa.text(f"""
    SELECT -- The records of a chunk lie close together: an index finds them, no scan of a table.
           set_config('random_page_cost',
                      LEAST(current_setting('random_page_cost')::float8, 0.2)::text, true),
           set_config('lock_timeout', '{LOCK_TIMEOUT_MS}ms', true),
           set_config('statement_timeout', '{STATEMENT_TIMEOUT_MS}ms', true),
           set_config('idle_in_transaction_session_timeout', '{STATEMENT_TIMEOUT_MS}ms', true),
           set_config('row_security', 'off', true),
           -- A float's text is exact only from 1 on, which a role's default need not be.
           set_config('extra_float_digits', '3', true),
           -- A client that was killed is noticed within its statement, where the server can tell.
           CASE WHEN version() LIKE '%linux%'
                THEN set_config('client_connection_check_interval', '500ms', true) END,
           {keepalives()}
""")

_CLAIM = sa.text(f"""
    SELECT number, attempts, last_error
    FROM {SCHEMA}.chunk
    WHERE migration_id = :migration_id AND phase = :phase AND state = 'pending'
    ORDER BY number
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
""")
