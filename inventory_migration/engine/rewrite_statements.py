"""The statements of a rewrite: what becomes of each record, the pass itself, and what it left.

Each reads the table once, as a whole, so that the server can use all its cores; what they find lies
in two tables of the ledger's schema that end with the transaction. In which order they go, and
under which lock, is written in `rewrite.py`; what a rule asks in `canonical.py`, and what need not
be asked where nothing was written since the plan in `rewrite_as_planned.py`.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import INTEGERS, ResolvedMapping, literal
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import canonical, columns, rules
from inventory_migration.engine.chunk import assert_conserved
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.parameters import parametrised
from inventory_migration.engine.rewrite_refusals import MOST_LEFT, too_many_left
from inventory_migration.engine.summary import OUTCOMES
from inventory_migration.errors import RewriteRefused


class RewriteStatements:
    """The statements of one migration's rewrite, in the transaction that holds the lock."""

    def __init__(self, resolved: ResolvedMapping, migration: Migration) -> None:
        """Build what does not depend on the data."""
        self.resolved, self.migration = resolved, migration
        self._before, self._after = self._tables = (self._named("before"), self._named("after"))
        self._parameters = {"im_migration_id": migration.migration_id}

    def classify(self, connection: sa.Connection) -> None:
        """Give each record its outcome, as a chunk would: kept for all that are not migrated."""
        connection.execute(sa.text(escaped(self._classified())))
        self._execute(connection, self._put_aside())
        self._execute(connection, self._counted())

    def expected(self, connection: sa.Connection) -> tuple[int, int]:
        """What `counts` must say once it is done."""
        records, placed = self.counts(connection)
        written = sa.text(f"SELECT COALESCE(sum(migrated), 0) FROM {self._before}")
        return records, placed + int(connection.execute(written).scalar_one())

    def counts(self, connection: sa.Connection) -> tuple[int, int]:
        """How many records there are, and how many name a location."""
        target = quoted(self.resolved.mapping.target.columns[0])
        row = connection.execute(
            sa.text(escaped(f"SELECT count(*), count({target}) FROM {self.resolved.source.sql}"))
        ).one()
        return int(row[0]), int(row[1])

    def write(self, connection: sa.Connection) -> None:
        """Rewrite the table: one pass over it, and its indexes made anew.

        Raises:
            RewriteRefused: More records stay as they are than its text can carry.
        """
        for statement in self._altered(connection):
            connection.execute(sa.text(escaped(statement)))

    def finish(self, connection: sa.Connection) -> None:
        """Read the table back, mark all chunks done, and hold the totals against each other.

        Raises:
            ControlTotalsDiffer: The transaction must not commit.
        """
        self._execute(connection, self._read_back())
        self._execute(connection, self._settled())
        rows = connection.execute(sa.text(parametrised(self._done())), self._parameters).all()
        for row in rows:
            assert_conserved(self.migration.migration_id, row._asdict())
        for name in self._tables:
            connection.execute(sa.text(f"DROP TABLE {name}"))

    def _named(self, what: str) -> str:
        return quoted(SCHEMA, f"rewrite_{self.migration.migration_id}_{what}")

    def _execute(self, connection: sa.Connection, sql: str) -> None:
        connection.execute(sa.text(parametrised(sql)), self._parameters)

    def _records(self, snapshot: str) -> str:
        return canonical.records(
            self.resolved, chunked=snapshot, planned=self.migration.planned_locations
        )

    def _classified(self) -> str:
        """Counts and totals of each chunk, and the positions of what is not simply migrated."""
        return f"""
            CREATE TABLE {self._before} AS
            SELECT r.chunk, count(*) AS live,
                   count(*) FILTER (WHERE r.outcome = 'migrated') AS migrated,
                   COALESCE(sum(r.quantity), 0) AS units,
                   COALESCE(sum(r.reserved), 0) AS reserved,
                   count(*) FILTER (WHERE r.quantity IS NULL) AS not_numbers,
                   array_agg(r.position) FILTER (WHERE r.outcome <> 'migrated') AS others
            FROM ({self._records(self.migration.snapshot)}) AS r
            GROUP BY r.chunk"""

    def _put_aside(self) -> str:
        """Keep the outcome of every record that is not simply migrated, gone ones too."""
        # A chunk with fewer records than planned is looked through whole.
        return self._aside_of(f"""(
            SELECT * FROM {self.migration.snapshot}
            WHERE position IN (SELECT unnest(others) FROM {self._before})
               OR chunk IN (SELECT k.number FROM {SCHEMA}.chunk AS k
                            LEFT JOIN {self._before} AS b ON b.chunk = k.number
                            WHERE k.migration_id = :im_migration_id
                              AND k.records <> COALESCE(b.live, 0)))""")

    def _aside_of(self, taken: str) -> str:
        """Keep the outcome of those of some records of the snapshot that are not migrated."""
        resolved = self.resolved
        keys = ", ".join(f"p.{key}" for key in columns.keys(resolved))
        at = columns.key_of_source(resolved, "c")
        row = f"(SELECT to_jsonb(s) FROM {resolved.source.sql} AS s WHERE {at})"
        exists = f"EXISTS (SELECT FROM {resolved.source.sql} AS s WHERE {at})"
        return f"""
            INSERT INTO {SCHEMA}.outcome
                (migration_id, position, chunk, key_text, outcome, rule, reason, state, record)
            SELECT :im_migration_id, position, chunk,
                   COALESCE(key_text, {columns.key_text(resolved, "c")}), outcome, rule,
                   {rules.reason(resolved)},
                   CASE WHEN outcome = 'quarantined' THEN 'open' END,
                   CASE WHEN outcome = 'quarantined' THEN {row} END
            FROM (
                SELECT c.*,
                       CASE WHEN live THEN given WHEN {exists} THEN 'quarantined' ELSE 'gone' END
                           AS outcome,
                       CASE WHEN live THEN broken WHEN {exists} THEN 'company_missing' END AS rule
                FROM (
                    SELECT p.position, p.chunk, {keys}, f.position IS NOT NULL AS live,
                           f.outcome AS given, f.rule AS broken, f.key_text, f.unread,
                           f.unconverted, f.quantity, f.reserved, f.held_quantity, f.held_reserved
                    FROM {taken} AS p
                    LEFT JOIN ({self._records(taken)}) AS f ON f.position = p.position) AS c) AS c
            WHERE outcome <> 'migrated'"""

    def _counted(self) -> str:
        aside = ", ".join(
            f"{name} = COALESCE(o.{name}, 0)" for name in OUTCOMES if name != "migrated"
        )
        counts = ", ".join(
            f"count(*) FILTER (WHERE outcome = '{name}') AS {name}"
            for name in OUTCOMES
            if name != "migrated"
        )
        return f"""
            UPDATE {SCHEMA}.chunk AS k SET
                migrated = COALESCE(b.migrated, 0), {aside},
                units_before = COALESCE(b.units, 0), reserved_before = COALESCE(b.reserved, 0),
                not_numbers_before = COALESCE(b.not_numbers, 0),
                started_at = transaction_timestamp()
            FROM {SCHEMA}.chunk AS n
            LEFT JOIN {self._before} AS b ON b.chunk = n.number
            LEFT JOIN (SELECT chunk, {counts} FROM {SCHEMA}.outcome
                       WHERE migration_id = :im_migration_id GROUP BY chunk) AS o
                   ON o.chunk = n.number
            WHERE n.migration_id = :im_migration_id
              AND k.migration_id = n.migration_id AND k.number = n.number"""

    def _altered(self, connection: sa.Connection) -> list[str]:
        """The statement that writes, and those that put back what it takes from a column."""
        resolved = self.resolved
        mapping = resolved.mapping
        target = quoted(mapping.target.columns[0])
        location = self._looked_up(connection)
        stays = f"{target} IS NOT NULL"
        if (left := self._left(connection)) is not None:
            stays += f" OR jsonb_exists({left}::jsonb, {self._name_of_row()})"
        values = {mapping.target.columns[0]: location}
        for column, value in mapping.touch.items():
            kept = quoted(column)
            values[column] = f"CASE WHEN ({location}) IS NULL THEN {kept} ELSE {literal(value)} END"
        facts = {row.name: row for row in connection.execute(_COLUMNS, self._columns())}
        changed = ", ".join(
            f"ALTER COLUMN {quoted(name)} TYPE {facts[name].type}{facts[name].collation} "
            f"USING CASE WHEN {stays} THEN {quoted(name)} ELSE {value} END"
            for name, value in values.items()
        )
        restored = [text for row in facts.values() for text in (row.storage, row.compression)]
        altered = f"ALTER TABLE {resolved.source.sql} "
        return [altered + changed, *(altered + text for text in restored if text)]

    def _columns(self) -> dict[str, Any]:
        return {
            "oid": self.resolved.source.oid,
            "columns": columns.written_columns(self.resolved),
        }

    def _name_of_row(self) -> str:
        """What tells a record from all others within the statement, as text."""
        keys = [quoted(column.name) for column in self.resolved.key_columns]
        return f"{keys[0]}::text" if len(keys) == 1 else f"ROW({', '.join(keys)})::text"

    def _left(self, connection: sa.Connection) -> str | None:
        """The records without a location that stay so, as a literal; None where there is none.

        What arrived since the snapshot is among them: it is swept up afterwards, in chunks.
        """
        if not self._may_stay(connection):
            return None
        resolved, migration = self.resolved, self.migration
        found = connection.execute(
            sa.text(
                parametrised(f"""
                    SELECT count(*) AS records,
                           quote_literal(jsonb_object_agg(name, 0)::text) AS names
                    FROM (
                        SELECT {self._name_of_row()} AS name
                        FROM {resolved.source.sql} AS s
                        WHERE s.{quoted(resolved.mapping.target.columns[0])} IS NULL
                          AND EXISTS (SELECT FROM {migration.planned_locations} AS w
                                      WHERE w.company_key = {self._company("s")})
                          AND {self._stays("s")}) AS x""")
            ),
            self._parameters,
        ).one()
        if found.records > MOST_LEFT:
            raise RewriteRefused(
                mapping=resolved.mapping.name, reasons=[too_many_left(found.records)]
            )
        return str(found.names) if found.records else None

    def _may_stay(self, connection: sa.Connection) -> bool:  # noqa: ARG002
        """Whether there can be a record without a location that stays so."""
        return True

    def _stays(self, alias: str) -> str:
        """The condition that a source row is no record that is to be migrated."""
        return f"""
                          NOT EXISTS (
                              SELECT FROM {self.migration.snapshot} AS p
                              WHERE {columns.key_of_source(self.resolved, "p", alias)}
                                AND NOT EXISTS (
                                    SELECT FROM {SCHEMA}.outcome AS o
                                    WHERE o.migration_id = :im_migration_id
                                      AND o.position = p.position))"""

    def _company(self, alias: str = "") -> str:
        name = self.resolved.mapping.source.company
        assert isinstance(name, str)  # noqa: S101 - any other is refused
        return f"{alias}.{quoted(name)}" if alias else quoted(name)

    def _looked_up(self, connection: sa.Connection) -> str:
        """The location of a row's company, from a literal: an array, or any key's text in JSON."""
        resolved, planned = self.resolved, self.migration.planned_locations
        kind, company = resolved.location_key_type, self._company()
        if {resolved.source_company_type, resolved.company_key_type} <= INTEGERS:
            row = connection.execute(
                sa.text(f"""
                    SELECT min(company_key) AS first, max(company_key) AS last, count(*) AS found,
                           quote_literal(array_agg(location_key ORDER BY company_key)::text)
                               AS locations
                    FROM {planned}""")
            ).one()
            if not row.found:
                return f"NULL::{kind}"
            # With a gap it would have a NULL, and be looked through from its beginning.
            if row.last - row.first + 1 == row.found and row.last < 2**31:
                return (
                    f"CASE WHEN {company} BETWEEN {row.first} AND {row.last} THEN "
                    f"({row.locations}::{kind}[])[({company} - {row.first} + 1)::integer] END"
                )
        # Companies are compared in their own type, and what then is found goes by the record's own
        # text.
        found = connection.execute(
            sa.text(
                escaped(f"""
                    SELECT quote_literal(COALESCE(
                               jsonb_object_agg(name, location_key::text), '{{}}')::text)
                    FROM (SELECT DISTINCT {self._company("s")}::text AS name, w.location_key
                          FROM {planned} AS w
                          JOIN {resolved.source.sql} AS s
                            ON {self._company("s")} = w.company_key) AS x""")
            )
        ).scalar_one()
        return f"({found}::jsonb ->> {company}::text)::{kind}"

    def _read_back(self) -> str:
        """Totals of each chunk as the table has them now, and what changed since it was planned."""
        resolved, migration = self.resolved, self.migration
        compared = ("row_hash", "company_key", "quantity", "reserved")
        planned = ", ".join(f"im_p.{name} AS planned_{name}" for name in compared)
        rows = canonical.source_rows(resolved, chunked=migration.snapshot, extra=planned)
        same = columns.all_same(
            [f"r.{name}" for name in compared], [f"r.planned_{name}" for name in compared]
        )
        return f"""
            CREATE TABLE {self._after} AS
            SELECT r.chunk, COALESCE(sum(r.quantity), 0) AS units,
                   COALESCE(sum(r.reserved), 0) AS reserved,
                   count(*) FILTER (WHERE r.quantity IS NULL) AS not_numbers,
                   count(*) FILTER (WHERE o.position IS NULL AND r.location_key = w.location_key)
                       AS located,
                   array_agg(r.position) FILTER (
                       WHERE o.position IS NULL AND NOT {same}) AS changed
            FROM ({rows}) AS r
            LEFT JOIN {SCHEMA}.outcome AS o
                   ON o.migration_id = {migration.migration_id} AND o.position = r.position
            LEFT JOIN {migration.planned_locations} AS w ON w.company_key = r.company_key
            GROUP BY r.chunk"""

    def _settled(self) -> str:
        """After-images of what the application changed between the snapshot and the lock."""
        migration = self.migration
        changed = f"""(SELECT * FROM {migration.snapshot}
                       WHERE position IN (SELECT unnest(changed) FROM {self._after}))"""
        return f"""
            INSERT INTO {SCHEMA}.after_image
                (migration_id, position, location_key, quantity, reserved, row_hash)
            SELECT :im_migration_id, position, location_key::text, quantity, reserved, row_hash
            FROM ({canonical.source_rows(self.resolved, chunked=changed)}) AS r"""

    def _done(self) -> str:
        return f"""
            UPDATE {SCHEMA}.chunk AS k SET
                state = 'done', units_after = COALESCE(a.units, 0),
                reserved_after = COALESCE(a.reserved, 0),
                not_numbers_after = COALESCE(a.not_numbers, 0), located = COALESCE(a.located, 0),
                xid = pg_current_xact_id()::xid::text, finished_at = clock_timestamp()
            FROM {SCHEMA}.chunk AS n
            LEFT JOIN {self._after} AS a ON a.chunk = n.number
            WHERE n.migration_id = :im_migration_id
              AND k.migration_id = n.migration_id AND k.number = n.number
            RETURNING k.*"""


# What a column loses when its type is said again: its collation, how it is stored and compressed.
_COLUMNS = sa.text("""
    SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
           CASE WHEN a.attcollation <> t.typcollation
                THEN ' COLLATE ' || CAST(CAST(a.attcollation AS regcollation) AS text)
                ELSE '' END AS collation,
           CASE WHEN a.attstorage <> t.typstorage
                THEN format('ALTER COLUMN %I SET STORAGE %s', a.attname,
                            CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL'
                                              WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END)
                END AS storage,
           CASE WHEN a.attcompression <> ''
                THEN format('ALTER COLUMN %I SET COMPRESSION %s', a.attname,
                            CASE a.attcompression WHEN 'p' THEN 'pglz' ELSE 'lz4' END)
                END AS compression
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = :oid AND a.attname = ANY(CAST(:columns AS text[])) AND NOT a.attisdropped
""")
