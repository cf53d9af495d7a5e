"""What the database holds of one migration: its tables, their columns, and how much is in them.

Numbers come from one scan of each table: rows, exact sums, what a narrower type of a file must fit,
and a digest by which two looks at the same rows can be compared. How a file is written belongs in
`archive/`, what is removed in `purge.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa

from inventory_migration.catalog import literal
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import ledger
from inventory_migration.engine.ledger import SCHEMA, Migration

RECORDS = frozenset(
    {"after_image", "chunk", "conflict", "level_image", "outcome", "retry"}
    | {"snapshot", "planned_location"}
)
"""What holds a row for each record or chunk, and is removed by a purge."""

# Neither what is about all migrations, nor what may still change when one has ended.
_NEVER_ARCHIVED = {"archive", "notification", "notification_channel", "transition", "version"}


@dataclass(frozen=True)
class HeldColumn:
    """A column as its table has it.

    Attributes:
        name: Its name.
        type: Its type with length, precision and scale, as SQL spells it.
        base: The built-in type below domains; None where it is none.
    """

    name: str
    type: str
    base: str | None


@dataclass(frozen=True)
class Holding:
    """The rows of one table that belong to a migration.

    Attributes:
        name: What it is called in an archive.
        table: The quoted table.
        columns: Its columns.
        where: Which rows of it.
        order: The columns that they are in order of.
    """

    name: str
    table: str
    columns: tuple[HeldColumn, ...]
    where: str
    order: tuple[str, ...]

    @property
    def rows(self) -> str:
        """The rows, in any order."""
        listed = ", ".join(quoted(column.name) for column in self.columns)
        return f"SELECT {listed} FROM {self.table} WHERE {self.where}"

    @property
    def ordered_rows(self) -> str:
        """The rows in their order."""
        return f"{self.rows} ORDER BY {', '.join(quoted(name) for name in self.order)}"


@dataclass(frozen=True)
class Range:
    """What the values of a column need of a type.

    Attributes:
        scales: The smallest and the largest number of digits behind the point; None where there is
            no number.
        digits: The most digits before it.
        unusual: How many values no number or calendar of four-digit years has.
        counted: How many numbers are summed.
        sum: Their exact sum, as text.
    """

    scales: tuple[int, int] | None = None
    digits: int = 0
    unusual: int = 0
    counted: int = 0
    sum: str = "0"


@dataclass(frozen=True)
class Measure:
    """How much a holding has: rows, the ranges of its columns, and a digest of it all."""

    rows: int
    digest: str
    ranges: dict[str, Range]


def holdings(connection: sa.Connection, migration: Migration) -> list[Holding]:
    """The tables that have something of a migration to say, the snapshot first."""
    own = {
        "snapshot": (f"snapshot_{migration.migration_id}", "position"),
        "planned_location": (f"snapshot_{migration.migration_id}_location", "company_key"),
    }
    found = [
        Holding(name, quoted(SCHEMA, table), _columns(connection, table), "true", (order,))
        for name, (table, order) in own.items()
        if ledger.table_exists(connection, table)
    ]
    for table in ledger.metadata.sorted_tables:
        if table.name in _NEVER_ARCHIVED:
            continue
        found.append(
            Holding(
                table.name,
                quoted(SCHEMA, table.name),
                _columns(connection, table.name),
                _of(migration, table),
                tuple(column.name for column in table.primary_key) or ("migration_id",),
            )
        )
    return found


def measure(connection: sa.Connection, holding: Holding) -> Measure:
    """Count, sum and digest a holding, in one scan.

    The transaction spells values as `spell_plainly` has them.
    """
    asked = ["count(*) AS rows"]
    # A sum over rows, so that their order does not matter.
    asked.append("COALESCE(sum(hashtextextended(im_row::text, 0)), 0)::text AS digest")
    for number, column in enumerate(holding.columns):
        asked += [f"{sql} AS {name}_{number}" for name, sql in _asked(column)]
    row = connection.execute(
        sa.text(escaped(f"SELECT {', '.join(asked)} FROM ({holding.rows}) AS im_row"))
    ).one()
    ranges = {
        column.name: _range(row, number)
        for number, column in enumerate(holding.columns)
        if [*_asked(column)]
    }
    return Measure(int(row.rows), row.digest, ranges)


def spell_plainly(connection: sa.Connection) -> None:
    """Let this transaction spell values exactly, and the same way everywhere."""
    for setting, value in SPELLING.items():
        connection.execute(
            sa.text("SELECT set_config(:setting, :value, true)"),
            {"setting": setting, "value": value},
        )


def ended_at(connection: sa.Connection, migration: Migration) -> datetime:
    """When a migration came to the state that it has."""
    event = ledger.event
    found = connection.execute(
        sa.select(sa.func.max(event.c.at)).where(
            event.c.migration_id == migration.migration_id,
            event.c.kind == f"state_{migration.state}",
        )
    ).scalar()
    if found is None:
        found = connection.execute(
            sa.select(
                sa.func.coalesce(ledger.migration.c.finished_at, ledger.migration.c.started_at)
            ).where(ledger.migration.c.migration_id == migration.migration_id)
        ).scalar_one()
    return cast(datetime, found)


def last_event(connection: sa.Connection, migration: Migration) -> int:
    """The newest entry of a migration's trail, but for what was said of its archives."""
    event = ledger.event
    return int(
        connection.execute(
            sa.select(sa.func.coalesce(sa.func.max(event.c.event_id), 0)).where(
                event.c.migration_id == migration.migration_id,
                event.c.kind.not_in(("archived", "purged")),
            )
        ).scalar_one()
    )


