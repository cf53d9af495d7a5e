"""A whole migration in plain Python, slow and without SQL: what must become of every record.

It is written from the README alone, so that it can disagree with the engine: nothing of the package
is imported here, and nothing that knows how a target is stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation
from typing import Any

Key = tuple[Any, ...]

# As the README gives them, in the order in which they are applied.
DEFAULT_ACTIONS = {
    "company_missing": "quarantine",
    "location_foreign": "quarantine",
    "target_exists": "quarantine",
    "quantity_missing": "quarantine",
    "quantity_not_a_number": "quarantine",
    "negative_quantity": "warn",
    "reserved_exceeds_quantity": "warn",
    "item_duplicate": "warn",
}

# A text may hold a thousand digits, and a sum of such has to be exact as well.
EXACT = Context(prec=10_000)
ZERO = Decimal(0)


@dataclass(frozen=True)
class Record:
    """A stock record as the application has it; numbers are texts, as a client is shown them."""

    key: Key
    company: int | None
    item: str | None
    quantity: str | None
    reserved: str | None
    deleted: bool
    location: int | None
    """The location that it names before; None where it names none at all."""
    agrees: bool = True
    """Whether what is there already is what a migration would write."""


@dataclass(frozen=True)
class World:
    """What records are judged against."""

    companies: frozenset[int]
    owners: Mapping[int, int]
    """The company of each location that was there before."""
    defaults: Mapping[int, int]
    """The default location of each company, whoever made it."""


@dataclass(frozen=True)
class Held:
    """What is said to lie at a location."""

    location: int
    on_hand: Decimal
    reserved: Decimal


@dataclass(frozen=True)
class Fate:
    """What becomes of a record; `held` is what is written, None where it stays as it was."""

    outcome: str
    rule: str | None = None
    held: Held | None = None


@dataclass(frozen=True)
class Total:
    """What a company has of an item."""

    records: int
    on_hand: Decimal
    reserved: Decimal
    available: Decimal


def number(text: str | None) -> Decimal | None:
    """The finite number that a text holds between blanks, or None."""
    if text is None or len(text) >= 1000:
        return None
    bare = text.strip(" ")
    # Decimal takes digits of any script, underscores, names of infinity and other white space.
    if not set(bare) <= set("0123456789+-.eE"):
        return None
    mantissa, _, exponent = bare.lower().partition("e")
    if len(exponent.lstrip("+-")) > 3 or not set(mantissa) & set("0123456789"):
        return None
    try:
        return Decimal(bare)
    except InvalidOperation:
        return None


def missing(text: str | None) -> bool:
    """Whether there is nothing at all, or nothing but blanks."""
    return text is None or not text.strip(" ")


def on_hand(quantity: Decimal, reserved: Decimal, basis: str) -> Decimal:
    """What lies there: a net quantity has the reserved units taken off."""
    return EXACT.add(quantity, reserved) if basis == "net" else quantity


def migrate(
    records: Iterable[Record], world: World, actions: Mapping[str, str], basis: str
) -> dict[Key, Fate]:
    """The fate of each record.

    Args:
        records: All stock records.
        world: Companies and locations.
        actions: Rules with another action than the default.
        basis: Whether a quantity is gross or net.
    """
    records = list(records)
    chosen = {**DEFAULT_ACTIONS, **actions}
    copies = Counter((record.company, record.item) for record in records if not record.deleted)
    fates = {record.key: _fate(record, world, chosen, basis, copies) for record in records}
    if len(fates) < len(records):
        raise ValueError("two records have the same key")
    return fates


def _fate(
    record: Record,
    world: World,
    actions: Mapping[str, str],
    basis: str,
    copies: Counter[tuple[int | None, str | None]],
) -> Fate:
    if record.deleted:
        return Fate("skipped", "deleted")
    owner = None if record.location is None else world.owners.get(record.location)
    own = owner is not None and owner == record.company
    if own and record.agrees:
        return Fate("already")
    for rule, action in actions.items():
        if action != "warn" and _breaks(rule, record, world, basis, copies):
            return Fate("quarantined", rule)
    quantity, reserved = number(record.quantity), number(record.reserved) or ZERO
    if quantity is None or record.company is None:
        raise ValueError(f"no rule keeps {record}")
    there = on_hand(quantity, reserved, basis)
    return Fate("migrated", held=Held(world.defaults[record.company], there, reserved))


def _breaks(
    rule: str,
    record: Record,
    world: World,
    basis: str,
    copies: Counter[tuple[int | None, str | None]],
) -> bool:
    quantity, reserved = number(record.quantity), number(record.reserved)
    match rule:
        case "company_missing":
            return record.company not in world.companies
        case "location_foreign":
            return (
                record.location is not None and world.owners.get(record.location) != record.company
            )
        case "target_exists":
            # One that agrees would have made it `already`.
            return record.location is not None
        case "quantity_missing":
            return missing(record.quantity)
        case "quantity_not_a_number":
            unread = not missing(record.reserved) and reserved is None
            return unread or (not missing(record.quantity) and quantity is None)
        case "negative_quantity":
            return quantity is not None and quantity < 0
        case "reserved_exceeds_quantity":
            if quantity is None or quantity < 0 or basis == "net":
                return False
            return (reserved or ZERO) > quantity
        case "item_duplicate":
            if record.company is None or record.item is None:
                return False
            return copies[record.company, record.item] > 1
    raise ValueError(f"no rule is called {rule}")


def counted(record: Record, basis: str) -> tuple[Decimal, Decimal, Decimal]:
    """What a record's own columns say: on hand, reserved, available; no number counts as none."""
    quantity, reserved = number(record.quantity) or ZERO, number(record.reserved) or ZERO
    available = units_available(quantity, reserved, basis)
    return on_hand(quantity, reserved, basis), reserved, available


def units(records: Iterable[Record], basis: str) -> dict[str, Decimal]:
    """Finite quantities, reserved and available of all records, as the application counts them."""
    quantities, reserved = ZERO, ZERO
    for record in records:
        quantities = EXACT.add(quantities, number(record.quantity) or ZERO)
        reserved = EXACT.add(reserved, number(record.reserved) or ZERO)
    return {
        "units": quantities,
        "reserved": reserved,
        "available": units_available(quantities, reserved, basis),
    }


def units_available(quantity: Decimal, reserved: Decimal, basis: str) -> Decimal:
    """What can be promised: a net quantity has the reserved units taken off already."""
    return quantity if basis == "net" else EXACT.subtract(quantity, reserved)


def totals(
    entries: Iterable[tuple[Record, tuple[Decimal, Decimal, Decimal]]],
) -> dict[tuple[int | None, str | None], Total]:
    """Totals by company and item of what records hold: on hand, reserved and available."""
    found: dict[tuple[int | None, str | None], Total] = {}
    for record, (there, reserved, available) in entries:
        owner = (record.company, record.item)
        total = found.get(owner, Total(0, ZERO, ZERO, ZERO))
        found[owner] = Total(
            total.records + 1,
            EXACT.add(total.on_hand, there),
            EXACT.add(total.reserved, reserved),
            EXACT.add(total.available, available),
        )
    return found
