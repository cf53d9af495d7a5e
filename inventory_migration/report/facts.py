"""What a report states, as plain JSON values: read in one moment, every number from the tables.

How it is laid out for reading belongs in `page.py`, what is concluded in `conclusions.py`. Nothing
is written here. Beside what `engine/summary.py` and `engine/trail.py` document, there are:

- `schema_version`: of this form; a number that grows when a key goes or changes its meaning.
- `report_id` is `seal.report`, a UUID that every form has to show; see `report/seal.py`.
- `database`: where, name, oid, role, server_started_at, and what tells one server from another:
  `fingerprint` {system_identifier (null where the role may not read it), database_oid, name}.
- `totals`: {before, after: {records, units, reserved, available}, changed_by_application}; null
  where nothing can be compared. Each of `companies` has `before` and `after` as well.
- `attempts`: {failed, chunks, by_error: [{error, chunks, attempts}]}.
- `gates`: `results`, every expectation: key, rule, expectation, column, severity, success,
  observed, expected, unexpected_count, sample, why, error; `failed`, those that were not met.
- `references`: [{name, rows_before, rows_after, orphans_before, orphans_after, unchanged}] of every
  foreign key in and out of the touched tables; null where they cannot be counted.
- `sample`: records before and after, recounted another way; see `report/sample.py`.
- `listed`: {list: {shown, total}} of each list that has an end: chunks, companies, quarantine,
  conflicts.
- `seal`: {report, sha256, kept, reason, by, snapshot: {sealed, records, sha256, intact, checked,
  changed: {rows, shown: [{position, chunk, key, through}]}}, live: {records, sha256, each_row} or
  null, proves: [...], cannot_prove: [...]}. `checked` says how `intact` is known: by "hashes" that
  were made once more, or by "transactions": no row has been written to since it was sealed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from inventory_migration import __version__
from inventory_migration.catalog import ResolvedMapping, resolve
from inventory_migration.database import describe
from inventory_migration.engine import (
    evidence,
    joins,
    key_order,
    ledger,
    progress,
    references,
    scans,
    summary,
    tallied,
    trail,
    unsealed,
)
from inventory_migration.engine.blocks import Block, differing, some_of
from inventory_migration.engine.key_order import Moment
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.tally import Tally
from inventory_migration.engine.told_rows import ToldRows
from inventory_migration.engine.triggers import fired_triggers
from inventory_migration.errors import MappingInvalid
from inventory_migration.mapping import StockMapping
from inventory_migration.report import conclusions, sample, seal
from inventory_migration.report.references import told_references

SCHEMA_VERSION = 1

MOST_ROWS = 10_000
"""How many rows of a list a document holds; the ledger has them all."""

MOST_KEYS = 100
"""How many records are named where rows of a snapshot were changed."""

_UNSEALED = {"kept": False, "reason": "it was only looked at"}

_PROVABLE = ("running", "paused", "held", "verifying", "failed", "verified")


@dataclass(frozen=True)
class Reading:
    """One look at a migration: what a report states, and the live rows as they were then.

    Attributes:
        facts: What the report states; JSON values, and `ToldRows` of them.
        live: The hashes of the live rows, to be kept with the seal; None where they were not read.
    """

    facts: dict[str, Any]
    live: list[Block] | None


def collect(reader: sa.Engine, mapping: StockMapping) -> dict[str, Any] | None:
    """Everything that a report states about the mapping's newest migration.

    None without one, and where its records are in an archive, which has its report as well.
    """
    found = read(reader, mapping)
    return found.facts if found else None


def read(
    reader: sa.Engine, mapping: StockMapping, *, seed: str | None = None, just_moved: bool = False
) -> Reading | None:
    """Look at the mapping's newest migration; None where `collect` has nothing to tell.

    Args:
        reader: The database; only read from.
        mapping: The mapping.
        seed: What the sample is drawn by, to draw the same again; None draws another.
        just_moved: Whether the same run has sealed the snapshot, whose rows are hashed once more
            only where one has been written to since.
    """
    with reader.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        moment = key_order.moment_of(connection, reader)
        connection.execute(sa.text("SET LOCAL row_security = off"))
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        # Floats are told exactly, whatever the role's default.
        connection.execute(sa.text("SET LOCAL extra_float_digits = 3"))
        scans.with_room(connection)
        if not ledger.installed(connection):
            return None
        migration = ledger.find(connection, mapping=mapping.name)
        if migration is None or migration.purged:
            return None
        found = _facts(connection, moment, mapping, migration, seed=seed, just_moved=just_moved)
    return Reading(_plain(found.facts), found.live)


def _facts(
    connection: sa.Connection,
    moment: Moment,
    mapping: StockMapping,
    migration: Migration,
    *,
    seed: str | None,
    just_moved: bool,
) -> Reading:
    migration_id, by = migration.migration_id, ledger.who(connection)
    facts: dict[str, Any] = {
        # Before all else, where it is found in a file that was cut off.
        "seal": {"report": str(uuid4()), "sha256": None, **_UNSEALED, "by": by},
        "schema_version": SCHEMA_VERSION,
        "mapping": mapping.name,
        "migration_id": migration_id,
        "as_of": connection.execute(sa.text("SELECT statement_timestamp()")).scalar_one(),
        "origin": trail.origin(connection, migration_id),
        "versions": {
            "inventory_migration": __version__,
            "ledger": ledger.VERSION,
            "server": connection.execute(sa.text("SHOW server_version")).scalar_one(),
        },
        "database": {
            "where": describe(moment.reader),
            **dict(connection.execute(_DATABASE).one()._mapping),
            "fingerprint": evidence.database_fingerprint(connection),
        },
        "summary": summary.summarize(connection, migration, mapping=mapping.name, changed=False),
        "put_aside": trail.outcomes_by_rule(connection, migration_id),
        "quarantine": trail.quarantined(connection, migration_id, limit=MOST_ROWS),
        "phases": trail.phases(connection, migration_id),
        "chunks": trail.chunks(connection, migration_id, limit=MOST_ROWS),
        "attempts": progress.attempts(connection, migration_id),
        "gates": trail.verdicts(connection, mapping.name),
        "conflicts": trail.conflicts(connection, migration_id, limit=MOST_ROWS),
        "events": trail.events(connection, migration_id),
    }
    # No part of what the migration did, but of what this command was asked for.
    for name in ("changed", "report", "seal"):
        del facts["summary"][name]
    resolved, compared, is_kept = _compared(connection, mapping, migration)
    facts |= compared
    if resolved is not None and ledger.snapshot_exists(connection, migration):
        facts["sample"] = sample.take(
            connection, resolved, migration, facts["differences"] or [], seed=seed
        )
    live = _sealed(
        connection, moment, resolved, migration, facts, just_moved=just_moved, is_kept=is_kept
    )
    facts["listed"] = _listed(connection, migration, facts)
    facts["verdict"] = conclusions.verdict(migration, facts)
    facts["rests_on"] = conclusions.rests_on(facts)
    facts["not_checked"] = conclusions.not_checked(facts)
    return Reading(facts, live)


def _compared(
    connection: sa.Connection, mapping: StockMapping, migration: Migration
) -> tuple[ResolvedMapping | None, dict[str, Any], bool]:
    """What the live tables say now, as far as the mapping still fits them.

    And whether that was known: nobody has written since all of it was compared.
    """
    found: dict[str, Any] = {
        "totals": None,
        "companies": [],
        "differences": None,
        "references": None,
        "triggers": [],
        "publications": [],
        "not_comparable": None,
        "sample": None,
    }
    try:
        resolved = resolve(connection, mapping)
        joins.refuse_unfaithful(connection, resolved)
    except MappingInvalid as error:
        return None, {**found, "not_comparable": str(error)}, False
    found["triggers"] = fired_triggers(connection, resolved)
    found["publications"] = list(resolved.source.publications)
    if not ledger.snapshot_exists(connection, migration):
        return resolved, found, False
    found["companies"] = summary.by_company(connection, migration)
    found["references"] = told_references(
        connection, references.compared(connection, resolved, migration.migration_id)
    )
    if migration.state not in _PROVABLE:
        return resolved, found, False
    counted = tallied.again(connection, resolved, migration)
    found["totals"] = _add_totals(counted.tally, found["companies"])
    found["differences"] = [
        {
            "kind": difference.kind,
            "explained": difference.explained,
            "records": difference.records,
            "sample": difference.sample,
        }
        for difference in counted.differences
    ]
    return resolved, found, counted.is_kept


def _add_totals(counted: Tally, companies: list[dict[str, Any]]) -> dict[str, Any]:
    """Add to each company what it had before and has now; returns the same of all together."""
    nothing = {"records": 0, "units": "0", "reserved": "0", "available": "0"}
    for company in companies:
        entry = counted.companies.get(company["company_key"], {})
        before, after = entry.get("before", nothing), entry.get("after", nothing)
        company["before"], company["after"] = before, after
        company["available_before"] = before["available"]
        company["available_after"] = after["available"]
        company["changed_by_application"] = entry.get("changed_by_application", "0")
    return counted.total


def _sealed(
    connection: sa.Connection,
    moment: Moment,
    resolved: ResolvedMapping | None,
    migration: Migration,
    facts: dict[str, Any],
    *,
    just_moved: bool,
    is_kept: bool,
) -> list[Block] | None:
    """Add what is known of the rows' own seals; returns the hashes of the live rows, to be kept."""
    told = facts["seal"]
    snapshot = _snapshot(connection, migration, just_moved=just_moved, is_kept=is_kept)
    told |= {"snapshot": snapshot, "live": None}
    told |= {"proves": list(seal.PROVES), "cannot_prove": list(seal.CANNOT_PROVE)}
    if resolved is None or not ledger.snapshot_exists(connection, migration):
        return None
    blocks = evidence.blocks_of(connection, migration)
    records = facts["summary"]["records"]["snapshot"]
    each_row = records <= evidence.MOST_LIVE_ROWS
    live = None
    if is_kept:
        live = key_order.live_now(
            connection, moment, resolved, migration, blocks, each_row=each_row
        )
    if live is None:
        live = evidence.live_now(connection, resolved, migration, blocks, each_row=each_row)
    told["live"] = {"records": records, "sha256": seal.root_hash(live), "each_row": each_row}
    return live


