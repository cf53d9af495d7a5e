"""A sample of records for a human to check, and counted once more on the way.

Of each record the report shows what the snapshot noted before, and what the live tables hold now:
whole rows are read by key, as JSON, and only what the mapping names is shown. What must stand there
is worked out in `recount.py`; which records are drawn, in `draw.py`. The keys:

- `seed`: what the sample was drawn by; `drawn`: how, in words, so that anybody can draw it again.
- `of`: how many records there are; `recounted`: by which path, in words.
- `not_recounted`: sentences, of what the path takes from the mapping's own SQL.
- `records`: [{key, stands_for: [...], company, item, phase, chunk, outcome, rule,
  before: {quantity, reserved, location},
  after: {quantity, reserved, location, on_hand, reserved_there}, agrees, says: [...]}].
  `agrees` is false where something is not as it must be; `says` tells this, and what the
  application has changed since. Numbers are exact decimal strings; null where there is none.
- `disagreements`: [{key, what, expected, found}]; one of them, and the report's verdict has not
  passed.
"""

# ruff: noqa: S608 - of names that the mapping was resolved with, quoted

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import columns
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.mapping import Expression, LinkedPlaces, Standardised, StockLevel, Through
from inventory_migration.report import draw
from inventory_migration.report.draw import Drawn
from inventory_migration.report.recount import Now, Record, Said, now, recount, shown, text

_HOW = (
    f"Places in the snapshot, from 1 to the last, are drawn {draw.DRAWS:,} times: the n-th is 1 + "
    "SHA-256(seed:n) modulo the last, n from 0. Of each kind of record (outcome, rule, phase, size "
    "of company, edge cases) the first that are drawn; where too few of a kind are, it is sought "
    "everywhere, in the order of md5(seed || position). The largest, most reserved and most "
    "negative ones, of equal ones those that are drawn first, and those that were found changed, "
    "without drawing."
)
_DIGITS = 2000
"""More than any number has that is no mistake, on both sides of its point."""

_PATH = (
    "Whole rows read by key as JSON, their values compared and added up as decimals by what the "
    "mapping says, without the relations that the engine moves and proves with."
)


def take(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    differences: Sequence[Mapping[str, Any]],
    *,
    seed: str | None = None,
) -> dict[str, Any]:
    """Draw a sample and count it once more.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        migration: Whose records.
        differences: What the proof has found, each with a few keys that are taken as well.
        seed: What to draw by; None takes another each time.
    """
    seed = seed or secrets.token_hex(8)
    # What nobody explains comes first, should there be more than a sample has room for.
    keys = [key for one in sorted(differences, key=_explained) for key in one["sample"]]
    drawn = draw.positions(connection, resolved, migration, keys, seed)
    with localcontext() as exact:
        # A Decimal keeps 28 digits only, where the server keeps all.
        exact.prec = _DIGITS
        return _counted(connection, resolved, migration, drawn, seed)


def _counted(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    drawn: list[Drawn],
    seed: str,
) -> dict[str, Any]:
    rows = _rows(connection, resolved, migration, drawn)
    mapping = resolved.mapping
    seen = [(row, record, now(mapping, record)) for row in rows for record in [_record(row)]]
    owners = _owners(connection, resolved, migration, drawn, [found for _, _, found in seen])
    strata = {one.position: one.strata for one in drawn}
    records, disagreements = [], []
    for row, record, found in seen:
        said = recount(mapping, record, found, owners)
        wrong = [one for one in said if one.finding == "disagrees"]
        records.append(_told(row, record, found, said, strata[row.position]))
        disagreements += [
            {"key": row.key, "what": one.what, "expected": one.expected, "found": one.found}
            for one in wrong
        ]
    return {
        "seed": seed,
        "drawn": _HOW,
        "of": draw.count(connection, migration),
        "recounted": _PATH,
        "not_recounted": _not_recounted(resolved),
        "records": records,
        "disagreements": disagreements,
    }


def _explained(difference: Mapping[str, Any]) -> bool:
    return bool(difference["explained"])


