"""Answers as a person reads them: plain words and small tables, from what the verbs return.

Names come out of a database that anybody may have written to, so nothing of them is taken for
markup or for a terminal's control sequence.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import IO, Any, cast

from rich.console import Console
from rich.table import Table

from inventory_migration import project

PROGRAM = "inventory-migration"
LISTED = 20
"""How many companies or names are listed; the rest is a number."""

_WIDE = 120


class _Spelling(io.TextIOBase):
    """A stream that changes what is written to it on the way."""

    def __init__(self, stream: IO[str], spell: Callable[[str], str]) -> None:
        self._stream, self._spell = stream, spell

    def write(self, text: str) -> int:
        """Write a text that is whole lines, as Rich has them."""
        return self._stream.write(self._spell(text))

    def flush(self) -> None:
        """Hand on what was written."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Whether a person watches."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The file that it ends in."""
        return self._stream.fileno()


def console(stream: IO[str], *, spell: Callable[[str], str] | None = None) -> Console:
    """A console that takes text as it is, and does not cut lines where nobody watches.

    Args:
        stream: Where to.
        spell: What is done with a text before it is written.
    """
    written = cast(IO[str], _Spelling(stream, spell)) if spell else stream
    made = Console(file=written, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = max(made.width, _WIDE)
    return made


def plain(text: object) -> str:
    """A text on one line, with what a terminal might obey made visible."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(text))


def number(value: object) -> str:
    """A count, or units as an exact decimal string, with separators."""
    return f"{Decimal(str(value)):,f}"


def summary(screen: Console, found: Mapping[str, Any]) -> None:
    """What `run`, `resume` and `rollback` did."""
    if not found["changed"]:
        _say(screen, _nothing_to_do(found))
    else:
        _say(screen, f"{_named(found)} is {_state(found)}.")
    _say(screen)
    figures(screen, found)
    _next(screen, found)


def last_summary(screen: Console, found: Mapping[str, Any]) -> None:
    """What the last migration did, long after it."""
    when = f", {_moment(found['finished_at'])}" if found["finished_at"] else ""
    _say(screen, f"{_named(found)} is {_state(found)}{when}.")
    _say(screen)
    figures(screen, found)
    _next(screen, found)


def report(screen: Console, found: Mapping[str, Any]) -> None:
    """Where the report is."""
    _say(screen, f"{_named(found)} is {_state(found)}.")
    for form, path in found["report"].items():
        if path:
            _say(screen, f"  {form:<9} {path}")


def pause(screen: Console, found: Mapping[str, Any]) -> None:
    """That a migration is paused, or why there was nothing to pause."""
    mapping = found["mapping"]
    if found["state"] in {"paused", "held"}:
        already = "" if found["changed"] else " already"
        pending = found["records"]["pending"]
        _say(
            screen,
            f"{_named(found)} is {found['state']}{already}; {number(pending)} records are left. "
            f"Go on with '{PROGRAM} resume {mapping}'.",
        )
    elif found["migration_id"] is None:
        _say(screen, f"Nothing to pause: nothing of {mapping} is migrated in this database.")
    else:
        _say(screen, f"Nothing to pause: {_named(found)[0].lower()}{_named(found)[1:]} is "
                     f"{_state(found)}.")  # fmt: skip


def undoing(mapping: str, wanted: Sequence[Mapping[str, Any]]) -> str:
    """What a rollback is about to do, for a question."""
    ids = ", ".join(str(found["migration_id"]) for found in wanted)
    rows = number(sum(found["rows_migrated"] for found in wanted))
    which = "migration" if len(wanted) == 1 else "migrations"
    return f"this undoes {which} {ids} of {mapping}: {rows} records go back to what they were"