def _snapshot(
    connection: sa.Connection, migration: Migration, *, just_moved: bool, is_kept: bool = False
) -> dict[str, Any]:
    """Whether the snapshot is what was sealed as it was written."""
    sealed = evidence.sealed_snapshot(connection, migration)
    found: dict[str, Any] = {
        "sealed": bool(sealed),
        "records": sum(block.records for block in sealed),
        "sha256": seal.root_hash(sealed) if sealed else None,
        "intact": None,
        "checked": None,
        "changed": {"rows": 0, "shown": []},
    }
    if not sealed or not ledger.snapshot_exists(connection, migration):
        return found
    # What is kept stands on the same.
    if just_moved and (is_kept or unsealed.is_unwritten(connection, migration)):
        return {**found, "intact": True, "checked": "transactions"}
    now = evidence.snapshot_now(connection, migration, sealed)
    changed, first = some_of(differing(sealed, now), MOST_KEYS)
    shown = evidence.named(connection, migration, first)
    return {
        **found,
        "intact": not changed,
        "checked": "hashes",
        "changed": {"rows": changed, "shown": shown},
    }


def _listed(
    connection: sa.Connection, migration: Migration, facts: dict[str, Any]
) -> dict[str, dict[str, int]]:
    """How much of each list is shown; cuts that of companies, the largest first."""
    totals = {
        "chunks": trail.count_chunks(connection, migration.migration_id),
        "companies": len(facts["companies"]),
        "quarantine": facts["summary"]["records"]["quarantined"],
    }
    facts["companies"] = facts["companies"][:MOST_ROWS]
    listed = {name: {"shown": len(facts[name]), "total": total} for name, total in totals.items()}
    conflicts = facts["conflicts"]
    shown, total = len(conflicts["records"]), sum(conflicts["by_kind"].values())
    return {**listed, "conflicts": {"shown": shown, "total": total}}


def _plain(value: Any) -> Any:
    """JSON values, in the place of what they are made of: of all chunks there is no second copy."""
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            return {str(name): _plain(item) for name, item in value.items()}
        for name, item in value.items():
            value[name] = _plain(item)
        return value
    if isinstance(value, ToldRows):
        value.convert(_plain)
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return value


_DATABASE = sa.text("""
    SELECT current_database() AS name,
           (SELECT oid::bigint FROM pg_database WHERE datname = current_database()) AS oid,
           current_user AS role, pg_postmaster_start_time() AS server_started_at
""")
