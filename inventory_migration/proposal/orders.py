"""What is reserved, where no column of the record says it: the open lines of orders."""

from __future__ import annotations

from dataclasses import dataclass

from inventory_migration.database import quoted
from inventory_migration.proposal.glance import Glance
from inventory_migration.proposal.owners import Link, links
from inventory_migration.proposal.sources import numbers, quantities
from inventory_migration.proposal.survey import Survey, Table, is_moment
from inventory_migration.proposal.words import CANCELLED, OPEN_UNTIL, says, words

_ORDERS = ("order", "sale")
_LINES = (*_ORDERS, "line", "item")
_NO_ORDERS = ("purchase", "return", "refund", "transfer", "history", "log", "audit", "archive",
              "shipment", "fulfillment", "fulfilment", "import", "draft")  # fmt: skip

SHOWN = 12
"""How many values of a status are told."""


@dataclass(frozen=True)
class Lines:
    """A table of order lines that refer to the record.

    Attributes:
        record: How a line leads to the record.
        order: How it leads to its order.
        quantity: The column with what was ordered.
        done: The column with what is no longer open of it, if there is one.
        ends: Columns of the order that are NULL while it is open.
    """

    table: Table
    record: Link
    order: Link
    quantity: str
    done: str | None
    ends: tuple[str, ...]

    @property
    def said(self) -> str:
        """What was found, for a person."""
        return (
            f"{self.table.said}.{self.quantity}, lines of {self.order.table.said} that refer to "
            "the record"
        )

    def sql(self, survey: Survey) -> str:
        """The sum of a record's open lines."""

        def same(alias: str, link: Link, other: str) -> str:
            return " AND ".join(
                f"{survey.column(alias, mine)} = {survey.column(other, theirs)}"
                for mine, theirs in zip(link.columns, link.keys, strict=True)
            )

        units = survey.column("d", self.quantity)
        if self.done:
            units += f" - COALESCE({survey.column('d', self.done)}, 0)"
        opened = " AND ".join(f"{survey.column('o', name)} IS NULL" for name in self.ends)
        return (
            f"(SELECT COALESCE(sum({units}), 0) FROM {survey.table(self.table)} AS d "
            f"JOIN {survey.table(self.order.table)} AS o ON {same('d', self.order, 'o')} "
            f"WHERE {same('d', self.record, 's')} AND {opened})"
        )

    def statuses(self, glance: Glance) -> str:
        """What the orders have as their status, for a person who has to say which are open."""
        table = self.order.table
        for name in table.columns:
            if words(name)[-1:] in (("status",), ("state",)):
                values = f"(array_agg(DISTINCT left(s.{quoted(name)}::text, 40)))[1:{SHOWN}]"
                seen = glance.look(table, {"values": values})
                if seen is None or not seen.values["values"]:
                    return f"{table.said}.{name}"
                listed = ", ".join(value for value in seen.values["values"] if value is not None)
                return f"{table.said}.{name}, which holds {listed} among {seen.of}"
        return ""


def open_lines(survey: Survey, source: Table) -> list[Lines]:
    """The tables of order lines that refer to the record; first those that tell what is open."""
    found = []
    for table in survey.tables.values():
        if table is source or not says(table.name, _LINES) or says(table.name, _NO_ORDERS):
            continue
        quantity = quantities(table)
        ways = list(links(survey, table))
        records = [way for way in ways if way.table is source]
        orders = [
            way
            for way in ways
            if way.table is not source
            and says(way.table.name, _ORDERS)
            and not says(way.table.name, _NO_ORDERS)
        ]
        if not (quantity and records and orders):
            continue
        order = orders[0]
        found.append(
            Lines(
                table,
                records[0],
                order,
                quantity[0][0],
                # One of them: what is shipped of a line has been fulfilled as well.
                next((n for n in numbers(table) if says(n, OPEN_UNTIL)), None),
                _ends(order.table),
            )
        )
    return sorted(found, key=lambda lines: (not lines.ends, lines.table.said))


def _ends(order: Table) -> tuple[str, ...]:
    moments = [n for n, c in order.columns.items() if is_moment(c) and not c.not_null]
    closing = [name for name in moments if says(name, OPEN_UNTIL)]
    if not closing:
        return ()
    return (*closing, *(name for name in moments if says(name, CANCELLED)))
