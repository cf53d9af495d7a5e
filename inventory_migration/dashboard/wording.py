"""What figures and states are called on a page: pure functions from a picture to words.

How words are set belongs in `marks.py`, which of them stand together in the panels.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from inventory_migration.report.html import Tone
from inventory_migration.report.text import grouped, printable

Picture = Mapping[str, Any]
"""A migration as the poller has seen it; see `watching.picture`."""

DRIVEN = ("planned", "running", "verifying", "rolling_back")
"""States in which somebody should be at work."""

STALE_SECONDS = 5.0
"""Figures that are older than this are shown as old."""

LIST_STALE_SECONDS = 20.0
"""The same of the list of all migrations, which costs more and is asked for less often."""

_STATES: dict[str, tuple[str, str, Tone]] = {
    "planned": ("planned", "◔", "plain"),
    "running": ("running", "▶", "plain"),
    "paused": ("paused", "‖", "warn"),
    "held": ("held", "!", "bad"),
    "verifying": ("verifying", "◔", "plain"),
    "verified": ("verified", "✓", "good"),
    "failed": ("failed", "✕", "bad"),
    "aborted": ("aborted", "■", "warn"),
    "rolling_back": ("rolling back", "↩", "warn"),
    "rolled_back": ("rolled back", "↩", "warn"),
}

_STAGES = {
    "preparing": "Audit, default locations and snapshot are being made.",
    "moving": "Records are moving to their locations.",
    "proving": "All records are accounted for, and the proof is under way.",
    "rolling_back": "Records are going back to where they were.",
    "standing": "Nothing moves until it is resumed, rolled back or aborted.",
}

_ENDS = {
    "verified": "Every record is accounted for, and the proof has passed.",
    "aborted": "It has ended for good. What it moved stays, until it is rolled back.",
    "rolled_back": "What it had written has been taken back.",
}

OUTCOMES: dict[str, tuple[str, str]] = {
    "migrated": ("migrated", "moved to their default location"),
    "already": ("already", "had a location before"),
    "skipped": ("skipped", "left alone, as the mapping says"),
    "quarantined": ("quarantined", "put aside, with rule and reason"),
    "gone": ("gone", "deleted by the application meanwhile"),
    "pending": ("pending", "not looked at yet"),
}
"""What became of records: the name, and what it means."""


@dataclass(frozen=True)
class State:
    """How a state is shown: never by its colour alone."""

    word: str
    sign: str
    tone: Tone


@dataclass(frozen=True)
class Truth:
    """What a viewer has to know before any figure.

    Attributes:
        key: Which truth it is, for tests and styles.
        tone: How bad it is.
        title: The sentence in short.
        text: What it means, and what to do.
        command: A command that does it; empty where there is none.
    """

    key: str
    tone: Tone
    title: str
    text: str
    command: str = ""


def state(picture: Picture) -> State:
    """The state, and what is wanted of it where that is not so yet."""
    name = picture["state"]
    wanted = picture.get("desired")
    if wanted == "pause" and name in ("planned", "running", "verifying"):
        return State("pausing", "‖", "warn")
    if wanted == "abort" and name != "aborted" and name not in ("verified", "rolled_back"):
        return State("aborting", "■", "warn")
    return state_named(name)


def state_named(name: str) -> State:
    """How a state of the ledger is shown."""
    word, sign, tone = _STATES.get(name, (printable(name).replace("_", " "), "·", "plain"))
    return State(word, sign, tone)


def stage(picture: Picture) -> str:
    """What is going on, as a sentence."""
    if picture["stage"] == "finished":
        return _ENDS.get(picture["state"], "")
    if picture["state"] in DRIVEN and not working(picture):
        return "Nothing moves until somebody takes it up."
    if restraint(picture).startswith("Waits"):
        return "Nothing moves at this moment."
    return _STAGES.get(picture["stage"], "")


def percent(value: float | None) -> str:
    """A share that has been reached: never rounded up to what has not."""
    if value is None:
        return "–"
    # What a float lacks of a tenth is made up, what is missing of the whole is not.
    reached = min(math.floor(value * 10 + 1e-9) / 10, 100 if value >= 100 else 99.9)
    return f"{reached:.0f} %" if reached in (0, 100) else f"{reached:.1f} %"


def rate(value: float | None) -> str:
    """Records per second, as exactly as anybody cares to know."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def lasting(seconds: float | None) -> str:
    """How long something takes, in the two largest units, of one width while it counts."""
    if seconds is None:
        return "–"
    whole = max(0, math.floor(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{grouped(days)} d {hours:02d} h"


_SOON = "some seconds"


def roughly(seconds: float) -> str:
    """How long something may take: no more figures than a forecast has."""
    if seconds < 10:
        return _SOON
    if seconds < 55:
        return f"{round(seconds / 5) * 5} s"
    if seconds < 55 * 60:
        return f"{max(1, round(seconds / 60))} min"
    if seconds < 36 * 3600:
        tenths = round(seconds / 360) / 10
        return f"{tenths:.1f} h" if tenths < 10 else f"{tenths:.0f} h"
    return f"{round(seconds / 86400, 1):g} d"


def eta(picture: Picture) -> str:
    """When it ends, or why nobody knows."""
    found = picture.get("eta")
    name = picture["state"]
    if name == "verified":
        return "done"
    if name in ("rolled_back", "aborted"):
        return "ended"
    if found is not None:
        left = roughly(found["seconds"])
        return left if left == _SOON else f"about {left}"
    if name in ("paused", "held", "failed"):
        return "not counted while it stands"
    if not working(picture):
        return "nobody is working"
    if restraint(picture).startswith("Waits"):
        return "not known while it waits"
    if picture.get("stage") == "proving":
        return "proof under way"
    return "not known yet"


def eta_band(picture: Picture) -> str:
    """Between what the forecast lies, as a clause; empty where there is none."""
    found = picture.get("eta")
    if not found or found.get("low") is None or found.get("high") is None:
        return ""
    low, high = roughly(found["low"]), roughly(found["high"])
    if low == high:
        return ""
    of_work = " of work, once it goes on" if picture["state"] not in DRIVEN else ""
    first, _, unit = low.rpartition(" ")
    if unit == high.rpartition(" ")[2] and first:
        low = first
    return f"between {low} and {high}{of_work}"


def restraint(picture: Picture) -> str:
    """What keeps workers back although they could work; empty where nothing does."""
    found = picture.get("health")
    if not found or picture["state"] not in DRIVEN or not working(picture):
        return ""
    level = found["verdict"]
    said = {"slow": "Slowed down", "hold": "Waits"}.get(level)
    reasons = "; ".join(printable(reason["text"]) for reason in found["reasons"])
    return f"{said}: {reasons}" if said else ""


def working(picture: Picture) -> bool:
    """Whether somebody drives the migration or moves a chunk of it."""
    return bool(picture["working"]["driver"] or picture["working"]["workers"])


def ended_at(picture: Picture) -> str | None:
    """When it ended; None while it has not."""
    if picture["stage"] != "finished":
        return None
    # What has been rolled back had been finished before.
    last = picture["working"]["last_sign_at"]
    found: str | None = last if picture["state"] == "rolled_back" else picture["finished_at"]
    return found


def who_works(picture: Picture) -> str:
    """Who works on it, as a clause."""
    found = picture["working"]
    workers = found["workers"]
    if picture["stage"] == "finished":
        return "it has ended"
    if workers:
        return f"at work, {workers} worker{'s' if workers > 1 else ''} in a chunk"
    if found["driver"]:
        return "at work, between chunks"
    if picture["state"] in DRIVEN:
        return "nobody is working on it"
    return "nobody is at work, as it should be"


def pages_title(picture: Picture) -> str:
    """What a browser's tab says: how far, in which state, of which mapping."""
    word = state(picture).word
    if picture["state"] in DRIVEN and not working(picture):
        word = "nobody works"
    # Whole percents: a title that changes each second is read out or blinks somewhere.
    reached = f"{math.floor(picture['percent'])} % " if picture["percent"] is not None else ""
    return f"{reached}{word} · {printable(picture['mapping'])}"


def truths(picture: Picture | None, age: float | None, error: str | None) -> list[Truth]:
    """What has to be said at the top: old figures, lost units, nobody at work; the worst first."""
    old = stale(picture is not None, age, error)
    said = [*old]
    if picture is None:
        return said
    difference = str(picture["units"]["difference"] or 0)
    reserved = str(picture["reserved"]["difference"] or 0)
    if not (nothing(difference) and nothing(reserved)):
        said.append(
            Truth(
                "difference",
                "bad",
                f"Not accounted for: {grouped(difference)} units, {grouped(reserved)} reserved",
                "What has been written differs from what was there before. Pause, keep everything "
                "as it is, and see what differs:",
                f"inventory-migration validate {quoted(picture['mapping'])}",
            )
        )
    # Of old figures nobody knows whether it is so still.
    if picture["state"] in DRIVEN and not working(picture) and not old:
        said.append(_nobody(picture))
    return said


def stale(
    known: bool, age: float | None, error: str | None, *, patience: float = STALE_SECONDS
) -> list[Truth]:
    """That figures are old, or that there are none, and why.

    Args:
        known: Whether there are figures at all.
        age: How old they are.
        error: Why they are not newer, where that is known.
        patience: How old they may be.
    """
    if not error and (age is None or age <= patience):
        return []
    why = printable(error or "").rstrip(".")
    why = f"{why[:1].upper()}{why[1:]}."
    if error and not known and age is not None and age <= patience:
        # It has answered: that there is nothing.
        return [Truth("missing", "warn", "There is nothing to show here", why)]
    title = "The database does not answer" if error else "The ledger has not been read again"
    if known and age is not None:
        text = f"All figures below are {lasting(age)} old. This page goes on asking."
    else:
        text = "Nothing is known yet. This page goes on asking."
    return [Truth("stale", "bad", title, f"{text} {why}" if error else text)]


def _nobody(picture: Picture) -> Truth:
    back = picture["state"] == "rolling_back"
    verb = "rollback" if back else "run"
    wanted = picture.get("desired")
    meanwhile = (
        f" A {wanted} has been asked for and takes effect with it."
        if wanted in ("pause", "abort") and not back
        else ""
    )
    return Truth(
        "nobody",
        "bad",
        "Nobody is working on this migration",
        f"Its state is {state_named(picture['state']).word}, and no process has it: whoever worked "
        f"on it has ended or lost the database{_since(picture)}. What is committed stays, and "
        f"nothing is half done.{meanwhile} Take it up where it stands:",
        f"inventory-migration {verb} {quoted(picture['mapping'])}",
    )


def _since(picture: Picture) -> str:
    """How long ago somebody was seen at work."""
    last = picture["working"]["last_sign_at"]
    if last is None:
        return ""
    silent = datetime.fromisoformat(picture["at"]) - datetime.fromisoformat(last)
    return f", with a last sign of work {lasting(silent.total_seconds())} ago"


def nothing(units: str) -> bool:
    """Whether an exact decimal string is zero."""
    return units.strip("-0.") == ""


def quoted(mapping: str) -> str:
    """A mapping's name as a shell takes it."""
    return shlex.quote(printable(mapping))
