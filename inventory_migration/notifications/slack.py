"""A message as Slack's incoming webhooks take it: a line for the notification, and a few blocks.

Names and reasons come from a database: they stand where Slack reads no markup, and what would
begin a mention or a link is escaped all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

TEXT = 3000
FIELD = 2000
_REASON = 600
"""How many characters Slack takes of a text and of a field; and how many of a reason are read."""

_LATE_SECONDS = 120

_SAID = {
    "started": ("▶", "Started"),
    "resumed": ("▶", "Resumed"),
    "phase_done": ("✔", "Phase done"),
    "paused": ("⏸", "Paused"),
    "held": ("⏸", "Held"),
    "threshold": ("⚠", "Threshold met"),
    "failed": ("✖", "Failed"),
    "gate_refused": ("✖", "Refused by a gate"),
    "rolled_back": ("↩", "Rolled back"),
    "aborted": ("■", "Aborted"),
    "finished": ("✔", "Finished and verified"),
    "monitoring_failed": ("✖", "Monitoring found something wrong"),
    "test": ("✔", "Test message"),
}


def slack(said: Mapping[str, Any]) -> dict[str, Any]:
    """A message in Slack's form."""
    head = _head(said)
    reason = f": {said['reason']}" if said["reason"] else ""
    blocks: list[dict[str, Any]] = [
        {"type": "section", "text": {"type": "mrkdwn", "text": f"*{fitted(head, TEXT - 2)}*"}}
    ]
    if said["reason"]:
        blocks.append({"type": "section", "text": _plain(said["reason"], _REASON)})
    if fields := _fields(said):
        blocks.append({"type": "section", "fields": [_plain(field, FIELD) for field in fields]})
    if links := _links(said["links"]):
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": links}})
    about = [f"{said['database']}", f"by {said['who']}", *_when(said)]
    blocks.append({"type": "context", "elements": [_plain(" · ".join(about), FIELD)]})
    # Read aloud and shown on a lock screen, where there are no blocks.
    return {"text": fitted(f"{head}{reason}", _REASON), "mrkdwn": False, "blocks": blocks}


def fitted(text: str, most: int) -> str:
    """A text without markup, escaped as Slack wants it, and cut so that it is not too long."""
    text = " ".join(text.split()) or "-"
    escaped = [_ESCAPES.get(character, character) for character in text]
    if sum(map(len, escaped)) <= most:
        return "".join(escaped)
    kept, length = [], 1
    for piece in escaped:
        length += len(piece)
        if length > most:
            break
        kept.append(piece)
    return "".join(kept) + "…"


_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def _plain(text: str, most: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": fitted(text, most), "emoji": False}


def _head(said: Mapping[str, Any]) -> str:
    sign, word = _SAID[said["event"]]
    about = said["phase"] or said["gate"]
    named = f"{word} ({about})" if about else word
    # Of a part that was rolled back the migration's state says that the rest stands.
    if said["event"] == "rolled_back" and said["state"] != "rolled_back":
        named = f"Rolled back in part, and {said['state']}"
    number = f", migration {said['migration_id']}" if said["migration_id"] else ""
    return f"{sign} {named}: {said['mapping']}{number}" if said["mapping"] else f"{sign} {named}"


def _fields(said: Mapping[str, Any]) -> list[str]:
    found = []
    if records := said["records"]:
        accounted = records["snapshot"] - records["pending"]
        found.append(
            f"Records: {accounted:,} of {records['snapshot']:,} ({said['percent']:g} %), "
            f"{records['quarantined']:,} in quarantine"
        )
        if records["undone"]:
            found.append(f"Undone: {records['undone']:,}")
    if units := said["units"]:
        found.append(
            f"Units: {units['before']}"
            if units["after"] is None
            else f"Units: {units['before']} before, {units['after']} after, "
            f"difference {units['difference']}"
        )
    if said["elapsed_seconds"] is not None:
        found.append(f"Elapsed: {_duration(said['elapsed_seconds'])}")
    if threshold := said["threshold"]:
        found.append(f"What happens: {threshold['action']}")
    return found


def _links(links: Mapping[str, str | None]) -> str:
    shown = [
        f"<{url.replace('&', '&amp;').replace('<', '%3C').replace('>', '%3E').replace('|', '%7C')}"
        f"|{name}>"
        for name, key in (("Dashboard", "dashboard"), ("Report", "report"), ("Run", "dagster"))
        if (url := links[key])
    ]
    return " · ".join(shown)


def _when(said: Mapping[str, Any]) -> list[str]:
    at, sent = datetime.fromisoformat(said["at"]), datetime.fromisoformat(said["sent_at"])
    late = (sent - at).total_seconds()
    when = f"{at:%Y-%m-%d %H:%M:%S %Z}".strip()
    return [when, f"told {_duration(late)} late"] if late > _LATE_SECONDS else [when]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
