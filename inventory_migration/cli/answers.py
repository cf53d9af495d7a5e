"""Answers as a person reads them: plain words and small tables, from what the verbs return.

How text gets to a screen belongs in `terminal.py`; the same answers for programs are the JSON that
these functions are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from inventory_migration import project
from inventory_migration.cli.terminal import duration, moment, number, pairs, say, table

PROGRAM = "inventory-migration"
LISTED = 20
"""How many companies or names are listed; the rest is a number."""


def summary(screen: Console, found: Mapping[str, Any]) -> None:
    """What `run`, `resume` and `rollback` did."""
    if not found["changed"]:
        say(screen, _nothing_to_do(found))
        for clause in found.get("checked", ()):
            say(screen, f"  checked   {clause}")
    else:
        say(screen, f"{_named(found)} is {_state(found)}.")
    say(screen)
    figures(screen, found)
    _next(screen, found)


def last_summary(screen: Console, found: Mapping[str, Any]) -> None:
    """What the last migration did, long after it."""
    when = f", {moment(found['finished_at'])}" if found["finished_at"] else ""
    say(screen, f"{_named(found)} is {_state(found)}{when}.")
    say(screen)
    figures(screen, found)
    _next(screen, found)


def report(screen: Console, found: Mapping[str, Any]) -> None:
    """Where the report is."""
    say(screen, f"{_named(found)} is {_state(found)}.")
    for form, path in found["report"].items():
        if path:
            say(screen, f"  {form:<9} {path}")
    if found.get("seal"):
        say(screen, f"  {'seal':<9} {_seal(found['seal'])}")


def pause(screen: Console, found: Mapping[str, Any]) -> None:
    """That a migration is paused, or why there was nothing to pause."""
    mapping = found["mapping"]
    if found["state"] in {"paused", "held"}:
        already = "" if found["changed"] else " already"
        pending = found["records"]["pending"]
        say(
            screen,
            f"{_named(found)} is {found['state']}{already}; {number(pending)} records are left. "
            f"Go on with '{PROGRAM} resume {mapping}'.",
        )
    elif found["migration_id"] is None:
        say(screen, f"Nothing to pause: nothing of {mapping} is migrated in this database.")
    else:
        say(screen, f"Nothing to pause: {_named(found)[0].lower()}{_named(found)[1:]} is "
                     f"{_state(found)}.")  # fmt: skip


def aborting(mapping: str, wanted: Mapping[str, Any]) -> str:
    """What an abort is about to do, for a question."""
    left = wanted["records"] - wanted["records_done"]
    return (
        f"this ends migration {wanted['migration_id']} of {mapping} for good: "
        f"{number(wanted['rows_migrated'])} records stay where they were moved to, "
        f"{number(left)} are left as they are"
    )


def abort(screen: Console, found: Mapping[str, Any]) -> None:
    """That a migration has been ended, or why there was nothing to end."""
    mapping = found["mapping"]
    if found["changed"]:
        say(
            screen,
            f"{_named(found)} is aborted; what it moved stays. '{PROGRAM} rollback {mapping}' "
            f"takes it back, '{PROGRAM} run {mapping}' begins anew.",
        )
    elif found["migration_id"] is None:
        say(screen, f"Nothing to abort: nothing of {mapping} is migrated in this database.")
    else:
        say(screen, f"Nothing to abort: {_named(found)[0].lower()}{_named(found)[1:]} is "
                     f"{_state(found)}.")  # fmt: skip


def record(screen: Console, found: Mapping[str, Any]) -> None:
    """The story of one stock record."""
    now = found["now"]
    say(screen, f"{found['mapping']}, record {found['key']}")
    if now is None:
        say(screen, "  now          gone from the application's table")
    else:
        for name in ("company", "item", "quantity", "reserved", "location"):
            say(screen, f"  {name:<12} {now[name] if now[name] is not None else 'none'}")
        if not found["history"]:
            rule = f" ({now['rule']})" if now["rule"] else ""
            say(screen, f"  never migrated; a run would make it {now['prediction']}{rule}")
    for met in found["history"]:
        if met["outcome"] == "archived":
            say(screen, f"  migration {met['migration_id']}: archived; {met['reason']}")
            continue
        rule = f", {met['rule']}" if met["rule"] else ""
        reason = f": {met['reason']}" if met["reason"] else ""
        undone = ", undone" if met["chunk_state"] == "undone" else ""
        say(screen, f"  migration {met['migration_id']}, chunk {met['chunk']}: "
                     f"{met['outcome']}{undone}{rule}{reason}")  # fmt: skip
        say(
            screen,
            f"    location {met['location_before'] or 'none'} before, "
            f"{met['location_after'] or 'none'} after; "
            f"quantity {met['quantity'] or 'none'}, reserved {met['reserved']}",
        )


def validation(screen: Console, found: Mapping[str, Any]) -> None:
    """Whether the data still shows what a verified migration leaves."""
    as_of = moment(found["as_of"])
    if found["migration_id"] is None:
        say(screen, f"Nothing of {found['mapping']} is migrated.")
    verdict = "every record is accounted for" if found["passed"] else "something differs"
    say(screen, f"As of {as_of}, {verdict}.")
    for one in found["archived"]:
        say(
            screen,
            f"The records of migration {one['migration_id']} are archived in {one['path']}, and "
            "are no longer compared.",
        )
    if found["migration_id"] is not None:
        say(screen)
        pairs(screen, _standing(found))
        say(screen)
    if found["differences"]:
        rows = [
            {
                "difference": difference["kind"].replace("_", " "),
                "explained": "yes" if difference["explained"] else "NO",
                "records": number(difference["records"]),
                "for example": ", ".join(difference["sample"][:5]),
            }
            for difference in found["differences"]
        ]
        table(screen, rows, right={"records"})
    for suite, judged in found["gates"].items():
        gate(screen, suite, judged)


def script(screen: Console, found: str) -> None:
    """SQL as it is: for reading, or for psql."""
    screen.file.write(found)


def demo(screen: Console, found: Mapping[str, Any]) -> None:
    """What the demo is made of, or why it was not made."""
    if not found["created"]:
        say(screen, f"The demo was not loaded: {found['why']}.")
        return
    say(
        screen,
        f"A demo of {number(found['companies'])} companies with {number(found['items'])} stock "
        f"items, {number(found['units'])} units, {number(found['reserved'])} of them reserved "
        f"({duration(found['elapsed_seconds'])}).",
    )
    say(
        screen,
        f"Beside it {number(found['orders'])} orders with {number(found['order_lines'])} lines, "
        f"{number(found['tenants'])} tenants with {number(found['batches'])} batches.",
    )
    if found["defects"]:
        say(screen, "Defects planted:")
        rows = [(f"  {name}", number(count)) for name, count in found["defects"].items()]
        pairs(screen, rows)
    say(screen, f"Next: '{PROGRAM} test stock_items'.")


def server(screen: Console, found: Mapping[str, Any]) -> None:
    """The embedded server."""
    if found["running"]:
        say(screen, f"The embedded PostgreSQL {found['version']} runs (process {found['pid']}).")
        say(screen, f"  url     {found['url']}")
        say(screen, f"  folder  {found['folder']}")
    elif found["folder"]:
        say(screen, f"The embedded server's data in {found['folder']} are deleted.")
    elif found.get("changed"):
        say(screen, "The embedded server is stopped; its data stay.")
    else:
        say(screen, "The embedded server does not run.")


def url(screen: Console, found: Mapping[str, Any]) -> None:
    """Nothing but the URL."""
    say(screen, found["url"])


def dashboard(screen: Console, found: Mapping[str, Any]) -> None:
    """Where the dashboard is, and how it ends."""
    say(screen, f"Dashboard: {found['url']}")
    say(
        screen, "Nobody can act on it. Ctrl-C ends it." if found["read_only"] else "Ctrl-C ends it."
    )


def _named(found: Mapping[str, Any]) -> str:
    return f"Migration {found['migration_id']} of {found['mapping']}"


def _state(found: Mapping[str, Any]) -> str:
    said = str(found["state"]).replace("_", " ")
    return f"{said} ({found['reason']})" if found["reason"] else said


def _nothing_to_do(found: Mapping[str, Any]) -> str:
    mapping = found["mapping"]
    if found["migration_id"] is None:
        return f"Nothing to do: nothing of {mapping} is migrated in this database."
    if found["state"] == "verified":
        return (
            f"Nothing to do: no record of {mapping} is new since migration "
            f"{found['migration_id']}, verified {moment(found['finished_at'])}."
        )
    return f"Nothing was changed: migration {found['migration_id']} is {_state(found)}."


def figures(screen: Console, found: Mapping[str, Any]) -> None:
    """A migration in numbers: companies, locations, records by outcome, units before and after."""
    if found["migration_id"] is None:
        return
    records, undone = found["records"], found["undone"]
    rows = [
        ("Companies", number(found["companies"])),
        (
            "Default locations",
            f"{number(found['locations_created'])} created, "
            f"{number(found['locations_adopted'])} adopted",
        ),
        *_outcomes(records),
        ("  quarantined", by_rule(records["quarantined"], found["quarantined"])),
    ]
    if found["waived"]:
        rows.append(("    waived", number(found["waived"])))
    if found["warnings"]:
        rows.append(("Warnings", by_rule(None, found["warnings"])))
    rows += _units(found, "after")
    if found["state"] == "rolled_back" or any(undone.values()):
        rows.append(
            (
                "Undone",
                f"{number(undone['records'])} records, {number(undone['locations'])} locations; "
                f"{number(undone['kept'])} records kept, since the application moved them",
            )
        )
    else:
        rows.append(("Time", duration(found["elapsed_seconds"])))
    pairs(screen, rows)


def _standing(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A migration's stock now beside what its snapshot has."""
    records = found["records"]
    return [
        ("Companies", number(found["companies"])),
        *_outcomes(records),
        ("  quarantined", number(records["quarantined"])),
        *_units(found, "now"),
    ]


