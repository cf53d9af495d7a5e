"""What is wrong with a mapping, collected: names, keys and expressions asked of the server.

`resolution.py` and `levels.py` decide what to ask; here is how one asks, and how a problem is put.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from inventory_migration.catalog.conversions import column_sql
from inventory_migration.catalog.tables import (
    Column,
    Relation,
    closed_schemas,
    find_table,
    table_names,
)
from inventory_migration.database import escaped, explain
from inventory_migration.errors import MappingInvalid, nearest
from inventory_migration.mapping import ColumnOrExpression, StockMapping, TableName

# A write is planned under a lock that an index build or a standby refuses, and by a role that may
# only want to look: then the mapping is not at fault.
_NO_FAULT = {"42501", "55000", "55P03"}

# What the server says of itself or of the moment: connection, resources, shutdown, system.
_NOT_OF_THE_STATEMENT = ("08", "40", "53", "57", "58")


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
        objection = self._objection(query)
        if objection is not None:
            self.problem(where, f"the server refuses it: {objection}")

    def probe_together(self, together: str, apart: Mapping[str, str]) -> None:
        """Probe statements by one that does what all of them do; apart only to say who is at fault.

        Args:
            together: The one statement.
            apart: The statements, by the key of the mapping that each is for.
        """
        if apart and self._objection(together) is not None:
            for where, query in apart.items():
                self.probe(where, query)

    def _objection(self, query: str) -> str | None:
        nested = self.connection.begin_nested()
        try:
            self.connection.execute(_BRIEFLY)
            self.connection.execute(sa.text(escaped(query)))
        except sa.exc.DBAPIError as error:
            _raise_unless_answered(error)
            faultless = getattr(error.orig, "sqlstate", None) in _NO_FAULT
            return None if faultless else _first_line(error)
        finally:
            nested.rollback()
        return None

    def check_comparable(self, where: str, kind: str | None, other: str, other_kind: str) -> None:
        """Note where two types cannot be compared."""
        if kind is None:
            return
        nested = self.connection.begin_nested()
        try:
            self.connection.execute(
                sa.text(f"SELECT NULL::{escaped(kind)} = NULL::{escaped(other_kind)}")
            )
        except sa.exc.DBAPIError as error:
            _raise_unless_answered(error)
            self.problem(where, f"is {kind} and cannot be compared with {other}, {other_kind}")
        finally:
            nested.rollback()

    def expression_types(
        self, source: Relation, expressions: Mapping[str, ColumnOrExpression]
    ) -> dict[str, str | None]:
        """The types of expressions over the source, by asking the server to plan them.

        They are asked for together, and apart only to say which of them the server refuses.

        Args:
            source: The table that they are over.
            expressions: Each by the key of the mapping that holds it.
        """
        try:
            return dict(zip(expressions, self._types(source, [*expressions.values()]), strict=True))
        except sa.exc.DBAPIError as error:
            _raise_unless_answered(error)
            return {
                where: self._expression_type(where, source, expression)
                for where, expression in expressions.items()
            }

    def _expression_type(
        self, where: str, source: Relation, expression: ColumnOrExpression
    ) -> str | None:
        try:
            return self._types(source, [expression])[0]
        except sa.exc.DBAPIError as error:
            self._note_refusal(where, error)
            return None

    def _types(self, source: Relation, expressions: Sequence[ColumnOrExpression]) -> list[str]:
        selected = ", ".join(map(column_sql, expressions))
        query = f"SELECT {selected} FROM {source.sql} AS s {self.mapping.source.joins} LIMIT 0"  # noqa: S608
        return [kind for _, kind in self._described(query)]

    def columns_of(self, where: str, query: str) -> dict[str, Column] | None:
        """The columns that a SELECT gives, by having the server plan it; None where it refuses."""
        try:
            found = self._described(f"SELECT * FROM ({query}\n) AS q LIMIT 0")  # noqa: S608
        except sa.exc.DBAPIError as error:
            self._note_refusal(where, error)
            return None
        return {name: Column(name, kind, False, False, False) for name, kind in found}

    def _described(self, query: str) -> list[tuple[str, str]]:
        """Name and type of each column of a query, by having the server plan it."""
        nested = self.connection.begin_nested()
        try:
            result = self.connection.execute(sa.text(escaped(query)))
            found = [(column[0], column[1]) for column in result.cursor.description]
            result.close()
            types = self.connection.execute(_TYPE_NAMES, {"oids": [oid for _, oid in found]})
            return list(zip((name for name, _ in found), types.scalars(), strict=True))
        finally:
            nested.rollback()

    def _note_refusal(self, where: str, error: sa.exc.DBAPIError) -> None:
        """Note what the server objects to; what a role may not read is no fault of a mapping."""
        if getattr(error.orig, "sqlstate", None) == "42501":
            raise explain(error, self.connection.engine) from None
        _raise_unless_answered(error)
        self.problem(where, f"the server refuses it: {_first_line(error)}")

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
            hint = nearest(name, relation.columns)
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
                hint = nearest(str(name), table_names(self.connection))
                self.problem(where, f"there is no table {name}{hint}")
            return None
        for objection in found.objections:
            self.problem(where, objection)
        return found.relation


_BRIEFLY = sa.text("SET LOCAL lock_timeout = '200ms'")

_TYPE_NAMES = sa.text("""
    SELECT format_type(oid, NULL)
    FROM unnest(CAST(:oids AS oid[])) WITH ORDINALITY AS t(oid, place)
    ORDER BY place
""")

_LONGEST_NAME = sa.text("SELECT current_setting('max_identifier_length')")


def _raise_unless_answered(error: sa.exc.DBAPIError) -> None:
    """Let go on what is no answer to the question: a lost connection says nothing of a mapping."""
    state = getattr(error.orig, "sqlstate", None) or ""
    if error.connection_invalidated or state.startswith(_NOT_OF_THE_STATEMENT):
        raise error


def _first_line(error: sa.exc.DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]
