"""What the commands around the quarantine tell people."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from inventory_migration.cli.answers import PROGRAM, summary
from inventory_migration.cli.terminal import moment, number, pairs, say, table


def listing(screen: Console, found: Mapping[str, Any]) -> None:
    """How many records are in quarantine, and the first of them."""
    mapping = found["mapping"]
    if not found["total"]:
        say(screen, f"No record of {mapping} is in quarantine, as far as was asked.")
        return
    table(screen, [{**row, "records": number(row["records"])} for row in found["counts"]],
          right={"records"})  # fmt: skip
    say(screen)
    rows = [
        {
            "key": row["key"],
            "company": row["company"] if row["company"] is not None else "none",
            "rule": row["rule"],
            "state": row["state"],
            "tried": number(row["attempts"]),
            "reason": row["reason"] or "",
        }
        for row in found["records"]
    ]
    if rows:
        table(screen, rows, right={"tried"})
    left = found["total"] - len(rows)
    if left:
        say(screen, f"{number(left)} more; --limit {found['total']} lists them all.")
    say(screen, f"All of one record: '{PROGRAM} quarantine show {mapping} KEY'.")


def record(screen: Console, found: Mapping[str, Any]) -> None:
    """Everything about one record in quarantine."""
    say(screen, f"{found['mapping']}, record {found['key']}: {found['state']}")
    rows = [
        ("  rule", found["rule"]),
        ("  reason", found["reason"] or "none"),
        *((f"  {name}", found[name]) for name in ("sqlstate", "constraint") if found[name]),
        ("  company", found["company"] if found["company"] is not None else "none"),
        (
            "  put aside",
            f"{moment(found['quarantined_at'])}, by migration {found['migration_id']} "
            f"({found['migration_state'].replace('_', ' ')}), chunk {found['chunk']}",
        ),
        ("  kept", json.dumps(found["record"], ensure_ascii=False)),
        ("  now", _now(found)),
    ]
    if found["decision"]:
        rows.append(
            (
                f"  {found['state']}",
                f"{moment(found['decided_at'])}, {found['decided_by']}: {found['decision']}",
            )
        )
    pairs(screen, rows)
    for retry in found["retries"]:
        rule = f", {retry['rule']}" if retry["rule"] else ""
        reason = f": {retry['reason']}" if retry["reason"] else ""
        say(screen, f"  tried by migration {retry['migration_id']}, {moment(retry['at'])}, "
                     f"{retry['who']}: {retry['outcome']}{rule}{reason}")  # fmt: skip
    for event in found["events"]:
        reason = f": {event['reason']}" if event["reason"] else ""
        say(screen, f"  {moment(event['at'])}, migration {event['migration_id']}, {event['who']}: "
                     f"{event['kind'].replace('_', ' ')}{reason}")  # fmt: skip
    say(screen, f"Next: '{found['next']}'.")


def retrying(mapping: str, records: int) -> str:
    """What a retry is about to do, for a question."""
    which = "record" if records == 1 else "records"
    return f"this tries {number(records)} {which} of {mapping} again, in a migration of their own"


def retried(screen: Console, found: Mapping[str, Any]) -> None:
    """What became of the records that were tried again."""
    if not found["retried"]:
        say(
            screen, f"Nothing to try again: no record of {found['mapping']} that was meant is open."
        )
        return
    said = ", ".join(f"{number(count)} {outcome}" for outcome, count in found["retried"].items())
    say(screen, f"Tried again: {said}.")
    summary(screen, found)


def waived(screen: Console, found: Mapping[str, Any]) -> None:
    """Which records stay where they are."""
    count = len(found["waived"])
    say(
        screen,
        f"{number(count)} {'record stays' if count == 1 else 'records stay'} where "
        f"{'it is' if count == 1 else 'they are'}: {', '.join(found['waived'])} "
        f"({found['reason']}); {number(found['open'])} of {found['mapping']} are open.",
    )


def _now(found: Mapping[str, Any]) -> str:
    if found["now"] is None:
        return "gone from the application's table"
    if found["now"] == found["record"]:
        return "the same"
    return json.dumps(found["now"], ensure_ascii=False)


def next_command(found: Mapping[str, Any]) -> str:
    """The command that goes on with a record from where it stands."""
    mapping, state = found["mapping"], found["migration_state"]
    key = shlex.quote(found["key"])
    if found["state"] == "retried":
        return f"{PROGRAM} show {mapping} {key}"
    if state in {"rolled_back", "aborted"}:
        return f"{PROGRAM} run {mapping}"
    if state == "rolling_back":
        return f"{PROGRAM} rollback {mapping}"
    if state in {"paused", "held", "failed"}:
        return f"{PROGRAM} resume {mapping}"
    if state != "verified":
        return f"{PROGRAM} status {mapping}"
    return f"{PROGRAM} quarantine retry {mapping} {key}"
