"""Whether the file of a report says what was sealed, and what was changed in the database since.

A file is looked up by the UUID that every form shows. What it must say is in the ledger, so that a
forged one can be told from it value by value, or line by line. Rows that differ from their seals
are no forgery of the document: of the live tables they are listed, of the snapshot they are
tampering with evidence. How seals are made is in `seal.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pydantic
import sqlalchemy as sa

from inventory_migration.catalog import resolve
from inventory_migration.database import describe
from inventory_migration.engine import evidence, joins, ledger
from inventory_migration.engine.blocks import Block, differing, some_of
from inventory_migration.engine.ledger import Migration
from inventory_migration.errors import (
    MappingInvalid,
    NothingMigrated,
    ReportNotReadable,
    ReportNotSealed,
    ReportOfAnotherDatabase,
)
from inventory_migration.mapping import StockMapping
from inventory_migration.report import encoded, seal
from inventory_migration.report.documents import for_reading
from inventory_migration.report.facts import MOST_KEYS

MOST_DIFFERENCES = 20
"""How many differences of a file are told."""

_SHOWN = 80
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def verify(reader: sa.Engine, path: Path) -> dict[str, Any]:
    """Compare a file with what was sealed, and the database with what it was then.

    Args:
        reader: The database of the report; only read from.
        path: The file: a report as HTML, Markdown or JSON.

    Returns:
        `file`, `form`, `report`, `genuine`, `why` (sentences, where it is not), `differs` (entries
        with where, file and sealed), `mapping`, `migration_id`, `sealed_at`, `sealed_by`,
        `sha256`; `snapshot` and `live`, each with `compared`, `why` and `changed`: {rows, shown};
        `tampered`, whether rows of the snapshot or seals of it were changed; `since`, sentences.

    Raises:
        ReportNotReadable: The file is no report, or can not be read.
        ReportNotSealed: It says itself that its hash was never kept.
        ReportOfAnotherDatabase: It was sealed elsewhere.
    """
    text = _read(path)
    form = _form(text)
    with reader.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        for setting in ("row_security = off", "statement_timeout = 0", "extra_float_digits = 3"):
            connection.execute(sa.text(f"SET LOCAL {setting}"))
        if not ledger.installed(connection):
            here = describe(reader)
            raise ReportNotReadable(path=str(path), why=f"nothing was ever migrated in {here}")
        facts, broken = _parsed(text) if form == "json" else (None, None)
        row = _sealed(connection, text, facts, form)
        found: dict[str, Any] = {"file": str(path), "form": form}
        if row is None:
            _refuse_others(connection, path, text, facts, broken, here=describe(reader))
            said = (facts or {}).get("seal", {}).get("report") or _UUID.findall(text)[0]
            return {**found, **_unknown(said)}
        content: dict[str, Any] = encoded.unpacked(row.content)
        differs = (
            [{"where": "the file", "file": broken, "sealed": "a whole JSON object"}]
            if broken
            else [*_differences(text, facts, form, content, row)]
        )
        why = _reasons(content, row, differs)
        found |= {
            "report": str(row.report),
            "genuine": not why,
            "why": why,
            "differs": differs[:MOST_DIFFERENCES],
            "mapping": content["mapping"],
            "migration_id": row.migration_id,
            "sealed_at": row.at.isoformat(),
            "sealed_by": row.who,
            "sha256": row.sha256,
        }
        return found | _database_since(connection, content, row)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ReportNotReadable(path=str(path), why=why) from None


def _form(text: str) -> str:
    """What the file is, by what it begins with: its name may be anything."""
    start = text.lstrip("\ufeff \t\r\n")[:200].lower()
    if start.startswith("{"):
        return "json"
    return "html" if start.startswith(("<!doctype html", "<html")) else "markdown"


def _parsed(text: str) -> tuple[dict[str, Any] | None, str | None]:
    """The facts of a JSON file, or why it has none; a name that is there twice hides a value."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name stands twice in one object")
        return found

    try:
        found = json.loads(text.lstrip("\ufeff"), object_pairs_hook=once)
    except ValueError as error:
        twice = str(error) if "twice" in str(error) else "it is cut off, or no JSON any more"
        return None, twice
    return (found, None) if isinstance(found, dict) else (None, "it is no object")


def _sealed(
    connection: sa.Connection, text: str, facts: Mapping[str, Any] | None, form: str
) -> sa.Row[Any] | None:
    """The seal of the report that a file shows the UUID of; None where the ledger knows none."""
    told = (facts or {}).get("seal")
    if isinstance(told, dict) and isinstance(told.get("report"), str):
        named = _UUID.findall(told["report"])[:1]
    else:
        named = list(dict.fromkeys(_UUID.findall(text)))
    if not named or not ledger.table_exists(connection, ledger.seal.name):
        return None
    rows = {
        str(row.report): row
        for row in connection.execute(
            sa.select(ledger.seal).where(ledger.seal.c.report.in_([UUID(one) for one in named]))
        )
    }
    own = [rows[one] for one in named if one in rows]
    alike = [row for row in own if row.forms.get(form) == seal.text_hash(text)]
    return next(iter([*alike, *own]), None)


