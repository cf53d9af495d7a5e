"""Stock as it was known before the move and as it lies at locations now, as relations.

`lines` has a row for each record and location, `records` one for each record with the numbers that
the application kept before. Both are SQL text, made of the mapping alone; what is asked of them is
said in `operations.py` and `queries.py`.
"""

from __future__ import annotations

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import quoted
from inventory_migration.engine import columns, owners, readings
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.shapes import shape_of

MEASURES = ("on_hand", "reserved", "available")


def lines(resolved: ResolvedMapping) -> str:
    """What lies where: keys, company_key, item_key, skipped, location_key, on_hand, reserved, xmin.

    With level_1 and so on, where levels are named by another key than the record's; and `meant`,
    where the mapping lets operations be tried on the record.
    """
    meant = resolved.mapping.acceptance.record
    named = [_keys(resolved)]
    if resolved.target_key:
        values = columns.record_values(resolved)
        named += [f"{value} AS level_{number}" for number, value in enumerate(values, 1)]
    return f"""
        SELECT {", ".join(named)}, {_whose(resolved)},
               {f"({meant.sql}) IS TRUE" if meant else "true"} AS meant,
               im_a.location_key, im_a.on_hand, im_a.reserved, im_a.xmin
        FROM {_source(resolved)} {shape_of(resolved).lines()}"""


def records(resolved: ResolvedMapping) -> str:
    """Each record as it was before: keys, company_key, item_key, skipped, on_hand, reserved."""
    quantity, reserved = readings.quantity(resolved), readings.reserved(resolved)
    return f"""
        SELECT {_keys(resolved)}, {_whose(resolved)},
               {shape_of(resolved).on_hand(quantity, reserved)} AS on_hand, {reserved} AS reserved
        FROM {_source(resolved)}"""


def moved(resolved: ResolvedMapping, migrations: list[Migration]) -> str:
    """The keys of the records that these migrations have placed, and by which transaction.

    What was put aside or skipped is none of them, nor what has arrived since.
    """
    keys = ", ".join(f"p.{key}" for key in columns.keys(resolved))
    placed = [
        # By which transaction is not known any more.
        f"SELECT {keys}, NULL::text AS xid FROM {migration.covered} AS p WHERE p.moved"
        if migration.purged
        else f"""
        SELECT {keys}, k.xid FROM {migration.snapshot} AS p
        JOIN {SCHEMA}.chunk AS k
          ON k.migration_id = {migration.migration_id} AND k.number = p.chunk AND k.state = 'done'
        WHERE NOT EXISTS (SELECT FROM {SCHEMA}.outcome AS o
                          WHERE o.migration_id = {migration.migration_id}
                            AND o.position = p.position AND o.outcome <> 'already')"""
        for migration in migrations
        if migration.state == "verified"
    ]
    if not placed:
        nothing = zip(resolved.key_columns, columns.keys(resolved), strict=True)
        none = ", ".join(f"NULL::{column.type} AS {key}" for column, key in nothing)
        return f"SELECT {none}, NULL::text AS xid WHERE false"
    return " UNION ALL ".join(placed)


def _keys(resolved: ResolvedMapping) -> str:
    pairs = zip(resolved.key_columns, columns.keys(resolved), strict=True)
    return ", ".join(f"s.{quoted(column.name)} AS {key}" for column, key in pairs)


def _whose(resolved: ResolvedMapping) -> str:
    skips = [f"({condition.sql}) IS TRUE" for condition in resolved.mapping.source.skip.values()]
    return (
        f"{owners.company_key(resolved)} AS company_key, {readings.item(resolved)} AS item_key, "
        f"({' OR '.join(skips) or 'false'}) AS skipped"
    )


def _source(resolved: ResolvedMapping) -> str:
    joins = resolved.mapping.source.joins
    return f"{resolved.source.sql} AS s {joins} {owners.join(resolved)}"