def status(screen: Console, found: Sequence[Mapping[str, Any]]) -> None:
    """The migrations of a database."""
    if not found:
        _say(screen, "No migration yet.")
        return
    rows = [
        {
            "id": migration["migration_id"],
            "mapping": migration["mapping"],
            "state": _progressing(migration),
            "phase": migration["phase"] or "",
            "records": f"{number(migration['records_done'])} of {number(migration['records'])}",
            "quarantined": number(migration["quarantined"]),
            "started": _moment(migration["started_at"]),
            "took": _duration(migration["elapsed_seconds"]) if migration["finished_at"] else "",
        }
        for migration in found
    ]
    _table(screen, rows, right={"id", "records", "quarantined", "took"})
    for migration in found:
        if migration["reason"]:
            _say(screen, f"  {migration['migration_id']}: {migration['reason']}")
    newest = found[0]
    if newest["state"] in {"paused", "held"}:
        _say(screen, f"Go on with '{PROGRAM} resume {newest['mapping']}'.")
    elif newest["state"] in {"planned", "running", "verifying"} and not newest["working"]:
        _say(
            screen,
            f"Nobody works on migration {newest['migration_id']}: "
            f"'{PROGRAM} run {newest['mapping']}' takes it up.",
        )


def record(screen: Console, found: Mapping[str, Any]) -> None:
    """The story of one stock record."""
    now = found["now"]
    _say(screen, f"{found['mapping']}, record {found['key']}")
    if now is None:
        _say(screen, "  now          gone from the application's table")
    else:
        for name in ("company", "item", "quantity", "reserved", "location"):
            _say(screen, f"  {name:<12} {now[name] if now[name] is not None else 'none'}")
        if not found["history"]:
            rule = f" ({now['rule']})" if now["rule"] else ""
            _say(screen, f"  never migrated; a run would make it {now['prediction']}{rule}")
    for met in found["history"]:
        rule = f", {met['rule']}" if met["rule"] else ""
        reason = f": {met['reason']}" if met["reason"] else ""
        undone = ", undone" if met["chunk_state"] == "undone" else ""
        _say(screen, f"  migration {met['migration_id']}, chunk {met['chunk']}: "
                     f"{met['outcome']}{undone}{rule}{reason}")  # fmt: skip
        _say(
            screen,
            f"    location {met['location_before'] or 'none'} before, "
            f"{met['location_after'] or 'none'} after; "
            f"quantity {met['quantity'] or 'none'}, reserved {met['reserved']}",
        )


def validation(screen: Console, found: Mapping[str, Any]) -> None:
    """Whether the data still shows what a verified migration leaves."""
    as_of = _moment(found["as_of"])
    if found["migration_id"] is None:
        _say(screen, f"Nothing of {found['mapping']} is migrated.")
    verdict = "every record is accounted for" if found["passed"] else "something differs"
    _say(screen, f"As of {as_of}, {verdict}.")
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
        _table(screen, rows, right={"records"})
    for suite, gate in found["gates"].items():
        _gate(screen, suite, gate)


def prediction(screen: Console, found: Mapping[str, Any]) -> None:
    """What a run would do."""
    moving = found["records"]["migrated"]
    seconds = found["elapsed_seconds"]
    _say(
        screen,
        f"A run of {found['mapping']} would move {number(moving)} of "
        f"{number(found['records']['snapshot'])} records, in about {_estimate(seconds)}. "
        "Nothing was written.",
    )
    lacking = found["companies_without_default_location"]
    _say(screen)
    _pairs(
        screen,
        [
            ("Companies", number(found["companies"])),
            (
                "  without a default location",
                f"{number(len(lacking))}{_listing(lacking)}",
            ),
            ("Records", number(found["records"]["snapshot"])),
            ("  would be migrated", number(moving)),
            ("  already at a location", number(found["records"]["already"])),
            ("  would be skipped", _by_rule(found["records"]["skipped"], found["skipped"])),
            (
                "  would be quarantined",
                _by_rule(found["records"]["quarantined"], found["quarantined"]),
            ),
            ("Warnings", _by_rule(None, found["warnings"])),
            ("Units", number(found["units"]["before"])),
            ("  reserved", number(found["reserved"]["before"])),
            ("  available", number(found["available"]["before"])),
        ],
    )
    _companies(screen, found["by_company"])
    _fires(screen, found["fires"])
    _say(screen)
    _gate(screen, "audit_profile", found["gate"])
    if found["gate"]["passed"]:
        _say(screen, f"Next: '{PROGRAM} run {found['mapping']}', "
                     f"or 'test {found['mapping']} --sql' for your DBA.")  # fmt: skip


