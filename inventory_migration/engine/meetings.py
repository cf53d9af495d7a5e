"""Records that would write one level: which levels, and how a record is found to be among them.

Only what is said of any records belongs here, whether these are read live or kept by a snapshot;
what a level is named by is decided in `catalog/target_keys.py`.
"""

from __future__ import annotations

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.engine.columns import record_keys


def meetings(resolved: ResolvedMapping, rows: str, places: list[str]) -> str:
    """The levels that several records would write: record_…, place_…, records, keys of two.

    Every record with stock to move counts, whatever else is wrong with it: it wants the same level
    once that is mended. One that is skipped does not, nor one that has nowhere to go.

    Args:
        resolved: The mapping and its types.
        rows: What stands in FROM, with the records as `r`.
        places: What tells where each of them goes, all NULL where that is nowhere.
    """
    parts = {key: f"r.{key}" for key in record_keys(resolved)}
    named = parts | {f"place_{number}": place for number, place in enumerate(places, start=1)}
    present = [f"{part} IS NOT NULL" for part in parts.values()]
    somewhere = " OR ".join(f"{place} IS NOT NULL" for place in places)
    # As a WHERE it would make the planner expect a handful of rows, and compare each with each.
    counts = f"FILTER (WHERE {' AND '.join(['r.skip_reason IS NULL', *present])} AND ({somewhere}))"
    return f"""
        SELECT {", ".join(f"{value} AS {name}" for name, value in named.items())},
               count(*) {counts} AS records, min(r.key_text) {counts} AS first_key,
               max(r.key_text) {counts} AS last_key
        FROM {rows}
        GROUP BY {", ".join(named.values())}
        HAVING count(*) {counts} > 1"""


def meets(resolved: ResolvedMapping, places: list[str]) -> str:
    """The condition that a record `r` is one of those of a row `im_m` of `meetings`."""
    same = " AND ".join(f"im_m.{key} = r.{key}" for key in record_keys(resolved))
    there = "".join(
        f" AND im_m.place_{number} IS NOT DISTINCT FROM {place}"
        for number, place in enumerate(places, start=1)
    )
    return f"{same}{there} AND r.skip_reason IS NULL"


SHARED = (
    "COALESCE(im_m.records - 1, 0) AS shared_with, "
    "CASE im_m.first_key WHEN r.key_text THEN im_m.last_key ELSE im_m.first_key END AS shared_key"
)
"""What `columns.SHARING` names, of a record `r` beside the meeting `im_m` that it may be in."""