def _refuse_others(
    connection: sa.Connection,
    path: Path,
    text: str,
    facts: Mapping[str, Any] | None,
    broken: str | None,
    *,
    here: str,
) -> None:
    """Refuse what is no report of this database, or was never sealed."""
    report = (facts or {}).get("seal")
    is_report = isinstance(report, dict) and isinstance(report.get("report"), str)
    if facts is None:
        is_report = "inventory-migration" in text and bool(_UUID.search(text)) and not broken
    if not is_report:
        why = "it is no report of this program"
        raise ReportNotReadable(path=str(path), why=f"{why}: {broken}" if broken else why)
    if facts is None or not isinstance(report, dict):
        unsealed = re.search(r"Not sealed: ([^<*\n]+)", text)
        if unsealed:
            reason = unsealed[1].replace("\\", "").strip(" .")
            raise ReportNotSealed(path=str(path), report=_UUID.findall(text)[0], reason=reason)
        return
    named = facts.get("database", {})
    if named.get("fingerprint") != evidence.database_fingerprint(connection):
        raise ReportOfAnotherDatabase(
            path=str(path),
            report=report["report"],
            database=str(named.get("where", "not named")),
            here=here,
        )
    if not report.get("kept"):
        reason = str(report.get("reason", "for no reason that it tells"))
        raise ReportNotSealed(path=str(path), report=report["report"], reason=reason)


def _unknown(report: str) -> dict[str, Any]:
    nothing = {"compared": False, "why": None, "changed": {"rows": 0, "shown": []}}
    return {
        "report": report,
        "genuine": False,
        "why": [
            "the ledger of this database knows no such report: it was sealed in another database, "
            "or in none"
        ],
        "differs": [],
        **dict.fromkeys(("mapping", "migration_id", "sealed_at", "sealed_by", "sha256")),
        "snapshot": nothing,
        "live": nothing,
        "tampered": False,
        "since": [],
    }


def _differences(
    text: str,
    facts: Mapping[str, Any] | None,
    form: str,
    content: Mapping[str, Any],
    row: sa.Row[Any],
) -> Iterator[dict[str, Any]]:
    """Where a file says something else than was sealed."""
    sealed = {**content, "seal": {**content["seal"], "sha256": row.sha256}}
    if facts is not None:
        yield from _values("", facts, sealed)
        return
    if row.forms.get(form) == seal.text_hash(text):
        return
    again = for_reading(sealed).get(form, "")
    lines = [*_lines(text, again)] if seal.text_hash(again) == row.forms.get(form) else []
    yield from lines or [
        {"where": "the file", "file": seal.text_hash(text), "sealed": row.forms.get(form)}
    ]


def _values(where: str, file: Any, sealed: Any) -> Iterator[dict[str, Any]]:
    """The values that differ, by the names that lead to them."""
    if isinstance(file, dict) and isinstance(sealed, dict):
        for name in sorted(file.keys() | sealed.keys()):
            yield from _values(f"{where}.{name}" if where else name, *_both(file, sealed, name))
    elif isinstance(file, list) and isinstance(sealed, list):
        if len(file) != len(sealed):
            yield {"where": where, "file": f"{len(file)} items", "sealed": f"{len(sealed)} items"}
        for number, (one, other) in enumerate(zip(file, sealed, strict=False)):
            yield from _values(f"{where}[{number}]", one, other)
    elif file != sealed or type(file) is not type(sealed):
        yield {"where": where, "file": _short(file), "sealed": _short(sealed)}


def _both(file: Mapping[str, Any], sealed: Mapping[str, Any], name: str) -> tuple[Any, Any]:
    return file.get(name, "nothing"), sealed.get(name, "nothing")


def _lines(file: str, sealed: str) -> Iterator[dict[str, Any]]:
    """The lines that differ, where the file's first and last lines are still those that were."""
    ours, theirs = file.splitlines(), sealed.splitlines()
    first = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    if first is None:
        first = min(len(ours), len(theirs))
    behind = 0
    while behind < min(len(ours), len(theirs)) - first and ours[-1 - behind] == theirs[-1 - behind]:
        behind += 1
    count = max(len(ours), len(theirs)) - behind
    for number in range(first, count):
        one = ours[number] if number < len(ours) - behind else ""
        other = theirs[number] if number < len(theirs) - behind else ""
        if one != other:
            file_part, sealed_part = _apart(one, other)
            yield {"where": f"line {number + 1}", "file": file_part, "sealed": sealed_part}