def _rows(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration, drawn: list[Drawn]
) -> Sequence[sa.Row[Any]]:
    """What the ledger noted of each record, and its live rows as JSON."""
    source = resolved.mapping.source
    given = {
        "company": _company(resolved),
        "item": _expression(source.item),
        "quantity": _expression(source.quantity),
        "reserved": _expression(source.reserved),
    }
    key = columns.key_text(resolved, "im_p")
    listed = ", ".join(f"({sql})::text AS {name}_given" for name, sql in given.items())
    query = f"""
        SELECT im_p.position, im_p.chunk, im_f.name AS phase, {key} AS key,
               COALESCE(im_o.outcome, CASE WHEN im_k.xid IS NULL THEN 'pending' ELSE 'migrated' END)
                   AS outcome, im_o.rule, im_k.state = 'undone' AS undone, im_k.xid,
               im_p.company_key::text AS company, im_p.item_key::text AS item, im_p.quantity,
               im_p.reserved,
               im_i.position IS NOT NULL AS changed_before, im_i.quantity AS quantity_written,
               im_i.reserved AS reserved_written, to_jsonb(im_p.before_1)::text AS target_before,
               COALESCE(im_i.location_key, im_w.location_key::text) AS planned, im_l.*
        FROM {migration.snapshot} AS im_p
        JOIN {SCHEMA}.chunk AS im_k
          ON im_k.migration_id = {migration.migration_id} AND im_k.number = im_p.chunk
        LEFT JOIN {SCHEMA}.phase AS im_f
          ON im_f.migration_id = {migration.migration_id} AND im_f.number = im_p.phase
        LEFT JOIN {SCHEMA}.outcome AS im_o
          ON im_o.migration_id = {migration.migration_id} AND im_o.position = im_p.position
        LEFT JOIN {SCHEMA}.after_image AS im_i
          ON im_i.migration_id = {migration.migration_id} AND im_i.position = im_p.position
        LEFT JOIN {migration.planned_locations} AS im_w ON im_w.company_key = im_p.company_key
        LEFT JOIN LATERAL (
            SELECT to_jsonb(s)::text AS row, s.xmin::text AS row_xid, {listed},
                   {_levels(resolved)} AS levels
            FROM {resolved.source.sql} AS s {source.joins}
            WHERE {columns.key_of_source(resolved, "im_p")}) AS im_l ON true
        WHERE im_p.position = ANY(CAST(im_positions AS bigint[]))
        ORDER BY im_p.position"""
    query = escaped(query).replace("im_positions", ":im_positions")
    positions = [one.position for one in drawn]
    return connection.execute(sa.text(query), {"im_positions": positions}).all()


def _levels(resolved: ResolvedMapping) -> str:
    """The levels of a source row `s` as JSON, each with the transaction that wrote it."""
    target = resolved.mapping.target
    if not isinstance(target, StockLevel) or resolved.levels is None:
        return "NULL::text"
    named = {part.column: part.sql for part in resolved.target_key} or {
        name: f"s.{quoted(value)}" for name, value in target.record_columns.items()
    }
    same = " AND ".join(f"im_t.{quoted(name)} = {sql}" for name, sql in named.items())
    return (
        "(SELECT jsonb_agg(jsonb_build_object("
        "'row', to_jsonb(im_t), 'xid', im_t.xmin::text))::text "
        f"FROM {resolved.levels_sql} AS im_t WHERE {same})"
    )


def _expression(part: object) -> str:
    """The mapping's own SQL; NULL where it names a column, which is read from the row."""
    if isinstance(part, Expression):
        return part.sql
    if isinstance(part, Standardised) and part.sql is not None:
        return part.sql
    return "NULL"


def _company(resolved: ResolvedMapping) -> str:
    company = resolved.mapping.source.company
    if not isinstance(company, Through) or resolved.owners is None:
        return _expression(company)
    link = company.through
    owner = f"im_l.{quoted(link.company)}"
    same = " AND ".join(
        f"im_l.{quoted(theirs)} = s.{quoted(ours)}" for theirs, ours in link.record.items()
    )
    return (
        f"SELECT CASE WHEN count(DISTINCT {owner}) = 1 THEN min({owner}::text) END "
        f"FROM {resolved.owners.sql} AS im_l WHERE {same}"
    )


def _record(row: sa.Row[Any]) -> Record:
    levels = _json(row.levels) or []
    return Record(
        outcome=row.outcome,
        changed_before=row.changed_before,
        undone=row.undone,
        company=row.company,
        item=row.item,
        quantity=row.quantity_written if row.changed_before else row.quantity,
        reserved=(row.reserved_written if row.changed_before else row.reserved) or Decimal(0),
        target_before=_json(row.target_before),
        planned=row.planned,
        row=_json(row.row),
        given={
            name: getattr(row, f"{name}_given")
            for name in ("company", "item", "quantity", "reserved")
        },
        ours=row.xid is not None and row.row_xid == row.xid,
        levels=[(level["row"], level["xid"] == row.xid) for level in levels],
    )


