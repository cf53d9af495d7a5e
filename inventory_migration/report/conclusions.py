"""What a report concludes from its facts: the verdict, what it rests on, what was not checked.

Sentences over facts that were read already; nothing is asked of a database here.
"""

from __future__ import annotations

from typing import Any

from inventory_migration.engine.ledger import Migration


def verdict(migration: Migration, facts: dict[str, Any]) -> dict[str, Any]:
    """The verdict: state, whether it passed (None where that cannot be said yet), and in words."""
    differences = facts["differences"]
    tampered = facts["seal"]["snapshot"]["intact"] is False
    disagreeing = len(facts["sample"]["disagreements"]) if facts["sample"] else 0
    unexplained = [d for d in differences or [] if not d["explained"]]
    refused = [gate["suite"] for gate in facts["gates"] if not gate["passed"]]
    if migration.state == "rolled_back":
        kept = facts["summary"]["undone"]["kept"]
        text = "Rolled back."
        if kept:
            text += f" Records kept, since the application has moved them: {kept:,}; see Conflicts."
        passed = None
    elif migration.state == "verified" and differences is not None:
        passed = not (unexplained or refused or disagreeing or tampered)
        text = "Verified: every record is accounted for and not one unit was lost."
        if unexplained:
            text = "It was verified, and since then something differs; see Differences."
        elif refused:
            text = f"It was verified, and its gate {', '.join(refused)} refused last; see Gates."
        elif disagreeing:
            text = (
                "It was verified, and records of the sample, recounted another way, disagree; "
                "see Sample."
            )
    elif migration.state == "failed":
        passed, text = False, "Failed; see the reason and Differences."
    else:
        passed = None
        text = f"Not finished: {migration.state.replace('_', ' ')}."
    if tampered:
        passed = False
        text += (
            " But rows of the snapshot were changed since it was written, so that nothing of this "
            "rests on it any more; see Seal."
        )
    return {"state": migration.state, "passed": passed, "text": text, "reason": migration.reason}


def rests_on(facts: dict[str, Any]) -> list[str]:
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
    said += _tried(facts)
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


def _tried(facts: dict[str, Any]) -> list[str]:
    """What came of the last trial of the application's operations and reports, if there was one."""
    trials = [event for event in facts["events"] if event["kind"] == "acceptance"]
    if not trials:
        return []
    at, detail = f"{trials[-1]['at']:%Y-%m-%d %H:%M:%S %Z}", trials[-1]["detail"]
    verdict = "all as expected" if detail["passed"] else "not all as expected"
    return [
        f"The application's operations and reports were tried beside it at {at}, {verdict}: "
        f"operations {detail['operations']}, queries {detail['queries']}."
    ]


def not_checked(facts: dict[str, Any]) -> list[str]:
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
    if not _tried(facts):
        said.append(
            "Whether the application's operations and reports still work: "
            f"'inventory-migration acceptance {facts['mapping']}' tries it."
        )
    said.append("Whether the quantities were right before: they are carried over as they stood.")
    return said
