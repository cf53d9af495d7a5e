"""What a row of the source says, read as SQL over its alias `s`: item, numbers, what is neither.

How a single column reads is said in `catalog/conversions.py`; whose item it is, where it lies and
what becomes of the record is decided in `canonical.py`.
"""

from __future__ import annotations

from inventory_migration.catalog import ResolvedMapping, column_sql
from inventory_migration.catalog.conversions import (
    NOTHING_TOLD,
    number_sql,
    number_state_sql,
    unconverted_sql,
    unread_number_sql,
)


def item(resolved: ResolvedMapping) -> str:
    """The item as text, or as the text that it is: one without regard to case has its own type."""
    sql = column_sql(resolved.mapping.source.item)
    return sql if resolved.item_type == "citext" else f"{sql}::text"


def quantity(resolved: ResolvedMapping) -> str:
    """The quantity, exactly; NULL where it is no finite number."""
    return number_sql(resolved.mapping.source.quantity, resolved.quantity_type)


def quantity_state(resolved: ResolvedMapping) -> str:
    """Whether there is a quantity: 'ok', 'missing' or 'not_a_number'."""
    return number_state_sql(resolved.mapping.source.quantity, resolved.quantity_type)


def reserved(resolved: ResolvedMapping) -> str:
    """What is reserved, exactly; nothing where there is no finite number."""
    column, kind = resolved.mapping.source.reserved, resolved.reserved_type or "numeric"
    return f"COALESCE({number_sql(column, kind)}, 0)" if column else "0::numeric"


def reserved_state(resolved: ResolvedMapping) -> str:
    """Whether what is reserved can be read: 'ok', also where there is none, or 'not_a_number'."""
    column, kind = resolved.mapping.source.reserved, resolved.reserved_type or "numeric"
    if column is None:
        return "'ok'"
    state = number_state_sql(column, kind)
    return f"CASE {state} WHEN 'not_a_number' THEN 'not_a_number' ELSE 'ok' END"


def unread(resolved: ResolvedMapping) -> str:
    """What stands in the place of numbers, told for whoever looks into the quarantine."""
    source = resolved.mapping.source
    told = [unread_number_sql("quantity", source.quantity, resolved.quantity_type)]
    if source.reserved is not None:
        kind = resolved.reserved_type or "numeric"
        told.append(unread_number_sql("reserved", source.reserved, kind))
    return _together(told)


def unconverted(resolved: ResolvedMapping) -> str:
    """The texts of values for the target that do not convert."""
    values = resolved.mapping.converted_values
    return _together([unconverted_sql(name, value) for name, value in values.items()])


def _together(told: list[str]) -> str:
    known = [text for text in told if text != NOTHING_TOLD]
    return f"NULLIF(concat_ws(', ', {', '.join(known)}), '')" if known else NOTHING_TOLD
