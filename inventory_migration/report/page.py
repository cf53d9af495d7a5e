"""The report as a Markdown page: from the facts alone, so that page and JSON never disagree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inventory_migration.report.markdown import cell, table
from inventory_migration.report.seal import CHECKED
from inventory_migration.report.text import when

LISTED = 100
"""How many rows of a list the page shows; the JSON document has more."""


def page(facts: Mapping[str, Any]) -> str:
    """The whole page."""
    return "\n\n".join(_parts(facts)) + "\n"


def _parts(facts: Mapping[str, Any]) -> Iterator[str]:
    found, verdict, origin = facts["summary"], facts["verdict"], facts["origin"]
    yield f"# Migration {facts['migration_id']} of {cell(facts['mapping'])}"
    yield f"**{cell(verdict['text'])}** As of {when(facts['as_of'])}."
    if verdict["reason"]:
        yield f"Reason: {cell(verdict['reason'])}."
    yield "## Totals"
    yield table(
        [
            {"": name, "before": found[name]["before"], "after": found[name]["after"]}
            for name in ("units", "reserved", "available")
        ]
    )
    changed = found["changed_by_application"]
    if changed["units"] != "0" or changed["reserved"] != "0":
        yield (
            "Of the difference between before and after, the application itself changed "
            f"{changed['units']} units and {changed['reserved']} reserved while the migration ran."
        )
    yield table([{"outcome": name, "records": f"{n:,}"} for name, n in found["records"].items()])
    yield (
        f"{found['companies']:,} companies; {found['locations_created']:,} default locations "
        f"created, {found['locations_adopted']:,} adopted."
    )
    yield "## What the verdict rests on"
    yield _list(facts["rests_on"]) or "The state alone: it was not compared with the live tables."
    yield "## What was not checked"
    yield _list(facts["not_checked"])
    yield from _put_aside(facts)
    yield "## Differences between snapshot and live table"
    if facts["differences"] is None:
        yield "Not compared."
    else:
        yield table(
            [
                {
                    "kind": d["kind"].replace("_", " "),
                    "explained": "yes" if d["explained"] else "**no**",
                    "records": f"{d['records']:,}",
                    "for example": ", ".join(d["sample"][:5]),
                }
                for d in facts["differences"]
            ]
        ).replace(r"\*\*no\*\*", "**no**")
    if facts["conflicts"]["by_kind"]:
        yield "## Conflicts of the rollback"
        yield (
            "`touched since` was undone, and what the application wrote beside the target was "
            "left alone; `moved since` was kept as the application wanted it; `arrived with "
            "location` came while the guard trigger was there and is in no plan: it stays there."
        )
        yield from _capped(facts["conflicts"]["records"], facts["conflicts"]["by_kind"].values())
    yield "## References"
    if facts["references"] is None:
        yield "Foreign keys could not be counted."
    else:
        yield table([_reference(key) for key in facts["references"]])
    yield "## Gates"
    yield table([_gate(gate) for gate in facts["gates"]])
    for gate in facts["gates"]:
        if gate["failed"]:
            yield f"### {cell(gate['suite'])}"
            yield table([_expectation(failed) for failed in gate["failed"]])
    yield "## Companies"
    yield from _capped(
        [_company(company) for company in facts["companies"]], [len(facts["companies"])]
    )
    yield "## Phases"
    yield table([_phase(phase) for phase in facts["phases"]])
    if facts["triggers"] or facts["publications"]:
        yield "## What the writes set off in the application"
        yield table([_trigger(trigger) for trigger in facts["triggers"]])
        if facts["publications"]:
            yield f"Publications: {cell(', '.join(facts['publications']))}."
    yield "## What ran"
    yield table(_what_ran(facts, origin))
    yield "## Events"
    yield table(
        [
            {
                "when": when(event["at"]),
                "who": event["who"],
                "what": event["kind"].replace("_", " "),
                "detail": ", ".join(f"{k}: {v}" for k, v in event["detail"].items()),
            }
            for event in facts["events"]
        ]
    )
    yield "## Seal"
    yield from _seal(facts["seal"])


def _seal(seal: Mapping[str, Any]) -> Iterator[str]:
    """The report's number and hash, by which `verify-report` finds what was sealed."""
    yield f"Report `{seal['report']}`, SHA-256 of its content `{seal['sha256']}`."
    if not seal["kept"]:
        yield f"**Not sealed: {cell(seal['reason'])}.** Nobody can tell later if it was changed."
    snapshot = seal["snapshot"]
    if snapshot["sealed"]:
        yield f"Snapshot of {snapshot['records']:,} records, SHA-256 `{snapshot['sha256']}`."
    if how := snapshot.get("checked"):
        yield f"Of the snapshot, {CHECKED[how]}."
    if snapshot["changed"]["rows"]:
        yield f"**Rows of the snapshot changed since: {snapshot['changed']['rows']:,}.**"
        yield table(snapshot["changed"]["shown"][:LISTED])
    yield "What this proves:"
    yield _list(seal["proves"])
    yield "What it cannot prove:"
    yield _list(seal["cannot_prove"])