def script(screen: Console, found: str) -> None:
    """SQL as it is: for reading, or for psql."""
    screen.file.write(found)


def demo(screen: Console, found: Mapping[str, Any]) -> None:
    """What the demo is made of, or why it was not made."""
    if not found["created"]:
        _say(screen, f"The demo was not loaded: {found['why']}.")
        return
    _say(
        screen,
        f"A demo of {number(found['companies'])} companies with {number(found['items'])} stock "
        f"items, {number(found['units'])} units, {number(found['reserved'])} of them reserved "
        f"({_duration(found['elapsed_seconds'])}).",
    )
    _say(
        screen,
        f"Beside it {number(found['orders'])} orders with {number(found['order_lines'])} lines, "
        f"{number(found['tenants'])} tenants with {number(found['batches'])} batches.",
    )
    if found["defects"]:
        _say(screen, "Defects planted:")
        rows = [(f"  {name}", number(count)) for name, count in found["defects"].items()]
        _pairs(screen, rows)
    _say(screen, f"Next: '{PROGRAM} test stock_items'.")


def server(screen: Console, found: Mapping[str, Any]) -> None:
    """The embedded server."""
    if found["running"]:
        _say(screen, f"The embedded PostgreSQL {found['version']} runs (process {found['pid']}).")
        _say(screen, f"  url     {found['url']}")
        _say(screen, f"  folder  {found['folder']}")
    elif found["folder"]:
        _say(screen, f"The embedded server's data in {found['folder']} are deleted.")
    elif found.get("changed"):
        _say(screen, "The embedded server is stopped; its data stay.")
    else:
        _say(screen, "The embedded server does not run.")


def url(screen: Console, found: Mapping[str, Any]) -> None:
    """Nothing but the URL."""
    _say(screen, found["url"])


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
            f"{found['migration_id']}, verified {_moment(found['finished_at'])}."
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
        ("Records", number(records["snapshot"])),
        *(
            (f"  {name}", number(records[name]))
            for name in ("migrated", "already", "skipped", "gone", "pending")
            if records[name] or name == "migrated"
        ),
        ("  quarantined", _by_rule(records["quarantined"], found["quarantined"])),
    ]
    if found["warnings"]:
        rows.append(("Warnings", _by_rule(None, found["warnings"])))
    for name in ("units", "reserved", "available"):
        before, after = number(found[name]["before"]), number(found[name]["after"])
        rows.append((name.capitalize(), f"{before} before, {after} after"))
    changed = found["changed_by_application"]
    if changed["units"] != "0" or changed["reserved"] != "0":
        rows.append(
            (
                "  by the application",
                f"{number(changed['units'])} units, {number(changed['reserved'])} reserved "
                "changed meanwhile",
            )
        )
    if found["state"] == "rolled_back":
        rows.append(
            (
                "Undone",
                f"{number(undone['records'])} records, {number(undone['locations'])} locations; "
                f"{number(undone['kept'])} records kept, since the application moved them",
            )
        )
    else:
        rows.append(("Time", _duration(found["elapsed_seconds"])))
    _pairs(screen, rows)


def _next(screen: Console, found: Mapping[str, Any]) -> None:
    if found["migration_id"] is None:
        return
    mapping = found["mapping"]
    rows = []
    if found["report"]["markdown"]:
        rows.append(("Report", found["report"]["markdown"]))
    if found["state"] == "verified":
        rows.append(("Prove it again", f"{PROGRAM} validate {mapping}"))
        rows.append(("Undo it", f"{PROGRAM} rollback {mapping}"))
    elif found["state"] == "rolled_back":
        rows.append(("Run it again", f"{PROGRAM} run {mapping}"))
    if found["quarantined"]:
        rows.append(("One record's story", f"{PROGRAM} show {mapping} KEY"))
    checkout = project.project_folder()
    if all((checkout / name).is_file() for name in ("workspace.yaml", "Makefile")):
        rows.append(("See it in Dagster", "make ui"))
    _say(screen)
    _pairs(screen, rows)


