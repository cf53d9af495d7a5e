"""What a migration would do, asked of the live tables and writing nothing: what `test` shows.

The rules are the very ones that the chunks apply (`rules.py`). Whether the gates would let it
run is judged in `verbs.py`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import (
    canonical,
    columns,
    copies,
    coverage,
    flags,
    ledger,
    references,
    rules,
)
from inventory_migration.engine.summary import OUTCOMES, exact
from inventory_migration.engine.triggers import fired_triggers

RECORDS_PER_SECOND = 50_000
"""What a small machine does; only used where the ledger holds no figure of this database."""


def predict(connection: sa.Connection, resolved: ResolvedMapping) -> dict[str, Any]:
    """The shape that `run` prints, predicted, with companies, triggers and publications.

    Args:
        connection: A read-only transaction that sees one moment.
        resolved: The mapping and its types.
    """
    mapping = resolved.mapping
    relation = _relation(connection, resolved)
    conditions = rules.conditions(resolved)
    own = "".join(
        f", count(*) FILTER (WHERE outcome <> 'skipped' AND {conditions[rule]}) AS {quoted(rule)}"
        for rule in mapping.rules.own
    )
    rows = connection.execute(
        sa.text(f"""
            SELECT g.*, {canonical.available(resolved, "units", "reserved")} AS available
            FROM (
                SELECT company_key::text AS company_key, outcome, rule, count(*) AS records,
                       -- Over all groups: a sum of Decimals keeps 28 digits only.
                       COALESCE(sum(sum(quantity)) OVER (), 0) AS units,
                       COALESCE(sum(sum(reserved)) OVER (), 0) AS reserved,
                       count(*) FILTER (WHERE outcome <> 'skipped'
                                          AND {conditions["negative_quantity"]}) AS negative,
                       count(*) FILTER (WHERE outcome <> 'skipped'
                                          AND {conditions["reserved_exceeds_quantity"]})
                           AS over_reserved
                       {own}
                FROM ({escaped(relation)}) AS r
                GROUP BY company_key, outcome, rule) AS g
        """)
    ).all()
    companies = connection.execute(
        sa.text(
            "SELECT company_key::text AS company_key, company_name, default_locations, "
            f"stock_records FROM ({escaped(canonical.companies(resolved))}) AS c "
            "ORDER BY stock_records DESC, company_name"
        )
    ).all()
    live = f"SELECT * FROM ({relation}) AS r WHERE outcome <> 'skipped'"
    duplicates = copies.copies(connection, live).records
    actions = mapping.rules.actions()
    warnings = {
        "negative_quantity": sum(row.negative for row in rows),
        "reserved_exceeds_quantity": sum(row.over_reserved for row in rows),
        "item_duplicate": duplicates,
        **{rule: sum(row._mapping[rule] for row in rows) for rule in mapping.rules.own},
    }
    totals = {
        name: exact(getattr(rows[0], name) if rows else None)
        for name in ("units", "reserved", "available")
    }
    outcomes = {name: _count(rows, name) for name in OUTCOMES}
    lacking = [row for row in companies if row.default_locations == 0]
    by_company: dict[str, list[Any]] = {}
    for row in rows:
        by_company.setdefault(row.company_key, []).append(row)
    return {
        "migration_id": None,
        "mapping": mapping.name,
        "tables": {
            "companies": str(mapping.company),
            "locations": str(mapping.locations.table),
            "records": str(mapping.source.table),
        },
        "state": "predicted",
        "changed": coverage.has_work(connection, resolved),
        "companies": len(companies),
        "locations_created": len(lacking) if mapping.locations.create is not None else 0,
        "records": {"snapshot": sum(row.records for row in rows), **outcomes},
        "skipped": _by_rule(rows, "skipped"),
        "quarantined": _by_rule(rows, "quarantined"),
        "warnings": {
            rule: count for rule, count in warnings.items() if count and actions[rule] == "warn"
        },
        **{name: {"before": total, "after": total} for name, total in totals.items()},
        "elapsed_seconds": round(outcomes["migrated"] / _speed(connection), 1),
        "companies_without_default_location": [row.company_name for row in lacking],
        "companies_with_several_default_locations": [
            row.company_name for row in companies if row.default_locations > 1
        ],
        "by_company": [
            {
                "company_key": row.company_key,
                "company_name": row.company_name,
                "default_locations": row.default_locations,
                "records": row.stock_records,
                **{name: _count(by_company.get(row.company_key, []), name) for name in OUTCOMES},
            }
            for row in companies
        ]
        if len(companies) <= 1000
        else [],
        "references": _references(connection, resolved),
        "unmapped_flags": [asdict(flag) for flag in flags.unmapped(connection, resolved)],
        "fires": {
            "triggers": fired_triggers(connection, resolved),
            "publications": list(resolved.source.publications),
            "columns_written": columns.written_columns(resolved),
            "unique_keys_written": _unique_keys_written(resolved),
        },
        "needs_write_stop": mapping.needs_write_stop,
        "report": {"html": None, "markdown": None, "json": None},
    }


def _relation(connection: sa.Connection, resolved: ResolvedMapping) -> str:
    """Every record before the first migration; after a verified one, what a new one would take."""
    covered = coverage.dealt_with(connection, resolved)
    return coverage.uncovered(resolved, covered) if covered else canonical.records(resolved)


def _unique_keys_written(resolved: ResolvedMapping) -> list[list[str]]:
    """The unique keys of the record of which a write changes a part.

    Such a write locks the key, and rows that refer to the record wait for it; a partial index does
    not count.
    """
    written = set(columns.written_columns(resolved))
    return [list(key) for key in resolved.source.unique_keys if written & set(key)]


def _references(connection: sa.Connection, resolved: ResolvedMapping) -> list[dict[str, Any]]:
    """The foreign keys in and out of the tables: how many rows refer, how many of them to none."""
    counted = escaped(references.foreign_keys(connection, resolved))
    rows = connection.execute(sa.text(f"SELECT f.* FROM ({counted}) AS f ORDER BY name"))
    return [dict(row._mapping) for row in rows]


def _speed(connection: sa.Connection) -> float:
    """Records per second of this database's last migration, or what a small machine does."""
    if not ledger.installed(connection):
        return RECORDS_PER_SECOND
    chunk = ledger.chunk
    found = connection.execute(
        sa.select(
            sa.func.sum(chunk.c.records)
            / sa.func.nullif(
                sa.func.extract(
                    "epoch", sa.func.max(chunk.c.finished_at) - sa.func.min(chunk.c.started_at)
                ),
                0,
            )
        )
        .where(chunk.c.xid.is_not(None))
        .group_by(chunk.c.migration_id)
        .order_by(chunk.c.migration_id.desc())
        .limit(1)
    ).scalar()
    return float(found) if found else RECORDS_PER_SECOND


def _count(rows: Any, outcome: str) -> int:
    return sum(row.records for row in rows if row.outcome == outcome)


def _by_rule(rows: Any, outcome: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        if row.outcome == outcome:
            found[row.rule] = found.get(row.rule, 0) + row.records
    return dict(sorted(found.items()))