def _apart(one: str, other: str) -> tuple[str, str]:
    """Both lines from shortly before where they differ."""
    at = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    start = max(0, at - 30)
    return _short(one[start:]), _short(other[start:])


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _reasons(
    content: Mapping[str, Any], row: sa.Row[Any], differs: list[dict[str, Any]]
) -> list[str]:
    """Why a file is not what was sealed; nothing where it is."""
    why = []
    if encoded.sha256(content) != row.sha256:
        why.append("the seal in the ledger was changed: what it keeps does not have its own hash")
    if differs:
        places = ", ".join(d["where"] for d in differs[:3])
        more = f" and {len(differs) - 3:,} more" if len(differs) > 3 else ""
        why.append(f"it says something else than was sealed: {places}{more}")
    return why


def _database_since(
    connection: sa.Connection, content: Mapping[str, Any], row: sa.Row[Any]
) -> dict[str, Any]:
    """What is another in the database than it was when the report was written."""
    migration = ledger.find(connection, migration_id=row.migration_id)
    if migration is None:
        raise NothingMigrated(mapping=content["mapping"])
    snapshot, broken = _snapshot(connection, migration, content["seal"]["snapshot"])
    live = _live(connection, migration, content["seal"]["live"], row)
    return {
        "snapshot": snapshot,
        "live": live,
        "tampered": bool(snapshot["changed"]["rows"]) or broken,
        "since": [*_since(connection, migration, content, row)],
    }


def _snapshot(
    connection: sa.Connection, migration: Migration, told: Mapping[str, Any]
) -> tuple[dict[str, Any], bool]:
    """The snapshot against its seals, and these against the report; whether they were replaced."""
    if not told["sealed"]:
        why = "it was written by an older version, which sealed none"
        return _told(False, why), False
    if migration.purged:
        return _told(False, "it has left the database for an archive"), False
    sealed = evidence.sealed_snapshot(connection, migration)
    then = _first(sealed, told["records"])
    if seal.root_hash(then) != told["sha256"]:
        return _told(False, "its seals are not those that the report tells of"), True
    if not ledger.snapshot_exists(connection, migration):
        return _told(False, "its table is gone"), True
    now = evidence.snapshot_now(connection, migration, sealed)
    return _compared(connection, migration, sealed, now), False


def _first(sealed: Sequence[Block], records: int) -> list[Block]:
    """The seals that there were when a report was written: others have come with later arrivals."""
    found: list[Block] = []
    counted = 0
    for block in sealed:
        if counted >= records:
            break
        found.append(block)
        counted += block.records
    return found


def _live(
    connection: sa.Connection,
    migration: Migration,
    told: Mapping[str, Any] | None,
    row: sa.Row[Any],
) -> dict[str, Any]:
    """The live rows against what they were when the report was written."""
    if told is None:
        return _told(False, "the report did not look at them")
    if not ledger.snapshot_exists(connection, migration):
        return _told(False, "the snapshot that says which they are is gone")
    sealed = evidence.sealed_live(connection, migration, [(f, sha) for f, sha in row.live])
    if seal.root_hash(sealed) != told["sha256"]:
        return _told(False, "their seals are not those that the report tells of")
    definition = connection.execute(
        sa.select(ledger.migration.c.definition).where(
            ledger.migration.c.migration_id == migration.migration_id
        )
    ).scalar_one()
    try:
        resolved = resolve(connection, StockMapping.model_validate(definition))
        joins.refuse_unfaithful(connection, resolved)
    except (MappingInvalid, pydantic.ValidationError) as error:
        return _told(False, f"the mapping fits them no longer: {str(error).splitlines()[0]}")
    each_row = bool(told["each_row"])
    now = evidence.live_now(connection, resolved, migration, sealed, each_row=each_row)
    return _compared(connection, migration, sealed, now)


def _told(
    compared: bool,
    why: str | None,
    changed: int = 0,
    shown: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    return {"compared": compared, "why": why, "changed": {"rows": changed, "shown": [*shown]}}


def _compared(
    connection: sa.Connection,
    migration: Migration,
    sealed: Sequence[Block],
    now: Sequence[Block],
) -> dict[str, Any]:
    changed, first = some_of(differing(sealed, now), MOST_KEYS)
    return _told(True, None, changed, evidence.named(connection, migration, first))


def _since(
    connection: sa.Connection, migration: Migration, content: Mapping[str, Any], row: sa.Row[Any]
) -> Iterator[str]:
    before = content["verdict"]["state"]
    if migration.state != before:
        yield (
            f"Migration {migration.migration_id} was {before.replace('_', ' ')} and is "
            f"{migration.state.replace('_', ' ')} by now."
        )
    later = connection.execute(
        sa.select(sa.func.count()).where(
            ledger.seal.c.migration_id == migration.migration_id, ledger.seal.c.at > row.at
        )
    ).scalar_one()
    if later:
        yield f"Later reports of the same migration: {later:,}."
