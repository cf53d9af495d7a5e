"""A mapping as SQL: the relations that everything else is written against.

Whatever an application calls its tables, `records`, `companies` and `default_locations` have the
same columns. They are SQL text to be inlined, never views: a permanent view would keep the
application from changing its own columns. Which rules there are, and in which order, is said in
`rules.py`. Statements that write do not belong here.

The text returned is plain SQL; put it into `sqlalchemy.text` through
`inventory_migration.database.escaped`.
"""

from __future__ import annotations

from dataclasses import replace

from inventory_migration.catalog import Derived, ResolvedMapping, literal
from inventory_migration.database import quoted
from inventory_migration.engine import meetings, owners, places, readings, rules
from inventory_migration.engine.columns import (
    SHARING,
    beside_key,
    hash_of,
    key_of_source,
    key_text,
    keys,
    record_keys,
    record_values,
    written_columns,
)
from inventory_migration.engine.shapes import shape_of


def available(resolved: ResolvedMapping, quantity: str, reserved: str) -> str:
    """What can be promised: a net quantity has open orders taken off already."""
    return quantity if resolved.mapping.quantity_basis == "net" else f"{quantity} - {reserved}"


def row_hash(resolved: ResolvedMapping, alias: str = "s") -> str:
    """A 64-bit hash of the columns of a source row that a migration does not write.

    A generated column says nothing that the others do not, and may follow from what is written.
    """
    written = set(written_columns(resolved))
    kept = [
        column
        for column in resolved.source.columns.values()
        if column.name not in written and not column.generated
    ]
    return hash_of(kept, alias)


def default_locations(resolved: ResolvedMapping) -> str:
    """Every default location: location_key, company_key, company_found."""
    company = resolved.mapping.company
    if resolved.locations is None:
        return (
            f"SELECT NULL::{resolved.location_key_type} AS location_key, "
            f"NULL::{resolved.company_key_type} AS company_key, "
            "NULL::boolean AS company_found WHERE false"
        )
    found = (
        # A query gives no more a company whose last record has gone: its location is no mistake.
        "l.company_key IS NOT NULL"
        if isinstance(resolved.company, Derived)
        else f"EXISTS (SELECT FROM {resolved.company.sql} AS c "
        f"WHERE c.{quoted(company.key)} = l.company_key)"
    )
    return f"""
        SELECT l.location_key, l.company_key, {found} AS company_found
        FROM ({places.owned(resolved)}) AS l
        WHERE l.is_default"""


def defaults_by_company(resolved: ResolvedMapping) -> str:
    """One row per company that has a default location: company_key, location_key, how many."""
    return f"""
        SELECT company_key,
               (array_agg(location_key ORDER BY location_key))[1] AS location_key,
               count(*) AS default_locations
        FROM ({default_locations(resolved)}) AS found
        GROUP BY company_key"""


def planned_locations(resolved: ResolvedMapping, planned: str) -> str:
    """The default locations a migration has planned with; none for one that no longer stands."""
    # The company is compared beside the join: as a join condition it makes the planner expect a
    # single row, and compare every record with every company.
    stands = places.belongs(resolved, "l", "w.company_key")
    return f"""
        SELECT w.company_key,
               CASE WHEN {stands} THEN w.location_key END AS location_key,
               CASE WHEN {stands} THEN 1 ELSE 0 END::bigint AS default_locations
        FROM {planned} AS w
        JOIN ({places.places(resolved)}) AS l ON l.location_key = w.location_key"""


def companies(resolved: ResolvedMapping) -> str:
    """One row per company: key, name, default_locations, location_key, stock_records."""
    company = resolved.mapping.company
    return f"""
        SELECT c.{quoted(company.key)} AS company_key,
               c.{quoted(company.name)}::text AS company_name,
               COALESCE(d.default_locations, 0) AS default_locations,
               CASE WHEN d.default_locations = 1 THEN d.location_key END AS location_key,
               COALESCE(n.stock_records, 0) AS stock_records
        FROM {resolved.company.sql} AS c
        LEFT JOIN ({defaults_by_company(resolved)}) AS d ON d.company_key = c.{quoted(company.key)}
        LEFT JOIN (
            SELECT {owners.company_key(resolved)} AS company_key,
                   count(*) AS stock_records
            FROM {resolved.source.sql} AS s {resolved.mapping.source.joins} {owners.join(resolved)}
            GROUP BY 1) AS n ON n.company_key = c.{quoted(company.key)}"""


