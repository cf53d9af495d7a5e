"""What is wrong with a mapping, collected: names, keys and expressions asked of the server.

`resolution.py` and `levels.py` decide what to ask; here is how one asks, and how a problem is put.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from inventory_migration.catalog.resolved import column_sql
from inventory_migration.catalog.tables import (
    Relation,
    closed_schemas,
    find_table,
    table_names,
)
from inventory_migration.database import escaped, explain
from inventory_migration.errors import MappingInvalid
from inventory_migration.mapping import ColumnOrExpression, StockMapping, TableName

# A write is planned under a lock that an index build or a standby refuses, and by a role that may
# only want to look: then the mapping is not at fault.
_NO_FAULT = {"42501", "55000", "55P03"}


class Findings:
    """Collects problems on the way, so that a user sees all of them at once."""

    def __init__(self, connection: sa.Connection, mapping: StockMapping) -> None:
        """Find nothing yet."""
        self.connection = connection
        self.mapping = mapping
        self.problems: list[str] = []

    def stop_if_any(self) -> None:
        """Raise `MappingInvalid` with every problem so far."""
        if self.problems:
            raise MappingInvalid(origin=self.mapping.name, problems=self.problems)

    def problem(self, where: str, what: str) -> None:
        """Note what is wrong, and at which key of the mapping."""
        self.problems.append(f"{self.mapping.name}: {where}: {what}")

    def probe(self, where: str, query: str) -> None:
        """Have the server plan a statement, which changes nothing, and note what it objects to."""
        nested = self.connection.begin_nested()
        try:
            self.connection.execute(sa.text("SET LOCAL lock_timeout = '200ms'"))
            self.connection.execute(sa.text(escaped(query)))
        except sa.exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in _NO_FAULT:
                self.problem(where, f"the server refuses it: {_first_line(error)}")
        finally:
            nested.rollback()

    def check_comparable(self, where: str, kind: str | None, other: str, other_kind: str) -> None:
        """Note where two types cannot be compared."""
        if kind is None:
            return
        nested = self.connection.begin_nested()
        try:
            self.connection.execute(
                sa.text(f"SELECT NULL::{escaped(kind)} = NULL::{escaped(other_kind)}")
            )
        except sa.exc.DBAPIError:
            self.problem(where, f"is {kind} and cannot be compared with {other}, {other_kind}")
        finally:
            nested.rollback()

    def expression_type(
        self, where: str, source: Relation, column: ColumnOrExpression
    ) -> str | None:
        """The type of an expression over the source, by asking the server to plan it."""
        joins = self.mapping.source.joins
        query = f"SELECT {column_sql(column)} FROM {source.sql} AS s {joins} LIMIT 0"  # noqa: S608
        nested = self.connection.begin_nested()
        try:
            result = self.connection.execute(sa.text(escaped(query)))
            code = result.cursor.description[0][1]
            result.close()
            return str(
                self.connection.execute(
                    sa.text("SELECT format_type(:oid, NULL)"), {"oid": code}
                ).scalar_one()
            )
        except sa.exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == "42501":
                raise explain(error, self.connection.engine) from None
            self.problem(where, f"the server refuses it: {_first_line(error)}")
            return None
        finally:
            nested.rollback()

    def check_columns(
        self, relation: Relation, wanted: dict[str, str], *, otherwise: str = ""
    ) -> bool:
        """Note columns that a table does not have, with the nearest that it has.

        Args:
            relation: The table.
            wanted: Each column, by the key of the mapping that names it.
            otherwise: What else may be done about a lack.
        """
        missing = {where: name for where, name in wanted.items() if name not in relation.columns}
        for where, name in missing.items():
            hint = _nearest(name, relation.columns)
            self.problem(where, f"table {relation.name} has no column {name}{hint}{otherwise}")
        return not missing

    def check_length(self, wanted: dict[str, str]) -> None:
        """Note names of what is to be added that the server would cut without a word."""
        limit = int(self.connection.execute(_LONGEST_NAME).scalar_one())
        for where, name in wanted.items():
            if (size := len(name.encode())) > limit:
                self.problem(
                    where,
                    f"{name} is {size} bytes long, and PostgreSQL cuts names after {limit}; "
                    "choose a shorter one",
                )

    def check_key(self, where: str, relation: Relation, key: tuple[str, ...]) -> None:
        """Note a key that may be NULL or that nothing keeps unique."""
        if any(name not in relation.columns for name in key):
            return
        nullable = [name for name in key if not relation.columns[name].not_null]
        if nullable:
            self.problem(
                where,
                f"{', '.join(nullable)} of {relation.name} may be NULL; the columns of a key are "
                "NOT NULL",
            )
        elif not any(set(unique) <= set(key) for unique in relation.unique_keys):
            self.problem(
                where,
                f"nothing makes {', '.join(key)} unique in {relation.name}; "
                "a key needs a primary key or a unique index",
            )

    def relation(
        self,
        where: str,
        name: TableName,
        *,
        required: bool = True,
        fired_by: int = 0,
        written: Sequence[str] = (),
    ) -> Relation | None:
        """Read a table from the catalog, and note what makes it unfit; see `tables.find_table`."""
        found = find_table(self.connection, name, fired_by=fired_by, written=written)
        if found is None:
            closed = closed_schemas(self.connection, name)
            if closed:
                self.problem(
                    where,
                    f"the role may not use schema {', '.join(closed)}, which has a table {name}; "
                    "'inventory-migration grants', called by the owner of the tables, prints what "
                    "it needs",
                )
            elif required:
                hint = _nearest(str(name), table_names(self.connection))
                self.problem(where, f"there is no table {name}{hint}")
            return None
        for objection in found.objections:
            self.problem(where, objection)
        return found.relation


_LONGEST_NAME = sa.text("SELECT current_setting('max_identifier_length')")


def _first_line(error: sa.exc.DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]


def _nearest(name: str, known: Iterable[str]) -> str:
    lowered = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean {lowered[close[0]]}?" if close else ""
