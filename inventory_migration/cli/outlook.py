"""What a run would do, as a person reads it: figures, companies, issues, what writes set off.

How answers look in general belongs in `answers.py`, whose small words are used here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from inventory_migration.cli.answers import LISTED, PROGRAM, by_rule, gate
from inventory_migration.cli.terminal import duration, number, pairs, say, table

NAMED = 5
"""How many companies a sentence names."""


def prediction(screen: Console, found: Mapping[str, Any]) -> None:
    """What a run would do, and what stands in its way."""
    moving, tables = found["records"]["migrated"], found["tables"]
    say(
        screen,
        f"A run of {found['mapping']} would move {number(moving)} of "
        f"{number(found['records']['snapshot'])} records of {tables['records']}, in about "
        f"{_estimate(found['elapsed_seconds'])}. Nothing was written.",
    )
    for sentence in _default_locations(found):
        say(screen, sentence)
    say(screen)
    pairs(
        screen,
        [
            ("Companies", number(found["companies"])),
            (
                "  without a default location",
                number(len(found["companies_without_default_location"])),
            ),
            ("Records", number(found["records"]["snapshot"])),
            ("  would be migrated", number(moving)),
            ("  already at a location", number(found["records"]["already"])),
            ("  would be skipped", by_rule(found["records"]["skipped"], found["skipped"])),
            (
                "  would be quarantined",
                by_rule(found["records"]["quarantined"], found["quarantined"]),
            ),
            ("Warnings", by_rule(None, found["warnings"])),
            ("Units", number(found["units"]["before"])),
            ("  reserved", number(found["reserved"]["before"])),
            ("  available", number(found["available"]["before"])),
        ],
    )
    _companies(screen, found)
    _issues(screen, found)
    _fires(screen, found["fires"])
    if found.get("rewrite"):
        say(screen)
        _rewrite(screen, found["rewrite"])
    say(screen)
    gate(screen, "audit_profile", found["gate"])
    if found["needs_write_stop"]:
        say(screen, "Nothing keeps its levels in step while the application writes: a run pauses "
                     "before its verdict is final, unless the application is stopped and it is "
                     "started with --write-stop, or the mapping says 'sync: true'.")  # fmt: skip
    if found["gate"]["passed"]:
        say(screen, f"Next: '{PROGRAM} run {found['mapping']}', "
                     f"or 'test {found['mapping']} --sql' for your DBA.")  # fmt: skip


def _default_locations(found: Mapping[str, Any]) -> Iterator[str]:
    """Whether each company has exactly one default location, in words."""
    companies = f"({found['tables']['companies']})"
    location = f"default location ({found['tables']['locations']})"
    lacking = found["companies_without_default_location"]
    several = found["companies_with_several_default_locations"]
    total = _counted(found["companies"], "company", "companies")
    if not found["companies"]:
        yield f"There is no company {companies}."
    elif not lacking and not several:
        yield f"Every company {companies} has exactly one {location}."
    if several:
        yield (
            f"{number(len(several))} of {total} {companies} with more than one {location}: "
            f"{_names(several)}. Leave one to each."
        )
    if lacking:
        then = (
            "Each would get one."
            if found["locations_created"]
            else "Make one for each, or say under `locations.create` what a new one has."
        )
        yield (
            f"{number(len(lacking))} of {total} {companies} without a {location}: "
            f"{_names(lacking)}. {then}"
        )


def _companies(screen: Console, found: Mapping[str, Any]) -> None:
    moving = [company for company in found["by_company"] if company["records"]]
    if not moving:
        return
    say(screen)
    none = "to be made" if found["locations_created"] else "MISSING"
    rows = [
        {
            "company": company["company_name"],
            "records": number(company["records"]),
            "would move": number(company["migrated"]),
            "put aside": number(company["quarantined"] + company["skipped"]),
            "default location": {0: none, 1: "there"}.get(
                company["default_locations"], f"{company['default_locations']}: ambiguous"
            ),
        }
        for company in moving[:LISTED]
    ]
    table(screen, rows, right={"records", "would move", "put aside"})
    if len(moving) > LISTED:
        say(screen, f"  and {number(len(moving) - LISTED)} companies more; --json has them all")
    idle = len(found["by_company"]) - len(moving)
    if idle:
        say(screen, f"  and {_counted(idle, 'company', 'companies')} without records")


def _issues(screen: Console, found: Mapping[str, Any]) -> None:
    """What is wrong with the data: records put aside, warnings, references that lead nowhere."""
    # Where there is a prediction to show, the engine has been imported.
    from inventory_migration.engine.rules import REASONS

    references: Sequence[Mapping[str, Any]] = found["references"]
    said = [
        f"{_counted(count, 'record', 'records')} {what}: {REASONS.get(rule, rule)} ({rule})"
        for rules, what in (
            (found["quarantined"], "would be quarantined"),
            (found["warnings"], "would move with a warning"),
        )
        for rule, count in rules.items()
    ]
    said += [
        f"{number(row['orphans'])} of {_counted(row['records'], 'reference', 'references')} by "
        f"{row['name']} lead to no row"
        for row in references
        if row["orphans"]
    ]
    said += [
        f"{_counted(flag['records'], 'record has', 'records have')} another {flag['column']} than "
        f"{flag['usual']} (such as {flag['such_as']}), and the mapping says nothing of "
        f"{flag['column']}: it does not go to the levels; map it in target.values, or skip them"
        for flag in found["unmapped_flags"]
    ]
    say(screen)
    if said:
        say(screen, "Issues in the data:")
    else:
        total = _counted(sum(row["records"] for row in references), "reference", "references")
        keys = _counted(len(references), "foreign key", "foreign keys")
        said = ["no record would be quarantined, and none has a warning"]
        said += [f"{total} by {keys}, each to a row that is there"] if references else []
        say(screen, "No issue in the data:")
    for line in said:
        say(screen, f"  {line}")


def _fires(screen: Console, fires: Mapping[str, Any]) -> None:
    say(screen)
    columns = ", ".join(fires["columns_written"])
    say(
        screen,
        f"Every write sets {columns} of its record."
        if columns
        else "Every write adds a level, and leaves the record itself as it is.",
    )
    for key in fires["unique_keys_written"]:
        say(
            screen,
            f"  changes the unique key ({', '.join(key)}): who inserts rows that refer to a record "
            "waits while its chunk is written",
        )
    for trigger in fires["triggers"]:
        does = [
            *([f"changes {', '.join(trigger['columns_changed'])}"] if trigger["columns_changed"]
              else []),
            *([f"writes to {', '.join(trigger['tables_written'])}"] if trigger["tables_written"]
              else []),
            *([] if trigger["understood"] else ["does what cannot be read from its source"]),
        ] or ["changes nothing that can be seen in its source"]  # fmt: skip
        say(screen, f"  fires trigger {trigger['name']} on {trigger['table']}: {', '.join(does)}")
    for publication in fires["publications"]:
        say(screen, f"  goes out through publication {publication}")
    if not fires["triggers"] and not fires["publications"]:
        say(screen, "  no trigger and no publication of the application takes part")


def _rewrite(screen: Console, told: Mapping[str, Any]) -> None:
    """What `--window --rewrite` would take, and what stands against it."""
    if told["refused"]:
        say(screen, "Its table cannot be rewritten in one pass (--window --rewrite):")
        for reason in told["refused"]:
            say(screen, f"  {reason}")
        return
    say(screen, f"In a maintenance window, --window --rewrite {rewrite_cost('would', told)}")


def rewrite_cost(will: str, told: Mapping[str, Any]) -> str:
    """What a rewrite takes, in words that go on a sentence."""
    by = "as an earlier one here" if told["measured"] else "guessed from its size"
    free = told["free_bytes"]
    beside = f"{_megabytes(free)} are free" if free is not None else "what is free cannot be seen"
    return (
        f"{will} lock {told['table']} against everybody for about "
        f"{_estimate(told['lock_seconds'])} ({by}), and take {_megabytes(told['disk_bytes'])} of "
        f"disk until it is done, and as much WAL ({beside})."
    )


def _megabytes(size: int) -> str:
    return f"{max(1, round(size / 2**20)):,} MB".replace(",", " ")


def _counted(count: int, one: str, many: str) -> str:
    return f"{number(count)} {one if count == 1 else many}"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return f"{shown} and {number(len(names) - NAMED)} more" if len(names) > NAMED else shown


def _estimate(seconds: float) -> str:
    return "a second" if seconds < 1 else duration(round(seconds))