def source_rows(
    resolved: ResolvedMapping,
    *,
    chunked: str | None = None,
    extra: str = "",
    table: str | None = None,
    hashed: bool = True,
    versions: bool = False,
) -> str:
    """The stock records as they stand, before any rule.

    Args:
        resolved: The mapping and its types.
        chunked: Quoted snapshot table that the source is joined to; adds `position`,
            `chunk` and the snapshot's own columns to each record. None reads the whole table.
        extra: Further columns over the alias `s`.
        table: What is read in the place of the source table.
        hashed: Whether there is a `row_hash`, which names every column of the source.
        versions: Whether VERSIONS are there, of a chunked source.
    """
    mapping = resolved.mapping
    key_list = [
        f"s.{quoted(column.name)} AS {key}"
        for column, key in zip(resolved.key_columns, keys(resolved), strict=True)
    ]
    shape = shape_of(resolved)
    skips = " ".join(
        f"WHEN ({condition.sql}) THEN {literal(reason)}"
        for reason, condition in mapping.source.skip.items()
    )
    snapshot_columns = "im_p.position, im_p.chunk, im_p.item_duplicate," if chunked else ""
    if versions:
        snapshot_columns += f"{', '.join(VERSIONS.values())}, "
    if chunked:
        key_list += [f"im_p.{name}" for name in beside_key(resolved)]
    elif resolved.target_key:
        named = zip(record_values(resolved), record_keys(resolved), strict=True)
        key_list += [f"{value} AS {name}" for value, name in named]
    rows = f"{table or resolved.source.sql} AS s"
    if chunked:
        rows = f"{chunked} AS im_p JOIN {rows} ON {key_of_source(resolved, 'im_p')}"
    hashed_row = f", {row_hash(resolved)} AS row_hash" if hashed else ""
    target, held_quantity, held_reserved = f"NULL::{shape.location_type}", *("NULL::numeric",) * 2
    beside = ""
    if resolved.target_exists:
        target, beside = shape.location_key(), shape.joins(chunked)
        if (held := shape.held_numbers()) is not None:
            held_quantity, held_reserved = held
    if chunked and resolved.target_exists and shape.dear:
        # Read once, however many ask: the planner would repeat it wherever it is named.
        beside += f"""
        LEFT JOIN LATERAL (
            SELECT {target} AS location_key, {held_quantity} AS held_quantity,
                   {held_reserved} AS held_reserved
            OFFSET 0) AS im_r ON true"""
        # Naming the record as well keeps locations from being joined to each reading by itself.
        target = f"CASE WHEN {shape.target_columns()[0]} IS NOT NULL THEN im_r.location_key END"
        held_quantity, held_reserved = "im_r.held_quantity", "im_r.held_reserved"
    return f"""
        SELECT {snapshot_columns} {", ".join(key_list)},
               {key_text(resolved, "s", source=True)} AS key_text,
               {owners.company_key(resolved)} AS company_key,
               {owners.count(resolved)} AS companies,
               {readings.item(resolved)} AS item_key,
               {readings.quantity(resolved)} AS quantity,
               {readings.quantity_state(resolved)} AS quantity_state,
               {readings.reserved(resolved)} AS reserved,
               {readings.reserved_state(resolved)} AS reserved_state,
               {readings.unread(resolved)} AS unread,
               {readings.unconverted(resolved)} AS unconverted,
               {target} AS location_key,
               {held_quantity} AS held_quantity, {held_reserved} AS held_reserved,
               {shape.rows() if resolved.target_exists else "NULL::bigint"} AS target_rows,
               {f"CASE {skips} END" if skips else "NULL::text"} AS skip_reason,
               {rules.broken_own(mapping)} AS own_rules
               {hashed_row}{f", {extra}" if extra else ""}
        FROM {rows} {mapping.source.joins} {owners.join(resolved)} {beside}"""


def live_rows(resolved: ResolvedMapping, extra: str = "") -> str:
    """The stock records that no reason to skip leaves out, before any rule and as cheap as can be.

    Args:
        resolved: The mapping and its types.
        extra: As for `source_rows`.
    """
    # What stands in the target is asked elsewhere, and costs a join.
    rows = source_rows(replace(resolved, target_exists=False), extra=extra, hashed=False)
    return f"SELECT r.* FROM ({rows}) AS r WHERE r.skip_reason IS NULL"


