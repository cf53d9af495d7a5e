"""The seal of a report: a hash of what it says, kept in the ledger together with what it says.

What is sealed is the content: all facts but the hash itself, whatever form they are laid out in. A
form for reading has a hash of its own, since people read that and not the facts. Hashes of rows are
made in `engine/evidence.py`; whether a file is genuine is told in `authenticity.py`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from inventory_migration.database import explain
from inventory_migration.engine import control, evidence, ledger
from inventory_migration.engine.blocks import Block
from inventory_migration.engine.ledger import Migration
from inventory_migration.report import encoded

PROVES = (
    "That this document says what the program read from the database at the moment it names: any "
    "change of it, down to a digit, is found by 'inventory-migration verify-report FILE'.",
    "That the snapshot is as it was written: each of its rows has been hashed in the transaction "
    "that wrote it.",
    "Which records were changed since, in the snapshot or in the live tables.",
)

CANNOT_PROVE = (
    "That nobody changed document, snapshot and seals together: they are kept in the same "
    "database, and whoever owns it can rewrite all of them. Keep the SHA-256 of this elsewhere, "
    "where that owner cannot write: in the log of CI, a ticket, a commit, or on signed paper.",
    "That the data was right before the migration, or has not been changed and changed back since.",
    "That the program itself did what it says; the sample can be recounted by hand for that.",
)


CHECKED = {
    "hashes": "every row was hashed once more for this report",
    "transactions": "hashed as it was written, in the same run; no row has been written to since, "
    "as the rows' own transactions tell",
}
"""How it is known whether a snapshot is as it was written."""


def content_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What is sealed of a report: everything but the hash."""
    seal = {name: value for name, value in facts.get("seal", {}).items() if name != "sha256"}
    return {**facts, "seal": seal}


def content_hash(facts: Mapping[str, Any]) -> str:
    """The SHA-256 of a report's content."""
    return encoded.sha256(content_of(facts))


def text_hash(text: str) -> str:
    """The SHA-256 of a form for reading, however its lines end."""
    return hashlib.sha256(re.sub("\r\n?", "\n", text).strip("\n").encode()).hexdigest()


def root_hash(blocks: Sequence[Block]) -> str:
    """One SHA-256 for all blocks."""
    found = hashlib.sha256()
    for block in blocks:
        found.update(f"{block.first}:{block.sha256};".encode())
    return found.hexdigest()


def seal(
    engine: sa.Engine,
    facts: dict[str, Any],
    live: Sequence[Block] | None,
    render: Callable[[Mapping[str, Any]], dict[str, str]],
) -> dict[str, str]:
    """Seal a report in the ledger, or say in it why it is not sealed; returns how it is read.

    Args:
        engine: The database, to write to.
        facts: What the report says; its `seal` is completed.
        live: The live rows as the report has found them; None where they were not looked at.
        render: Lays the facts out for reading, a text for each form.
    """
    facts["seal"] |= {"kept": True, "reason": None}
    facts["seal"]["sha256"] = content_hash(facts)
    forms = render(facts)
    why = _keep(engine, facts, live, forms)
    if why is not None:
        facts["seal"] |= {"kept": False, "reason": why}
        facts["seal"]["sha256"] = content_hash(facts)
        forms = render(facts)
    return forms


def _keep(
    engine: sa.Engine,
    facts: Mapping[str, Any],
    live: Sequence[Block] | None,
    forms: Mapping[str, str],
) -> str | None:
    """Write the seal; why not, where that is refused."""
    try:
        with engine.begin() as connection:
            migration = ledger.find(connection, migration_id=facts["migration_id"])
            if migration is None:
                return "its migration is in the ledger no more"
            control.durably(connection)
            _insert(connection, migration, facts, live or (), forms)
    except sa.exc.DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        return _REFUSALS.get(state or "") or str(explain(error, engine)).rstrip(".")
    return None


def _insert(
    connection: sa.Connection,
    migration: Migration,
    facts: Mapping[str, Any],
    live: Sequence[Block],
    forms: Mapping[str, str],
) -> None:
    evidence.keep_live(connection, migration, live)
    connection.execute(
        sa.insert(ledger.seal).values(
            report=UUID(facts["seal"]["report"]),
            migration_id=migration.migration_id,
            who=ledger.who(connection),
            sha256=facts["seal"]["sha256"],
            content=encoded.packed(content_of(facts)),
            # The facts themselves are compared by what they say, however they are spelled.
            forms={form: text_hash(text) for form, text in forms.items()},
            live=[[block.first, block.sha256] for block in live],
        )
    )


_REFUSALS = {
    "42501": "the role may not write to the ledger",
    "25006": "the database can only be read, as a standby can",
    "42P01": "the ledger has no table for seals yet; the next run brings it up to date",
}
