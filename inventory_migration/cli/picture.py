"""How a migration under way looks on a terminal of any size.

A picture is what `watching.picture` finds. Where there is not room for all of it, what matters
least is left out. Nothing is told by colour alone. The words are in `wording.py`; how lines get to
the screen belongs in `region.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from inventory_migration.cli import wording
from inventory_migration.cli.terminal import number
from inventory_migration.cli.wording import AT_WORK, STAGES, Look
from inventory_migration.logs import plain

WIDEST = 110
"""Lines longer than this are harder to read than they are worth."""

_LABEL = 11
_LONGEST = 3
"""How many lines one value may take."""

_BARS = 40
_NARROW = 10
_EVENTS = 4
"""How many events are shown before anything of less weight is."""

_STYLES = {
    "verified": "bold green",
    "rolled_back": "bold yellow",
    "paused": "bold yellow",
    "held": "bold yellow",
    "failed": "bold red",
    "aborted": "bold red",
}


@dataclass(frozen=True)
class _Part:
    """Lines that are shown together, or not at all; the one of the highest rank goes first."""

    rank: int
    lines: list[Text]


@dataclass(frozen=True)
class _Bar:
    """One line of progress: whose it is, how much of it, and what is said behind it."""

    name: str
    part: float
    done: int
    whole: int
    note: str = ""


class Drawing:
    """Draws looks for one terminal.

    Args:
        console: Knows what the terminal can show.
        spelled: Spells the commands in a text as they must be called.
    """

    def __init__(self, console: Console, spelled: Callable[[str], str] = str) -> None:
        """Draw nothing yet."""
        self._console = console
        self._spelled = spelled
        utf = console.encoding.lower().startswith("utf")
        self._full, self._empty = ("█", "░") if utf else ("#", ".")

    def lines(self, look: Look, *, width: int, height: int) -> list[Text]:
        """A look as lines of at most this width and number."""
        width = min(width, WIDEST)
        found = look.picture
        if found is None:
            said = look.message or "Nothing is known yet."
            parts = [_Part(0, self._wrapped(said, width, ""))]
            return _fitting([*parts, *self._silence(look, width)], height)
        parts = [
            *self._head(found, look, width),
            _Part(7, [Text()]),
            *(self._bars(found, width, height) if found["phases"] else ()),
            *([_Part(7, [Text()])] if found["phases"] else ()),
            *self._figures(found, look, width),
        ]
        return self._with_events(parts, found, width, height)

    def _with_events(
        self, parts: list[_Part], found: Mapping[str, Any], width: int, height: int
    ) -> list[Text]:
        events = [self._event(event, found["at"], width) for event in found["events"]]
        least = min(len(events), _EVENTS)
        if not events:
            return _fitting(parts, height)
        title = [Text(), Text("Last events", style="bold")]
        kept = _fitting([*parts, _Part(5, title + events[:least])], height)
        if kept[-least:] != events[:least]:
            return kept
        return kept[:-least] + events[: least + height - len(kept)]

    def _head(self, found: Mapping[str, Any], look: Look, width: int) -> Iterable[_Part]:
        state = found["state"]
        title = Text(plain(f"Migration {found['migration_id']} of {found['mapping']}: "), "bold")
        title.append(state.replace("_", " "), style=_STYLES.get(state, "bold cyan"))
        title.append(f", {STAGES[found['stage']]}" if state in AT_WORK else "")
        now = f"  {wording.clock(found['at'], found['at'])}"
        if title.cell_len + len(now) <= width:
            title.append(f"{now:>{width - title.cell_len}}", style="dim")
        yield _Part(0, self._folded(title, width))
        yield from self._silence(look, width)
        if found["reason"]:
            yield _Part(1, self._entry("Reason", found["reason"], width))
        if found["desired"] != "run" and state in AT_WORK and state != "rolling_back":
            asked = f"to {found['desired']}, by {wording.who(found['desired_by'])}"
            yield _Part(1, self._entry("Asked", asked, width))
        yield from (_Part(1, self._wrapped(said, width, "bold")) for said in wording.advice(found))
        if look.message:
            yield _Part(2, self._entry("Now", look.message, width))
        for other in look.also:
            yield _Part(6, self._entry("Also", other, width))

    def _silence(self, look: Look, width: int) -> Iterable[_Part]:
        if look.error is not None:
            yield _Part(0, self._wrapped(wording.silence(look), width, "bold red"))

    def _bars(self, found: Mapping[str, Any], width: int, height: int) -> Iterable[_Part]:
        phases, records = found["phases"], found["records"]
        back = wording.goes_back(found)
        if back:
            whole = sum(phase["records_done"] for phase in phases)
            done = sum(phase["records_undone"] for phase in phases)
        else:
            whole = records["snapshot"]
            done = whole - records["pending"]
        bars = [_Bar("undone" if back else "all", found["percent"] / 100, done, whole)]
        shown = _around_the_current(phases, max(height // 3, 1))
        bars += [_of_phase(phase, back=back) for phase in phases[shown]]
        first, *others = self._laid_out(bars, width)
        yield _Part(1, [first])
        yield from (_Part(3, [drawn]) for drawn in others)
        left = len(phases) - len(phases[shown])
        if left:
            yield _Part(3, [Text(f"and {number(left)} more phases")])

    def _laid_out(self, bars: Sequence[_Bar], width: int) -> list[Text]:
        """Names, bars and figures, each below the other; of the figures what fits."""
        names = [Text(plain(bar.name)) for bar in bars]
        room = min(max(name.cell_len for name in names), max(width // 4, 6))
        digits = max(len(number(bar.whole)) for bar in bars)
        noted = any(bar.note for bar in bars) and width >= 60
        figures = [
            f" {wording.percentage(bar.part * 100):>7}  {number(bar.done):>{digits}} of "
            f"{number(bar.whole):>{digits}}" + (f"  {bar.note:<7}" if noted else "")
            for bar in bars
        ]
        if width - room - len(figures[0]) - 1 < _NARROW:
            figures = [f" {wording.percentage(bar.part * 100):>7}" for bar in bars]
        length = max(min(width - room - len(figures[0]) - 1, _BARS), 1)
        for name, bar, told in zip(names, bars, figures, strict=True):
            filled = int(length * min(max(bar.part, 0.0), 1.0))
            name.truncate(room, overflow="ellipsis", pad=True)
            name.append(" ").append(self._full * filled, style="green")
            name.append(self._empty * (length - filled), style="dim").append(told.rstrip())
        return names

    def _figures(self, found: Mapping[str, Any], look: Look, width: int) -> Iterable[_Part]:
        def entry(rank: int, label: str, value: str, style: str = "") -> _Part:
            return _Part(rank, self._entry(label, value, width, style))

        if found["eta"] is not None:
            yield entry(2, "Left", wording.outlook(found["eta"]))
        # How fast stock moved, and what its chunks added up to, tells nothing of the way back.
        forth = not wording.goes_back(found)
        if forth and (found["rate"]["average"] or found["rate"]["now"]):
            yield entry(
                2, "Rate", wording.rate(found["rate"], under_way=found["stage"] == "moving")
            )
        if found["phases"]:
            yield entry(2, "Records", wording.records(found["records"]))
        if found["phases"] and forth:
            yield entry(3, "Units", wording.units(found["units"]))
        if found["health"] is not None:
            worry = found["health"]["verdict"] != "well"
            style = "bold yellow" if worry else ""
            yield entry(1 if worry else 6, "Server", wording.health(found["health"]), style)
        if found["attempts"]["failed"]:
            yield entry(3, "Failed", wording.attempts(found["attempts"]))
        if found["quarantine"]:
            yield entry(3, "Put aside", wording.quarantine(found["quarantine"]))
        if found["gates"]:
            refused = any(gate["passed"] is False for gate in found["gates"])
            yield entry(2 if refused else 6, "Gates", wording.gates(found["gates"]))
        if found["finished_at"] is None or found["state"] in AT_WORK:
            yield entry(4, "Workers", wording.working(found, look.age_seconds or 0.0))
        yield entry(8, "Started", wording.started(found))

    def _event(self, event: Mapping[str, Any], at: str, width: int) -> Text:
        line = Text(f"{wording.clock(event['at'], at)}  ", style="dim")
        line.append(plain(wording.happened(event)), style="not dim")
        line.append(plain(f"  {wording.who(event['who'])}"), style="dim")
        line.truncate(width, overflow="ellipsis")
        return line

    def _entry(self, label: str, value: str, width: int, style: str = "") -> list[Text]:
        room = max(width - _LABEL, 8)
        lines = self._wrapped(value, room, style)
        names = [f"{label:<{_LABEL}}", *[" " * _LABEL] * (len(lines) - 1)]
        return [
            Text.assemble((name, "bold"), line) for name, line in zip(names, lines, strict=True)
        ]

    def _wrapped(self, value: str, width: int, style: str) -> list[Text]:
        return self._folded(Text(plain(self._spelled(value)), style), width)

    def _folded(self, text: Text, width: int) -> list[Text]:
        lines = list(text.wrap(self._console, width, overflow="fold"))
        for line in lines:
            line.rstrip()
        if len(lines) > _LONGEST:
            lines = lines[:_LONGEST]
            lines[-1].append("…")
            lines[-1].truncate(width, overflow="ellipsis")
        return lines


def _of_phase(phase: Mapping[str, Any], *, back: bool) -> _Bar:
    done, whole = phase["records_done"], phase["records"]
    if back:
        done, whole = phase["records_undone"], done
    note = "checked" if phase["reconciled_at"] and not back else ""
    return _Bar(phase["name"], done / whole if whole else 1.0, done, whole, note)


def _fitting(parts: Sequence[_Part], height: int) -> list[Text]:
    """The lines of the parts that fit, by their rank, in their order."""
    kept: set[int] = set()
    left = height
    for place in sorted(range(len(parts)), key=lambda place: (parts[place].rank, place)):
        if len(parts[place].lines) <= left:
            kept.add(place)
            left -= len(parts[place].lines)
    return [line for place in sorted(kept) for line in parts[place].lines]


def _around_the_current(phases: Sequence[Mapping[str, Any]], most: int) -> slice:
    """As many phases as fit, the one that is under way among them."""
    current = next(
        (place for place, phase in enumerate(phases) if phase["reconciled_at"] is None), 0
    )
    first = max(min(current - 1, len(phases) - most), 0)
    return slice(first, first + most)