VERSIONS = {
    "planned_hash": "im_p.row_hash AS planned_hash",
    "planned_company": "im_p.company_key AS planned_company",
    "planned_quantity": "im_p.quantity AS planned_quantity",
    "planned_reserved": "im_p.reserved AS planned_reserved",
    "row_table": "s.tableoid AS row_table",
    "row_tid": "s.ctid AS row_tid",
    "row_xmin": "s.xmin AS row_xmin",
}
"""What a record was when it was planned, and which version of its row is looked at."""


def records(
    resolved: ResolvedMapping,
    *,
    chunked: str | None = None,
    planned: str | None = None,
    versions: bool = False,
) -> str:
    """Every stock record with the outcome that the rules give it, and the rule that decided.

    Args:
        resolved: The mapping and its types.
        chunked: As for `source_rows`.
        planned: Quoted table of the locations that a migration has planned with. None takes the
            application's default locations; a company without one is taken to get one.
        versions: As for `source_rows`.
    """
    mapping = resolved.mapping
    shape = shape_of(resolved)
    has_locations = resolved.locations is not None
    own = (
        "CASE WHEN r.location_key IS NOT NULL THEN "
        f"COALESCE({places.belongs(resolved, 'own', 'r.company_key')}, false) END"
        if has_locations
        else "NULL::boolean"
    )
    own_join = (
        f"LEFT JOIN ({places.places(resolved)}) AS own ON "
        + shape.same_location("own.location_key", "r.location_key")
        if has_locations
        else ""
    )
    defaults = planned_locations(resolved, planned) if planned else defaults_by_company(resolved)
    found, company_join = _company(resolved, planned=planned is not None)
    shared, meeting = "", ""
    if resolved.target_key and chunked:
        shared = "".join(f"r.{name}, " for name in SHARING)
    elif resolved.target_key:
        # A location that is yet to be made is its company's.
        key = f"c.{quoted(mapping.company.key)}"
        at = ["d.location_key", f"CASE WHEN d.location_key IS NULL THEN {key} END"]
        narrow = source_rows(replace(resolved, target_exists=False), hashed=False)
        rows = f"""({narrow}) AS r {company_join}
            LEFT JOIN ({defaults}) AS d ON d.company_key = r.company_key"""
        met = meetings.meetings(resolved, rows, at)
        shared, meeting = (
            f"{meetings.SHARED},",
            f"LEFT JOIN ({met}) AS im_m ON {meetings.meets(resolved, at)}",
        )
    if chunked:
        duplicate = "r.item_duplicate"
    elif mapping.rules.item_duplicate == "warn":
        duplicate = "NULL::boolean"
    else:
        duplicate = (
            "(r.item_key IS NOT NULL AND r.company_key IS NOT NULL AND r.skip_reason IS NULL AND "
            "count(*) OVER (PARTITION BY r.company_key, r.item_key, r.skip_reason) > 1)"
        )
    names = [*(("position", "chunk") if chunked else ()), *keys(resolved), *beside_key(resolved)]
    canonical = ", ".join(
        [
            *names,
            "key_text, company_key, companies, company_found, item_key, quantity, quantity_state",
            "reserved, reserved_state, unread, unconverted",
            "location_key, location_own, default_location",
            "target_agrees, held_quantity, held_reserved, item_duplicate, own_rules, row_hash",
            *(VERSIONS if versions else ()),
        ]
    )
    already = "location_own AND target_agrees"
    if resolved.target_key:
        # A level that says the same may be that of the other record.
        already += " AND shared_with = 0"
    deciding = "\n".join(
        f"WHEN {condition} THEN '{rule}'"
        for rule, condition in rules.deciding(resolved, planned=planned is not None)
    )
    return f"""
        SELECT {canonical}, rule,
               CASE WHEN skip_reason IS NOT NULL THEN 'skipped'
                    WHEN {already} THEN 'already'
                    WHEN rule IS NOT NULL THEN 'quarantined'
                    ELSE 'migrated' END AS outcome
        FROM (
            SELECT j.*,
                   CASE WHEN skip_reason IS NOT NULL THEN skip_reason
                        WHEN {already} THEN NULL
                        {deciding}
                   END AS rule
            FROM (
                SELECT {_without_duplicate(resolved, chunked, versions=versions)},
                       {duplicate} AS item_duplicate, {shared}
                       {found} AS company_found,
                       {own} AS location_own,
                       {shape.agrees("r")} AS target_agrees,
                       d.location_key AS default_location,
                       COALESCE(d.default_locations, 0) AS default_locations
                FROM ({source_rows(resolved, chunked=chunked, versions=versions)}) AS r
                {company_join}
                LEFT JOIN ({defaults}) AS d ON d.company_key = r.company_key
                {own_join} {meeting}
            ) AS j
        ) AS classified"""