def _of(migration: Migration, table: sa.Table) -> str:
    """The condition that a row of the ledger belongs to a migration.

    Verdicts and looks are about a mapping: a migration relies on those that others have given
    before it, and is watched after it has ended.
    """
    mapping = f"mapping = {literal(migration.mapping)}"
    looks = f"SELECT observation_id FROM {SCHEMA}.observation WHERE {mapping}"
    about = {
        "gate": mapping,
        "observation": mapping,
        "observation_company": f"observation_id IN ({looks})",
    }
    return about.get(table.name, f"migration_id = {migration.migration_id}")


def _columns(connection: sa.Connection, table: str) -> tuple[HeldColumn, ...]:
    rows = connection.execute(_COLUMNS, {"table": quoted(SCHEMA, table)})
    return tuple(HeldColumn(row.name, row.type, row.base) for row in rows)


def _asked(column: HeldColumn) -> Iterator[tuple[str, str]]:
    """What has to be known of a column's values, as aggregates by name."""
    name = quoted(column.name)
    if column.base == "numeric":
        # NaN and Infinity have no scale.
        finite = f"FILTER (WHERE scale({name}) IS NOT NULL)"
        yield "least", f"min(scale({name}))"
        yield "most", f"max(scale({name}))"
        yield "digits", f"max(length(trunc(abs({name}))::text)) {finite}"
        yield "unusual", f"count({name}) FILTER (WHERE scale({name}) IS NULL)"
        yield "counted", f"count({name}) {finite}"
        yield "sum", f"COALESCE(sum({name}) {finite}, 0)::text"
    elif column.base in {"date", "timestamp", "timestamptz"}:
        usual = f"{name} BETWEEN '0001-01-01' AND '9999-12-31'"
        yield "unusual", f"count({name}) FILTER (WHERE NOT ({usual}))"


def _range(row: sa.Row[Any], number: int) -> Range:
    def told(name: str) -> Any:
        return getattr(row, f"{name}_{number}", None)

    least = told("least")
    return Range(
        scales=None if least is None else (int(least), int(told("most"))),
        digits=int(told("digits") or 0),
        unusual=int(told("unusual") or 0),
        counted=int(told("counted") or 0),
        sum=told("sum") or "0",
    )


SPELLING = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
}

_COLUMNS = sa.text("""
    WITH RECURSIVE base AS (
        SELECT a.attnum, a.attname::text AS name, a.atttypid AS oid,
               format_type(a.atttypid, a.atttypmod) AS type
        FROM pg_attribute a
        WHERE a.attrelid = to_regclass(:table) AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT b.attnum, b.name, t.typbasetype, b.type
        FROM base b JOIN pg_type t ON t.oid = b.oid
        WHERE t.typtype = 'd')
    SELECT b.name, b.type, CASE WHEN n.nspname = 'pg_catalog' THEN t.typname::text END AS base
    FROM base b JOIN pg_type t ON t.oid = b.oid JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype <> 'd'
    ORDER BY b.attnum
""")