def _outcomes(records: Mapping[str, int]) -> list[tuple[str, str]]:
    """Records by outcome, without those that were quarantined."""
    return [
        ("Records", number(records["snapshot"])),
        *(
            (f"  {name}", number(records[name]))
            for name in ("migrated", "already", "skipped", "gone", "pending")
            if records[name] or name == "migrated"
        ),
    ]


def _units(found: Mapping[str, Any], then: str) -> list[tuple[str, str]]:
    """Units, reserved and available before and at a moment, and the application's part in it."""
    rows = []
    for name in ("units", "reserved", "available"):
        before, after = number(found[name]["before"]), number(found[name]["after"])
        rows.append((name.capitalize(), f"{before} before, {after} {then}"))
    changed = found["changed_by_application"]
    if changed["units"] != "0" or changed["reserved"] != "0":
        rows.append(
            (
                "  by the application",
                f"{number(changed['units'])} units, {number(changed['reserved'])} reserved "
                "changed meanwhile",
            )
        )
    return rows


def _seal(seal: Mapping[str, Any]) -> str:
    """The hash by which a report is known, for a log that nobody can change later."""
    kept = "" if seal["kept"] else f", not sealed: {seal['reason']}"
    return f"SHA-256 {seal['sha256']}{kept}"


def _next(screen: Console, found: Mapping[str, Any]) -> None:
    if found["migration_id"] is None:
        return
    mapping = found["mapping"]
    rows = []
    if found["report"]["html"]:
        rows.append(("Report", found["report"]["html"]))
    if found.get("seal"):
        rows.append(("Report's seal", _seal(found["seal"])))
    if found["archived"]:
        rows.append(("Archived in", found["archived"]["path"]))
    elif found["state"] == "verified":
        rows.append(("Prove it again", f"{PROGRAM} validate {mapping}"))
        rows.append(("Undo it", f"{PROGRAM} rollback {mapping}"))
    elif found["state"] == "rolled_back":
        rows.append(("Run it again", f"{PROGRAM} run {mapping}"))
    if found["quarantined"] and not found["archived"]:
        rows.append(("Put aside", f"{PROGRAM} quarantine list {mapping}"))
        rows.append(("One record's story", f"{PROGRAM} show {mapping} KEY"))
    checkout = project.project_folder()
    if all((checkout / name).is_file() for name in ("workspace.yaml", "Makefile")):
        rows.append(("See it in Dagster", "make ui"))
    say(screen)
    pairs(screen, rows)


def gate(screen: Console, suite: str, found: Mapping[str, Any]) -> None:
    """A gate's verdict, and each expectation that was not met."""
    verdict = "passes" if found["passed"] else "REFUSES"
    unmet = len(found["failed"]) + len(found["warnings"])
    say(screen, f"Gate {suite}: {verdict}. {found['expectations']} expectations, {unmet} not met.")
    for level, listed in (
        ("failed", found["failed"]),
        ("warning", found["warnings"]),
        ("worth knowing", found["notes"]),
    ):
        for expectation in listed:
            sample = ", ".join(str(key) for key in (expectation.get("sample") or ())[:3])
            say(
                screen,
                f"  {level}: {expectation['key']}: {expectation['observed']}"
                + (f"; for example {sample}" if sample else ""),
            )


def by_rule(total: int | None, rules: Mapping[str, int]) -> str:
    """How many records, and how many by each rule."""
    listed = ", ".join(f"{rule} {number(count)}" for rule, count in rules.items())
    if total is None:
        return listed or "none"
    return f"{number(total)} ({listed})" if listed else number(total)
