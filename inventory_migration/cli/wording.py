"""A migration under way in words: one line of all, and the clauses that a picture is made of.

Whether they fit a screen, and where on it they stand, belongs in `picture.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from inventory_migration.cli.terminal import duration, number
from inventory_migration.logs import plain

STAGES = {
    "preparing": "preparing",
    "moving": "moving stock",
    "proving": "proving that no unit was lost",
    "finished": "finished",
    "rolling_back": "putting it back",
    "standing": "standing still",
}

AT_WORK = ("planned", "running", "verifying", "rolling_back")
"""States in which somebody ought to be at work."""

_UNTOLD = {"reason", "mapping_hash", "start"}
"""Of an event's details those that are told otherwise, or mean nothing to a person."""


@dataclass(frozen=True)
class Look:
    """What is known at a moment.

    Attributes:
        picture: What the database said last; None before it has said anything.
        age_seconds: How long ago that was.
        error: Why it does not answer; None where it does.
        message: What the command itself says that it does.
        also: Other migrations under way.
    """

    picture: Mapping[str, Any] | None = None
    age_seconds: float | None = None
    error: str | None = None
    message: str | None = None
    also: Sequence[str] = ()


def line(look: Look) -> str:
    """A look on one line, for a log."""
    found = look.picture
    if found is None:
        return plain(silence(look) if look.error else look.message or "nothing is known yet")
    said = [f"migration {found['migration_id']} of {found['mapping']} {_stated(found)}"]
    current = next((p for p in found["phases"] if p["reconciled_at"] is None), None)
    if current and found["stage"] == "moving":
        said.append(f"phase {current['name']}")
    records, back = found["records"], goes_back(found)
    if back:
        said.append(f"{percentage(found['percent'])} undone, {number(records['undone'])} records")
    else:
        whole = records["snapshot"]
        said.append(f"{percentage(found['percent'])}, {number(whole - records['pending'])} of "
                    f"{number(whole)} records")  # fmt: skip
    if records["quarantined"]:
        said.append(f"{number(records['quarantined'])} put aside")
    if found["attempts"]["failed"]:
        said.append(f"{number(found['attempts']['failed'])} failed attempts")
    if found["rate"]["now"] and found["state"] in AT_WORK and not back:
        said.append(f"{number(round(found['rate']['now']))} per second")
    if found["eta"] is not None:
        said.append(f"about {_roughly(found['eta']['seconds'])} left")
    if found["health"] is not None and found["health"]["verdict"] != "well":
        said.append(f"server: {health(found['health'])}")
    sentences = [", ".join(said), *advice(found)]
    if look.error is not None:
        sentences.append(silence(look))
    return plain(" ".join(sentence.rstrip(".") + "." for sentence in sentences))


def goes_back(found: Mapping[str, Any]) -> bool:
    """Whether a migration is taken back, or has been."""
    return found["state"] in {"rolling_back", "rolled_back"}


def advice(found: Mapping[str, Any]) -> list[str]:
    """What somebody ought to know, and the command that goes on; as sentences."""
    state, mapping, working = found["state"], found["mapping"], found["working"]
    if state in {"paused", "held"}:
        return [f"It stands until 'inventory-migration resume {mapping}'."]
    if state in AT_WORK and not (working["driver"] or working["workers"]):
        verb = "rollback" if state == "rolling_back" else "run"
        return [f"Nobody works on it: 'inventory-migration {verb} {mapping}' takes it up."]
    return []


def silence(look: Look) -> str:
    """That the database does not answer, and how old what is shown is."""
    if look.picture is None:
        return f"Nothing is known yet: {look.error}"
    return f"What is shown is {duration(look.age_seconds or 0.0)} old: {look.error}"


def outlook(eta: Mapping[str, Any]) -> str:
    """How long it takes yet, with its band, and when that is."""
    low, high = _roughly(eta["low"]), _roughly(eta["high"])
    band = f" ({low} to {high})" if low != high else ""
    return f"about {_roughly(eta['seconds'])}{band}, until {clock(eta['at'], eta['at'])}"


def percentage(percent: float) -> str:
    """A percentage that is not rounded up to one that is not reached."""
    return f"{int(percent * 10 + 1e-9) / 10:.1f} %"


def clock(text: str, now: str) -> str:
    """A moment in the time of whoever reads it; with its day where that is another one."""
    then, today = (datetime.fromisoformat(one).astimezone() for one in (text, now))
    return then.strftime("%H:%M:%S" if then.date() == today.date() else "%Y-%m-%d %H:%M")


