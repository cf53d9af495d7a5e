"""Looking at rows without reading them all: aggregates over a bounded part of a table.

Where that part is not the whole, what is found says so. A look that is refused, or that takes too
long, finds nothing, and the proposal goes on without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from inventory_migration.database import escaped
from inventory_migration.proposal.survey import Table

ROWS = 10_000
"""How many rows one look takes in at most."""

PAGES = 150
"""A table of more pages than that is sampled, and about so many are read."""

SECONDS = 5.0
"""How long one look may take."""

_PATIENCE = sa.text("""
    SELECT set_config('statement_timeout', :milliseconds, true),
           set_config('lock_timeout', '200', true)
""")

# No such right; cancelled by the timeout; no lock.
_UNSEEN = ("42501", "57014", "55P03")


@dataclass(frozen=True)
class Seen:
    """What a look found.

    Attributes:
        rows: How many rows it took in.
        whole: Whether these are all.
        values: The aggregates that were asked for, by name.
    """

    rows: int
    whole: bool
    values: Mapping[str, Any]

    @property
    def of(self) -> str:
        """What a share is of, in words."""
        return f"{self.rows:,} {'rows' if self.whole else 'sampled rows'}"


class Glance:
    """Looks at tables in one transaction, and leaves it as it was."""

    def __init__(self, connection: sa.Connection) -> None:
        """Look at nothing yet."""
        self._connection = connection

    def look(self, table: Table, wanted: Mapping[str, str], *, alias: str = "s") -> Seen | None:
        """Take aggregates over some rows of a table; None where it does not let itself be seen.

        Args:
            table: The table.
            wanted: SQL of each aggregate over the rows, by a name for it.
            alias: What the aggregates call a row.
        """
        if not table.readable:
            return None
        pages = self.ask(_SIZE, {"oid": table.oid})
        if pages is None:
            return None
        sampled = pages.pages > PAGES
        sample = f" TABLESAMPLE SYSTEM ({100 * PAGES / pages.pages:.6f})" if sampled else ""
        selected = "".join(f", {sql}" for sql in wanted.values())
        row = self.ask(
            f"SELECT count(*){selected} "
            f"FROM (SELECT * FROM {table.sql}{sample} LIMIT {ROWS}) AS {alias}"
        )
        if row is None:
            return None
        whole = not sampled and row[0] < ROWS
        return Seen(row[0], whole, dict(zip(wanted, row[1:], strict=True)))

    def ask(self, query: str, parameters: Mapping[str, Any] | None = None) -> sa.Row[Any] | None:
        """Ask for one row, for some seconds at most; None where there is no answer."""
        text = sa.text(query if parameters else escaped(query))
        nested = self._connection.begin_nested()
        try:
            self._connection.execute(_PATIENCE, {"milliseconds": str(int(SECONDS * 1000))})
            return self._connection.execute(text, parameters or {}).one()
        except sa.exc.DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None) or ""
            if error.connection_invalidated or not state.startswith(_UNSEEN):
                raise
            return None
        finally:
            if nested.is_active:
                nested.rollback()


_SIZE = """
    SELECT COALESCE(sum(pg_relation_size(relid)), 0) / current_setting('block_size')::int AS pages
    FROM (SELECT CAST(:oid AS oid) AS relid
          UNION SELECT relid FROM pg_partition_tree(CAST(:oid AS oid))) AS parts
"""
