"""What a report states, as plain JSON values: read in one moment, every number from the tables.

How it is laid out for reading belongs in `page.py`. Nothing is written here.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from inventory_migration import __version__
from inventory_migration.catalog import ResolvedMapping, resolve
from inventory_migration.database import describe, escaped
from inventory_migration.engine import joins, ledger, proof, summary, trail
from inventory_migration.engine.ledger import Migration
from inventory_migration.engine.triggers import fired_triggers
from inventory_migration.errors import MappingInvalid
from inventory_migration.mapping import StockMapping

MOST_ROWS = 10_000
"""How many rows of a list a document holds; the ledger has them all."""

_PROVABLE = ("running", "paused", "held", "verifying", "failed", "verified")


def collect(reader: sa.Engine, mapping: StockMapping) -> dict[str, Any] | None:
    """Everything that a report states about the mapping's newest migration.

    None without one, and where its records are in an archive, which has its report as well.
    """
    with reader.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(sa.text("SET LOCAL row_security = off"))
        if not ledger.installed(connection):
            return None
        migration = ledger.find(connection, mapping=mapping.name)
        if migration is None or migration.purged:
            return None
        found = _facts(connection, mapping, migration, where=describe(reader))
    return _plain(found)  # type: ignore[no-any-return]


def _facts(
    connection: sa.Connection, mapping: StockMapping, migration: Migration, *, where: str
) -> dict[str, Any]:
    migration_id = migration.migration_id
    facts: dict[str, Any] = {
        "mapping": mapping.name,
        "migration_id": migration_id,
        "as_of": connection.execute(sa.text("SELECT statement_timestamp()")).scalar_one(),
        "origin": trail.origin(connection, migration_id),
        "versions": {
            "inventory_migration": __version__,
            "ledger": ledger.VERSION,
            "server": connection.execute(sa.text("SHOW server_version")).scalar_one(),
        },
        "database": {"where": where, **dict(connection.execute(_DATABASE).one()._mapping)},
        "summary": summary.summarize(connection, migration, mapping=mapping.name, changed=False),
        "put_aside": trail.outcomes_by_rule(connection, migration_id),
        "quarantine": trail.quarantined(connection, migration_id, limit=MOST_ROWS),
        "phases": trail.phases(connection, migration_id),
        "chunks": trail.chunks(connection, migration_id, limit=MOST_ROWS),
        "gates": trail.verdicts(connection, mapping.name),
        "conflicts": trail.conflicts(connection, migration_id, limit=MOST_ROWS),
        "events": trail.events(connection, migration_id),
    }
    # No part of what the migration did, but of what this command was asked for.
    del facts["summary"]["changed"], facts["summary"]["report"]
    facts |= _compared(connection, mapping, migration)
    facts["verdict"] = _verdict(migration, facts)
    facts["rests_on"] = _rests_on(facts)
    facts["not_checked"] = _not_checked(facts)
    return facts


def _compared(
    connection: sa.Connection, mapping: StockMapping, migration: Migration
) -> dict[str, Any]:
    """What the live tables say now, as far as the mapping still fits them."""
    nothing: dict[str, Any] = {
        "companies": [],
        "differences": None,
        "triggers": [],
        "publications": [],
        "not_comparable": None,
    }
    try:
        resolved = resolve(connection, mapping)
        joins.refuse_unfaithful(connection, resolved)
    except MappingInvalid as error:
        return {**nothing, "not_comparable": str(error)}
    found = {
        **nothing,
        "triggers": fired_triggers(connection, resolved),
        "publications": list(resolved.source.publications),
    }
    if not ledger.snapshot_exists(connection, migration):
        return found
    found["companies"] = summary.by_company(connection, migration)[:MOST_ROWS]
    if migration.state not in _PROVABLE:
        return found
    _add_available(connection, resolved, migration, found["companies"])
    found["differences"] = [
        {
            "kind": difference.kind,
            "explained": difference.explained,
            "records": difference.records,
            "sample": difference.sample,
        }
        for difference in proof.prove(connection, resolved, migration).differences
    ]
    return found


def _add_available(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    migration: Migration,
    companies: list[dict[str, Any]],
) -> None:
    """Add to each company what it could promise before, what now, and what of that is explained."""
    balance = escaped(proof.balance(connection, resolved, migration))
    query = (
        "SELECT company_key, sum(available_before) AS before, "  # noqa: S608 - trusted SQL
        "sum(available_after) AS after, sum(explained) AS explained "
        f"FROM ({balance}) AS b GROUP BY company_key"
    )
    rows = connection.execute(sa.text(query))
    available = {row.company_key: row for row in rows}
    for company in companies:
        row = available.get(company["company_key"])
        company["available_before"] = summary.exact(row.before if row else None)
        company["available_after"] = summary.exact(row.after if row else None)
        company["changed_by_application"] = summary.exact(row.explained if row else None)


def _verdict(migration: Migration, facts: dict[str, Any]) -> dict[str, Any]:
    differences = facts["differences"]
    unexplained = [d for d in differences or [] if not d["explained"]]
    refused = [gate["suite"] for gate in facts["gates"] if not gate["passed"]]
    if migration.state == "rolled_back":
        kept = facts["summary"]["undone"]["kept"]
        text = "Rolled back."
        if kept:
            text += f" Records kept, since the application has moved them: {kept:,}; see Conflicts."
        passed = None
    elif migration.state == "verified" and differences is not None:
        passed = not unexplained and not refused
        text = "Verified: every record is accounted for and not one unit was lost."
        if unexplained:
            text = "It was verified, and since then something differs; see Differences."
        elif refused:
            text = f"It was verified, and its gate {', '.join(refused)} refused last; see Gates."
    elif migration.state == "failed":
        passed, text = False, "Failed; see the reason and Differences."
    else:
        passed = None
        text = f"Not finished: {migration.state.replace('_', ' ')}."
    return {"state": migration.state, "passed": passed, "text": text, "reason": migration.reason}


def _rests_on(facts: dict[str, Any]) -> list[str]:
    """What the verdict was concluded from, with the numbers of this migration."""
    if facts["differences"] is None:
        return []
    touched = sum(
        d["records"]
        for d in facts["differences"]
        if d["kind"] in {"touched_since", "deleted_since"}
    )
    records = facts["summary"]["records"]
    said = [
        f"A snapshot of {records['snapshot']:,} records with the pre-image of every column that is "
        "written; each has exactly one outcome in the ledger.",
        f"{records['migrated']:,} records were written. A row that still carries the id of the "
        "transaction that wrote it must equal the snapshot in every other column, and its location "
        "must belong to its company.",
        "Units and reserved were read back from the table in the transaction that wrote each chunk "
        "and had to equal what was locked.",
        "What can be promised (available) is compared by company and item, before and after.",
        "Foreign keys in and out of the touched tables were counted before and after.",
    ]
    target = facts["origin"]["definition"]["target"]
    if target["shape"] == "stock_level":
        said[1] = (
            f"{records['migrated']:,} levels were written. Each must be at a location of its "
            "record's company and hold the record's numbers as they are now; a level that the "
            "application has written since is its own."
        )
    elif target["shape"] == "allocation_json":
        said.append(
            "The entries of each record that was written must add up to its quantities as they "
            "are now."
        )
    said += _holds(facts, target)
    if touched:
        said.insert(
            2,
            f"Records that the application changed or deleted since: {touched:,}; they are listed "
            "as explained and are not held against the snapshot.",
        )
    return said


def _holds(facts: dict[str, Any], target: dict[str, Any]) -> list[str]:
    """For how long the verdict holds, and what makes it."""
    verdicts = [event["detail"] for event in facts["events"] if event["kind"] == "verdict"]
    if not verdicts:
        return []
    basis = verdicts[-1].get("rests_on")
    if basis == "write_stop":
        tables = ", ".join(verdicts[-1].get("tables", []))
        return [
            "The last pass and the proof were one transaction in which nobody else could write to "
            f"{tables}: the verdict is final."
        ]
    if basis == "sync_trigger":
        return [
            "A trigger writes the level of each record in the transaction that writes the record: "
            "the verdict holds for as long as the trigger is there."
        ]
    if basis == "guard":
        return [
            "A guard trigger gives new records the default location of their company as they are "
            "inserted, for as long as it is there. What it cannot give one to (no default location "
            "that the inserting transaction sees, a rule that refuses the record, triggers "
            "switched off in the session) has none until the next run."
        ]
    if target["shape"] == "stock_level":
        return [
            "Nothing keeps levels in step with their records, and writes were not stopped: the "
            "verdict holds for its moment and is not final."
        ]
    return []


def _not_checked(facts: dict[str, Any]) -> list[str]:
    """What a reader might take for checked, and is not."""
    said = ["What the application writes after the moment named above."]
    if facts["not_comparable"]:
        said.append(
            f"The live tables: the mapping no longer fits them ({facts['not_comparable']})."
        )
    elif facts["differences"] is None:
        said.append("The live tables against the snapshot, which says nothing in this state.")
    unknown = [t["name"] for t in facts["triggers"] if not t["understood"]]
    if unknown:
        said.append(
            f"What these triggers of the application did: {', '.join(unknown)}; their functions "
            "can not be read in full."
        )
    if facts["triggers"]:
        said.append("What the application's triggers wrote to other tables.")
    if facts["publications"]:
        said.append(
            "Whether subscribers received the changes published by "
            f"{', '.join(facts['publications'])}."
        )
    if isinstance(facts["origin"]["definition"]["source"].get("reserved"), dict):
        said.append(
            "Whether the application changed what is reserved without writing the record's own "
            "row, between two looks at it: reserved units are computed from other tables."
        )
    said.append("Whether the quantities were right before: they are carried over as they stood.")
    return said


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
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
