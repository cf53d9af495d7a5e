"""The statements of a rewrite where nothing was written since the plan.

What the plan says of a record still stands, and so do the numbers that it has noted: only what it
leaves open is classified, and all else is looked at once, when the table is read back. Whether
nothing was written is told by `untouched.py`; what goes where anything was by
`rewrite_statements.py`.
"""

from __future__ import annotations

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import canonical, columns, ledger
from inventory_migration.engine.as_planned import standing_locations
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.rewrite_statements import RewriteStatements


class RewriteAsPlanned(RewriteStatements):
    """The same outcomes and totals, of records that are what they were when they were planned."""

    def __init__(self, resolved: ResolvedMapping, migration: Migration) -> None:
        """Build what does not depend on the data."""
        super().__init__(resolved, migration)
        self._open = self._named("open")
        self._tables = (self._open, self._after)
        self._before = f"""(
            SELECT chunk, migrated, units_before AS units, reserved_before AS reserved,
                   not_numbers_before AS not_numbers FROM {self._after})"""

    def classify(self, connection: sa.Connection) -> None:
        """Give those records their outcome of which the plan does not say that they are migrated.

        It says so of a row that it noted the version of, as long as its company's location stands.
        """
        standing = standing_locations(self.resolved, self.migration)
        connection.execute(
            sa.text(
                escaped(f"""
                    CREATE TABLE {self._open} AS
                    SELECT p.* FROM {self.migration.snapshot} AS p
                    LEFT JOIN ({standing}) AS d ON d.company_key = p.company_key
                    WHERE p.row_version IS NULL OR d.company_key IS NULL""")
            )
        )
        connection.execute(sa.text(f"ANALYZE {self._open}"))
        self._execute(connection, self._aside_of(self._open))

    def expected(self, connection: sa.Connection) -> tuple[int, int]:
        """What `counts` must say: no record with a location is planned to be migrated."""
        located = columns.before_columns(self.resolved)[self.resolved.mapping.target.columns[0]]
        row = connection.execute(
            sa.text(f"""
                SELECT (SELECT sum(records) FROM {SCHEMA}.chunk
                        WHERE migration_id = :im_migration_id) AS records,
                       (SELECT count(*) FROM {SCHEMA}.outcome
                        WHERE migration_id = :im_migration_id) AS aside,
                       (SELECT count({located}) FROM {self._open}) AS placed"""),
            self._parameters,
        ).one()
        return int(row.records or 0), int((row.records or 0) - row.aside + row.placed)

    def _may_stay(self, connection: sa.Connection) -> bool:
        """Only what was put aside: nothing has arrived."""
        mine = ledger.outcome.c.migration_id == self.migration.migration_id
        return bool(connection.execute(sa.select(sa.exists().where(mine))).scalar_one())

    def _stays(self, alias: str) -> str:
        return f"""
                          EXISTS (
                              SELECT FROM {self._open} AS p
                              JOIN {SCHEMA}.outcome AS o ON o.position = p.position
                              WHERE {columns.key_of_source(self.resolved, "p", alias)}
                                AND o.migration_id = :im_migration_id)"""

    def _read_back(self) -> str:
        """Totals of each chunk as they were planned, and as the table has them now."""
        resolved, migration = self.resolved, self.migration
        rows = canonical.source_rows(resolved, hashed=False)
        return f"""
            CREATE TABLE {self._after} AS
            SELECT p.chunk, count(*) FILTER (WHERE o.position IS NULL) AS migrated,
                   COALESCE(sum(p.quantity), 0) AS units_before,
                   COALESCE(sum(p.reserved), 0) AS reserved_before,
                   count(*) FILTER (WHERE p.quantity IS NULL) AS not_numbers_before,
                   COALESCE(sum(r.quantity), 0) AS units,
                   COALESCE(sum(r.reserved), 0) AS reserved,
                   count(*) FILTER (WHERE r.key_1 IS NOT NULL AND r.quantity IS NULL)
                       AS not_numbers,
                   count(*) FILTER (WHERE o.position IS NULL AND r.location_key = w.location_key)
                       AS located
            FROM {migration.snapshot} AS p
            LEFT JOIN ({rows}) AS r ON {columns.same_key(resolved, "r", "p")}
            LEFT JOIN {SCHEMA}.outcome AS o
                   ON o.migration_id = {migration.migration_id} AND o.position = p.position
            LEFT JOIN {migration.planned_locations} AS w ON w.company_key = r.company_key
            GROUP BY p.chunk"""

    def _settled(self) -> str:
        """The counts of each chunk; there is no record that an after-image would tell anything."""
        return self._counted()
