"""Migrated stock as it is today, as relations: what `expectations/steady_state.json` is held to.

Nothing here needs a migration's snapshot but one question, whether a record without a level was
ever seen: the keys that a purge leaves answer it too. What a look found is kept in
`observations.py`.
"""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping, literal
from inventory_migration.database import quoted
from inventory_migration.engine import (
    canonical,
    columns,
    coverage,
    ledger,
    owners,
    places,
    sync,
)
from inventory_migration.engine.ledger import SCHEMA
from inventory_migration.engine.shapes import shape_of
from inventory_migration.engine.shapes.stock_level import StockLevel as LevelShape
from inventory_migration.mapping import AllocationJson, StockLevel


def levels_count(connection: sa.Connection, resolved: ResolvedMapping) -> bool:
    """Whether levels are the application's own by now, so that they say how much there is."""
    if not isinstance(resolved.mapping.target, StockLevel):
        return False
    if not sync.wanted(resolved):
        return True
    return (
        ledger.installed(connection)
        and sync.was_cut_over(connection, resolved.mapping.name) is not None
    )


def without_meaning(connection: sa.Connection, resolved: ResolvedMapping) -> set[str]:
    """The expectations that this mapping's stock can not fail, or that nobody can judge."""
    mapping = resolved.mapping
    found = set(mapping.rules_without_meaning)
    levels = isinstance(mapping.target, StockLevel)
    counts = levels_count(connection, resolved)
    if not levels:
        found |= {"levels-of-records"}
    if not isinstance(mapping.target, AllocationJson):
        found |= {"allocations-add-up"}
    if not levels or counts:
        found |= {"levels-add-up"}
    if counts and _seen(connection, resolved) is None:
        found |= {"location-present"}
    return found


def records(connection: sa.Connection, resolved: ResolvedMapping) -> str:
    """Every stock record with what is expected of it: true, false, or NULL where it is not asked.

    Columns: key_text, company_key, watched, locations, located, location_found, location_own,
    adds_up, quantity, reserved, not_negative, reserved_covered. A record that is skipped, or that
    was put aside and still is, is not asked for anything.
    """
    counts = levels_count(connection, resolved)
    shape = shape_of(resolved)
    keys = ", ".join(f"n.{key}" for key in columns.keys(resolved))
    net = resolved.mapping.quantity_basis == "net"
    held = "on_hand - reserved" if net else "on_hand"
    # A record may refer to no location; a level that does refers to one that is not there.
    nowhere = "true" if isinstance(shape, LevelShape) else "location_key IS NOT NULL"
    rows = canonical.source_rows(replace(resolved, target_exists=False), hashed=False)
    quantity, promised = "quantity", "reserved"
    located = "locations > 0"
    if counts:
        # What has no level is nowhere, unless it was left in its record.
        quantity, promised = (
            f"CASE WHEN locations > 0 THEN held_{name} WHEN watched THEN 0 ELSE {name} END"
            for name in ("quantity", "reserved")
        )
        seen = _seen(connection, resolved)
        new = seen if seen is not None else "false"
        # Levels that the application takes away, or never made for what it has none of, are its
        # own business; units that no migration has seen and no level has are lost to everybody.
        located = f"locations > 0 OR NOT ({new}) OR COALESCE(quantity, 0) = 0"
    adds_up = (
        "NULL::boolean"
        if counts or shape.held() is None
        else "CASE WHEN locations > 0 THEN held_quantity IS NOT DISTINCT FROM quantity "
        "AND held_reserved IS NOT DISTINCT FROM reserved END"
    )
    return f"""
        SELECT key_text, company_key, watched, locations, adds_up AS adds_up,
               located, location_found, location_own, quantity_now AS quantity,
               reserved_now AS reserved,
               CASE WHEN watched THEN (quantity_now < 0) IS NOT TRUE AND negative_ones = 0
                    END AS not_negative,
               CASE WHEN watched THEN
                    (quantity_now < 0 OR reserved_now <= quantity_now) IS NOT FALSE
                    END AS reserved_covered
        FROM (
            SELECT r.*, CASE WHEN watched THEN {located} END AS located,
                   CASE WHEN watched THEN missing = 0 END AS location_found,
                   CASE WHEN watched THEN foreign_ones = 0 END AS location_own,
                   CASE WHEN watched THEN {adds_up} END AS adds_up,
                   {quantity} AS quantity_now, {promised} AS reserved_now
            FROM (
                SELECT r.key_text, r.company_key, r.quantity, r.reserved,
                       {", ".join(f"r.{key}" for key in columns.keys(resolved))},
                       r.skip_reason IS NULL AND a.{columns.keys(resolved)[0]} IS NULL AS watched,
                       COALESCE(n.locations, 0) AS locations, COALESCE(n.missing, 0) AS missing,
                       COALESCE(n.foreign_ones, 0) AS foreign_ones,
                       COALESCE(n.negative_ones, 0) AS negative_ones,
                       n.held_quantity, n.held_reserved
                FROM ({rows}) AS r
                LEFT JOIN (
                    SELECT {keys}, count(*) FILTER (WHERE {nowhere}) AS locations,
                           count(*) FILTER (WHERE {nowhere} AND NOT found) AS missing,
                           count(*) FILTER (WHERE found AND NOT own) AS foreign_ones,
                           count(*) FILTER (WHERE on_hand < 0) AS negative_ones,
                           CASE WHEN count({held}) = count(*) THEN sum({held}) END
                               AS held_quantity,
                           CASE WHEN count(reserved) = count(*) THEN sum(reserved) END
                               AS held_reserved
                    FROM ({placements(resolved)}) AS n
                    GROUP BY {keys}) AS n ON {columns.same_key(resolved, "n", "r")}
                LEFT JOIN ({_put_aside(connection, resolved)}) AS a
                  ON {columns.same_key(resolved, "a", "r")}) AS r) AS judged"""