def _roughly(seconds: float) -> str:
    return f"{round(seconds)} s" if seconds < 60 else duration(seconds)


def _stated(found: Mapping[str, Any]) -> str:
    state = str(found["state"]).replace("_", " ")
    stage = f", {STAGES[found['stage']]}" if found["state"] in AT_WORK else ""
    reason = f" ({found['reason']})" if found["reason"] else ""
    return f"is {state}{stage}{reason}"


def rate(found: Mapping[str, Any], *, under_way: bool) -> str:
    """Records per second, now and on average."""
    now, average = (number(round(found[name] or 0)) for name in ("now", "average"))
    if not under_way:
        return f"{average} records per second on average"
    return f"{now} records per second now, {average} on average"


def records(found: Mapping[str, int]) -> str:
    """Records by outcome, those that there are."""
    told = [f"{number(found['migrated'])} migrated"]
    names = ("already", "skipped", "quarantined", "gone", "pending", "undone")
    told += [f"{number(found[name])} {name}" for name in names if found[name]]
    return ", ".join(told)


def units(found: Mapping[str, Any]) -> str:
    """The conservation line: what is accounted for, and what is missing."""
    return (
        f"{number(found['accounted'])} of {number(found['snapshot'])} accounted for, "
        f"difference {number(found['difference'])}"
    )


def health(found: Mapping[str, Any]) -> str:
    """Whether the server restrains the migration, and why."""
    words = {"well": "well", "slow": "slowed down", "hold": "waits"}
    reasons = "; ".join(str(reason["text"]) for reason in found["reasons"])
    return words[found["verdict"]] + (f": {reasons}" if reasons else "")


def attempts(found: Mapping[str, Any]) -> str:
    """Attempts that failed, by what they failed on."""
    kinds = "; ".join(
        f"{one['error'] or 'unknown'} ({number(one['attempts'])})" for one in found["by_error"][:3]
    )
    per_minute = found["per_minute"]
    pace = f", {per_minute:,.1f} per minute" if per_minute else ""
    return f"{number(found['failed'])} attempts{pace}: {kinds}"


def quarantine(rules: Sequence[Mapping[str, Any]]) -> str:
    """What was put aside, by rule."""
    told = []
    for one in rules[:3]:
        sample = ", ".join(str(key) for key in one["sample"][:3])
        told.append(f"{one['rule']} {number(one['records'])} (such as {sample})")
    more = f"; {len(rules) - 3} more rules" if len(rules) > 3 else ""
    return "; ".join(told) + more


def gates(found: Sequence[Mapping[str, Any]]) -> str:
    """What the gates said; those that refused, by name."""
    by_verdict: dict[Any, list[str]] = {}
    for gate in found:
        by_verdict.setdefault(gate["passed"], []).append(gate["suite"])
    told = [f"{' and '.join(by_verdict[False])} REFUSED"] if False in by_verdict else []
    told += [f"{len(by_verdict[True])} passed"] if True in by_verdict else []
    told += [f"{len(by_verdict[None])} not judged yet"] if None in by_verdict else []
    return ", ".join(told)


def working(found: Mapping[str, Any], age: float) -> str:
    """Who is at work; where nobody is in a transaction, when the last sign of life was."""
    who_works = found["working"]
    if who_works["workers"]:
        return f"{number(who_works['workers'])} in a transaction"
    told = "a command works" if who_works["driver"] else "none"
    if who_works["last_sign_at"]:
        last, now = (datetime.fromisoformat(t) for t in (who_works["last_sign_at"], found["at"]))
        told += f"; last sign of life {duration(max((now - last).total_seconds(), 0) + age)} ago"
    return told


def started(found: Mapping[str, Any]) -> str:
    """When it began, by whom, and how much work went into it."""
    worked = found["active_seconds"]
    spent = f", {duration(worked)} of work" if worked else ""
    return f"{clock(found['started_at'], found['at'])} by {who(found['started_by'])}{spent}"


def who(said: str) -> str:
    """Role and program, without the program where it is this one."""
    return said.removesuffix(" by inventory-migration")


def happened(event: Mapping[str, Any]) -> str:
    """An event."""
    kind, detail = event["kind"].replace("_", " "), event["detail"] or {}
    reason = f": {detail['reason']}" if detail.get("reason") else ""
    others = ", ".join(
        f"{name.replace('_', ' ')} {value}"
        for name, value in detail.items()
        if name not in _UNTOLD
        and isinstance(value, str | int | float)
        and not isinstance(value, bool)
    )
    return f"{kind}{reason}" + (f" ({others})" if others else "")
