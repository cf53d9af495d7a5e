"""One chunk, one transaction: claim, lock, classify and write, read back, mark done.

Locking is a statement of its own, so that the next one sees the records as they are locked: one
statement for both mixes two moments. Every number stays in the server. What to do when a statement
fails is decided in `worker.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import canonical, columns, retries, rules, target_keys
from inventory_migration.engine.control import keepalives
from inventory_migration.engine.ledger import SCHEMA, Migration
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
        self._lock = sa.text(lock_statement(resolved, migration))
        self._follow = self._meet = None
        if resolved.target_key:
            self._follow = sa.text(parametrised(target_keys.follow_statement(resolved, migration)))
            self._meet = sa.text(parametrised(target_keys.meet_statement(resolved, migration)))
        self._write = sa.text(write_statement(resolved, migration))
        self._settle = sa.text(parametrised(retries.settle_statement(migration)))
        self._read_back = sa.text(read_back_statement(resolved, migration))
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

    def finish(self, connection: sa.Connection, chunks: Sequence[int]) -> list[Finished]:
        """Read the target back, mark the chunks done, and hold the totals against each other.

        Returns:
            What the database counted of each chunk.

        Raises:
            ControlTotalsDiffer: The transaction must not commit.
        """
        parameters = {"im_migration_id": self.migration_id, "im_chunks": list(chunks)}
        for statement in self._after:
            connection.execute(statement, parameters)
        connection.execute(self._settle, parameters)
        rows = connection.execute(self._read_back, parameters).all()
        if sorted(row.number for row in rows) != sorted(chunks):
            found = [row.number for row in rows]
            raise ControlTotalsDiffer(
                migration_id=self.migration_id,
                chunk=chunks[0],
                differences={"chunks": (sorted(chunks), sorted(found))},
            )
        for row in rows:
            self._assert_conserved(row._asdict())
        return [
            Finished(row.number, row.records, {name: getattr(row, name) for name in OUTCOMES})
            for row in sorted(rows, key=lambda row: int(row.number))
        ]

    def _assert_conserved(self, row: Mapping[str, Any]) -> None:
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
                migration_id=self.migration_id, chunk=row["number"], differences=differences
            )


def lock_statement(resolved: ResolvedMapping, migration: Migration) -> str:
    """Lock the live records of chunks in key order; in a statement of its own."""
    sql = f"""
        SELECT count(*) FROM (
            SELECT 1
            FROM {migration.snapshot} AS p
            JOIN {resolved.source.sql} AS s ON {columns.key_of_source(resolved, "p")}
            WHERE p.chunk = ANY(:im_chunks)
            ORDER BY {columns.source_keys(resolved)}
            FOR NO KEY UPDATE OF s) AS locked"""
    return parametrised(sql)


def write_statement(resolved: ResolvedMapping, migration: Migration) -> str:
    """Give each locked record its one outcome, and write those that are to be migrated."""
    shape = shape_of(resolved)
    named = [*columns.keys(resolved), *columns.beside_key(resolved)]
    keys = ", ".join(f"p.{key}" for key in named)
    records = canonical.records(
        resolved, chunked=migration.snapshot, planned=migration.planned_locations
    )
    exists = (
        f"EXISTS (SELECT FROM {resolved.source.sql} AS s "
        f"WHERE {columns.key_of_source(resolved, 'p')})"
        if resolved.mapping.source.joins
        else "false"
    )
    row = (
        f"(SELECT to_jsonb(s) FROM {resolved.source.sql} AS s "
        f"WHERE {columns.key_of_source(resolved, 'c')})"
    )
    sql = f"""
        WITH found AS MATERIALIZED (
            SELECT * FROM ({records}) AS r WHERE r.chunk = ANY(:im_chunks)),
        refused AS (
            SELECT * FROM unnest(CAST(:im_bad AS bigint[]), CAST(:im_bad_rules AS text[]),
                                 CAST(:im_bad_reasons AS text[]), CAST(:im_bad_states AS text[]),
                                 CAST(:im_bad_constraints AS text[]))
                     AS b(position, rule, reason, state, constraint_name)),
        classified AS MATERIALIZED (
            SELECT p.position, p.chunk, {keys},
                   p.row_hash AS planned_hash, p.company_key AS planned_company,
                   p.quantity AS planned_quantity, p.reserved AS planned_reserved,
                   f.key_text, f.company_key, f.item_key, f.quantity, f.reserved, f.row_hash,
                   f.unread, f.unconverted, f.held_quantity, f.held_reserved, f.default_location,
                   f.position IS NOT NULL AS live, b.reason, b.state,
                   b.constraint_name,
                   CASE WHEN b.position IS NOT NULL THEN 'quarantined'
                        WHEN f.position IS NOT NULL THEN f.outcome
                        WHEN {exists} THEN 'quarantined'
                        ELSE 'gone' END AS outcome,
                   CASE WHEN b.position IS NOT NULL THEN b.rule
                        WHEN f.position IS NOT NULL THEN f.rule
                        WHEN {exists} THEN 'company_missing' END AS rule
            FROM {migration.snapshot} AS p
            LEFT JOIN found AS f ON f.position = p.position
            LEFT JOIN refused AS b ON b.position = p.position
            WHERE p.chunk = ANY(:im_chunks) AND p.position BETWEEN :im_first AND :im_last),
        moved AS ({shape.apply()}),
        put_aside AS (
            INSERT INTO {SCHEMA}.outcome AS o
                (migration_id, position, chunk, key_text, outcome, rule, reason, sqlstate,
                 constraint_name, state, record)
            SELECT :im_migration_id, position, chunk,
                   COALESCE(key_text, {columns.key_text(resolved, "c")}), outcome, rule,
                   COALESCE(reason, {rules.reason(resolved)}), state,
                   constraint_name,
                   CASE WHEN outcome = 'quarantined' THEN 'open' END,
                   CASE WHEN outcome = 'quarantined' THEN {row} END
            FROM classified AS c
            WHERE outcome <> 'migrated'
            ON CONFLICT (migration_id, position) DO UPDATE
                SET chunk = EXCLUDED.chunk, outcome = EXCLUDED.outcome, rule = EXCLUDED.rule,
                    reason = EXCLUDED.reason, sqlstate = EXCLUDED.sqlstate,
                    constraint_name = EXCLUDED.constraint_name, state = EXCLUDED.state,
                    record = EXCLUDED.record, at = EXCLUDED.at),
        images AS (
            INSERT INTO {SCHEMA}.after_image AS i
                (migration_id, position, location_key, quantity, reserved, row_hash)
            SELECT :im_migration_id, position, default_location::text, quantity, reserved, row_hash
            FROM classified
            WHERE outcome = 'migrated'
              -- What lies beside the record, such as order lines, is not in its row's hash.
              AND (row_hash IS DISTINCT FROM planned_hash
                   OR company_key IS DISTINCT FROM planned_company
                   OR quantity IS DISTINCT FROM planned_quantity
                   OR reserved IS DISTINCT FROM planned_reserved)
            ON CONFLICT (migration_id, position) DO UPDATE
                SET location_key = EXCLUDED.location_key, quantity = EXCLUDED.quantity,
                    reserved = EXCLUDED.reserved, row_hash = EXCLUDED.row_hash),
        counted AS (
            UPDATE {SCHEMA}.chunk AS k SET
                migrated = n.migrated, already = n.already, skipped = n.skipped,
                quarantined = n.quarantined, gone = n.gone, units_before = n.units,
                reserved_before = n.reserved, not_numbers_before = n.not_numbers,
                started_at = transaction_timestamp()
            FROM (SELECT chunk,
                         count(*) FILTER (WHERE outcome = 'migrated') AS migrated,
                         count(*) FILTER (WHERE outcome = 'already') AS already,
                         count(*) FILTER (WHERE outcome = 'skipped') AS skipped,
                         count(*) FILTER (WHERE outcome = 'quarantined') AS quarantined,
                         count(*) FILTER (WHERE outcome = 'gone') AS gone,
                         COALESCE(sum(quantity), 0) AS units,
                         COALESCE(sum(reserved), 0) AS reserved,
                         count(*) FILTER (WHERE live AND quantity IS NULL) AS not_numbers
                  FROM classified GROUP BY chunk) AS n
            WHERE k.migration_id = :im_migration_id AND k.number = n.chunk)
        -- Looked for only where there are any: the planner cannot know how many rows a CTE has, and
        -- would compare each with each.
        SELECT CASE WHEN (SELECT count(*) FROM classified WHERE outcome = 'migrated')
                         <> (SELECT count(*) FROM moved)
                    THEN (SELECT array_agg(position ORDER BY position)
                          FROM (SELECT position FROM classified WHERE outcome = 'migrated'
                                EXCEPT {shape.moved()}) AS swallowed) END"""
    return parametrised(sql)


def read_back_statement(resolved: ResolvedMapping, migration: Migration) -> str:
    """What the target says now, in a statement of its own: triggers may have spoken since."""
    shape = shape_of(resolved)
    rows = canonical.source_rows(resolved, chunked=migration.snapshot, extra=shape.as_targets())
    located = shape.holds(
        "r",
        location="w.location_key",
        quantity="r.quantity",
        reserved="r.reserved",
        at="transaction_timestamp()",
    )
    units, reserved = "r.quantity", "r.reserved"
    if shape.held():
        # What was migrated counts as its target has it, all else as it stands in the record.
        units, reserved = (
            f"CASE WHEN o.position IS NULL THEN r.held_{name} ELSE r.{name} END"
            for name in ("quantity", "reserved")
        )
    sql = f"""
        WITH back AS (
            SELECT p.chunk,
                   COALESCE(sum({units}), 0) AS units, COALESCE(sum({reserved}), 0) AS reserved,
                   count(*) FILTER (WHERE r.position IS NOT NULL AND r.quantity IS NULL)
                       AS not_numbers,
                   count(*) FILTER (WHERE o.position IS NULL AND r.position IS NOT NULL
                                      AND w.location_key IS NOT NULL AND {located})
                       AS located
            FROM {migration.snapshot} AS p
            LEFT JOIN (SELECT * FROM ({rows}) AS x WHERE x.chunk = ANY(:im_chunks)) AS r
                   ON r.position = p.position
            LEFT JOIN {SCHEMA}.outcome AS o
                   ON o.migration_id = :im_migration_id AND o.position = p.position
            LEFT JOIN {migration.planned_locations} AS w ON w.company_key = r.company_key
            WHERE p.chunk = ANY(:im_chunks)
            GROUP BY p.chunk)
        UPDATE {SCHEMA}.chunk AS k SET
            state = 'done', units_after = back.units, reserved_after = back.reserved,
            not_numbers_after = back.not_numbers, located = back.located,
            xid = pg_current_xact_id()::xid::text, finished_at = clock_timestamp()
        FROM back
        WHERE k.migration_id = :im_migration_id AND k.number = back.chunk
        RETURNING k.*"""
    return parametrised(sql)


def parametrised(sql: str) -> str:
    """Escape what a mapping brought along; only our own `:im_…` stay parameters.

    Within quotes nothing is ours: a name or a constant may look like a parameter.
    """
    parts, end = [], 0
    for found in _QUOTED.finditer(sql):
        parts += [escaped(sql[end : found.start()]).replace(r"\:im_", ":im_"), escaped(found[0])]
        end = found.end()
    return "".join([*parts, escaped(sql[end:]).replace(r"\:im_", ":im_")])


_QUOTED = re.compile(
    r"""
    "(?:[^"]|"")*"                       # a name
    | \b[eE]'(?:[^'\\]|''|\\.)*'        # a constant with escapes
    | '(?:[^']|'')*'                     # a constant
    | \$([^\W\d]\w*|)\$.*?\$\1\$         # a dollar-quoted one
    | --[^\n]*                           # a comment
    | /\*.*?\*/                          # a longer one
    """,
    re.VERBOSE | re.DOTALL,
)

SETTINGS = sa.text(f"""
    SELECT set_config('lock_timeout', '{LOCK_TIMEOUT_MS}ms', true),
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
