"""The part `source`: which columns of the stock records say what, seen by name and by sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from inventory_migration.database import quoted
from inventory_migration.proposal import sources
from inventory_migration.proposal.companies import Ownership
from inventory_migration.proposal.document import PLACEHOLDER, Part
from inventory_migration.proposal.glance import Glance, Seen
from inventory_migration.proposal.orders import open_lines
from inventory_migration.proposal.sources import Candidate
from inventory_migration.proposal.survey import Survey, Table, is_text
from inventory_migration.proposal.words import NET, RECORDS, says, stem

# Blank text is no value, and so none that cannot be read.
_NUMBER = "^[[:space:]]*([-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]{1,3})?)?[[:space:]]*$"
_GROUPED = "^[[:space:]]*[-+]?[0-9]{1,3}(,[0-9]{3})+([.][0-9]*)?[[:space:]]*$"


@dataclass
class Columns:
    """What was chosen.

    Attributes:
        part: The part `source`.
        read: The columns that the record is read from.
        basis: Whether the quantity is gross or net.
        why_basis: What that rests on.
        flags: The columns that say yes or no, each with how often it is true, if that was seen.
    """

    part: Part
    read: set[str]
    basis: str
    why_basis: str
    flags: dict[str, str | None] = field(default_factory=dict)


def say_flags(columns: Columns, table: Table, carried: set[str]) -> str | None:
    """Note in the part the flags that nothing takes along, and return what to look at."""
    left = {name: true for name, true in columns.flags.items() if name not in carried}
    if not left:
        return None
    listed = [name if true is None else f"{name} (true in {true})" for name, true in left.items()]
    columns.part.comments.append(
        f"Flags that nothing here maps, and that stay where they are: {', '.join(listed)}."
    )
    mixed = [name for name, true in left.items() if true and not true.startswith("0 of ")]
    if not mixed:
        return None
    return (
        f"source: {', '.join(mixed)} of {table.said} are flags that nothing maps, and they are "
        "true in some rows; they stay where they are"
    )


def choose(survey: Survey, glance: Glance, chosen: Candidate, owned: Ownership) -> Columns:
    """Choose the columns of the stock records, each with what its choice rests on."""
    table = chosen.table
    ranked = sources.quantities(table)
    counters = sources.counters(table)
    numbers = [name for name in sources.numbers(table) if name not in counters]
    named = [name for name, _ in ranked] or (numbers if len(numbers) == 1 else [])
    quantity = named[0] if named else None
    skips = sources.skips(table)
    seen = glance.look(table, _wanted(table, quantity, skips))
    item = _item(table, owned)
    parts = [Part("table", table.spelled), _key(table), *owned.source, item]
    parts.append(_quantity(table, quantity, named[1:], numbers, seen))
    reserved = _reserved(survey, glance, table)
    if reserved:
        parts.append(reserved)
    if skips:
        parts.append(_skips(survey, skips, seen))
    part = Part("source", parts)
    if seen is not None and not seen.rows:
        part.comments.append(f"{table.said} has no rows yet.")
    if seen is None:
        part.comments.append(
            f"The rows of {table.said} were not looked at: the role may not read them, or it took "
            "too long."
        )
    read = {value for value in (quantity, item.value) if value}
    read |= {*(table.key or ()), *counters[:1]}
    if owned.column:
        read.add(owned.column)
    net = quantity is not None and says(quantity, NET) and reserved is not None
    why = (
        f"{quantity} is named like what is left when reserved units are taken off."
        if net
        else "gross: what is there, promised or not; net: open orders are taken off already."
    )
    flags = {
        name: f"{seen.values[f'flag {name}']:,} of {seen.of}" if seen and seen.rows else None
        for name in sources.flags(table)
        if name not in skips
    }
    return Columns(part, read, "net" if net else "gross", why, flags)


def _wanted(table: Table, quantity: str | None, skips: dict[str, str]) -> dict[str, str]:
    """What is asked of the rows, in one look."""
    wanted = {}
    if quantity:
        column = f"s.{quoted(quantity)}"
        wanted["missing"] = f"count(*) FILTER (WHERE {column} IS NULL)"
        if is_text(table.columns[quantity]):
            wanted["missing"] = f"count(*) FILTER (WHERE COALESCE({column}, '') ~ '^[[:space:]]*$')"
            wanted["unreadable"] = f"count(*) FILTER (WHERE {column} !~ '{_NUMBER}')"
            wanted["grouped"] = f"count(*) FILTER (WHERE {column} ~ '{_GROUPED}')"
    for name, test in skips.items():
        wanted[f"skip {name}"] = f"count(*) FILTER (WHERE s.{quoted(name)} {test})"
    for name in sources.flags(table):
        wanted[f"flag {name}"] = f"count(*) FILTER (WHERE s.{quoted(name)})"
    return wanted


def _key(table: Table) -> Part:
    if table.key is None:
        why = f"{table.said} has no primary key and no unique key of columns that are NOT NULL"
        return Part("key", [PLACEHOLDER], undecided=[why])
    return Part("key", list(table.key))


def _item(table: Table, owned: Ownership) -> Part:
    named = [name for name in sources.items(table) if name != owned.column]
    if not named:
        referring = [n for n in table.columns if RECORDS.get((stem(n) or ("",))[-1])]
        key = (referring or table.key or (PLACEHOLDER,))[-1]
        return Part("item", key, [f"No column of {table.said} is called like an item's code."])
    also = [f"Also considered: {', '.join(named[1:4])}."] if named[1:] else []
    return Part("item", named[0], also)


def _quantity(
    table: Table, quantity: str | None, others: list[str], numbers: list[str], seen: Seen | None
) -> Part:
    if quantity is None:
        listed = ", ".join(numbers) or "none at all"
        why = f"no column of {table.said} is called like a quantity; its numbers are: {listed}"
        return Part("quantity", PLACEHOLDER, undecided=[why])
    said = [f"{table.columns[quantity].type}"]
    if seen is not None and seen.rows:
        missing = "NULL or blank" if is_text(table.columns[quantity]) else "NULL"
        said.append(f"{missing} in {seen.values['missing']:,} of {seen.of}")
        if seen.values.get("unreadable"):
            said.append(f"no number in {seen.values['unreadable']:,}")
    comments = [", ".join(said) + "."]
    if seen is not None and seen.values.get("grouped"):
        comments.append(
            f"{seen.values['grouped']:,} are grouped like 1,234, which may mean two things; where "
            f"they are thousands: {{column: {quantity}, as: [numeric]}}."
        )
    if others:
        comments.append(f"Also considered: {', '.join(others[:4])}.")
    return Part("quantity", quantity, comments)


def _reserved(survey: Survey, glance: Glance, table: Table) -> Part | None:
    counters = sources.counters(table)
    lines = open_lines(survey, table)
    if counters:
        comments = [f"Named like a counter of what is promised; {table.columns[counters[0]].type}."]
        considered = [*counters[1:], *(found.said for found in lines)]
        if considered:
            comments.append(f"Also considered: {'; '.join(considered)}.")
        return Part("reserved", counters[0], comments)
    if not lines:
        return None
    found = lines[0]
    if found.ends:
        ends = " and ".join(found.ends)
        said = f"No counter; {found.said}, open while {ends} is NULL."
        return Part("reserved", [Part("sql", found.sql(survey))], [said])
    status = found.statuses(glance)
    told = f"; open ones are told by {status}" if status else ", and nothing tells the open ones"
    return Part(
        "reserved",
        None,
        [f"No counter. To take {found.said}, sum those that are open with {{sql: ...}}{told}."],
    )


def _skips(survey: Survey, skips: dict[str, str], seen: Seen | None) -> Part:
    parts: list[Part] = []
    for name, test in skips.items():
        reason = "deleted" if len(skips) == 1 else name
        said = []
        if seen is not None and seen.rows:
            said = [f"{seen.values[f'skip {name}']:,} of {seen.of}."]
        condition: dict[str, Any] = {"sql": f"{survey.column('s', name)} {test}"}
        parts.append(Part(reason, condition, said))
    return Part("skip", parts, ["Not migrated, counted by reason."])