def _companies(screen: Console, found: Sequence[Mapping[str, Any]]) -> None:
    moving = [company for company in found if company["records"]]
    if not moving:
        return
    _say(screen)
    rows = [
        {
            "company": company["company_name"],
            "records": number(company["records"]),
            "would move": number(company["migrated"]),
            "put aside": number(company["quarantined"] + company["skipped"]),
            "default location": {0: "to be made", 1: "there"}.get(
                company["default_locations"], f"{company['default_locations']}: ambiguous"
            ),
        }
        for company in moving[:LISTED]
    ]
    _table(screen, rows, right={"records", "would move", "put aside"})
    if len(moving) > LISTED:
        _say(screen, f"  and {number(len(moving) - LISTED)} companies more; --json has them all")


def _fires(screen: Console, fires: Mapping[str, Any]) -> None:
    _say(screen)
    _say(screen, f"Every write sets {', '.join(fires['columns_written'])} of its record.")
    for trigger in fires["triggers"]:
        does = [
            *([f"changes {', '.join(trigger['columns_changed'])}"] if trigger["columns_changed"]
              else []),
            *([f"writes to {', '.join(trigger['tables_written'])}"] if trigger["tables_written"]
              else []),
            *([] if trigger["understood"] else ["does what cannot be read from its source"]),
        ] or ["changes nothing that can be seen in its source"]  # fmt: skip
        _say(screen, f"  fires trigger {trigger['name']} on {trigger['table']}: {', '.join(does)}")
    for publication in fires["publications"]:
        _say(screen, f"  goes out through publication {publication}")
    if not fires["triggers"] and not fires["publications"]:
        _say(screen, "  no trigger and no publication of the application takes part")


def _gate(screen: Console, suite: str, gate: Mapping[str, Any]) -> None:
    verdict = "passes" if gate["passed"] else "REFUSES"
    _say(screen, f"Gate {suite}: {verdict}.")
    for level, failed in (("failed", gate["failed"]), ("warning", gate["warnings"])):
        for expectation in failed:
            sample = ", ".join(str(key) for key in (expectation.get("sample") or ())[:3])
            _say(
                screen,
                f"  {level}: {expectation['key']}: {expectation['observed']}"
                + (f"; for example {sample}" if sample else ""),
            )


def _by_rule(total: int | None, rules: Mapping[str, int]) -> str:
    listed = ", ".join(f"{rule} {number(count)}" for rule, count in rules.items())
    if total is None:
        return listed or "none"
    return f"{number(total)} ({listed})" if listed else number(total)


def _listing(names: Sequence[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:5])
    return f" ({shown}{f' and {number(len(names) - 5)} more' if len(names) > 5 else ''})"


def _progressing(migration: Mapping[str, Any]) -> str:
    state = str(migration["state"]).replace("_", " ")
    if migration["state"] in {"planned", "running", "verifying"} and not migration["working"]:
        return f"{state}, left"
    return state


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _estimate(seconds: float) -> str:
    return "a second" if seconds < 1 else _duration(round(seconds))


def _moment(text: str | None) -> str:
    if text is None:
        return "never"
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _say(screen: Console, line: object = "") -> None:
    screen.print(plain(line), soft_wrap=True)


def _pairs(screen: Console, rows: Iterable[tuple[str, str]]) -> None:
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        _say(screen, f"{name:<{width}}  {value}")


def _table(
    screen: Console, rows: Sequence[Mapping[str, object]], *, right: Iterable[str] = ()
) -> None:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        justify = "right" if name in right else "left"
        made.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        made.add_row(*(plain(value) for value in row.values()))
    screen.print(made)