def _put_aside(facts: Mapping[str, Any]) -> Iterator[str]:
    yield "## Records that were not simply migrated"
    yield table(
        [
            {
                "outcome": row["outcome"],
                "rule": row["rule"],
                "reason": row["reason"],
                "records": f"{row['records']:,}",
                "for example": "; ".join(row["sample"]),
            }
            for row in facts["put_aside"]
        ]
    )
    warnings = facts["summary"]["warnings"]
    if warnings:
        yield "Warnings, migrated all the same:"
        yield table([{"rule": rule, "records": f"{n:,}"} for rule, n in warnings.items()])
    if facts["quarantine"]:
        yield "### Quarantine"
        yield (
            "The ledger keeps the whole row of each, in `inventory_migration.outcome`; "
            f"`inventory-migration quarantine show {cell(facts['mapping'])} KEY` tells all of one."
        )
        yield from _capped(facts["quarantine"], [facts["summary"]["records"]["quarantined"]])


def _capped(rows: Sequence[Mapping[str, Any]], totals: Any) -> Iterator[str]:
    yield table(rows[:LISTED])
    total = sum(totals)
    if total > LISTED:
        yield f"The first {LISTED} of {total:,}; the JSON document beside this one has more."


def _company(company: Mapping[str, Any]) -> dict[str, Any]:
    put_aside = ("already", "skipped", "quarantined", "gone")
    return {
        "company": company["company_name"] or "none",
        "key": company["company_key"],
        "location": company["location_key"],
        "created": {True: "yes", False: "no", None: ""}[company["location_created"]],
        "records": f"{company['snapshot']:,}",
        "migrated": f"{company['migrated']:,}",
        **{name: f"{company[name]:,}" for name in put_aside},
        "units": company["units"],
        "reserved": company["reserved"],
        "available before": company.get("available_before"),
        "available now": company.get("available_after"),
        "changed by the application": company.get("changed_by_application"),
    }


def _reference(key: Mapping[str, Any]) -> dict[str, Any]:
    counts = ("rows_before", "rows_after", "orphans_before", "orphans_after")
    return {
        "foreign key": key["name"],
        **{
            name.replace("_", " "): "" if key[name] is None else f"{key[name]:,}" for name in counts
        },
        "unchanged": "yes" if key["unchanged"] else "no",
    }


def _gate(gate: Mapping[str, Any]) -> dict[str, Any]:
    failed = [e for e in gate["failed"] if e["severity"] == "critical" or e["error"]]
    return {
        "gate": gate["suite"],
        "verdict": "passed" if gate["passed"] else "refused",
        "judged": when(gate["judged_at"]),
        "expectations": gate["expectations"],
        "failed": len(failed),
        "warnings": len(gate["failed"]) - len(failed),
    }


def _expectation(failed: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "expectation": failed["key"],
        "severity": failed["severity"],
        "observed": failed["error"] or failed["observed"],
        "for example": "; ".join(str(key) for key in failed["sample"][:5]),
    }


def _phase(phase: Mapping[str, Any]) -> dict[str, Any]:
    seconds = phase["elapsed_seconds"]
    return {
        "phase": phase["name"],
        "companies": f"{phase['companies']:,}",
        "records": f"{phase['records']:,}",
        "chunks": f"{phase['chunks_written']:,} of {phase['chunks']:,}",
        "failed attempts": phase["failed_attempts"],
        "seconds": "" if seconds is None else f"{seconds:.2f}",
        "reconciled": when(phase["reconciled_at"]),
    }


def _trigger(trigger: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "trigger": trigger["name"],
        "on": trigger["table"],
        "changes": ", ".join(trigger["columns_changed"]),
        "writes to": ", ".join(trigger["tables_written"]),
        "read in full": "yes" if trigger["understood"] else "no",
    }


def _what_ran(facts: Mapping[str, Any], origin: Mapping[str, Any]) -> list[dict[str, Any]]:
    database, versions, found = facts["database"], facts["versions"], facts["summary"]
    said = {
        "mapping": f"{facts['mapping']}, SHA-256 {origin['mapping_hash']}",
        "target": origin["target"],
        "database": f"{database['where']} (oid {database['oid']})",
        "server": f"PostgreSQL {versions['server']}, "
        f"up since {when(database['server_started_at'])}",
        "program": f"inventory-migration {versions['inventory_migration']}, "
        f"ledger version {versions['ledger']}",
        "started": f"{when(found['started_at'])}, by {origin['started_by']}",
        "finished": when(found["finished_at"]) or "not yet",
        "elapsed": f"{found['elapsed_seconds']:,.1f} s",
        "Dagster runs": ", ".join(origin["run_ids"]) or "none",
        "added to the schema": ", ".join(
            name
            for name, added in (
                ("the table of locations", origin["table_added"]),
                ("the target column", origin["column_added"]),
            )
            if added
        )
        or "nothing",
    }
    return [{"": name, " ": value} for name, value in said.items()]


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {cell(sentence)}" for sentence in sentences)
