"""The report of a migration as one HTML document: from the facts alone, as all of its forms are.

What it consists of and in which order, what is said first, and what ran.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from inventory_migration.report import course, grounds, html, stock
from inventory_migration.report.html import Section, Tone
from inventory_migration.report.text import duration, grouped, when

Facts = Mapping[str, Any]


def document(facts: Facts) -> str:
    """The whole document."""
    title = f"Migration {facts['migration_id']} of {facts['mapping']}"
    few = len(facts["companies"]) <= stock.FEW
    companies = stock.companies(facts)
    sections = stock.only(
        stock.totals(facts),
        companies if few else None,
        stock.differences(facts),
        stock.outcomes(facts),
        grounds.basis(facts),
        grounds.references(facts),
        grounds.sample(facts),
        course.gates(facts),
        stock.quarantine(facts),
        stock.conflicts(facts),
        course.phases(facts),
        course.application(facts),
        _what_ran(facts),
        course.events(facts),
        None if few else companies,
        grounds.seal(facts),
        grounds.signatures(),
    )
    return html.page(
        title,
        sections,
        lead=[*_head(facts, few)],
        running=f"{title}, as of {when(facts['as_of'])}",
        end=[
            html.paragraph(
                "Every number of this document comes from the database, read in one moment; the "
                "Markdown and JSON forms beside it say the same.",
                soft=True,
            )
        ],
    )


def _head(facts: Facts, few: bool) -> Iterator[html.Part]:
    verdict, found = facts["verdict"], facts["summary"]
    tone: Tone = {True: "good", False: "bad", None: "warn"}[verdict["passed"]]  # type: ignore[assignment]
    yield html.paragraph(f"{facts['database']['where']}; as of {when(facts['as_of'])}", soft=True)
    yield html.verdict(
        verdict["text"], tone, f"Reason: {verdict['reason']}" if verdict["reason"] else None
    )
    records = found["records"]
    differing = facts["differences"]
    unexplained = sum(d["records"] for d in differing or [] if not d["explained"])
    yield html.tiles(
        [
            ("companies", found["companies"], "all listed" if few else "listed towards the end"),
            ("records", records["snapshot"], f"{records['migrated']:,} migrated"),
            *((name, found[name]["after"], _against(found[name])) for name in stock.MEASURES),
            ("quarantined", records["quarantined"], "put aside, with reasons"),
            (
                "unexplained",
                "–" if differing is None else unexplained,
                "not compared" if differing is None else "records that differ",
            ),
        ]
    )


def _against(measure: Mapping[str, str]) -> str:
    if measure["before"] == measure["after"]:
        return "the same before and after"
    return f"{grouped(measure['before'])} before"


def _what_ran(facts: Facts) -> Section:
    database, versions, found = facts["database"], facts["versions"], facts["summary"]
    origin, fingerprint = facts["origin"], database["fingerprint"]
    added = [
        name
        for name, there in (
            ("the table of locations", origin["table_added"]),
            ("the target column", origin["column_added"]),
        )
        if there
    ]
    return html.section(
        "What ran",
        html.pairs(
            {
                "mapping": facts["mapping"],
                "SHA-256 of the mapping": html.word(origin["mapping_hash"]),
                "target": html.word(origin["target"]),
                "database": f"{database['where']} (name {database['name']}, oid {database['oid']})",
                "system identifier": fingerprint["system_identifier"]
                or "not readable by this role",
                "server": f"PostgreSQL {versions['server']}, up since "
                f"{when(database['server_started_at'])}",
                "read as": database["role"],
                "program": f"inventory-migration {versions['inventory_migration']}, ledger version "
                f"{versions['ledger']}",
                "started": f"{when(found['started_at'])}, by {origin['started_by']}",
                "finished": when(found["finished_at"]) or "not yet",
                "elapsed": duration(found["elapsed_seconds"]),
                "Dagster runs": ", ".join(origin["run_ids"]) or "none",
                "default locations": f"{found['locations_created']:,} created, "
                f"{found['locations_adopted']:,} adopted",
                "added to the schema": ", ".join(added) or "nothing",
            }
        ),
        html.details(
            "The mapping as it ran",
            html.code(yaml.safe_dump(origin["definition"], sort_keys=False, allow_unicode=True)),
        ),
    )