def new_records(
    resolved: ResolvedMapping, *, table: str | None = None, duplicate: str = "false"
) -> str:
    """Records as a trigger meets them, of which no migration knows: who may have a location, where.

    Adds `default_location` to a record, and `outcome`: 'migrated' where the rules let it have one.
    What its target holds is not asked.

    Args:
        resolved: The mapping and its types.
        table: What is read in the place of the source table.
        duplicate: The condition over a record `r` that its company has its item already.
    """
    company = resolved.mapping.company
    actions = resolved.mapping.rules.actions()
    refusing = [
        f"({condition}) IS TRUE"
        for rule, condition in rules.conditions(resolved).items()
        if actions[rule] != "warn"
    ]
    # Without a hash, which would name columns that the application may drop one day.
    rows = source_rows(replace(resolved, target_exists=False), table=table, hashed=False)
    return f"""
        SELECT f.*,
               CASE WHEN skip_reason IS NULL AND default_locations = 1
                         AND NOT ({" OR ".join(refusing) or "false"})
                    THEN 'migrated' END AS outcome
        FROM (
            SELECT r.*, d.location_key AS default_location,
                   COALESCE(d.default_locations, 0) AS default_locations,
                   EXISTS (SELECT FROM {resolved.company.sql} AS c
                            WHERE c.{quoted(company.key)} = r.company_key) AS company_found,
                   NULL::boolean AS location_own, true AS target_agrees,
                   {duplicate} AS item_duplicate
            FROM ({rows}) AS r
            LEFT JOIN LATERAL (
                SELECT (array_agg(l.location_key))[1] AS location_key,
                       count(*) AS default_locations
                FROM ({places.places(resolved)}) AS l
                WHERE {places.belongs(resolved, "l", "r.company_key")}
                  AND l.is_default) AS d ON true) AS f"""


def duplicates(resolved: ResolvedMapping) -> str:
    """Items that a company has more than once: company_key, item_key, copies, key_text of one."""
    return f"""
        SELECT company_key, item_key, count(*) AS copies, min(key_text) AS key_text
        FROM ({source_rows(resolved)}) AS r
        WHERE skip_reason IS NULL AND item_key IS NOT NULL AND company_key IS NOT NULL
        GROUP BY company_key, item_key
        HAVING count(*) > 1"""


def _company(resolved: ResolvedMapping, *, planned: bool) -> tuple[str, str]:
    """Whether a record's company is there, and the join that tells; nothing is joined for a query.

    A chunk has its companies planned: a query would be evaluated whole for each chunk, where it is
    asked only for what has no location.
    """
    company = resolved.company
    same = f"c.{quoted(resolved.mapping.company.key)} = r.company_key"
    if planned and isinstance(company, Derived):
        asked = f"EXISTS (SELECT FROM {company.sql} AS c WHERE {same})"
        return f"CASE WHEN d.location_key IS NOT NULL THEN true ELSE {asked} END", ""
    found = f"c.{quoted(resolved.mapping.company.key)} IS NOT NULL"
    return found, f"LEFT JOIN {company.sql} AS c ON {same}"


def _without_duplicate(resolved: ResolvedMapping, chunked: str | None, *, versions: bool) -> str:
    names = [
        *keys(resolved),
        *(record_keys(resolved) if resolved.target_key else ()),
        *(
            "key_text",
            "company_key",
            "companies",
            "item_key",
            "quantity",
            "quantity_state",
            "reserved",
        ),
        *("reserved_state", "unread", "unconverted", "location_key", "held_quantity"),
        *("held_reserved", "target_rows", "skip_reason", "own_rules", "row_hash"),
        *(VERSIONS if versions else ()),
    ]
    return ", ".join(
        f"r.{name}" for name in ([*("position", "chunk"), *names] if chunked else names)
    )