def placements(resolved: ResolvedMapping) -> str:
    """Each location that a record names: its keys, location_key, on_hand, reserved, found, own."""
    named = zip(resolved.key_columns, columns.keys(resolved), strict=True)
    keys = ", ".join(f"s.{quoted(column.name)} AS {key}" for column, key in named)
    shape = shape_of(resolved)
    lines = (
        shape.lines()
        if resolved.target_exists
        else f"CROSS JOIN LATERAL (SELECT NULL::{shape.location_type} AS location_key, "
        "0::numeric AS on_hand, 0::numeric AS reserved) AS im_a"
    )
    # The fence keeps the planner, which takes an allocation for a hundred, from looking through all
    # locations for each record.
    rows = f"""
        SELECT {keys}, {owners.company_key(resolved)} AS company_key,
               im_a.location_key, im_a.on_hand, im_a.reserved
        FROM {resolved.source.sql} AS s {resolved.mapping.source.joins} {owners.join(resolved)}
        {lines}
        OFFSET 0"""
    if resolved.locations is None:
        return f"SELECT q.*, false AS found, false AS own FROM ({rows}) AS q WHERE false"
    return f"""
        SELECT q.*, l.location_key IS NOT NULL AS found,
               COALESCE({places.belongs(resolved, "l", "q.company_key")}, false) AS own
        FROM ({rows}) AS q
        LEFT JOIN ({places.places(resolved)}) AS l
          ON {shape.same_location("l.location_key", "q.location_key")}"""


def companies(resolved: ResolvedMapping) -> str:
    """Every company: key_text, default_locations."""
    company = resolved.mapping.company
    return f"""
        SELECT concat_ws(', ', c.{quoted(company.key)}, c.{quoted(company.name)}::text) AS key_text,
               COALESCE(d.default_locations, 0) AS default_locations
        FROM {resolved.company.sql} AS c
        LEFT JOIN ({canonical.defaults_by_company(resolved)}) AS d
          ON d.company_key = c.{quoted(company.key)}"""


def levels_astray(resolved: ResolvedMapping) -> str:
    """Levels of no record: key_text, location, why; none where there are no levels."""
    shape = shape_of(resolved)
    if isinstance(shape, LevelShape) and resolved.target_exists:
        return shape.astray()
    return "SELECT NULL::text AS key_text, NULL::text AS location, NULL::text AS why WHERE false"


def totals(connection: sa.Connection, resolved: ResolvedMapping) -> str:
    """By company: company_key as text, records, units, reserved, put_aside."""
    return f"""
        SELECT company_key::text AS company_key, count(*) AS records,
               COALESCE(sum(quantity), 0) AS units, COALESCE(sum(reserved), 0) AS reserved,
               count(*) FILTER (WHERE NOT watched) AS put_aside
        FROM ({records(connection, resolved)}) AS r
        GROUP BY company_key"""


def _put_aside(connection: sa.Connection, resolved: ResolvedMapping) -> str:
    """The keys of records that are in quarantine, or that somebody has decided to leave."""
    named = list(zip(resolved.key_columns, columns.keys(resolved), strict=True))
    if not ledger.installed(connection):
        nothing = ", ".join(f"NULL::{column.type} AS {key}" for column, key in named)
        return f"SELECT {nothing} WHERE false"
    read = ", ".join(f"{quoted(column.name)} {column.type}" for column, _ in named)
    keys = ", ".join(f"k.{quoted(column.name)} AS {key}" for column, key in named)
    waived = "".join(
        f"""
        UNION
        SELECT {", ".join(key for _, key in named)} FROM {migration.covered} AS p WHERE p.waived"""
        for migration in coverage.dealt_with(connection, resolved)
        if migration.purged
    )
    return f"""
        SELECT DISTINCT {keys}
        FROM {SCHEMA}.outcome AS o
        JOIN {SCHEMA}.migration AS m USING (migration_id)
        CROSS JOIN LATERAL jsonb_to_record(o.record) AS k({read})
        WHERE m.target = {literal(resolved.target)} AND m.source_oid = {resolved.source.oid}
          AND m.state <> 'rolled_back'
          AND o.outcome = 'quarantined' AND o.state IN ('open', 'waived') {waived}"""


def _seen(connection: sa.Connection, resolved: ResolvedMapping) -> str | None:
    """The condition that no migration has seen a record `r`; None where that is not known any more.

    A purge leaves the keys; whoever has dropped a snapshot by hand has not.
    """
    if not ledger.installed(connection):
        return "true"
    covered = coverage.verified(coverage.dealt_with(connection, resolved))
    if not all(m.purged or ledger.snapshot_exists(connection, m) for m in covered):
        return None
    return coverage.never_seen(resolved, covered)
