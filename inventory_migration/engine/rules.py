"""The rules that records may break: what each asks, and in which order they decide.

Said here once, for the dry run, the gates and the chunks alike. What a record has in the columns
that are asked is said in `canonical.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from inventory_migration.catalog import ResolvedMapping, literal
from inventory_migration.engine.columns import record_keys
from inventory_migration.engine.shapes import shape_of
from inventory_migration.mapping import StockMapping

LATE_RULE = "default_location_missing"
"""The rule of a record whose company has no default location now; the sweep lifts it."""


REASONS = {
    "company_ambiguous": "belongs to more than one company",
    "company_missing": "no company with this key",
    "location_foreign": "refers to a location that is missing or belongs to another company",
    "target_key_missing": "has nothing to name its level by",
    "target_key_shared": "would write the same level as another record",
    "quantity_inexact": "the target cannot hold its numbers to the last digit",
    "value_unconvertible": "a value for the target does not convert",
    "quantity_missing": "the quantity is NULL or blank",
    "quantity_not_a_number": "the quantity or the reserved quantity is not a finite number",
    "negative_quantity": "the quantity is negative",
    "reserved_exceeds_quantity": "more is reserved than there is",
    "item_duplicate": "the company has this item more than once",
    "default_location_ambiguous": "the company has more than one default location",
    LATE_RULE: "the company has no default location now",
}
"""What is wrong with a record that breaks a rule, in words."""

_DIFFERING = (
    "format('there is a level already, which holds %s units and %s reserved where the record has "
    "%s and %s', held_quantity, held_reserved, quantity, reserved)"
)

# What is told beside the reason: the texts as the application has them.
_DETAILS = {"quantity_not_a_number": "unread", "value_unconvertible": "unconverted"}


def conditions(resolved: ResolvedMapping) -> dict[str, str]:
    """Each rule as a condition over a record, in the order in which they are applied.

    Two records of one item are found by looking at both, so `item_duplicate` reads the flag that
    `records` or the snapshot computed.
    """
    found = {
        "company_ambiguous": "companies > 1",
        "company_missing": "company_found IS NOT TRUE",
        "location_foreign": "location_own IS FALSE",
        "target_key_missing": " OR ".join(
            f"{key} IS NULL" for key in record_keys(resolved) if resolved.target_key
        )
        or "false",
        "target_key_shared": "shared_with > 0" if resolved.target_key else "false",
        "target_exists": "location_own AND NOT target_agrees",
        "quantity_missing": "quantity_state = 'missing'",
        "quantity_not_a_number": "(quantity_state = 'not_a_number' "
        "OR reserved_state = 'not_a_number')",
        "quantity_inexact": f"({shape_of(resolved).inexact()})",
        "value_unconvertible": "unconverted IS NOT NULL",
        "negative_quantity": "quantity < 0",
        # Less than nothing is a defect of its own, not one of what is reserved of it.
        "reserved_exceeds_quantity": "quantity >= 0 AND reserved > quantity",
        "item_duplicate": "item_duplicate",
        "default_location_ambiguous": "default_locations > 1",
    }
    if resolved.mapping.quantity_basis == "net":
        # A net quantity has the reserved units taken off, so more reserved than left is no defect.
        found["reserved_exceeds_quantity"] = "false"
    for rule in resolved.mapping.rules.own:
        found[rule] = f"{literal(rule)} = ANY(own_rules)"
    return {rule: found[rule] for rule in resolved.mapping.rules.actions()}


def deciding(resolved: ResolvedMapping, *, planned: bool) -> Iterator[tuple[str, str]]:
    """The rules that keep a record from being migrated: all that do more than warn."""
    asked = conditions(resolved)
    for rule, action in resolved.mapping.rules.actions().items():
        if action != "warn":
            yield rule, asked[rule]
    if planned:
        yield LATE_RULE, "default_locations = 0"


def broken_own(mapping: StockMapping) -> str:
    """The names of the mapping's own rules that a source row breaks."""
    broken = [
        f"CASE WHEN ({rule.when.sql}\n) THEN {literal(name)} END"
        for name, rule in mapping.rules.own.items()
    ]
    if not broken:
        return "NULL::text[]"
    return f"array_remove(ARRAY[{', '.join(broken)}]::text[], NULL)"


def reason(resolved: ResolvedMapping) -> str:
    """What is wrong with a record of `classified` that is put aside, in words, as SQL."""
    told = REASONS | {name: rule.when.sql for name, rule in resolved.mapping.rules.own.items()}
    details = _DETAILS | _of_target_keys(resolved)
    reasons = " ".join(
        f"WHEN {literal(rule)} THEN concat_ws(': ', {literal(why)}, {details.get(rule, 'NULL')})"
        for rule, why in told.items()
    )
    return f"CASE rule WHEN 'target_exists' THEN {_DIFFERING} {reasons} END"


def _of_target_keys(resolved: ResolvedMapping) -> dict[str, str]:
    """What is told beside the reason where a level has no name, or one that others have too."""
    if not resolved.target_key:
        return {}
    keys = record_keys(resolved)
    named = zip(keys, resolved.target_key, strict=True)
    lacking = [f"CASE WHEN {key} IS NULL THEN {literal(part.column)} END" for key, part in named]
    told = ", ".join(f"{key}::text" for key in keys)
    return {
        "target_key_missing": f"concat_ws(', ', {', '.join(lacking)})",
        "target_key_shared": f"concat_ws(', ', {told}) || ' is also that of ' || shared_key "
        "|| CASE WHEN shared_with > 1 THEN format(' and %s more', shared_with - 1) ELSE '' END",
    }
