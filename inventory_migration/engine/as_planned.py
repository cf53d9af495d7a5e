"""Records whose row is still the version that was planned: nothing about them is asked again.

A snapshot notes the transaction that wrote each row last, where the row alone says that its record
is to be migrated. As long as it is that version, so it does; a chunk asks only whether the company
and its default location still stand. What is another version by now is classified as it is
(`fast_path.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from inventory_migration.catalog import Derived, ResolvedMapping
from inventory_migration.database import quoted
from inventory_migration.engine import canonical, columns, rules
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.scans import FENCE
from inventory_migration.engine.shapes import shape_of
from inventory_migration.mapping import StockLevel

ROW_XMIN = "s.xmin AS row_xmin"
"""What `row_version` reads of a source row `s`."""


def is_plain(resolved: ResolvedMapping) -> bool:
    """Whether what decides about a record stands in its row, its company's, location's, level's.

    A trigger that keeps levels in step has a table of its own to tell which of them are ours.
    """
    mapping, target = resolved.mapping, resolved.mapping.target
    if isinstance(target, StockLevel) and (target.sync or resolved.levels is None):
        return False
    if resolved.target_key or isinstance(resolved.company, Derived):
        return False
    if mapping.source.joins.strip() or resolved.locations is None or mapping.rules.own:
        return False
    if not all(_is_of_row(resolved, skip.sql) for skip in mapping.source.skip.values()):
        return False
    deciding = (mapping.locations.company, mapping.target)
    parts = [part.model_dump() if hasattr(part, "model_dump") else part for part in deciding]
    parts.append(mapping.source.model_dump(exclude={"skip"}))
    return not any(name in {"sql", "through"} for part in parts for name in _names(part))


def row_version(resolved: ResolvedMapping) -> tuple[str, str]:
    """The transaction that wrote a row last, where it alone lets its record be migrated; else NULL.

    Returns:
        An expression over a record of `source_rows` with `item_duplicate`, `row_xmin` and its
        pre-images, and what has to be joined for it: that company and location are as they
        should, which is for the chunk to ask.
    """
    shape = shape_of(resolved)
    if not is_plain(resolved) or shape.as_planned() is None:
        return "NULL::xid", ""
    refusing = " ".join(
        f"WHEN {condition} THEN NULL" for _, condition in rules.deciding(resolved, planned=False)
    )
    assumed = """
        CROSS JOIN (SELECT true AS company_found, NULL::boolean AS location_own,
                           true AS target_agrees, 1 AS default_locations) AS im_assumed"""
    return (
        f"CASE WHEN skip_reason IS NOT NULL OR NOT {shape.placeless()} THEN NULL {refusing} "
        "ELSE row_xmin END",
        assumed,
    )


def written_as_planned(resolved: ResolvedMapping, migration: Migration) -> dict[str, str] | None:
    """What of the chunks `:im_chunks` is as it was planned, written without being classified.

    Returns:
        CTEs by name. `as_planned`: position and chunk of each record that was written, what it had
        (`quantity_before`) and has (`quantity`), and in which table its row is; None where rows
        alone do not say what becomes of their records.
    """
    written = shape_of(resolved).as_planned()
    if not is_plain(resolved) or written is None:
        return None
    keys = ", ".join(f"im_p.{key}" for key in columns.keys(resolved))
    return {
        "unchanged": f"""
            SELECT im_p.position, im_p.chunk, {keys}, im_p.company_key, im_p.item_key,
                   im_p.quantity, im_p.reserved, im_p.row_version,
                   d.location_key AS default_location
            FROM {migration.snapshot} AS im_p
            JOIN ({standing_locations(resolved, migration)}) AS d
              ON d.company_key = im_p.company_key
            WHERE im_p.chunk = ANY(:im_chunks) AND im_p.row_version IS NOT NULL
            ORDER BY im_p.position""",
        **written,
    }


def standing_locations(resolved: ResolvedMapping, migration: Migration) -> str:
    """The companies that are still there, with the location planned for each that still stands."""
    company = f"c.{quoted(resolved.mapping.company.key)}"
    planned = canonical.planned_locations(resolved, migration.planned_locations)
    return f"""
                  SELECT d.company_key, d.location_key
                  FROM ({planned}) AS d
                  JOIN {resolved.company.sql} AS c ON {company} = d.company_key
                  WHERE d.default_locations = 1
                  -- A fence: looked up once for all records, and not for each.
                  {FENCE}"""


def writers(migration: Migration, *more: str) -> str:
    """The transactions that have written a migration's chunks, one row for each.

    Args:
        migration: Whose chunks.
        more: Further columns over the chunks `k` of one of them.
    """
    return f"""
                  SELECT {", ".join(["k.xid::xid AS xid", *more])} FROM {SCHEMA}.chunk AS k
                  WHERE k.migration_id = {migration.migration_id} AND k.state = 'done'
                  GROUP BY k.xid"""


def _is_of_row(resolved: ResolvedMapping, condition: str) -> bool:
    """Whether a condition plainly says what columns of its row hold, and asks nothing else.

    No parser: a few forms, joined by AND or OR. Whatever else it is, is asked of each record.
    """
    for part in re.split(r"\s(?:AND|OR)\s", condition, flags=re.IGNORECASE):
        found = _OF_COLUMN.fullmatch(part.strip())
        if found is None or found["name"] not in resolved.source.columns:
            return False
        if (found["text"] or "").strip().lower() in _MOMENTS:
            return False
    return True


_OF_COLUMN = re.compile(
    r"""
    (?: NOT \s+ )? s\.(?P<quote>"?)(?P<name>\w+)(?P=quote)
    (?: \s+ IS \s+ (?: NOT \s+ )? (?: NULL | TRUE | FALSE )
      | \s* (?: = | <> | != ) \s* (?: -?\d+(?:\.\d+)? | '(?P<text>[^'\\]*)' | TRUE | FALSE )
    )?""",
    re.IGNORECASE | re.VERBOSE,
)

_MOMENTS = {"now", "today", "tomorrow", "yesterday"}
"""Texts that a date reads as another day each day."""


def _names(said: object) -> Iterator[str]:
    """The keys of what a mapping says that are given."""
    if isinstance(said, Mapping):
        for name, value in said.items():
            if value is not None:
                yield str(name)
            yield from _names(value)
    elif isinstance(said, list | tuple):
        for value in said:
            yield from _names(value)