def _json(value: str | None) -> Any:
    """JSON with every number exact."""
    return None if value is None else json.loads(value, parse_float=Decimal)


def _owners(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    drawn: list[Drawn],
    found: Sequence[Now | None],
) -> dict[str, set[str]]:
    """The companies of each location that a record of the sample is at.

    As the location spells them, and as the snapshot does where that is the same company.
    """
    named = {place.location for one in found if one for place in one.places}
    if not named or resolved.locations is None:
        return {}
    locations = resolved.mapping.locations
    company = locations.company
    if isinstance(company, LinkedPlaces):
        link, table = company.through, resolved.place_links
        assert table is not None  # noqa: S101 - no mapping resolves without it
        key, owner = f"o.{quoted(link.location)}", f"o.{quoted(link.company)}"
        rows = f"{table.sql} AS o WHERE " + (f"({link.where.sql}\n)" if link.where else "true")
    else:
        key = f"l.{quoted(locations.key)}"
        owner = f"({company.sql}\n)" if isinstance(company, Expression) else f"l.{quoted(company)}"
        rows = f"{resolved.locations_sql} AS l WHERE true"
    query = f"""
        WITH im_at AS (
            SELECT {key}::text AS location, {owner} AS company
            FROM {rows} AND {key}::text = ANY(CAST(im_named AS text[])))
        SELECT location, company::text AS company FROM im_at
        UNION
        SELECT a.location, im_p.company_key::text
        FROM im_at AS a JOIN {migration.snapshot} AS im_p ON im_p.company_key = a.company
        WHERE im_p.position = ANY(CAST(im_positions AS bigint[]))"""
    query = escaped(query).replace("im_named", ":im_named").replace("im_positions", ":im_positions")
    parameters = {"im_named": sorted(named), "im_positions": [one.position for one in drawn]}
    owners: dict[str, set[str]] = {}
    for row in connection.execute(sa.text(query), parameters):
        if row.company is not None:
            owners.setdefault(row.location, set()).add(row.company)
    return owners


def _told(
    row: sa.Row[Any], record: Record, found: Now | None, said: list[Said], strata: list[str]
) -> dict[str, Any]:
    """A record as the report shows it."""
    places = found.places if found else ()
    on_hand = [place.on_hand for place in places]
    reserved = [place.reserved for place in places]
    return {
        "key": row.key,
        "stands_for": strata,
        "company": row.company,
        "item": row.item,
        "phase": row.phase,
        "chunk": row.chunk,
        "outcome": row.outcome,
        "rule": row.rule,
        "before": {
            "quantity": _exact(row.quantity),
            "reserved": _exact(row.reserved),
            "location": _location(record.target_before),
        },
        "after": {
            "quantity": _exact(found.quantity) if found else None,
            "reserved": _exact(found.reserved) if found else None,
            "location": ", ".join(place.location for place in places) or None,
            "on_hand": _sum(on_hand),
            "reserved_there": _sum(reserved),
        },
        "agrees": all(one.finding != "disagrees" for one in said),
        "says": [_sentence(one) for one in said],
    }


def _location(before: Any) -> str | None:
    if isinstance(before, Mapping):
        return ", ".join(before) or None
    if isinstance(before, list):
        return f"{len(before)} entries" if before else None
    return text(before)


def _exact(value: Decimal | None) -> str | None:
    return None if value is None else shown(value)


def _sum(numbers: Sequence[Decimal | None]) -> str | None:
    known = [one for one in numbers if one is not None]
    return shown(sum(known, Decimal(0))) if known and len(known) == len(numbers) else None


def _sentence(said: Said) -> str:
    if said.finding == "explained":
        return f"{said.what}: {said.expected} before, {said.found} now, by the application"
    return f"{said.what}: must be {said.expected}, is {said.found}"


def _not_recounted(resolved: ResolvedMapping) -> list[str]:
    """What was given by the mapping's own SQL, and so is as right as that."""
    source = resolved.mapping.source
    parts = {
        "the company": source.company,
        "the item": source.item,
        "the quantity": source.quantity,
        "what is reserved": source.reserved,
    }
    computed = [
        name
        for name, part in parts.items()
        if isinstance(part, Expression | Through) or _expression(part) != "NULL"
    ]
    return [
        f"{name[0].upper()}{name[1:]} is what the mapping's own SQL gives for the record."
        for name in computed
    ]
