"""What a rollback did or would do, as a person reads it: figures, conflicts, locations that stay.

How answers look in general belongs in `answers.py`, whose small words are used here.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from inventory_migration.cli import answers
from inventory_migration.cli.answers import LISTED, PROGRAM
from inventory_migration.cli.terminal import number, pairs, say, table

if TYPE_CHECKING:
    from inventory_migration.engine.undo_scope import Scope

_WHY = {
    "moved_since": "moved since",
    "arrived_with_location": "came with its location",
    "refused_by_server": "refused",
}


def undoing(mapping: str, wanted: Sequence[Mapping[str, Any]], scope: Scope) -> str:
    """What a rollback is about to do, for a question."""
    ids = ", ".join(str(found["migration_id"]) for found in wanted)
    which = "migration" if len(wanted) == 1 else "migrations"
    if not scope.whole:
        return f"this takes back {scope} in {which} {ids} of {mapping}, and leaves all else"
    rows = number(sum(found["rows_migrated"] for found in wanted))
    return f"this undoes {which} {ids} of {mapping}: {rows} records go back to what they were"


def undone(screen: Console, found: Mapping[str, Any]) -> None:
    """What a rollback did."""
    answers.summary(screen, found)
    _listed(screen, found)


def command(mapping: str, migration_id: int | None, scope: Scope) -> str:
    """The command that rolls this back, as one types it."""
    words = [PROGRAM, "rollback", mapping]
    words += ["--id", str(migration_id)] if migration_id is not None else []
    for option, names in (("--phase", scope.phases), ("--company", scope.companies)):
        words += [word for name in names for word in (option, name)]
    return shlex.join(words)


def foretold(screen: Console, found: Mapping[str, Any], *, scope: Scope, again: str) -> None:
    """What a rollback of this scope would do; `again` is the command that does it."""
    mapping = found["mapping"]
    if not found["migrations"]:
        say(screen, f"Nothing to do: nothing of {mapping} is there to be undone.")
        return
    ids = ", ".join(str(migration_id) for migration_id in found["migrations"])
    which = "migration" if len(found["migrations"]) == 1 else "migrations"
    what = f"undo {which} {ids}" if scope.whole else f"take back {scope} in {which} {ids}"
    say(screen, f"A rollback of {mapping} would {what}. Nothing was written.")
    say(screen)
    back = found["undone"]
    pairs(
        screen,
        [
            ("Records that would go back", number(back["records"])),
            ("  touched since", number(len(found["touched_since"]))),
            ("Records that would stay", number(back["kept"])),
            ("Locations that would go", number(back["locations"])),
            ("Locations that would stay", number(len(found["locations_kept"]))),
        ],
    )
    _listed(screen, found)
    say(screen)
    say(screen, f"Next: '{again}'." if "'" not in again else f"Next: {again}")


def _listed(screen: Console, found: Mapping[str, Any]) -> None:
    """Each conflict with both values, and each location with who refers to it."""
    if found["conflicts"]:
        say(screen)
        say(screen, "Conflicts: these records stay as they are.")
        rows = [
            {
                "record": conflict["key"],
                "why": _why(conflict),
                "column": conflict["column"] or "",
                "written": conflict["written"] or "",
                "found": conflict["found"] or "nothing",
            }
            for conflict in found["conflicts"][:LISTED]
        ]
        table(screen, rows)
        _rest(screen, found["conflicts"])
    if found["locations_kept"]:
        say(screen)
        say(screen, "Locations that stay, since something refers to them:")
        rows = [
            {
                "location": location["location_key"],
                "company": location["company_key"],
                "referred to by": "; ".join(location["referred_by"]),
            }
            for location in found["locations_kept"][:LISTED]
        ]
        table(screen, rows)
        _rest(screen, found["locations_kept"])


def _why(conflict: Mapping[str, Any]) -> str:
    why = _WHY[conflict["kind"]]
    return f"{why}: {conflict['reason']}" if conflict["reason"] else why


def _rest(screen: Console, listed: Sequence[Any]) -> None:
    if len(listed) > LISTED:
        say(screen, f"The first {LISTED} of {number(len(listed))}; --json has all of them.")
